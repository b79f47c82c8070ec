# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways in which a clip is made again: the model's, baselines, controls, a ceiling and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.core.errors import UsageError

from .generator import Generator
from .held_out import Held
from .identity import destroy_identity

WAYS: Mapping[str, str] = {
    "truth": "ground truth",
    "ceiling": "autoencoder's ceiling",
    "right": "model, right tracks",
    "warp": "first frame warped along the tracks",
    "inpainted": "the same, holes inpainted",
    "still": "first frame repeated",
    "other": "another scene's tracks",
    "none": "no tracks",
    "destroyed": "identity destroyed",
}
"""Rows of the tables, and their titles."""
MADE = ("right", "other", "none", "destroyed")  # by the model
TEXT = "text"  # first frame dropped: for the color of the text only


@dataclass(frozen=True)
class Made:
    """Videos [T, H, W, 3] uint8 of one way, and the seconds that each took to generate (0 for what is not)."""

    videos: list[np.ndarray]
    seconds: float


def chosen(names: str | None) -> tuple[str, ...]:
    """The ways in a comma-separated list, in the tables' order, the truth always among them;
    all without a list. Raises UsageError.
    """
    if not names:
        return tuple(WAYS)
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in WAYS]:
        raise UsageError("unknown-way", f"There is no way '{unknown[0]}'.", f"Take of {', '.join(WAYS)}.")
    return tuple(name for name in WAYS if name == "truth" or name in asked)


def make(way: str, held: Sequence[Held], generator: Generator) -> Made:
    """Make some clips again in one of `WAYS`, or `TEXT`."""
    videos = [item.subject.video for item in held]
    if way == "truth":
        return Made(videos, 0.0)
    if way == "ceiling":
        return Made([generator.autoencode(video) for video in videos], 0.0)
    if way == "still":
        return Made([np.broadcast_to(video[:1], video.shape) for video in videos], 0.0)
    if way == "warp":
        return Made([item.subject.warp.video for item in held], 0.0)
    if way == "inpainted":
        return Made([item.subject.warp.inpainted for item in held], 0.0)
    return generated(held, [_tracking(way, item) for item in held], generator, first_frame=way != TEXT)


def generated(
    held: Sequence[Held], trackings: Sequence[np.ndarray], generator: Generator, first_frame: bool = True
) -> Made:
    """Let the model make clips from their captions, first frames and these tracking videos [T, H, W, 3] uint8."""
    videos, seconds = generator.generate(
        prompts=[item.caption for item in held],
        images=[item.subject.video[0] for item in held] if first_frame else None,
        trackings=trackings,
        seeds=[item.seed for item in held],
    )
    return Made(videos, seconds)


def _tracking(way: str, item: Held) -> np.ndarray:
    if way == "other":
        return item.other_tracking()
    if way == "none":
        return np.zeros_like(item.subject.tracking)
    if way == "destroyed":
        return destroy_identity(item.subject.tracking, item.objects, item.seed)
    return item.subject.tracking
