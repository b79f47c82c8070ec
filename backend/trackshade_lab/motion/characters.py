# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged characters in generated clips, in place of figures of capsules."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trackshade.core.errors import UsageError
from trackshade.motion.characters import POINTS, Character, load_character
from trackshade.motion.framing import LANDMARKS

from . import figures
from .meshes import Paint

_IN_FIGURES = [figures.POINTS.index(name) for name in POINTS]


@dataclass(frozen=True, eq=False)
class CharacterLibrary:
    """Characters from files.

    Attributes:
        characters: the characters.
        fraction: fraction of figures that they are.
    """

    characters: tuple[Character, ...]
    fraction: float


def load_characters(paths: Sequence[Path], fraction: float = 1.0) -> CharacterLibrary:
    """Read files that `trackshade character` has written, and those in folders.

    Raises:
        UsageError: a folder has none.
        ShotError: a file is missing, damaged, or no character.
    """
    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*.npz")) if path.is_dir() else [path]
        if not found:
            raise UsageError(
                "no-characters", f"There are no characters in {path}.", "Write some with 'trackshade character'."
            )
        files += found
    return CharacterLibrary(tuple(load_character(file) for file in files), fraction)


@dataclass(frozen=True, eq=False)
class Role:
    """A character that a clip shows, its size as a factor, and its colors."""

    character: Character
    size: float
    paint: Paint

    def place_points(
        self,
        transforms: np.ndarray,  # [T, J, 3, 4]
    ) -> np.ndarray:
        """Return `figures.POINTS` in poses, [T, P, 3] metres; those that characters do not have are at its head."""
        known = self.size * self.character.place_points(transforms)
        points = np.repeat(known[:, [LANDMARKS.index("head_top")]], len(figures.POINTS), axis=1)
        points[:, _IN_FIGURES] = known
        return points


def sample_roles(rng: np.random.Generator, count: int, library: CharacterLibrary) -> list[Role | None]:
    """Sample which of N clips show a character, and which one; the others show figures of capsules.

    Half of the characters have their own colors; of the others, each material is mixed with a color of its own.
    """
    is_shown = rng.random(count) < library.fraction
    chosen = rng.integers(len(library.characters), size=count)
    shares = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0.3, 0.9, count))
    sizes = rng.uniform(0.95, 1.05, count)
    roles: list[Role | None] = []
    for number in range(count):
        if not is_shown[number]:
            roles.append(None)
            continue
        character = library.characters[chosen[number]]
        mixed = rng.random((int(character.materials.max()) + 1, 3), np.float32)
        paint = Paint(_colors(character), character.materials, mixed, float(shares[number]), np.ones(3, np.float32))
        roles.append(Role(character, float(sizes[number]), paint))
    return roles


@functools.lru_cache(maxsize=256)
def _colors(character: Character) -> np.ndarray:
    return character.colors.astype(np.float32) / np.float32(255)


def recolor_role(rng: np.random.Generator, role: Role | None) -> Role | None:
    """Return the same character in colors that are a little different."""
    tint = rng.uniform(0.7, 1.3, 3).astype(np.float32)
    return None if role is None else replace(role, paint=replace(role.paint, tint=tint))
