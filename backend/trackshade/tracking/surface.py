# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of tracked points, and when each point is seen."""

from __future__ import annotations

import cv2
import numpy as np

from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.shot.lifted import LiftedMesh
from trackshade.tracking.bundle import Solution
from trackshade.tracking.figures import Figures
from trackshade.tracking.joining import cut_edges, grid_triangles
from trackshade.tracking.layers import build_layers
from trackshade.tracking.points import ALIKE, PointSolve
from trackshade.tracking.rims import static_rim

_HIDDEN = 1.04  # times the depth of the nearest surface beyond which a point is hidden
_SURE = 0.75  # correlation of a point that is seen in spite of a surface in front of it
_SKY, _SKY_COLUMNS, _SKY_ROWS = 1.5, 24, 13  # radius of the sky, times the farthest depth; its points
_FEW = 3  # still points that a thing covers, for their depth to count
_APART = 0.002  # of the depth of what they stand on by which parts of what moves are before it and each other
_TEXTURE = 3.0  # levels: patches with less contrast are alike everywhere


def positions(solution: Solution, points: np.ndarray, inverse_depths: np.ndarray) -> np.ndarray:
    """Return points of the first frame in its camera's space, [N, 3]."""
    return solution.rays(points) / inverse_depths[:, None]


def triangles(solved: PointSolve, moving: np.ndarray) -> np.ndarray:
    """Join neighbors on the grid where the surface is continuous and stands still: [F, 3], counter-clockwise."""
    cut = cut_edges(solved.points, solved.shape[:, 0], solved.shape[:, 1:])
    return grid_triangles(solved.grid, lambda a, b: ~moving[a] & ~moving[b] & ~cut(a, b))


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


def static_meshes(
    solved: PointSolve,
    moving: np.ndarray,
    behind: np.ndarray,
    seen: np.ndarray,
    image: np.ndarray,
    scale: float,
    to_world: np.ndarray,
) -> list[LiftedMesh]:
    """Return the meshes of what stands still: the background, and what is in front of it, if there is anything.

    They are two, so that what is hidden of the background takes no color of what hides it.

    Args:
        solved: the points.
        moving: [N] which of them move by themselves.
        behind: [N] inverse depths of what stands still there.
        seen: [T, N] when each is seen.
        image: [H, W, 3] uint8, the first frame.
        scale: metres per unit.
        to_world: [3, 3] from the first camera's axes to the world's.
    """
    layers = build_layers(solved, moving, behind, (image.shape[1], image.shape[0]))
    rim = static_rim(solved, moving, layers.is_front, image)
    pixels = np.concatenate([solved.points, layers.pixels, rim.pixels])
    inverse = np.concatenate([solved.shape[:, 0], layers.inverse, rim.inverse(solved)])
    place = positions(solved.solution, pixels, inverse) * scale @ to_world.T
    visible = np.concatenate([seen, np.ones((len(seen), len(pixels) - len(moving)), bool)], axis=1)
    front = np.concatenate([layers.front, len(pixels) - len(rim.pixels) + rim.triangles])
    meshes = []
    for name, own, faces in (
        ("Static", ~moving & ~layers.is_front, layers.back),
        ("Static in Front", ~moving & layers.is_front, front),
    ):
        points = np.flatnonzero(own)
        more = np.setdiff1d(faces, points)
        vertices = np.concatenate([points, more])
        if not len(vertices):
            continue
        number = np.full(len(pixels), -1, np.int32)
        number[vertices] = np.arange(len(vertices))
        pivot = np.median(place[points if len(points) else vertices], axis=0)
        meshes.append(LiftedMesh(
            name, "points", place[vertices][None].astype(np.float32), number[faces], visible[:, vertices],
            pivot.astype(np.float64), added=len(more),
        ))  # fmt: skip
    return meshes


def sky_mesh(solution: Solution, depth: float, scale: float, to_world: np.ndarray) -> LiftedMesh:
    """Return a sphere around the cameras, seen from within: what is behind everything.

    Args:
        solution: the cameras.
        depth: of the farthest point, in the units of the solution.
        scale: metres per unit.
        to_world: [3, 3] from the first camera's axes to the world's.
    """
    centers = -np.einsum("tji,tj->ti", solution.rotations, solution.translations)
    radius = _SKY * (depth + float(np.linalg.norm(centers, axis=1).max()))
    turn, tilt = np.meshgrid(np.linspace(0, 2 * np.pi, _SKY_COLUMNS + 1), np.linspace(-np.pi / 2, np.pi / 2, _SKY_ROWS))
    place = np.stack([np.cos(tilt) * np.sin(turn), np.sin(tilt), np.cos(tilt) * np.cos(turn)], axis=-1).reshape(-1, 3)
    faces = grid_triangles(turn.shape, lambda a, b: np.ones(len(a), bool))
    a, b, c = place[faces].swapaxes(0, 1)
    faces = faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-6]  # some are none at the poles
    world = (centers.mean(axis=0) + radius * place) * scale @ to_world.T
    return LiftedMesh(
        "Sky", "sky", world[None].astype(np.float32), faces, np.zeros((0, len(world)), bool), world.mean(axis=0)
    )


def moving_meshes(
    figures: Figures,
    solved: PointSolve,
    moving: np.ndarray,
    behind: np.ndarray,
    size: tuple[int, int],
    scale: float,
    to_world: np.ndarray,
) -> list[LiftedMesh]:
    """Return the meshes of parts that move: cards at the depth of what their thing stands on, which follow its size.

    What appears later is in the mesh of the part that it belongs to.

    Args:
        figures: the parts.
        solved: the points of the first frame.
        moving: [N] which of them move by themselves.
        behind: [N] inverse depths of what stands still there.
        size: (width, height) of the frames, pixels.
        scale: metres per unit.
        to_world: [3, 3] from the first camera's axes to the world's.
    """
    solution = solved.solution
    ratio = np.array(figures.labels.shape[::-1]) / size
    x, y = np.clip((solved.points * ratio).astype(int), 0, np.array(figures.labels.shape[::-1]) - 1).T
    still = positions(solution, solved.points, np.where(moving, behind, solved.shape[:, 0]))
    depths = []
    for thing, sizes in enumerate(figures.scales):
        own = _depth_of(figures.labels[y, x] == thing, solved, moving) / sizes
        depths.append(np.minimum(own, _depths_behind(thing, figures, solution, still, ratio)) * scale)
    meshes = []
    for owner in np.unique(figures.owners):
        places, seen, faces, added, start = [], [], [], [], 0
        for number in np.flatnonzero(figures.owners == owner):
            part = figures.parts[number]
            apart = 1 - _APART * (1 + len(figures.parts) - figures.ranks[number])
            depth = depths[part.thing] * apart
            local = solution.rays(part.pixels / ratio) * depth[:, None, None]
            local -= (solution.translations * scale)[:, None]
            places.append(np.einsum("tvi,tij->tvj", local, solution.rotations) @ to_world.T)
            seen.append(part.visible)
            faces.append(part.outline.triangles + start)
            added.append(~part.outline.inner | (part.first > 0))
            start += len(part.outline.pixels)
        place, visible, more = np.concatenate(places, axis=1), np.concatenate(seen, axis=1), np.concatenate(added)
        order = np.argsort(more, kind="stable")
        number = np.empty(len(order), np.int32)
        number[order] = np.arange(len(order))
        place = place[:, order].astype(np.float32)
        meshes.append(LiftedMesh(
            f"Moving {len(meshes) + 1}", "points", place, number[np.concatenate(faces)], visible[:, order],
            place[0].mean(axis=0).astype(np.float64), added=int(more.sum()),
        ))  # fmt: skip
    return meshes


def _depths_behind(
    thing: int, figures: Figures, solution: Solution, still: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """Return a depth that is in front of most of what a thing covers, in each frame, [T]; inf for none.

    Args:
        thing: its number.
        figures: the parts.
        solution: the cameras.
        still: [N, 3] points of what stands still, also behind what moves in the first frame.
        ratio: [2] size of the pictures of `figures` relative to that of the frames.
    """
    corners = [part.pixels for part in figures.parts if part.thing == thing]
    out = np.full(len(solution.rotations), np.inf)
    for t, cover in enumerate(figures.covers if corners else ()):
        place = still @ solution.rotations[t].T + solution.translations[t]
        place = place[place[:, 2] > 1e-9]
        pixels = (solution.focal * place[:, :2] / place[:, 2:] + solution.center) * ratio
        low = np.min([own[t].min(axis=0) for own in corners], axis=0)
        high = np.max([own[t].max(axis=0) for own in corners], axis=0)
        near = ((pixels >= np.maximum(low, 0)) & (pixels < np.minimum(high, cover.shape[::-1]))).all(axis=1)
        u, v = np.clip(pixels.astype(int), 0, np.array(cover.shape[::-1]) - 1).T
        depth = place[near & cover[v, u], 2]
        if len(depth) >= _FEW:
            out[t] = np.percentile(depth, 20)
    return out


def _depth_of(own: np.ndarray, solved: PointSolve, moving: np.ndarray) -> float:
    """Return the depth of a moving thing in the first frame: of the still points around its foot, else around it.

    Args:
        own: [N] which points show it.
        solved: the points.
        moving: [N] which of them move.
    """
    rows, columns = solved.grid
    mask = own.reshape(solved.grid).astype(np.uint8)
    ring = cv2.dilate(mask, np.ones((5, 5), np.uint8)).astype(bool).ravel() & ~moving
    if not ring.any():
        return 1 / float(np.median(solved.shape[:, 0]))
    foot = int(np.flatnonzero(mask.any(axis=1)).max())
    below = ring & (np.arange(rows * columns) // columns >= foot)
    chosen = below if below.any() else ring
    return 1 / float(np.median(solved.shape[chosen, 0]))
