# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of accelerate and diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false
"""Ablations of the method: what joints and pictures lose without a part of the recipe, at an equal budget."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import UsageError
from trackshade.motion.framing import LANDMARKS

from ...motion.token_task import limb_error
from ...motion.training import load_token_model
from ...training.config import MotionConfig
from ...training.run import train
from ..measures import Column
from ..summary import estimate_difference, estimate_mean
from ..tables import format_table
from .detector import JointDetector
from .pictures import COLUMNS, measure_tokens
from .sources import load_model

# Settings of `trackshade train motion` by variant. `full` is the recipe that the others are compared with.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "full": ("full recipe", {}),
    "all_pairs": ("without the first stage (single-view pairs)", {"single_view_steps": 0}),
    "single_view": ("first stage only (single-view pairs)", {"cross_view": False}),
    "no_rotations": ("without joint rotations", {"geometry": False}),
    "no_layout": ("without rotations and layout", {"geometry": False, "layout": False}),
    "no_hands": ("without the encoder of hands", {"hands_fraction": 0.0}),
    "channels": ("tokens along the channels, no cross-attention", {"motion_channels": True}),
    "skeletons": ("pictures of exact 2D skeletons as driving frames", {"skeletons": True}),
}
DIFFERENCES = (0, 90)
_GENERATOR = 3  # steps of the tokens to one of the generator, as in the recipe
_FIRST_STAGE = 15  # steps of the tokens to one of them that sees single-view pairs alone, as in the recipe
_TIPS = tuple(LANDMARKS.index(f"fingertip_{side}") for side in "lr")
_COLUMNS = {
    "d0": Column("joints at 0°, px", 2),
    "d90": Column("joints at 90°, px", 2),
    "more": Column("90°: more than the full recipe", 2),
    "tips": Column("fingertips at 90°, px", 2),
}
_PICTURES = {key: COLUMNS[key] for key in ("joints", "psnr", "silhouette", "sharpness")}
_PICTURES["more_joints"] = Column("joints: more than the full recipe", 2)
_PICTURES["less_psnr"] = Column("PSNR: difference from it, dB", 2)
# Published order of the ablations by FVD, the best first (3DiMo, 2026, table of ablations), of those that are here.
_PUBLISHED = ("full", "no_hands", "single_view", "no_rotations")


def measure_ablations(
    out: Path,
    steps: int,
    count: int,
    report: Callable[[str], None],
    detector: JointDetector | None = None,
    picture_count: int = 0,
    denoising_steps: int = 2,
) -> list[dict[str, Any]]:
    """Train every variant for some steps, and measure the joints that its tokens say, and its pictures.

    Runs are kept in `out`, go on where they were stopped, and are not trained again when they are finished.

    Args:
        out: folder of the runs.
        steps: budget of the first stage of each variant; the generator has a third of it.
        count: unseen clips for each figure of what tokens say.
        report: called with a sentence before each variant.
        detector: finds joints in pictures; without one, generators are neither trained nor measured.
        picture_count: unseen clips for each figure of the pictures.
        denoising_steps: of the generator.

    Returns:
        A row for each variant with estimates: joints at 0 and 90 degrees in pixels, how much more that is at 90 degrees
        than with the full recipe, clip by clip, and fingertips at 90 degrees; of pictures at 90 degrees the measures
        of the second table, and how much more than with the full recipe joints and PSNR are.
    """
    if steps < 1:
        raise UsageError("bad-setting", f"--ablations is {steps}.", "Give the steps of each variant.")
    rows, full = [], np.zeros(0)
    full_pictures: dict[str, np.ndarray] = {}
    for name, (title, settings) in VARIANTS.items():
        report(f"ablation: {title}, {steps} steps")
        shared: dict[str, Any] = {"tensorboard": False, "validation_minutes": 1e6}
        shared["single_view_steps"] = steps // _FIRST_STAGE
        if detector is not None:
            shared["generator_steps"] = max(1, steps // _GENERATOR)
        config = MotionConfig(out=str(out / name), steps=steps, **(shared | settings))
        if name == "channels":
            if detector is None:
                continue  # concerns the generator alone
            if not (out / name).exists():
                shutil.copytree(out / "full" / "tokens", out / name / "tokens")
        train(config)
        model = load_token_model(out / name, config)
        errors = {d: limb_error(model, "tokens", d, count, skeletons=config.skeletons) for d in DIFFERENCES}
        tips = limb_error(model, "tokens", 90, count, landmarks=_TIPS, skeletons=config.skeletons)
        row: dict[str, Any] = {"id": name, "title": title, "tips": estimate_mean(tips)}
        row |= {f"d{difference}": estimate_mean(values) for difference, values in errors.items()}
        pictures: dict[str, np.ndarray] = {}
        if detector is not None:
            generator = load_model(out / name / "export", None)
            pictures = measure_tokens(generator, detector, picture_count, denoising_steps, skeletons=config.skeletons)
            row["pictures"] = {key: estimate_mean(values) for key, values in pictures.items()}
        if name == "full":
            full, full_pictures = errors[90], pictures
        else:
            row["more"] = estimate_difference(errors[90], full)
            if pictures:
                row["pictures"]["more_joints"] = estimate_difference(pictures["joints"], full_pictures["joints"])
                row["pictures"]["less_psnr"] = estimate_difference(pictures["psnr"], full_pictures["psnr"])
        rows.append(row)
    return rows


def format_ablations(rows: Sequence[Mapping[str, Any]], steps: int) -> str:
    """Format the tables of ablations, the order found and the published one, as Markdown."""
    pictures = [{"id": row["id"], "title": row["title"]} | row["pictures"] for row in rows if "pictures" in row]
    parts = [
        f"## Ablations of the tokens, {steps} steps each",
        format_table([row for row in rows if row["id"] != "channels"], _COLUMNS, "variant"),
        _order(rows, "joints that tokens say at 90°", lambda row: row["d90"]["mean"]),
    ]
    if pictures:
        parts += [
            f"## Ablations of the pictures at 90°, the generator with {max(1, steps // _GENERATOR)} steps each",
            format_table(pictures, _PICTURES, "variant"),
            _order(rows, "joints in the pictures", lambda row: row["pictures"]["joints"]["mean"]),
            _order(rows, "PSNR of the pictures", lambda row: -row["pictures"]["psnr"]["mean"]),
        ]
    titles = {row["id"]: row["title"] for row in rows}
    published = "; ".join(titles[name] for name in _PUBLISHED if name in titles)
    parts.append(f"Published, best first by FVD of the pictures: {published}.")
    return "\n\n".join(parts)


def _order(rows: Sequence[Mapping[str, Any]], title: str, measure: Callable[[Mapping[str, Any]], float]) -> str:
    found = [row["title"] for row in sorted(rows, key=measure) if row["id"] in _PUBLISHED]
    return f"Best first, by {title}: {'; '.join(found)}."
