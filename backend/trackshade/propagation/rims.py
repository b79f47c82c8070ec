# SPDX-License-Identifier: GPL-3.0-or-later
"""Colors of surfaces at their rims, where a render's pixels are mixed with what is beside and behind.

Geometry says exactly which share of a pixel each surface covers: it is drawn at S × S samples for each pixel, weighted
by the pixel filter of a render. The pixel's color is the sum of the surfaces' own colors, weighted by their shares.
Each own color is expected to be the mean of the surface's colors beside it, with their variance. The pixel's
difference from the expected mixture is divided among the surfaces in proportion to share times variance, which is the
most probable solution for normal distributions. What a pixel shows of a surface's texture is thereby kept in proportion
to the surface's share, and no color of another surface stays on it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum, auto
from typing import NamedTuple

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.control.scene import ShotRaster
from trackshade.propagation.poses import resize_shot
from trackshade.shot import Shot

SAMPLES = 4  # along each side of a pixel
FILTER_WIDTH = 2.0  # pixels, of a Blackman-Harris window; Blender's default is 1.5, and denoising softens a little
SURFACES = 4  # that one pixel mixes: its own and others; the last one stands for those that no pixel's center shows
_AT_ONCE = 4_000_000  # samples that are drawn at a time
_MARGIN = 1  # pixels that are drawn around them
_ROUNDS = 2
_WHOLE = 0.995  # share of its surface from which a pixel is not mixed
_HALF = 0.3  # difference from one half up to which shares are compared
_COMPARED, _LEAST_COMPARED = 2000, 20  # pixels
_CONTRAST = 0.1  # linear light, of surfaces that are compared
_STRANGE = 0.2  # relative square error, from which pixels are neither mixed nor hard
_PURE = 8  # power of a pixel's share of its surface, by which its color counts for the pixels beside it
_NOISE = 0.02  # relative deviation of a pixel's color from the exact mixture
_FAINT = 0.002  # the same, absolute, linear light
_WRONG = 0.07  # deviation of shares
_TEXTURE = 0.05  # relative deviation that colors of any surface have at least
_UNKNOWN = 0.5  # relative deviation of the color of a surface that is nowhere pure


class Rims(Enum):
    """How the pixels at the rims of a picture come about."""

    MIXED = auto()  # by the geometry's shares, as in a render
    HARD = auto()  # each shows the surface at its center
    PAINTED = auto()  # neither: an outline is drawn along them, or they are not where the geometry has them


class Visible(NamedTuple):
    """What a picture shows, [h, w] each. A plain tuple of arrays, so that kernels can take it.

    Attributes:
        label: int32, see `pictures.SurfacePicture`.
        level: float32, the same.
        slope: float32, change of the level from pixel to pixel.
        tolerance: float32, see `pictures.SurfacePicture`.
    """

    label: np.ndarray
    level: np.ndarray
    slope: np.ndarray
    tolerance: np.ndarray


class _Mixtures(NamedTuple):
    """Surfaces that pixels mix.

    Attributes:
        pixels: [N] int64, flat indices.
        shares: [N, SURFACES] float32, of the surface that the pixel's center shows, of others, and of those that no
            pixel's center shows.
        places: [N, SURFACES - 1] int64, pixels whose centers show the other surfaces, flat indices; -1 for none.
    """

    pixels: np.ndarray
    shares: np.ndarray
    places: np.ndarray


def unmix_rims(
    shot: Shot,
    t: int,
    image: np.ndarray,
    visible: Visible,
    rims: np.ndarray,
    kind: Rims | None = None,
) -> Rims:
    """Replace the colors of pixels at rims by those of the surfaces that their centers show.

    Args:
        shot: the shot, at the picture's size.
        t: the sample that the picture shows.
        image: [h, w, 3] float32 linear light; overwritten.
        visible: what the picture shows.
        rims: [h, w] bool, pixels that may be mixed.
        kind: how they come about; found out by their colors if None.

    Returns:
        How they come about.
    """
    pixels = np.flatnonzero(rims)
    if not len(pixels) or kind is Rims.HARD:
        return Rims.HARD
    shares = np.zeros((len(pixels), SURFACES), np.float32)
    mixtures = _Mixtures(pixels, shares, np.full((len(pixels), SURFACES - 1), -1, np.int64))
    if kind is not Rims.PAINTED:
        _draw_shares(shot, t, visible, mixtures)
    kind = kind or _find_kind(image, visible, mixtures, bool(shot.camera.orthographic[t]))
    if kind is Rims.HARD:
        return kind
    if kind is Rims.PAINTED:
        shares[:] = 0.0
    own = np.ones(rims.shape, np.float32)
    own.ravel()[pixels] = shares[:, 0]
    given = image.copy()
    for _ in range(_ROUNDS):
        _unmix(*mixtures, *visible, own, given, image.copy(), image)
    return kind


def _draw_shares(shot: Shot, t: int, visible: Visible, mixtures: _Mixtures) -> None:
    """Draw the shot band by band, and write the shares and places of the surfaces."""
    weights = filter_weights(FILTER_WIDTH)
    orthographic = bool(shot.camera.orthographic[t])
    height, width = visible.label.shape
    band = max(8, _AT_ONCE // (width * SAMPLES**2))
    first = 0
    for row in range(0, height, band):
        rows = min(band, height - row)
        last = int(np.searchsorted(mixtures.pixels, (row + rows) * width))
        if last > first:
            buffers = ShotRaster(_crop(shot, row - _MARGIN, rows + 2 * _MARGIN)).draw(t)
            part = (values[first:last] for values in mixtures)
            _find_shares(*part, *visible, buffers.label, buffers.depth, orthographic, row, weights)
        first = last


def _find_kind(image: np.ndarray, visible: Visible, mixtures: _Mixtures, orthographic: bool) -> Rims:
    """Compare pixels that two surfaces of different colors share with what is expected of each kind.

    Pixels of the surface in front and of the one behind are compared by themselves, since outlines may be painted on
    one side of a silhouette only.
    """
    pixels, shares, places = mixtures
    two = (np.abs(shares[:, 0] - 0.5) < _HALF) & (shares[:, 0] + shares[:, 1] > _WHOLE) & (places[:, 0] >= 0)
    own = np.ones(image.shape[:2], np.float32)
    own.ravel()[pixels] = 0.0
    level = np.where(visible.label < 0, -np.inf, -visible.level if orthographic else visible.level).ravel()
    is_front = level[pixels] > level[places[:, 0]]
    sides = []
    for side in (two & is_front, two & ~is_front):
        chosen = np.flatnonzero(side)
        chosen = chosen[:: max(1, len(chosen) // _COMPARED)]
        errors = np.full((len(chosen), 2), np.nan)
        _compare(pixels[chosen], shares[chosen], places[chosen], *visible, own, image, errors)
        errors = errors[np.isfinite(errors[:, 0])]
        if len(errors) >= _LEAST_COMPARED:
            sides.append(np.median(errors, axis=0))
    if not sides:
        return Rims.MIXED
    mixed, hard = np.max(sides, axis=0).tolist()
    if min(mixed, hard) > _STRANGE:
        return Rims.PAINTED
    return Rims.MIXED if mixed < hard else Rims.HARD


def filter_weights(width: float) -> np.ndarray:
    """Return the weights [N, N] of the samples around a pixel's center for a Blackman-Harris filter, N even."""
    reach = math.ceil(0.5 * width * SAMPLES - 0.5 + 1e-9)
    at = (np.arange(-reach, reach) + 0.5) / SAMPLES
    phase = 2 * np.pi * (at / width + 0.5)
    values = 0.35875 - 0.48829 * np.cos(phase) + 0.14128 * np.cos(2 * phase) - 0.01168 * np.cos(3 * phase)
    values = np.where(np.abs(at) < 0.5 * width, values, 0.0)
    return np.outer(values, values) / values.sum() ** 2


def _crop(shot: Shot, row: int, rows: int) -> Shot:
    """Return the shot at `SAMPLES` for each pixel, some rows of it, and `_MARGIN` more columns at either side."""
    width, height = shot.size
    large = resize_shot(shot, (width * SAMPLES, height * SAMPLES))
    shift = np.eye(3)
    shift[:2, 2] = _MARGIN * SAMPLES, -row * SAMPLES
    camera = replace(large.camera, intrinsics=shift @ large.camera.intrinsics)
    return replace(large, size=((width + 2 * _MARGIN) * SAMPLES, rows * SAMPLES), camera=camera)


@inlined
def is_continuous(label, level, slope, tolerance, i, j, a, b):
    """Return whether two pixels of a picture, at most a few pixels apart, show one smooth surface."""
    if label[a, b] != label[i, j]:
        return False
    distance = max(abs(i - a), abs(j - b))
    limit = 2.0 * distance * max(slope[i, j], slope[a, b]) + max(tolerance[i, j], tolerance[a, b])
    return abs(np.float64(level[a, b]) - level[i, j]) <= limit


@kernel
def _shows(label, level, slope, tolerance, i, j, mesh, value, distance):
    """Return whether a point `distance` pixels from the center of pixel (i, j) is on the surface that it shows."""
    if label[i, j] != mesh:
        return False
    return abs(value - level[i, j]) <= 2.0 * distance * slope[i, j] + tolerance[i, j]


@kernel
def _find_shares(
    pixels, shares, places, label, level, slope, tolerance, labels, depths, orthographic, first_row, weights
):  # fmt: skip
    """Write `shares` and `places` of pixels; `labels` and `depths` are samples of the rows from `first_row` on."""
    height, width = label.shape
    reach = weights.shape[0] // 2
    for n in range(pixels.size):
        i, j = pixels[n] // width, pixels[n] % width
        top = (i - first_row + _MARGIN) * SAMPLES + SAMPLES // 2 - reach
        left = (j + _MARGIN) * SAMPLES + SAMPLES // 2 - reach
        for a in range(2 * reach):
            for b in range(2 * reach):
                weight = weights[a, b]
                if weight == 0.0:
                    continue
                mesh, value = labels[top + a, left + b], 0.0
                if mesh >= 0:
                    depth = np.float64(depths[top + a, left + b])
                    value = depth if orthographic else 1.0 / depth
                y, x = (a + 0.5 - reach) / SAMPLES, (b + 0.5 - reach) / SAMPLES
                if _shows(label, level, slope, tolerance, i, j, mesh, value, max(abs(y), abs(x))):
                    shares[n, 0] += weight
                    continue
                best, p, q = np.inf, -1, -1
                for c in range(max(0, i - 1), min(height, i + 2)):
                    for d in range(max(0, j - 1), min(width, j + 2)):
                        away = max(abs(c - i - y), abs(d - j - x))
                        if away < best and _shows(label, level, slope, tolerance, c, d, mesh, value, away):
                            best, p, q = away, c, d
                surface = SURFACES - 1
                if p >= 0:
                    for k in range(SURFACES - 2):
                        at = places[n, k]
                        if at < 0:
                            places[n, k] = p * width + q
                            surface = k + 1
                            break
                        if is_continuous(label, level, slope, tolerance, at // width, at % width, p, q):
                            surface = k + 1
                            break
                shares[n, surface] += weight


@kernel
def _expect(i, j, share, place, label, level, slope, tolerance, own, before, means, variances):
    """Write the means [SURFACES, 3] and variances [SURFACES] of the surfaces' colors around a pixel.

    The variance of a surface that is not in the pixel is 0; that of one without colors around it is NaN.
    """
    height, width, channels = before.shape
    for k in range(SURFACES):
        variances[k] = means[k, :] = 0.0
        if share[k] == 0.0 and k > 0:
            continue
        p, q = i, j
        if k > 0 and k < SURFACES - 1:
            p, q = place[k - 1] // width, place[k - 1] % width
        total = squares = brightness = 0.0
        if k < SURFACES - 1:
            for a in range(max(0, i - 2), min(height, i + 3)):
                for b in range(max(0, j - 2), min(width, j + 3)):
                    if (a == i and b == j) or not is_continuous(label, level, slope, tolerance, p, q, a, b):
                        continue
                    weight = own[a, b] ** _PURE / ((i - a) ** 2 + (j - b) ** 2)
                    total += weight
                    for c in range(channels):
                        means[k, c] += weight * before[a, b, c]
                        squares += weight * before[a, b, c] ** 2
        if not total > 1e-6:
            variances[k] = np.nan
            continue
        for c in range(channels):
            means[k, c] /= total
            squares -= total * means[k, c] ** 2
            brightness += means[k, c] / channels
        variances[k] = max(squares, 0.0) / (total * channels) + (_TEXTURE * brightness) ** 2 + _FAINT**2


@kernel
def _compare(pixels, shares, places, label, level, slope, tolerance, own, image, errors):
    """Write the errors [N, 2] of the expected mixture and of the own color, relative to the surfaces' difference.

    They are NaN where surfaces have about the same color, or where no pure pixel is near.
    """
    channels, width = image.shape[2], image.shape[1]
    means, variances = np.zeros((SURFACES, channels)), np.zeros(SURFACES)
    for n in range(pixels.size):
        i, j = pixels[n] // width, pixels[n] % width
        _expect(i, j, shares[n], places[n], label, level, slope, tolerance, own, image, means, variances)
        difference = mixed = hard = 0.0
        for c in range(channels):
            change = means[1, c] - means[0, c]
            difference += change**2
            mixed += (image[i, j, c] - means[0, c] - shares[n, 1] * change) ** 2
            hard += (image[i, j, c] - means[0, c]) ** 2
        if difference > _CONTRAST**2 and variances[0] > 0.0 and variances[1] > 0.0:
            errors[n, 0], errors[n, 1] = mixed / difference, hard / difference


@kernel
def _unmix(pixels, shares, places, label, level, slope, tolerance, own, image, before, out):
    """Write the own colors of pixels of `image`, expected from `before`, the colors so far."""
    channels, width = image.shape[2], image.shape[1]
    means, variances = np.zeros((SURFACES, channels)), np.zeros(SURFACES)
    for n in range(pixels.size):
        i, j = pixels[n] // width, pixels[n] % width
        if shares[n, 0] > _WHOLE:
            continue
        _expect(i, j, shares[n], places[n], label, level, slope, tolerance, own, before, means, variances)
        evidence = noise = brightness = 0.0
        for c in range(channels):
            brightness += image[i, j, c] / channels
        for k in range(SURFACES):
            if np.isnan(variances[k]):
                means[k] = image[i, j]
                variances[k] = (_UNKNOWN * brightness) ** 2 + _FAINT**2
            evidence += shares[n, k] ** 2 * variances[k]
            if shares[n, k] > 0.0:
                for c in range(channels):
                    noise += (_WRONG * (means[k, c] - means[0, c])) ** 2 / channels
        noise += (_NOISE * brightness) ** 2 + _FAINT**2
        gain = shares[n, 0] * variances[0] / (evidence + noise)
        for c in range(channels):
            mixture = 0.0
            for k in range(SURFACES):
                mixture += shares[n, k] * means[k, c]
            out[i, j, c] = max(means[0, c] + gain * (image[i, j, c] - mixture), 0.0)
