# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits a scene's range and render size to what a model takes."""

from __future__ import annotations

import bpy

from trackshade.config.registry import ModelSpec
from trackshade.core.fitting import FrameMap, SizeFit, fit_frames, fit_size


def plan(
    scene: bpy.types.Scene,
    spec: ModelSpec,
    start: float | None = None,
    end: float | None = None,
    step: float | None = None,
    frame_rule: str = "auto",
    size_mode: str = "pad",
) -> tuple[FrameMap, SizeFit]:
    """The samples and the image of a shot; start, end and step are the scene's own unless given.

    Raises:
        ShotError: the range is empty or reversed, or the model cannot take it by the rule.
    """
    frames = fit_frames(
        scene.frame_start if start is None else start,
        scene.frame_end if end is None else end,
        scene.frame_step if step is None else step,
        frame_rate(scene),
        spec.allowed_frame_counts,
        frame_rule,
    )
    render = scene.render
    aspect = render.pixel_aspect_x, render.pixel_aspect_y
    return frames, fit_size(render_size(scene), aspect, spec.sizes, size_mode)


def frame_rate(scene: bpy.types.Scene) -> float:
    """Frames per second, the rate's base included."""
    return scene.render.fps / scene.render.fps_base


def render_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """(width, height) in pixels of the scene's renders, rounded down as Blender does."""
    render = scene.render
    percentage = render.resolution_percentage
    return max(1, render.resolution_x * percentage // 100), max(1, render.resolution_y * percentage // 100)
