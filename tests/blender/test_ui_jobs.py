# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel without a window: registration, its jobs, and what its buttons do with them."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import pytest

import trackshade_addon
from tests.helpers.whole_file import differences, whole_file
from trackshade.client import PrivateBackend, connect, later, start_private
from trackshade.client.job_run import CapturedShot
from trackshade.client.progress import Progress
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, OutputError, UsageError
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs import session
from trackshade_addon.jobs.job import Job
from trackshade_addon.placement import place, remove
from trackshade_addon.properties import preferences
from trackshade_addon.properties.placement_options import PlacementOptions
from trackshade_addon.ui import jobs_list, modal

QUICK = ShadeSettings(steps=1, output_size="model")


def traces() -> dict[str, Any]:
    """Everything in Blender that an add-on could leave behind."""
    handlers = {name: getattr(bpy.app.handlers, name) for name in dir(bpy.app.handlers)}
    bases = (bpy.types.Panel, bpy.types.Operator, bpy.types.PropertyGroup, bpy.types.AddonPreferences,
             bpy.types.UIList, bpy.types.Menu)  # fmt: skip
    return {
        "types": {name for name in dir(bpy.types) if "trackshade" in name.lower()},
        "scene": set(dir(bpy.types.Scene)),
        "window": set(dir(bpy.types.WindowManager)),
        "classes": {
            cls.__name__ for base in bases for cls in base.__subclasses__() if getattr(cls, "is_registered", False)
        },
        "handlers": {name: list(found) for name, found in handlers.items() if isinstance(found, list)},
        "timer": bpy.app.timers.is_registered(session.tick),
    }


def test_registering_twice_leaves_nothing() -> None:
    before = traces()
    for _ in range(2):
        trackshade_addon.register()
        now = traces()
        assert {"TRACKSHADE_PT_shade", "TRACKSHADE_OT_shade", "TrackshadePreferences"} <= now["classes"]
        assert hasattr(bpy.context.scene, "trackshade")
        added = {name for name, found in now["handlers"].items() if found != before["handlers"][name]}
        renders = {f"render_{name}" for name in ("init", "pre", "post", "write", "complete", "cancel")}
        assert added == {*renders, "load_post", "save_pre", "save_post"}
        assert not now["timer"]  # none without a window
        trackshade_addon.unregister()
        assert traces() == before


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


def test_cancelling_a_capture_puts_the_scene_back(demo: bpy.types.Scene) -> None:
    before = facts(demo)
    running = session.current()
    job = running.begin(demo, ShotRequest(first_frame="none"), ShadeSettings())
    seen = []
    while not seen or seen[-1] != 4:
        running.advance()
        assert running.capturing is job
        if job.progress is not None and job.progress.state == "capturing":
            seen.append(job.progress.step)
    assert seen == [0, 1, 2, 3, 4]  # one frame at each tick
    assert not bpy.ops.trackshade.shade.poll()
    with pytest.raises(UsageError, match="captured"):
        running.begin(demo, ShotRequest(first_frame="none"), ShadeSettings())
    for name in ("import_result", "place_again", "use_settings", "take_out", "restore_materials", "add_camera"):
        assert not getattr(bpy.ops.trackshade, name).poll(), name
    assert bpy.ops.trackshade.cancel() == {"FINISHED"}
    assert isinstance(job.error, CancelledError)
    assert job.state == "cancelled"
    assert not running.busy
    assert facts(demo) == before


def test_a_capture_holds_the_input_of_all_windows(demo: bpy.types.Scene) -> None:
    held = [SimpleNamespace(modal_operators=[SimpleNamespace(bl_idname="TRACKSHADE_OT_hold")])]
    free = [SimpleNamespace(modal_operators=[], number=number) for number in range(3)]
    manager = SimpleNamespace(
        windows=held + free, event_timer_add=lambda step, window: object(), progress_begin=lambda *ends: None
    )
    taken = []
    context = SimpleNamespace(
        window=free[0],
        window_manager=manager,
        workspace=bpy.context.workspace,
        temp_override=lambda window: nullcontext(taken.append(window)),
    )
    modal.InputLock(lock_window=lambda: None).acquire(context)
    assert taken == free[1:]  # the first is the operator's own

    job = session.current().begin(demo, ShotRequest(first_frame="none"), ShadeSettings())
    nowhere = SimpleNamespace(screen=None)
    assert modal.handle_event(nowhere, SimpleNamespace(type="DEL", value="PRESS")) == {"RUNNING_MODAL"}
    assert modal.handle_event(nowhere, SimpleNamespace(type="ESC", value="PRESS")) is None
    assert job.state == "cancelled"


@pytest.mark.parametrize("end", ["escape", "disable"])
def test_a_look_at_the_frames_holds_all_windows_until_it_ends(demo: bpy.types.Scene, end: str) -> None:
    running, before = session.current(), demo.frame_current

    def steps() -> Generator[tuple[int, int], None, None]:
        demo.frame_set(before + 3)
        try:
            yield 1, 2
        finally:
            demo.frame_set(before)

    look = steps()
    next(look)
    running.begin_stepping(look)
    nowhere = SimpleNamespace(screen=None)
    assert modal.handle_event(nowhere, SimpleNamespace(type="DEL", value="PRESS")) == {"RUNNING_MODAL"}
    assert demo.frame_current == before + 3
    if end == "escape":  # in any window
        assert modal.handle_event(nowhere, SimpleNamespace(type="ESC", value="PRESS")) is None
    else:
        running.close()
    assert demo.frame_current == before
    assert not running.holds_scene
    assert next(look, None) is None


@pytest.mark.usefixtures("served")
def test_render_control_asks_for_no_model_and_is_placed(demo: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, asked = session.current().connect, []
    monkeypatch.setattr(session.current(), "connect", lambda model: asked.append(model) or connect(model))
    assert bpy.ops.trackshade.control() == {"FINISHED"}
    job = session.current().latest
    assert job is not None
    assert job.error is None
    assert asked == [None]
    assert job.title == "demo-001, control"
    first = (job.out / "frames" / "0001.png").read_bytes()
    assert first == (job.out / "tracking" / "0001.png").read_bytes()
    assert [item for item in demo.camera.children if "plate" in item.name]
    assert demo.frame_current == 7


@pytest.mark.usefixtures("served")
def test_jobs_queue_and_each_is_placed(demo: bpy.types.Scene) -> None:
    running = session.current()
    states: dict[str, list[str]] = {}
    for number in (1, 2):
        job = running.begin(demo, ShotRequest(first_frame="none"), replace(QUICK, prompt=f"no {number}", seed=number))
        while job.holds_scene:  # the first one is at the backend while the second one is captured
            running.advance()
            time.sleep(0.001)
    while running.busy:
        running.advance()
        for job in running.jobs:
            states.setdefault(job.title, []).append(job.state)
        time.sleep(0.001)
    assert [job.error for job in running.jobs] == [None, None]
    assert "running" in states["no 2"]
    folder = Path(bpy.data.filepath).parent / "shaded"
    assert [job.out for job in running.jobs] == [folder / "demo-001", folder / "demo-002"]
    assert len([item for item in demo.camera.children if "plate" in item.name]) == 2
    assert demo.frame_current == 7
    own = bpy.context.window_manager.trackshade
    assert [item.name for item in own.items] == [job.uid for job in reversed(running.jobs)]
    assert jobs_list.active_job(bpy.context) is running.jobs[1]
    assert jobs_list.thumbnails.icon(running.jobs[1]) >= 0
    assert bpy.ops.trackshade.use_settings() == {"FINISHED"}
    assert (demo.trackshade.seed, demo.trackshade.prompt) == (2, "no 2")
    assert bpy.ops.trackshade.clear_jobs() == {"FINISHED"}
    assert not own.items


@pytest.mark.usefixtures("served")
def test_a_result_whose_folder_somebody_else_took_goes_beside_it(demo: bpy.types.Scene) -> None:
    running = session.current()
    job = running.begin(demo, ShotRequest(first_frame="none"), QUICK)
    (job.out / "frames").mkdir(parents=True)  # of the same file in another Blender
    while running.busy:
        running.advance()
        time.sleep(0.001)
    assert job.error is None
    assert job.result is not None
    assert (job.out.name, job.result.out) == ("demo-002", job.out)
    assert (job.out / "job.json").is_file()
    assert [item for item in demo.camera.children if "demo-002" in item.name]


@pytest.mark.usefixtures("served")
def test_the_operator_does_it_all_at_once_for_a_script(demo: bpy.types.Scene) -> None:
    own = demo.trackshade
    own.steps, own.place_as, own.output_size = 1, "none", "full"
    own.use_range, own.first, own.last, own.step = True, 1, 7, 3
    assert bpy.ops.trackshade.shade() == {"FINISHED"}
    job = session.current().jobs[-1]
    assert job.settings.seed == own.seed
    assert not any("plate" in item.name for item in demo.camera.children)
    own.place_as = "plate"
    assert bpy.ops.trackshade.place_again() == {"FINISHED"}
    assert any("plate" in item.name for item in demo.camera.children)
    assert not demo.camera.data.background_images
    own.prompt = "something else"
    assert bpy.ops.trackshade.shade(redo=job.uid) == {"FINISHED"}
    again = session.current().jobs[-1]
    assert (again.settings, again.request) == (job.settings, job.request)
    assert again.out != job.out
    assert bpy.ops.trackshade.import_result(filepath=str(again.out)) == {"FINISHED"}


def start(scene: bpy.types.Scene, settings: ShadeSettings) -> Job:
    """A job that has let go of the scene and goes on by the timer, as after the button."""
    running = session.current()
    job = running.begin(scene, ShotRequest(first_frame="none"), settings)
    while job.holds_scene:
        running.advance()
        time.sleep(0.001)
    running.follow()
    return job


def finish(job: Job) -> None:
    while job.runs:
        session.current().advance()
        time.sleep(0.001)


@pytest.mark.long
@pytest.mark.usefixtures("served")
def test_stills_of_an_image_model_are_painted_and_one_is_used(demo: bpy.types.Scene, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from tests.helpers.tiny_image_models import write_image_model

    settings = demo.trackshade
    settings.image_model, settings.image_family = "custom", "sd15"
    settings.image_checkpoint = str(write_image_model(tmp_path / "tiny", "sd15"))
    settings.first_frame, settings.steps, settings.stills = "none", 1, 2
    assert bpy.ops.trackshade.paint_stills() == {"FINISHED"}
    (job,) = session.current().jobs
    finish(job)
    assert job.error is None
    assert sorted(path.name for path in (job.out / "stills").iterdir()) == ["0001.png", "0002.png"]
    assert bpy.ops.trackshade.use_still(job=job.uid, number=2) == {"FINISHED"}
    assert (settings.first_frame, settings.image_model) == ("file", "none")
    assert settings.shot_request("ViewLayer").first_frame == str(job.out / "stills" / "0002.png")
    assert bpy.ops.trackshade.use_still(job=job.uid, number=3) == {"CANCELLED"}
    settings.apply_job(job.request, job.settings)
    assert settings.shade_settings().image_model == job.settings.image_model


@pytest.mark.usefixtures("served")
def test_a_job_outlives_its_file_and_touches_no_other(demo: bpy.types.Scene) -> None:
    folder = Path(bpy.data.filepath).parent / "shaded" / "demo-001"
    job = start(demo, QUICK)
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.context.scene.name = "Demo"  # of the same name, but another
    assert bpy.app.timers.is_registered(session.tick)
    finish(job)
    assert job.error is not None
    assert job.error.code == "scene-gone"
    assert str(folder) in str(job.error)
    assert (folder / "job.json").is_file()
    assert not any("plate" in item.name for item in bpy.data.objects)


@pytest.mark.usefixtures("served")
def test_a_job_finds_its_scene_in_the_file_that_is_opened_again(demo: bpy.types.Scene) -> None:
    path = bpy.data.filepath
    job = start(demo, QUICK)
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert not job.scene.is_scene(bpy.context.scene)
    finish(job)
    assert job.error is None
    assert job.scene.is_scene(bpy.context.scene)
    assert any("plate" in item.name for item in bpy.context.scene.camera.children)
    bpy.ops.wm.open_mainfile(filepath=path)  # without the plate
    assert not job.scene.is_scene(bpy.context.scene)


@pytest.mark.usefixtures("served")
def test_a_job_finds_its_scene_under_another_name(demo: bpy.types.Scene) -> None:
    job = start(demo, QUICK)
    demo.name = "Renamed"
    finish(job)
    assert job.error is None
    assert any("plate" in item.name for item in demo.camera.children)


def stage_of_links(folder: Path) -> bpy.types.Scene:
    """A scene that shows a moving cone of another file twice: linked as an instance, and overridden."""
    bpy.ops.wm.read_homefile(use_empty=True)
    bpy.ops.mesh.primitive_cone_add()
    cone = bpy.context.object
    for frame, x in ((1, -1.0), (17, 1.0)):
        cone.location.x = x
        cone.keyframe_insert("location", frame=frame)
    props = bpy.data.collections.new("Props")
    props.objects.link(cone)
    bpy.context.scene.collection.children.link(props)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "library.blend"))
    bpy.ops.wm.read_homefile(use_empty=True)
    with bpy.data.libraries.load(str(folder / "library.blend"), link=True) as (there, here):
        here.collections = there.collections
    scene, linked = bpy.context.scene, here.collections[0]
    instance = bpy.data.objects.new("Instance", None)
    instance.instance_type, instance.instance_collection = "COLLECTION", linked
    instance.location.z = 1.5
    scene.collection.objects.link(instance)
    linked.override_hierarchy_create(scene, scene.view_layers[0])
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.camera.location, scene.camera.rotation_euler = (0, -12, 0.5), (1.57, 0, 0)
    scene.collection.objects.link(scene.camera)
    scene.frame_end, scene.render.resolution_x, scene.render.resolution_y = 17, 144, 96
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "links.blend"))
    return scene


@pytest.mark.usefixtures("registered", "served")
def test_what_is_linked_and_overridden_is_shaded_and_left_as_it_was(tmp_path: Path) -> None:
    scene = stage_of_links(tmp_path)
    assert any(item.override_library for item in scene.objects)
    before = whole_file()
    job = start(scene, QUICK)
    finish(job)
    assert job.error is None
    record = json.loads((job.out / "job.json").read_text(encoding="utf-8"))
    assert record["shot"]["meshes"] == 2
    for way in ("plate", "projected"):
        placed = place(job.out, scene, mode=way)
        assert differences(before, whole_file())
        remove(placed)
        assert differences(before, whole_file()) == []


def test_a_capture_ends_with_its_file(demo: bpy.types.Scene) -> None:
    before = traces()
    running = session.current()
    job = running.begin(demo, ShotRequest(first_frame="none"), ShadeSettings())
    while job.progress is None or job.progress.step != 2:
        running.advance()
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert not job.runs
    assert job.error is not None
    assert job.error.code == "scene-gone"
    running.begin(bpy.context.scene, ShotRequest(first_frame="none"), ShadeSettings())
    running.cancel()
    assert traces() == before


def test_disabling_the_extension_cancels_its_job(demo: bpy.types.Scene, served: PrivateBackend) -> None:
    job = start(demo, ShadeSettings(steps=900, seed=77))
    while job.progress is not None and job.progress.state != "running":
        session.current().advance()
        time.sleep(0.001)
    trackshade_addon.unregister()
    trackshade_addon.register()
    with connect(served.info.endpoint) as client:
        mine = [job for job in client.jobs() if job["settings"]["seed"] == 77]
        with pytest.raises(CancelledError):  # now, or within moments
            client.wait(mine[-1]["id"])


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("what", ["undo", "delete", "rename"])
def test_the_scene_may_change_while_the_result_is_placed(demo: bpy.types.Scene, what: str) -> None:
    """Each step finds what it needs anew; nothing of the scene is kept from one to the next."""
    job = start(demo, QUICK)
    while job.progress is not None and job.progress.state != "placing":
        session.current().advance()
        time.sleep(0.001)
    camera = bpy.data.objects["Camera"]
    if what == "undo":
        bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)  # all of it is made anew, as by an undo
    elif what == "delete":
        bpy.data.objects.remove(camera)
    else:
        camera.name = "Kamera"
    finish(job)
    assert (job.error, job.state) == (None, "done")
    scene = bpy.context.scene
    assert any("plate" in item.name for item in scene.objects)
    made = any("one was made" in warning for warning in job.result.warnings) if job.result is not None else None
    assert made == (what != "undo")


@pytest.mark.usefixtures("served")
def test_a_defect_is_told_too(demo: bpy.types.Scene, tmp_path: Path) -> None:
    def broken(client: object) -> Generator[Progress, None, CapturedShot]:
        yield Progress("planning")
        raise KeyError("plate")

    out, failures = session.reserve_output(registry.spec("mini")), []
    job = Job(demo, ShotRequest(), ShadeSettings(), PlacementOptions(), out, broken, lambda: failures.append(1))
    session.current().add(job)
    with pytest.raises(KeyError):  # for the console
        finish(job)
    assert failures == [1]
    assert not out.path.exists()
    assert not job.runs
    assert "KeyError" in str(job.error)


def test_a_missing_backend_is_told_and_tried_again(demo: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.current(), "connect", lambda model: later(start_private, "/nowhere/python"))
    running = session.current()
    for _ in range(2):
        job = running.begin(demo, ShotRequest(first_frame="none"), ShadeSettings())
        while job.runs:
            running.advance()
        assert job.error is not None
        assert job.error.code == "backend-not-started"
        assert "/nowhere/python" in str(job.error)
    assert not list((Path(bpy.data.filepath).parent).glob("shaded/*"))


@pytest.mark.usefixtures("registered")
def test_results_of_an_unsaved_scene_go_to_the_users_folder(
    scene: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_RESULTS", str(tmp_path / "said"))
    assert preferences.results_folder() == tmp_path / "said"
    monkeypatch.delenv("TRACKSHADE_RESULTS")
    monkeypatch.setenv("XDG_DOCUMENTS_DIR", str(tmp_path / "Dokumente"))
    assert preferences.results_folder() == tmp_path / "Dokumente" / "Trackshade"
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRACKSHADE_RESULTS", str(tmp_path / "file" / "folder"))
    with pytest.raises(OutputError, match="cannot be written"):
        session.current().begin(scene, ShotRequest(), ShadeSettings())
