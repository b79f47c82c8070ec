# SPDX-License-Identifier: GPL-3.0-or-later
"""Placing as a plate: which picture shows when, with which pixels, and what a scene holds before and after."""

from __future__ import annotations

import contextlib
import json
import random
import re
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.campaigns.mutants import damaged_value
from tests.helpers.place_results import (
    add_camera,
    levels,
    make_result,
    new_scene,
    numbered,
    pictures,
    png,
    render,
)
from trackshade.core.errors import OutputError, ShotError, UsageError
from trackshade.core.fitting import fit_size
from trackshade_addon.capture.scene_settings import plan_scene
from trackshade_addon.placement import place, prepare, remove
from trackshade_addon.placement.color import SAMPLE, changed_fraction, inverse_space, read_levels, take_sample
from trackshade_addon.placement.result_folder import camera_folder, read_surfaces
from trackshade_addon.render.rendered_sequence import find_latest_result

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize(
    ("transform", "space"), [("Standard", "sRGB"), ("AgX", "AgX Base sRGB"), ("Filmic", "Filmic sRGB")]
)
def test_pixels_arrive_unchanged_through_the_view_transform(tmp_path: Path, transform: str, space: str) -> None:
    """Colors that the transform can show, to within a level; AgX's inverse is a table and may miss by two."""
    frames = pictures(3, vivid=False)
    scene = new_scene()
    scene.view_settings.view_transform = transform
    placed = place(make_result(tmp_path / "job", frames, [1, 2, 3]), scene)
    assert placed.color_space == space
    assert placed.warnings == ()
    for frame in (1, 3):
        change = np.abs(render(scene, frame, tmp_path / "out.png") - frames[frame - 1])
        assert change.max() <= 2
        assert change.mean() < 0.2


def test_exposure_of_scene_and_film_does_not_touch_the_plate(tmp_path: Path) -> None:
    frames = pictures(1)
    scene = new_scene()
    scene.view_settings.exposure = 1.5
    scene.cycles.film_exposure = 0.4
    placed = place(make_result(tmp_path / "job", frames, [1]), scene)
    assert placed.warnings == ()
    assert np.abs(render(scene, 1, tmp_path / "out.png") - frames[0]).max() <= 1
    scene.view_settings.exposure = -1.0
    assert np.abs(render(scene, 1, tmp_path / "out.png") - frames[0]).max() <= 1


def test_the_warning_says_what_the_render_does(tmp_path: Path) -> None:
    """AgX shows no fully saturated colors: the share that is announced is the share that the render changes."""
    frames = pictures(1)
    scene = new_scene()
    scene.view_settings.view_transform = "AgX"
    (warning,) = place(make_result(tmp_path / "job", frames, [1]), scene).warnings
    change = np.abs(render(scene, 1, tmp_path / "out.png") - frames[0]).max(axis=-1)
    said = [
        float(number)
        for number in re.findall(r"([\d.]+)% of|up to (\d+) of 255", warning)
        for number in number
        if number
    ]
    assert said == pytest.approx([100 * (change > 2).mean(), change.max()], abs=1.5)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("view_transform", "False Color", "no inverse"),
        ("look", "AgX - Punchy", "Punchy"),
        ("gamma", 1.2, "gamma"),
        ("use_curve_mapping", True, "curves"),
    ],
)
def test_what_cannot_be_undone_is_said(tmp_path: Path, setting: str, value: object, words: str) -> None:
    scene = new_scene()
    if setting == "look":
        scene.view_settings.view_transform = "AgX"
    setattr(scene.view_settings, setting, value)
    placed = place(make_result(tmp_path / "job", pictures(1), [1]), scene)
    assert words in placed.warnings[0]
    assert words in bpy.data.collections[placed.collection]["trackshade_warnings"]


@pytest.mark.parametrize(
    ("samples", "shown"),
    [
        ([1, 2, 3], {0: None, 1: 1, 2: 2, 3: 3, 4: None}),
        ([-2, -1, 0, 1], {-3: None, -2: 1, -1: 2, 0: 3, 1: 4, 2: None}),
        ([0, 1, 2], {-1: None, 0: 1, 1: 2, 2: 3}),
        ([10, 14, 18], {9: None, 10: 1, 11: 1, 12: 1, 13: 2, 15: 2, 16: 2, 17: 3, 18: 3, 19: None}),
        ([1, 2.5, 4], {1: 1, 2: 2, 3: 2, 4: 3, 5: None}),
        ([0.5, 1.0, 1.5, 2.0, 2.5], {0: None, 1: 2, 2: 4, 3: None}),
        ([7.2, 7.6], {6: None, 7: 1, 8: None}),
        ([9998, 10001], {9998: 1, 9999: 1, 10000: 2, 10001: 2, 10002: None}),
    ],
)
def test_each_scene_frame_shows_the_nearest_sample(
    tmp_path: Path, samples: list[float], shown: dict[int, int | None]
) -> None:
    scene = new_scene((6, 4))
    placed = place(make_result(tmp_path / "job", numbered(len(samples), (6, 4)), samples), scene)
    seen = [frame for frame, number in shown.items() if number is not None]
    assert placed.frames == (seen[0], seen[-1])
    for frame, number in shown.items():
        expected = 0 if number is None else 10 * number
        assert np.abs(render(scene, frame, tmp_path / "out.png") - expected).max() <= 1, frame


def test_files_are_named_by_scene_frame_and_linked(tmp_path: Path) -> None:
    folder = make_result(tmp_path / "job", numbered(3), [12, 14, 16])
    place(folder, new_scene())
    names = sorted(item.name for item in (folder / "plate").iterdir())
    assert names == [f"plate_{frame:04d}.png" for frame in range(12, 17)]
    assert (folder / "plate" / "plate_0014.png").samefile(folder / "frames" / "0002.png")
    assert [item.name for item in folder.iterdir() if "partial" in item.name] == []


def test_cameras_switched_by_markers_each_get_their_plate(tmp_path: Path) -> None:
    """The first camera until frame 3; the samples lie so that frame 4's nearest one is of the other camera."""
    scene = new_scene((6, 4))
    second = add_camera(scene, "Second")
    second.location = (-3, -4, 2)
    for frame, name in ((1, "Camera"), (4, "Second")):
        scene.timeline_markers.new(name, frame=frame).camera = bpy.data.objects[name]
    samples, cameras = [1, 2.2, 3.5, 4.75, 6], ["Camera"] * 3 + ["Second"] * 2
    placed = place(make_result(tmp_path / "job", numbered(5, (6, 4)), samples, cameras=cameras), scene)
    assert placed.cameras == ("Camera", "Second")
    assert len(placed.planes) == 2
    expected = {1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 6: 5}
    for frame, number in expected.items():
        assert np.abs(render(scene, frame, tmp_path / "out.png") - 10 * number).max() <= 1, frame
        visible = [name for name in placed.planes if not bpy.data.objects[name].hide_render]
        assert len(visible) == 1
    assert np.abs(render(scene, 7, tmp_path / "out.png")).max() == 0


def test_new_pictures_in_the_same_folder_are_read(tmp_path: Path) -> None:
    scene = new_scene()
    folder = make_result(tmp_path / "job", numbered(1), [1])
    place(folder, scene)
    assert np.abs(render(scene, 1, tmp_path / "out.png") - 10).max() <= 1
    make_result(folder, numbered(1) + 90, [1])
    place(folder, scene)
    assert np.abs(render(scene, 1, tmp_path / "out.png") - 100).max() <= 1


def test_the_newest_plate_lies_in_front(tmp_path: Path) -> None:
    scene = new_scene()
    for number in range(3):
        place(make_result(tmp_path / f"job{number}", numbered(1) + 40 * number, [1]), scene)
        assert np.abs(render(scene, 1, tmp_path / "out.png") - 10 - 40 * number).max() <= 1


def test_folders_of_any_name(tmp_path: Path) -> None:
    scene = new_scene()
    folder = make_result(tmp_path / "Würfel 立方体 0001.x_0002", numbered(2), [1, 2])
    placed = place(folder, scene)
    assert np.abs(render(scene, 2, tmp_path / "out.png") - 20).max() <= 1
    assert placed.folder == folder


def test_only_the_camera_sees_the_plate(tmp_path: Path) -> None:
    """A mirror behind the plate's side of the camera would show it, and a lit floor its shadow."""
    placed = place(make_result(tmp_path / "job", numbered(1), [1]), new_scene())
    plane = bpy.data.objects[placed.planes[0]]
    assert plane.visible_camera
    for rays in ("diffuse", "glossy", "transmission", "volume_scatter", "shadow"):
        assert not getattr(plane, f"visible_{rays}")


def test_the_plate_shows_in_its_view_layer_only(tmp_path: Path) -> None:
    scene = new_scene()
    scene.view_layers.new("Other")
    folder = make_result(tmp_path / "job", numbered(1), [1])

    def shown_in() -> list[str]:
        name = placed.planes[0]
        for layer in scene.view_layers:
            layer.update()
        return [layer.name for layer in scene.view_layers if layer.objects.get(name) is not None]

    placed = place(folder, scene)
    assert shown_in() == ["ViewLayer"]
    placed = place(folder, scene, view_layer="Other")
    assert shown_in() == ["Other"]
    make_result(folder, numbered(1), [1], view_layer="renamed since")
    placed = place(folder, scene)
    assert shown_in() == ["ViewLayer", "Other"]


def names() -> dict[str, list[str]]:
    """All data blocks by name."""
    return {
        prop.identifier: sorted(block.name for block in getattr(bpy.data, prop.identifier))
        for prop in bpy.data.bl_rna.properties
        if prop.type == "COLLECTION"
    }


@pytest.mark.parametrize("way", ["plate", "background", "both"])
def test_placing_again_replaces_and_removing_leaves_nothing(tmp_path: Path, way: str) -> None:
    scene = new_scene()
    before = names()
    folder = make_result(tmp_path / "job", numbered(3), [1, 2, 3])
    placed = place(folder, scene, mode=way)
    once = names()
    assert once != before
    placed = place(folder, scene, mode=way)
    assert names() == once
    remove(placed)
    assert names() == before
    assert not scene.camera.data.show_background_images
    assert len(scene.camera.data.background_images) == 0
    remove(placed)


def test_removing_one_result_keeps_the_others_and_what_the_user_added(tmp_path: Path) -> None:
    scene = new_scene()
    first = place(make_result(tmp_path / "a" / "job", numbered(1), [1]), scene, mode="both")
    second = place(make_result(tmp_path / "b" / "job", numbered(1), [1]), scene, mode="both")
    own = bpy.data.objects.new("Own", None)
    bpy.data.collections[first.collection].objects.link(own)
    remove(first)
    assert bpy.data.objects.get("Own") is not None
    assert scene.objects.get("Own") is not None
    assert all(scene.objects.get(name) for name in second.planes)
    assert len(scene.camera.data.background_images) == 1
    assert scene.camera.data.show_background_images


def test_of_openexr_frames_the_shown_ones_are_placed(tmp_path: Path) -> None:
    scene, folder = new_scene(), make_result(tmp_path / "job", numbered(2), [1, 2])
    (folder / "frames").rename(folder / "frames_8bit")
    (folder / "frames").mkdir()
    for number in (1, 2):
        (folder / "frames" / f"{number:04d}.exr").touch()
    place(folder, scene, mode="background")
    (background,) = scene.camera.data.background_images
    assert Path(bpy.path.abspath(background.image.filepath)).samefile(folder / "frames_8bit" / "0001.png")


def test_the_background_has_the_pictures_and_no_view_transform(tmp_path: Path) -> None:
    scene = new_scene()
    scene.view_settings.view_transform = "AgX"
    folder = make_result(tmp_path / "job", numbered(3), [5, 6, 7])
    place(folder, scene, mode="background")
    (background,) = scene.camera.data.background_images
    assert background.image.colorspace_settings.name == "sRGB"
    assert not background.image.use_view_as_render
    assert (background.image_user.frame_start, background.image_user.frame_duration) == (5, 3)
    assert Path(bpy.path.abspath(background.image.filepath)).samefile(folder / "frames" / "0001.png")
    assert background.frame_method == "STRETCH"


def background_image(folder: Path) -> np.ndarray:
    """[H, W, 4] levels of the image that a camera shows in its background in frame 1, top row first."""
    (background,) = bpy.context.scene.camera.data.background_images
    assert background.frame_method == "STRETCH"  # exactly over the camera's frame, whatever its aspect
    assert (background.scale, tuple(background.offset), background.rotation) == (1, (0, 0), 0)
    path = Path(bpy.path.abspath(background.image.filepath))
    assert path.is_relative_to(folder)
    image = bpy.data.images.load(str(path))
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    found = np.rint(255 * values.reshape(image.size[1], image.size[0], 4)[::-1])
    bpy.data.images.remove(image)
    return found


@pytest.mark.parametrize("source", [(96, 40), (40, 96), (48, 32)])
@pytest.mark.parametrize("aspect", [(1.0, 1.0), (1.0, 1.25), (2.0, 1.0)])
def test_the_background_cuts_off_what_lies_around_the_frame(
    tmp_path: Path, source: tuple[int, int], aspect: tuple[float, float]
) -> None:
    scene = new_scene(source)
    fit = fit_size(source, aspect, [(48, 32)])
    left, top, right, bottom = fit.frame_in_model()
    column, row = np.arange(48) + 0.5, np.arange(32) + 0.5
    frame = np.zeros((1, 32, 48, 3), np.uint8)
    frame[0, :, :, 0] = 200 * ((column > left) & (column < right))  # red in the frame, green around it
    frame[0, :, :, 1] = 200 * ~(((column > left) & (column < right))[None] & ((row > top) & (row < bottom))[:, None])
    folder = make_result(tmp_path / "job", frame, [1], fit=fit)
    place(folder, scene, mode="background")
    image = background_image(folder)
    assert image.shape[0] / image.shape[1] == pytest.approx(
        source[1] * aspect[1] / (source[0] * aspect[0]), rel=0.6 / min(image.shape[:2])
    )
    assert (image[..., 3] == 255).all()
    assert (image[1:-1, 1:-1, :2] == (200, 0)).all()  # pixels at the rim may mix with what was around it


def test_the_background_is_clear_where_the_model_did_not_see_the_frame(tmp_path: Path) -> None:
    scene = new_scene((96, 32))
    fit = fit_size((96, 32), (1.0, 1.0), [(48, 32)], "crop")
    folder = make_result(tmp_path / "job", numbered(1), [1], fit=fit)
    place(folder, scene, mode="background")
    image = background_image(folder)
    assert image.shape == (32, 96, 4)
    assert (image[:, 24:72] == (10, 10, 10, 255)).all()
    assert (image[:, :24, 3] == 0).all()
    assert (image[:, 72:, 3] == 0).all()


def test_the_background_shows_a_render_region_in_its_place(tmp_path: Path) -> None:
    scene = new_scene((96, 64))
    render = scene.render
    render.use_border = True
    render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y = 0.25, 0.75, 0.125, 0.5
    _, fit = plan_scene(scene, 1, 1, 1)
    shown = pictures(1, fit.size)
    folder = make_result(tmp_path / "job", shown, [1], fit=fit)
    assert place(folder, scene, mode="both").warnings == ()
    image = background_image(folder)
    assert image.shape == (64, 96, 4)
    assert (image[32:56, 24:72, :3] == shown[0]).all()
    assert (image[32:56, 24:72, 3] == 255).all()
    assert image[..., 3].sum() == 255 * 24 * 48


def test_bad_input_is_a_sentence_and_changes_nothing(tmp_path: Path) -> None:
    scene = new_scene()
    good = make_result(tmp_path / "job", numbered(2), [1, 2])
    before = names()
    with pytest.raises(OutputError, match=r"job\.json is missing"):
        place(tmp_path, scene)
    with pytest.raises(UsageError, match="view layer"):
        place(good, scene, view_layer="None such")
    with pytest.raises(UsageError, match="placed as"):
        place(good, scene, mode="texture")
    with pytest.raises(UsageError, match="in front of the camera"):
        place(good, scene, distance=0)
    with pytest.raises(ShotError, match="no 'Gone'"):
        place(make_result(tmp_path / "gone", numbered(2), [1, 2], cameras=["Camera", "Gone"]), scene)
    (good / "frames" / "0002.png").unlink()
    with pytest.raises(OutputError, match=r"0002\.png is missing"):
        place(good, scene)
    record = json.loads((good / "job.json").read_text())
    for change, words in (
        ({"format": 2}, "Update"),
        ({"format": 1, "shot": {}}, "damaged"),
        ({"format": 1, "shot": record["shot"] | {"frames": [2, 1]}}, "ascend"),
        ({"format": 1, "shot": record["shot"] | {"size_fit": {"source": [0, 0]}}}, "damaged"),
    ):
        (good / "job.json").write_text(json.dumps(change))
        with pytest.raises(OutputError, match=words):
            place(good, scene)
    (good / "job.json").write_text("{")
    with pytest.raises(OutputError, match="cannot be read"):
        place(good, scene)
    assert names() == before


def test_records_that_were_edited_are_a_result_or_a_sentence(tmp_path: Path) -> None:
    folder, rng = make_result(tmp_path / "job", numbered(2), [1, 2]), random.Random(1)
    record = json.loads((folder / "job.json").read_text())
    record["settings"] = {"output": "video"}
    record["shot"]["source"] = {"file": "a.blend", "scene": "Scene"}
    damaged = [damaged_value(damaged_value(record, rng), rng) for _ in range(200)]
    for text in ("[" * 100_000, *(json.dumps(value, default=str, skipkeys=True) for value in damaged)):
        (folder / "job.json").write_text(text)
        find_latest_result(tmp_path, "a.blend", "Scene", "ViewLayer")
        camera_folder(folder, "Camera")
        with contextlib.suppress(OutputError):
            read_surfaces(folder)


def test_a_result_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """A file stands where the plate's folder has to be."""
    scene = new_scene()
    folder = make_result(tmp_path / "job", numbered(1), [1])
    (folder / "plate").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        place(folder, scene)
    assert list(folder.glob(".plate*")) == []
    assert levels(folder / "frames" / "0001.png").max() == 10


def test_a_large_pictures_colors_are_measured_on_a_sample(tmp_path: Path) -> None:
    frames = pictures(1, (640, 360))
    whole = tmp_path / "whole.png"
    png(whole, frames[0])
    sample = take_sample(whole, tmp_path)
    found = read_levels(sample)
    assert found.shape[0] * found.shape[1] <= SAMPLE
    colors = {tuple(color) for color in frames[0].reshape(-1, 3).tolist()}
    assert {tuple(color) for color in np.rint(found).astype(int).reshape(-1, 3).tolist()} <= colors
    scene = new_scene()
    scene.view_settings.view_transform = "AgX"
    space = inverse_space(scene)[0]
    assert changed_fraction(sample, scene, space)[0] == pytest.approx(
        changed_fraction(whole, scene, space)[0], abs=0.03
    )


def test_a_result_is_placed_in_steps_that_keep_nothing_of_the_scene(tmp_path: Path) -> None:
    scene = new_scene()
    folder = make_result(tmp_path / "shaded", pictures(3), (1, 2, 3))
    asked = []
    steps = prepare(folder, lambda: asked.append(1) or scene, mode="both")
    before = {item.name for blocks in (bpy.data.objects, bpy.data.scenes, bpy.data.images) for item in blocks}
    ready = None
    while ready is None:
        try:
            waits = next(steps)
        except StopIteration as done:
            ready = done.value
            break
        if waits is not None:
            waits.result()
        assert {i.name for blocks in (bpy.data.objects, bpy.data.scenes, bpy.data.images) for i in blocks} == before
    assert len(asked) == 3
    assert ready.place(scene).planes
    steps = prepare(folder, lambda: scene)
    next(steps)
    steps.close()  # a job that is cancelled while it is being placed leaves nothing behind
    with pytest.raises(OutputError):
        place(tmp_path / "none", scene)
