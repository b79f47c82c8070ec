# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion transfer: footage is tracked, and another first frame is shaded to move as it does.

The footage is a render of a scene, and the truth a render of the same scene with other materials. The truth's first
frame is carried along the tracks. The same picture carried along the true tracks shows what tracking costs, and the
first frame repeated what there is to gain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trackshade.cli.blender import run_addon
from trackshade.config import parsing
from trackshade.core.colors import to_uint8
from trackshade.core.images import psnr, write_png
from trackshade.propagation import KeyPicture, Propagation
from trackshade.results.video import write_video
from trackshade.shot import Shot

from ..clip import ClipMeasure
from ..rendered import OnMessage, read_frames
from .measures import flow_errors, moving_pixels

_FPS = 24
ARMS = {
    "tracked": "tracked footage",
    "true tracks": "true tracks",
    "still": "first frame repeated",
    "truth": "render",
}
_COLUMNS = {"psnr": "PSNR dB", "inside": "of what moves", "flow": "flow error, mean px", "flow_median": "median px",
            "tem_con": "Tem-Con", "text_ali": "Text-Ali"}  # fmt: skip
_SHEET = 4  # frames in a picture


def measure_transfer(
    footage: Path,
    other: Path,
    out: Path,
    *,
    frames: int,
    spacing: float,
    text: str | None,
    clip: ClipMeasure | None,
    blender: str | None,
    on_message: OnMessage,
) -> list[dict[str, Any]]:
    """Track footage, shade the first frame of another look, and compare the result with a render of that look.

    Args:
        footage: folder of the rendered scene.
        other: folder of the same scene with another look.
        out: folder of the report.
        frames: number of frames.
        spacing: distance of the tracked points, pixels.
        text: what the other look shows, for CLIP; None without a text.
        clip: CLIP's measures, if it is installed.
        blender: path of the Blender to run; see `run_addon`.
        on_message: called with what is done.

    Returns:
        A record for each arm.

    Raises:
        TrackshadeError: as raised by tracking, the capture and propagation.
    """
    shot, images = read_frames(footage, frames)
    truth = read_frames(other, frames)[1]
    name = footage.name
    folder = out / "transfer" / name
    folder.mkdir(parents=True, exist_ok=True)
    on_message(f"{name}: tracking and capture")
    tracked = _track(folder, images, shot, spacing, blender)
    results = {
        "tracked": _shade(tracked, truth[0]),
        "true tracks": _shade(shot, truth[0])[: len(truth)],
        "still": np.repeat(truth[:1], len(truth), axis=0),
        "truth": truth,
    }
    records, moves = [], moving_pixels(shot, len(truth))
    for arm, video in results.items():
        record: dict[str, Any] = {"scene": name, "arm": arm}
        if arm != "truth":
            record["psnr"] = float(np.mean([psnr(a, b) for a, b in zip(truth[1:], video[1:], strict=True)]))
            record["inside"] = _psnr_within(truth[1:], video[1:], moves[1:])
            record |= flow_errors(truth, video)
        if clip is not None:
            record |= clip(video, text)
        records.append(record)
        on_message(f"  {arm}: " + ", ".join(f"{key} {record[key]:.3g}" for key in _COLUMNS if key in record))
    _write_sheet(out / "sheets" / f"{name}-transfer.png", [images, results["tracked"], truth])
    return records


def _psnr_within(truth: np.ndarray, video: np.ndarray, masks: np.ndarray) -> float:
    """Return the mean PSNR of the pixels of masks [T, H, W], dB; NaN if all of these are empty."""
    values = [psnr(a, b, mask) for a, b, mask in zip(truth, video, masks, strict=True) if mask.any()]
    return float(np.mean(values)) if values else float("nan")


def _track(folder: Path, images: np.ndarray, shot: Shot, spacing: float, blender: str | None) -> Shot:
    """Track frames as `trackshade track` does, and capture the scene that it makes."""
    video, scene, path = folder / "footage.mp4", folder / "scene.blend", folder / "tracked.shot"
    write_video(video, images, _FPS, lossless=True)
    fov = 2 * np.degrees(np.arctan(shot.size[0] / 2 / shot.camera.intrinsics[0, 0, 0]))
    values = {"video": str(video), "fov": float(fov), "max_frames": len(images), "spacing": spacing, "force": True}
    run_addon(parsing.to_arguments("track", values | {"out": str(scene)}), blender, lambda message: None)
    capture = {"scene": str(scene), "first_frame": "none", "out": str(path), "force": True}
    run_addon(parsing.to_arguments("export", capture), blender, lambda message: None)
    return Shot.load(path)


def _shade(shot: Shot, picture: np.ndarray) -> np.ndarray:
    """Carry a picture of the first sample to all samples, [T, H, W, 3] uint8."""
    propagation = Propagation(shot, [KeyPicture(0, picture)], threads=1)
    propagation.prepare()
    return np.stack([to_uint8(propagation.frame(t).image) for t in range(len(shot.frame_numbers))])


def _write_sheet(path: Path, rows: Sequence[np.ndarray]) -> None:
    """Write frames of videos, a row for each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = np.linspace(0, len(rows[0]) - 1, _SHEET).round().astype(int)
    sheet = np.concatenate([np.concatenate(list(video[chosen]), axis=1) for video in rows])
    scale = min(1.0, 1600 / sheet.shape[1])
    small = cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    write_png(path, small.astype(np.uint8))


def transfer_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    columns = {key: title for key, title in _COLUMNS.items() if any(key in record for record in records)}
    lines = ["| motion transfer | arm | " + " | ".join(columns.values()) + " |", "|---" * (2 + len(columns)) + "|"]
    for record in records:
        values = {key: record.get(key, math.nan) for key in columns}
        cells = [f"{value:.{3 if key == 'tem_con' else 2}f}" if math.isfinite(value) else "–"
                 for key, value in values.items()]  # fmt: skip
        if any(key in record for key in columns):
            lines.append(f"| {record['scene']} | {ARMS[record['arm']]} | {' | '.join(cells)} |")
    return "\n".join(lines)
