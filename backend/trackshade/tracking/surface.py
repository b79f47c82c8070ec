# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of tracked points, and when each point is seen."""

from __future__ import annotations

import cv2
import numpy as np

from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.shot.lifted import LiftedMesh
from trackshade.tracking.bundle import Solution
from trackshade.tracking.moving import MovingPart
from trackshade.tracking.points import ALIKE, PointSolve

_JUMP = 0.05  # of the inverse depth: most that neighbors may differ from what the slope of either predicts
_STEP = 0.35  # and most that they may differ at all
_HIDDEN = 1.04  # times the depth of the nearest surface beyond which a point is hidden
_SURE = 0.75  # correlation of a point that is seen in spite of a surface in front of it
_TEXTURE = 3.0  # levels: patches with less contrast are alike everywhere


def positions(solution: Solution, points: np.ndarray, inverse_depths: np.ndarray) -> np.ndarray:
    """Return points of the first frame in its camera's space, [N, 3]."""
    return solution.rays(points) / inverse_depths[:, None]


def triangles(solved: PointSolve, moving: np.ndarray) -> np.ndarray:
    """Join neighbors on the grid where the surface is continuous and stands still: [F, 3], counter-clockwise."""
    cut = _cut_edges(solved)
    return _grid_triangles(solved.grid, lambda a, b: ~moving[a] & ~moving[b] & ~cut(a, b))


def _cut_edges(solved: PointSolve):
    rho, slope, points = solved.shape[:, 0], solved.shape[:, 1:], solved.points

    def cut(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        apart = points[b] - points[a]
        change = rho[b] - rho[a]
        typical = np.minimum(rho[a], rho[b])
        surprise = np.minimum(
            np.abs(change - (slope[a] * apart).sum(axis=1)), np.abs(change - (slope[b] * apart).sum(axis=1))
        )
        return (surprise > _JUMP * typical) | (np.abs(change) > _STEP * typical)

    return cut


def _grid_triangles(grid: tuple[int, int], joined) -> np.ndarray:
    """Return the triangles of a grid all of whose edges are joined, [F, 3] int32; the picture's y points downwards."""
    rows, columns = grid
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel()
    ab, ac, bd, cd, bc, ad = joined(a, b), joined(a, c), joined(b, d), joined(c, d), joined(b, c), joined(a, d)
    # Each cell is split along a diagonal that is joined, if there is one.
    first = bc
    parts = [
        np.stack([a, c, b], axis=1)[first & ab & ac],
        np.stack([b, c, d], axis=1)[first & bd & cd],
        np.stack([a, c, d], axis=1)[~first & ad & ac & cd],
        np.stack([a, d, b], axis=1)[~first & ad & ab & bd],
    ]
    return np.concatenate(parts).astype(np.int32)


def visibility(solved: PointSolve, moving: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return when each point is seen, if it stands still, [T, N].

    A point is hidden where it is outside the picture, where its patch looks different, and where a surface of the first
    frame is in front of it, unless its patch looks very much the same.
    """
    solution, count = solved.solution, len(solved.pixels)
    place = positions(solution, solved.points, solved.shape[:, 0])
    faces = triangles(solved, moving)
    inside = ((solved.pixels >= 0) & (solved.pixels < size)).all(axis=2)
    matrix = np.array([[solution.focal, 0, solution.center[0]], [0, solution.focal, solution.center[1]], [0, 0, 1]])
    matrix[:2] /= 2  # at half the size
    half = Buffers.empty((max(1, size[0] // 2), max(1, size[1] // 2)))
    plain = solved.contrast < _TEXTURE
    seen = np.zeros(solved.alike.shape, bool)
    for t in range(count):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = solution.rotations[t], solution.translations[t]
        screen = to_screen(place, pose, matrix, False)
        half.clear()
        draw(half, screen, faces, 0)
        x = np.clip(solved.pixels[t, :, 0] / 2, 0, half.depth.shape[1] - 1).astype(int)
        y = np.clip(solved.pixels[t, :, 1] / 2, 0, half.depth.shape[0] - 1).astype(int)
        behind = screen[:, 3] > _HIDDEN * half.depth[y, x]
        alike = solved.alike[t]
        # At the picture's rim, patches are not inside.
        looks = (alike > ALIKE) | plain | (alike <= -1)
        seen[t] = inside[t] & (screen[:, 3] > 0) & looks & (~behind | (alike > _SURE))
    seen[0] = True
    return _without_blinks(seen)


def _without_blinks(seen: np.ndarray) -> np.ndarray:
    """Return visibility without changes that last a single frame."""
    out = seen.copy()
    alone = (seen[1:-1] != seen[:-2]) & (seen[1:-1] != seen[2:])
    out[1:-1] ^= alone
    return out


def static_mesh(
    solved: PointSolve, moving: np.ndarray, seen: np.ndarray, scale: float, to_world: np.ndarray
) -> LiftedMesh:
    """Return the mesh of what stands still; `scale` is in metres per unit."""
    kept = np.flatnonzero(~moving)
    number = np.full(len(moving), -1, np.int32)
    number[kept] = np.arange(len(kept))
    place = positions(solved.solution, solved.points[kept], solved.shape[kept, 0]) * scale @ to_world.T
    pivot = np.median(place, axis=0) if len(place) else np.zeros(3)
    faces = number[triangles(solved, moving)]
    return LiftedMesh(
        "Static", "points", place[None].astype(np.float32), faces, seen[:, kept], pivot.astype(np.float64)
    )


def moving_mesh(
    name: str, part: MovingPart, solved: PointSolve, moving: np.ndarray, scale: float, to_world: np.ndarray
) -> LiftedMesh:
    """Return the mesh of a moving part: a card at the depth of what it stands on, which follows its size."""
    depth = _depth_of(part, solved, moving) * scale
    solution = solved.solution
    places = []
    for t, pixels in enumerate(part.pixels):
        local = solution.rays(pixels) * (depth / part.scales[t])
        places.append((local - solution.translations[t] * scale) @ solution.rotations[t] @ to_world.T)
    place = np.stack(places).astype(np.float32)
    number = np.full(len(moving), -1, np.int32)
    number[part.points] = np.arange(len(part.points))
    faces = number[_grid_triangles(solved.grid, lambda a, b: (number[a] >= 0) & (number[b] >= 0))]
    return LiftedMesh(name, "points", place, faces, part.visible, place[0].mean(axis=0).astype(np.float64))


def _depth_of(part: MovingPart, solved: PointSolve, moving: np.ndarray) -> float:
    """Return the depth of a moving part in the first frame: of the still points around its foot, else around it."""
    rows, columns = solved.grid
    mask = np.zeros(solved.grid, np.uint8)
    mask.ravel()[part.points] = 1
    ring = cv2.dilate(mask, np.ones((5, 5), np.uint8)).astype(bool).ravel() & ~moving
    if not ring.any():
        return 1 / float(np.median(solved.shape[:, 0]))
    foot = int(np.flatnonzero(mask.any(axis=1)).max())
    below = ring & (np.arange(rows * columns) // columns >= foot)
    chosen = below if below.any() else ring
    return 1 / float(np.median(solved.shape[chosen, 0]))
