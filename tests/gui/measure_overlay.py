# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures playback in a real Blender window without and with the tracking colors, for a maintainer.

    blender --python tests/gui/measure_overlay.py

The extension has to be enabled. Prints a table: frames per second over a few seconds, the work of all cores for each,
which other programs disturb less, and how long a drawing of ours takes. Ends Blender.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import bmesh
import bpy
import gpu

sys.path.insert(0, str(Path(__file__).parent))
from window import Steps, module, run, view

SECONDS = 8.0


def build(kind: str, vertices: int) -> None:
    """A scene of one moving grid: rigid, or deformed by waves in every frame; or of many that share a mesh."""
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    scene = bpy.context.window_manager.windows[0].scene
    scene.render.fps = 1000  # as fast as can be
    scene.frame_start, scene.frame_end = 1, 49
    count = 300 if kind == "instances" else 1
    side = int((vertices / count) ** 0.5)
    mesh, shape = bpy.data.meshes.new("Grid"), bmesh.new()
    bmesh.ops.create_grid(shape, x_segments=side - 1, y_segments=side - 1, size=2)
    shape.to_mesh(mesh)
    shape.free()
    first = bpy.data.objects.new("Grid", mesh)
    if kind == "deforming":
        first.modifiers.new("Wave", "WAVE")
    for number in range(count):
        grid = first if number == 0 else bpy.data.objects.new(f"Grid {number}", mesh)
        scene.collection.objects.link(grid)
        grid.location = (0.02 * number, 0, -0.01 * number)
        grid.keyframe_insert("rotation_euler", frame=1)
        grid.rotation_euler.z = 1.0
        grid.keyframe_insert("rotation_euler", frame=49)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location, camera.rotation_euler = (0, -6, 4), (1.0, 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera


def playback(what: str) -> Steps:
    """Plays for a while and prints one row."""
    drawing = module("overlay.view")
    times: list[float] = []
    frames = [0]
    call = drawing.draw_overlay

    def timed(*arguments: object, **options: object) -> None:
        began = time.perf_counter()
        call(*arguments, **options)
        times.append(time.perf_counter() - began)

    def count(*_: object) -> None:
        frames[0] += 1

    drawing.draw_overlay = timed
    bpy.app.handlers.frame_change_post.append(count)
    with bpy.context.temp_override(**view()):
        bpy.ops.screen.animation_play()
    yield 1.0
    frames[0], began, spent = 0, time.perf_counter(), time.process_time()
    times.clear()
    yield SECONDS
    rate = frames[0] / (time.perf_counter() - began)
    work = 1000 * (time.process_time() - spent) / max(1, frames[0])
    with bpy.context.temp_override(**view()):
        bpy.ops.screen.animation_cancel(restore_frame=True)
    bpy.app.handlers.frame_change_post.remove(count)
    drawing.draw_overlay = call
    ours = f"{1000 * sorted(times)[len(times) // 2]:10.1f}" if times else "         -"
    print(f"{what:40}{rate:10.1f}{work:10.0f}{ours}", flush=True)


def drive() -> Steps:
    print(gpu.platform.renderer_get(), "|", bpy.app.version_string)
    print(f"{'':40}{'frames/s':>10}{'CPU, ms':>10}{'ours, ms':>10}")
    for kind in ("rigid", "deforming", "instances"):
        build(kind, 100_000)
        bpy.context.preferences.view.show_splash = False
        yield 2.0
        area = view()["area"]
        area.spaces.active.region_3d.view_perspective = "CAMERA"
        for shown in (False, True):
            bpy.context.scene.trackshade_overlay.show = shown
            area.tag_redraw()
            yield 4.0
            yield from playback(f"100,000 vertices, {kind}, {'colors' if shown else 'plain'}")


run(drive())
