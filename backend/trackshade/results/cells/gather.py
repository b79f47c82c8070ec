# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers colors at points of a moving surface, from all pictures in which they are clearly visible.

The pictures are frames of a video, or the cells of one frame: the same moment through several cameras. A point is
projected into each of them, by its triangle's vertices and the camera. It counts if its pixel is clear (`views`) and
shows this mesh, and if it is not deeper than what is visible there. Pictures are sampled bilinearly. The weight of each
sample is a power of

    cos(viewing angle) × pixels per area of surface,

so that near and frontal views outweigh far and slanting ones; it falls towards the border of a picture. The color is
the weighted geometric median of the samples (Weiszfeld 1937, "Sur le point pour lequel la somme des distances de n
points donnés est minimum"), which a minority of pictures that flicker, or show a reflection, does not move; within
`Weighting.soft` levels it is the weighted mean.

Colors stay in the 8-bit values of the pictures, in which steps look alike and a flat color comes out as it went in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.control.locate import LocatedPoints
from trackshade.control.texels import TargetPoints
from trackshade.results.cells.views import Views
from trackshade.shot import Shot

SOFT = 3.0  # levels
FADE = 0.05  # of a picture's width: margin in which weights fall towards its border
GRAZING = 0.08  # cosine of the viewing angle below which samples are ignored
_ITERATIONS = 8
_BLOCK = 1 << 15  # targets that a thread takes at a time


@dataclass(frozen=True, eq=False)
class Weighting:
    """How the samples of a point are weighted and combined.

    Attributes:
        power: exponent of the weight.
        soft: distance from the median, levels, within which samples are averaged.
        gain: [S, 3] factors of the values of each picture, or None.
        offset: [S, 3] levels that are added after that, or None.
        trust: [S] factors of the weights of each picture, or None.
    """

    power: float = 1.0
    soft: float = SOFT
    gain: np.ndarray | None = None
    offset: np.ndarray | None = None
    trust: np.ndarray | None = None


FRAMES_OF_A_VIDEO = Weighting()


@dataclass(frozen=True, eq=False)
class GatheredColors:
    """What pictures show at N targets.

    Attributes:
        color: [N, 3] float32, levels 0..255; NaN where there are no samples.
        count: [N] int32, number of samples.
        variation: [N] float32, standard deviation of the samples (n - 1 in the denominator; root mean square of the
            channels), levels, as `results.consistency` defines it; NaN where there are fewer than two samples.
    """

    color: np.ndarray
    count: np.ndarray
    variation: np.ndarray


def gather_colors(
    views: Views,
    video: np.ndarray,  # [S, H, W, 3] uint8
    mesh: int,
    points: TargetPoints,
    threads: int,
    progress: Callable[[int], None] = lambda count: None,
    geometry: int | None = None,
    weighting: Weighting = FRAMES_OF_A_VIDEO,
) -> GatheredColors:
    """Gather the colors of pictures at points of a mesh.

    Args:
        views: what the pictures show.
        video: the pictures, one for each sample of `views`.
        mesh: index into `Shot.meshes`.
        points: the points, by target.
        threads: number of threads.
        progress: called with the number of further targets that are done, in the calling thread.
        geometry: index into `Shot.geometries` of the geometry that the points are on; the mesh's first one if None.
            Only samples in which the mesh has it, or one with the same points, are used.
        weighting: how samples are weighted.
    """
    shot = views.shot
    if geometry is None:
        geometry = shot.meshes[mesh].geometry
    positions, rows = _samples_with(shot, mesh, geometry, views.samples)
    triangles = shot.geometries[geometry].triangles
    return _gather_points(views, video, mesh, positions, rows, triangles, points, threads, progress, weighting)


def gather_located(
    views: Views,
    images: np.ndarray,  # [S, H, W, 3] uint8 or float32
    mesh: int,
    points: LocatedPoints,
    threads: int,
    weighting: Weighting,
) -> GatheredColors:
    """Gather the colors of the cells of one frame at points of a mesh, as they are on its geometry of that frame.

    Args:
        views: what the cells show; all samples must be of the same frame.
        images: their pictures.
        mesh: index into `Shot.meshes`.
        points: the points; those that do not exist get no color.
        threads: number of threads.
        weighting: how samples are weighted.
    """
    count, shot = len(points.corners), views.shot
    positions = shot.geometry_of(mesh, int(views.samples[0])).at(int(views.samples[0]))[None]
    weights = np.where(points.exists[:, None], points.weights[:, 1:], np.nan).astype(np.float32)
    numbers = np.arange(count + 1, dtype=np.int64)
    targets = TargetPoints(numbers[:-1], numbers, numbers[:-1].astype(np.int32), weights)
    rows = np.zeros(len(images), np.int64)
    corners = np.ascontiguousarray(points.corners, np.int32)
    return _gather_points(
        views, images, mesh, positions, rows, corners, targets, threads, lambda count: None, weighting
    )


def read_samples(
    views: Views,
    images: np.ndarray,  # [S, H, W, 3]
    mesh: int,
    points: LocatedPoints,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values [N, S, 3] of points in each cell of a frame, and their weights [N, S], 0 where it shows none.

    Args:
        views: what the cells show; all samples must be of the same frame.
        images: their pictures.
        mesh: index into `Shot.meshes`.
        points: the points, as they are on the mesh's geometry of that frame.
    """
    t = int(views.samples[0])
    values = np.zeros((len(points.corners), len(images), 3), np.float32)
    weights = np.zeros(values.shape[:2], np.float32)
    to_camera, lens, orthographic, clip, visible = _cameras(views, mesh)
    _read_samples(
        views.shot.geometry_of(mesh, t).at(t), np.ascontiguousarray(points.corners, np.int32),
        np.where(points.exists[:, None], points.weights, np.nan), to_camera, lens, orthographic, clip, visible,
        views.clear_mesh, views.depth_limit, images, mesh, values, weights,
    )  # fmt: skip
    return values, weights


def _cameras(views: Views, mesh: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return object to camera, (fx, fy, cx, cy), whether it is orthographic, clip limits and visibility by sample.

    They are copies: numba would compile once more for arrays that cannot be written.
    """
    track, camera, samples = views.shot.meshes[mesh], views.shot.camera, views.samples
    k = camera.intrinsics[samples]
    return (
        np.array(camera.world_to_camera[samples] @ track.matrix_world[samples]),
        np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], axis=1),
        np.array(camera.orthographic[samples]),
        np.array(camera.clip[samples]),
        np.array(track.visible[samples]),
    )


def _gather_points(
    views: Views,
    images: np.ndarray,  # [S, H, W, 3]
    mesh: int,
    positions: np.ndarray,  # [n, V, 3]
    rows: np.ndarray,  # [S] row of each sample in the positions, -1 for none
    triangles: np.ndarray,  # [F, 3]
    points: TargetPoints,
    threads: int,
    progress: Callable[[int], None],
    weighting: Weighting,
) -> GatheredColors:
    count, shape = len(points.target), (len(images), 3)
    out = GatheredColors(np.empty((count, 3), np.float32), np.empty(count, np.int32), np.empty(count, np.float32))
    *cameras, visible = _cameras(views, mesh)
    state = (*cameras, np.where(visible, rows, -1))
    levels = (
        np.ones(shape) if weighting.gain is None else np.array(weighting.gain, np.float64),
        np.zeros(shape) if weighting.offset is None else np.array(weighting.offset, np.float64),
        np.ones(len(images)) if weighting.trust is None else np.array(weighting.trust, np.float64),
    )
    most = int(np.diff(points.start).max(initial=0)) * len(images)

    def work(first: int) -> int:
        last = min(first + _BLOCK, count)
        _gather(
            positions, triangles, *state, views.clear_mesh, views.depth_limit, images, mesh, *levels,
            float(weighting.power), float(weighting.soft), points.start, points.triangle, points.weights, first, last,
            most, out.color, out.count, out.variation,
        )  # fmt: skip
        return last - first

    if threads == 1 or count <= _BLOCK:
        for first in range(0, count, _BLOCK):
            progress(work(first))
        return out
    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(work, range(0, count, _BLOCK)):
            progress(done)
    return out


def _samples_with(shot: Shot, mesh: int, geometry: int, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of a mesh in the samples in which it has a geometry, or one with the same points.

    Returns:
        The positions [n, V, 3], and the row of each of `samples` in them, [S] int64; -1 where it has another topology.
    """
    track, target = shot.meshes[mesh], shot.geometries[geometry]
    same = [index for index in track.geometries if shot.geometries[index].same_points(target)]
    parts = [shot.geometries[index].positions for index in same]
    starts = dict(zip(same, np.cumsum([0, *(len(part) for part in parts)]).tolist(), strict=False))
    rows = np.full(len(samples), -1, np.int64)
    for n, t in enumerate(samples.tolist()):
        index = track.geometry_at(t)
        if index in starts:
            rows[n] = starts[index] + shot.geometries[index].row(t)
    return parts[0] if len(parts) == 1 else np.concatenate(parts), rows


@kernel
def _gather(
    positions, triangles, to_camera, lens, orthographic, clip, rows, clear_mesh, depth_limit, images, mesh,
    gain, offset, trust, power, soft, start, triangle, weights, first, last, most, color, counts, variation,
):  # fmt: skip
    samples, weight = np.empty((most, 3), np.float32), np.empty(most, np.float32)
    for n in range(first, last):
        count = 0
        for p in range(start[n], start[n + 1]):
            f = triangle[p]
            b, c = np.float64(weights[p, 0]), np.float64(weights[p, 1])
            for t in range(images.shape[0]):
                if rows[t] < 0 or trust[t] <= 0.0:
                    continue
                w = read_cell(
                    positions[rows[t]], triangles[f, 0], triangles[f, 1], triangles[f, 2], b, c, to_camera[t], lens[t],
                    orthographic[t], clip[t], clear_mesh[t], depth_limit[t], images[t], mesh, samples[count],
                )  # fmt: skip
                if w > 0.0:
                    for k in range(3):
                        samples[count, k] = samples[count, k] * gain[t, k] + offset[t, k]
                    weight[count] = trust[t] * (w if power == 1.0 else w**power)
                    count += 1
        counts[n] = count
        variation[n] = _deviation(samples, count)
        _median(samples, weight, count, soft, color[n])


@kernel
def _read_samples(
    positions, corners, weights, to_camera, lens, orthographic, clip, visible, clear_mesh, depth_limit, images, mesh,
    values, out,
):  # fmt: skip
    for n in range(corners.shape[0]):
        for t in range(images.shape[0]):
            if visible[t]:
                out[n, t] = read_cell(
                    positions, corners[n, 0], corners[n, 1], corners[n, 2], weights[n, 1], weights[n, 2], to_camera[t],
                    lens[t], orthographic[t], clip[t], clear_mesh[t], depth_limit[t], images[t], mesh, values[n, t],
                )  # fmt: skip


@kernel
def read_cell(
    at, n0, n1, n2, b, c, m, lens, orthographic, clip, clear_mesh, depth_limit, image, mesh, out,
):  # fmt: skip
    """Read the color of a surface point from a picture.

    Of the arguments, `at` are the positions of the vertices, n0 to n2 those of the triangle, b and c the weights of the
    second and third one; m takes object to camera space, `lens` is (fx, fy, cx, cy).

    Returns:
        cos(viewing angle) × pixels per area, with the color in `out`; 0 if the picture does not clearly show the point.
    """
    height, width = clear_mesh.shape
    a = 1.0 - b - c
    px = a * at[n0, 0] + b * at[n1, 0] + c * at[n2, 0]
    py = a * at[n0, 1] + b * at[n1, 1] + c * at[n2, 1]
    pz = a * at[n0, 2] + b * at[n1, 2] + c * at[n2, 2]
    z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
    if not (z >= clip[0] and z <= clip[1]) or z <= 1e-9:
        return 0.0
    x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
    y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
    q = 1.0 if orthographic else 1.0 / z
    u, v = lens[0] * x * q + lens[2], lens[1] * y * q + lens[3]
    if not (u >= 1.0 and u < width - 1.0 and v >= 1.0 and v < height - 1.0):
        return 0.0
    i, j = int(v), int(u)
    if clear_mesh[i, j] != mesh or z > depth_limit[i, j]:
        return 0.0
    w = _weight(at, n0, n1, n2, m, x, y, z, orthographic, lens[0] * lens[1])
    if not w > 0.0:
        return 0.0
    _sample(image, u - 0.5, v - 0.5, out)
    # Where a picture ends, it fades out, so that its difference from the others makes no edge on the surface.
    return w * min(1.0, min(u, v, width - u, height - v) / (FADE * width))


@inlined
def _edge(at, n0, n1, m):
    x, y, z = at[n1, 0] - at[n0, 0], at[n1, 1] - at[n0, 1], at[n1, 2] - at[n0, 2]
    return (
        m[0, 0] * x + m[0, 1] * y + m[0, 2] * z,
        m[1, 0] * x + m[1, 1] * y + m[1, 2] * z,
        m[2, 0] * x + m[2, 1] * y + m[2, 2] * z,
    )


@kernel
def _weight(at, n0, n1, n2, m, x, y, z, orthographic, focal):
    """Return cos × pixels per triangle at the camera-space point (x, y, z); 0 at grazing angles.

    Either side counts, as either is drawn: a negative scale turns triangles over.
    """
    ex, ey, ez = _edge(at, n0, n1, m)
    gx, gy, gz = _edge(at, n0, n2, m)
    nx, ny, nz = ey * gz - ez * gy, ez * gx - ex * gz, ex * gy - ey * gx
    area = math.sqrt(nx * nx + ny * ny + nz * nz)
    if orthographic:
        facing = abs(nz)
        cosine, pixels = facing / area, focal * facing
    else:
        facing = abs(nx * x + ny * y + nz * z)
        cosine, pixels = facing / (area * math.sqrt(x * x + y * y + z * z)), focal * facing / (z * z * z)
    return cosine * pixels if cosine > GRAZING else 0.0


@kernel
def _sample(frame, x, y, out):
    """Sample bilinearly; (x, y) counts from the center of the first pixel and is at least half a pixel inside."""
    i, j = int(y), int(x)
    s, r = x - j, y - i
    for k in range(3):
        top = frame[i, j, k] * (1.0 - s) + frame[i, j + 1, k] * s
        bottom = frame[i + 1, j, k] * (1.0 - s) + frame[i + 1, j + 1, k] * s
        out[k] = top * (1.0 - r) + bottom * r


@kernel
def _deviation(samples, count):
    if count < 2:
        return np.nan
    total = 0.0
    for k in range(3):
        mean = 0.0
        for n in range(count):
            mean += samples[n, k]
        mean /= count
        for n in range(count):
            total += (samples[n, k] - mean) ** 2
    return math.sqrt(total / (3 * (count - 1)))


@kernel
def _median(samples, weight, count, soft, out):
    """Write the weighted geometric median of the first `count` samples, from the weighted mean on; NaN of none."""
    if count == 0:
        out[0] = out[1] = out[2] = np.nan
        return
    r = g = b = 0.0
    for iteration in range(_ITERATIONS + 1):
        total = nr = ng = nb = 0.0
        for n in range(count):
            w = np.float64(weight[n])
            if iteration > 0:
                dr, dg, db = samples[n, 0] - r, samples[n, 1] - g, samples[n, 2] - b
                w /= max(soft, math.sqrt(dr * dr + dg * dg + db * db))
            total += w
            nr += w * samples[n, 0]
            ng += w * samples[n, 1]
            nb += w * samples[n, 2]
        nr, ng, nb = nr / total, ng / total, nb / total
        change = max(abs(nr - r), abs(ng - g), abs(nb - b))
        r, g, b = nr, ng, nb
        if iteration > 0 and change < 0.1:
            break
    out[0], out[1], out[2] = r, g, b
