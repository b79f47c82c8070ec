# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on starts imports nothing from the folder that Blender stands in, nor from a PYTHONPATH that somebody
set for Blender."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import pytest

from tests.helpers import stage
from tests.helpers.backend_python import backend_python
from tests.helpers.hostile import Hostile
from trackshade.config import registry
from trackshade_addon import backend
from trackshade_addon.backend.interpreter import check_interpreter
from trackshade_addon.backend.tasks import CancellableTask, run_backend_task
from trackshade_addon.capture import first_frame
from trackshade_addon.jobs.render_process import render_elsewhere

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
    steps = render_elsewhere(stage.shoot(scene, 2), 1, lambda call: call())
    pictures = []

    def run() -> Iterator[object]:
        pictures.append((yield from steps))

    for _ in run():
        time.sleep(0.02)
    assert pictures[0].shape == (1, stage.SIZE[1], stage.SIZE[0], 3)


@pytest.mark.usefixtures("hostile")
def test_tasks_in_the_backend_s_environment() -> None:
    python = backend_python()
    assert run_backend_task(CancellableTask(), python, "probe")["missing"] == []
    run_backend_task(CancellableTask(), python, "check", str(registry.model_folder(registry.spec("mini"))))


@pytest.mark.usefixtures("hostile")
def test_asking_pythons_what_they_are() -> None:
    for python in (sys.executable, backend_python()):
        assert check_interpreter(python, CancellableTask(), has_pip=True).path == python


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
