# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a report as markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .camera_error import LEAST_MOVE, RIGHT, SMALL
from .measures import COLUMNS, Column
from .variants import WAYS

Row = Mapping[str, Any]
_NOT_FOR_TRUTH = ("psnr", "ssim", "lpips", "psnr_covered", "psnr_uncovered", "psnr_new", "object_px")
_CAMERA = {
    "rotation_small": Column("small: rotation °", 2),
    "translation_small": Column("small: direction °", 1),
    "solved_small": Column("found %", 0, percent=True),
    "rotation_large": Column("large: rotation °", 2),
    "translation_large": Column("large: direction °", 1),
    "solved_large": Column("found %", 0, percent=True),
}


def cell(found: Mapping[str, Any] | None, column: Column, interval: bool = True) -> str:
    """ "27.2 [26.6, 27.9]", or a dash where there is nothing."""
    if found is None or found["mean"] is None or not math.isfinite(found["mean"]):
        return "–"

    def number(value: float) -> str:
        text = f"{value * (100 if column.percent else 1):.{column.digits}f}"
        return text.replace("-", "−")

    ends = found["low"], found["high"]
    if not interval or any(end is None or not math.isfinite(end) for end in ends):
        return number(found["mean"])
    return f"{number(found['mean'])} [{number(ends[0])}, {number(ends[1])}]"


def table(rows: Sequence[Row], columns: Mapping[str, Column], first: str, interval: bool = True) -> str:
    """Markdown; columns that no row has are left out."""
    shown = {name: column for name, column in columns.items() if any(name in row for row in rows)}
    lines = [
        f"| {' | '.join([first, *(column.title for column in shown.values())])} |",
        "|" + "---|" * (len(shown) + 1),
    ]
    for row in rows:
        cells = [
            "" if row["id"] == "truth" and name in _NOT_FOR_TRUTH else cell(row.get(name), column, interval)
            for name, column in shown.items()
        ]
        lines.append(f"| {' | '.join([row['title'], *cells])} |")
    return "\n".join(lines)


def markdown(result: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """All tables of an evaluation, each under its heading, with what the figures mean."""
    settings, sampling = result["settings"], result["settings"]["sampling"]
    size = "×".join(map(str, sampling["size"]))
    what = sampling["folder"] or sampling["model"]
    parts = [
        "# Evaluation",
        f"`{what}`, {size} px, {sampling['frames']} frames, {sampling['steps']} steps, "
        f"guidance {sampling['guidance']:g}; "
        f"{settings['clips']} held-out clips and {settings['spin']} more of the spin set. {_seconds(summary)}"
        "Means over clips, [95 % bootstrap intervals]. All but the camera and the followed points: frames after the "
        "first. " + " ".join(result["notes"]),
        *section("All clips", table(summary["all"], COLUMNS, "way"), _main_note(summary)),
        *section("Differences, clip by clip", _differences(summary["differences"])),
        *section("Spin set: textured bodies that turn in place", table(summary["spin"], COLUMNS, "way")),
        *section("Kinds of scenes: PSNR dB", _kinds(summary["kinds"])),
        *section("Camera", table(summary["camera"], _CAMERA, "way"), _camera_note(summary["camera_clips"])),
        *section(
            "Color of the text, first frame dropped",
            table(summary["text"], {"accuracy": Column("accuracy %", 0, percent=True)}, "from"),
        ),
        *section("Control signals", table(summary["controls"], COLUMNS, "signal"), _controls_note(settings)),
        *section("Control signals on the spin set", table(summary["controls_spin"], COLUMNS, "signal")),
    ]
    return "\n\n".join(parts) + "\n"


def section(title: str, body: str, *notes: str) -> list[str]:
    """Heading, table and notes; nothing where the table has no rows."""
    return [f"## {title}", body, *(note for note in notes if note)] if body.count("\n") > 1 else []


def _seconds(summary: Mapping[str, Any]) -> str:
    mean = summary["seconds"]["mean"]
    return f"{mean:.1f} s to generate a clip. " if mean is not None and math.isfinite(mean) else ""


def _main_note(summary: Mapping[str, Any]) -> str:
    share = cell(summary["trusted"], Column("", 0, percent=True), interval=False)
    return (
        "Covered: pixels whose surface point the first frame shows; newly seen: surfaces that it does not. End points: "
        "textured points of the first frame, followed by eye, against their true projections, where they have moved "
        f"and where the follower is right in the true video ({share} % of what is visible); the ground truth's row is "
        "the follower's floor. Held: not lost on the way. Color spread: standard deviation of a surface point's "
        "color, of 255 levels. Gradient energy and pixel variance: shares of the truth's, 1 is as sharp."
    )


def _camera_note(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['small']} clips with small and {counts['large']} with large movements. "
        "Perspective-n-point with RANSAC on followed points that rest in the world, degrees; direction is that of the "
        f"way from the first camera, where it is longer than {LEAST_MOVE:.0%} of the depth. Small: turned by up to "
        f"{SMALL[0]:g}° and moved by up to {SMALL[1]:.0%} of the depth. Only frames of "
        f"which the true video itself gives the camera, to {RIGHT[0]:g}° of rotation and {RIGHT[1]:g}° of direction, "
        "and clips of which half of the frames are such; the ground truth's row is the floor."
    )


def _controls_note(settings: Mapping[str, Any]) -> str:
    own = [name for name, digest in settings["controls"].items() if digest]
    if not own:
        return "One model fed with each signal, not models trained with each."
    rest = "; the rest by the evaluated model" if len(own) < len(settings["controls"]) else ""
    return f"A model of its own for {', '.join(own)}{rest}."


def _differences(rows: Sequence[Row]) -> str:
    return table(rows, {"difference": Column("difference", 2)}, "")


def _kinds(rows: Sequence[Row]) -> str:
    columns = {way: Column(title, 1) for way, title in WAYS.items()} | {"covered": Column("covered %", 0, percent=True)}
    return table(rows, columns, "kind", interval=False)


def joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
