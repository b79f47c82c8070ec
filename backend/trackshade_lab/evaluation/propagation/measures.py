# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of propagated frames against the true ones; images are [N, H, W, 3], levels 0..255.

*Known* pixels show what the first frame shows, *unseen* ones do not. PSNR of unseen pixels is highest for a flat color
wherever nobody can know what is there; the distance of patches and the gradient energy say whether there is texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.images import psnr
from trackshade.results.consistency import bilinear

from ..image_measures import WINDOW_MARGIN, ratio, ssim_map
from ..measures import Column
from .surfaces import FollowedPoints

PATCH = 5  # pixels along a side
_MAX_PATCHES, _DIRECTIONS = 8192, 64
_MIN_PATCHES = 64  # below which patches are not compared

COLUMNS: dict[str, Column] = {
    "psnr": Column("PSNR dB", 2),
    "psnr_known": Column("PSNR known", 2),
    "psnr_unseen": Column("PSNR unseen", 2),
    "ssim": Column("SSIM", 3),
    "ssim_unseen": Column("SSIM unseen", 3),
    "swd_unseen": Column("patch distance unseen", 2),
    "gradient_unseen": Column("gradient energy unseen", 2),
    "flicker": Column("flicker", 2),
    "flicker_unseen": Column("flicker unseen", 2),
    "seconds_prepare": Column("s to prepare", 1),
    "seconds_frame": Column("s a frame", 2),
}


@dataclass(frozen=True)
class Reference:
    """What images are compared with.

    Attributes:
        truth: [N, H, W, 3] uint8, the true frames, the first one first.
        known: [N, H, W] bool, known pixels.
        points: Points of surfaces in the same samples.
    """

    truth: np.ndarray
    known: np.ndarray
    points: FollowedPoints


def measure(
    reference: Reference,
    images: np.ndarray,  # [N, H, W, 3] uint8
) -> dict[str, float]:
    """Measure images; NaN where a measure does not apply. All but flicker leave out the first frame, which was given.

    PSNR and SSIM are means over frames; frames without unseen pixels do not count for those of unseen pixels.
    """
    truth, made, known = reference.truth[1:], images[1:], reference.known[1:]
    maps = [ssim_map(a, b).mean(axis=-1) for a, b in zip(truth, made, strict=True)]
    inner = known[:, WINDOW_MARGIN:-WINDOW_MARGIN, WINDOW_MARGIN:-WINDOW_MARGIN]
    points = reference.points
    return {
        "psnr": _mean([psnr(a, b) for a, b in zip(truth, made, strict=True)]),
        "psnr_known": _mean([psnr(*frame) for frame in zip(truth, made, known, strict=True)]),
        "psnr_unseen": _mean([psnr(*frame) for frame in zip(truth, made, ~known, strict=True)]),
        "ssim": float(np.mean(maps)),
        "ssim_unseen": _mean([float(m[~k].mean()) for m, k in zip(maps, inner, strict=True) if not k.all()]),
        "swd_unseen": patch_distance(truth, made, ~known),
        "gradient_unseen": gradient_ratio(truth, made, ~known),
        "flicker": flicker(reference.truth, images, points.position, points.visible),
        "flicker_unseen": flicker(
            reference.truth, images, points.position[~points.known], points.visible[~points.known]
        ),
    }


def _mean(values: list[float]) -> float:
    """The mean of the values that are numbers; NaN without any."""
    numbers = [value for value in values if np.isfinite(value)]
    return float(np.mean(numbers)) if numbers else float("nan")


def patch_distance(
    truth: np.ndarray,
    images: np.ndarray,
    mask: np.ndarray,  # [N, H, W] bool
    seed: int = 0,
) -> float:
    """Compute the sliced Wasserstein distance of the patches around masked pixels (Rabin et al. 2011), in levels.

    Patches are compared as sets, without their mean colors, so that texture counts, not where exactly it is. Along each
    of 64 random directions of unit length, the distance is the mean absolute difference of the sorted projections.

    Returns:
        The mean over the directions; NaN for fewer than 64 patches.
    """
    margin = PATCH // 2
    middle = np.zeros(mask.shape, bool)
    middle[:, margin:-margin, margin:-margin] = mask[:, margin:-margin, margin:-margin]
    n, y, x = np.nonzero(middle)
    rng = np.random.default_rng(seed)
    if len(n) < _MIN_PATCHES:
        return float("nan")
    if len(n) > _MAX_PATCHES:
        chosen = np.sort(rng.permutation(len(n))[:_MAX_PATCHES])
        n, y, x = n[chosen], y[chosen], x[chosen]
    offsets = np.arange(PATCH) - margin
    place = n[:, None, None], y[:, None, None] + offsets[:, None], x[:, None, None] + offsets
    directions = rng.normal(size=(PATCH * PATCH * 3, _DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)

    def project(pictures: np.ndarray) -> np.ndarray:
        patches = pictures[place].astype(np.float32)  # [P, 5, 5, 3]
        patches -= patches.mean(axis=(1, 2), keepdims=True)
        return np.sort(patches.reshape(len(patches), -1) @ directions, axis=0)

    return float(abs(project(truth) - project(images)).mean())


def gradient_ratio(
    truth: np.ndarray,
    images: np.ndarray,
    mask: np.ndarray,  # [N, H, W] bool
) -> float:
    """Return the gradient energy between neighboring masked pixels, relative to the truth's; 1 is as sharp."""

    def energy(pictures: np.ndarray) -> float:
        total = 0.0
        for picture, inside in zip(pictures, mask, strict=True):
            values = picture.astype(np.float32)
            for axis in (0, 1):
                pairs = inside.take(range(1, inside.shape[axis]), axis) & inside.take(
                    range(inside.shape[axis] - 1), axis
                )
                total += float((np.diff(values, axis=axis)[pairs] ** 2).sum(dtype=np.float64))
        return total

    return ratio(energy(images), energy(truth))


def flicker(
    truth: np.ndarray,
    images: np.ndarray,
    position: np.ndarray,  # [P, N, 2] pixels
    visible: np.ndarray,  # [P, N] bool
) -> float:
    """Return by how much more the level of a surface point varies over time than in the true frames.

    The variation is the standard deviation over the frames that show the point (root mean square of the channels). The
    true one is subtracted point by point; below 0, the images vary less, as where moving light is missing.

    Returns:
        The mean over the points that at least two frames show, in levels; NaN without any.
    """
    twice = visible.sum(axis=1) >= 2
    if not twice.any():
        return float("nan")
    position, visible = position[twice], visible[twice]
    return float((_variation(images, position, visible) - _variation(truth, position, visible)).mean())


def _variation(images: np.ndarray, position: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Standard deviation [P] of the levels of points."""
    colors = np.stack([bilinear(image, position[:, n]) for n, image in enumerate(images)], axis=1)  # [P, N, 3]
    weight = visible[..., None]
    count = weight.sum(axis=1)
    mean = (colors * weight).sum(axis=1) / count
    variance = ((colors - mean[:, None]) ** 2 * weight).sum(axis=1) / (count - 1)
    return np.sqrt(variance.mean(axis=-1))
