# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on starts imports nothing from the folder that Blender stands in, nor from a PYTHONPATH that somebody
set for Blender."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from tests.helpers.backend_python import backend_python
from tests.helpers.hostile import Hostile
from trackshade.client.job_run import run_to_end
from trackshade.config import registry
from trackshade.core.processes import this_python
from trackshade_addon import backend
from trackshade_addon.backend.interpreter import check_interpreter
from trackshade_addon.backend.tasks import CancellableTask, run_backend_task
from trackshade_addon.capture import first_frame
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs.composer import capture_scene

pytestmark = pytest.mark.once

LONG = 240.0  # seconds: only ever waited for in full by a test that fails


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    """The current folder and the PYTHONPATH; nothing of it has been imported at the end."""
    made = Hostile(tmp_path)
    monkeypatch.chdir(made.folder)
    monkeypatch.setenv("PYTHONPATH", str(made.folder))
    monkeypatch.setenv("PYTHONSTARTUP", str(made.folder / "json.py"))
    monkeypatch.setenv("PYTHONUSERBASE", str(made.folder))
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    yield made
    assert made.imported() == []


@pytest.mark.usefixtures("hostile")
def test_the_probe_for_graphics() -> None:
    first_frame._has_graphics.cache_clear()
    first_frame._has_graphics()


@pytest.mark.usefixtures("hostile")
def test_the_first_frame_in_a_blender_of_its_own(scene: bpy.types.Scene) -> None:
    bpy.ops.mesh.primitive_cube_add(size=2)
    stage.add_camera(scene)
    scene.render.engine = "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    scene.render.resolution_x, scene.render.resolution_y = stage.SIZE
    stage.add(scene, "Sun", bpy.data.lights.new("Sun", "SUN")).rotation_euler = 0.5, 0.2, 0
    freed = []

    def on_free() -> None:
        freed.append(scene.frame_current)
        bpy.data.objects.remove(bpy.data.objects["Cube"])  # the scene can be edited while its copy is rendered

    request = ShotRequest(frames=(1.0, 2.0, 1.0))
    captured = run_to_end(capture_scene(request, scene, on_free=on_free, in_process=False), lambda progress: None)
    assert freed == [scene.frame_current]
    assert captured.first_frame is not None
    assert captured.first_frame.shape == (stage.SIZE[1], stage.SIZE[0], 3)
    assert np.ptp(captured.first_frame) > 20  # the cube


def test_a_render_in_a_blender_of_its_own_ends_with_the_one_that_waits(scene: bpy.types.Scene, tmp_path: Path) -> None:
    bpy.ops.mesh.primitive_cube_add(size=2)
    stage.add_camera(scene)
    stage.shoot(scene, 1).save(tmp_path / "shot.shot")
    code = "import sys, time; from trackshade_addon.jobs.blender_process import answer; "
    code += "answer(sys.argv[1], lambda shot, scene: (time.sleep(60) for _ in range(1)))"
    start = this_python("-c", code, str(tmp_path))
    done = subprocess.run(start.command, env=start.variables, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1


@pytest.mark.usefixtures("hostile")
def test_tasks_in_the_backend_s_environment() -> None:
    assert run_backend_task(CancellableTask(), backend_python(), "probe")["missing"] == []


@pytest.mark.long
@pytest.mark.usefixtures("hostile")
def test_a_task_that_imports_torch() -> None:
    folder = registry.model_folder(registry.spec("mini"))
    run_backend_task(CancellableTask(), backend_python(), "check", str(folder))


@pytest.mark.usefixtures("hostile")
def test_asking_pythons_what_they_are() -> None:
    for python in (sys.executable, backend_python()):
        assert check_interpreter(python, CancellableTask(), has_pip=True).path == python


@pytest.mark.long
def test_the_backend(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_PYTHON", backend_python())
    try:
        client = backend.manager.connect("mini").result(LONG)
        _until(lambda: all(worker["ready"] for worker in client.status()["workers"]))
        _until(lambda: client.free() >= 0)
    finally:
        backend.close()
    logs = [path.read_text() for path in (hostile.folder.parent / "home" / "shared").rglob("*.log")]
    assert logs  # the worker's, which says what it lacks
    assert "Error" not in "".join(logs)


def _until(holds: Callable[[], object]) -> None:
    limit = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)
