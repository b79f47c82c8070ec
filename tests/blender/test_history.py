# SPDX-License-Identifier: GPL-3.0-or-later
"""Results outlive Blender: the open file's are listed again; those of another file are not placed by accident."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import pytest

from trackshade.client import PrivateBackend
from trackshade.client.output_folder import OutputFolder
from trackshade.config.settings import ShadeSettings
from trackshade_addon import commands
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs.history import earlier_results, find_results, list_results
from trackshade_addon.jobs.job import Job
from trackshade_addon.jobs.pending import PendingRecord, claim_pending
from trackshade_addon.jobs.session import current
from trackshade_addon.properties.placement_options import PlacementOptions
from trackshade_addon.ui.jobs_list import active_job, update_list

pytestmark = [pytest.mark.usefixtures("registered"), pytest.mark.once]


@pytest.fixture
def shaded(served: PrivateBackend, demo: bpy.types.Scene, tmp_path: Path) -> Path:
    """Two results of demo.blend, which is open, and one of other.blend, by the command line; another folder beside."""
    results = tmp_path / "results"
    (results / "notes").mkdir(parents=True)
    (results / "damaged").mkdir()
    (results / "damaged" / "job.json").write_text("{")
    common = [f"--endpoint={served.info.endpoint}", "--frames=1-3", "--light=none"]
    for name, options in (("a", ["--seed=3", "--glass=through"]), ("b", ["--prompt=blue"])):
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "demo.blend"))
        path = str(tmp_path / "demo.blend")
        assert commands.main("trackshade", ["render", path, f"--out={results / name}", *common, *options]) == 0
    other = tmp_path / "other.blend"
    bpy.ops.wm.open_mainfile(filepath=path)
    bpy.ops.wm.save_as_mainfile(filepath=str(other))
    assert commands.main("trackshade", ["render", str(other), f"--out={results / 'c'}", *common]) == 0
    bpy.ops.wm.open_mainfile(filepath=path)
    return results


def test_results_are_listed_placed_and_repeated_after_a_restart(shaded: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "demo.blend")
    found = find_results(shaded, file)
    assert [item.result.out.name for item in found] == ["a", "b"]
    assert [item.settings.seed for item in found] == [3, 0]
    assert found[0].request.glass == "through"
    assert len(find_results(shaded, file, most=1)) == 1
    assert find_results(tmp_path / "nowhere", file) == []
    list_results(found, file)
    list_results(found, file)  # once each
    session = current()
    assert session.latest is None  # the panel does not tell of an old one as if it had just ended
    assert [job.title for job in session.jobs] == ["a", "blue"]
    assert all(job.state == "done" and job.has_result and not job.scene.is_elsewhere for job in session.jobs)
    update_list(select_newest=True)
    assert active_job(bpy.context) is session.jobs[1]
    assert bpy.ops.trackshade.place_again(job=session.jobs[0].uid) == {"FINISHED"}
    while session.busy:
        session.advance()
    assert any("a plate" in item.name for item in bpy.context.scene.objects)
    bpy.ops.trackshade.take_out(job=session.jobs[0].uid)
    assert not any("a plate" in item.name for item in bpy.context.scene.objects)
    bpy.ops.trackshade.use_settings(job=session.jobs[1].uid)
    assert bpy.context.scene.trackshade.prompt == "blue"


def test_results_of_another_file_are_not_placed(shaded: Path, tmp_path: Path) -> None:
    list_results(find_results(shaded, str(tmp_path / "demo.blend")), str(tmp_path / "demo.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "other.blend"))
    job = current().jobs[0]
    assert job.scene.is_elsewhere
    for operator in (bpy.ops.trackshade.place_again, bpy.ops.trackshade.take_out):
        with pytest.raises(RuntimeError, match=r"of demo\.blend, and another file is open"):
            operator(job=job.uid)
    assert [item.result.out.name for item in find_results(shaded, str(tmp_path / "other.blend"))] == ["c"]


def test_a_file_that_was_moved_keeps_its_results(shaded: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "demo.blend"
    assert find_results(shaded, str(moved)) == []  # a copy: the file that they were made from is still there
    (tmp_path / "demo.blend").unlink()
    assert [item.result.out.name for item in find_results(shaded, str(moved))] == ["a", "b"]


def record_result(folder: Path, file: str) -> None:
    """Write the record of a result that was made from a file."""
    folder.mkdir(parents=True)
    source = {"file": file, "scene": "Scene", "request": ShotRequest().to_dict()}
    record = {"shot": {"source": source}, "settings": ShadeSettings().to_dict()}
    (folder / "job.json").write_text(json.dumps(record))


def test_results_follow_a_file_that_is_saved_under_another_name(tmp_path: Path) -> None:
    bpy.ops.wm.read_factory_settings()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "demo.blend"))
    for name in ("a", "b"):
        record_result(tmp_path / "results" / name, str(tmp_path / "demo.blend"))
    found = find_results(tmp_path / "results", str(tmp_path / "demo.blend"))
    list_results(found, str(tmp_path / "demo.blend"))
    job, copy, new = current().jobs[0], tmp_path / "backup.blend", tmp_path / "elsewhere" / "new.blend"
    new.parent.mkdir()
    before = dict(bpy.context.scene.items())
    bpy.ops.wm.save_as_mainfile(filepath=str(copy), copy=True)
    assert dict(bpy.context.scene.items()) == before
    assert job.scene.file == str(tmp_path / "demo.blend")
    bpy.ops.wm.save_as_mainfile(filepath=str(new))
    assert job.scene.file == str(new)
    assert not job.scene.is_elsewhere
    for saved in (copy, new):
        bpy.ops.wm.open_mainfile(filepath=str(saved))
        found = find_results(tmp_path / "nowhere", str(saved), earlier=earlier_results())
        assert [(item.result.out.name, item.scene) for item in found] == [("a", "Scene"), ("b", "Scene")]
    assert not job.scene.is_elsewhere
    current().remove(*current().jobs)
    bpy.ops.wm.save_mainfile()  # although they are not listed
    bpy.ops.wm.open_mainfile(filepath=str(new))
    assert len(earlier_results()) == 2
    bpy.context.scene["trackshade_results"] = "[1, "
    assert earlier_results() == {}


def test_the_record_of_a_running_job_follows_its_file(
    demo: bpy.types.Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    job = Job(demo, ShotRequest(), ShadeSettings(), PlacementOptions(), OutputFolder(tmp_path / "out"))
    current().jobs.append(job)
    job._record = PendingRecord.write(job._as_pending())
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "first.blend"))
    assert job._record is not None
    job._record.release()
    assert [pending.file for pending, _ in claim_pending(lambda _: True)] == [str(tmp_path / "first.blend")]


def test_a_request_keeps_what_it_captures() -> None:
    request = ShotRequest(
        "A", (1.0, 5.0, 1.0), "Layer", "image:Painted", ((3.0, "a.png"),), ("B",), (("B", 1.0, "b.png"),), light="clay",
        strict=True, remarks=("opened",),
    )  # fmt: skip
    values = json.loads(json.dumps(request.to_dict() | {"unknown": 1}))
    again = ShotRequest.from_dict(values)
    assert again.to_dict() == request.to_dict()
    assert (again.strict, again.remarks) == (False, ())
    assert ShadeSettings.from_dict(json.loads(json.dumps(ShadeSettings().to_dict()))) == ShadeSettings()
