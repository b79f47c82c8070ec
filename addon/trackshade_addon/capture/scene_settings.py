# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene settings that a shot depends on: render engine, frames and their rate, size and region of the render."""

from __future__ import annotations

import bpy

from trackshade.core.fitting import FrameMap, SizeFit, all_frames, rendered_size

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


def plan_scene(
    scene: bpy.types.Scene, start: float | None = None, end: float | None = None, step: float | None = None
) -> tuple[FrameMap, SizeFit]:
    """Returns the frames and the size that a render of the scene has, which are those of its shot.

    Args:
        scene: the scene.
        start: first frame; None for the scene's.
        end: last frame; None for the scene's.
        step: frames from one sample to the next; None for the scene's.

    Raises:
        ShotError: the range is empty or reversed, or the render has no pixels.
    """
    frames = all_frames(
        scene.frame_start if start is None else start,
        scene.frame_end if end is None else end,
        scene.frame_step if step is None else step,
        frame_rate(scene),
    )
    aspect = scene.render.pixel_aspect_x, scene.render.pixel_aspect_y
    return frames, rendered_size(render_size(scene), aspect, render_region(scene))


def frame_rate(scene: bpy.types.Scene) -> float:
    """Frames per second, including the frame rate base."""
    return scene.render.fps / scene.render.fps_base


def render_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height of renders in pixels, rounded down as Blender does."""
    render = scene.render
    percentage = render.resolution_percentage
    return max(1, render.resolution_x * percentage // 100), max(1, render.resolution_y * percentage // 100)


def render_region(scene: bpy.types.Scene) -> tuple[int, int, int, int] | None:
    """The region of the frame that is rendered, (left, top, right, bottom) in pixels; None for the whole frame.

    Bounds are rounded down as Blender does, counted from the lower left corner.
    """
    render = scene.render
    if not render.use_border:
        return None
    width, height = render_size(scene)
    left, right = (int(bound * width) for bound in (render.border_min_x, render.border_max_x))
    bottom, top = (int(bound * height) for bound in (render.border_min_y, render.border_max_y))
    return left, height - top, right, height - bottom
