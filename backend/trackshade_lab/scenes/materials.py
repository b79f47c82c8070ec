# SPDX-License-Identifier: GPL-3.0-or-later
"""Materials of generated bodies: colors, textures and finishes, and the words that describe them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.colors import srgb_to_linear
from trackshade_lab.scenes import shading, textures
from trackshade_lab.scenes.captions import COLORS, SECONDARY_COLORS, Color

# Texture number, probability, cells per metre, and words for captions.
TEXTURES: dict[str, tuple[int, float, float, tuple[str, ...]]] = {
    "plain": (textures.PLAIN, 0.46, 1.0, ("", "", "", "plain")),
    "striped": (textures.STRIPES, 0.1, 3.2, ("striped",)),
    "checked": (textures.CHECKS, 0.08, 3.2, ("checked", "chequered")),
    "mottled": (textures.NOISE, 0.06, 3.0, ("mottled",)),
    "two-tone": (textures.TWO_TONE, 0.06, 1.0, ("two-tone",)),
    "spotted": (textures.SPOTS, 0.07, 2.8, ("spotted", "dotted")),
    "shaded": (textures.GRADIENT, 0.04, 1.2, ("shaded",)),
    "marbled": (textures.MARBLE, 0.05, 2.6, ("marbled", "marble")),
    "lettered": (textures.GLYPHS, 0.05, 4.6, ("lettered", "printed")),
    "ringed": (textures.RINGS, 0.03, 3.4, ("ringed",)),
}
# Only in held-out clips, to measure whether an unknown pattern moves with its surface.
UNSEEN_TEXTURES: dict[str, tuple[int, float, float, tuple[str, ...]]] = {
    "zigzag": (textures.ZIGZAG, 1.0, 3.0, ("zigzag",))
}
# Textures that show mostly the first color.
FIRST_COLOR_DOMINATES = ("plain", "lettered")


@dataclass(frozen=True)
class Material:
    """A randomly sampled material."""

    row: np.ndarray  # [MATERIAL_SIZE] float32 packed parameters; see `shading`
    words: str  # description for captions, such as "shiny red striped"
    color: str | None  # name of the first color if most of the surface shows it, else None


def sample_color(rng: np.random.Generator, table: dict[str, Color]) -> tuple[str, np.ndarray]:
    """Sample the name of a color and a linear variation of it, [3]."""
    name = str(rng.choice(list(table)))
    rgb = np.array(table[name]) * rng.uniform(0.86, 1.06) + rng.normal(0.0, 0.02, 3)
    return name, srgb_to_linear(np.clip(rgb, 0.02, 0.97))


def sample_pattern(rng: np.random.Generator) -> str:
    """Sample the name of a texture other than "plain"."""
    often = {name: row[1] for name, row in TEXTURES.items() if name != "plain"}
    return str(rng.choice(list(often), p=np.array(list(often.values())) / sum(often.values())))


def sample_material(rng: np.random.Generator, texture: str | None = None, size: float = 1.0) -> Material:
    """Sample a material for a body of about `size` metres, with a texture of `TEXTURES` or `UNSEEN_TEXTURES`."""
    if texture is None:
        texture = str(rng.choice(list(TEXTURES), p=[often for _, often, _, _ in TEXTURES.values()]))
    number, _, cells, names = (TEXTURES | UNSEEN_TEXTURES)[texture]
    row = np.zeros(shading.MATERIAL_SIZE, np.float32)
    first, row[0:3] = sample_color(rng, COLORS)
    second = _sample_second_color(rng, first, row)
    row[shading.TEXTURE] = number
    row[shading.SCALE] = cells * rng.uniform(0.6, 1.35) / size
    direction = rng.normal(0.0, 1.0, 3) if rng.random() < 0.6 else np.eye(3)[rng.integers(3)]
    row[shading.DIRECTION : shading.DIRECTION + 3] = direction / np.linalg.norm(direction)
    row[shading.SHIFT] = rng.uniform(0.0, 50.0)
    finish = _sample_finish(rng, row, texture == "plain")
    name = str(rng.choice(names))
    colors = f"{first} and {second}" if texture in ("two-tone", "spotted") and rng.random() < 0.4 else first
    order = (finish, name, colors) if texture == "plain" else (finish, colors, name)
    words = " ".join(word for word in order if word)
    return Material(row, words, first if texture in FIRST_COLOR_DOMINATES else None)


def _sample_second_color(rng: np.random.Generator, first: str, row: np.ndarray) -> str:
    """Set a second color that differs clearly from the first; return its name."""
    name = first
    for _ in range(8):
        name, row[3:6] = sample_color(rng, {n: c for n, c in (COLORS | SECONDARY_COLORS).items() if n != first})
        if np.abs(row[3:6] - row[0:3]).max() > 0.3:
            break
    return name


def _sample_finish(rng: np.random.Generator, row: np.ndarray, is_plain: bool) -> str:
    """Set highlights and reflections; return a word for them, or an empty string."""
    kind = str(rng.choice(["matt", "satin", "shiny", "metallic"], p=[0.4, 0.25, 0.27, 0.08]))
    if kind == "metallic" and not is_plain:
        kind = "shiny"
    gloss, mirror, metal = {
        "matt": (0.0, 0.0, 0.0),
        "satin": (0.2, 0.06, 0.0),
        "shiny": (rng.uniform(0.6, 1.0), rng.uniform(0.15, 0.35), 0.0),
        "metallic": (0.7, rng.uniform(0.7, 1.0), 0.85),
    }[kind]
    row[shading.GLOSS], row[shading.MIRROR], row[shading.METAL] = gloss, mirror, metal
    if kind == "metallic":
        return kind
    if kind == "shiny" and rng.random() < 0.75:
        return str(rng.choice(["shiny", "glossy"]))
    return "matt" if kind == "matt" and rng.random() < 0.3 else ""


def plain_material(rng: np.random.Generator, rgb: Color) -> np.ndarray:
    """Return the packed parameters of a matt material of about one sRGB color."""
    row = np.zeros(shading.MATERIAL_SIZE, np.float32)
    row[0:3] = srgb_to_linear(np.clip(np.array(rgb) + rng.normal(0, 0.02, 3), 0.02, 0.97))
    return row
