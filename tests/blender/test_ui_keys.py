# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of key pictures: what it holds, what a job gets of it, and frames that are written to paint on."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.renders import SIZE
from trackshade.client import PrivateBackend
from trackshade.core.errors import OutputError, ShotError
from trackshade.core.images import write_png
from trackshade_addon import commands
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs import session
from trackshade_addon.jobs.composer import capture_scene
from trackshade_addon.jobs.key_pictures import latest_facts
from trackshade_addon.placement import place
from trackshade_addon.ui import key_pictures

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture
def demo(demo: bpy.types.Scene) -> bpy.types.Scene:
    """The demonstration scene at frame 3 of 5."""
    demo.frame_start, demo.frame_end, demo.frame_step = 1, 5, 1
    demo.frame_set(3)
    return demo


def picture(path: Path, level: int = 90, size: tuple[int, int] = SIZE) -> str:
    write_png(path, np.full((*size[::-1], 3), level, np.uint8))
    return str(path)


def run_through(request: ShotRequest, scene: bpy.types.Scene):
    steps = capture_scene(request, scene)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_the_list_is_what_a_job_gets(demo: bpy.types.Scene, tmp_path: Path) -> None:
    own = demo.trackshade
    assert bpy.ops.trackshade.key_add(source="file", filepath=picture(tmp_path / "a.png")) == {"FINISHED"}
    bpy.data.images.new("Painted", *SIZE)
    demo.frame_set(5)
    bpy.ops.trackshade.key_add(source="image", image="Painted")
    bpy.ops.trackshade.key_add(source="image")  # no image yet
    wanted = ((3.0, str(tmp_path / "a.png")), (5.0, "image:Painted"))
    request = own.shot_request("Layer")
    assert request.keys == wanted
    own.keys[0].enabled = False
    assert own.shot_request("Layer").keys == wanted[1:]
    own.apply_job(request, own.shade_settings())
    assert own.shot_request("Layer").keys == wanted
    own.active_key = 1
    assert bpy.ops.trackshade.key_remove() == {"FINISHED"}
    assert (own.shot_request("Layer").keys, own.active_key) == (wanted[:1], 0)
    assert commands._request(
        {"camera": None, "frames": None, "view_layer": None, "strict": False, "glass": "opaque", "hair": "none",
         "key": ["3=a.png", "5=b.png"]}
    ).keys == ((3.0, "a.png"), (5.0, "b.png"))  # fmt: skip


def test_a_changed_file_is_read_again(demo: bpy.types.Scene, tmp_path: Path) -> None:
    image = bpy.data.images.load(picture(tmp_path / "a.png", 0))
    bpy.ops.trackshade.key_add(source="image", image=image.name)
    assert image.pixels[0] == 0
    picture(tmp_path / "a.png", 255)
    assert bpy.ops.trackshade.key_reload() == {"FINISHED"}
    assert image.pixels[0] == 1


def test_the_render_is_copied(demo: bpy.types.Scene) -> None:
    bpy.ops.render.render()
    assert bpy.ops.trackshade.key_add(source="render") == {"FINISHED"}
    (key,) = demo.trackshade.keys
    assert (key.frame, tuple(key.image.size), key.image.packed_file is not None) == (3, SIZE, True)
    captured = run_through(ShotRequest(first_frame="none", keys=((3.0, key.picture),)), demo)
    rendered = run_through(ShotRequest(frames=(3.0, 3.0, 1.0)), demo).first_frame
    assert np.abs(captured.keys[2].astype(int) - rendered).mean() < 3  # but for the noise of another render


def test_pictures_are_carried_with_the_shot(demo: bpy.types.Scene, tmp_path: Path) -> None:
    first, later_one = picture(tmp_path / "first.png", 10), picture(tmp_path / "later.png", 20)
    captured = run_through(ShotRequest(keys=((4.0, later_one), (1.0, first))), demo)
    assert (captured.first_frame == 10).all()  # instead of its render
    assert list(captured.keys) == [3]
    assert (captured.keys[3] == 20).all()
    wide, black = picture(tmp_path / "wide.png", 9, (144, 50)), picture(tmp_path / "black.png", 0)
    for keys, given, words in (
        (((9.0, first),), "none", "no frame 9"),
        (((4.0, first), (4.0, later_one)), "none", "Two pictures show frame 4"),
        (((1.0, first),), later_one, "Two pictures show frame 1"),
        (((4.0, wide),), "none", "another shape"),
        (((4.0, black),), "none", "black everywhere"),
        (((4.0, str(tmp_path / "gone.png")),), "none", "gone.png"),
    ):
        with pytest.raises(ShotError, match=words):
            run_through(ShotRequest(first_frame=given, keys=keys), demo)


def test_a_frame_is_written_painted_and_carried(
    demo: bpy.types.Scene, served: PrivateBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "results_folder", lambda: tmp_path / "results")
    own = demo.trackshade
    own.output_size = "full"
    assert latest_facts(demo) is None
    assert bpy.ops.trackshade.key_export() == {"FINISHED"}
    (key,) = own.keys
    assert (key.frame, key.source, key.enabled, tuple(key.image.size)) == (3, "image", True, SIZE)
    facts = latest_facts(demo)
    assert facts is not None
    assert facts.frames == (1, 2, 3, 4, 5)
    assert facts.next_frame is not None
    assert bpy.ops.trackshade.key_go(frame=round(facts.next_frame)) == {"FINISHED"}
    assert demo.frame_current == facts.next_frame
    key.image.pixels[:] = np.tile(np.array([1, 0, 0, 1], np.float32), SIZE[0] * SIZE[1])
    own.place_as = "none"
    assert bpy.ops.trackshade.shade() == {"FINISHED"}
    job = session.current().latest
    assert job is not None
    assert job.result is not None
    record = json.loads((job.out / "job.json").read_text())
    assert [(item["frame"], item["source"]) for item in record["propagation"]["key_pictures"]] == [
        (1, "first frame"), (3, "key picture"),
    ]  # fmt: skip
    shown = bpy.data.images.load(str(job.out / "frames" / "0003.png"))
    assert np.array(shown.pixels[:], np.float32).reshape(-1, 4).mean(axis=0) == pytest.approx([1, 0, 0, 1], abs=0.01)
    assert "does not match" in job.result.warnings[-1]
    facts = latest_facts(demo)
    assert facts is not None
    assert "did not match" in key_pictures.alignment_text(facts.pictures[3.0]["alignment"])
    exported = session.current().jobs[-2]
    assert bpy.ops.trackshade.place_again(job=exported.uid) == {"CANCELLED"}
    with pytest.raises(OutputError, match="no frames to place"):
        place(exported.out, demo)
    demo.frame_set(9)
    with pytest.raises(RuntimeError, match="no frame 9"):
        bpy.ops.trackshade.key_export()


def test_shares_are_shown_as_bars() -> None:
    assert key_pictures.unseen_bars([0, 0.5, 1]) == "▁▅█"
    assert key_pictures.unseen_bars([0] * 47 + [0.3]) == "▁" * 23 + "▃"
    found = {"shift": [3.1, -1.9], "correlation": 0.4, "moved": True}
    assert "+3, -2 pixels" in key_pictures.alignment_text(found)
    assert "lies on" in key_pictures.alignment_text({**found, "moved": False})
