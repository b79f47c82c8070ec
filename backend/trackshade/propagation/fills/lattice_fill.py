# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills of repeating textures from their translates.

An unknown texel takes the median of known texels at whole multiples of the lattice vectors. Where those differ, as
bricks do, each unit of the texture takes all of its texels from one translate instead, so that it keeps its grain and
its color.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from trackshade.control.compiling import kernel
from trackshade.propagation.fills.lattice import MEDIAN_OF, Lattice, medians, predict, sample, usable_sources
from trackshade.propagation.fills.push_pull import push_pull

LIGHT_SCALE = 0.75  # standard deviation of the blur that finds slow variation, relative to the lattice vectors
LEAST_LIGHT = 0.01  # mean natural logarithm of slow variation, up to which it does not matter
AGREEMENT = 0.01  # mean squared spread of translates, relative to the variance, up to which the median is taken
STRAY = 12.0  # multiples of the usual spread from which a translate is not believed, and the median is taken
_PER_CELL = 16  # translates that a unit of the texture chooses from
_MIDDLES = 40  # places that are tried as the middle of a unit
_DARK = 0.1  # added to values before the logarithm, relative to their mean of about 1
_FINE = 256  # places along each lattice vector that are told apart for it
_TORUS = 36  # samples along each lattice vector of the map of disagreement in a unit


def fill_lattice(
    image: np.ndarray,  # [h, w, 3] float32
    known: np.ndarray,  # [h, w] bool
    wanted: np.ndarray,  # [h, w] bool
    lattice: Lattice,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill the wanted texels from known ones at multiples of the lattice vectors.

    Returns:
        The image [h, w, 3] float32, and which wanted texels are filled, [h, w] bool.
    """
    light = light_field(image, known, lattice.vectors)
    if light is not None:
        low, high = image[known].min(axis=0), image[known].max(axis=0)
        flat = image / light
        flat_lattice = predict(flat, known, lattice.vectors, lattice.shifts, lattice.variance, every=3)
        out, filled = fill_lattice(flat, known, wanted, flat_lattice)
        return np.clip(out * light, low, high), filled
    source = usable_sources(known)
    median, count, _ = medians(image, source, lattice.shifts, wanted, True, MEDIAN_OF)
    filled = wanted & (count > 0)
    out = np.where(filled[..., None], median, image)
    at = known & (lattice.count >= 3)
    if filled.any() and at.any() and lattice.spread[at].mean() > AGREEMENT * lattice.variance:
        cells, number = _cells(lattice, at)
        # A remaining shadow or mark in the only translates of a unit is farther from the median than its kind differs.
        limit = np.where(count >= 3, STRAY * np.percentile(lattice.spread[at], 25), np.inf).astype(np.float32)
        _fill_cells(image, source, lattice.shifts, median, limit, known, filled, cells, number, _PER_CELL, out)
    return out, filled


def light_field(
    image: np.ndarray,  # [h, w, 3] float32
    known: np.ndarray,  # [h, w] bool
    vectors: np.ndarray,  # [2, 2]
) -> np.ndarray | None:
    """Find the slow variation of a repeating texture, such as light that is left in it.

    It is the blurred ratio of the image to the mean of all texels at the same place in a lattice cell.

    Returns:
        The factor of every texel, [h, w, 3] float32, continued smoothly where unknown; None if it is nearly 1.
    """
    height, width = known.shape
    bins, size = _phases(known.shape, vectors, _FINE)
    logs = np.log(image[known].astype(np.float64) + _DARK)
    count = np.maximum(np.bincount(bins[known], minlength=size.prod()), 1)
    mean = np.stack([np.bincount(bins[known], channel, size.prod()) / count for channel in logs.T], axis=1)
    ratio = np.zeros((height, width, 3), np.float32)
    ratio[known] = logs - mean[bins[known]]
    sigma = LIGHT_SCALE * float(np.hypot(*vectors.T).mean())
    step = max(1, int(sigma / 4))
    weight = _block_sums(known[..., None].astype(np.float32), step)
    sums = _block_sums(ratio, step)
    parts = [gaussian_filter(sums[..., c], sigma / step, mode="constant") for c in range(3)]
    near = gaussian_filter(weight[..., 0], sigma / step, mode="constant")
    use = weight[..., 0] > 0
    field = np.stack(parts, axis=-1) / np.maximum(near, 1e-6)[..., None]
    if np.abs(field[use]).mean() < LEAST_LIGHT:
        return None
    field = np.clip(push_pull(field.astype(np.float32), use), -1, 1)
    at = [np.clip((np.arange(side) + 0.5) / step - 0.5, 0, None) for side in (height, width)]
    places = np.meshgrid(*at, indexing="ij")
    wide = [map_coordinates(field[..., c], places, order=1, mode="nearest") for c in range(3)]
    return np.exp(np.stack(wide, axis=-1)).astype(np.float32)


def _block_sums(values: np.ndarray, step: int) -> np.ndarray:
    """Return sums over blocks of step × step texels, [⌈h / step⌉, ⌈w / step⌉, C]."""
    rows, columns = (np.arange(0, side, step) for side in values.shape[:2])
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


def _phases(shape: tuple[int, ...], vectors: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the place of each texel in its lattice cell, [h, w], and how many places there are, [2]."""
    position = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) @ np.linalg.inv(vectors)
    size = np.clip(np.rint(np.hypot(*vectors.T)), 3, most).astype(int)
    phase = np.minimum(((position - np.floor(position)) * size).astype(int), size - 1)
    return phase[..., 0] * size[1] + phase[..., 1], size


def _cells(lattice: Lattice, at: np.ndarray) -> tuple[np.ndarray, int]:
    """Divide the image into units of the texture whose borders run where translates agree, such as mortar.

    A unit is what lies nearest to its middle on ways that avoid agreement; the middle is where these are shortest.

    Returns:
        The number of the unit of each texel, [h, w] int32, and how many there are.
    """
    vectors = lattice.vectors
    bins, size = _phases(at.shape, vectors, _TORUS)
    position = np.stack(np.meshgrid(*map(np.arange, at.shape), indexing="ij"), axis=-1) @ np.linalg.inv(vectors)
    total = np.bincount(bins[at], lattice.spread[at], minlength=size.prod())
    count = np.bincount(bins[at], minlength=size.prod())
    mean = total.sum() / max(count.sum(), 1)
    disagreement = np.where(count > 0, total / np.maximum(count, 1), mean).reshape(size)
    offset = _torus_units(disagreement, vectors / size[:, None])
    cell = np.floor(position).astype(int) + offset.reshape(-1, 2)[bins]
    cell -= cell.reshape(-1, 2).min(axis=0)
    number = cell[..., 0] * (cell[..., 1].max() + 1) + cell[..., 1]
    return number.astype(np.int32), int(number.max()) + 1


def _torus_units(disagreement: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return which unit each sample of a lattice cell belongs to, as whole multiples of the vectors, [p, q, 2]."""
    p, q = disagreement.shape
    relative = disagreement / max(float(np.percentile(disagreement, 75)), 1e-12)
    slowness = np.tile(1 / (0.02 + np.minimum(relative, 1) ** 2), (3, 3))
    index = np.arange(9 * p * q).reshape(3 * p, 3 * q)
    starts, ends, lengths = [], [], []
    for i, j in ((0, 1), (1, 0), (1, 1), (1, -1)):
        left, right = max(0, -j), 3 * q - max(0, j)
        a, b = index[: 3 * p - i, left:right], index[i:, left + j : right + j]
        starts.append(a.ravel())
        ends.append(b.ravel())
        lengths.append(np.hypot(*(np.array([i, j]) @ steps)) * 0.5 * (slowness.flat[a] + slowness.flat[b]).ravel())
    graph = coo_matrix((np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends))), (index.size,) * 2)
    graph = graph.tocsr()
    best = np.inf
    source = np.zeros((p, q), int)
    for i, j in np.argwhere(slowness[:p, :q] <= np.median(slowness))[:: max(1, p * q // 2 // _MIDDLES)]:
        seeds = index[i::p, j::q].ravel()
        distance, _, nearest = dijkstra(graph, False, seeds, return_predecessors=True, min_only=True)
        total = float(distance.reshape(3 * p, 3 * q)[p : 2 * p, q : 2 * q].sum())
        if total < best:
            best, source = total, nearest.reshape(3 * p, 3 * q)[p : 2 * p, q : 2 * q]
    return np.stack([source // (3 * q) // p - 1, source % (3 * q) // q - 1], axis=-1)


@kernel
def _fill_cells(image, source, shifts, median, limit, known, wanted, cells, number, most, out):
    """Fill each unit of the texture from the translate that is most like its known texels, or else like the median."""
    height, width, channels = image.shape
    last = -np.ones(number, np.int64)  # number of candidate translates of each cell, by the first texel that is wanted
    order = np.full((number, most), -1, np.int64)
    one = np.empty(channels, np.float32)
    want = np.zeros(number, np.int64)
    for i in range(height):
        for j in range(width):
            if wanted[i, j]:
                want[cells[i, j]] += 1
    # Candidates: the translates that are known for some wanted texel of the cell, near ones first.
    hits = np.zeros((number, len(shifts)), np.int32)
    for i in range(height):
        for j in range(width):
            cell = cells[i, j]
            if want[cell] == 0 or not wanted[i, j]:
                continue
            if want[cell] > 64 and (i % 3 != 0 or j % 3 != 0):
                continue
            n = 0
            for k in range(len(shifts)):
                y, x = int(np.rint(i + shifts[k, 0])), int(np.rint(j + shifts[k, 1]))
                if 0 <= y < height and 0 <= x < width and source[y, x]:
                    hits[cell, k] += 1
                    n += 1
                    if n == most:
                        break
    for cell in range(number):
        n = 0
        top = 0
        for k in range(len(shifts)):
            top = max(top, hits[cell, k])
        for k in range(len(shifts)):
            if top > 0 and 2 * hits[cell, k] >= top:
                order[cell, n] = k
                n += 1
                if n == most:
                    break
        for k in range(len(shifts)):
            if n < most and hits[cell, k] > 0 and 2 * hits[cell, k] < top:
                order[cell, n] = k
                n += 1
        last[cell] = n
    cost = np.zeros((number, most))
    weight = np.zeros((number, most))
    have = np.zeros((number, most))
    for i in range(height):
        for j in range(width):
            cell = cells[i, j]
            if want[cell] == 0 or not (wanted[i, j] or known[i, j]):
                continue
            for n in range(last[cell]):
                k = order[cell, n]
                if not sample(image, source, i + shifts[k, 0], j + shifts[k, 1], False, one):
                    continue
                part = 0.0
                for c in range(channels):
                    target = image[i, j, c] if known[i, j] and not wanted[i, j] else median[i, j, c]
                    part += (one[c] - target) ** 2
                w = 4.0 if known[i, j] and not wanted[i, j] else 1.0
                cost[cell, n] += w * part
                weight[cell, n] += w
                if wanted[i, j]:
                    have[cell, n] += 1
    for cell in range(number):
        if want[cell] == 0:
            continue
        worst = 0.0
        for n in range(last[cell]):
            cost[cell, n] /= max(weight[cell, n], 1.0)
            worst = max(worst, cost[cell, n])
        for n in range(last[cell]):
            cost[cell, n] += 4 * worst * (1 - have[cell, n] / want[cell])
        # In place, by rising cost.
        for n in range(1, last[cell]):
            value, k, m = cost[cell, n], order[cell, n], n
            while m > 0 and cost[cell, m - 1] > value:
                cost[cell, m], order[cell, m] = cost[cell, m - 1], order[cell, m - 1]
                m -= 1
            cost[cell, m], order[cell, m] = value, k
    for i in range(height):
        for j in range(width):
            if not wanted[i, j]:
                continue
            cell = cells[i, j]
            found = False
            for n in range(last[cell]):
                k = order[cell, n]
                if sample(image, source, i + shifts[k, 0], j + shifts[k, 1], True, one):
                    found = True
                    break
            if not found:
                for k in range(len(shifts)):
                    if sample(image, source, i + shifts[k, 0], j + shifts[k, 1], True, one):
                        found = True
                        break
            away = 0.0
            for c in range(channels):
                away += (one[c] - median[i, j, c]) ** 2
            if found and away <= limit[i, j]:
                for c in range(channels):
                    out[i, j, c] = one[c]
