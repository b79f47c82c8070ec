# SPDX-License-Identifier: GPL-3.0-or-later
"""The two vectors by which a texture repeats.

The mean squared difference between a partly known image and its copy at every shift comes from a few Fourier transforms
(masked correlation, Padfield 2012, "Masked object registration in the Fourier domain"). Shifts at which it is small,
though not at shifts on the way there, span the lattice of the texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import binary_erosion, minimum_filter

from trackshade.control.compiling import inlined, kernel

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
_DETECTION_SIZE = 1024  # texels along the longer side at which shifts are searched
# Lattice vectors of distance that a shift may be farther for being as alike as usual instead of not at all.
LIKENESS = 6.0
_MOST_SHIFTS = 400
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
    median, count, spread = medians(image, usable_sources(known), shifts, tested, False, MEDIAN_OF)
    at = tested & (count >= 2)
    explained = 0.0
    if at.sum() >= 100:
        error = np.sort(np.square(image[at] - median[at]).sum(axis=1))
        explained = 1 - float(error[: int(0.9 * len(error))].sum() / (0.9 * len(error)) / variance)
        explained *= min(1.0, 2 * float(at.sum()) / float(tested.sum()))  # most of what is known has translates
    return Lattice(vectors, shifts, explained, median, count, spread, variance)


def usable_sources(known: np.ndarray) -> np.ndarray:
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


@inlined
def sample(image, source, y, x, sharp, out):
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
def medians(image, source, shifts, wanted, sharp, most):
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
                if sample(image, source, i + shifts[k, 0], j + shifts[k, 1], sharp, one):
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
            if sample(image, known, i + shifts[k, 0], j + shifts[k, 1], False, one):
                for c in range(image.shape[2]):
                    total += abs(one[c] - image[i, j, c])
                count += 1
    return total / max(count, 1) if count > 50 else 1e9
