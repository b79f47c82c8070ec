# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses the surface points that splats ride on, once for all frames.

Some frames are surveyed: how many pixels each piece of surface covers in the cell that shows it largest. Most points
are spread evenly over these pixels, so that all that is seen is equally sharp, and a share over everything, for cameras
that look where no cell does. A surface that another topology brings gets points of its own, where it shows none that
was there before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trackshade.control.locate import LocatedPoints, SurfacePoints, locate
from trackshade.core.errors import ShotError, UsageError
from trackshade.propagation.survey import survey_times
from trackshade.results.cells.gather import read_samples
from trackshade.results.cells.images import CellImages
from trackshade.shot import Geometry, Shot
from trackshade.splats.spreading import choose_evenly

SURVEYED = 5  # frames
BY_AREA = 0.12  # share of the points that is spread over everything
CANDIDATES = 3  # for each point that is kept
PIECE = 4.0  # length of the pieces of surface that are told apart, in units of the mean spacing
MOST = 20_000_000
_FAR = 0.1  # importance of a mesh that is never seen, beside the mean of all
_ROUNDS = 14  # of halving pieces
_LEAST_AREA = 1e-14


@dataclass(frozen=True, eq=False)
class SplatPoints:
    """N points that splats ride on.

    Attributes:
        surface: where they are.
        spacing: [N] float64, distance to the nearest others, object space at the vertices' origins.
    """

    surface: SurfacePoints
    spacing: np.ndarray


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Parts of triangles of a mesh's geometry."""

    mesh: int
    geometry: int
    face: np.ndarray  # [P] the triangle
    corners: np.ndarray  # [P, 3, 3] barycentric weights of the piece's corners
    area: np.ndarray  # [P] at the vertices' origins, object space
    pixels: np.ndarray  # [P] pixels that the piece covers in the cell that shows it largest
    world: np.ndarray  # [P] its largest area, square metres


def choose_points(cells: CellImages, count: int = 200_000, seed: int = 0) -> SplatPoints:
    """Choose surface points of a shot.

    Args:
        cells: the pictures of the shot, whose cameras decide where points are dense.
        count: number of points.
        seed: of the choice.

    Raises:
        UsageError: the number is out of range.
        ShotError: the shot shows no surface.
    """
    if not 1 <= count <= MOST:
        raise UsageError("bad-splat-count", f"{count} splats were asked for.", f"Ask for 1 to {MOST:,}.")
    shot = cells.shot
    times = survey_times(cells.frames, SURVEYED)
    limit = PIECE * np.sqrt(_area(shot, [t * cells.cameras for t in times]) / count)
    pieces = [_survey(cells, times, mesh, index, limit) for mesh, index in _drawn(shot)]
    total = sum(float(part.world.sum()) for part in pieces)
    if not total > 0:
        raise ShotError("no-tracks", "The shot shows no mesh to put splats on.", "Make meshes visible.")
    seen = sum(float(part.pixels.sum()) for part in pieces)
    by_area = BY_AREA if seen > 0 else 1.0
    areas = [_importance(part, seen / total) * part.world for part in pieces]
    everywhere = sum(float(area.sum()) for area in areas)
    rng = np.random.default_rng(seed)
    found = []
    for part, area in zip(pieces, areas, strict=True):
        share = by_area * area / everywhere
        if seen > 0:
            share = share + (1 - by_area) * part.pixels / seen
        found.append(_choose(shot, part, share * count, rng))
    surface = SurfacePoints(*(np.concatenate(parts) for parts in zip(*(item.surface for item in found), strict=True)))
    return SplatPoints(surface, np.concatenate([item.spacing for item in found]))


def _importance(pieces: _Pieces, usual: float) -> float:
    """Return how densely the hidden sides of a mesh are covered: by the pixels for each square metre of what is seen.

    Large splats on the hidden sides of a mesh that is seen large would stand out at its silhouette.
    """
    world = float(pieces.world.sum())
    if not usual > 0:
        return 1.0
    return float(pieces.pixels.sum()) / max(world, 1e-12) / usual + _FAR


def _drawn(shot: Shot) -> Iterator[tuple[int, int]]:
    """Yield meshes that are drawn in color, and each of their geometries."""
    for mesh, track in enumerate(shot.meshes):
        if track.visible.any() and not track.holdout:
            for index in track.geometries:
                yield mesh, index


def _area(shot: Shot, samples: list[int]) -> float:
    """Return the largest area of all surfaces in some samples, square metres."""
    most = 0.0
    for t in samples:
        total = 0.0
        for mesh, track in enumerate(shot.meshes):
            if track.visible[t] and not track.holdout:
                corners = shot.world_positions(mesh, t)[shot.geometry_of(mesh, t).triangles].astype(np.float64)
                total += float(_areas(corners).sum())
        most = max(most, total)
    return most


def _areas(corners: np.ndarray) -> np.ndarray:
    """Return the areas [N] of triangles [N, 3, 3]."""
    return 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)


def _survey(cells: CellImages, times: list[int], mesh: int, index: int, limit: float) -> _Pieces:
    """Cut a geometry of a mesh into pieces, and look how large they are in the cells of some frames."""
    shot, geometry = cells.shot, cells.shot.geometries[index]
    samples = [t * cells.cameras for t in times]
    samples = [t for t in samples if shot.meshes[mesh].visible[t] and shot.meshes[mesh].geometry_at(t) == index]
    if not samples:  # between the frames that are surveyed
        track = shot.meshes[mesh]
        every = (t for t in range(0, len(track.visible), cells.cameras) if track.geometry_at(t) == index)
        samples = [t for t in every if track.visible[t]][:1]
    largest = max(samples, key=lambda t: float(_areas(_world(shot, mesh, geometry, t)).sum()), default=None)
    if largest is None or not len(geometry.triangles):
        none = np.zeros(0)
        return _Pieces(mesh, index, np.zeros(0, np.int64), np.zeros((0, 3, 3)), none, none, none)
    face, corners = _cut(_world(shot, mesh, geometry, largest), limit)
    area = _areas(np.einsum("pkc,pcx->pkx", corners, geometry.first.astype(np.float64)[geometry.triangles[face]]))
    pixels, world = np.zeros(len(face)), np.zeros(len(face))
    for t in samples:
        placed = np.einsum("pkc,pcx->pkx", corners, _world(shot, mesh, geometry, t)[face])
        here = _areas(placed)
        world = np.maximum(world, here)
        pixels = np.maximum(pixels, here * _pixels_per_area(cells, t, mesh, geometry, face, corners, placed))
    return _Pieces(mesh, index, face, corners, np.maximum(area, _LEAST_AREA), pixels, world)


def _world(shot: Shot, mesh: int, geometry: Geometry, t: int) -> np.ndarray:
    """Return the corners of a geometry's triangles in a sample, [F, 3, 3] world, metres."""
    matrix = shot.meshes[mesh].matrix_world[t]
    positions = geometry.at(t).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return positions[geometry.triangles]


def _cut(triangles: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Halve triangles [F, 3, 3] at their longest edges until none is longer than a limit.

    Returns:
        The triangle of each piece [P], and the barycentric weights [P, 3, 3] of its corners.
    """
    face, corners = np.arange(len(triangles)), np.tile(np.eye(3), (len(triangles), 1, 1))
    done: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_ROUNDS):
        placed = np.einsum("pkc,pcx->pkx", corners, triangles[face])
        lengths = np.linalg.norm(placed - np.roll(placed, -1, axis=1), axis=2)
        is_long = lengths.max(axis=1) > limit
        done.append((face[~is_long], corners[~is_long]))
        face, corners, lengths = face[is_long], corners[is_long], lengths[is_long]
        if not len(face):
            break
        first, rows = lengths.argmax(axis=1), np.arange(len(face))
        a, b, c = (corners[rows, (first + k) % 3] for k in range(3))
        middle = (a + b) / 2
        face = np.concatenate([face, face])
        corners = np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
    done.append((face, corners))
    faces, weights = zip(*done, strict=True)
    return np.concatenate(faces), np.concatenate(weights)


def _pixels_per_area(
    cells: CellImages,
    t: int,
    mesh: int,
    geometry: Geometry,
    face: np.ndarray,
    corners: np.ndarray,
    placed: np.ndarray,
) -> np.ndarray:
    """Return how many pixels a square metre of each piece covers in the cell of a frame that shows it largest."""
    views, images = cells.column(t // cells.cameras)
    if not len(images):
        return np.zeros(len(face))
    normals = np.cross(placed[:, 1] - placed[:, 0], placed[:, 2] - placed[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    middle, camera = placed.mean(axis=1), cells.shot.camera
    size = np.zeros((len(face), len(images)))
    for n, sample in enumerate(views.samples.tolist()):
        matrix, k = camera.world_to_camera[sample], camera.intrinsics[sample]
        local, turned = middle @ matrix[:3, :3].T + matrix[:3, 3], normals @ matrix[:3, :3].T
        depth = np.maximum(local[:, 2], 1e-6)
        slant = np.abs(turned[:, 2]) if camera.orthographic[sample] else np.abs((turned * local).sum(axis=1)) / depth**3
        size[:, n] = slant * k[0, 0] * k[1, 1]
    seen, exists = np.zeros(size.shape, np.bool_), np.ones(len(face), np.bool_)
    center = corners.mean(axis=1)
    for weights in (center, *(0.2 * center + 0.8 * corners[:, k] for k in range(3))):
        _, shown = read_samples(views, images, mesh, LocatedPoints(geometry.triangles[face], weights, exists))
        seen |= shown > 0
    return np.where(seen, size, 0).max(axis=1)


def _choose(shot: Shot, pieces: _Pieces, wanted: np.ndarray, rng: np.random.Generator) -> SplatPoints:
    """Choose points on the pieces of a mesh, as many as are wanted of each, [P]."""
    track, geometry = shot.meshes[pieces.mesh], shot.geometries[pieces.geometry]
    total = np.cumsum(wanted) * CANDIDATES + rng.random()
    piece = np.repeat(np.arange(len(wanted)), np.diff(np.floor(total), prepend=0.0).astype(np.int64).clip(0))
    u, v = rng.random((2, len(piece)))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    weights = np.einsum("pk,pkc->pc", np.stack([1 - u - v, u, v], axis=1), pieces.corners[piece])
    corners = geometry.triangles[pieces.face[piece]]
    places = np.einsum("pc,pcx->px", weights, geometry.first.astype(np.float64)[corners])
    share = 1.0
    earlier = track.geometries[: track.geometries.index(pieces.geometry)]
    if earlier and len(piece):
        births = geometry.born[corners[np.arange(len(corners)), weights.argmax(axis=1)]]
        new = np.ones(len(piece), np.bool_)
        for index in earlier:
            new &= ~locate(places.astype(np.float32), births, shot.geometries[index]).exists
        piece, weights, corners, places = piece[new], weights[new], corners[new], places[new]
        share = float(new.mean())
    spacing = np.sqrt(pieces.area / np.maximum(wanted, 1e-12))[piece]
    keep = choose_evenly(places, spacing, round(float(wanted.sum()) * share + float(rng.random()) - 0.5))
    count = len(keep)
    surface = SurfacePoints(
        np.full(count, pieces.mesh, np.int64), np.full(count, pieces.geometry, np.int64),
        corners[keep].astype(np.int32), weights[keep], np.ones(count, np.bool_),
    )  # fmt: skip
    return SplatPoints(surface, spacing[keep])
