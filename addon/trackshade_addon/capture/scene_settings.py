# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene settings that a shot depends on: render engine, frame rate, render size, and their fit to a model."""

from __future__ import annotations

import bpy

from trackshade.config.registry import ModelSpec
from trackshade.core.fitting import FrameMap, SizeFit, fit_frames, fit_size

TRACKSHADE_ENGINE = "TRACKSHADE"
EEVEE = ("BLENDER_EEVEE", "BLENDER_EEVEE_NEXT")
WORKBENCH = "BLENDER_WORKBENCH"


def first_frame_engine(scene: bpy.types.Scene) -> str:
    """The engine that renders first frames, and whose images a shot must match.

    This is the scene's engine or, if that is Trackshade itself, the one set for first frames.
    """
    if scene.render.engine != TRACKSHADE_ENGINE:
        return scene.render.engine
    engine = scene.trackshade.look_engine
    return "BLENDER_EEVEE_NEXT" if engine == "BLENDER_EEVEE" and bpy.app.version < (5, 0, 0) else engine


def fit_scene(
    scene: bpy.types.Scene,
    spec: ModelSpec,
    start: float | None = None,
    end: float | None = None,
    step: float | None = None,
    frame_rule: str = "auto",
    size_mode: str = "pad",
) -> tuple[FrameMap, SizeFit]:
    """Fits a scene's frame range and render size to what a model takes.

    Args:
        scene: the scene.
        spec: the model.
        start: first frame; None for the scene's.
        end: last frame; None for the scene's.
        step: frames from one sample to the next; None for the scene's.
        frame_rule: as in `trackshade.core.fitting.fit_frames`.
        size_mode: as in `trackshade.core.fitting.fit_size`.

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
    """Frames per second, including the frame rate base."""
    return scene.render.fps / scene.render.fps_base


def render_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height of renders in pixels, rounded down as Blender does."""
    render = scene.render
    percentage = render.resolution_percentage
    return max(1, render.resolution_x * percentage // 100), max(1, render.resolution_y * percentage // 100)
