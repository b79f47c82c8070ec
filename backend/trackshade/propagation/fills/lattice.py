# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuation of repeating textures: the two vectors by which a texture repeats, and fills from its translates.

The mean squared difference between a partly known image and its copy at every shift comes from a few Fourier transforms
(masked correlation, Padfield 2012, "Masked object registration in the Fourier domain"). Shifts at which it is small,
though not at shifts on the way there, span the lattice of the texture. An unknown texel then takes the median of
known texels at whole multiples of the lattice vectors. Where those differ, as bricks do, each unit of the
texture takes all of its texels from one translate instead, so that it keeps its grain and its color.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates, minimum_filter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from trackshade.control.compiling import inlined, kernel
from trackshade.propagation.fills.push_pull import push_pull

MIN_EXPLAINED = 0.6  # fraction of the variance of known texels that the lattice predicts; below it, it is not used
MIN_PERIOD = 5  # texels
MIN_OVERLAP = 0.03  # fraction of the known texels that a shift brings onto known texels
CANDIDATE = 0.45  # mismatch (see `mismatch_of_shifts`) of shifts that are considered
PROMINENCE = 2.0  # by which factor the mismatch rises on the way to such a shift
# Percent of the known texels at either end whose colors are clipped in the search for shifts, so that decals do not
# decide; without clipping for thin lines.
OUTLIERS = (5, 0)
SURE = 0.8  # fraction of the variance that a lattice explains, from which no other is looked for
MEDIAN_OF = 9  # translates
LIGHT_SCALE = 0.75  # standard deviation of the blur that finds slow variation, relative to the lattice vectors
LEAST_LIGHT = 0.01  # mean natural logarithm of slow variation, up to which it does not matter
AGREEMENT = 0.01  # mean squared spread of translates, relative to the variance, up to which the median is taken
_DETECTION_SIZE = 1024  # texels along the longer side at which shifts are searched
LIKENESS = (
    6.0  # lattice vectors of distance that a shift may be farther for being as alike as usual instead of not at all
)
STRAY = 12.0  # multiples of the usual spread from which a translate is not believed, and the median is taken
_MOST_SHIFTS = 400
_PER_CELL = 16  # translates that a unit of the texture chooses from
_MIDDLES = 40  # places that are tried as the middle of a unit
_DARK = 0.1  # added to values before the logarithm, relative to their mean of about 1
_FINE = 256  # places along each lattice vector that are told apart for it
_TORUS = 36  # samples along each lattice vector of the map of disagreement in a unit
_AROUND = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])


@dataclass(frozen=True, eq=False)
class Lattice:
    """How a texture repeats.

    Attributes:
        vectors: [2, 2] float64, the two lattice vectors as rows (rows, columns of the image), in texels.
        shifts: [K, 2] float64, whole multiples of them, the ones at which the texture is most alike first.
        explained: fraction of the variance of known texels that the median of their translates predicts.
        median: [h, w, 3] float32, median of the known translates of each known texel, itself left out.
        count: [h, w] int32, number of translates in it.
        spread: [h, w] float32, mean squared difference of the translates from the median, summed over channels.
        variance: variance of the known texels, summed over channels.
    """

    vectors: np.ndarray
    shifts: np.ndarray
    explained: float
    median: np.ndarray
    count: np.ndarray
    spread: np.ndarray
    variance: float


def find_lattice(
    image: np.ndarray,  # [h, w, 3] float32
    known: np.ndarray,  # [h, w] bool
) -> Lattice | None:
    """Find the finest lattice on which the known part of an image repeats; None if none explains it well enough."""
    if known.sum() < 400:
        return None
    variance = float(image[known].astype(np.float64).var(axis=0).sum())
    if variance < 1e-6 * max(float(np.square(image[known]).mean()), 1e-12):
        return None
    step = -(-max(known.shape) // _DETECTION_SIZE)
    small, small_known = _reduce(image, known, step) if step > 1 else (image, known)
    if small_known.sum() < 400:
        return None
    best = None
    for percent in OUTLIERS:
        low, high = np.percentile(small[small_known], [percent, 100 - percent], axis=0).astype(np.float32)
        if (high <= low).all():
            continue
        look = Mismatch(mismatch_of_shifts(np.clip(small, low, high), small_known))
        vectors = _lattice_vectors(look)
        if vectors is None:
            continue
        vectors = _polish(image, known, vectors * step)
        lattice = predict(image, known, vectors, lattice_shifts(vectors, known.shape, look, step), variance)
        if best is None or lattice.explained > best.explained:
            best = lattice
        if best.explained > SURE:
            break
    return best if best is not None and best.explained >= MIN_EXPLAINED else None


def mismatch_of_shifts(
    image: np.ndarray,  # [h, w, 3] float32
    known: np.ndarray,  # [h, w] bool
) -> np.ndarray:
    """Return the mean squared difference between an image and its shifted copy, over texels known in both.

    Returns:
        [2h - 1, 2w - 1] float32, relative to twice the variance: 0 where the shift repeats the image, about 1 where the
        two are unrelated, inf where too few texels overlap. Shift (0, 0) is in the middle.
    """
    height, width = known.shape
    shape = tuple(scipy.fft.next_fast_len(2 * side, real=True) for side in known.shape)
    mask = known.astype(np.float32)
    mask_f = np.asarray(scipy.fft.rfft2(mask, shape))
    centered = (image - image[known].mean(axis=0)) * mask[..., None]
    products = np.zeros(mask_f.shape, np.float32)
    for channel in range(image.shape[2]):
        products -= 2 * np.square(np.abs(np.asarray(scipy.fft.rfft2(centered[..., channel], shape))))
    squares_f = np.asarray(scipy.fft.rfft2(np.square(centered).sum(axis=2), shape))
    products += 2 * (np.conj(mask_f) * squares_f).real
    overlap = np.asarray(scipy.fft.irfft2(np.square(np.abs(mask_f)), shape))
    # Both terms of the squares: what is known in the image, and what is known in its copy.
    difference = np.asarray(scipy.fft.irfft2(products, shape))
    enough = overlap > max(MIN_OVERLAP * known.sum(), 100)
    variance = float(np.square(centered[known]).sum(axis=1).mean())
    out = np.where(enough, difference / np.maximum(overlap, 1) / (2 * variance), np.inf).astype(np.float32)
    rows = np.arange(-height + 1, height)
    return np.maximum(out[np.ix_(rows, np.arange(-width + 1, width))], 0)


def predict(
    image: np.ndarray,  # [h, w, 3] float32
    known: np.ndarray,  # [h, w] bool
    vectors: np.ndarray,  # [2, 2]
    shifts: np.ndarray,  # [K, 2]
    variance: float,
    every: int = 1,
) -> Lattice:
    """Predict the known texels, or only those of `every` few rows and columns, from whole multiples of the vectors.

    The tenth of them that it predicts worst does not count, since shadows and decals do not repeat.
    """
    tested = np.zeros_like(known)
    tested[::every, ::every] = known[::every, ::every]
    median, count, spread = _medians(image, _sources(known), shifts, tested, False, MEDIAN_OF)
    at = tested & (count >= 2)
    explained = 0.0
    if at.sum() >= 100:
        error = np.sort(np.square(image[at] - median[at]).sum(axis=1))
        explained = 1 - float(error[: int(0.9 * len(error))].sum() / (0.9 * len(error)) / variance)
        explained *= min(1.0, 2 * float(at.sum()) / float(tested.sum()))  # most of what is known has translates
    return Lattice(vectors, shifts, explained, median, count, spread, variance)


def _sources(known: np.ndarray) -> np.ndarray:
    """Return the known texels without those next to unknown ones, which may be mixed with something else."""
    inner = binary_erosion(known, border_value=1)
    return inner if inner.sum() >= 0.5 * known.sum() else known


def lattice_shifts(vectors: np.ndarray, shape: tuple[int, ...], look: Mismatch, step: int) -> np.ndarray:
    """Return the multiples of the lattice vectors but zero, [K, 2] float64, the most alike first.

    That a shift is near and nearly a whole number of texels counts as well. `step` is the texels of one of `look`.
    """
    reach = max(shape)
    inverse = np.linalg.inv(vectors)
    most = np.ceil(np.abs(inverse).max(axis=0) * reach * 1.5).astype(int)
    most = np.minimum(most, 60)
    multiples = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in most), indexing="ij"), axis=-1).reshape(-1, 2)
    multiples = multiples[(multiples != 0).any(axis=1)]
    shifts = multiples @ vectors
    multiples = multiples[(np.abs(shifts) < np.array(shape)).all(axis=1)]
    shifts = multiples @ vectors
    # A fraction of a texel costs sharpness. Where too little overlaps, a shift is taken for a bad one.
    fraction = np.abs(shifts - np.rint(shifts)).sum(axis=1)
    unlike = look.lowest(shifts / step)
    usual = float(np.median(unlike[unlike < 9])) if (unlike < 9).any() else 1.0
    unlike = np.minimum(unlike, 2 * usual) / max(usual, 1e-4)
    cost = np.hypot(*shifts.T) / np.hypot(*vectors.T).mean() + 3 * fraction + LIKENESS * unlike
    return shifts[np.argsort(cost, kind="stable")[:_MOST_SHIFTS]]


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
    source = _sources(known)
    median, count, _ = _medians(image, source, lattice.shifts, wanted, True, MEDIAN_OF)
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


def _reduce(image: np.ndarray, known: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Average blocks of texels; a block is known if all of its texels are."""
    height, width = (side // step * step for side in known.shape)
    blocks = image[:height, :width].reshape(height // step, step, width // step, step, -1)
    whole = known[:height, :width].reshape(height // step, step, width // step, step).all(axis=(1, 3))
    return np.where(whole[..., None], blocks.mean(axis=(1, 3)), 0).astype(np.float32), whole


def _lattice_vectors(look: Mismatch) -> np.ndarray | None:
    """Return two vectors that span the shifts of small mismatch, [2, 2]; None if there are none."""
    finite, half = look.values, look.half
    lowest = (finite <= minimum_filter(finite, 5, mode="nearest")) & (finite < CANDIDATE)
    lowest[: half[0]] = False  # a shift and its opposite have the same mismatch
    lowest[half[0], : half[1]] = False
    rows, columns = np.nonzero(lowest)
    shifts = np.stack([rows - half[0], columns - half[1]], axis=1).astype(np.float64)
    value = finite[rows, columns]
    length = np.hypot(*shifts.T)
    use = length >= MIN_PERIOD
    shifts, value, length = shifts[use], value[use], length[use]
    if not len(shifts):
        return None
    best = np.argsort(value, kind="stable")[:300]
    best = best[np.argsort(length[best], kind="stable")]
    peaks = []
    for shift, low in zip(shifts[best], value[best], strict=True):
        if look.rises(shift, float(low)):
            peaks.append(look.peak(shift))
    if not peaks:
        return None
    near = np.array(peaks[:24])
    found = []
    for i, first in enumerate(near):
        for second in near[i + 1 :]:
            pair = _reduced(first, second)
            if pair is not None and all(map(look.rises, pair, look.lowest(pair))):
                found.append((look.of_lattice(pair), abs(float(np.linalg.det(pair))), pair))
        pair = look.stripes(first)
        if pair is not None:
            found.append((look.of_lattice(pair), abs(float(np.linalg.det(pair))), pair))
    if not found:
        return None
    best_mismatch = min(mean for mean, _, _ in found)
    if best_mismatch > CANDIDATE:
        return None
    limit = max(1.35 * best_mismatch, best_mismatch + 0.04)
    return min((item for item in found if item[0] <= limit), key=lambda item: item[1])[2]


def _reduced(first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """Reduce two vectors to the shortest that span the same lattice; None if they are nearly parallel."""
    a, b = (first, second) if first @ first <= second @ second else (second, first)
    for _ in range(32):
        b = b - np.rint(a @ b / (a @ a)) * a
        if b @ b < MIN_PERIOD**2:
            return None
        if b @ b >= a @ a:
            break
        a, b = b, a
    sine = abs(a[0] * b[1] - a[1] * b[0]) / np.sqrt((a @ a) * (b @ b))
    return np.stack([a, b]) if sine > 0.3 else None


class Mismatch:
    """Looks up shifts in the map of `mismatch_of_shifts`; 9 instead of inf."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.where(np.isfinite(values), values, np.float32(9))
        self.half = np.array(values.shape) // 2

    def at(self, shifts: np.ndarray) -> np.ndarray:
        """Return the mismatch of the nearest whole shifts, [N]; 9 beyond the map."""
        index = np.rint(shifts).astype(int) + self.half
        inside = ((index >= 0) & (index < self.values.shape)).all(axis=1)
        index = np.where(inside[:, None], index, 0)
        return np.where(inside, self.values[index[:, 0], index[:, 1]], 9)

    def lowest(self, shifts: np.ndarray) -> np.ndarray:
        """Return the least mismatch of the whole shifts next to each, [N]; where a texture is sharp, rounding costs."""
        return self.at((shifts[:, None] + _AROUND).reshape(-1, 2)).reshape(len(shifts), -1).min(axis=1)

    def rises(self, shift: np.ndarray, low: float) -> bool:
        """Whether the mismatch rises on the way to a shift, so that it is a repetition and not mere smoothness."""
        way = self.at(np.linspace(0, 1, 33)[1:-1, None] * shift)
        return bool(way[way < 9].max(initial=0) > max(PROMINENCE * low, low + 0.15))

    def peak(self, shift: np.ndarray) -> np.ndarray:
        """Return the lowest point near a local minimum, to a fraction of a texel (parabolas through 3 values)."""
        out = shift.astype(np.float64)
        for axis in range(2):
            unit = np.eye(2)[axis]
            low, middle, high = self.at(np.stack([shift - unit, shift, shift + unit])).astype(np.float64)
            bend = low + high - 2 * middle
            if max(low, high) < 9 and bend > 1e-9:
                out[axis] += np.clip(0.5 * (low - high) / bend, -0.5, 0.5)
        return out

    def of_lattice(self, vectors: np.ndarray) -> float:
        """Return the mean mismatch at the smallest multiples of two vectors, 9 if too few are in the map."""
        n = np.array([(i, j) for i in range(4) for j in range(-3, 4) if (i, j) > (0, 0)])
        values = self.lowest(n @ vectors)
        values = values[values < 9]
        return float(values.mean()) if len(values) >= 3 else 9.0

    def stripes(self, vector: np.ndarray) -> np.ndarray | None:
        """Return a lattice of stripes across a vector: the image hardly changes at right angles to it."""
        across = np.array([-vector[1], vector[0]])
        way = self.at(np.linspace(0, 3, 49)[1:, None] * across)
        way = way[way < 9]
        low = float(self.at(vector[None])[0])
        if len(way) < 12 or way.max() > max(1.5 * low, low + 0.08):
            return None
        return np.stack([vector, across])


def _polish(image: np.ndarray, known: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Improve lattice vectors by small steps, by the differences between known texels and their translates."""
    rows, columns = np.nonzero(binary_erosion(known, border_value=0))
    if len(rows) < 200:
        return vectors
    pick = np.random.default_rng(0).permutation(len(rows))[:3000]
    points = np.stack([rows[pick], columns[pick]], axis=1).astype(np.float64)
    size = np.hypot(*vectors.T).mean()
    reach = int(np.clip(0.3 * max(known.shape) / size, 1, 6))
    n = np.array([(i, j) for i in range(reach + 1) for j in range(-reach, reach + 1) if (i, j) > (0, 0)])
    n = n[np.argsort(np.abs(n).sum(axis=1), kind="stable")]
    n = np.concatenate([n[:4], n[-12:]]) if len(n) > 16 else n
    start, limit = vectors, max(1.0, 0.03 * float(np.hypot(*vectors.T).min()))
    best = _difference(image, known, points, n @ vectors)
    step = 0.5
    while step > 0.01:
        improved = False
        for entry in range(4):
            for sign in (step, -step):
                trial = vectors.copy()
                trial.flat[entry] += sign
                if np.abs(trial - start).max() > limit:
                    continue
                value = _difference(image, known, points, n @ trial)
                if value < best * (1 - 1e-4):
                    best, vectors, improved = value, trial, True
                    break
        if not improved:
            step /= 2
    whole = np.rint(vectors)
    if np.abs(whole - vectors).max() < 0.03 and _difference(image, known, points, n @ whole) <= 1.02 * best + 1e-12:
        return whole
    return vectors


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


@inlined
def _sample(image, source, y, x, sharp, out):
    """Interpolate at a point, by cubics if `sharp` and where possible; False if a texel next to it is not a source."""
    height, width = source.shape
    i, j = int(np.floor(y)), int(np.floor(x))
    r, s = np.float32(y - i), np.float32(x - j)
    if r < 0.02:
        r = np.float32(0.0)
    elif r > 0.98:
        i, r = i + 1, np.float32(0.0)
    if s < 0.02:
        s = np.float32(0.0)
    elif s > 0.98:
        j, s = j + 1, np.float32(0.0)
    if i < 0 or j < 0 or i >= height or j >= width or not source[i, j]:
        return False
    down, right = (1 if r > 0 else 0), (1 if s > 0 else 0)
    if i + down >= height or j + right >= width:
        return False
    if not (source[i + down, j] and source[i, j + right] and source[i + down, j + right]):
        return False
    one = np.float32(1.0)
    smooth = sharp and (down == 1 or right == 1) and 1 <= i < height - 2 and 1 <= j < width - 2
    if smooth:
        for a in range(-1, 3):
            for b in range(-1, 3):
                smooth = smooth and source[i + a, j + b]
    for k in range(image.shape[2]):
        if smooth:
            low = min(min(image[i, j, k], image[i, j + 1, k]), min(image[i + 1, j, k], image[i + 1, j + 1, k]))
            high = max(max(image[i, j, k], image[i, j + 1, k]), max(image[i + 1, j, k], image[i + 1, j + 1, k]))
            value = _cubic(
                _cubic(image[i - 1, j - 1, k], image[i - 1, j, k], image[i - 1, j + 1, k], image[i - 1, j + 2, k], s),
                _cubic(image[i, j - 1, k], image[i, j, k], image[i, j + 1, k], image[i, j + 2, k], s),
                _cubic(image[i + 1, j - 1, k], image[i + 1, j, k], image[i + 1, j + 1, k], image[i + 1, j + 2, k], s),
                _cubic(image[i + 2, j - 1, k], image[i + 2, j, k], image[i + 2, j + 1, k], image[i + 2, j + 2, k], s),
                r,
            )
            out[k] = min(max(value, low), high)
            continue
        top = image[i, j, k] * (one - s) + image[i, j + right, k] * s
        below = image[i + down, j, k] * (one - s) + image[i + down, j + right, k] * s
        out[k] = top * (one - r) + below * r
    return True


@inlined
def _cubic(a, b, c, d, t):
    """Interpolate between b and c by the cubic of Catmull and Rom."""
    half = np.float32(0.5)
    return b + half * t * (
        c
        - a
        + t * (np.float32(2) * a - np.float32(5) * b + np.float32(4) * c - d + t * (np.float32(3) * (b - c) + d - a))
    )


@kernel
def _medians(image, source, shifts, wanted, sharp, most):
    """Median, number and spread of the first known translates of the wanted texels."""
    height, width, channels = image.shape
    median = np.zeros((height, width, channels), np.float32)
    count = np.zeros((height, width), np.int32)
    spread = np.zeros((height, width), np.float32)
    values, one = np.empty((channels, most), np.float32), np.empty(channels, np.float32)
    for i in range(height):
        for j in range(width):
            if not wanted[i, j]:
                continue
            n = 0
            for k in range(len(shifts)):
                if _sample(image, source, i + shifts[k, 0], j + shifts[k, 1], sharp, one):
                    for c in range(channels):
                        # Inserted in order, so that the median is the middle.
                        at = n
                        while at > 0 and values[c, at - 1] > one[c]:
                            values[c, at] = values[c, at - 1]
                            at -= 1
                        values[c, at] = one[c]
                    n += 1
                    if n == most:
                        break
            count[i, j] = n
            if n == 0:
                continue
            total = np.float32(0.0)
            for c in range(channels):
                middle = np.float32(0.5) * (values[c, (n - 1) // 2] + values[c, n // 2])
                median[i, j, c] = middle
                for m in range(n):
                    total += (values[c, m] - middle) ** 2
            spread[i, j] = total / n
    return median, count, spread


@kernel
def _difference(image, known, points, shifts):
    """Mean squared difference between texels and their translates, where both are known; robust against outliers."""
    one = np.empty(image.shape[2], np.float32)
    total, count = 0.0, 0
    for n in range(len(points)):
        i, j = int(points[n, 0]), int(points[n, 1])
        for k in range(len(shifts)):
            if _sample(image, known, i + shifts[k, 0], j + shifts[k, 1], False, one):
                for c in range(image.shape[2]):
                    total += abs(one[c] - image[i, j, c])
                count += 1
    return total / max(count, 1) if count > 50 else 1e9


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
                if not _sample(image, source, i + shifts[k, 0], j + shifts[k, 1], False, one):
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
                if _sample(image, source, i + shifts[k, 0], j + shifts[k, 1], True, one):
                    found = True
                    break
            if not found:
                for k in range(len(shifts)):
                    if _sample(image, source, i + shifts[k, 0], j + shifts[k, 1], True, one):
                        found = True
                        break
            away = 0.0
            for c in range(channels):
                away += (one[c] - median[i, j, c]) ** 2
            if found and away <= limit[i, j]:
                for c in range(channels):
                    out[i, j, c] = one[c]
