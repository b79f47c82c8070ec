# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a job takes is told beside the button, by earlier jobs of this computer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import bpy
import pytest

from trackshade.client import PrivateBackend
from trackshade.config.settings import ShadeSettings
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.checks.watch import watcher
from trackshade_addon.jobs import session
from trackshade_addon.jobs.durations import (
    MAX_KEPT,
    Duration,
    Estimate,
    durations_file,
    estimate,
    job_kind,
    keep_duration,
    read_durations,
)
from trackshade_addon.jobs.pending import PendingJob, PendingRecord, claim_pending
from trackshade_addon.properties.placement_options import PlacementOptions

KIND = job_kind(ShotRequest(), ShadeSettings(), "")
SCENE = ("/shot.blend", "Scene")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))


def test_an_estimate_scales_the_nearest_jobs_of_the_same_kind() -> None:
    other = replace(Duration(KIND, SCENE, 1000, 50.0), kind="another")
    assert estimate(KIND, SCENE, 1000, []) is None
    assert estimate(KIND, SCENE, 1000, [other]) is None
    foreign = Duration(KIND, ("/other.blend", "Scene"), 1000, 7.0)
    assert estimate(KIND, SCENE, 2000, [other, foreign]) == Estimate(14.0, False)
    own = [
        Duration(KIND, SCENE, pixels, seconds) for pixels, seconds in ((1, 9e9), (1000, 10.0), (900, 9.0), (1100, 22))
    ]
    assert estimate(KIND, SCENE, 1000, [foreign, *own]) == Estimate(10.0, True)  # the middle one of the nearest three


def test_jobs_that_do_the_same_are_of_one_kind() -> None:
    def kind(request: ShotRequest, settings: ShadeSettings, backend: str = "") -> str:
        return job_kind(request, settings, backend)

    request, settings = ShotRequest(first_frame="a.png"), ShadeSettings(prompt="a")
    assert kind(request, settings) == kind(replace(request, first_frame="b.png"), replace(settings, prompt="b", seed=4))
    others = [
        kind(request, settings, "tcp://other:1"),
        kind(replace(request, first_frame="render"), settings),
        kind(replace(request, light="clay"), settings),
        kind(request, replace(settings, key_pictures="video")),
        kind(request, replace(settings, image_model="sd15")),
        kind(request, replace(settings, splats=1000)),
    ]
    assert len({kind(request, settings), *others}) == 7


def test_few_durations_are_kept_and_a_damaged_file_is_none() -> None:
    assert read_durations() == []
    for seconds in range(1, MAX_KEPT + 3):
        keep_duration(Duration(KIND, SCENE, 10, seconds))
    assert [item.seconds for item in read_durations()] == list(range(3, MAX_KEPT + 3))
    for damage in ("{", "[]]", "[1]", '[{"kind": "a"}]', "{}", json.dumps([{"kind": KIND, "scene": ["a"]}])):
        durations_file().write_text(damage)
        assert read_durations() == []


def test_without_a_home_folder_nothing_is_kept_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", "~nobody-of-this-name/trackshade")
    keep_duration(Duration(KIND, SCENE, 10, 1.0))
    assert read_durations() == []
    job = PendingJob("a", Path("out"), "", "Scene", ShotRequest(), ShadeSettings(), PlacementOptions())
    assert PendingRecord.write(job) is None
    assert claim_pending(lambda job: True) == []


def test_a_job_is_timed_and_the_next_one_is_told(served: PrivateBackend, demo: bpy.types.Scene, tmp_path: Path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "demo.blend"))
    scene, own = bpy.context.scene, bpy.context.scene.trackshade
    own.use_range, own.first, own.last, own.light = True, 1, 3, "none"
    view_layer = scene.view_layers[0]
    assert "unknown" in watcher.update(scene, view_layer).facts.duration
    assert bpy.ops.trackshade.shade() == {"FINISHED"}
    assert session.current().jobs[-1].error is None
    (kept,) = read_durations()
    assert kept.scene == (bpy.data.filepath, scene.name)
    assert kept.pixels == 3 * scene.render.resolution_x * scene.render.resolution_y
    assert kept.seconds > 0
    assert "earlier jobs of this scene" in watcher.update(scene, view_layer).facts.duration
    own.light = "clay"
    assert "unknown" in watcher.update(scene, view_layer).facts.duration
