# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables and contact sheets of an evaluation of grids."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..store import write_bytes
from ..summary import estimate_difference, estimate_mean
from ..tables import format_table
from .config import MultiviewEvaluation
from .measures import COLUMNS

_SINGLE = ("rows", "columns")  # arms of a single direction
_COMPARED = ("psnr_raster", "psnr_unseen", "gradient", "change", "error_row", "error_column", "error_off")
_PROMPTS = {
    "image": "one cell is given",
    "video": "the row of the first camera is given",
    "static": "the column of the first frame is given",
    "cross": "the row of the first camera and the column of the first frame are given",
}


def summarize(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute the tables: arms over all scenes, and their differences from the better single direction.

    A scene's figure is the mean over its seeds, so that intervals are over scenes.
    """
    arms = list(dict.fromkeys(arm for record in records for arm in record["arms"]))
    means = [
        {arm: {name: _mean([e.get(name) for e in entries]) for name in COLUMNS} for arm, entries in r["arms"].items()}
        for r in records
    ]
    rows = [
        {"id": arm, "title": arm} | {n: estimate_mean(m[arm][n] for m in means if arm in m) for n in COLUMNS}
        for arm in arms
    ]
    return {"arms": rows, "differences": _differences(means, arms)}


def _differences(means: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[dict[str, Any]]:
    singles = [arm for arm in _SINGLE if all(arm in mean for mean in means)]
    if not singles:
        return []

    def quality(arm: str) -> float:
        return estimate_mean(mean[arm]["error_off"] for mean in means)["mean"]

    better = min(singles, key=quality)
    rows = []
    for arm in arms:
        pairs = [(mean[arm], mean[better]) for mean in means if arm in mean]
        if arm != better and pairs:
            row: dict[str, Any] = {"id": arm, "title": f"{arm} − {better}"}
            for name in _COMPARED:
                row[name] = estimate_difference([a[name] for a, _ in pairs], [b[name] for _, b in pairs])
            rows.append(row)
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else None


def format_report(records: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], config: MultiviewEvaluation) -> str:
    """Format the tables as Markdown."""
    interval = len(records) > 1
    unseen = float(np.mean([record["unseen"] for record in records]))
    seeds = max(len(entries) for record in records for entries in record["arms"].values())
    parts = [
        "# Many cameras, many frames",
        f"{len(records)} held-out scenes, {config.views} cameras over {config.span[0]:g} to {config.span[1]:g}°, "
        f"{config.frames} frames, {config.size[0]}×{config.size[1]} px, {seeds} seeds, {config.steps} steps; "
        f"{_PROMPTS[config.prompt]}, and {unseen:.1%} of the other cells' pixels show what no given cell shows. Means "
        f"over scenes{', [95 % bootstrap intervals]' if interval else ''}, over the cells that are not given.",
        format_table(summary["arms"], COLUMNS, "arm", interval),
        "PSNR in dB along rows (videos), columns (sweeps of the cameras), the diagonal and the raster of all cells. "
        "Gradient energy and change from frame to frame are shares of the truth's: 1 is as sharp, and as lively. "
        "Mismatch: mean difference of a surface point's 8-bit levels between two cells of one row, of one column, or "
        "of neither; the truth has some, where light moves. Of errors: the same of (cell − truth), which is 0 for a "
        "right picture.",
    ]
    if summary["differences"]:
        columns = {name: COLUMNS[name] for name in _COMPARED}
        parts += ["## Minus the better single direction, scene by scene"]
        parts += [format_table(summary["differences"], columns, "arm", interval)]
    return "\n\n".join(parts) + "\n"


def write_grid_sheet(
    path: Path,
    cells: np.ndarray,  # [V, F, H, W, 3] uint8
) -> None:
    """Draw cameras below each other and frames from left to right. Raises OutputError."""
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in cells])
    data = io.BytesIO()
    Image.fromarray(sheet).save(data, "PNG")
    write_bytes(path, data.getvalue())
