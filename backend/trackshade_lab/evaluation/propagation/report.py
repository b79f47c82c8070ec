# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and pictures of an evaluation of propagation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trackshade.results.sheets import contact_sheet

from ..measures import Column
from ..store import write_bytes
from ..summary import estimate_difference, estimate_mean
from ..tables import format_estimate, format_table
from .arms import ARMS
from .measures import COLUMNS

_GAIN = 4  # of differences in strips
_HEADER = 22  # pixels
_SCENE_MEASURES = ("psnr", "psnr_known", "psnr_unseen", "ssim_unseen", "swd_unseen")
_COMPARED = ("psnr", "psnr_known", "psnr_unseen", "ssim_unseen", "swd_unseen", "flicker_unseen")

Record = Mapping[str, Any]


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Compute the tables: arms over all scenes, differences from "full", and scenes by measure.

    Returns:
        "arms" and "differences", rows with an "id", a "title" and an estimate for each measure; "scenes", such rows for
        each measure, with an estimate for each arm.
    """
    arms = [arm for arm in ARMS if any(arm in record["arms"] for record in records)]
    rows, differences = [], []
    for arm in arms:
        figures = [record["arms"][arm] for record in records if arm in record["arms"]]
        row: dict[str, Any] = {"id": arm, "title": ARMS[arm].title, "scenes": len(figures)}
        row |= {name: estimate_mean(entry.get(name) for entry in figures) for name in COLUMNS}
        rows.append(row)
        pairs = [record["arms"] for record in records if arm in record["arms"] and "full" in record["arms"]]
        if arm != "full" and pairs:
            difference: dict[str, Any] = {"id": arm, "title": ARMS[arm].title}
            for name in _COMPARED:
                values = [pair["full"].get(name) for pair in pairs], [pair[arm].get(name) for pair in pairs]
                difference[name] = estimate_difference(*values)
            differences.append(difference)
    scenes = {}
    for name in _SCENE_MEASURES:
        scenes[name] = [
            {"id": record["name"], "title": record["name"]}
            | {arm: estimate_mean([record["arms"][arm].get(name)]) for arm in arms if arm in record["arms"]}
            for record in records
        ]
    return {"arms": rows, "differences": differences, "scenes": scenes}


def format_report(records: Sequence[Record], summary: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Format the tables as Markdown."""
    interval = len(records) > 1
    parts = [
        "# Propagation against true frames",
        f"{len(records)} scenes, {settings['size']} px at most, seed {settings['seed']}. Means over scenes"
        f"{', [95 % bootstrap intervals]' if interval else ''}; the first frame is given and does not count.",
        format_table(summary["arms"], COLUMNS, "arm", interval),
        "Known pixels show what the first frame shows, unseen ones do not. PSNR of unseen pixels is highest for a flat "
        "color where nobody can know what is there. Patch distance: sliced Wasserstein distance of 5×5 patches, 8-bit "
        "levels, lower is better. Gradient energy: relative to the truth's; 1 is as sharp. Flicker: standard deviation "
        "of a surface point's level over the frames, minus the truth's; 0 is right, below 0 is stiller than the "
        "truth. Seconds are processor time.",
    ]
    if summary["differences"]:
        columns = {name: COLUMNS[name] for name in _COMPARED}
        parts += [
            "## Full propagation minus each arm, scene by scene",
            format_table(summary["differences"], columns, "arm", interval),
        ]
    arms = {row["id"]: row["id"] for row in summary["arms"]}
    for name, rows in summary["scenes"].items():
        parts += [f"## {COLUMNS[name].title} by scene", _scene_table(rows, arms, COLUMNS[name])]
    counts = [
        f"{record['name']}: {record['frames']} true frames of {record['shot_frames']}, {record['unseen']:.0%} unseen"
        for record in records
    ]
    return "\n\n".join([*parts, "## Scenes", "\n".join(f"- {line}" for line in counts)]) + "\n"


def _scene_table(rows: Sequence[Mapping[str, Any]], arms: Mapping[str, str], column: Column) -> str:
    lines = [f"| scene | {' | '.join(arms)} |", "|" + "---|" * (len(arms) + 1)]
    for row in rows:
        cells = [format_estimate(row.get(arm), column, interval=False) for arm in arms]
        lines.append(f"| {row['title']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_scene_sheet(
    path: Path,
    frame_numbers: Sequence[float],
    rows: Sequence[tuple[str, np.ndarray]],  # label, [N, H, W, 3] uint8
) -> None:
    """Draw the truth and all arms below each other, frame by frame. Raises OutputError."""
    _write_png(path, contact_sheet(rows, frame_numbers))


def write_strip(
    path: Path,
    truth: np.ndarray,  # [H, W, 3] uint8
    image: np.ndarray,  # [H, W, 3] uint8
    known: np.ndarray,  # [H, W] bool
    title: str,
) -> None:
    """Draw truth, image, and their difference four times, side by side; unseen pixels are outlined in the last one.

    Raises:
        OutputError: if the file cannot be written.
    """
    difference = np.clip(abs(truth.astype(int) - image) * _GAIN, 0, 255).astype(np.uint8)
    edge = np.zeros(known.shape, bool)
    edge[:, 1:] |= known[:, 1:] != known[:, :-1]
    edge[1:] |= known[1:] != known[:-1]
    difference[edge] = (255, 200, 0)
    strip = np.hstack([truth, image, difference])
    sheet = Image.new("RGB", (strip.shape[1], strip.shape[0] + _HEADER), (32, 32, 32))
    sheet.paste(Image.fromarray(strip), (0, _HEADER))
    pen, font, width = ImageDraw.Draw(sheet), ImageFont.load_default(13), truth.shape[1]
    for number, text in enumerate(("truth", title, f"{_GAIN} times the difference; outlined: unseen")):
        pen.text((number * width + 6, 4), text, (220, 220, 220), font)
    _write_png(path, sheet)


def _write_png(path: Path, image: Image.Image) -> None:
    data = io.BytesIO()
    image.save(data, "PNG")
    write_bytes(path, data.getvalue())
