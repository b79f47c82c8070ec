# SPDX-License-Identifier: GPL-3.0-or-later
"""Captions of procedural clips, from templates."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

LIMIT = 29  # words and marks, so that one more token ends the text


@dataclass(frozen=True)
class Told:
    """What a caption may tell."""

    kind: str
    bodies: tuple[tuple[str, str], ...]  # words and action of each, the main one first
    surroundings: str
    camera: str  # what it does, "" where it is still
    moving: bool
    color: str | None = None  # of most of the main body

    def color_in(self, text: str) -> str | None:
        """The main body's color, if the caption tells it."""
        return self.color if self.color in text.split() else None


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def length(text: str) -> int:
    """Words and groups of marks, which is how the model's tokenizer counts."""
    return len(re.findall(r"\w+|[^\w\s]+", text))


def caption(rng: np.random.Generator, told: Told) -> str:
    """One sentence: what, where, and what the camera does; the least important is left out where it gets too long."""
    named = min(len(told.bodies), int(rng.choice([1, 2, 3], p=[0.15, 0.6, 0.25])))
    opening = ""
    if told.kind == "frozen-time":
        opening = str(rng.choice(["", "frozen in time, ", "a still scene: "]))
    elif told.camera and rng.random() < 0.12:
        opening, told = f"the camera {told.camera}: ", replace(told, camera="")
    ending = ""
    if told.camera:
        joint = [", the camera ", ", as the camera ", "; the camera ", " while the camera "]
        ending = str(rng.choice(joint)) + told.camera
    elif not told.moving and not opening and rng.random() < 0.35:
        ending = str(rng.choice([", the camera is still", ", static camera", ", seen by a fixed camera"]))
    where = told.surroundings if rng.random() < 0.9 else ""
    others = rng.random() < 0.7
    for count, place, end in (
        (named, where, ending),
        (min(named, 2), where, ending),
        (1, where, ending),
        (1, where.split(" in front")[0], ending),
        (1, "", ending),
        (1, "", ""),
    ):
        text = opening + " ".join(x for x in (_bodies(told.bodies, count, others), place) if x) + end
        if length(text) <= LIMIT:
            return text
    return article(told.bodies[0][0])


def _bodies(bodies: tuple[tuple[str, str], ...], count: int, others: bool) -> str:
    parts = [f"{article(words)} {action}".strip() for words, action in bodies[:count]]
    more = len(bodies) - count
    if more and others:
        parts.append("something else" if more == 1 else "several others")
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
