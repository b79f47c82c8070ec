# SPDX-License-Identifier: GPL-3.0-or-later
"""Baking a 49-frame shot of 720 × 480 into 2048²: a bent board of 20,000 triangles that fills the picture, under
flickering noise, which is the hardest for the median. And the projection of a frame for 100,000 vertices in Blender.

`python tests/benchmarks/bench_texture.py` prints the table; `rows()` gives it to a common runner.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FRAMES, SIZE, TEXELS, THREADS = 49, (720, 480), 2048, 2
SIDE = 100  # cells along a side of the baked board
VERTICES_SIDE = 316  # 316² vertices: about 100,000
PLAYED = 40
Row = tuple[str, str, str]


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    from trackshade.results.cells.views import render_views
    from trackshade.results.sheets import consistency_figure
    from trackshade.results.texture.bake import bake_texture

    shot, uv = _board()
    noise = np.random.default_rng(0).integers(-20, 20, (FRAMES, SIZE[1], SIZE[0], 1))
    video = np.clip(np.linspace(60, 190, SIZE[0])[None, None, :, None] + noise, 0, 255).astype(np.uint8)
    video = np.ascontiguousarray(np.broadcast_to(video, (FRAMES, SIZE[1], SIZE[0], 3)))
    bake_texture(render_views(shot, THREADS), video, 0, uv, 64, THREADS)  # compiles
    wall, cpu = time.perf_counter(), time.process_time()
    baked = bake_texture(render_views(shot, THREADS), video, 0, uv, TEXELS, THREADS)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    views = render_views(shot, THREADS)
    figure = time.process_time()
    consistency_figure(views, video, THREADS)
    figure = time.process_time() - figure
    with tempfile.TemporaryDirectory() as folder:
        plain, projected = _blender(Path(folder))
    what = f"{FRAMES} frames of {SIZE[0]} × {SIZE[1]} into {TEXELS}²"
    return [
        (f"bake, {what}, {baked.coverage:.0%} covered, 2 threads", f"{wall:.1f} s", "<= 30 s"),
        ("bake, the same, time of the processor on both", f"{cpu:.1f} s", "<= 60 s"),
        ("consistency figure of that shot, time of the processor", f"{figure:.1f} s", ""),
        ("stepping a frame, 100,000 vertices", f"{1e3 * plain:.1f} ms", ""),
        ("projection of a frame, 100,000 vertices", f"{1e3 * (projected - plain):.1f} ms", "<= 50 ms"),
    ]


def _board():
    """A shot, and the texture coordinates [F, 3, 2] of its one mesh."""
    from trackshade.core.geometry import intrinsics, world_to_camera
    from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot

    line = np.linspace(-1, 1, SIDE + 1)
    x, y = (part.ravel() for part in np.meshgrid(line, line))
    times = np.arange(FRAMES)[:, None]
    height = 0.1 * np.sin(3 * x + 0.2 * times)
    positions = np.stack([np.broadcast_to(x, height.shape), np.broadcast_to(y, height.shape), height], axis=-1)
    corner = (np.arange(SIDE)[:, None] * (SIDE + 1) + np.arange(SIDE)).ravel()
    a, b, c, d = corner, corner + 1, corner + SIDE + 2, corner + SIDE + 1
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    uv = ((np.stack([x, y], axis=1)[triangles] + 1) / 2).astype(np.float32)
    place = np.eye(4)
    place[2, 3] = 3.6
    k = intrinsics(lens=50, sensor_width=36, sensor_height=24, sensor_fit="AUTO", shift_x=0, shift_y=0, size=SIZE)
    turns = np.tile(np.eye(4), (FRAMES, 1, 1))
    turns[:, 0, 3] = np.linspace(-0.3, 0.3, FRAMES)
    camera = CameraTrack(
        "Camera", ("Camera",) * FRAMES, np.tile(k, (FRAMES, 1, 1)),
        np.tile(world_to_camera(place), (FRAMES, 1, 1)), np.zeros(FRAMES, bool), np.tile([0.1, 100.0], (FRAMES, 1)),
    )  # fmt: skip
    geometry = Geometry(np.ascontiguousarray(positions, np.float32), triangles, uv)
    mesh = MeshTrack("Board", 0, turns, np.ones(FRAMES, bool))
    return Shot(np.arange(1.0, FRAMES + 1), 8.0, SIZE, camera, (geometry,), (mesh,)), uv


def _blender(folder: Path) -> tuple[float, float]:
    """Seconds to step a frame, without and with the projection; in a process of its own."""
    command = [sys.executable, __file__, "--blender", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("seconds a frame ")]
    if run.returncode or not lines:
        raise RuntimeError(f"Blender failed:\n{run.stdout}\n{run.stderr}")
    plain, projected = lines[-1].split()[-2:]
    return float(plain), float(projected)


def _project(folder: Path) -> None:
    import bpy

    from trackshade_addon.placement.projection import PROJECTION_ATTRIBUTE, attach_tracks
    from trackshade_addon.placement.result_folder import ResultFolder
    from trackshade_addon.placement.sequence import FrameChoice

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    bpy.ops.mesh.primitive_grid_add(x_subdivisions=VERTICES_SIDE - 1, y_subdivisions=VERTICES_SIDE - 1)
    grid = bpy.context.object
    grid.modifiers.new("Wave", "WAVE").height = 0.1
    count = len(grid.data.vertices)
    plain = _step(scene)
    values = np.random.default_rng(0).random((FRAMES, count, 3), np.float32)
    head = np.array([1, count], "<i4").tobytes() + np.array([0, 1], "<f4").tobytes()
    path = folder / "tracks.pc2"
    path.write_bytes(b"POINTCACHE2\0" + head + np.array([FRAMES], "<i4").tobytes() + values.tobytes())
    choices = [FrameChoice(frame, frame - 1, None) for frame in range(1, FRAMES + 1)]
    result = object.__new__(ResultFolder)
    result.__dict__["folder"] = folder
    warnings = attach_tracks(grid, scene.collection, result, path, count, choices)
    seconds = _step(scene)
    shown = np.empty(3 * count, np.float32)
    view = grid.evaluated_get(bpy.context.evaluated_depsgraph_get())
    view.data.attributes[PROJECTION_ATTRIBUTE].data.foreach_get("vector", shown)
    if warnings or not np.array_equal(shown, values[scene.frame_current - 1].ravel()):
        raise RuntimeError("the projection is not that of the frame")
    print("seconds a frame", plain, seconds)


def _step(scene) -> float:
    """Least seconds to go to a frame, evaluated, of many."""
    seconds = []
    for frame in range(1, PLAYED + 1):
        start = time.perf_counter()
        scene.frame_set(frame)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--blender"]:
        _project(Path(sys.argv[2]))
    else:
        for name, value, target in rows():
            print(f"{name:64} {value:>10}  {target}")
