# SPDX-License-Identifier: GPL-3.0-or-later
"""Captions of generated scenes, built from templates, and the color words they use."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

Color = tuple[float, float, float]

# The eight color names that captions use for bodies, sRGB 0..1.
COLORS: dict[str, Color] = {
    "red": (0.83, 0.11, 0.11),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.95, 0.86, 0.15),
    "green": (0.16, 0.62, 0.20),
    "blue": (0.13, 0.29, 0.83),
    "purple": (0.51, 0.18, 0.69),
    "pink": (0.95, 0.50, 0.67),
    "white": (0.92, 0.92, 0.90),
}
# Further colors, for the second color of a pattern, for grounds and for tires.
SECONDARY_COLORS: dict[str, Color] = {
    "black": (0.08, 0.08, 0.09),
    "grey": (0.50, 0.50, 0.52),
    "brown": (0.45, 0.29, 0.16),
    "teal": (0.12, 0.50, 0.50),
}
MAX_WORDS = 29  # words and punctuation marks; the text encoder's 32 tokens leave room for the end of the text


@dataclass(frozen=True)
class CaptionFacts:
    """The facts about a scene that its caption may state."""

    kind: str  # kind of scene, such as "spin"; see `clip.clip_kinds`
    # description and action of each body, the main body first, such as ("red box", "tumbling")
    bodies: tuple[tuple[str, str], ...]
    surroundings: str  # where the bodies are, such as "on a checked grey floor"
    camera: str  # what the camera does, such as "pans left"; empty for a static camera
    is_camera_moving: bool  # whether the camera moves at all
    color: str | None = None  # color name of most of the main body's surface, or None

    def color_in(self, text: str) -> str | None:
        """Return the main body's color name if `text` contains it."""
        return self.color if self.color in text.split() else None


def add_article(words: str) -> str:
    """Return `words` with "a" or "an" in front."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def count_words(text: str) -> int:
    """Count words and groups of punctuation marks, as the model's tokenizer does."""
    return len(re.findall(r"\w+|[^\w\s]+", text))


def write_caption(rng: np.random.Generator, facts: CaptionFacts) -> str:
    """Write one sentence about the bodies, their surroundings and the camera.

    The least important parts are left out until the sentence has at most `MAX_WORDS` words.
    """
    named = min(len(facts.bodies), int(rng.choice([1, 2, 3], p=[0.15, 0.6, 0.25])))
    opening = ""
    if facts.kind == "frozen-time":
        opening = str(rng.choice(["", "frozen in time, ", "a still scene: "]))
    elif facts.camera and rng.random() < 0.12:
        opening, facts = f"the camera {facts.camera}: ", replace(facts, camera="")
    ending = ""
    if facts.camera:
        joint = [", the camera ", ", as the camera ", "; the camera ", " while the camera "]
        ending = str(rng.choice(joint)) + facts.camera
    elif not facts.is_camera_moving and not opening and rng.random() < 0.35:
        ending = str(rng.choice([", the camera is still", ", static camera", ", seen by a fixed camera"]))
    surroundings = facts.surroundings if rng.random() < 0.9 else ""
    mention_others = rng.random() < 0.7
    for count, place, end in (
        (named, surroundings, ending),
        (min(named, 2), surroundings, ending),
        (1, surroundings, ending),
        (1, surroundings.split(" in front")[0], ending),
        (1, "", ending),
        (1, "", ""),
    ):
        text = opening + " ".join(x for x in (_list_bodies(facts.bodies, count, mention_others), place) if x) + end
        if count_words(text) <= MAX_WORDS:
            return text
    return add_article(facts.bodies[0][0])


def _list_bodies(bodies: tuple[tuple[str, str], ...], count: int, mention_others: bool) -> str:
    parts = [f"{add_article(words)} {action}".strip() for words, action in bodies[:count]]
    more = len(bodies) - count
    if more and mention_others:
        parts.append("something else" if more == 1 else "several others")
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
