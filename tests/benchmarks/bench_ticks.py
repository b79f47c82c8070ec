# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor time that the panel's own code takes of Blender's main thread, per call: the ticks of jobs after their
capture, the steps in which a result of 49 frames of 720 × 480 is placed, and the look at a scene of 5,000 objects.

`python tests/benchmarks/bench_ticks.py` prints the table; `rows()` gives it to a common runner. What a window's panels
take to draw is measured by `tests/gui/drive.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

JOBS, STEPS = 3, 20  # of the model in each job: so that there are ticks enough
PLACED, LOOKS = 20, 200
OBJECTS = 5000
HELD = 16  # milliseconds
Row = tuple[str, str, str]


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    done = subprocess.run([sys.executable, __file__, "measure"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [row for what, times in found.items() for row in _told(what, sorted(times))]


def _told(what: str, times: list[float]) -> list[Row]:
    at = times[min(len(times) - 1, len(times) * 99 // 100)]
    over = sum(each > HELD for each in times)
    return [
        (f"{what}: 99th percentile of {len(times)}", f"{at:.1f} ms", f"< {HELD} ms"),
        (f"{what}: longest; more than {HELD} ms", f"{times[-1]:.1f} ms; {over}", ""),
    ]


def _measure(folder: Path) -> dict[str, list[float]]:
    import bpy

    import trackshade_addon
    from trackshade.client import connect, later, start_private

    sys.path.insert(0, str(Path(__file__).parents[2]))
    trackshade_addon.register()
    with start_private(store=folder / "store") as backend:
        connection = later(connect, backend.info.endpoint, backend.info.token)
        ticks = _jobs(folder, connection)
        connection.result().close()
    placing = _placing(folder)
    looks = _looks()
    assert bpy.context.scene is not None
    return {"a tick while a job is sent, shaded and fetched": ticks, "a step of placing": placing,
            f"a look at {OBJECTS} objects": looks}  # fmt: skip


def _timed(times: list[float], call: Callable[[], Any]) -> Any:
    began = time.thread_time()
    try:
        return call()
    finally:
        times.append(1e3 * (time.thread_time() - began))


def _jobs(folder: Path, connection: Any) -> list[float]:
    import bpy

    from trackshade.config.settings import ShadeSettings
    from trackshade_addon.capture.request import ShotRequest
    from trackshade_addon.demo_scene import build_demo_scene
    from trackshade_addon.jobs import session

    build_demo_scene(folder / "demo.blend")
    bpy.ops.wm.open_mainfile(filepath=str(folder / "demo.blend"))
    running, times = session.current(), []
    running.connect = lambda model: connection
    for number in range(JOBS):
        job = running.begin(bpy.context.scene, ShotRequest(first_frame="none"), ShadeSettings(steps=STEPS, seed=number))
        while job.holds_scene:
            running.advance()
        while job.runs:
            _timed(times, running.advance)
            time.sleep(0.005)
        assert job.error is None, job.error
    return times


def _placing(folder: Path) -> list[float]:
    from tests.helpers.place_results import fit_size, make_result, new_scene, pictures
    from trackshade_addon.placement import prepare
    from trackshade_addon.placement.color import warm_up

    size = (720, 480)
    result = make_result(
        folder / "shaded", pictures(49, size), range(1, 50), fit=fit_size((1920, 1080), (1, 1), [size])
    )
    scene = new_scene((1920, 1080))
    scene.view_settings.view_transform = "AgX"
    warm_up(scene)  # as the capture does
    times: list[float] = []
    for _ in range(PLACED):
        steps = prepare(result, lambda: scene, mode="both")
        while True:
            try:
                waits = _timed(times, lambda steps=steps: next(steps))
            except StopIteration as done:
                ready = done.value
                break
            if waits is not None:
                waits.exception()
        _timed(times, lambda ready=ready: ready.place(scene))
    return times


def _looks() -> list[float]:
    import bpy

    from tests.helpers.stage import add, add_camera, grid
    from trackshade_addon.checks.watch import watcher

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    add_camera(scene)
    meshes = [grid(f"Grid {number}") for number in range(50)]
    for number in range(OBJECTS):
        add(scene, f"Object {number}", meshes[number % len(meshes)]).location = (number % 71 - 35, number // 71, 0)
    layer = scene.view_layers[0]
    layer.update()
    times: list[float] = []
    for _ in range(LOOKS):
        _timed(times, lambda: watcher.update(scene, layer))
    return times


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        import os

        with tempfile.TemporaryDirectory() as scratch:
            print("\n" + json.dumps(_measure(Path(scratch))), flush=True)
        os._exit(0)  # not by bpy's own exit handlers, in which bpy 4.5 can wait for itself
    for row in rows():
        print("{:70} {:>14} {}".format(*row))
