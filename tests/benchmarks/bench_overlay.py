# SPDX-License-Identifier: GPL-3.0-or-later
"""What the viewport's tracking colors cost the main thread at each redraw, beside what the graphics card does.

Time of this thread alone, for scenes of 100,000 vertices: thirty frames a second leave 33 ms. From bpy 5.2 on it draws
into a small buffer too, with a software driver if need be; before that it only follows the points. In a real window:
tests/gui/measure_overlay.py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import bpy
import gpu
import numpy as np
from mathutils import Matrix

from trackshade_addon.capture import plan_scene
from trackshade_addon.capture.stepping import finish
from trackshade_addon.overlay.draw import Overlay, draw_overlay
from trackshade_addon.overlay.reference import read_reference_steps

FRAMES = range(2, 32)


def build(kind: str, vertices: int) -> None:
    """A grid, or many that share it: rigid and moving, or deformed by waves in every frame."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, 49
    count = 1000 if kind == "1000 instances" else 1
    side = int((vertices / count) ** 0.5)
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=side - 1, y_subdivisions=side - 1, size=4)
    first = bpy.context.object
    for number in range(count):
        grid = first if number == 0 else bpy.data.objects.new("Grid", first.data)
        if number:
            scene.collection.objects.link(grid)
        grid.location = (0.01 * number, 0, -0.01 * number)
        if kind == "deforming":
            grid.modifiers.new("Wave", "WAVE")
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0, -6, 4), (1.0, 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera


def timed(work: Callable[[], object]) -> float:
    """Median of the thread's milliseconds over some frames, the first of which is not counted."""
    times = []
    for frame in FRAMES:
        bpy.context.scene.frame_set(frame)
        began = time.thread_time()
        work()
        times.append(1000 * (time.thread_time() - began))
    return float(np.median(times[1:]))


def rows() -> list[list[str]]:
    """Name, figure and target of each row."""
    draws = hasattr(gpu, "init")
    if draws:
        gpu.init()
    found = []
    for kind in ("rigid", "deforming", "1000 instances"):
        build(kind, 100_000)
        scene, layer = bpy.context.scene, bpy.context.view_layer
        overlay = Overlay(finish(read_reference_steps(scene, layer, *plan_scene(scene))))
        name = f"tracking colors, 100,000 vertices, {kind}"
        follows = timed(lambda: list(overlay.tracker.draw_items(layer.depsgraph)))  # noqa: B023
        found.append([f"{name}: following", f"{follows:.1f} ms", "<= 33 ms"])
        if draws:
            buffer = gpu.types.GPUOffScreen(16, 16)
            with buffer.bind():
                both = timed(lambda: draw_overlay(layer.depsgraph, overlay, Matrix.Identity(4)))  # noqa: B023
            found.append([f"{name}: following and drawing", f"{both:.1f} ms", "<= 33 ms"])
    return found


if __name__ == "__main__":
    for name, value, target in rows():
        print(f"{name:64} {value:>10}  {target}")
    sys.stdout.flush()
    os._exit(0)  # the bpy module's own exit may wait for itself
