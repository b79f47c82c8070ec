# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills from patches of the known image (PatchMatch).

Every patch that touches an unknown texel looks for the known patch most like it (Barnes et al. 2009, "PatchMatch"), and
every unknown texel takes its color from those patches, alternately and from coarse to fine (Wexler et al. 2007,
"Space-time completion of video"). A texel takes the color of the best patch over it, not their mean, so that all colors
are copies of known texels and grain stays grain.

Patches that are already used much count as less alike, so that smooth ones, which are near to everything, do not spread
(Kaspar et al. 2015, "Self tuning texture optimization").

A guide keeps the large scale right: patches whose mean differs from a smooth fill are penalized, more so far away from
what is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, minimum_filter, uniform_filter
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import cg

from trackshade.control.compiling import inlined, kernel

RADIUS = 3  # texels; patches are 7 × 7
REPEAT = 0.5  # by how much of its difference a patch that is used as often as the average is worse than an unused one
_MOST_REPEATS = 20.0  # times the average use, beyond which it gets no worse
MIN_SOURCES = 20  # known patches, below which there is nothing to choose from
_SMALLEST = 40  # texels along the shorter side of the coarsest level
_FADE = 1.15  # factor by which the weight of an unknown texel in a patch falls for each texel to the known
_MIN_WEIGHT = 0.1
_REACH = 8  # texels around a match within which better ones are looked for, from the second level on
_SCREEN = 1e-3  # weight of the copied colors beside the differences between neighbors, when these are blended


@dataclass(frozen=True, eq=False)
class _Level:
    image: np.ndarray  # [h, w, 3] float32, known texels
    known: np.ndarray  # [h, w] bool
    inside: np.ndarray  # [h, w] bool
    smooth: np.ndarray  # [h, w, 3] float32, the smooth fill


def patch_sources(
    image: np.ndarray,  # [h, w, 3] float32, the space in which colors are compared
    known: np.ndarray,  # [h, w] bool
    inside: np.ndarray,  # [h, w] bool
    smooth: np.ndarray,  # [h, w, 3] float32, a smooth fill of the same
    *,
    seed: int = 0,
    guide: float = 1.0,
    progress: Callable[[float], None] = lambda fraction: None,
) -> np.ndarray | None:
    """Find a known texel for every unknown one.

    Args:
        image: the image.
        known: its known texels; the others are ignored.
        inside: the texels that belong to the surface; others are neither filled nor copied.
        smooth: the smooth fill that the result follows at large scale.
        seed: seed of the random search.
        guide: weight of the difference between means of patches and the smooth fill; 0 ignores it.
        progress: called with the fraction that is done; what it raises ends the search.

    Returns:
        Row and column of a known texel for each unknown texel inside, [h, w, 2] int32, -1 elsewhere and for the few
        that no patch reaches. None where the known part holds too few whole patches.
    """
    known = known & inside
    levels = [_Level(np.where(known[..., None], image, 0).astype(np.float32), known, inside, smooth)]
    while min(levels[-1].known.shape) >= 2 * _SMALLEST and len(levels) < 6:
        coarser = _halved(levels[-1])
        if _sources(coarser).sum() < MIN_SOURCES:
            break
        levels.append(coarser)
    if _sources(levels[-1]).sum() < MIN_SOURCES:
        return None
    cost = np.array([3.0 if n == len(levels) - 1 else 1.0 for n in range(len(levels))]) * [
        level.known.size for level in levels
    ]
    found: np.ndarray | None = None
    done = 0.0
    for n in range(len(levels) - 1, -1, -1):

        def report(part: float, n: int = n, done: float = done) -> None:
            progress((done + part * cost[n]) / cost.sum())

        rounds, sweeps = ((10, 4), (4, 3), (2, 2))[min(2, len(levels) - 1 - n)]
        found = _solve(levels[n], found, rounds, sweeps, seed + n, guide, report)
        done += cost[n]
    return found


def _solve(
    level: _Level,
    coarser: np.ndarray | None,
    rounds: int,
    sweeps: int,
    seed: int,
    guide: float,
    progress: Callable[[float], None],
) -> np.ndarray:
    """Find sources at one level, starting from those of the next coarser level."""
    r = RADIUS
    height, width = level.known.shape
    pad = ((r, r), (r, r))
    hole = np.pad(level.inside & ~level.known, pad)
    inside = np.pad(level.inside, pad)
    valid = np.pad(_sources(level), pad)
    touched = (uniform_filter(hole.astype(np.float32), 2 * r + 1) > 1e-6) & inside
    touched[:r] = touched[-r:] = False
    touched[:, :r] = touched[:, -r:] = False
    targets = np.stack(np.nonzero(touched), axis=1).astype(np.int32)
    place = np.full(hole.shape, -1, np.int32)
    place[tuple(targets.T)] = np.arange(len(targets))
    away = np.asarray(distance_transform_edt(hole))
    weight = np.where(inside, np.maximum(_FADE**-away, _MIN_WEIGHT), 0).astype(np.float32)
    image = np.pad(level.image, (*pad, (0, 0)), mode="edge")
    smooth = np.pad(level.smooth, (*pad, (0, 0)), mode="edge")
    size = 2 * r + 1
    share = uniform_filter((inside & ~hole).astype(np.float32), 2 * size + 1)
    mean = np.stack(
        [uniform_filter(np.where(inside & ~hole, image[..., c], 0), 2 * size + 1) for c in range(3)], axis=-1
    ) / np.maximum(share, 1e-6)[..., None]  # fmt: skip
    # The guide fades in with the distance to the known: at the rim the known texels of the patch decide.
    follow = (guide * np.clip(away / (4 * size), 0.05, 1)).astype(np.float32)
    rng = np.random.default_rng(seed)
    choice = np.stack(np.nonzero(valid), axis=1).astype(np.int32)
    match = choice[rng.integers(0, len(choice), len(targets))]
    if coarser is not None:
        half = (targets - r) // 2
        half = np.minimum(half, np.array(coarser.shape[:2]) - 1)
        start = coarser[half[:, 0], half[:, 1]]
        guess = 2 * start + (targets - r) % 2 + r
        fits = (start[:, 0] >= 0) & (guess < np.array(hole.shape)).all(axis=1)
        guess = np.where(fits[:, None], guess, 0)
        fits &= valid[guess[:, 0], guess[:, 1]]
        match[fits] = guess[fits]
    reach = max(height, width) if coarser is None else _REACH
    total = np.empty(len(targets), np.float32)
    _add_weights(weight, targets, total, r)
    cost = np.empty(len(targets), np.float32)
    source = np.full((*hole.shape, 2), -1, np.int32)
    _start(image, smooth, mean, hole, valid, targets, match, source, coarser is None, r)
    state = np.array([seed * 2 + 1], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = len(targets) / max(int(valid.sum()), 1)
    for number in range(rounds):
        progress(number / rounds)
        counts = np.zeros(hole.shape, np.float32)
        np.add.at(counts, tuple(match.T), 1)
        usage = 1 + np.float32(REPEAT) * np.minimum(uniform_filter(counts, size) / np.float32(expected), _MOST_REPEATS)
        _measure(image, weight, total, smooth, mean, follow, usage, targets, match, cost, r)
        for sweep in range(sweeps):
            _search(
                image, weight, total, smooth, mean, follow, usage, valid, place, targets, match, cost, r, reach,
                sweep % 2, state,
            )  # fmt: skip
        _vote(image, hole, place, match, cost, source, r)
    out = source[r:-r, r:-r] - r
    return np.where(source[r:-r, r:-r] >= 0, out, -1).astype(np.int32)


def blend_sources(
    image: np.ndarray,  # [h, w, 3] float32
    known: np.ndarray,  # [h, w] bool
    source: np.ndarray,  # [h, w, 2] int32
) -> np.ndarray:
    """Copy known texels to unknown ones without steps between texels that come from different places.

    The result has the differences between neighbors that the sources have, and about their colors (a screened Poisson
    equation, as in Darabi et al. 2012, "Image Melding"). It suits soft textures, such as clouds.

    Args:
        image: the image.
        known: its known texels.
        source: what `patch_sources` returns.

    Returns:
        The image [h, w, 3] float32 with the unknown texels that have a source.
    """
    found = ~known & (source[..., 0] >= 0)
    places = np.where(known[..., None], np.moveaxis(np.indices(known.shape), 0, -1), source)
    used = known | found
    out = np.where(used[..., None], image[tuple(np.moveaxis(np.maximum(places, 0), -1, 0))], 0).astype(np.float64)
    number = np.full(known.shape, -1)
    number[found] = np.arange(found.sum())
    right_side, diagonal = _SCREEN * out[found], np.full(found.sum(), _SCREEN)
    rows, columns = [], []
    for step in ((0, 1), (1, 0)):
        first = (slice(0, known.shape[0] - step[0]), slice(0, known.shape[1] - step[1]))
        second = (slice(step[0], None), slice(step[1], None))
        pair = used[first] & used[second] & (found[first] | found[second])
        one, other = number[first][pair], number[second][pair]
        total, count = np.zeros((len(one), 3)), np.zeros((len(one), 1))
        for at, sign in ((places[first][pair], 1), (places[second][pair], -1)):
            beside = at + sign * np.array(step)
            has = (beside >= 0).all(axis=1) & (beside < known.shape).all(axis=1)
            has[has] = known[tuple(beside[has].T)]
            total[has] += sign * (image[tuple(beside[has].T)] - image[tuple(at[has].T)])
            count += has[:, None]
        slope = total / np.maximum(count, 1)
        for own, neighbor, values in (
            (one, other, out[second][pair] - slope),
            (other, one, out[first][pair] + slope),
        ):
            free, both = own >= 0, (own >= 0) & (neighbor >= 0)
            np.add.at(diagonal, own[free], 1.0)
            fixed = free & (neighbor < 0)
            np.add.at(right_side, own[fixed], values[fixed])
            sign = -1.0 if own is one else 1.0
            np.add.at(right_side, own[both], sign * slope[both])
            rows.append(own[both])
            columns.append(neighbor[both])
    row, column = np.concatenate(rows), np.concatenate(columns)
    matrix = diags_array(diagonal).tocsr() - coo_array(
        (np.ones(len(row)), (row, column)), shape=(len(diagonal), len(diagonal))
    )
    solved = [cg(matrix, right_side[:, k], x0=out[found][:, k], rtol=1e-4, maxiter=400)[0] for k in range(3)]
    out[found] = np.stack(solved, axis=1)
    return out.astype(np.float32)


def _halved(level: _Level) -> _Level:
    """Return the level at half the size. A texel is known if all it averages is known, or outside the surface."""
    height, width = (side // 2 * 2 for side in level.known.shape)

    def blocks(values: np.ndarray) -> np.ndarray:
        return values[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).sum(axis=(1, 3))

    count = blocks(level.known)[..., 0]
    inside = blocks(level.inside)[..., 0]
    image = blocks(level.image * level.known[..., None]) / np.maximum(count, 1)[..., None]
    smooth = blocks(level.smooth) / 4
    return _Level(image.astype(np.float32), (count == inside) & (inside > 0), inside > 0, smooth.astype(np.float32))


def _sources(level: _Level) -> np.ndarray:
    """Return the middles of patches that are wholly known, [h, w] bool."""
    return minimum_filter(level.known, 2 * RADIUS + 1, mode="constant", cval=0).astype(bool)


@kernel
def _start(image, smooth, mean, hole, valid, targets, match, source, first, r):
    """Give unknown texels a first color: that of the match of their own patch."""
    for n in range(len(targets)):
        i, j = targets[n, 0], targets[n, 1]
        if not hole[i, j]:
            continue
        y, x = match[n, 0], match[n, 1]
        source[i, j, 0], source[i, j, 1] = y, x
        for c in range(3):
            image[i, j, c] = smooth[i, j, c] if first else image[y, x, c]


@kernel
def _add_weights(weight, targets, total, r):
    """Write the sum of the weights of each target's patch."""
    for n in range(len(targets)):
        i, j = targets[n, 0], targets[n, 1]
        total[n] = 0.0
        for a in range(-r, r + 1):
            for b in range(-r, r + 1):
                total[n] += weight[i + a, j + b]


@inlined
def _distance(image, weight, sum_weight, smooth, mean, follow, usage, i, j, y, x, r, limit):
    """Weighted mean squared difference of two patches and of their means; anything larger than `limit` if it is so."""
    extra = np.float32(0.0)
    for c in range(3):
        extra += (smooth[i, j, c] - mean[y, x, c]) ** 2
    total = follow[i, j] * extra * sum_weight
    stop = limit * sum_weight / usage[y, x]
    for a in range(-r, r + 1):
        for b in range(-r, r + 1):
            d0 = image[i + a, j + b, 0] - image[y + a, x + b, 0]
            d1 = image[i + a, j + b, 1] - image[y + a, x + b, 1]
            d2 = image[i + a, j + b, 2] - image[y + a, x + b, 2]
            total += weight[i + a, j + b] * (d0 * d0 + d1 * d1 + d2 * d2)
        if total > stop:
            return np.float32(3e38)
    return total / sum_weight * usage[y, x]


@kernel
def _measure(image, weight, total, smooth, mean, follow, usage, targets, match, cost, r):
    for n in range(len(targets)):
        cost[n] = _distance(
            image, weight, total[n], smooth, mean, follow, usage, targets[n, 0], targets[n, 1], match[n, 0],
            match[n, 1], r, np.float32(1e30),
        )  # fmt: skip


@kernel
def _search(
    image, weight, total, smooth, mean, follow, usage, valid, place, targets, match, cost, r, reach, backward, state
):  # fmt: skip
    """One sweep: the matches of the neighbors, shifted, and random ones around the present match."""
    height, width = valid.shape
    count = len(targets)
    random = state[0]
    step = -1 if backward else 1
    for q in range(count):
        n = count - 1 - q if backward else q
        i, j = targets[n, 0], targets[n, 1]
        for side in range(2):
            a, b = (i - step, j) if side == 0 else (i, j - step)
            k = place[a, b]
            if k < 0:
                continue
            y, x = match[k, 0] + (i - a), match[k, 1] + (j - b)
            if (y == match[n, 0] and x == match[n, 1]) or not valid[y, x]:
                continue
            d = _distance(image, weight, total[n], smooth, mean, follow, usage, i, j, y, x, r, cost[n])
            if d < cost[n]:
                cost[n], match[n, 0], match[n, 1] = d, y, x
        radius = reach
        while radius >= 1:
            random ^= random << np.uint64(13)
            random ^= random >> np.uint64(7)
            random ^= random << np.uint64(17)
            span = np.uint64(2 * radius + 1)
            y = match[n, 0] + np.int64((random >> np.uint64(8)) % span) - radius
            x = match[n, 1] + np.int64((random >> np.uint64(36)) % span) - radius
            radius //= 2
            if y < 0 or x < 0 or y >= height or x >= width or not valid[y, x]:
                continue
            d = _distance(image, weight, total[n], smooth, mean, follow, usage, i, j, y, x, r, cost[n])
            if d < cost[n]:
                cost[n], match[n, 0], match[n, 1] = d, y, x
    state[0] = random


@kernel
def _vote(image, hole, place, match, cost, source, r):
    """Give every unknown texel the color that the best patch over it brings."""
    height, width = hole.shape
    for i in range(r, height - r):
        for j in range(r, width - r):
            if not hole[i, j]:
                continue
            best = np.float32(3e38)
            for a in range(-r, r + 1):
                for b in range(-r, r + 1):
                    n = place[i + a, j + b]
                    if n >= 0 and cost[n] < best:
                        best = cost[n]
                        source[i, j, 0], source[i, j, 1] = match[n, 0] - a, match[n, 1] - b
    for i in range(r, height - r):
        for j in range(r, width - r):
            if hole[i, j] and source[i, j, 0] >= 0:
                for c in range(3):
                    image[i, j, c] = image[source[i, j, 0], source[i, j, 1], c]
