# SPDX-License-Identifier: GPL-3.0-or-later
"""Smooth bodies from distance fields, and built-up solids: the detailed bodies of scenes that Blender renders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from trackshade_lab.scenes import shapes
from trackshade_lab.scenes.bodies import translations
from trackshade_lab.scenes.description import Body, Part
from trackshade_lab.scenes.materials import sample_material
from trackshade_lab.scenes.shapes import Solid

_CORNERS = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])  # of a grid cell
_STROKES = {  # bars of a seven-segment display: top, upper right, lower right, bottom, lower left, upper left, middle
    "A": "abcefg", "C": "adef", "E": "adefg", "F": "aefg", "H": "bcefg", "L": "def", "P": "abefg", "U": "bcdef",
    "2": "abdeg", "3": "abcdg", "4": "bcfg", "5": "acdfg",
}  # fmt: skip
_STROKE_BOXES = {  # center x, z and size x, z
    "a": (0.0, 0.3, 0.44, 0.12), "b": (0.16, 0.15, 0.12, 0.42), "c": (0.16, -0.15, 0.12, 0.42),
    "d": (0.0, -0.3, 0.44, 0.12), "e": (-0.16, -0.15, 0.12, 0.42), "f": (-0.16, 0.15, 0.12, 0.42),
    "g": (0.0, 0.0, 0.44, 0.12),
}  # fmt: skip


def sculpted_body(rng: np.random.Generator, num_frames: int, scale: float) -> Body:
    """Make a rigid body: an animal's head, a boulder, a column, or a bar of letters."""
    makers = {"animal": _head, "boulder": _boulder, "column": _column, "lettered bar": _letters}
    name = str(rng.choice(list(makers)))
    positions, triangles = makers[name](rng)
    positions = positions * np.float32(scale)
    positions -= (positions.max(0) + positions.min(0)) / 2
    surface = sample_material(rng, size=scale)
    reach = float(np.linalg.norm(positions, axis=1).max())
    part = Part(positions, triangles, surface.row, translations(num_frames))
    return Body([part], f"{surface.words} {name}", reach, float(-positions[:, 2].min()), color=surface.color)


def fuse_parts(body: Body, scale: float) -> Body:
    """Replace the rigid limbs of a body of `scale` metres by a smooth skin that follows them by linear blend skinning.

    The body's parts are roughly capsules along one of their axes.
    """
    ends, radii = map(np.stack, zip(*(_fit_capsule(part.rest) for part in body.parts), strict=True))  # [P, 2, 3], [P]
    joints = np.stack([part.matrices for part in body.parts])  # [P, T, 4, 4]
    posed = np.einsum("ptij,pej->tpei", joints[:, :, :3, :3], ends) + joints[:, :, None, :3, 3].swapaxes(0, 1)
    # Bind the skin in the pose that is spread out most, so that limbs do not fuse with each other.
    bind = int(np.argmax(np.linalg.norm(posed - posed.mean(axis=(1, 2), keepdims=True), axis=-1).sum(axis=(1, 2))))
    step = 0.03 * scale

    def distances(points: np.ndarray) -> np.ndarray:
        """Return the signed distances [P, N] of points [N, 3] from the limbs."""
        return np.stack([_capsule_distance(points, a, b, r) for (a, b), r in zip(posed[bind], radii, strict=True)])

    low, high = posed[bind].min(axis=(0, 1)) - radii.max(), posed[bind].max(axis=(0, 1)) + radii.max()
    rest, triangles = _extract_surface(lambda p: _smooth_minimum(distances(p), 0.02 * scale), low, high, step)
    nearest = distances(rest)
    weights = np.exp(-(nearest - nearest.min(axis=0)) / (0.035 * scale))
    weights /= weights.sum(axis=0)
    moved = joints @ np.linalg.inv(joints[:, bind])[:, None]  # [P, T, 4, 4] from the bind pose
    skinned = np.einsum("pn,ptij,nj->tni", weights, moved[..., :3, :3], rest, optimize=True)
    skinned += np.einsum("pn,ptj->tnj", weights, moved[..., :3, 3], optimize=True)
    return replace(body, parts=_split_by_material(body, rest, triangles, skinned, nearest.argmin(axis=0)))


def _split_by_material(
    body: Body,
    rest: np.ndarray,  # [V, 3]
    triangles: np.ndarray,  # [F, 3]
    skinned: np.ndarray,  # [T, V, 3]
    owner: np.ndarray,  # [V] nearest part of the body
) -> list[Part]:
    rows = {part.material.tobytes(): part.material for part in body.parts}  # in order of importance
    number = np.array([list(rows).index(part.material.tobytes()) for part in body.parts])[owner[triangles[:, 0]]]
    parts = []
    for n, row in enumerate(rows.values()):
        used, local = np.unique(triangles[number == n], return_inverse=True)
        if len(used):
            identity = translations(len(skinned))
            faces = local.reshape(-1, 3).astype(np.int32)
            parts.append(Part(rest[used], faces, row, identity, np.ascontiguousarray(skinned[:, used], np.float32)))
    return parts


def _fit_capsule(rest: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit a capsule along the longest axis of vertices [V, 3]; return its ends [2, 3] and its radius."""
    center, half = (rest.max(0) + rest.min(0)) / 2, (rest.max(0) - rest.min(0)) / 2
    radius = float(np.sort(half)[:2].mean())
    offset = np.eye(3)[half.argmax()] * max(half.max() - radius, 1e-4)
    return np.stack([center - offset, center + offset]), radius


def _capsule_distance(points: np.ndarray, head: np.ndarray, tail: np.ndarray, radius: float) -> np.ndarray:
    """Return the signed distances [N] of points [N, 3] from a capsule."""
    along = tail - head
    share = np.clip((points - head) @ along / (along @ along), 0, 1)
    return np.linalg.norm(points - head - share[:, None] * along, axis=1) - radius


def _smooth_minimum(distances: np.ndarray, width: float) -> np.ndarray:
    """Return a minimum over the first axis that is rounded where distances differ by less than about `width`."""
    least = distances.min(axis=0)
    return least - width * np.log(np.exp((least - distances) / width).sum(axis=0))


def _extract_surface(
    field: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, step: float
) -> Solid:
    """Triangulate the zero surface of a field by naive surface nets (Gibson 1998), on a grid with cells of edge `step`.

    The field maps points [N, 3] to values [N], negative inside; `low` and `high` [3] are corners of a box around it.
    """
    axes = [np.arange(a - 2 * step, b + 3 * step, step) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    values = field(grid.reshape(-1, 3)).reshape(grid.shape[:3])
    shape = np.array(values.shape) - 1
    corners = np.stack([values[i : i + shape[0], j : j + shape[1], k : k + shape[2]] for i, j, k in _CORNERS], axis=-1)
    cells = np.nonzero((corners.min(axis=-1) < 0) & (corners.max(axis=-1) >= 0))
    corners = corners[cells]  # [C, 8]
    total, count = np.zeros((len(corners), 3)), np.zeros((len(corners), 1))
    for a in range(8):
        for b in range(a + 1, 8):
            if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1:
                crosses = (corners[:, a] < 0) != (corners[:, b] < 0)
                share = np.divide(
                    corners[:, a], corners[:, a] - corners[:, b], where=crosses, out=np.zeros(len(corners))
                )
                total += np.where(crosses[:, None], _CORNERS[a] + share[:, None] * (_CORNERS[b] - _CORNERS[a]), 0.0)
                count += crosses[:, None]
    positions = grid[0, 0, 0] + (np.stack(cells, axis=1) + total / count) * step
    numbers = np.full(shape, -1)
    numbers[cells] = np.arange(len(corners))
    quads = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        sign = np.moveaxis(values < 0, (axis, u, v), (0, 1, 2))
        around = np.moveaxis(numbers, (axis, u, v), (0, 1, 2))
        starts, ends = sign[:-1, 1:-1, 1:-1], sign[1:, 1:-1, 1:-1]
        quad = np.stack([around[:, :-1, :-1], around[:, 1:, :-1], around[:, 1:, 1:], around[:, :-1, 1:]], axis=-1)
        quads += [quad[starts & ~ends], quad[~starts & ends][:, ::-1]]
    faces = np.concatenate(quads)
    return positions.astype(np.float32), faces[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).astype(np.int32)


def _head(rng: np.random.Generator) -> Solid:
    """Make an animal's head that faces −y: skull, muzzle, ears and brows."""
    wide, long, ear = rng.uniform(0.34, 0.46), rng.uniform(0.16, 0.4), rng.uniform(0.12, 0.34)
    lumps = [((0.0, 0.0, 0.0), (wide, 0.4, 0.42)), ((0.0, -0.32 - long / 2, -0.14), (0.2, long, 0.17))]
    for side in (-1, 1):
        lumps.append(((side * wide, 0.05, 0.2 + 0.5 * ear), (0.11, 0.06, 0.1 + ear)))
        lumps.append(((side * 0.16, -0.3, 0.17), (0.12, 0.1, 0.07)))

    def field(points: np.ndarray) -> np.ndarray:
        sizes = np.array([size for _, size in lumps])[:, None]
        away = np.linalg.norm((points - np.array([center for center, _ in lumps])[:, None]) / sizes, axis=-1)
        return _smooth_minimum((away - 1) * sizes.min(axis=-1), 0.03)

    return _extract_surface(field, np.array([-0.6, -1.0, -0.5]), np.array([0.6, 0.5, 0.9]), 0.04)


def _boulder(rng: np.random.Generator) -> Solid:
    """Make a sphere displaced by waves of several lengths."""
    positions, triangles = shapes.sphere(0.5, 48, 33)
    bump = np.zeros(len(positions))
    for frequency in (3.0, 3.0, 6.0, 6.0, 12.0, 12.0, 18.0):
        bump += np.sin(positions @ rng.normal(0, frequency, 3) + rng.uniform(0, 6.28)) / frequency
    return (positions * (1 + rng.uniform(0.25, 0.5) * bump)[:, None]).astype(np.float32), triangles


def _column(rng: np.random.Generator) -> Solid:
    """Make a stack of equal pieces."""
    count = int(rng.integers(3, 6))
    height = 1.2 / count
    piece, triangles = shapes.torus(0.3, 0.55 * height) if rng.random() < 0.5 else shapes.box((0.6, 0.6, 0.94 * height))
    return shapes.join(*((piece + shapes.xyz(0, 0, n * height), triangles) for n in range(count)))


def _letters(rng: np.random.Generator) -> Solid:
    """Make two to four block letters side by side along x."""
    depth = rng.uniform(0.12, 0.3)
    bars = []
    for n, letter in enumerate(rng.choice(list(_STROKES), int(rng.integers(2, 5)))):
        for stroke in _STROKES[letter]:
            x, z, width, height = _STROKE_BOXES[stroke]
            bar, triangles = shapes.box((width, depth, height), 1)
            bars.append((bar + shapes.xyz(0.56 * n + x, 0, z), triangles))
    return shapes.join(*bars)
