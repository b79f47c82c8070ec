# SPDX-License-Identifier: GPL-3.0-or-later
"""Capture of a 300 × 300 grid with a Wave modifier that turns, 49 frames, beside stepping the frames alone and beside
Blender's own Alembic export of it; and of a thousand instances.

`python tests/benchmarks/bench_capture.py` prints the table; `rows()` gives it to a common runner. Each scene gets a
fresh Blender. Captures and steps take turns, and the least times are compared: what else the machine does only adds.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE, FRAMES, ROUNDS, INSTANCES = 300, 49, 15, 1000
Row = tuple[str, str, str]


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    grid, crowd = _in_blender("grid"), _in_blender("crowd")
    memory = grid["growth"] / grid["bytes"]
    return [
        ("stepping the frames", f"{1e3 * grid['step']:.0f} ms", ""),
        ("capture", f"{1e3 * grid['capture']:.0f} ms, {grid['bytes'] / 1e6:.0f} MB", ""),
        ("Alembic export", f"{1e3 * grid['alembic']:.0f} ms", ""),
        ("capture against stepping the frames", f"{grid['capture'] / grid['step']:.2f} x", "<= 1.3 x"),
        ("capture against Alembic export", f"{grid['capture'] / grid['alembic']:.2f} x", "<= 0.25 x"),
        ("memory of capture against the shot", f"{memory:.2f} x", "<= 1.3 x"),
        (
            f"capture of {INSTANCES} instances against stepping the frames",
            f"{crowd['capture'] / crowd['step']:.2f} x, {crowd['bytes'] / 1e6:.1f} MB",
            "",
        ),
    ]


def _in_blender(scene: str) -> dict[str, Any]:
    command = [sys.executable, __file__, scene]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure(name: str) -> dict[str, float]:
    import bpy

    from trackshade.core.fitting import fit_frames, fit_size
    from trackshade_addon.capture import capture

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, FRAMES
    (_grid if name == "grid" else _crowd)(scene)
    frame_map = fit_frames(1, FRAMES, 1, 24.0, (FRAMES,))
    size_fit = fit_size((1920, 1080), (1.0, 1.0), ((720, 480),))

    def step() -> None:
        for frame in range(1, FRAMES + 1):
            scene.frame_set(frame)

    def run() -> None:
        capture(scene, frame_map=frame_map, size_fit=size_fit)

    step()
    before = _reset_peak()
    shot = capture(scene, frame_map=frame_map, size_fit=size_fit)
    result: dict[str, float] = {"growth": _memory("VmHWM") - before, "bytes": shot.nbytes}
    del shot
    result |= _least({"step": step, "capture": run}, ROUNDS)
    if name == "grid":
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "grid.abc")

            def export() -> None:
                bpy.ops.wm.alembic_export(filepath=path, start=1, end=FRAMES, as_background_job=False)

            result |= _least({"alembic": export}, 3)
    return result


def _least(work: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Least seconds of each, taken in turns."""
    least = dict.fromkeys(work, math.inf)
    for _ in range(rounds):
        for key, run in work.items():
            start = time.perf_counter()
            run()
            least[key] = min(least[key], time.perf_counter() - start)
    return least


def _grid(scene: Any) -> None:
    import bpy

    bpy.ops.mesh.primitive_grid_add(x_subdivisions=SIDE, y_subdivisions=SIDE)
    grid = bpy.context.object
    grid.modifiers.new("Wave", "WAVE")
    _animate(scene, grid)


def _crowd(scene: Any) -> None:
    """Objects that share a mesh, each of them parented to one that turns."""
    import bpy

    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    _animate(scene, cube)
    for index in range(INSTANCES - 1):
        twin = bpy.data.objects.new("Twin", cube.data)
        twin.parent, twin.location = cube, (index % 32, index // 32, 0)
        scene.collection.objects.link(twin)


def _animate(scene: Any, obj: Any) -> None:
    import bpy

    obj.keyframe_insert("rotation_euler", frame=1)
    obj.rotation_euler.z = 1.0
    obj.keyframe_insert("rotation_euler", frame=FRAMES)
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.location.z = 6
    scene.collection.objects.link(camera)
    scene.camera = camera


def _reset_peak() -> int:
    """Forgets the process's peak memory and returns what it holds now, bytes (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(name + ":")))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_measure(sys.argv[1])))
    else:
        for row in rows():
            print("{:<62} {:>22}   {}".format(*row))
