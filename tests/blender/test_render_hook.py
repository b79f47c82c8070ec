# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook on exports: real renders of Cycles, real backend; what is kept, what becomes of it, what is said."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.backend_python import backend_python
from tests.helpers.renders import animate, demo, exported
from trackshade.client import PrivateBackend
from trackshade.core.images import write_png
from trackshade.shot import Shot
from trackshade.shot.track_set import read_set
from trackshade_addon.jobs import session
from trackshade_addon.placement.color import read_levels
from trackshade_addon.render import hook

pytestmark = pytest.mark.usefixtures("registered", "served")


def hooked(folder: Path, picture: str = "none") -> bpy.types.Scene:
    scene = demo(folder, "CYCLES")
    scene.frame_step = 3
    layer = scene.view_layers[0].trackshade
    layer.use_hook, layer.hook_picture = True, picture
    hook.messages.clear()
    return scene


def said() -> str:
    return " ".join(hook.messages.values())


def out(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir() if path.suffix != ".png")


def test_a_complete_export_is_shaded_and_placed(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after")
    scene.view_layers[0].trackshade.hook_place = True
    animate(scene)
    assert len(exported(tmp_path)) == 17
    assert out(tmp_path) == ["shot_ViewLayer-shaded", "shot_ViewLayer-tracks"]
    made = tmp_path / "out" / "shot_ViewLayer-shaded"
    assert (made / "scene.blend").is_file()
    assert np.array_equal(read_levels(made / "first_frame.png"), read_levels(exported(tmp_path)[0]))
    assert said() == f"Shaded: {made}"
    assert not any("trackshade" in repr(handler) for handler in bpy.app.handlers.frame_change_post)


@pytest.mark.long
@pytest.mark.once
def test_the_same_first_frame_and_seed_give_the_same_frames_everywhere(tmp_path: Path) -> None:
    """Hook, engine, panel, command and `trackshade shade`, each in its own way to the backend."""
    scene = hooked(tmp_path, "after")
    layer, own, render = scene.view_layers[0].trackshade, scene.trackshade, scene.render
    own.use_range, own.first, own.last, own.step = True, 1, 7, 3
    scene.frame_end = 7
    own.prompt, own.steps, own.output_size = "painted toys", 2, "full"
    painted = tmp_path / "painted.png"
    write_png(painted, np.random.default_rng(0).integers(0, 256, (96, 144, 3), np.uint8))
    key = own.keys.add()
    key.frame, key.path = 4, str(painted)
    animate(scene)
    folder = tmp_path / "out" / "shot_ViewLayer-shaded"
    truth = frames_of(folder)
    recorded = json.loads((folder / "job.json").read_text())["propagation"]["key_pictures"]
    assert [item["frame"] for item in recorded] == [1, 4]
    layer.use_hook = False
    own.first_frame, own.picture = "file", str(folder / "first_frame.png")

    render.engine, render.filepath = "TRACKSHADE", str(tmp_path / "engine" / "shot_")
    animate(scene)
    assert np.array_equal(frames_of(tmp_path / "shaded" / "demo-001"), truth)
    delivered = sorted((tmp_path / "engine").iterdir())
    assert np.array_equal(np.stack([read_levels(path) for path in delivered]), truth)

    render.engine = "CYCLES"
    job = session.current().begin(scene, own.shot_request("ViewLayer"), own.shade_settings())
    while job.runs:
        session.current().advance()
    assert job.error is None
    assert np.array_equal(frames_of(job.out), truth)

    shaded = command("shade", folder.with_name("shot_ViewLayer-tracks"), "--out", tmp_path / "cli")
    assert shaded.returncode == 0, shaded.stderr
    assert np.array_equal(frames_of(tmp_path / "cli"), truth)

    from trackshade_addon import commands

    arguments = ["render", str(tmp_path / "demo.blend"), "--seed", "3", "--steps", "2", "--prompt", "painted toys"]
    arguments += ["--frames", "1-7:3"]
    arguments += [
        "--light",
        "none",
        "--first-frame",
        own.picture,
        "--key",
        f"4={painted}",
        "--out",
        str(tmp_path / "command"),
        "--endpoint",
        ENDPOINT["now"],
    ]
    assert commands.main("trackshade", arguments) == 0
    assert np.array_equal(frames_of(tmp_path / "command"), truth)


def test_ranges_rendered_apart_join(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "before")
    own = scene.trackshade
    own.use_range, own.first, own.last, own.step = True, 1, 49, 3
    scene.frame_start, scene.frame_end = 25, 49  # the other machine's
    animate(scene)
    assert "frames 1, 4, 7" in said() or "1, 4" in said()
    assert "the picture of frame 1" in said()
    folder = tmp_path / "out" / "shot_ViewLayer-tracks"
    incomplete = command("shade", folder, "--out", tmp_path / "cli")
    assert incomplete.returncode == 3
    assert "the tracks of frames 1, 4, 7, 10, 13, 16, 19, 22" in incomplete.stderr
    assert not (tmp_path / "cli").exists()
    scene.frame_start, scene.frame_end = 1, 24
    animate(scene)
    assert said() == f"Shaded: {tmp_path / 'out' / 'shot_ViewLayer-shaded'}"
    assert len(frames_of(tmp_path / "out" / "shot_ViewLayer-shaded")) == 17


def test_joined_tracks_are_the_capture(tmp_path: Path) -> None:
    """Also where meshes deform, change their topology, appear late, or are instanced."""
    from tests.helpers.stage import key
    from trackshade.shot.joining import join
    from trackshade_addon.capture import capture, plan_scene

    scene = hooked(tmp_path)
    scene.view_layers[0].trackshade.hook_start, scene.render.resolution_percentage = False, 25
    cube, ball = scene.objects["Cube"], scene.objects["Ball"]
    key(cube.modifiers["Bevel"], "segments", {1: 3, 20: 2, 30: 3})
    key(scene.objects["Torus"], "hide_render", {1: True, 10: False, 40: True})
    twist = ball.modifiers.new("Twist", "SIMPLE_DEFORM")
    key(twist, "angle", {1: 0.0, 30: 2.0})
    remesh = ball.modifiers.new("Remesh", "REMESH")
    remesh.mode, remesh.voxel_size = "VOXEL", 0.1
    row = scene.objects["Floor"].modifiers.new("Row", "ARRAY")
    key(row, "count", {1: 1, 16: 3, 25: 2, 40: 4})
    empty = bpy.data.objects.new("Set", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", bpy.data.collections.new("Set")
    empty.instance_collection.objects.link(cube)
    empty.location = (1, -1, 1)
    scene.collection.objects.link(empty)
    animate(scene)
    frames, size = plan_scene(scene)
    whole = capture(scene, scene.view_layers[0], frame_map=frames, size_fit=size)
    joined = join(read_set(tmp_path / "out" / "shot_ViewLayer-tracks"))
    same(joined, whole)
    assert any("topology of 'Ball'" in text for text in joined.warnings)
    assert sorted(joined.warnings) == sorted(whole.warnings)
    changing = {mesh.name for mesh in whole.meshes if mesh.changes}
    assert {"Cube", "Ball", "Floor"} <= changing


def same(a: Shot, b: Shot) -> None:
    assert a.frame_numbers.tolist() == b.frame_numbers.tolist()
    assert (a.fps, a.size, a.view_layer, a.source["size_fit"]) == (b.fps, b.size, b.view_layer, b.source["size_fit"])
    for name in ("intrinsics", "world_to_camera", "orthographic", "clip", "sources"):
        assert np.array_equal(getattr(a.camera, name), getattr(b.camera, name)), name
    names = [mesh.name for mesh in b.meshes]
    assert sorted(mesh.name for mesh in a.meshes) == sorted(names)
    for i, x in enumerate(a.meshes):
        j = names.index(x.name)
        y = b.meshes[j]
        assert np.array_equal(x.visible, y.visible)
        assert [t for t, _ in x.changes] == [t for t, _ in y.changes]
        for t in np.flatnonzero(x.visible).tolist():
            one, other = a.geometry_of(i, t), b.geometry_of(j, t)
            assert np.array_equal(one.triangles, other.triangles)
            assert np.array_equal(a.world_positions(i, t), b.world_positions(j, t)), (x.name, t)
            assert np.array_equal(one.first, other.first), (x.name, t)
            assert np.array_equal(one.born, other.born), (x.name, t)


@pytest.mark.once
def test_the_pictures_of_an_export_tell_its_light(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after")
    scene.frame_end, scene.trackshade.light, scene.trackshade.output_size = 7, "render", "full"
    animate(scene)
    tracks = tmp_path / "out" / "shot_ViewLayer-tracks"
    kept = [read_levels(tracks / f"{frame:04d}.png") for frame in (1, 4, 7)]
    assert np.array_equal(kept, [read_levels(path) for path in exported(tmp_path)])
    assert np.array_equal(read_levels(tracks / "first.png"), kept[0])
    assert not list(tracks.glob("*.exr"))
    made = tmp_path / "out" / "shot_ViewLayer-shaded"
    assert said() == f"Shaded: {made}"
    assert [path.name for path in sorted((made / "input").iterdir())] == ["0001.png", "0002.png", "0003.png"]


@pytest.mark.long
def test_the_light_of_joined_tracks_is_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    scene = hooked(tmp_path, "after")
    scene.frame_end, scene.trackshade.light, scene.trackshade.output_size = 4, "clay", "full"
    animate(scene)
    record = json.loads((tmp_path / "out" / "shot_ViewLayer-shaded" / "job.json").read_text())
    assert record["shot"]["source"]["light"]["statement"] == "2 clay renders of 72×48, by Cycles."


def test_a_cancelled_render_leaves_nothing(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after")

    def stop(rendered: bpy.types.Scene, *_: object) -> None:
        if rendered.frame_current == 10:
            rendered.render.filepath = "/proc/nowhere/shot_"  # which Blender cannot write, and ends

    bpy.app.handlers.render_pre.append(stop)
    try:
        with pytest.raises(RuntimeError):
            animate(scene)
    finally:
        bpy.app.handlers.render_pre.remove(stop)
    assert out(tmp_path) == []
    assert "none of its tracks were kept" in said()


@pytest.mark.once
def test_layers_are_jobs_of_their_own_with_what_they_show(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "before")
    second = scene.view_layers.new("Toys: only")
    toys = bpy.data.collections.new("Floor only")
    scene.collection.children.link(toys)
    toys.objects.link(scene.objects["Floor"])
    scene.collection.objects.unlink(scene.objects["Floor"])
    second.layer_collection.children["Floor only"].exclude = True
    second.trackshade.use_hook, second.trackshade.hook_picture = True, "before"
    animate(scene)
    assert [name for name in out(tmp_path) if name.endswith("shaded")] == [
        "shot_Toys_ only-shaded", "shot_ViewLayer-shaded",
    ]  # fmt: skip
    shot = Shot.load(tmp_path / "out" / "shot_Toys_ only-tracks" / "0001.shot")
    assert sorted(mesh.name for mesh in shot.meshes) == ["Ball", "Cube", "Torus"]
    pictures = [read_levels(tmp_path / "out" / name / "first_frame.png") for name in out(tmp_path) if "shaded" in name]
    assert not np.array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda scene: setattr(scene.render, "use_multiview", True), "Stereoscopy"),
        (lambda scene: setattr(scene.render, "use_border", True), "Render Region"),
        (lambda scene: setattr(scene.camera.data, "type", "PANO"), "Perspective"),
    ],
)
def test_what_cannot_be_shaded_is_said_and_the_render_goes_on(change, words: str, tmp_path: Path) -> None:
    scene = hooked(tmp_path, "after")
    scene.frame_end = 49
    scene.render.resolution_percentage = 25
    change(scene)
    animate(scene)
    assert words in said()
    assert "The render goes on" in said()
    assert exported(tmp_path)
    assert out(tmp_path) == []


@pytest.mark.once
def test_frames_that_exist_already_are_named_where_their_tracks_are_missing(tmp_path: Path) -> None:
    scene = hooked(tmp_path)
    scene.render.use_overwrite, scene.render.use_placeholder = False, True
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "shot_0004.png").write_bytes(b"rendered before")
    animate(scene)
    assert "the tracks of frame 4 are missing" in said()
    (tmp_path / "out" / "shot_0004.png").unlink()
    animate(scene)  # that frame alone
    assert "Shaded" in said()


def test_a_full_disk_ends_the_tracks_and_not_the_render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = hooked(tmp_path)
    scene.render.resolution_percentage = 25
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(small)], check=False).returncode:
        pytest.skip("cannot make a small disk here")
    try:
        scene.render.filepath = str(small / "shot_")
        animate(scene)
        assert "No space left" in said()
        assert "Choose a folder that can be written and has space" in said()
        assert len(list(small.iterdir())) == 17  # the pictures
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_still_leaves_no_tracks(tmp_path: Path) -> None:
    scene = hooked(tmp_path)
    scene.render.filepath = str(tmp_path / "out" / "still.png")
    bpy.ops.render.render()
    assert not (tmp_path / "out").exists()


@pytest.mark.once
def test_the_result_has_the_size_of_the_export(tmp_path: Path) -> None:
    scene = hooked(tmp_path, "before")
    scene.render.resolution_percentage, scene.trackshade.output_size, scene.frame_end = 200, "full", 4
    animate(scene)
    picture = read_levels(tmp_path / "out" / "shot_ViewLayer-tracks" / "first.png")
    assert picture.shape == (192, 288, 3)
    assert np.array_equal(picture, read_levels(exported(tmp_path)[0]))
    assert frames_of(tmp_path / "out" / "shot_ViewLayer-shaded").shape == (2, 192, 288, 3)


def frames_of(folder: Path) -> np.ndarray:
    """[T, H, W, 3] levels of a result's frames."""
    return np.stack([read_levels(path) for path in sorted((folder / "frames").iterdir())])


ENDPOINT = {"now": ""}


@pytest.fixture(autouse=True)
def endpoint(backend: PrivateBackend) -> None:
    ENDPOINT["now"] = backend.info.endpoint


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`trackshade ...` in the backend's environment, on the tests' backend."""
    words = [str(argument) for argument in arguments]
    return subprocess.run(
        [backend_python(), "-m", "trackshade.cli", *words, "--endpoint", ENDPOINT["now"]],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
