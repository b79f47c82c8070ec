# SPDX-License-Identifier: GPL-3.0-or-later
"""Captions of procedural clips, from templates."""

from __future__ import annotations

import numpy as np


def article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def caption(
    rng: np.random.Generator,
    kind: str,
    bodies: list[tuple[str, str]],
    surroundings: str,
    camera: str,
    moving: bool,
) -> str:
    """One sentence: what (words, action per body, the main one first), where, and what the camera does."""
    named = bodies[: 3 if kind != "crowd" else 2]
    parts = [f"{article(words)} {action}".strip() for words, action in named]
    if len(bodies) > len(named):
        more = len(bodies) - len(named)
        parts.append(f"{more} other {'thing' if more == 1 else 'things'}" if rng.random() < 0.5 else "several others")
    sentence = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    sentence = f"{sentence} {surroundings}"
    if kind == "frozen-time":
        sentence = str(rng.choice(["", "frozen in time, ", "a still scene: "])) + sentence
    if camera:
        sentence += str(rng.choice([", the camera ", ", as the camera ", "; the camera "])) + camera
    elif not moving and rng.random() < 0.4:
        sentence += str(rng.choice([", the camera is still", ", static camera", ", seen by a fixed camera"]))
    return sentence
