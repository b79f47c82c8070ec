# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking video of a 300 × 300 grid with a Wave modifier that turns, 49 frames at 720 × 480, beside Blender
Workbench rendering the same scene with vertex colors in the same run.

`python tests/benchmarks/bench_control.py` prints the table; `rows()` gives it to a common runner.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDE, FRAMES, SIZE = 300, 49, (720, 480)
WORKBENCH_FRAMES = 5
Row = tuple[str, str, str]


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    from trackshade.control import tracking_video
    from trackshade.shot import Shot
    from trackshade_lab.scenes import generate_clip

    with tempfile.TemporaryDirectory() as folder:
        plain, smooth = _blender(Path(folder))
        shot = Shot.load(Path(folder) / "grid.shot")
        tracking_video(shot)  # compiles
        tracking_video(shot, "points")
        per_frame = _seconds(lambda: tracking_video(shot), 3) / FRAMES
        single = _seconds(lambda: tracking_video(shot, threads=1), 2) / FRAMES
        points = _seconds(lambda: tracking_video(shot, "points"), 2) / FRAMES
    generate_clip(0)
    clip = _seconds(lambda: [generate_clip(seed) for seed in range(30)], 2) / 30
    cores = f"{os.cpu_count()} cores"
    return [
        (f"tracking video, mesh, {cores}", f"{1 / per_frame:.1f} frames/s", ">= 20 frames/s"),
        ("tracking video, mesh, 1 thread", f"{1 / single:.1f} frames/s", ""),
        (f"tracking video, 4,900 points, {cores}", f"{1 / points:.1f} frames/s", ""),
        ("Workbench, vertex colors, as it comes", f"{1 / smooth:.1f} frames/s", ""),
        ("Workbench, vertex colors, no antialiasing", f"{1 / plain:.1f} frames/s", ""),
        ("tracking video against Workbench as it comes", f"{smooth / per_frame:.1f} x", ">= 10 x"),
        ("tracking video against Workbench without antialiasing", f"{plain / per_frame:.1f} x", ">= 10 x"),
        ("procedural training clip, 144 x 96, 17 frames", f"{1e3 * clip:.1f} ms on one core", "<= 110 ms"),
    ]


def _seconds(work: Callable[[], object], repeats: int) -> float:
    """Least seconds of a few runs."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _blender(folder: Path) -> tuple[float, float]:
    """Seconds a frame of Workbench, without antialiasing and as it comes; the shot is left in the folder. In a process
    of its own."""
    command = [sys.executable, __file__, "--blender", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("seconds a frame ")]
    if run.returncode or not lines:
        raise RuntimeError(f"Blender failed:\n{run.stdout}\n{run.stderr}")
    plain, smooth = lines[-1].split()[-2:]
    return float(plain), float(smooth)


def _make_scene() -> None:
    import bpy
    from mathutils import Matrix

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=SIDE - 1, y_subdivisions=SIDE - 1, size=4)
    grid = bpy.context.object
    grid.modifiers.new("Wave", "WAVE").height = 0.3
    for frame, angle in ((1, 0.0), (FRAMES, 1.0)):
        grid.rotation_euler.z = angle
        grid.keyframe_insert("rotation_euler", frame=frame)
    colors = grid.data.color_attributes.new("place", "FLOAT_COLOR", "POINT")
    values = np.random.default_rng(0).random(len(grid.data.vertices) * 4, np.float32)
    colors.data.foreach_set("color", values)
    grid.data.color_attributes.active_color = colors
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    s = 0.5**0.5
    camera.matrix_world = Matrix([[1, 0, 0, 0], [0, s, -s, -3.6], [0, s, s, 3.6], [0, 0, 0, 1]])
    scene.camera = camera
    scene.frame_start, scene.frame_end = 1, FRAMES
    scene.render.resolution_x, scene.render.resolution_y = SIZE


def _capture(path: Path) -> None:
    import bpy

    from trackshade.core.fitting import fit_frames, fit_size
    from trackshade_addon.capture import capture, frame_rate

    frames = fit_frames(1, FRAMES, 1, frame_rate(bpy.context.scene), (FRAMES,))
    capture(frame_map=frames, size_fit=fit_size(SIZE, (1.0, 1.0), (SIZE,))).save(path)


def _workbench(folder: Path, antialiasing: str) -> float:
    """Seconds a frame, over a few frames after the first: stepping to it, drawing it, writing the cheapest format."""
    import bpy

    scene = bpy.context.scene
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.image_settings.file_format = "BMP"
    scene.display.render_aa = antialiasing
    scene.display.shading.light, scene.display.shading.color_type = "FLAT", "VERTEX"
    seconds = []
    for frame in range(1, WORKBENCH_FRAMES + 2):
        scene.render.filepath = str(folder / f"{frame}.bmp")
        start = time.perf_counter()
        scene.frame_set(frame)
        bpy.ops.render.render(write_still=True)
        seconds.append(time.perf_counter() - start)
    picture = bpy.data.images.load(scene.render.filepath)
    if np.std(np.array(picture.pixels)) < 0.01:
        raise RuntimeError("Workbench drew nothing")
    return float(np.mean(seconds[1:]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--blender"]:
        _make_scene()
        _capture(Path(sys.argv[2]) / "grid.shot")
        target = Path(sys.argv[2])
        print("seconds a frame", _workbench(target, "OFF"), _workbench(target, "8"))
    else:
        for name, value, target in rows():
            print(f"{name:46} {value:>20}  {target}")
