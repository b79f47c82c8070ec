# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of `trackshade render --input-render`, measured against the render of the scene's own engine.

All that a result holds of the scene's geometry is the tracking video, which gives the warp and the true positions of
points. The camera is not measured.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.config.settings import SHOWN_FRAMES
from trackshade.control.video import tracking_video
from trackshade.core.errors import ShotError
from trackshade.shot import Shot

from ..clip_sources import read_image_sequence
from .clips import target_from_tracking
from .image_measures import find_lpips
from .measures import frame_psnr, measure
from .run import OnMessage
from .store import write_json, write_sheet
from .summary import RESULT_MEASURES, variant_rows
from .variants import VARIANTS


def read_result(folder: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
    """Read a result folder.

    Returns:
        The contents of job.json, and the result's frames, tracking video and input render, [T, H, W, 3] uint8 each.

    Raises:
        ShotError: if it is no result, lacks the input render, or was not made with the mesh rule.
    """
    try:
        record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "Give the folder of a rendered result."
        raise ShotError("no-result", f"{folder} is no result: its job.json cannot be read.", fix) from error
    if record["settings"]["control"] != "mesh":
        raise ShotError(
            "no-tracks",
            f"{folder} was made with --control points, which tracks too few pixels to measure by.",
            "Render it with --control mesh.",
        )
    if not (folder / "input").is_dir():
        fix = "Render it with --input-render."
        raise ShotError("no-input-render", f"{folder} has no true frames to measure against.", fix)
    parts = (SHOWN_FRAMES if (folder / SHOWN_FRAMES).is_dir() else "frames", "tracking", "input")
    frames, tracking, truth = (read_image_sequence(folder / part, "Render it again.") for part in parts)
    if record.get("propagation") is not None:  # its tracking video is that of the model
        tracking = tracking_video(Shot.load(folder / "tracks.shot")).frames
    if not frames.shape == tracking.shape == truth.shape:
        shapes = ", ".join(str(list(video.shape)) for video in (frames, tracking, truth))
        fix = "Render it again."
        raise ShotError("bad-image", f"The frames, tracking and input of {folder} differ: {shapes}.", fix)
    return record, frames, tracking, truth


def evaluate_results(folders: Sequence[Path], out: Path, on_message: OnMessage) -> dict[str, Any]:
    """Measure result folders, draw a contact sheet of each, and write report.json to the folder `out`.

    Returns:
        The contents of report.json without the tables.

    Raises:
        ShotError: see `read_result`.
        OutputError: if `out` cannot be written.
    """
    distance, note = find_lpips()
    records = []
    for n, folder in enumerate(folders, 1):
        job, frames, tracking, truth = read_result(folder)
        target = target_from_tracking(truth, tracking)
        videos = {
            "truth": truth,
            "right": frames,
            "warp": target.warp.video,
            "inpainted": target.warp.inpainted,
            "still": np.broadcast_to(truth[:1], truth.shape),
        }
        caption = job["settings"]["prompt"]
        figures = {variant: measure(target, video, distance) for variant, video in videos.items()}
        records.append(
            {
                "name": str(folder),
                "kind": "result",
                "extra": False,
                "model": job["model"]["name"],
                "caption": caption,
                "consistency": job.get("consistency"),
                "covered": float(target.warp.covered[1:].mean()),
                "ways": figures,
                "frames": {variant: frame_psnr(truth, video) for variant, video in videos.items()},
                "controls": {},
            }
        )
        rows = [(VARIANTS[variant], video) for variant, video in videos.items()]
        write_sheet(out / "sheets" / f"{n:02d}-{folder.name}.png", caption, tracking, rows)
        on_message(
            f"result {n} of {len(folders)}, {folder.name}: model {figures['right']['psnr']:.1f} dB, "
            f"warp {figures['warp']['psnr']:.1f} dB"
        )
    report = {"notes": [note], "clips": records}
    write_json(out / "report.json", report | {"tables": {"all": variant_rows(records, RESULT_MEASURES)}})
    return report
