# SPDX-License-Identifier: GPL-3.0-or-later
"""A video's colors at places on a moving surface, over all frames in which they are clearly seen, made one.

A place is looked for in every frame: its triangle's vertices of that frame give its point, the camera of that frame
its pixel. It counts where that pixel is clear (`views`), shows this mesh, and the point is not deeper than what is
seen there. The frame is sampled bilinearly. Each sample weighs

    cos(viewing angle) × pixels per area of surface,

so that near and frontal views outweigh far and slanting ones. The color is the weighted geometric median of the
samples (Weiszfeld 1937, "Sur le point pour lequel la somme des distances de n points donnés est minimum"), which a
minority of frames that flicker, or show a reflection, does not move; within `SOFT` levels it is the weighted mean.

Colors stay in the 8-bit values of the video, in which steps look alike and a flat color comes out as it went in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.results.texture.texels import Places
from trackshade.results.texture.views import Views
from trackshade.shot import Shot

SOFT = 3.0  # levels
GRAZING = 0.08  # cosine of the viewing angle below which nothing is taken
_ROUNDS = 8
_BLOCK = 1 << 15  # targets that a thread takes at a time


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the video shows at N targets.

    Attributes:
        color: [N, 3] float32, levels 0..255; NaN where nothing was seen.
        seen: [N] int32, how many samples that is made of.
        variation: [N] float32, standard deviation of the samples (n - 1 in the denominator; root mean square of the
            channels), levels, as `result.consistency` defines it; NaN where fewer than two were seen.
    """

    color: np.ndarray
    seen: np.ndarray
    variation: np.ndarray


def gather(
    views: Views,
    video: np.ndarray,
    mesh: int,
    places: Places,
    threads: int,
    progress: Callable[[int], None] = lambda count: None,
    geometry: int | None = None,
) -> Gathered:
    """Gathers `video` [T, H, W, 3] uint8 at places of a mesh.

    Args:
        progress: told how many more targets are done, in this thread.
        geometry: index into `Shot.geometries` of the geometry that the places are on, by default the mesh's first one.
            Only samples in which the mesh has it, or one with the same points, are looked at.
    """
    shot = views.shot
    track = shot.meshes[mesh]
    if geometry is None:
        geometry = track.geometry
    positions, rows = samples_of(shot, mesh, geometry)
    triangles, camera = shot.geometries[geometry].triangles, shot.camera
    count = len(places.target)
    out = Gathered(np.empty((count, 3), np.float32), np.empty(count, np.int32), np.empty(count, np.float32))
    to_camera = camera.world_to_camera @ track.matrix_world
    k = camera.intrinsics
    lens = np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], axis=1)
    # Copies of the small arrays: numba would compile once more for ones that cannot be written.
    state = (
        np.array(to_camera),
        lens,
        np.array(camera.orthographic),
        np.array(camera.clip),
        np.where(track.visible, rows, -1),
    )
    most = int(np.diff(places.start).max(initial=0)) * len(video)

    def work(first: int) -> int:
        last = min(first + _BLOCK, count)
        _gather(
            positions, triangles, *state, views.owner, views.reach, video, mesh,
            places.start, places.triangle, places.weights, first, last, most, out.color, out.seen, out.variation,
        )  # fmt: skip
        return last - first

    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(work, range(0, count, _BLOCK)):
            progress(done)
    return out


def samples_of(shot: Shot, mesh: int, geometry: int) -> tuple[np.ndarray, np.ndarray]:
    """The positions [n, V, 3] of a mesh in the samples in which it has a geometry, or one with the same points, and
    which of them is that of each sample: [T] int64, -1 where it has another topology.
    """
    track, wanted = shot.meshes[mesh], shot.geometries[geometry]
    alike = [index for index in track.geometries if shot.geometries[index].same_points(wanted)]
    parts = [shot.geometries[index].positions for index in alike]
    starts = dict(zip(alike, np.cumsum([0, *(len(part) for part in parts)]).tolist(), strict=False))
    rows = np.full(len(shot.frame_numbers), -1, np.int64)
    for t in range(len(rows)):
        index = track.geometry_at(t)
        if index in starts:
            rows[t] = starts[index] + shot.geometries[index].row(t)
    return parts[0] if len(parts) == 1 else np.concatenate(parts), rows


@kernel
def _gather(
    positions, triangles, to_camera, lens, orthographic, clip, rows, owner, reach, video, mesh,
    start, triangle, weights, first, last, most, color, seen, variation,
):  # fmt: skip
    height, width = owner.shape[1], owner.shape[2]
    samples, weight = np.empty((most, 3), np.float32), np.empty(most, np.float32)
    for n in range(first, last):
        found = 0
        for p in range(start[n], start[n + 1]):
            f = triangle[p]
            n0, n1, n2 = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            b, c = np.float64(weights[p, 0]), np.float64(weights[p, 1])
            a = 1.0 - b - c
            for t in range(video.shape[0]):
                if rows[t] < 0:
                    continue
                at = positions[rows[t]]
                px = a * at[n0, 0] + b * at[n1, 0] + c * at[n2, 0]
                py = a * at[n0, 1] + b * at[n1, 1] + c * at[n2, 1]
                pz = a * at[n0, 2] + b * at[n1, 2] + c * at[n2, 2]
                m = to_camera[t]
                z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
                if not (z >= clip[t, 0] and z <= clip[t, 1]) or z <= 1e-9:
                    continue
                x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
                y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
                q = 1.0 if orthographic[t] else 1.0 / z
                u, v = lens[t, 0] * x * q + lens[t, 2], lens[t, 1] * y * q + lens[t, 3]
                if not (u >= 1.0 and u < width - 1.0 and v >= 1.0 and v < height - 1.0):
                    continue
                i, j = int(v), int(u)
                if owner[t, i, j] != mesh or z > reach[t, i, j]:
                    continue
                w = _weight(at, n0, n1, n2, m, x, y, z, orthographic[t], lens[t, 0] * lens[t, 1])
                if w > 0.0:
                    _sample(video[t], u - 0.5, v - 0.5, samples[found])
                    weight[found] = w
                    found += 1
        seen[n] = found
        variation[n] = _deviation(samples, found)
        _median(samples, weight, found, color[n])


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
    """cos × pixels per triangle at the camera-space point (x, y, z); 0 where it is seen too slantingly. Either side
    counts, as either is drawn: a negative scale turns triangles over."""
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
    """Bilinear; (x, y) counts from the center of the first pixel and lies at least half a pixel inside."""
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
def _median(samples, weight, count, out):
    """The weighted geometric median of the first `count` samples; NaN of none. It begins at the weighted mean."""
    if count == 0:
        out[0] = out[1] = out[2] = np.nan
        return
    r = g = b = 0.0
    for turn in range(_ROUNDS + 1):
        total = nr = ng = nb = 0.0
        for n in range(count):
            w = np.float64(weight[n])
            if turn > 0:
                dr, dg, db = samples[n, 0] - r, samples[n, 1] - g, samples[n, 2] - b
                w /= max(SOFT, math.sqrt(dr * dr + dg * dg + db * db))
            total += w
            nr += w * samples[n, 0]
            ng += w * samples[n, 1]
            nb += w * samples[n, 2]
        nr, ng, nb = nr / total, ng / total, nb / total
        moved = max(abs(nr - r), abs(ng - g), abs(nb - b))
        r, g, b = nr, ng, nb
        if turn > 0 and moved < 0.1:
            break
    out[0], out[1], out[2] = r, g, b
