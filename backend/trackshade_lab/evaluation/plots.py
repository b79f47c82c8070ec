# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots of a report, as PNG files."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .store import write_bytes
from .variants import VARIANTS

matplotlib.use("Agg")
Row = Mapping[str, Any]
_COLORS = {
    "truth": "#222222", "ceiling": "#8a8a8a", "right": "#c2410c", "warp": "#1d4ed8", "inpainted": "#60a5fa",
    "still": "#0f766e", "other": "#a16207", "none": "#7c3aed", "destroyed": "#be185d",
}  # fmt: skip


def write_plots(folder: Path, result: Mapping[str, Any], summary: Mapping[str, Any]) -> list[Path]:
    """Draw the plots for which the report has figures, and return their files. Raises OutputError."""
    plots: dict[str, Callable[[], Figure | None]] = {
        "psnr": lambda: _bars(summary["all"], ("psnr", "psnr_covered", "psnr_uncovered"), "PSNR, dB", "PSNR"),
        "spin": lambda: _bars(summary["spin"], ("psnr", "psnr_covered", "psnr_uncovered"), "PSNR, dB", "Spin set"),
        "points": lambda: _bars(summary["all"], ("end_px",), "px", "End-point error"),
        "sharpness": lambda: _bars(summary["all"], ("gradient", "variance"), "relative to the truth", "Sharpness"),
        "camera": lambda: _camera(summary["camera"]),
        "kinds": lambda: _kinds(summary["kinds"]),
        "frames": lambda: _frames(result["clips"]),
        "scatter": lambda: _scatter(result["clips"]),
        "controls": lambda: _bars(summary["controls"], ("psnr", "psnr_covered"), "PSNR, dB", "Control signals"),
    }
    written = []
    for name, draw in plots.items():
        figure = draw()
        if figure is not None:
            data = io.BytesIO()
            figure.savefig(data, dpi=110, format="png")
            write_bytes(folder / f"{name}.png", data.getvalue())
            written.append(folder / f"{name}.png")
    return written


def _figure(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _get_estimate(row: Row, name: str) -> Mapping[str, Any] | None:
    """Return a row's estimate; None if it has none."""
    estimate = row.get(name)
    return estimate if estimate and estimate["mean"] is not None and math.isfinite(estimate["mean"]) else None


def _interval_lengths(estimate: Mapping[str, Any]) -> tuple[float, float]:
    """Return the lengths of the interval below and above the mean; 0 if there is none."""
    mean, ends = estimate["mean"], (estimate["low"], estimate["high"])
    low, high = (end if end is not None and math.isfinite(end) else mean for end in ends)
    return max(mean - low, 0.0), max(high - mean, 0.0)


def _bars(rows: Sequence[Row], measures: Sequence[str], unit: str, title: str) -> Figure | None:
    """Draw horizontal bars with intervals: a group per row, a bar per measure."""
    names = {"psnr": "all pixels", "psnr_covered": "covered", "psnr_uncovered": "uncovered", "gradient": "gradients",
             "variance": "variance"}  # fmt: skip
    rows = [row for row in rows if not (row["id"] == "truth" and measures[0].startswith("psnr"))]
    rows = [row for row in rows if any(_get_estimate(row, name) for name in measures)]
    if not rows:
        return None
    figure, axes = _figure(7.5, 0.9 + 0.22 * len(rows) * (len(measures) + 0.6), title)
    thickness = 0.82 / len(measures)
    for n, name in enumerate(measures):
        for y, row in enumerate(rows):
            if estimate := _get_estimate(row, name):
                position, lengths = y + (n - (len(measures) - 1) / 2) * thickness, _interval_lengths(estimate)
                interval = np.reshape(lengths, (2, 1))
                color = _COLORS.get(row["id"], "#475569")
                axes.barh(position, estimate["mean"], thickness * 0.92, color=color, alpha=1 - 0.3 * n)
                axes.errorbar(estimate["mean"], position, xerr=interval, color="#111111", lw=1, capsize=2)
                text = f"{estimate['mean']:.3g}" + (f"  {names[name]}" if len(measures) > 1 and y == 0 else "")
                place = estimate["mean"] + lengths[1], position
                axes.annotate(text, place, (4, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(unit)
    return figure


def _camera(rows: Sequence[Row]) -> Figure | None:
    measures = {"rotation_small": "rotation, small", "rotation_large": "rotation, large",
                "translation_small": "direction, small", "translation_large": "direction, large"}  # fmt: skip
    if not any(_get_estimate(row, name) for row in rows for name in measures):
        return None
    figure, axes = _figure(7.5, 4.2, "Camera error by motion")
    for x, name in enumerate(measures):
        for n, row in enumerate(rows):
            if estimate := _get_estimate(row, name):
                place = x + (n - len(rows) / 2) * 0.09, max(estimate["mean"], 0.02)
                style = {"fmt": "o", "ms": 5, "capsize": 2, "color": _COLORS.get(row["id"]), "label": row["title"]}
                axes.errorbar(*place, yerr=np.reshape(_interval_lengths(estimate), (2, 1)), **style)
    axes.set_xticks(range(len(measures)), list(measures.values()))
    axes.set_yscale("log")
    axes.set_ylabel("degrees")
    lines, titles = axes.get_legend_handles_labels()
    once = dict(zip(titles, lines, strict=True))
    axes.legend(once.values(), once.keys(), fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlim(-0.6, len(measures) - 0.4)
    return figure


def _kinds(rows: Sequence[Row]) -> Figure | None:
    if not rows:
        return None
    variants = [variant for variant in ("right", "warp", "still", "destroyed") if variant in rows[0]]
    figure, axes = _figure(9, 4, "PSNR by kind of scene, dB")
    for n, variant in enumerate(variants):
        means = [row[variant]["mean"] for row in rows]
        lengths = np.array([_interval_lengths(row[variant]) for row in rows]).T
        positions = np.arange(len(rows)) + (n - (len(variants) - 1) / 2) * 0.2
        axes.bar(positions, means, 0.19, yerr=lengths, color=_COLORS[variant], label=VARIANTS[variant],
                 error_kw={"lw": 0.8, "capsize": 1.5})  # fmt: skip
    axes.set_xticks(range(len(rows)), [row["title"] for row in rows], rotation=30, ha="right", fontsize=8)
    axes.set_ylim(bottom=max(0, min(row[variant]["mean"] for row in rows for variant in variants) - 5))
    axes.legend(fontsize=8, frameon=False, ncols=len(variants), loc="upper center", bbox_to_anchor=(0.5, -0.28))
    return figure


def _frames(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw PSNR over time."""
    variants = [variant for variant in VARIANTS if variant != "truth" and variant in records[0]["frames"]]
    if not variants:
        return None
    figure, axes = _figure(7.5, 4, "PSNR by frame, dB")
    for variant in variants:
        psnr = np.array([record["frames"][variant] for record in records]).mean(axis=0)
        axes.plot(np.arange(2, len(psnr) + 2), psnr, color=_COLORS[variant], label=VARIANTS[variant], lw=1.6)
    axes.set_xlabel("frame")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _scatter(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw PSNR of each clip: the model against the warp."""
    both = [r for r in records if "right" in r["ways"] and "warp" in r["ways"]]
    if not both:
        return None
    figure, axes = _figure(5, 4.8, "Each clip: PSNR of the model against the warp's, dB")
    x, y = ([r["ways"][variant]["psnr"] for r in both] for variant in ("warp", "right"))
    covered = [r["covered"] for r in both]
    dots = axes.scatter(x, y, c=covered, cmap="viridis", s=16, vmin=0, vmax=1)
    low, high = min(*x, *y) - 1, max(*x, *y) + 1
    axes.plot([low, high], [low, high], color="#999999", lw=0.8)
    axes.set_xlabel("first frame warped along the tracks")
    axes.set_ylabel("model, right tracks")
    figure.colorbar(dots, label="fraction of covered pixels", shrink=0.8)
    return figure
