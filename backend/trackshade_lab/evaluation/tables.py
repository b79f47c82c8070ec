# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a report as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .camera import CORRECT, MIN_TRANSLATION, SMALL_MOTION
from .measures import COLUMNS, Column
from .summary import RESULT_MEASURES, variant_rows
from .variants import VARIANTS

Row = Mapping[str, Any]
_NOT_FOR_TRUTH = ("psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "psnr_new", "object_px")
_DIFFERENCE = {"difference": Column("difference", 2)}
_ACCURACY = {"accuracy": Column("accuracy %", 0, percent=True)}
_CAMERA = {
    "rotation_small": Column("small: rotation °", 2),
    "translation_small": Column("small: direction °", 1),
    "solved_small": Column("found %", 0, percent=True),
    "rotation_large": Column("large: rotation °", 2),
    "translation_large": Column("large: direction °", 1),
    "solved_large": Column("found %", 0, percent=True),
}


def format_estimate(estimate: Mapping[str, Any] | None, column: Column, interval: bool = True) -> str:
    """Format an estimate as "27.2 [26.6, 27.9]"; a dash if there is none."""
    if estimate is None or not _is_number(estimate["mean"]):
        return "–"

    def number(value: float) -> str:
        text = f"{value * (100 if column.percent else 1):.{column.digits}f}"
        return text.replace("-", "−")

    if not interval or not (_is_number(estimate["low"]) and _is_number(estimate["high"])):
        return number(estimate["mean"])
    return f"{number(estimate['mean'])} [{number(estimate['low'])}, {number(estimate['high'])}]"


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def format_table(rows: Sequence[Row], columns: Mapping[str, Column], first: str, interval: bool = True) -> str:
    """Format rows, with "id", "title" and estimates by measure, as a Markdown table.

    `first` is the first column's title. Columns that no row has are left out.
    """
    shown = {name: column for name, column in columns.items() if any(name in row for row in rows)}
    lines = [
        f"| {' | '.join([first, *(column.title for column in shown.values())])} |",
        "|" + "---|" * (len(shown) + 1),
    ]
    for row in rows:
        cells = [
            "" if row["id"] == "truth" and name in _NOT_FOR_TRUTH else format_estimate(row.get(name), column, interval)
            for name, column in shown.items()
        ]
        lines.append(f"| {' | '.join([row['title'], *cells])} |")
    return "\n".join(lines)


def format_report(result: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Format all tables of an evaluation, each with a heading and an explanation of its figures."""
    settings, sampling = result["settings"], result["settings"]["sampling"]
    size = "×".join(map(str, sampling["size"]))
    model = sampling["folder"] or sampling["model"]
    parts = [
        "# Evaluation",
        f"`{model}`, {size} px, {sampling['frames']} frames, {sampling['steps']} steps, "
        f"guidance {sampling['guidance']:g}; "
        f"{settings['clips']} held-out clips and {settings['spin']} more of the spin set. {_seconds(summary)}"
        "Means over clips, [95 % bootstrap intervals]. All but the camera and the followed points: frames after the "
        "first. " + " ".join(result["notes"]),
        *_section("All clips", format_table(summary["all"], COLUMNS, "variant"), _main_note(summary)),
        *_section("Differences, clip by clip", format_table(summary["differences"], _DIFFERENCE, "")),
        *_section("Spin set: textured bodies that turn in place", format_table(summary["spin"], COLUMNS, "variant")),
        *_section("Kinds of scenes: PSNR dB", _kinds(summary["kinds"])),
        *_section("Camera", format_table(summary["camera"], _CAMERA, "variant"), _camera_note(summary["camera_clips"])),
        *_section("Color of the text, first frame dropped", format_table(summary["text"], _ACCURACY, "from")),
        *_section("Control signals", format_table(summary["controls"], COLUMNS, "signal"), _controls_note(settings)),
        *_section("Control signals on the spin set", format_table(summary["controls_spin"], COLUMNS, "signal")),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, body: str, *notes: str) -> list[str]:
    """Return heading, table and notes; nothing if the table has no rows."""
    return [f"## {title}", body, *(note for note in notes if note)] if body.count("\n") > 1 else []


def _seconds(summary: Mapping[str, Any]) -> str:
    mean = summary["seconds"]["mean"]
    return f"{mean:.1f} s to generate a clip. " if _is_number(mean) else ""


def _main_note(summary: Mapping[str, Any]) -> str:
    trusted = format_estimate(summary["trusted"], Column("", 0, percent=True), interval=False)
    return (
        "Covered: pixels whose surface point the first frame shows; newly visible: surfaces that it does not show. "
        "End-point error: textured points of the first frame, followed by optical flow, against their true "
        "projections, where they have moved and are followed correctly in the true video "
        f"({trusted} % of what is visible); the ground truth's row is the floor. Points kept: not lost by the optical "
        "flow. Color spread: standard deviation of a surface point's color, of 255 levels. Gradient energy and pixel "
        "variance: relative to the truth's; 1 is as sharp."
    )


def _camera_note(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['small']} clips with small and {counts['large']} with large camera motion. "
        "Perspective-n-point with RANSAC on followed static points, errors in degrees; direction is that of the "
        f"translation from the first frame, where it is longer than {MIN_TRANSLATION:.0%} of the depth. Small: rotated "
        f"by up to {SMALL_MOTION[0]:g}° and moved by up to {SMALL_MOTION[1]:.0%} of the depth. Only frames whose "
        f"camera the true video gives to {CORRECT[0]:g}° of rotation and {CORRECT[1]:g}° of direction count, and "
        "clips with at least half such frames; the ground truth's row is the floor."
    )


def _controls_note(settings: Mapping[str, Any]) -> str:
    separate = [name for name, digest in settings["controls"].items() if digest]
    if not separate:
        return "One model with each signal as input, not models trained with each."
    rest = "; the evaluated model for the others" if len(separate) < len(settings["controls"]) else ""
    return f"Separate models for {', '.join(separate)}{rest}."


def _kinds(rows: Sequence[Row]) -> str:
    columns = {variant: Column(title, 1) for variant, title in VARIANTS.items()} | {
        "covered": Column("covered %", 0, percent=True)
    }
    return format_table(rows, columns, "kind", interval=False)


def format_results_report(report: Mapping[str, Any]) -> str:
    """Format the tables of `evaluate_results`: one per result, then the mean."""
    records = report["clips"]
    parts = ["# Results against the true frames", *report["notes"]]
    for record in records:
        parts += [
            f"## {record['name']}",
            f"{record['model']}: “{record['caption']}”. The first frame shows {record['covered']:.0%} of the pixels' "
            f"points.{_format_consistency(record)}",
            format_table(variant_rows([record], RESULT_MEASURES), COLUMNS, "variant", interval=False),
        ]
    if len(records) > 1:
        rows = variant_rows(records, RESULT_MEASURES)
        parts += [f"## Mean of {len(records)}", format_table(rows, COLUMNS, "variant")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _format_consistency(record: Mapping[str, Any]) -> str:
    consistency = record.get("consistency")
    if not consistency or consistency.get("result") is None or consistency.get("input_render") is None:
        return ""
    return (
        f" The color of a visible surface point varies by {consistency['result']:.1f} of 255 levels, in the input "
        f"render by {consistency['input_render']:.1f}."
    )
