# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion from Footage in Blender: jobs on driving footage, with a tiny motion model of random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.blender.test_motion_armature import make_rig
from tests.helpers import stage
from tests.helpers.backend_python import run_in_backend
from tests.helpers.driving import wave, write_frames
from trackshade.core.errors import OutputError
from trackshade.core.images import write_png
from trackshade.motion.hand_places import read_hands
from trackshade_addon import commands
from trackshade_addon.capture.given_image import read_image_file
from trackshade_addon.jobs.job import Job
from trackshade_addon.jobs.session import current
from trackshade_addon.motion.character import match_deforming_bones
from trackshade_addon.motion.driving import scene_angles
from trackshade_addon.motion.hands import project_hands
from trackshade_addon.placement import place

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
SAVE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.helpers.tiny_motion import save_tiny_motion
save_tiny_motion(Path(sys.argv[2]))
"""


@pytest.fixture
def footage(
    scene: bpy.types.Scene, registered: None, served: object, baking: None, tmp_path: Path
) -> Iterator[bpy.types.Scene]:
    """A scene that names driving footage of one second and the tiny model."""
    run_in_backend(SAVE, ROOT, tmp_path / "tiny")
    settings = scene.trackshade_motion
    settings.footage = str(write_frames(tmp_path / "wave", wave(24)[0]))
    settings.model = str(tmp_path / "tiny")
    stage.add(scene, "Cam", bpy.data.cameras.new("Cam"))
    scene.camera = scene.objects["Cam"]
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 96, 64, 100
    scene.frame_start, scene.frame_end = 11, 40
    yield scene
    current().jobs.clear()


def latest_job() -> Job:
    job = current().latest
    assert job is not None
    return job


def latest_record() -> dict:
    return json.loads((latest_job().out / "job.json").read_text(encoding="utf-8"))


def test_the_figure_of_a_picture_is_placed_on_a_plate(footage: bpy.types.Scene, tmp_path: Path) -> None:
    settings = footage.trackshade_motion
    settings.reference, settings.picture = "file", str(tmp_path / "wave" / "frame 5.png")
    settings.words = "from behind, circles to the left by 40 degrees"
    settings.mask, settings.rate, settings.steps = str(tmp_path / "mask.png"), 48, 3
    settings.use_reference_box, settings.reference_box = True, (60, 10, 110, 110)
    mask = np.zeros((120, 160, 3), np.uint8)
    mask[10:110, 50:120] = 255
    write_png(tmp_path / "mask.png", mask)
    assert bpy.ops.trackshade.reenact() == {"FINISHED"}
    record = latest_record()
    assert record["settings"]["output"] == "motion"
    assert record["settings"]["azimuths_from"] == "front"
    assert record["motion"]["has_frames"]
    driving = record["shot"]["source"]["driving"]
    assert driving["camera"] == settings.words
    assert (driving["box"], driving["reference_box"]) == ([50, 10, 120, 110], [60, 10, 110, 110])
    assert record["settings"]["steps"] == 3
    rate = footage.render.fps / 8
    np.testing.assert_allclose(record["shot"]["frames"], 11 + rate * np.arange(4))  # half a second
    plates = [item for item in footage.objects if item.parent == footage.camera and item.type == "MESH"]
    assert len(plates) == 1
    assert len(footage.camera.data.background_images) == 1
    folder = latest_job().out
    assert {item.name for item in folder.iterdir()} >= {"motion.bvh", "driving.mp4", "sheet.png", "video.mp4"}


def test_the_reference_is_rendered_and_the_camera_is_the_scenes(footage: bpy.types.Scene) -> None:
    settings, camera = footage.trackshade_motion, footage.camera
    settings.reference, settings.camera = "render", "scene"
    stage.use_engine(footage, "CYCLES")
    footage.cycles.samples = 1
    bpy.ops.mesh.primitive_cube_add(size=1, scale=(0.5, 0.3, 1.6))
    figure = bpy.context.object
    stage.add(footage, "Sun", bpy.data.lights.new("Sun", "SUN")).rotation_euler = (np.pi / 2, 0, 0.3)
    for frame, angle in ((11, 0.0), (40, np.radians(60))):
        camera.location = 6 * np.sin(angle), -6 * np.cos(angle), 0
        camera.rotation_euler = np.pi / 2, 0, angle
        for path in ("location", "rotation_euler"):
            camera.keyframe_insert(path, frame=frame)
    settings.center = figure
    footage.frame_set(20)
    found = None
    steps = scene_angles(footage, figure)
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        found = stop.value
    assert footage.frame_current == 20
    assert found.angles.azimuths[0] == 0
    assert found.angles.azimuths[-1] == pytest.approx(60, abs=0.1)
    assert bpy.ops.trackshade.reenact() == {"FINISHED"}
    record = latest_record()
    assert record["shot"]["source"]["driving"]["camera"] == "scene"
    reference = read_image_file(latest_job().out / "first_frame.png", None).pixels[..., :3].astype(int)
    rows, columns = np.nonzero(np.abs(reference - reference[0, 0]).max(axis=-1) > 20)
    assert np.ptp(rows) == pytest.approx(0.78 * 64, abs=4)  # the cube, cropped around its bounds
    assert columns.mean() == pytest.approx(23.5, abs=2)
    views = np.array(record["shot"]["camera"]["world_to_camera"]).reshape(-1, 4, 4)
    places = -np.swapaxes(views[:, :3, :3], 1, 2) @ views[:, :3, 3:]
    azimuths = np.degrees(np.arctan2(places[:, 0, 0], np.negative(places[:, 1, 0])))
    wanted = np.interp(record["shot"]["frames"], found.frames, found.angles.azimuths)
    np.testing.assert_allclose(azimuths, wanted, atol=1e-4)


def test_hands_are_where_the_camera_shows_those_of_the_armature(footage: bpy.types.Scene) -> None:
    rig = make_rig(footage)
    table = match_deforming_bones(rig)
    camera, rate = footage.camera, footage.render.fps / footage.render.fps_base
    camera.location, camera.rotation_euler = (0.3, -5, 1.2), (np.pi / 2, 0, 0)
    hand = rig.pose.bones[table["hand_l"]]
    found = None
    steps = project_hands(rig, footage, table)
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        found = stop.value
    np.testing.assert_allclose(found.times, np.arange(30) / rate)
    # The frame is 96 x 64 pixels: the sensor's width spans its width.
    middle = (
        np.array(rig.matrix_world @ ((hand.head + hand.tail) / 2))
        if "fingers_l" not in table
        else np.array(rig.matrix_world @ ((hand.head + rig.pose.bones[table["fingers_l"]].head) / 2))
    )
    focal = camera.data.lens / camera.data.sensor_width
    away = (middle - np.array(camera.location)) / 5
    depth = (middle[1] + 5) / 5
    wanted = 0.5 + focal * away[0] / depth, 0.5 - focal * 96 / 64 * away[2] / depth
    np.testing.assert_allclose(found.places[0, 0], wanted, atol=1e-4)
    settings = footage.trackshade_motion
    settings.hands = "armature"
    assert bpy.ops.trackshade.motion_to_armature() == {"FINISHED"}
    record = latest_record()
    assert record["shot"]["source"]["driving"]["hands"] == "armature"
    assert record["motion"]["hands"] > 0


def test_the_command_hands_writes_what_reenact_reads(
    footage: bpy.types.Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_rig(footage)
    footage.camera.location, footage.camera.rotation_euler = (0.3, -5, 1.2), (np.pi / 2, 0, 0)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"), copy=True)
    capfd.readouterr()  # what Blender says when it saves
    arguments = ["hands", str(tmp_path / "rig.blend"), "--out", str(tmp_path / "hands.json")]
    assert commands.main("trackshade", [*arguments, "--json"]) == 0
    made = json.loads(capfd.readouterr().out)
    assert made["shown"] == {"left": 1.0, "right": 1.0}
    found = read_hands(tmp_path / "hands.json")
    assert len(found.times) == 30
    # The figure looks at the camera, so its left hand is on the right of the frame.
    assert (found.places[:, 0, 0] > found.places[:, 1, 0]).all()
    assert commands.main("trackshade", arguments) == 3
    assert "hands.json exists and was kept" in capfd.readouterr().err


def test_the_motion_of_footage_animates_the_armature(footage: bpy.types.Scene) -> None:
    rig = make_rig(footage)
    assert bpy.ops.trackshade.match_bones_by_name() == {"FINISHED"}
    table = footage.trackshade_motion.bones
    assert table["forearm_l"].bone == "lowerarm_l"
    table["head"].bone = ""
    assert bpy.ops.trackshade.motion_to_armature() == {"FINISHED"}
    assert not latest_record()["motion"]["has_frames"]
    action = rig.animation_data.action
    posed = [tuple(rig.pose.bones["lowerarm_l"].matrix_basis.to_quaternion())]
    footage.frame_set(14)
    posed.append(tuple(rig.pose.bones["lowerarm_l"].matrix_basis.to_quaternion()))
    assert posed[0] != posed[1]
    assert tuple(rig.pose.bones["head"].matrix_basis.to_quaternion()) == (1, 0, 0, 0)
    result = latest_job().result
    assert result is not None
    assert any("head" in warning for warning in result.warnings)
    folder = latest_job().out
    place(folder, footage, mode="armature")
    assert rig.animation_data.action != action
    with pytest.raises(OutputError, match=r"no frames to place"):
        place(folder, footage, mode="plate")


def test_what_is_missing_is_said(footage: bpy.types.Scene) -> None:
    settings = footage.trackshade_motion
    with pytest.raises(RuntimeError, match="no armature"):
        bpy.ops.trackshade.motion_to_armature()
    settings.words, settings.reference = "zooms in", "footage"
    with pytest.raises(RuntimeError, match="circles to the left"):
        bpy.ops.trackshade.reenact()
    settings.words, settings.footage = "static", ""
    with pytest.raises(RuntimeError, match="no driving footage"):
        bpy.ops.trackshade.reenact()
    settings.footage = "/nowhere.mp4"
    with pytest.raises(RuntimeError, match="There is no file"):
        bpy.ops.trackshade.reenact()
