# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs outlive a crash of Blender: they are found again with their file, followed, canceled and placed."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import bpy
import pytest

from trackshade.client import PrivateBackend, connect, later
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, ProtocolError
from trackshade.core.processes import this_python
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs import session
from trackshade_addon.jobs.history import find_pending, follow_pending
from trackshade_addon.jobs.job import Job
from trackshade_addon.jobs.pending import PendingJob, PendingRecord, claim_pending, pending_folder
from trackshade_addon.properties.placement_options import PlacementOptions

pytestmark = pytest.mark.once

# Begins a job, and is killed when the backend has it.
CRASH = """
import dataclasses, os, signal, sys, time
import bpy, trackshade_addon
trackshade_addon.register()
from trackshade.client import connect, later
from trackshade_addon.jobs.session import current
endpoint, file = sys.argv[1:]
if file:
    bpy.ops.wm.open_mainfile(filepath=file)
connection = later(connect, endpoint)
current().connect = lambda model: connection
scene, own = bpy.context.scene, bpy.context.scene.trackshade
own.use_range, own.first, own.last, own.light, own.place_as = True, 1, 3, "none", "plate"
own.first_frame, own.steps = "none", 1
scene.render.resolution_x, scene.render.resolution_y = 144, 96
settings = dataclasses.replace(own.shade_settings(), output="tracking")  # which needs no model
job = current().begin(scene, own.shot_request(scene.view_layers[0].name), settings, own.placement_options())
while job.state not in ("queued", "loading", "running"):
    current().advance()
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
JOB = PendingJob("a1", Path("/r/shot-001"), "/shot.blend", "Scene", ShotRequest(), ShadeSettings(), PlacementOptions())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))


def crash(served: PrivateBackend, file: str) -> None:
    command = this_python("-c", CRASH, served.info.endpoint, file)
    ended = subprocess.run(command.command, env=command.variables, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stdout + ended.stderr


def finish(job: Job) -> list[str]:
    states = []
    while job.runs:
        session.current().advance()
        states += [job.state] if job.state not in states else []
    return states


@pytest.fixture
def crashed(served: PrivateBackend, demo: bpy.types.Scene, tmp_path: Path) -> str:
    """A saved and open file, whose job was running in a Blender that was killed."""
    file = str(tmp_path / "demo.blend")
    bpy.ops.wm.save_as_mainfile(filepath=file)
    crash(served, file)
    return file


def test_a_job_of_a_crashed_blender_is_followed_and_placed(crashed: str, tmp_path: Path) -> None:
    assert find_pending(str(tmp_path / "other.blend")) == []
    found = find_pending(crashed)
    assert len(found) == 1
    assert find_pending(crashed) == []  # another Blender does not get it, too
    follow_pending(found)
    (job,) = session.current().jobs
    assert job.runs
    assert job.out.is_dir()  # still reserved
    assert "fetching" in finish(job)
    assert job.error is None
    assert (job.out / "job.json").is_file()
    assert any(item.name.startswith(f"{job.out.name} plate") for item in bpy.context.scene.camera.children)
    assert job.settings.steps == 1
    assert not any(pending_folder().iterdir())


def test_it_can_be_canceled(crashed: str) -> None:
    follow_pending(find_pending(crashed))
    (job,) = session.current().jobs
    assert bpy.ops.trackshade.cancel(job=job.uid) == {"FINISHED"}
    assert isinstance(job.error, CancelledError)
    assert not job.out.exists()
    assert not any(pending_folder().iterdir())
    assert find_pending(crashed) == []


def test_without_the_backend_it_waits_until_it_is_followed_again(
    crashed: str, served: PrivateBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_pending(crashed)
    nobody = later(connect, "tcp://127.0.0.1:9", "token", patience=0.2)
    monkeypatch.setattr(session.current(), "connect", lambda model: nobody)
    follow_pending(found)
    (job,) = session.current().jobs
    finish(job)
    assert isinstance(job.error, ProtocolError)
    assert job.is_pending
    connection = later(connect, served.info.endpoint)
    monkeypatch.setattr(session.current(), "connect", lambda model: connection)
    assert bpy.ops.trackshade.follow_job(job=job.uid) == {"FINISHED"}
    finish(job)
    assert job.error is None
    assert not job.is_pending
    connection.result().close()


def test_a_job_of_a_file_that_was_never_saved_is_fetched_and_not_placed(
    served: PrivateBackend, demo: bpy.types.Scene, tmp_path: Path
) -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    crash(served, "")
    assert find_pending(str(tmp_path / "demo.blend")) == []
    follow_pending(find_pending(""))
    (job,) = session.current().jobs
    finish(job)
    assert job.error is None
    assert (job.out / "job.json").is_file()
    assert not any("plate" in item.name for item in bpy.context.scene.camera.children)


def test_what_the_backend_does_not_have_is_told_and_forgotten(served: PrivateBackend, registered: None) -> None:
    record = PendingRecord.write(replace(JOB, job="feed"))
    assert record is not None
    record.release()  # as a crash does
    follow_pending(find_pending(JOB.file))
    (job,) = session.current().jobs
    finish(job)
    assert job.error is not None
    assert job.error.code == "not-submitted"
    assert not any(pending_folder().iterdir())


def test_records_are_locked_kept_and_damaged_ones_deleted() -> None:
    request = ShotRequest("A", (1.0, 5.0, 1.0), keys=((3.0, "a.png"),), light="clay")
    job = replace(JOB, request=request, placement=PlacementOptions("baked", texture_size=512))
    record = PendingRecord.write(job)
    assert record is not None
    assert claim_pending(lambda job: True) == []  # its Blender runs
    record.release()
    assert claim_pending(lambda job: False) == []  # and is left
    ((found, again),) = claim_pending(lambda job: True)
    assert found == job
    again.remove()
    again.remove()
    for damage in ("", "{", "[]", "{}", '{"job": "a"}'):
        (pending_folder() / "b2.json").write_text(damage)
        assert claim_pending(lambda job: True) == []
        assert not any(pending_folder().iterdir())


def test_a_job_that_ends_leaves_no_record(served: PrivateBackend, demo: bpy.types.Scene) -> None:
    own = demo.trackshade
    own.steps, own.place_as, own.light = 1, "none", "none"
    assert bpy.ops.trackshade.shade() == {"FINISHED"}
    assert session.current().jobs[-1].error is None
    assert not any(pending_folder().iterdir())
