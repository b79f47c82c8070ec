# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine, rendered by Blender itself on a real backend: what it delivers, and what it says where it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers.renders import SIZE, animate, demo, exported, multilayer, still
from trackshade.client import PrivateBackend, connect
from trackshade.core.images import write_png
from trackshade.shot import Shot
from trackshade_addon.capture import capture, plan_scene
from trackshade_addon.capture.exr import read_channels
from trackshade_addon.placement.color import read_levels

pytestmark = pytest.mark.usefixtures("registered", "served")


def result(folder: Path, number: int = 1) -> Path:
    return folder / "shaded" / f"demo-{number:03d}"


def test_an_animation_is_one_job_whose_frames_are_delivered(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    assert animate(scene) == {"FINISHED"}
    frames = exported(tmp_path)
    assert [path.stem for path in frames] == [f"shot_{n:04d}" for n in range(1, 50, 3)]
    assert [path.name for path in (tmp_path / "shaded").iterdir()] == ["demo-001"]
    for number, path in enumerate(frames, start=1):
        assert np.array_equal(read_levels(path), read_levels(result(tmp_path) / "frames" / f"{number:04d}.png"))
    assert scene.frame_current == 1


@pytest.mark.once
def test_where_time_is_stretched_frame_f_shows_picture_f_of_that_time(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.render.frame_map_old, scene.render.frame_map_new = 100, 150
    frames, size = plan_scene(scene)
    wanted = capture(scene, frame_map=frames, size_fit=size)
    assert animate(scene) == {"FINISHED"}
    for number, path in enumerate(exported(tmp_path), start=1):
        assert np.array_equal(read_levels(path), read_levels(result(tmp_path) / "frames" / f"{number:04d}.png"))
    made = Shot.load(result(tmp_path) / "tracks.shot")
    assert list(made.frame_numbers) == list(wanted.frame_numbers) == list(range(1, 50, 3))
    for one, other in zip(made.meshes, wanted.meshes, strict=True):
        assert np.allclose(one.matrix_world, other.matrix_world, atol=1e-6)
    scene.frame_set(7)
    shown = still(scene, tmp_path / "still.png")
    assert np.array_equal(shown, read_levels(result(tmp_path) / "frames" / "0003.png"))


@pytest.mark.once
def test_f12_shows_the_control_and_then_the_newest_result(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.trackshade.output_size = "full"
    scene.frame_set(7)
    control = still(scene, tmp_path / "control.png")
    assert not (tmp_path / "shaded").exists()  # nothing is left of it
    animate(scene)
    assert np.array_equal(control, read_levels(result(tmp_path) / "tracking" / "0003.png"))
    scene.frame_set(8)  # between two samples: the nearer one
    assert np.array_equal(still(scene, tmp_path / "a.png"), read_levels(result(tmp_path) / "frames" / "0003.png"))
    write_png(tmp_path / "look.png", np.full((96, 144, 3), (200, 40, 40), np.uint8))
    scene.trackshade.first_frame, scene.trackshade.picture = "file", str(tmp_path / "look.png")
    scene.render.filepath = str(tmp_path / "out" / "again_")
    animate(scene)
    scene.frame_set(7)
    newest = read_levels(result(tmp_path, 2) / "frames" / "0003.png")
    assert not np.array_equal(newest, read_levels(result(tmp_path) / "frames" / "0003.png"))
    assert np.array_equal(still(scene, tmp_path / "b.png"), newest)


def test_passes_are_what_the_tracks_are_drawn_from(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    layer = scene.view_layers[0]
    layer.use_pass_z = layer.use_pass_object_index = layer.trackshade.use_pass_tracking = True
    scene.objects["Ball"].pass_index, scene.objects["Floor"].pass_index = 5, 2
    multilayer(scene)
    animate(scene)
    channels = read_channels(tmp_path / "out" / "shot_0007.exr")
    names = {name.partition(".")[2]: values for name, values in channels.items()}
    tracking = np.stack([names[f"Tracking.{c}"] for c in "RGB"], axis=-1)
    assert np.array_equal(np.rint(tracking * 255), read_levels(result(tmp_path) / "tracking" / "0003.png"))
    depth, index = (
        next(values for name, values in names.items() if name.startswith(kinds))
        for kinds in (("Z.", "Depth."), ("IndexOB.", "Object Index."))
    )
    assert set(np.unique(index)) == {0, 2, 5}
    assert depth[index == 5].max() < depth[index == 2].max() < 100
    assert np.all(tracking[depth > 1e9] == 0)


@pytest.mark.parametrize(
    "view", ["AgX", pytest.param("Filmic", marks=pytest.mark.long), pytest.param("Raw", marks=pytest.mark.once)]
)
def test_the_view_transform_gives_the_pictures_back(view: str, tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.view_settings.view_transform = view
    scene.view_settings.exposure = 0.7
    scene.frame_end = 49
    animate(scene)
    shown, made = read_levels(exported(tmp_path)[2]), read_levels(result(tmp_path) / "frames" / "0003.png")
    change = np.abs(shown - made).max(axis=-1)
    assert np.median(change) <= 1
    assert np.mean(change > 3) < (0.25 if view == "AgX" else 0.001)  # AgX has no saturated colors


@pytest.mark.once
def test_the_frame_is_cut_back_to_the_scenes_size(tmp_path: Path) -> None:
    scene = demo(tmp_path, size=(400, 200))
    scene.render.resolution_percentage = 50
    animate(scene)
    shown, made = read_levels(exported(tmp_path)[0]), read_levels(result(tmp_path) / "frames" / "0001.png")
    assert shown.shape == (100, 200, 3)
    if made.shape[:2] == (100, 200):
        assert np.array_equal(shown, made)
        return
    inner = made[12:84]  # of 96 rows the frame is the middle 72
    assert np.abs(shown.mean(axis=(0, 1)) - inner.mean(axis=(0, 1))).max() < 2


@pytest.mark.once
def test_where_the_frame_is_larger_than_the_model_sees_it_stays_clear(tmp_path: Path) -> None:
    scene = demo(tmp_path, size=(288, 96))
    scene.trackshade.size_mode, scene.trackshade.output_size = "crop", "model"
    scene.render.image_settings.color_mode = "RGBA"
    animate(scene)
    image = bpy.data.images.load(str(exported(tmp_path)[0]))
    alpha = np.array(image.pixels[:]).reshape(96, 288, 4)[..., 3]
    assert np.all(alpha[:, :70] == 0) or np.all(alpha == 1)
    assert alpha[:, 144].min() == 1


@pytest.mark.parametrize("cropped", [pytest.param(False, marks=pytest.mark.once), True])
def test_a_region_is_its_part_of_the_frame(cropped: bool, tmp_path: Path) -> None:
    scene = demo(tmp_path)
    render = scene.render
    animate(scene)
    whole = read_levels(exported(tmp_path)[0])
    render.use_border, render.use_crop_to_border = True, cropped
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.25, 0.5, 0.5, 0.875
    part = still(scene, tmp_path / "part.png")
    region = whole[12:48, 36:72]
    if not cropped:
        assert part.shape == whole.shape
        part = part[12:48, 36:72]
    assert np.array_equal(part, region)


@pytest.mark.once
@pytest.mark.parametrize("light", ["clay", pytest.param("render", marks=pytest.mark.long)])
def test_the_light_is_rendered_in_a_blender_of_its_own(
    light: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    scene = demo(tmp_path)
    own = scene.trackshade
    scene.frame_end, own.light, own.first_frame, own.output_size = 4, light, "render", "full"
    animate(scene)
    record = json.loads((result(tmp_path) / "job.json").read_text())
    assert (record["input_render"] is not None) == (light == "render")
    statement = record["shot"]["source"]["light"].get("statement")
    assert statement == ("2 clay renders of 72×48, by Cycles." if light == "clay" else None)


@pytest.mark.once
def test_two_view_layers_are_two_jobs(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    second = scene.view_layers.new("Second")
    assert second.use
    animate(scene)
    assert sorted(path.name for path in (tmp_path / "shaded").iterdir()) == ["demo-001", "demo-002"]


def cut(scene: bpy.types.Scene, folder: Path) -> bpy.types.Scene:
    """Another scene, of which this one is a strip."""
    film = bpy.data.scenes.new("Cut")
    film.render.resolution_x, film.render.resolution_y = SIZE
    film.render.filepath, film.render.dither_intensity = str(folder / "out" / "cut_"), 0
    film.view_settings.view_transform = scene.view_settings.view_transform
    film.frame_start, film.frame_end = 1, 7
    film.frame_step = 3
    editor = film.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_scene("Demo", scene, 1, 1)
    return film


def test_a_strip_of_a_scene_makes_its_control_once(backend: PrivateBackend, tmp_path: Path) -> None:
    scene = demo(tmp_path)
    with connect(backend.info.endpoint, backend.info.token) as client:
        before = len(client.jobs())
        animate(cut(scene, tmp_path))
        assert len(client.jobs()) - before == 1
    animate(scene)
    shown = [read_levels(path) for path in sorted((tmp_path / "out").glob("cut_*"))]
    assert len(shown) == 3
    for number, levels in enumerate(shown, start=1):
        wanted = read_levels(result(tmp_path) / "tracking" / f"{number:04d}.png")
        assert np.abs(levels - wanted).max() <= 1  # the sequencer's own rounding


def test_markers_switch_cameras(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    other = scene.camera.copy()
    other.name, other.location.x = "Other", other.location.x + 1
    scene.collection.objects.link(other)
    for frame, camera in ((1, scene.camera), (25, other)):
        scene.timeline_markers.new("", frame=frame).camera = camera
    assert animate(scene) == {"FINISHED"}
    assert len(exported(tmp_path)) == 17


@pytest.mark.once
def test_frames_outside_the_shot_stay_empty(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    own = scene.trackshade
    own.use_range, own.first, own.last, own.step = True, 1, 49, 3
    scene.frame_start, scene.frame_end, scene.frame_step = 49, 52, 3
    animate(scene)
    inside, outside = (read_levels(path) for path in exported(tmp_path))
    assert np.array_equal(inside, read_levels(result(tmp_path) / "frames" / "0017.png"))
    assert not outside.any()


def refused(scene: bpy.types.Scene, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        animate(scene)
    assert not exported(Path(scene.render.filepath).parents[1])


def test_stereo_is_refused(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.render.use_multiview = True
    refused(scene, "Switch off Stereoscopy")


def test_a_scene_without_anything_to_see_is_a_sentence(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    for obj in scene.objects:
        obj.hide_render = obj.type == "MESH"
    refused(scene, "No surface is visible")
    assert scene.frame_current == 1
    assert not list((tmp_path / "shaded").iterdir()) if (tmp_path / "shaded").exists() else True


def test_an_unwritable_place_for_results_is_a_sentence(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    (tmp_path / "shaded").write_text("no folder")
    refused(scene, "preferences")


def test_a_picture_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.trackshade.first_frame, scene.trackshade.picture = "file", str(tmp_path / "nowhere.png")
    refused(scene, "nowhere.png")


@pytest.mark.once
def test_the_first_frame_is_rendered_by_another_blender(tmp_path: Path) -> None:
    scene = demo(tmp_path)
    scene.trackshade.first_frame = "render"
    scene.cycles.seed = 5
    animate(scene)
    given = read_levels(result(tmp_path) / "first_frame.png")
    scene.render.engine = "CYCLES"
    scene.frame_set(1)
    assert np.abs(given - still(scene, tmp_path / "cycles.png")).max() <= 1


def test_blenders_panels_show_with_it_and_are_put_back() -> None:
    from trackshade_addon.render import engine

    found = [item for item in bpy.types.Panel.__subclasses__() if "TRACKSHADE" in getattr(item, "COMPAT_ENGINES", ())]
    names = {item.__name__ for item in found}
    assert {"RENDER_PT_format", "RENDER_PT_output", "DATA_PT_lens", "TRACKSHADE_PT_render_look"} <= names
    engine.hide_panels()
    left = [item for item in bpy.types.Panel.__subclasses__() if "TRACKSHADE" in getattr(item, "COMPAT_ENGINES", ())]
    engine.show_panels()
    assert {item.__name__.partition("_")[0] for item in left} == {"TRACKSHADE"}
