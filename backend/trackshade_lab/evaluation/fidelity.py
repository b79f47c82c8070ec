# SPDX-License-Identifier: GPL-3.0-or-later
"""How like two videos are, pixel by pixel. All take 8-bit pictures [T, H, W, 3].

Blur raises PSNR where a model is unsure, so gradient energy and pixel variance stand beside it: a share of 1 is as
sharp and as contrasted as the truth.
"""

from __future__ import annotations

import cv2
import numpy as np

_WINDOW, _SIGMA = 11, 1.5  # px
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(truth: np.ndarray, made: np.ndarray) -> float:
    """Mean structural similarity over frames and channels (Wang, Bovik, Sheikh and Simoncelli 2004): Gaussian windows
    of 11 px with sigma 1.5, those that lie wholly in the picture; K1 = 0.01, K2 = 0.03, range 255.

    Raises ValueError for pictures smaller than a window.
    """
    if min(truth.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs pictures of {_WINDOW} pixels or more, not {truth.shape[2]}x{truth.shape[1]}")
    return float(np.mean([_ssim(a, b) for a, b in zip(truth, made, strict=True)]))


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    edge = _WINDOW // 2

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (_WINDOW, _WINDOW), _SIGMA)[edge:-edge, edge:-edge]

    mean_a, mean_b = mean(a), mean(b)
    square_a, square_b, product = mean_a**2, mean_b**2, mean_a * mean_b
    variance = mean(a * a) - square_a + mean(b * b) - square_b
    covariance = mean(a * b) - product
    similarity = (2 * product + _C1) * (2 * covariance + _C2) / ((square_a + square_b + _C1) * (variance + _C2))
    return float(similarity.mean())


def gradient_energy(video: np.ndarray) -> float:
    """Mean squared difference between neighboring pixels, squared levels."""
    across, down = (np.diff(video.astype(np.float32), axis=axis) for axis in (2, 1))
    return float((across**2).mean(dtype=np.float64) + (down**2).mean(dtype=np.float64))


def pixel_variance(video: np.ndarray) -> float:
    """Variance of the pixels about their frame's mean color, mean over frames and channels, squared levels."""
    return float(video.astype(np.float32).var(axis=(1, 2), dtype=np.float64).mean())


def share(made: float, truth: float) -> float:
    """Made / truth; NaN where the truth is flat."""
    return made / truth if truth > 1e-6 else float("nan")
