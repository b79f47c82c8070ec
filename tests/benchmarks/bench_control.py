# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking video of a rotating 300 × 300 wave grid, 49 frames at 720 × 480, beside Blender Workbench drawing
the same scene with vertex colours in the same run. `python tests/benchmarks/bench_control.py` prints the
table.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from trackshade.control import tracking_video
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot
from trackshade.training.data import generate_clip

SIDE, FRAMES, SIZE = 300, 49, (720, 480)
LENS, SENSOR, CLIP = 50.0, 36.0, (0.1, 100.0)
WORKBENCH_FRAMES = 4
Row = tuple[str, str, str]


def wave(t: float) -> np.ndarray:
    """[V, 3] float32, object space: a grid of 4 m with a wave running outwards, frame `t`."""
    x, y = np.meshgrid(*[np.linspace(-2.0, 2.0, SIDE)] * 2, indexing="ij")
    z = 0.15 * np.sin(6.0 * np.hypot(x, y) - 0.3 * t)
    return np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32)


def grid_triangles() -> np.ndarray:
    index = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    a, b, c, d = (v.ravel() for v in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    return np.concatenate([np.stack([a, c, d], 1), np.stack([a, d, b], 1)]).astype(np.int32)


def turn(angle: float) -> np.ndarray:
    m = np.eye(4)
    m[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return m


def camera_to_world() -> np.ndarray:
    """Blender's axes: 5.5 m away, looking down at 45 degrees."""
    s = np.sqrt(0.5)
    return np.array([[1, 0, 0, 0], [0, s, -s, -3.6], [0, s, s, 3.6], [0, 0, 0, 1.0]])


def shot() -> Shot:
    from trackshade.conventions import intrinsics, world_to_camera

    k = intrinsics(
        lens=LENS, sensor_width=SENSOR, sensor_height=24.0, sensor_fit="AUTO", shift_x=0.0, shift_y=0.0, size=SIZE
    )
    camera = CameraTrack(
        "Camera",
        ("Camera",) * FRAMES,
        np.repeat(k[None], FRAMES, 0),
        np.repeat(world_to_camera(camera_to_world())[None], FRAMES, 0),
        np.zeros(FRAMES, bool),
        np.repeat([CLIP], FRAMES, 0),
    )
    geometry = Geometry(np.stack([wave(t) for t in range(FRAMES)]), grid_triangles())
    matrices = np.stack([turn(0.02 * t) for t in range(FRAMES)])
    mesh = MeshTrack("Grid", 0, matrices, np.ones(FRAMES, bool))
    return Shot(np.arange(1.0, FRAMES + 1), 24.0, SIZE, camera, (geometry,), (mesh,))


def timed(work, repeats: int = 3) -> float:
    """Least seconds of a few runs."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def workbench_seconds_a_frame() -> float | None:
    """Blender Workbench, flat light, vertex colours, no antialiasing, in a process of its own; None without
    bpy.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, __file__, "--workbench", folder], capture_output=True, text=True, check=False
        )
    lines = [line for line in run.stdout.splitlines() if line.startswith("seconds ")]
    return float(lines[-1].split()[1]) if run.returncode == 0 and lines else None


def workbench(folder: Path) -> None:
    """Render a few frames and print the seconds that each took, the first one left out."""
    import bpy
    from mathutils import Matrix

    bpy.ops.wm.read_factory_settings(use_empty=True)
    mesh = bpy.data.meshes.new("Grid")
    mesh.from_pydata(wave(0).tolist(), [], grid_triangles().tolist())
    colours = mesh.color_attributes.new("place", "FLOAT_COLOR", "POINT")
    colours.data.foreach_set("color", np.random.default_rng(0).random(SIDE * SIDE * 4).astype(np.float32))
    grid = bpy.data.objects.new("Grid", mesh)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene = bpy.context.scene
    for item in (grid, camera):
        scene.collection.objects.link(item)
    camera.matrix_world = Matrix(camera_to_world())
    camera.data.lens, camera.data.sensor_width = LENS, SENSOR
    scene.camera = camera
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.resolution_percentage = 100
    scene.display.render_aa = "OFF"
    scene.display.shading.light, scene.display.shading.color_type = "FLAT", "VERTEX"
    scene.render.image_settings.file_format = "BMP"  # the cheapest to write
    seconds = []
    for t in range(WORKBENCH_FRAMES + 1):
        mesh.vertices.foreach_set("co", wave(t).ravel())
        mesh.update()
        grid.matrix_world = Matrix(turn(0.02 * t))
        scene.render.filepath = str(folder / f"{t}.bmp")
        start = time.perf_counter()
        bpy.ops.render.render(write_still=True)
        seconds.append(time.perf_counter() - start)
    print("seconds", np.mean(seconds[1:]))


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    scene = shot()
    tracking_video(scene)  # compile
    tracking_video(scene, "points")
    per_frame = timed(lambda: tracking_video(scene)) / FRAMES
    single = timed(lambda: tracking_video(scene, threads=1), 2) / FRAMES
    points = timed(lambda: tracking_video(scene, "points"), 2) / FRAMES
    peer = workbench_seconds_a_frame()
    for seed in range(5):
        generate_clip(seed)
    clips = timed(lambda: [generate_clip(seed) for seed in range(10, 30)], 2) / 20
    cores = f"{os.cpu_count()} cores"
    ratio = "no bpy" if peer is None else f"{peer / per_frame:.1f} x"
    return [
        (f"tracking video, mesh, {cores}", f"{1 / per_frame:.1f} frames/s", ">= 20 frames/s"),
        ("tracking video, mesh, 1 thread", f"{1 / single:.1f} frames/s", ""),
        (f"tracking video, 4,900 points, {cores}", f"{1 / points:.1f} frames/s", ""),
        ("Workbench with vertex colours", "no bpy" if peer is None else f"{1 / peer:.2f} frames/s", ""),
        ("tracking video against Workbench", ratio, ">= 10 x"),
        ("procedural training clip, 96 x 64, 9 frames", f"{1e3 * clips:.1f} ms on one core", "20 to 40 ms"),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--workbench"]:
        workbench(Path(sys.argv[2]))
    else:
        for name, value, target in rows():
            print(f"{name:48} {value:>20}  {target}")
