# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the tracking colors of an evaluated view layer into the framebuffer that is bound."""

from __future__ import annotations

import bpy
import gpu
from mathutils import Matrix

from .following import Following, Thing
from .reference import Reference
from .shader import Brush

# Blender lays what draw handlers paint over the picture with this gamma, whatever the view transform is. Colors to
# this power come out as they are.
VIEWPORT_GAMMA = 2.2


class Preview:
    """A reference on the screen: what is followed of it, and its buffers."""

    def __init__(self, reference: Reference) -> None:
        self.following = Following(reference)
        self.brush = Brush(reference.rule)


def draw_control(
    depsgraph: bpy.types.Depsgraph,
    preview: Preview,
    projection: Matrix,
    *,
    gamma: float = 1.0,
    opacity: float = 1.0,
    background: bool = False,
    space: bpy.types.SpaceView3D | None = None,
    hurry: bool = False,
) -> None:
    """Draws every surface that renders show in the colors of the shot's tracking video, near over far.

    The framebuffer needs a depth, which is cleared.

    Args:
        depsgraph: what to draw, as it is evaluated.
        projection: world to screen, such as `RegionView3D.perspective_matrix`.
        gamma: 1 for exact bytes in a buffer of one's own, `VIEWPORT_GAMMA` in a draw handler of the 3D view.
        opacity: of the surfaces, 0 to 1.
        background: paint all else black, as the tracking video has it.
        space, hurry: see `Following.things`.
    """
    things = list(preview.following.things(depsgraph, space, hurry))
    frame = gpu.state.active_framebuffer_get()
    if background:
        frame.clear(color=(0.0, 0.0, 0.0, 1.0), depth=1.0)
    else:
        frame.clear(depth=1.0)
    before = gpu.state.blend_get(), gpu.state.depth_test_get(), gpu.state.depth_mask_get()
    try:
        preview.brush.begin(gamma)
        gpu.state.depth_mask_set(True)
        gpu.state.blend_set("NONE")
        gpu.state.depth_test_set("LESS")
        if opacity < 1.0:  # first which surface is the nearest, then that one alone
            gpu.state.color_mask_set(False, False, False, False)
            _paint(preview.brush, things, projection, opacity)
            gpu.state.color_mask_set(True, True, True, True)
            gpu.state.blend_set("ALPHA")
            gpu.state.depth_test_set("EQUAL")
        _paint(preview.brush, things, projection, opacity)
    finally:
        gpu.state.color_mask_set(True, True, True, True)
        gpu.state.blend_set(before[0])
        gpu.state.depth_test_set(before[1])
        gpu.state.depth_mask_set(before[2])


def _paint(brush: Brush, things: list[Thing], projection: Matrix, opacity: float) -> None:
    for thing in things:
        brush.paint(thing, projection, opacity)
