# SPDX-License-Identifier: GPL-3.0-or-later
"""Photos as scenes in the interface: the operators, the handles, and the whole path from a photo to a result."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import bpy
import gpu
import numpy as np
import pytest
from mathutils import Matrix

import trackshade_addon
from tests.helpers import lifted_scenes as lifted
from tests.helpers.backend_python import backend_python
from trackshade.client.progress import Progress
from trackshade.core.camera_motion import PRESETS
from trackshade.core.errors import ShotError
from trackshade.core.images import write_png
from trackshade.shot.lift_request import LiftRequest, ObjectBox
from trackshade.shot.lifted import LiftedScene, Perspective
from trackshade_addon import commands
from trackshade_addon.capture import first_frame
from trackshade_addon.capture.given_image import read_given_image, read_image_file
from trackshade_addon.lifting import build_scene
from trackshade_addon.lifting import run as lift_run
from trackshade_addon.lifting.task import lift
from trackshade_addon.overlay.handles import PictureView, drag, draw_handles, handle_points
from trackshade_addon.ui.lifting_objects import box_between, read_masks
from trackshade_addon.ui.move_icons import DRAWINGS, draw_icon, icons


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    trackshade_addon.register()
    yield
    trackshade_addon.unregister()


@pytest.fixture
def with_depth(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A photo, its depth and a mask of what is in front."""
    lifted.photo(tmp_path / "street.png")
    depth = np.full(lifted.SIZE[::-1], 9.0, np.float32)
    depth[20:] = np.linspace(9.0, 3.0, 12)[:, None]
    depth[10:26, 14:24] = 3.0
    np.save(tmp_path / "depth.npy", depth)
    mask = np.zeros((*lifted.SIZE[::-1], 3), np.uint8)
    mask[10:26, 14:24] = 255
    write_png(tmp_path / "person.png", mask)
    return tmp_path / "street.png", tmp_path / "depth.npy", tmp_path / "person.png"


@pytest.mark.usefixtures("baking", "scene")
def test_a_photo_becomes_a_new_scene(with_depth: tuple[Path, Path, Path]) -> None:
    photo, depth, _ = with_depth
    before = bpy.context.scene
    assert bpy.ops.trackshade.lift_photo(filepath=str(photo), depth=str(depth), fov=60, frames=7) == {"FINISHED"}
    scene = bpy.data.scenes["street"]
    assert bpy.context.window_manager.windows[0].scene == scene
    assert not before.objects
    assert (scene.frame_end, tuple(scene.trackshade_lift.size)) == (7, lifted.SIZE)
    request = scene.trackshade.shot_request("ViewLayer")
    assert (request.first_frame, request.light) == ("image:street.png", "none")
    assert scene.trackshade_lift.lift_request() == LiftRequest(depth=str(depth), fov=60.0)
    assert not bpy.ops.trackshade.drag_handles.poll()  # the depth was given
    with pytest.raises(RuntimeError, match="does not exist"):
        bpy.ops.trackshade.lift_photo(filepath=str(photo.with_name("gone.png")))


@pytest.mark.usefixtures("scene")
@pytest.mark.once
def test_the_tracker_of_footage_is_handed_on(tmp_path: Path) -> None:
    video = str(tmp_path / "walk.mp4")
    Path(video).write_bytes(b"no video, but the tracker comes first")
    with pytest.raises(RuntimeError, match="'tapnext' needs the file of its weights"):
        bpy.ops.trackshade.track_footage(filepath=video, tracker="tapnext")
    with pytest.raises(RuntimeError, match=r"There is no file .*none\.pt"):
        bpy.ops.trackshade.track_footage(filepath=video, tracker="tapnext", tracker_weights=str(tmp_path / "none.pt"))


@pytest.mark.smoke
@pytest.mark.usefixtures("baking")
def test_a_photo_becomes_a_result_whose_first_frame_is_the_photo(
    with_depth: tuple[Path, Path, Path],
    tmp_path: Path,
) -> None:
    photo, depth, mask = map(str, with_depth)
    path, out = str(tmp_path / "street.blend"), tmp_path / "result"
    options = ("--fov", "60", "--camera-motion", "trans 0 0 -0.2", "--length", "3")
    lifting = ["lift", photo, "--depth", depth, "--masks", mask, "--out", path, *options]
    assert commands.main("trackshade", lifting) == 0
    assert commands.main("trackshade", lifting) == 3  # it is kept
    before = Path(path).read_bytes()
    assert commands.main("trackshade", ["render", path, "--out", str(out), "--object-motion", "person: right 0.3"]) == 0
    assert Path(path).read_bytes() == before
    frames = [read_image_file(file, None).pixels[..., :3] for file in sorted((out / "frames").iterdir())]
    pixels = read_image_file(Path(photo), None).pixels[..., :3]
    assert len(frames) == 3
    np.testing.assert_array_equal(frames[0], pixels)
    assert (frames[2] != pixels).any()
    bpy.ops.wm.open_mainfile(filepath=str(out / "scene.blend"))
    person = bpy.context.scene.objects["person"]
    assert person.animation_data is not None


@pytest.mark.usefixtures("baking")
def test_a_photo_is_lifted_by_handles_of_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What `lift --json` prints can be edited and given back."""
    lifted.photo(tmp_path / "street.png")
    handles = lifted.with_perspective(lifted.photo_scene(tmp_path / "street.png")).perspective
    assert handles is not None
    wanted = replace(handles, focal=44.0, indoors=False)
    (tmp_path / "handles.json").write_text(json.dumps({"perspective": wanted.to_dict(), "out": "street.blend"}))
    arguments = ["lift", str(tmp_path / "street.png"), "--out", str(tmp_path / "street.blend"), "--json"]
    assert commands.main("trackshade", [*arguments, "--handles", str(tmp_path / "handles.json")]) == 0
    made = Perspective.from_dict(json.loads(capfd.readouterr().out)["perspective"])
    assert (made.focal, made.indoors) == (44.0, False)
    assert made.rectangle == pytest.approx(wanted.rectangle)
    np.testing.assert_allclose(made.horizon, wanted.horizon, atol=1e-4)
    (tmp_path / "handles.json").write_text("[")
    assert commands.main("trackshade", [*arguments, "--force", "--handles", str(tmp_path / "handles.json")]) == 2
    assert "cannot be read" in capfd.readouterr().err


@pytest.mark.usefixtures("baking", "scene")
def test_objects_are_boxes_and_masks_of_the_list(with_depth: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Objects are added in the interface, and the photo may be gone by then."""
    photo, depth, mask = with_depth
    pixels = lifted.photo(photo)
    pixels[0:26, 25:48] = (90, 120, 140)
    pixels[4:20, 31:41] = (250, 20, 20)
    write_png(photo, pixels)
    bpy.ops.trackshade.lift_photo(filepath=str(photo), depth=str(depth), fov=60, frames=3)
    settings = bpy.context.scene.trackshade_lift
    assert bpy.ops.trackshade.lift_object_add(kind="mask") == {"FINISHED"}
    settings.objects[0].name = "Person / 1"
    settings.objects[0].mask = bpy.data.images.load(str(mask))
    settings.objects[0].mask.pack()
    assert bpy.ops.trackshade.lift_object_add(kind="box") == {"FINISHED"}
    assert [item.name for item in settings.objects] == ["Person / 1", "Object 1"]
    settings.objects[1].box = box_between((44.0, 2.0), (28.0, 22.0), lifted.SIZE)
    for path in (photo, mask):
        path.rename(path.with_name(f"gone-{path.name}"))
    assert bpy.ops.trackshade.lift_again() == {"FINISHED"}
    scene = bpy.context.scene
    assert {"Person _ 1", "Object 1"} <= {obj.name for obj in scene.objects}
    assert settings.lift_request().boxes == (ObjectBox((28.0, 2.0, 44.0, 22.0), "Object 1"),)
    assert Path(settings.source) == photo
    np.testing.assert_array_equal(
        read_given_image(f"image:{scene.trackshade.image.name}", None).pixels[..., :3], pixels
    )
    settings.objects[1].box = (5.0, 5.0, 5.0, 9.0)
    with pytest.raises(RuntimeError, match="is empty"):
        bpy.ops.trackshade.lift_again()
    assert bpy.ops.trackshade.lift_object_remove() == {"FINISHED"}
    assert [item.kind for item in settings.objects] == ["mask"]
    assert box_between((1.0, 1.0), (2.0, 30.0), lifted.SIZE) is None


def test_the_objects_of_the_command_line_are_in_the_list(scene: bpy.types.Scene, with_depth: tuple[Path, ...]) -> None:
    request = LiftRequest(boxes=(ObjectBox((1, 2, 9, 8), "Car", foot=7.5),), masks=(str(with_depth[2]),))
    build_scene(lifted.photo_scene(with_depth[0]), scene, 3, request)
    items = scene.trackshade_lift.objects
    assert [(item.name, item.kind) for item in items] == [("Car", "box"), ("person", "mask")]
    assert scene.trackshade_lift.lift_request().boxes == request.boxes
    assert read_masks(scene.trackshade_lift)["person"][12, 16].all()


@pytest.mark.once
@pytest.mark.parametrize("option", ["--depth-model", "--mask-model"])
def test_networks_are_found_from_the_current_folder(
    option: str,
    with_depth: tuple[Path, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "config.json").write_text('{"model_type": "unknown"}')
    (tmp_path / "network" / "model.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    arguments = ["lift", with_depth[0].name, "--box", "10,6,28,28", option, "network"]
    assert commands.main("trackshade", [*arguments, "--backend-python", backend_python()]) != 0
    assert "is a model of the kind 'unknown'" in capsys.readouterr().err


@pytest.mark.once
@pytest.mark.usefixtures("baking")
def test_tracks_are_exported_by_a_button(scene: bpy.types.Scene, with_depth: tuple[Path, ...], tmp_path: Path) -> None:
    build_scene(lifted.photo_scene(with_depth[0]), scene, 5)
    export, out = bpy.ops.trackshade.export_tracks, tmp_path / "street.npz"
    assert export(filepath=str(out.with_suffix("")), export_format="npz", points=30, fps=12) == {"FINISHED"}
    with np.load(out) as arrays:
        assert (arrays["tracks"].shape, float(arrays["fps"])) == ((3, 30, 2), 12.0)
    with pytest.raises(RuntimeError, match="was kept"):
        export(filepath=str(out), export_format="npz")
    assert export(filepath=str(out), export_format="npz", replace_existing=True) == {"FINISHED"}
    assert export(filepath=str(tmp_path / "vace"), export_format="vace") == {"FINISHED"}
    assert (tmp_path / "vace" / "first_frame.png").is_file()


def test_moves_have_thumbnails() -> None:
    assert [*DRAWINGS] == [*PRESETS]
    drawn = [draw_icon(name) for name in DRAWINGS]
    for number, pixels in enumerate(drawn):
        assert 0.03 < pixels[..., 3].mean() < 0.6
        assert not any(np.array_equal(pixels, other) for other in drawn[:number])
    if not bpy.app.background:
        assert icons.icon("orbit")


def test_closing_ends_the_task(with_depth: tuple[Path, Path, Path]) -> None:
    built: list[LiftedScene] = []
    steps = lift(with_depth[0], LiftRequest(), backend_python(), built.append)
    assert next(steps).state == "lifting"
    steps.close()
    assert not built
    assert not [thread for thread in threading.enumerate() if thread.name == "trackshade-later"]


@pytest.fixture
def found(scene: bpy.types.Scene, tmp_path: Path) -> bpy.types.PropertyGroup:
    """The handles of a photo whose perspective was found, but not surely."""
    lifted.photo(tmp_path / "photo.png")
    build_scene(lifted.with_perspective(lifted.photo_scene(tmp_path / "photo.png")), scene, 9, LiftRequest(stride=2))
    return scene.trackshade_lift


def test_the_handles_are_what_was_found_until_they_are_moved(found) -> None:
    perspective = found.perspective
    assert perspective == found.found_perspective
    assert (perspective.horizon_sure, perspective.focal_sure, found.warnings) == (
        False,
        False,
        ("The horizon was not found.",),
    )
    drag(found, "horizon right", 0.0, 16.0)
    drag(found, "left top", 10.0, 6.0)
    drag(found, "right bottom", 1.0, 1.0)  # not beyond the other corner
    found.camera_height = 2.0
    request = found.lift_request()
    moved = request.perspective
    assert moved is not None
    assert (request.stride, request.camera_height, request.indoors) == (2, 2.0, True)
    assert moved.horizon == ((0.0, 12.0), (48.0, 16.0))
    assert moved.vanishing_point == pytest.approx((20.0, 12.0 + 4.0 * 20 / 48))
    assert moved.rectangle == (10.0, 6.0, 11.0, 7.0)
    assert (moved.horizon_sure, moved.focal_sure, moved.focal_error) == (True, False, 0.2)
    found.focal = 50.0
    assert (found.perspective.focal_sure, found.perspective.focal_error) == (True, 0.0)
    drag(found, "vanishing point", 30.0, 10.0)
    assert found.perspective.vanishing_point == pytest.approx((30.0, 10.0))
    assert bpy.ops.trackshade.reset_handles() == {"FINISHED"}
    assert found.perspective == perspective


def test_the_handles_lie_where_the_picture_is_seen() -> None:
    view = PictureView(np.array([10.0, 90.0]), np.array([80.0, 0.0]), np.array([0.0, -60.0]), (40, 30))
    assert view.to_region(0, 0) == (10.0, 90.0)
    assert view.to_region(40, 30) == (90.0, 30.0)
    assert view.to_picture(*view.to_region(13.0, 7.5)) == pytest.approx((13.0, 7.5))


@pytest.mark.skipif(not hasattr(gpu, "init"), reason="needs bpy 5.2, which draws without a window")
def test_the_handles_are_drawn(found, tmp_path: Path) -> None:
    if not first_frame._has_graphics():
        pytest.skip("this machine has no graphics driver")
    gpu.init()
    view = PictureView(np.array([20.0, 180.0]), np.array([240.0, 0.0]), np.array([0.0, -160.0]), lifted.SIZE)
    offscreen = gpu.types.GPUOffScreen(280, 200)
    with offscreen.bind():
        buffer = gpu.state.active_framebuffer_get()
        buffer.clear(color=(0.0, 0.0, 0.0, 1.0))
        with gpu.matrix.push_pop(), gpu.matrix.push_pop_projection():
            gpu.matrix.load_matrix(Matrix())
            across, up = Matrix.Translation((-1, -1, 0)), Matrix.Diagonal((2 / 280, 2 / 200, 1, 1))
            gpu.matrix.load_projection_matrix(across @ up)
            draw_handles(found, view)
        drawn = np.array(buffer.read_color(0, 0, 280, 200, 4, 0, "UBYTE").to_list(), np.uint8)
    offscreen.free()
    write_png(tmp_path / "handles.png", np.ascontiguousarray(drawn[::-1, :, :3]))
    for name, point in handle_points(found).items():
        x, y = view.to_region(*point)
        assert drawn[round(y), min(279, round(x)), :3].any(), name
    x, y = view.to_region(3.0, 30.0)
    assert not drawn[round(y), round(x), :3].any()


@pytest.mark.usefixtures("found")
def test_a_camera_move_is_a_button(scene: bpy.types.Scene) -> None:
    scene.frame_set(4)
    assert bpy.ops.trackshade.camera_preset(preset="truck") == {"FINISHED"}
    assert scene.frame_current == 4
    frames = {point.co[0] for curve in trackshade_curves(scene.camera) for point in curve.keyframe_points}
    assert (min(frames), max(frames)) == (1, 9)
    assert bpy.ops.trackshade.camera_preset(preset="pan", use_range=True, start=3, duration=4) == {"FINISHED"}
    bpy.context.view_layer.objects.active = scene.objects["Person"]
    assert bpy.ops.trackshade.move_by_text(target="object", motion="up 1") == {"FINISHED"}
    with pytest.raises(RuntimeError, match="'fly'"):
        bpy.ops.trackshade.move_by_text(motion="fly")


def trackshade_curves(obj: bpy.types.Object) -> list[bpy.types.FCurve]:
    from trackshade_addon.capture.animation import curves

    return [*curves(obj)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("lift", "gone.png"), 3, "gone.png does not exist"),
        (("lift", "street.png", "--box", "1,2,3"), 2, "'1,2,3' is not a box"),
        (("lift", "street.png", "--fov", "200"), 2, "field of view"),
        (("lift", "street.png", "--out", "person.png"), 2, "does not end in .blend"),
        (("lift", "street.png", "--camera-motion", "fly 1"), 2, "'fly'"),
        (("track", "gone.mp4"), 3, "gone.mp4 does not exist"),
        (("track", "gone.mp4", "--spacing", "0"), 2, "spacing"),
        (("track", "gone.mp4", "--box", "9,9,9,20"), 2, "is empty"),
    ],
)
def test_bad_input_is_a_sentence_and_a_code(
    with_depth: tuple[Path, Path, Path],
    arguments: tuple[str, ...],
    code: int,
    words: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(with_depth[0].parent)
    assert commands.main("trackshade", [*arguments, "--backend-python", backend_python()]) == code
    assert words in capfd.readouterr().err
    assert not [*with_depth[0].parent.glob("*.blend")]


def test_a_timer_follows_the_task_while_blender_is_free() -> None:
    busy = [False]

    def steps() -> Generator[Progress, None, None]:
        yield Progress("lifting", "street.png", 1, 4)
        raise ShotError("other-size", "It has another size.")

    run = lift_run.begin(steps(), lambda: None, lambda: busy[0])
    assert not bpy.ops.trackshade.lift_photo.poll()
    assert run.advance()
    assert run.factor == 0.25
    busy[0] = True
    assert run.advance()
    assert run.factor == 0.25
    busy[0] = False
    assert not run.advance()
    assert (run.progress, str(run.error)) == (None, "It has another size.")
    assert bpy.ops.trackshade.lift_photo.poll()
    run = lift_run.begin(steps(), lambda: None)
    assert bpy.ops.trackshade.cancel_lift() == {"FINISHED"}
    assert (run.progress, run.advance()) == (None, False)
