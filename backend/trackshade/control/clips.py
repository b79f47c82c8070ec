# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips of a shot that video models follow, frame by frame: inverse depth, and gray clay (the layout clip)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trackshade.control.passes import BACKGROUND, clay_picture, depth_picture, frame_passes, measure_range
from trackshade.control.scene import ShotRaster
from trackshade.core.colors import linear_to_srgb, to_uint8
from trackshade.core.errors import ShotError
from trackshade.core.fitting import SizeFit
from trackshade.core.resampling import resample
from trackshade.shot import Shot

Report = Callable[[int], None]

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_BRIGHT = 0.6  # linear value that the bright surfaces get …
_BRIGHT_PERCENTILE = 95.0  # … which are those of this percentile of luminance
_EXPOSURE_FRAMES = 9  # frames on which it is measured, spread evenly


def depth_clip(shot: Shot, report: Report = lambda done: None) -> np.ndarray:
    """Return the inverse depth of all frames in gray, [T, H, W, 3] uint8: near is white, nothing is black.

    One range serves all frames; see `trackshade.control.passes.measure_range`.
    """
    limits = measure_range(shot, flow=False)
    clip = np.empty((len(shot.frame_numbers), shot.size[1], shot.size[0], 3), np.uint8)
    for t, passes in enumerate(frame_passes(shot, flow=False)):
        clip[t] = depth_picture(passes, limits)
        report(t + 1)
    return clip


def drawn_layout_clip(shot: Shot, report: Report = lambda done: None) -> np.ndarray:
    """Return the surfaces of all frames in gray clay under a light beside the camera, [T, H, W, 3] uint8."""
    clip = np.empty((len(shot.frame_numbers), shot.size[1], shot.size[0], 3), np.uint8)
    for t, passes in enumerate(frame_passes(shot, flow=False)):
        clip[t] = clay_picture(passes)
        report(t + 1)
    return clip


def rendered_layout_clip(
    shot: Shot,
    light: Callable[[int], np.ndarray],  # [h, w, 3] float, scene-linear
    fit: SizeFit,
    report: Report = lambda done: None,
) -> np.ndarray:
    """Return clay renders as a layout clip, [T, H, W, 3] uint8 gray.

    One exposure serves all frames: surfaces of the 95th percentile of luminance become 0.6 in linear light. Pixels that
    show no surface have the gray of Blender's viewport, whatever the world looks like.

    Args:
        shot: the shot as the model sees it.
        light: returns the clay render of a sample; it shows the frame before the fit, at any size.
        fit: where that frame lies in the shot's image. Around it, the edges of the clay render are repeated.
        report: called with the number of frames that are done.

    Raises:
        ShotError: a clay render has values that are not finite.
    """
    count, raster = len(shot.frame_numbers), ShotRaster(shot)

    def luminance(t: int) -> tuple[np.ndarray, np.ndarray]:
        render = np.asarray(light(t), np.float64) @ _LUMINANCE
        if not np.isfinite(render).all():
            raise ShotError(
                "bad-light",
                f"The clay render of frame {shot.frame_numbers[t]:g} is not a picture of finite numbers.",
                "Render the clay pass of the shot again.",
            )
        scale = fit.scale[0] * fit.source[0] / render.shape[1], fit.scale[1] * fit.source[1] / render.shape[0]
        return resample(render[..., None], shot.size, scale, fit.offset)[..., 0], np.isfinite(raster.draw(t).depth)

    measured = [np.zeros(0)]
    for t in np.unique(np.linspace(0, count - 1, min(count, _EXPOSURE_FRAMES)).astype(int)).tolist():
        values, covered = luminance(t)
        measured.append(values[covered])
    shown = np.concatenate(measured)
    bright = float(np.percentile(shown, _BRIGHT_PERCENTILE)) if shown.size else 0.0
    exposure = _BRIGHT / bright if bright > 0 else 1.0
    clip = np.empty((count, shot.size[1], shot.size[0], 3), np.uint8)
    for t in range(count):
        values, covered = luminance(t)
        gray = to_uint8(linear_to_srgb(np.clip(values * exposure, 0.0, 1.0)))
        clip[t] = np.where(covered, gray, np.uint8(BACKGROUND))[..., None]
        report(t + 1)
    return clip
