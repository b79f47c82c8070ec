# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel without a window: registration, and the session that its buttons drive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest

import trackshade_addon
from backends import backend_python
from trackshade.client import PrivateBackend, connect, start_private
from trackshade.errors import Cancelled
from trackshade.settings import ShadeSettings
from trackshade_addon.demo_scene import build_demo_scene
from trackshade_addon.job import What
from trackshade_addon.ui import preferences, session


def traces() -> dict[str, Any]:
    """Everything in Blender that an add-on could leave behind."""
    handlers = {name: getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers)}
    bases = (bpy.types.Panel, bpy.types.Operator, bpy.types.PropertyGroup, bpy.types.AddonPreferences)
    return {
        "types": {name for name in dir(bpy.types) if "trackshade" in name.lower()},
        "scene": set(dir(bpy.types.Scene)),
        "classes": {
            cls.__name__ for base in bases for cls in base.__subclasses__() if getattr(cls, "is_registered", False)
        },
        "handlers": {name: list(found) for name, found in handlers.items() if isinstance(found, list)},
        "timer": bpy.app.timers.is_registered(session.tick),
    }


@pytest.fixture
def registered() -> Iterator[None]:
    trackshade_addon.register()
    yield
    trackshade_addon.unregister()


@pytest.fixture
def demo(tmp_path: Path) -> bpy.types.Scene:
    """The demonstration scene, open, at a frame in its middle."""
    build_demo_scene(tmp_path / "demo.blend")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "demo.blend"))
    scene = bpy.context.scene
    scene.cycles.samples = 1
    scene.frame_set(7)
    return scene


@pytest.fixture
def served(backend: PrivateBackend, monkeypatch: pytest.MonkeyPatch) -> PrivateBackend:
    """A backend that the add-on connects to."""
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    monkeypatch.setattr(session, "backend_address", lambda: backend.info.endpoint)
    return backend


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    with start_private(backend_python(), tmp_path_factory.mktemp("store")) as backend:
        yield backend


def test_registering_twice_leaves_nothing() -> None:
    before = traces()
    for _ in range(2):
        trackshade_addon.register()
        now = traces()
        assert {"TRACKSHADE_PT_shade", "TRACKSHADE_OT_shade", "TrackshadePreferences"} <= now["classes"]
        assert hasattr(bpy.context.scene, "trackshade")
        assert (now["handlers"], now["timer"]) == (before["handlers"], False)  # none without a window
        trackshade_addon.unregister()
        assert traces() == before


@pytest.mark.usefixtures("registered")
def test_the_settings_are_the_jobs() -> None:
    own = bpy.context.scene.trackshade
    own.prompt, own.seed, own.frame_rule = "a street at night", 5, "step"
    assert own.settings() == ShadeSettings(prompt="a street at night", seed=5)
    assert own.what("Layer") == What(frame_rule="step", view_layer="Layer")
    own.steps, own.guidance, own.negative_prompt = 3, 2.5, "blur"
    assert own.settings() == ShadeSettings(
        prompt="a street at night", seed=5, steps=3, guidance=2.5, negative_prompt="blur"
    )
    own.first_frame, own.picture = "file", "/tmp/a.png"
    assert own.what("Layer").first_frame == "/tmp/a.png"


@pytest.mark.usefixtures("registered")
def test_the_buttons_are_greyed_where_they_would_fail(scene: bpy.types.Scene) -> None:
    assert not bpy.ops.trackshade.shade.poll()  # no camera
    assert not bpy.ops.trackshade.cancel.poll()  # no job
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera = camera
    assert bpy.ops.trackshade.shade.poll()


def facts(scene: bpy.types.Scene) -> tuple:
    return (
        scene.frame_current,
        scene.camera.name,
        sorted(item.name for item in bpy.data.objects),
        sorted(item.name for item in bpy.data.images),
        [tuple(item.location) for item in scene.objects],
    )


@pytest.mark.usefixtures("registered")
def test_cancelling_a_capture_puts_the_scene_back(demo: bpy.types.Scene) -> None:
    before = facts(demo)
    running = session.current()
    running.begin(demo, What(first_frame="none"), ShadeSettings())
    seen = []
    while not seen or seen[-1] != 4:
        running.advance()
        assert running.holds_scene
        if running.progress is not None and running.progress.state == "capturing":
            seen.append(running.progress.step)
    assert seen == [0, 1, 2, 3, 4]  # one frame at each tick
    assert not bpy.ops.trackshade.shade.poll()
    assert bpy.ops.trackshade.cancel() == {"FINISHED"}
    assert isinstance(running.error, Cancelled)
    assert not running.busy
    assert facts(demo) == before


@pytest.mark.usefixtures("registered")
def test_a_job_goes_through_without_waiting(
    demo: bpy.types.Scene, backend: PrivateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    monkeypatch.setattr(session, "backend_address", lambda: backend.info.endpoint)
    running = session.current()
    for number in (1, 2):
        running.begin(demo, What(first_frame="none"), ShadeSettings(steps=1, seed=number))
        states = []
        while running.busy:
            running.advance()
            if running.progress is not None and running.progress.state not in states:
                states.append(running.progress.state)
            time.sleep(0.001)
        assert running.error is None
        assert states[:2] == ["planning", "capturing"]
        assert "running" in states
        assert running.outcome is not None
        assert running.outcome.out == Path(bpy.data.filepath).parent / "shaded" / f"demo-{number:03d}"
        assert len([item for item in demo.camera.children if "plate" in item.name]) == number
    assert demo.frame_current == 7


@pytest.mark.usefixtures("registered")
def test_the_operator_does_it_all_at_once_for_a_script(
    demo: bpy.types.Scene, backend: PrivateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    monkeypatch.setattr(session, "backend_address", lambda: backend.info.endpoint)
    demo.trackshade.steps = 1
    assert bpy.ops.trackshade.shade() == {"FINISHED"}
    assert any("plate" in item.name for item in demo.camera.children)


def start(scene: bpy.types.Scene, settings: ShadeSettings) -> session.Session:
    """A job that has let go of the scene and goes on by the timer, as after the button."""
    running = session.current()
    running.begin(scene, What(first_frame="none"), settings)
    while running.holds_scene:
        running.advance()
        time.sleep(0.001)
    running.follow()
    return running


def finish(running: session.Session) -> None:
    while running.busy:
        running.advance()
        time.sleep(0.001)


@pytest.mark.usefixtures("registered", "served")
def test_a_job_outlives_its_file_and_touches_no_other(demo: bpy.types.Scene) -> None:
    folder = Path(bpy.data.filepath).parent / "shaded" / "demo-001"
    running = start(demo, ShadeSettings(steps=1))
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.context.scene.name = "Demo"  # of the same name, but another
    assert bpy.app.timers.is_registered(session.tick)
    finish(running)
    assert running.error is not None
    assert running.error.code == "scene-gone"
    assert str(folder) in str(running.error)
    assert (folder / "job.json").is_file()
    assert not any("plate" in item.name for item in bpy.data.objects)


@pytest.mark.usefixtures("registered", "served")
def test_a_job_finds_its_scene_in_the_file_that_is_opened_again(demo: bpy.types.Scene) -> None:
    path = bpy.data.filepath
    running = start(demo, ShadeSettings(steps=1))
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=path)
    finish(running)
    assert running.error is None
    assert any("plate" in item.name for item in bpy.context.scene.camera.children)


@pytest.mark.usefixtures("registered", "served")
def test_a_job_finds_its_scene_under_another_name(demo: bpy.types.Scene) -> None:
    running = start(demo, ShadeSettings(steps=1))
    demo.name = "Renamed"
    finish(running)
    assert running.error is None
    assert any("plate" in item.name for item in demo.camera.children)


@pytest.mark.usefixtures("registered")
def test_a_capture_ends_with_its_file(demo: bpy.types.Scene) -> None:
    before = traces()
    running = session.current()
    running.begin(demo, What(first_frame="none"), ShadeSettings())
    while running.progress is None or running.progress.step != 2:
        running.advance()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert not running.busy
    assert running.error is not None
    assert running.error.code == "scene-gone"
    running.begin(bpy.context.scene, What(first_frame="none"), ShadeSettings())
    running.cancel()
    assert traces() == before


def test_disabling_the_extension_cancels_its_job(demo: bpy.types.Scene, served: PrivateBackend) -> None:
    trackshade_addon.register()
    try:
        running = start(demo, ShadeSettings(steps=900, seed=77))
        while running.progress is not None and running.progress.state != "running":
            running.advance()
            time.sleep(0.001)
    finally:
        trackshade_addon.unregister()
    with connect(served.info.endpoint) as client:
        mine = [job for job in client.jobs() if job["settings"]["seed"] == 77]
        with pytest.raises(Cancelled):  # now, or within moments
            client.wait(mine[-1]["id"])


@pytest.mark.usefixtures("registered", "served")
def test_a_defect_is_told_too(demo: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("plate")

    monkeypatch.setattr(session, "place", broken)
    running = start(demo, ShadeSettings(steps=1))
    with pytest.raises(KeyError):  # for the console
        finish(running)
    assert not running.busy
    assert "KeyError" in str(running.error)


@pytest.mark.usefixtures("registered")
def test_a_missing_backend_is_told_and_tried_again(demo: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "backend_address", lambda: None)
    monkeypatch.setattr(session, "backend_python", lambda: "/nowhere/python")
    running = session.current()
    for _ in range(2):
        running.begin(demo, What(first_frame="none"), ShadeSettings())
        while running.busy:
            running.advance()
        assert running.error is not None
        assert running.error.code == "backend-not-started"
        assert "/nowhere/python" in str(running.error)
    assert not list((Path(bpy.data.filepath).parent).glob("shaded/*"))


@pytest.mark.usefixtures("registered")
def test_results_of_an_unsaved_scene_go_to_the_users_folder(
    scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    assert preferences.results_folder() == tmp_path / "shaded"
