# SPDX-License-Identifier: GPL-3.0-or-later
"""All measures of one made video against its subject. Frames after the first: that one was given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.images import psnr
from trackshade.results.consistency import spread

from .camera_error import camera_error, camera_errors
from .displacement import displacement
from .fidelity import gradient_energy, pixel_variance, share, ssim
from .following import end_points, follow
from .perceptual import Distance
from .targets import Subject


@dataclass(frozen=True)
class Column:
    """How a measure is shown.

    Attributes:
        title: of the table's column.
        digits: after the point.
        percent: shown times 100.
    """

    title: str
    digits: int = 2
    percent: bool = False


COLUMNS: dict[str, Column] = {
    "psnr": Column("PSNR dB", 1),
    "ssim": Column("SSIM", 3),
    "lpips": Column("LPIPS", 3),
    "psnr_covered": Column("PSNR covered", 1),
    "psnr_uncovered": Column("PSNR uncovered", 1),
    "psnr_new": Column("PSNR newly seen", 1),
    "end_px": Column("end points px", 2),
    "end_share": Column("end points % of width", 2, percent=True),
    "held": Column("points held %", 0, percent=True),
    "object_px": Column("main object px", 1),
    "spread": Column("color spread", 1),
    "gradient": Column("gradient energy", 2),
    "variance": Column("pixel variance", 2),
    "rotation": Column("camera rotation °", 2),
    "translation": Column("camera direction °", 1),
    "solved": Column("cameras found %", 0, percent=True),
}
"""Every measure; those of a table are chosen by name."""


def measure(subject: Subject, made: np.ndarray, perceptual: Distance | None = None) -> dict[str, float]:
    """Of a video [T, H, W, 3] uint8; NaN where a measure does not apply."""
    truth, after = subject.video[1:], made[1:]
    covered, new = subject.warp.covered[1:], subject.warp.new[1:]
    found = follow(made, subject.points.pixels[:, 0])
    ends = end_points(found, subject.points, subject.trust, subject.size[0])
    figures = {
        "psnr": psnr(truth, after),
        "ssim": ssim(truth, after),
        "psnr_covered": psnr(truth, after, covered),
        "psnr_uncovered": psnr(truth, after, ~covered),
        "psnr_new": psnr(truth, after, new),
        "end_px": ends.pixels,
        "end_share": ends.pixels / subject.size[0],
        "held": ends.held,
        "trusted": ends.trusted,
        "gradient": share(gradient_energy(after), gradient_energy(truth)),
        "variance": share(pixel_variance(after), pixel_variance(truth)),
    }
    if perceptual is not None:
        figures["lpips"] = perceptual(truth, after)
    if subject.main is not None:
        figures["object_px"] = displacement(truth, after, subject.main[1:])
    if subject.places is not None and subject.seen is not None and len(subject.places):
        figures["spread"] = spread(made, subject.places, subject.seen)
    if subject.camera is not None and subject.camera_truth is not None:
        camera, width = subject.camera, subject.size[0]
        errors = camera_errors(found, subject.points, subject.trust, camera.world_to_camera, camera.intrinsics, width)
        error = camera_error(errors, subject.camera_truth)
        figures |= {"rotation": error.rotation, "translation": error.translation, "solved": error.solved}
        figures["camera_counted"] = error.counted
    return figures
