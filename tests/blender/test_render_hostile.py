# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene or a machine may ask of a render: other formats, compositors that resize, frames that exist already,
motion blur, mirrored objects, a full disk, a second render of the same file. Real renders on a real backend.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.renders import SIZE, animate, demo, exported, still
from trackshade.client import PrivateBackend
from trackshade.core.colors import linear_to_srgb, srgb_to_linear
from trackshade.core.errors import ShotError
from trackshade.shot import Shot
from trackshade_addon.capture.exr import read_channels
from trackshade_addon.placement.color import read_levels
from trackshade_addon.render import hook

pytestmark = [pytest.mark.usefixtures("registered", "served"), pytest.mark.once]
RESULT = Path("shaded", "demo-001")


def hooked(folder: Path, picture: str = "none", start: bool = False) -> bpy.types.Scene:
    scene = demo(folder, "CYCLES")
    scene.frame_step = 3
    layer = scene.view_layers[0].trackshade
    layer.use_hook, layer.hook_picture, layer.hook_start = True, picture, start
    hook.messages.clear()
    return scene


def write_as(scene: bpy.types.Scene, media: str, kind: str) -> None:
    output = scene.render.image_settings
    if hasattr(output, "media_type"):  # Blender 5.0 and newer
        output.media_type = media
    output.file_format = kind


def composited(scene: bpy.types.Scene, pass_name: str, scale: float = 1.0) -> None:
    """Has the compositor put out one of the layer's passes, scaled."""
    if hasattr(scene, "compositing_node_group"):  # Blender 5.0 and newer
        tree = scene.compositing_node_group = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        output = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
    layer, scaled = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("CompositorNodeScale")
    scaled.inputs["X"].default_value = scaled.inputs["Y"].default_value = scale
    tree.links.new(layer.outputs[pass_name], scaled.inputs[0])
    tree.links.new(scaled.outputs[0], output.inputs[0])


def tracks(folder: Path) -> list[Shot]:
    return [Shot.load(path) for path in sorted((folder / "out" / "shot_ViewLayer-tracks").glob("*.shot"))]


def same_places(before: list[Shot], after: list[Shot]) -> None:
    assert len(before) == len(after) == 17
    for a, b in zip(before, after, strict=True):
        assert np.array_equal(a.camera.world_to_camera, b.camera.world_to_camera)
        assert [mesh.name for mesh in a.meshes] == [mesh.name for mesh in b.meshes]
        for mesh in range(len(a.meshes)):
            assert np.array_equal(a.world_positions(mesh, 0), b.world_positions(mesh, 0))


def test_the_engine_writes_a_movie(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    write_as(scene, "VIDEO", "FFMPEG")
    animate(scene)
    (movie,) = (tmp_path / "out").iterdir()
    assert bpy.data.movieclips.load(str(movie)).frame_duration == 17


def test_the_engine_delivers_light(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    write_as(scene, "IMAGE", "OPEN_EXR")
    scene.render.image_settings.exr_codec, scene.render.image_settings.color_depth = "NONE", "32"
    animate(scene)
    channels = read_channels(tmp_path / "out" / "shot_0007.exr")
    light = np.stack([channels[name] for name in "RGB"], axis=-1)
    levels = read_levels(tmp_path / RESULT / "frames" / "0003.png")
    assert np.abs(light - srgb_to_linear(levels / 255)).max() < 1e-6


@pytest.mark.parametrize("damage", ["text", "cut off", "compressed", "missing"])
def test_an_unreadable_render_result_is_named(tmp_path: Path, damage: str) -> None:
    scene = demo(tmp_path)
    write_as(scene, "IMAGE", "OPEN_EXR")
    scene.render.image_settings.exr_codec = "ZIP" if damage == "compressed" else "NONE"
    path = tmp_path / "light.exr"
    image = bpy.data.images.new("Light", 8, 8, float_buffer=True)
    image.save_render(str(path), scene=scene)
    if damage == "text":
        path.write_text("light")
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "missing":
        path.unlink()
    with pytest.raises(ShotError, match=r"light\.exr cannot be read"):
        read_channels(path)


def test_the_compositor_gets_the_passes_and_may_resize(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.view_layers[0].trackshade.use_pass_tracking = True
    composited(scene, "Tracking")
    animate(scene)
    tracking = read_levels(tmp_path / RESULT / "tracking" / "0003.png")
    whole = read_levels(exported(tmp_path)[2])
    assert np.array_equal(whole, np.rint(255 * linear_to_srgb(tracking / 255)))
    for node in (getattr(scene, "compositing_node_group", None) or scene.node_tree).nodes:
        if node.type == "SCALE":
            node.inputs["X"].default_value = node.inputs["Y"].default_value = 0.5
    composited(scene, "Image", 0.5)
    scene.frame_set(7)
    shown = still(scene, tmp_path / "half.png")
    assert shown.shape == whole.shape
    assert shown[24:72, 36:108].mean() > 50  # the picture, at half its size in the middle
    assert not shown[:20].any()


def test_frames_that_exist_already_are_left(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.render.use_overwrite, scene.render.use_placeholder = False, True
    (tmp_path / "out").mkdir()
    kept = [tmp_path / "out" / f"shot_{frame:04d}.png" for frame in (1, 10)]
    for path in kept:
        path.write_bytes(b"rendered before")
    animate(scene)
    assert [path.read_bytes() for path in kept] == [b"rendered before"] * 2
    for number, path in enumerate(exported(tmp_path), start=1):
        if path not in kept:
            assert np.array_equal(read_levels(path), read_levels(tmp_path / RESULT / "frames" / f"{number:04d}.png"))


def test_overscan_and_motion_blur_change_nothing_of_the_engines_frames(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.frame_set(7)
    plain = still(scene, tmp_path / "plain.png")
    scene.eevee.use_overscan, scene.eevee.overscan_size = True, 20
    scene.render.use_motion_blur = True
    assert np.array_equal(still(scene, tmp_path / "other.png"), plain)


def test_a_full_disk_is_a_sentence_and_nothing_is_left(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    small = tmp_path / "shaded"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "none", str(small)], check=False).returncode:
        pytest.skip("cannot make a small disk here")
    try:
        with pytest.raises(RuntimeError, match="Free some space"):
            animate(scene)
        assert not list(small.iterdir())
        assert not exported(tmp_path)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.long
def test_two_renders_of_a_file_at_once_have_a_result_each(tmp_path: Path, backend: PrivateBackend) -> None:
    demo(tmp_path)
    bpy.ops.wm.save_mainfile()
    script = (
        "import os, sys, bpy, trackshade_addon; from trackshade.client import connect, later; "
        "from trackshade_addon.jobs import session; trackshade_addon.register(); "
        f"client = later(connect, {backend.info.endpoint!r}); session.current().connect = lambda model: client; "
        f"bpy.ops.wm.open_mainfile(filepath={str(tmp_path / 'demo.blend')!r}); "
        "bpy.ops.render.render(animation=True); sys.stdout.flush(); os._exit(0)"
    )
    environment = {**os.environ, "TRACKSHADE_TOKEN": backend.info.token}
    both = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    results = sorted((tmp_path / "shaded").iterdir())
    assert [path.name for path in results] == ["demo-001", "demo-002"]
    for number, path in enumerate(exported(tmp_path), start=1):
        for result in results:
            assert np.array_equal(read_levels(path), read_levels(result / "frames" / f"{number:04d}.png"))


def test_mirrored_objects_are_drawn_where_they_are(tmp_path: Path) -> None:
    """Scaled by a negative factor, and once more by its geometry, a thing is where it was."""
    scene = demo(tmp_path)
    scene.frame_set(7)
    before = still(scene, tmp_path / "before.png")
    for name in ("Cube", "Ball"):
        obj = scene.objects[name]
        mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
        obj.data.transform([list(row) for row in mirror])
        obj.delta_scale = (-1, 1, 1)
    after = still(scene, tmp_path / "after.png")
    assert np.mean(np.abs(after.astype(int) - before.astype(int)).max(axis=-1) > 2) < 0.01


def test_motion_blur_and_persistent_data_change_nothing_of_the_tracks(tmp_path: Path) -> None:
    scene = hooked(tmp_path)
    scene.render.resolution_percentage = 25
    animate(scene)
    plain = tracks(tmp_path)
    scene.render.use_motion_blur, scene.render.motion_blur_shutter = True, 1.5
    scene.render.motion_blur_position = "END"
    scene.render.use_persistent_data = True
    scene.render.filepath = str(tmp_path / "blurred" / "out" / "shot_")
    animate(scene)
    same_places(plain, tracks(tmp_path / "blurred"))


def test_a_compositor_that_resizes_gives_the_first_frame_as_it_was_exported(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after")
    composited(scene, "Image", 0.5)
    animate(scene)
    first = read_levels(tmp_path / "out" / "shot_ViewLayer-tracks" / "first.png")
    shown = read_levels(exported(tmp_path)[0])
    inner = slice(28, 68), slice(40, 104)  # off the half-transparent edge
    assert first.shape == shown.shape
    assert np.array_equal(first[inner], shown[inner])
    assert not first[:20].any()


@pytest.mark.parametrize(
    ("media", "kind"), [pytest.param("VIDEO", "FFMPEG", marks=pytest.mark.long), ("IMAGE", "OPEN_EXR")]
)
def test_the_hook_follows_other_formats(media: str, kind: str, tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after", start=True)
    write_as(scene, media, kind)
    animate(scene)
    assert hook.messages["ViewLayer"] == f"Shaded: {tmp_path / 'out' / 'shot_ViewLayer-shaded'}"


def test_an_export_of_the_sequencer_is_named(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after")
    scene.frame_end = 49
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    length = {"length": 60} if bpy.app.version >= (5, 0, 0) else {"frame_end": 60}
    strips.new_effect(name="Red", type="COLOR", channel=1, frame_start=1, **length)
    animate(scene)
    assert "without view layer 'ViewLayer': it came from the sequencer" in hook.messages["ViewLayer"]
    assert {path.suffix for path in tmp_path.glob("out/*")} == {".png"}


@pytest.mark.parametrize("frame", [1, 49])
def test_a_render_that_ends_at_any_frame_leaves_no_tracks(frame: int, tmp_path: Path) -> None:
    scene = hooked(tmp_path, "before", start=True)
    scene.render.resolution_percentage = 25

    def stop(rendered: bpy.types.Scene, *_: object) -> None:
        if rendered.frame_current == frame:
            rendered.render.filepath = "/proc/nowhere/shot_"  # which Blender cannot write, and ends

    bpy.app.handlers.render_pre.append(stop)
    try:
        with pytest.raises(RuntimeError):
            animate(scene)
    finally:
        bpy.app.handlers.render_pre.remove(stop)
    assert "none of its tracks were kept" in hook.messages["ViewLayer"]
    assert {path.suffix for path in tmp_path.glob("out/*")} <= {".png"}


def test_a_scene_strip_shows_the_newest_result(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    animate(scene)
    edit = bpy.data.scenes.new("Edit")
    editor = edit.sequence_editor_create()
    (editor.strips if hasattr(editor, "strips") else editor.sequences).new_scene("Shot", scene, 1, 1)
    edit.view_settings.view_transform = scene.view_settings.view_transform
    edit.render.resolution_x, edit.render.resolution_y = SIZE
    edit.render.dither_intensity = 0
    edit.frame_start = edit.frame_end = 7
    edit.render.filepath = str(tmp_path / "edit_")
    animate(edit)
    shown = read_levels(tmp_path / "edit_0007.png")
    assert np.array_equal(shown, read_levels(tmp_path / RESULT / "frames" / "0003.png"))
    assert [path.name for path in (tmp_path / "shaded").iterdir()] == ["demo-001"]


def test_markers_switch_the_cameras_of_the_tracks(tmp_path: Path) -> None:
    scene = hooked(tmp_path)
    scene.render.resolution_percentage = 25
    other = scene.camera.copy()
    other.name, other.location.x = "Other", other.location.x + 1
    scene.collection.objects.link(other)
    names = {1: scene.camera.name, 25: other.name}
    for frame, name in names.items():
        scene.timeline_markers.new("", frame=frame).camera = scene.objects[name]
    animate(scene)
    for shot in tracks(tmp_path):
        assert shot.camera.sources == (names[1 if shot.frame_numbers[0] < 25 else 25],)
