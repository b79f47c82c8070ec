# SPDX-License-Identifier: GPL-3.0-or-later
"""All measures of a generated video against its target, and the columns that show them in tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.images import psnr
from trackshade.results.consistency import spread

from .camera import camera_errors, mean_camera_errors
from .clips import EvalTarget
from .image_measures import PerceptualDistance, displacement, gradient_energy, pixel_variance, ratio, ssim
from .points import end_point_error, follow_points


@dataclass(frozen=True)
class Column:
    """How a table shows a measure: its title, digits after the point, and whether as a percentage."""

    title: str
    digits: int = 2
    percent: bool = False


# By measure; a table shows those that its rows have.
COLUMNS: dict[str, Column] = {
    "psnr": Column("PSNR dB", 1),
    "ssim": Column("SSIM", 3),
    "lpips": Column("LPIPS", 3),
    "psnr_covered": Column("PSNR covered", 1),
    "psnr_uncovered": Column("PSNR uncovered", 1),
    "psnr_new": Column("PSNR newly visible", 1),
    "end_px": Column("end-point error px", 2),
    "end_share": Column("end-point error % of width", 2, percent=True),
    "held": Column("points kept %", 0, percent=True),
    "object_px": Column("main object px", 1),
    "spread": Column("color spread", 1),
    "gradient": Column("gradient energy", 2),
    "variance": Column("pixel variance", 2),
    "rotation": Column("camera rotation °", 2),
    "translation": Column("camera direction °", 1),
    "solved": Column("cameras found %", 0, percent=True),
}


def measure(
    target: EvalTarget,
    video: np.ndarray,  # [T, H, W, 3] uint8
    perceptual_distance: PerceptualDistance | None = None,
) -> dict[str, float]:
    """Measure a generated video; NaN where a measure does not apply.

    Image measures leave out the first frame, which was given.
    """
    truth, generated = target.video[1:], video[1:]
    covered = target.warp.covered[1:]
    followed = follow_points(video, target.points.pixels[:, 0])
    figures = {
        "psnr": psnr(truth, generated),
        "ssim": ssim(truth, generated),
        "psnr_covered": psnr(truth, generated, covered),
        "psnr_uncovered": psnr(truth, generated, ~covered),
        "psnr_new": psnr(truth, generated, target.warp.newly_visible[1:]),
        **end_point_error(followed, target.points, target.trusted, target.width),
        "gradient": ratio(gradient_energy(generated), gradient_energy(truth)),
        "variance": ratio(pixel_variance(generated), pixel_variance(truth)),
    }
    if perceptual_distance is not None:
        figures["lpips"] = perceptual_distance(truth, generated)
    if target.object_mask is not None:
        figures["object_px"] = displacement(truth, generated, target.object_mask[1:])
    if target.spread_points is not None and len(target.spread_points[0]):
        figures["spread"] = spread(video, *target.spread_points)
    if target.camera is not None and target.true_camera_errors is not None:
        poses, intrinsics = target.camera.world_to_camera, target.camera.intrinsics
        errors = camera_errors(followed, target.points, target.trusted, poses, intrinsics, target.width)
        figures |= mean_camera_errors(errors, target.true_camera_errors)
    return figures


def frame_psnr(truth: np.ndarray, video: np.ndarray) -> list[float]:
    """Return the PSNR in dB of each frame after the first of videos [T, H, W, 3] uint8."""
    return [psnr(a[None], b[None]) for a, b in zip(truth[1:], video[1:], strict=True)]
