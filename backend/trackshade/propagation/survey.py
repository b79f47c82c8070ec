# SPDX-License-Identifier: GPL-3.0-or-later
"""Which surface points some frames of a shot show, at a low resolution, and which of them pictures show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.control.scene import ShotRaster
from trackshade.propagation.layout import face_normals
from trackshade.propagation.pictures import SurfacePicture
from trackshade.propagation.poses import Pose, PoseTable, load_corners, resize_shot
from trackshade.propagation.surface import find_points, pull

SURVEYED = 24  # frames
SURVEY_WIDTH = 320  # pixels of the longer side

Picture = tuple[SurfacePicture, Pose]


@dataclass(frozen=True, eq=False)
class Survey:
    """The surface points that pixels of some frames show, [N] each.

    Attributes:
        t: sample of the frame.
        mesh: index into `Shot.meshes`.
        face: triangle of its geometry.
        weights: [N, 2] barycentric, of the second and third corner.
        density: pixels of a full frame per object unit, at the geometry's first positions.
        shown: whether a picture shows the point; [N, P] for each picture, where they are told apart.
        pixels: full pixels that each surveyed one stands for.
        frame: surveyed pixels of a frame.
    """

    t: np.ndarray
    mesh: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    density: np.ndarray
    shown: np.ndarray
    pixels: float
    frame: int


def survey_times(count: int, most: int = SURVEYED, views: int = 1) -> list[int]:
    """Return samples that are spread evenly over a shot and its cameras, the first and the last frame included.

    Args:
        count: number of samples.
        most: number of samples to return, at most.
        views: see `Shot.views`.
    """
    frames = np.linspace(0, count // views - 1, min(count, most)).round().astype(int)
    return sorted(set((frames * views + np.arange(len(frames)) % views).tolist()))


def survey(
    table: PoseTable,
    pictures: Sequence[Picture],
    size: tuple[int, int],
    times: Iterable[int],
    progress: Callable[[float], None] = lambda fraction: None,
    apart: bool = False,
) -> Survey:
    """Look at some frames at a low resolution.

    Args:
        table: the shot's poses.
        pictures: the key pictures.
        size: (width, height) of the frames.
        times: the samples.
        progress: called with the fraction that is done.
        apart: whether to tell pictures apart, and leave out densities.
    """
    shot, times = table.shot, list(times)
    factor = min(1.0, SURVEY_WIDTH / max(size))
    small = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    raster = ShotRaster(resize_shot(shot, small))
    parts: list[list[np.ndarray]] = []
    for index, t in enumerate(times):
        progress(index / len(times))
        buffers, frame, starts = raster.draw(t), table.pose(t, small), table.face_starts(t)
        label, triangle = buffers.label.copy(), buffers.triangle.copy()
        points = find_points(label, triangle, buffers.depth, 0, 1, frame, table.still, table.triangles, starts)
        own = label >= 0
        mesh, face, weights = label[own], triangle[own], points.weights[own]
        shown = np.zeros((len(mesh), len(pictures)), np.bool_)
        for number, (picture, pose) in enumerate(pictures):
            if table.has_changes:
                pose = table.pose(pose.t, picture.size, faces_of=t)
            out = np.zeros((*label.shape, 5), np.float32)
            pull(points, 1, frame, picture, pose, table.still, table.triangles, starts, 1.0, out)
            shown[:, number] = out[own][:, 3] > 0
        density = np.zeros(len(mesh))
        if not apart:
            shown = shown.any(axis=1)
            density = _density(table, frame, starts, t, mesh, face, weights) * (size[0] / small[0])
        parts.append([np.full(len(mesh), t), mesh, face, weights, density, shown])
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Survey(*columns, pixels=size[0] * size[1] / (small[0] * small[1]), frame=small[0] * small[1])


def _density(
    table: PoseTable,
    frame: Pose,
    starts: np.ndarray,
    t: int,
    mesh: np.ndarray,
    face: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Return pixels per object unit at surface points, [N]."""
    density = np.zeros(len(mesh))
    _write_densities(
        mesh, face, weights, _first_areas(table, t, mesh, face), table.still, frame.moving, frame.where,
        table.triangles, starts, frame.to_camera, frame.lens[0] * frame.lens[1], frame.orthographic, density,
    )  # fmt: skip
    return density


@kernel
def _write_densities(
    mesh, face, weights, first_areas, still, moving, where, triangles, starts, to_camera, focal, orthographic, density
):  # fmt: skip
    x, y, z = np.zeros(3), np.zeros(3), np.zeros(3)
    for n in range(mesh.shape[0]):
        own = mesh[n]
        load_corners(still, moving, where[own], triangles, starts[own] + face[n], to_camera, own, x, y, z)
        ax, ay, az = x[1] - x[0], y[1] - y[0], z[1] - z[0]
        bx, by, bz = x[2] - x[0], y[2] - y[0], z[2] - z[0]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        size = math.sqrt(nx * nx + ny * ny + nz * nz)  # twice the area
        if orthographic:
            pixel = size / (focal * abs(nz))
        else:
            b, c = weights[n, 0], weights[n, 1]
            px, py, pz = x[0] + b * ax + c * bx, y[0] + b * ay + c * by, z[0] + b * az + c * bz
            pixel = pz**3 * size / (focal * abs(nx * px + ny * py + nz * pz))
        value = 1.0 / math.sqrt(pixel * first_areas[n] / (0.5 * size))
        density[n] = value if value < np.inf else 0.0


def _first_areas(table: PoseTable, t: int, mesh: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Return the areas [N] of triangles at their geometry's first positions, object units."""
    areas = np.empty(len(mesh))
    geometries = table.geometries(t)[mesh]
    for index in np.unique(geometries).tolist():
        own = geometries == index
        geometry = table.shot.geometries[index]
        areas[own] = face_normals(geometry.first.astype(np.float64), geometry.triangles[face[own]])[1]
    return areas
