# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and sheets of the evaluation of a motion model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...motion.batches import MotionBatch
from ..measures import Column
from ..store import write_bytes
from ..tables import format_estimate, format_table
from .pictures import COLUMNS
from .said import DIFFERENCES

_SHEET_CLIPS, _SHEET_SCALE = 6, 3
_LIMBS = {"limbs": Column("elbows, wrists, knees, ankles, px", 2), "tips": Column("fingertips, px", 2)}
_NULLS = {"joints": Column("joints, px", 2), "increase": Column("increase %", 0, percent=True)}
_TENTHS, _SHARE = Column("degrees or cm", 1), Column("share", 2)


def format_report(summary: Mapping[str, Any]) -> str:
    """Format the tables as Markdown."""
    said, reading = summary["joints"], summary["reading"]
    by_difference = {f"d{difference}": Column(f"{difference}°", 2) for difference in DIFFERENCES}
    parts = [
        "# Motion tokens",
        "Means over unseen clips with [95 % bootstrap intervals]; another figure drives in every clip. Frames have "
        "48×64 px, in which the figure is about 49 px high.",
        "## Joints in the target view, said without the generator, px",
        format_table(said["rows"], by_difference, "azimuth difference"),
    ]
    if said["ratios"]:
        lines = [f"| | {' | '.join(f'{difference}°' for difference in DIFFERENCES)} |", "|---" * 6 + "|"]
        for title, values in said["ratios"].items():
            lines.append(f"| {title} | {' | '.join(f'{values[difference]:.2f}' for difference in DIFFERENCES)} |")
        parts.append("\n".join(lines))
    retrieval = [f"{name} {format_estimate(value, _SHARE)}" for name, value in summary["retrieval"].items()]
    angles = {name: format_estimate(value, _TENTHS) for name, value in reading.items()}
    parts += [
        "## Tokens at 90°, by kinds of data and joints",
        format_table(said["held_out"], _LIMBS, ""),
        "## What tokens hold",
        f"The same motion by another figure at 90°, found first among 64 (chance 0.02), by: {'; '.join(retrieval)}.",
        f"Azimuth of the driving camera, read off tokens by ridge regression: error {angles['azimuth']}° (chance 90°). "
        f"Joint rotations of the geometric head: error {angles['rotations']}°, fitted to the landmarks "
        f"{angles['fitted']}°; of the mean pose {angles['mean pose']}°. Elbows, wrists, knees and ankles of a body of "
        f"average build, by these rotations: {angles['rotations, limbs']}, {angles['fitted, limbs']} and "
        f"{angles['mean pose, limbs']} cm off.",
    ]
    if "pictures" in summary:
        parts += _format_pictures(summary["pictures"], summary["detector"])
    return "\n\n".join(parts) + "\n"


def _format_pictures(pictures: Mapping[str, Any], detector: Mapping[str, float]) -> list[str]:
    parts = [
        "## Pictures of the generator",
        "Joints: elbows, wrists, knees and ankles that a detector finds in the result, against those that it finds in "
        f"the true frames. Its own error on unseen true frames is {detector['all']:.2f} px, and "
        f"{detector['visible']:.2f} px on joints that are not behind the body. Sharpness: gradients on the figure, as "
        "a share of the autoencoded truth's.",
    ]
    for difference, rows in pictures["rows"].items():
        parts += [f"### {difference}°", format_table(rows, COLUMNS, "driven by")]
    camera = {name: format_estimate(value, _SHARE) for name, value in pictures["camera"].items()}
    parts += [
        "### Wrong drivers, 90°",
        format_table(pictures["nulls"], _NULLS, "tokens"),
        "### Camera",
        "Clips whose azimuth in the result, as the detector sees it, is within 20° of what was asked: "
        f"{camera['generated']}; of the true frames: {camera['truth']}. References whose azimuth the encoder reads "
        f"within 20°: {camera['reference']}.",
    ]
    return parts


def write_sheet(path: Path, batch: MotionBatch, results: Mapping[str, torch.Tensor]) -> None:
    """Draw clips: the reference before the driving frames, the truth, and each source's result. Raises OutputError."""
    count = batch.num_frames
    rows = []
    for clip in range(min(_SHEET_CLIPS, len(batch.reference_azimuth))):
        part = slice(clip * count, (clip + 1) * count)
        still = batch.reference[clip]
        videos = [batch.driving, batch.target, *results.values()]
        for number, video in enumerate(videos):
            first = still if number == 0 else torch.zeros_like(still)
            rows.append(torch.cat([first, *video[part]], dim=-1))
    sheet = (torch.cat(rows, dim=-2).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    large = np.kron(sheet, np.ones((_SHEET_SCALE, _SHEET_SCALE, 1), np.uint8))
    data = io.BytesIO()
    Image.fromarray(large).save(data, "PNG")
    write_bytes(path, data.getvalue())
