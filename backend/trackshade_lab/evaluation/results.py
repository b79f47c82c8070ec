# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of `trackshade render --input-render`, measured against what the scene's own engine rendered.

The tracking video is all that a result keeps of the scene's geometry, so that it gives the warp and the true places of
points; the camera is not measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.core.errors import ShotError

from .measures import measure
from .perceptual import find_lpips
from .report import way_rows
from .run import Progress, frame_psnr
from .sheets import write_sheet
from .store import write_json
from .targets import video_subject
from .variants import WAYS

RESULT_WAYS = ("truth", "right", "warp", "inpainted", "still")
MEASURES = (
    "psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "psnr_new", "end_px", "end_share", "held", "gradient",
    "variance",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A result folder, read. All videos [T, H, W, 3] uint8."""

    name: str
    record: dict[str, Any]
    frames: np.ndarray
    tracking: np.ndarray
    truth: np.ndarray


def read_result(folder: Path) -> Result:
    """Raises ShotError where the folder is no result, lacks the input render, or was not made by the mesh rule."""
    try:
        record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ShotError(
            "no-result", f"{folder} is no result: its job.json cannot be read.", "Give the folder that a render made."
        ) from error
    if record["settings"]["control"] != "mesh":
        raise ShotError(
            "no-tracks", f"{folder} was made with --control points, which tracks too few pixels to measure by.",
            "Render it with --control mesh.",
        )  # fmt: skip
    if not (folder / "input").is_dir():
        raise ShotError(
            "no-input-render", f"{folder} has no true frames to measure against.", "Render it with --input-render."
        )
    videos = [read_sequence(folder / part) for part in ("frames", "tracking", "input")]
    if len({video.shape for video in videos}) != 1:
        shapes = ", ".join(str(list(video.shape)) for video in videos)
        raise ShotError(
            "bad-image", f"The frames, tracking and input of {folder} differ: {shapes}.", "Render it again."
        )
    return Result(folder.name, record, *videos)


def read_sequence(folder: Path) -> np.ndarray:
    """[T, H, W, 3] uint8 of a folder's numbered PNGs. Raises ShotError."""
    paths = sorted(folder.glob("*.png"))
    try:
        frames = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        return np.stack(frames)
    except (OSError, ValueError) as error:
        raise ShotError("bad-image", f"The frames in {folder} cannot be read: {error}.", "Render it again.") from error


def evaluate_results(folders: Sequence[Path], out: Path, say: Progress) -> dict[str, Any]:
    """Measure results, draw a sheet of each, and keep the figures in `out`.

    Raises: see `read_result`; OutputError.
    """
    perceptual, note = find_lpips()
    records = []
    for n, folder in enumerate(folders, 1):
        result = read_result(folder)
        subject = video_subject(result.truth, result.tracking)
        made = {
            "truth": result.truth,
            "right": result.frames,
            "warp": subject.warp.video,
            "inpainted": subject.warp.inpainted,
            "still": np.broadcast_to(result.truth[:1], result.truth.shape),
        }
        caption = result.record["settings"]["prompt"]
        records.append(
            {
                "name": str(folder),
                "kind": "result",
                "extra": False,
                "model": result.record["model"]["name"],
                "caption": caption,
                "consistency": result.record.get("consistency"),
                "covered": float(subject.warp.covered[1:].mean()),
                "ways": {way: measure(subject, made[way], perceptual) for way in RESULT_WAYS},
                "frames": {way: frame_psnr(result.truth, made[way]) for way in RESULT_WAYS},
                "controls": {},
            }
        )
        rows = [(WAYS[way], made[way]) for way in RESULT_WAYS]
        write_sheet(out / "sheets" / f"{n:02d}-{result.name}.png", caption, result.tracking, rows)
        figures = records[-1]["ways"]
        say(f"result {n} of {len(folders)}, {result.name}: model {figures['right']['psnr']:.1f} dB, "
            f"warp {figures['warp']['psnr']:.1f} dB")  # fmt: skip
    report = {"notes": [note], "clips": records}
    write_json(out / "report.json", report | {"tables": {"all": way_rows(records, MEASURES)}})
    return report
