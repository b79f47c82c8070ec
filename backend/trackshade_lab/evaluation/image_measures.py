# SPDX-License-Identifier: GPL-3.0-or-later
# The package lpips may be missing, and has no types.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""Image measures of a generated video against the true one; videos are [T, H, W, 3] uint8.

Blur raises PSNR where a model is uncertain, so gradient energy and pixel variance stand beside it, as ratios to the
true video's: 1 is as sharp and as contrasted.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from trackshade.core.colors import srgb_to_linear
from trackshade_lab.scenes.captions import COLORS

PerceptualDistance = Callable[[np.ndarray, np.ndarray], float]  # of two videos
COLOR_NAMES = tuple(COLORS)

_WINDOW, _SIGMA = 11, 1.5  # px
WINDOW_MARGIN = _WINDOW // 2  # px
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SEARCH_RADIUS = 24  # px in a frame of width 96; scales with the frame
_SUBPIXELS = 4
_MIN_PIXELS = 30  # of an object, below which it is not measured
_EXPOSURES = np.geomspace(0.3, 1.3, 16)
_LAB_WEIGHTS = np.array([0.5, 1.0, 1.0])  # of lightness and the two chroma axes
_LPIPS_WEIGHTS = "alexnet-owt-*.pth"


def ssim(truth: np.ndarray, video: np.ndarray) -> float:
    """Compute the mean structural similarity over frames and channels (Wang, Bovik, Sheikh and Simoncelli 2004).

    Gaussian windows of 11 px with sigma 1.5 that lie wholly in the image; K1 = 0.01, K2 = 0.03, range 255.

    Raise ValueError for images smaller than a window.
    """
    if min(truth.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs images of {_WINDOW} pixels or more, not {truth.shape[2]}x{truth.shape[1]}")
    return float(np.mean([ssim_map(a, b).mean() for a, b in zip(truth, video, strict=True)]))


def ssim_map(
    a: np.ndarray,  # [H, W, 3], levels 0..255
    b: np.ndarray,  # the same
) -> np.ndarray:
    """Compute the structural similarity of two images around each pixel but `WINDOW_MARGIN` at each side.

    Returns:
        [H - 10, W - 10, 3] float64.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    margin = WINDOW_MARGIN

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (_WINDOW, _WINDOW), _SIGMA)[margin:-margin, margin:-margin]

    mean_a, mean_b = mean(a), mean(b)
    square_a, square_b, product = mean_a**2, mean_b**2, mean_a * mean_b
    variance = mean(a * a) - square_a + mean(b * b) - square_b
    covariance = mean(a * b) - product
    return (2 * product + _C1) * (2 * covariance + _C2) / ((square_a + square_b + _C1) * (variance + _C2))


def gradient_energy(video: np.ndarray) -> float:
    """Compute the mean squared difference of neighboring pixels, in squared 8-bit levels."""
    across, down = (np.diff(video.astype(np.float32), axis=axis) for axis in (2, 1))
    return float((across**2).mean(dtype=np.float64) + (down**2).mean(dtype=np.float64))


def pixel_variance(video: np.ndarray) -> float:
    """Compute the variance of pixels about their frame's mean color, in squared 8-bit levels."""
    return float(video.astype(np.float32).var(axis=(1, 2), dtype=np.float64).mean())


def ratio(value: float, truth: float) -> float:
    """Return value / truth; NaN where the truth is about 0."""
    return value / truth if truth > 1e-6 else float("nan")


def find_lpips() -> tuple[PerceptualDistance | None, str]:
    """Load LPIPS (Zhang et al. 2018) if the package and its weights are installed; nothing is downloaded.

    Returns:
        The measure or None, and a sentence about it for reports.
    """
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return None, f"LPIPS was not measured: the package {package} is not installed."
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not list(folder.glob(_LPIPS_WEIGHTS)):
        return None, f"LPIPS was not measured: AlexNet's weights ({_LPIPS_WEIGHTS}) are not in {folder}."
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False).eval()

    def to_tensor(video: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2).float() / 127.5 - 1

    @torch.no_grad()
    def distance(truth: np.ndarray, video: np.ndarray) -> float:
        return float(network(to_tensor(truth), to_tensor(video)).mean())

    return distance, "LPIPS: AlexNet, mean over the frames after the first; lower is better."


def displacement(
    truth: np.ndarray,
    video: np.ndarray,
    mask: np.ndarray,  # [T, H, W] bool
) -> float:
    """Measure how far an object is from its true place, by template matching.

    In each frame, the object's true pixels (`mask`) are compared with the generated frame at every shift within reach;
    the shift with the smallest squared difference is the displacement (whole pixels first, then quarters around it).

    Returns:
        Mean over frames in pixels; NaN if the object is hardly visible.
    """
    shifts = [_find_shift(*frame) for frame in zip(truth, video, mask, strict=True) if frame[2].sum() >= _MIN_PIXELS]
    return float(np.mean(shifts)) if shifts else float("nan")


def _find_shift(truth: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> float:
    coarse = _match(truth, frame, mask, _SEARCH_RADIUS * truth.shape[1] // 96, (0, 0))
    size = (truth.shape[1] * _SUBPIXELS, truth.shape[0] * _SUBPIXELS)
    fine = [cv2.resize(x, size, interpolation=cv2.INTER_LINEAR) for x in (truth, frame)]
    fine_mask = mask.repeat(_SUBPIXELS, axis=0).repeat(_SUBPIXELS, axis=1)
    x, y = _match(fine[0], fine[1], fine_mask, _SUBPIXELS, (coarse[0] * _SUBPIXELS, coarse[1] * _SUBPIXELS))
    return float(np.hypot(x, y)) / _SUBPIXELS


def _match(
    truth: np.ndarray, frame: np.ndarray, mask: np.ndarray, radius: int, start: tuple[int, int]
) -> tuple[int, int]:
    """Return the shift (x, y) within `radius` of `start` where masked pixels of `truth` differ least from `frame`."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    template = truth[top:bottom, left:right].astype(np.float32)
    weight = np.repeat(mask[top:bottom, left:right, None], 3, axis=2).astype(np.float32)
    border = radius + max(abs(start[0]), abs(start[1]))
    padded = cv2.copyMakeBorder(frame, border, border, border, border, cv2.BORDER_REPLICATE).astype(np.float32)
    y0, x0 = top + border + start[1] - radius, left + border + start[0] - radius
    window = padded[y0 : y0 + (bottom - top) + 2 * radius, x0 : x0 + (right - left) + 2 * radius]
    cost = cv2.matchTemplate(window, template, cv2.TM_SQDIFF, mask=weight)
    # Among equals the smallest shift: a plain object on a plain ground must not look displaced.
    grid = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    cost = cost + 1e-3 * weight.sum() * np.hypot(grid[0] + start[1], grid[1] + start[0])
    y, x = np.unravel_index(np.argmin(cost), cost.shape)
    return int(x) - radius + start[0], int(y) - radius + start[1]


def dominant_color_name(
    video: np.ndarray,
    mask: np.ndarray,  # [T, H, W] bool
) -> str | None:
    """Return the caption color that an object shows; None if it is hardly visible.

    The median over all frames ignores a pattern's second color. Held-out videos themselves are named right nine times
    in ten; reports print that beside the figure as its ceiling.
    """
    if mask.sum() < _MIN_PIXELS:
        return None
    return nearest_color_name(srgb_to_linear(np.median(video[mask], axis=0) / 255))


def nearest_color_name(
    linear: np.ndarray,  # [3] linear RGB
) -> str:
    """Return the caption color nearest to a color in CIELAB, lightness counted half.

    Each caption color is compared at the exposure (within what light and shadow do) that brings it nearest.
    """
    named = srgb_to_linear(np.array(list(COLORS.values())))[:, None] * _EXPOSURES[:, None]  # [8, E, 3]
    distance = np.linalg.norm((_to_lab(named) - _to_lab(linear)) * _LAB_WEIGHTS, axis=-1).min(axis=1)
    return COLOR_NAMES[int(np.argmin(distance))]


def _to_lab(linear: np.ndarray) -> np.ndarray:
    """Convert linear RGB [..., 3] in 0..1 to CIELAB (D65)."""
    return cv2.cvtColor(linear.reshape(1, -1, 3).astype(np.float32), cv2.COLOR_LRGB2Lab).reshape(linear.shape)
