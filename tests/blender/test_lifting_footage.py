# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage as a scene in the interface: tracking it, and tracking it again with what moves."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np
import pytest

import trackshade_addon
from tests.helpers.backend_python import backend_python
from trackshade.core.images import write_png
from trackshade.shot.track_request import TrackRequest
from trackshade_addon.ui.lifting_objects import box_between

SIZE, COUNT, MOVES = (160, 96), 5, 2  # pixels, frames, and pixels by which things move in each frame
LEFT, RIGHT = np.s_[24:72, 20:52], np.s_[30:66, 100:130]  # two things in the first frame, which walk towards each other


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    trackshade_addon.register()
    yield
    trackshade_addon.unregister()


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """Footage of two things that move before a textured wall."""
    rng = np.random.default_rng(3)
    wall, red, blue = rng.integers(40, 160, (3, 24, 40, 3)).repeat(4, 1).repeat(4, 2)
    frames = np.repeat(wall[None].astype(np.uint8), COUNT, axis=0)
    for (rows, columns), texture, speed in ((LEFT, red // (1, 4, 4), MOVES), (RIGHT, blue // (4, 4, 1), -MOVES)):
        for t, frame in enumerate(frames):
            frame[rows, columns.start + speed * t : columns.stop + speed * t] = texture[rows, columns]
    np.save(tmp_path / "frames.npy", frames)
    code = (
        "import sys; from pathlib import Path; import numpy as np; from trackshade.results.video import write_video; "
        "write_video(Path(sys.argv[2]), np.load(sys.argv[1]), 24, lossless=True)"
    )
    path = tmp_path / "walk.mp4"
    subprocess.run([backend_python(), "-c", code, str(tmp_path / "frames.npy"), str(path)], check=True)
    return path


def seen_from(scene: bpy.types.Scene, obj: bpy.types.Object) -> np.ndarray:
    """Return left, top, right and bottom of what an object covers of the first frame, pixels."""
    scene.frame_set(scene.frame_start)
    mesh = obj.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    points = np.array([scene.camera.matrix_world.inverted() @ obj.matrix_world @ v.co for v in mesh.vertices])
    frame = np.array(scene.camera.data.view_frame(scene=scene))  # right top, right bottom, left bottom, left top
    places = points[:, :2] / -points[:, 2:] * -frame[0, 2]
    low, high = frame[2, :2], frame[0, :2]
    share = (places - low) / (high - low)
    x, y = share[:, 0] * SIZE[0], (1 - share[:, 1]) * SIZE[1]
    return np.array([x.min(), y.min(), x.max(), y.max()])


@pytest.mark.usefixtures("baking", "scene")
def test_footage_is_tracked_again_with_what_moves(walk: Path, tmp_path: Path) -> None:
    assert bpy.ops.trackshade.track_footage(filepath=str(walk), spacing=8, fov=60) == {"FINISHED"}
    first = bpy.context.scene
    settings = first.trackshade_lift
    assert (first.name, first.frame_end, tuple(settings.size)) == ("walk", COUNT, SIZE)
    assert settings.track_request() == TrackRequest(spacing=8.0, fov=60.0)
    assert not bpy.ops.trackshade.lift_again.poll()
    before = {obj.name: len(obj.data.vertices) for obj in first.objects if obj.type == "MESH"}

    assert bpy.ops.trackshade.lift_object_add(kind="box") == {"FINISHED"}
    settings.objects[0].box = box_between((16.0, 20.0), (58.0, 76.0), SIZE)
    settings.mask_model = "//sam"  # a folder beside the file, of which there is none yet
    assert not str(settings.track_request().mask_model).startswith("//")
    settings.mask_model = ""
    assert bpy.ops.trackshade.lift_object_add(kind="mask") == {"FINISHED"}
    mask = np.zeros((*SIZE[::-1], 3), np.uint8)
    mask[RIGHT] = 255
    write_png(tmp_path / "right.png", mask)
    settings.objects[1].mask = bpy.data.images.load(str(tmp_path / "right.png"))
    settings.objects[1].mask.pack()
    (tmp_path / "right.png").unlink()
    assert settings.track_request().boxes == ((16.0, 20.0, 58.0, 76.0),)
    assert bpy.ops.trackshade.track_again() == {"FINISHED"}

    scene = bpy.context.scene
    assert scene != first
    assert {obj.name: len(obj.data.vertices) for obj in first.objects if obj.type == "MESH"} == before
    parts = [seen_from(scene, obj) for obj in scene.objects if obj.name.startswith("Moving")]
    middle = SIZE[0] / 2
    for rows, columns in (LEFT, RIGHT):
        own = np.array([box for box in parts if (box[0] < middle) == (columns.start < middle)])
        whole = (*own[:, :2].min(axis=0), *own[:, 2:].max(axis=0))
        np.testing.assert_allclose(whole, (columns.start, rows.start, columns.stop, rows.stop), atol=2)
    again = scene.trackshade_lift
    assert [(item.name, item.kind) for item in again.objects] == [("Object 1", "box"), ("Object 2", "mask")]
    assert again.objects[1].mask == settings.objects[1].mask
    assert again.track_request() == settings.track_request()

    again.objects[0].box = (5.0, 5.0, 5.0, 9.0)
    with pytest.raises(RuntimeError, match="is empty"):
        bpy.ops.trackshade.track_again()
    again.objects.remove(0)
    walk.unlink()
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.trackshade.track_again()
    assert bpy.context.scene == scene
