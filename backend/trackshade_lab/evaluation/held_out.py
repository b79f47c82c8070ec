# SPDX-License-Identifier: GPL-3.0-or-later
"""The held-out clips of an evaluation: which they are, and what is known about each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.errors import UsageError
from trackshade.shot import Shot
from trackshade_lab.scenes import Clip, clip_kinds, generate_clip, scene_shot

from .targets import Subject, shot_subject

FIRST_SEED = 100_000
_SPIN_SEED = 500_000  # of the further clips of the spin set
SPIN = "spin"


@dataclass(frozen=True)
class Item:
    """One clip of the plan.

    Attributes:
        extra: it belongs to the spin set only, not to the total.
        other: the clip whose tracks it gets as another scene's.
    """

    kind: str
    seed: int
    extra: bool
    other: tuple[str, int]

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"


@dataclass(frozen=True)
class Held:
    """A clip of the plan, made.

    Attributes:
        objects: [T, H, W] int16, the body at each pixel.
        color: the caption's color word of the main body, where that color dominates it.
    """

    item: Item
    size: tuple[int, int]
    subject: Subject
    shot: Shot
    caption: str
    objects: np.ndarray
    color: str | None

    @property
    def seed(self) -> int:
        return self.item.seed

    def other_tracking(self) -> np.ndarray:
        """[T, H, W, 3] uint8, the tracking video of another clip."""
        kind, seed = self.item.other
        return _clip(kind, seed, self.size, len(self.subject.video)).tracking


def plan(count: int, spin: int, kinds: tuple[str, ...] = ()) -> list[Item]:
    """`count` clips spread evenly over the kinds (all, if none is named), and `spin` more of textured bodies that turn
    in place. Raises UsageError for an unknown kind.
    """
    known = tuple(clip_kinds("held-out"))
    if unknown := [kind for kind in kinds if kind not in known]:
        raise UsageError("bad-setting", f"There is no scene kind '{unknown[0]}'.", f"Take of {', '.join(known)}.")
    kinds = kinds or known

    def clip(n: int) -> tuple[str, int]:
        return kinds[n % len(kinds)], FIRST_SEED + n

    items = [Item(*clip(n), extra=False, other=clip(n + 1)) for n in range(count)]
    return items + [Item(SPIN, _SPIN_SEED + n, extra=True, other=clip(n)) for n in range(spin)]


def make_held(item: Item, size: tuple[int, int], frames: int) -> Held:
    """Generate the clip of a plan's item at `size` (w, h)."""
    clip = _clip(item.kind, item.seed, size, frames)
    assert clip.scene is not None  # asked for
    shot = scene_shot(clip.scene, size)
    subject = shot_subject(clip.video, clip.tracking, shot, clip.object_index == 1)
    return Held(item, size, subject, shot, clip.caption, clip.object_index, clip.scene.color)


def _clip(kind: str, seed: int, size: tuple[int, int], frames: int) -> Clip:
    return generate_clip(seed, size, frames, kind, split="held-out", keep_scene=True)
