# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of accelerate and diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false
"""Ablations of motion tokens: what the joints that they say lose without a part of the recipe, at an equal budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trackshade.core.errors import UsageError
from trackshade.motion.framing import LANDMARKS

from ...motion.token_task import limb_error
from ...motion.training import load_token_model
from ...training.config import MotionConfig
from ...training.run import train
from ..measures import Column
from ..summary import estimate_difference, estimate_mean
from ..tables import format_table

# Settings of `trackshade train motion` by variant. `full` is the recipe that the others are compared with.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full recipe", {}),
    "all_pairs": ("without the first stage (single-view pairs)", {"single_view_steps": 0}),
    "single_view": ("first stage only (single-view pairs)", {"cross_view": False}),
    "no_rotations": ("without joint rotations", {"geometry": False}),
    "no_layout": ("without rotations and layout", {"geometry": False, "layout": False}),
    "no_hands": ("without the encoder of hands", {"hands_fraction": 0.0}),
    "skeletons": ("pictures of exact 2D skeletons as driving frames", {"skeletons": True}),
}
DIFFERENCES = (0, 90)
_TIPS = tuple(LANDMARKS.index(f"fingertip_{side}") for side in "lr")
_COLUMNS = {
    "d0": Column("joints at 0°, px", 2),
    "d90": Column("joints at 90°, px", 2),
    "more": Column("90°: more than the full recipe", 2),
    "tips": Column("fingertips at 90°, px", 2),
}
# Published order of the ablations by FVD, the best first (3DiMo, 2026, table of ablations), of those that are here.
_PUBLISHED = ("full", "no_hands", "single_view", "no_rotations")


def measure_ablations(out: Path, minutes: float, count: int, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """Train every variant of the first stage for some minutes, and measure the joints that its tokens say.

    Runs are kept in `out`, go on where they were stopped, and are not trained again when they are finished.

    Args:
        out: folder of the runs.
        minutes: budget of each variant.
        count: unseen clips for each figure.
        report: called with a sentence before each variant.

    Returns:
        A row for each variant with estimates: joints at 0 and 90 degrees in pixels, how much more that is at 90 degrees
        than with the full recipe, clip by clip, and fingertips at 90 degrees.
    """
    if minutes <= 0:
        raise UsageError("bad-setting", f"--ablations is {minutes:g}.", "Give the minutes of each variant.")
    rows, full = [], None
    for name, (title, settings) in VARIANTS.items():
        report(f"ablation: {title}, {minutes:g} min")
        # A short run has a short first stage.
        shared = {"single_view_steps": 40, "tensorboard": False, "validation_minutes": 1e6} | settings
        config = MotionConfig(out=str(out / name), minutes=minutes, **shared)
        train(config)
        model = load_token_model(out / name, config)
        errors = {d: limb_error(model, "tokens", d, count, skeletons=config.skeletons) for d in DIFFERENCES}
        tips = limb_error(model, "tokens", 90, count, landmarks=_TIPS, skeletons=config.skeletons)
        full = errors[90] if full is None else full
        row: dict[str, Any] = {"id": name, "title": title, "tips": estimate_mean(tips)}
        row |= {f"d{difference}": estimate_mean(values) for difference, values in errors.items()}
        if name != "full":
            row["more"] = estimate_difference(errors[90], full)
        rows.append(row)
    return rows


def format_ablations(rows: Sequence[Mapping[str, Any]], minutes: float) -> str:
    """Format the table of ablations, the order found and the published one, as Markdown."""
    order = sorted(rows, key=lambda row: row["d90"]["mean"])
    titles = {row["id"]: row["title"] for row in order}
    found = "; ".join(title for name, title in titles.items() if name in _PUBLISHED)
    published = "; ".join(titles[name] for name in _PUBLISHED if name in titles)
    return "\n\n".join(
        [
            f"## Ablations of the tokens, {minutes:g} minutes each",
            format_table(rows, _COLUMNS, "variant"),
            f"Best first, by joints at 90°: {found}. Published, by FVD of the pictures: {published}.",
        ]
    )
