# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures that people give, read by Blender: as the backend reads them, and over the shot's tracks."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

import trackshade_addon
from tests.blender.test_first_frame import glowing, plain, png
from tests.blender.test_ui_checks import STUDIO
from tests.helpers import stage
from tests.helpers.backend_python import backend_python
from trackshade.client.job_run import run_to_end
from trackshade.core import colors
from trackshade.core.errors import ShotError
from trackshade.core.image_headers import read_header
from trackshade_addon import commands
from trackshade_addon.capture import first_frame
from trackshade_addon.capture.given_image import (
    check_given_image,
    color_management,
    read_given_header,
    read_given_image,
    read_image_file,
)
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.checks.facts import read_current_frame
from trackshade_addon.checks.findings import ERROR, NOTE, WARNING, findings
from trackshade_addon.jobs.composer import capture_scene, with_picture

FILES = Path(__file__).parents[1] / "helpers" / "picture_files.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of every kind, and how the backend reads them, by the backend's own Python."""
    made = tmp_path_factory.mktemp("pictures")
    subprocess.run([backend_python(), str(FILES), str(made)], check=True, timeout=120)
    return made


def test_blender_reads_what_the_backend_reads(scene: bpy.types.Scene, folder: Path) -> None:
    with np.load(folder / "reference.npz") as reference:
        assert len(reference.files) > 50
        for name in reference.files:
            pixels = read_image_file(folder / name, None).pixels
            assert pixels.dtype == reference[name].dtype, name
            np.testing.assert_array_equal(pixels, reference[name], err_msg=name)
    assert len(bpy.data.images) == 0
    assert len(bpy.data.scenes) == 1


@pytest.mark.parametrize("name", ["odd #0001.png", "tiles.<UDIM>.png", "clip.mp4", "no suffix", "ä ö.exr", "x.blend"])
def test_a_files_name_plays_no_part(scene: bpy.types.Scene, tmp_path: Path, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
    (tmp_path / name).write_bytes(png(pixels))
    np.testing.assert_array_equal(read_image_file(tmp_path / name, None).pixels[..., :3], pixels)


def test_damaged_files_give_a_picture_or_a_sentence(scene: bpy.types.Scene, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    for file in sorted(folder.glob("*.*")):
        if file.suffix == ".npz":
            continue
        data, random_ = file.read_bytes(), random.Random(file.name)
        for turn in range(8):
            changed = bytearray(data)
            if turn == 0:
                del changed[random_.randrange(len(data)) :]
            else:
                for _ in range(turn):
                    changed[random_.randrange(len(data))] = random_.randrange(256)
            path.write_bytes(changed)
            try:
                picture = read_image_file(path, {})
            except ShotError as error:
                assert str(path) in str(error)  # noqa: PT017 - some are readable all the same
            else:
                assert picture.size == read_header(path).size
    assert len(bpy.data.images) == 0
    assert len(bpy.data.scenes) == 1


# light


def light_file(path: Path) -> np.ndarray:
    """Writes a scene-linear picture; [H, W, 3] float32 of it, top row first."""
    values = (np.random.default_rng(1).random((12, 20, 3)) ** 3 * 6).astype(np.float32)
    writer = bpy.data.scenes.new("Writer")
    writer.render.image_settings.file_format = "OPEN_EXR"
    save(values, writer, path, "RGB", "32")
    bpy.data.scenes.remove(writer)
    return values


def shown(values: np.ndarray, scene: bpy.types.Scene, path: Path) -> np.ndarray:
    """[H, W, 3] of light as Blender saves it through the scene's view transform, 8 bits."""
    scene.render.image_settings.file_format, scene.render.dither_intensity = "PNG", 0
    save(values, scene, path, "RGB", "8")
    return read_image_file(path, None).pixels[..., :3]


def save(values: np.ndarray, scene: bpy.types.Scene, path: Path, mode: str, depth: str) -> None:
    pixels = np.ones((*values.shape[:2], 4), np.float32)
    pixels[..., :3] = values[::-1]
    image = bpy.data.images.new("Light", values.shape[1], values.shape[0], float_buffer=True)
    image.pixels.foreach_set(pixels.reshape(-1))
    scene.render.image_settings.color_mode, scene.render.image_settings.color_depth = mode, depth
    image.save_render(str(path), scene=scene)
    bpy.data.images.remove(image)


@pytest.mark.parametrize("view", ["Standard", "AgX", "Filmic", "Raw", "False Color"])
def test_light_goes_through_the_scenes_view_transform(scene: bpy.types.Scene, tmp_path: Path, view: str) -> None:
    settings = scene.view_settings
    settings.view_transform, settings.exposure, settings.gamma = view, 0.7, 1.2
    if view == "AgX":
        settings.look = "AgX - Punchy"
    if view == "Standard":
        settings.use_curve_mapping = True
        curve = settings.curve_mapping.curves[3]
        curve.points.new(0.4, 0.7)
        settings.curve_mapping.update()
    if view == "Filmic" and hasattr(settings, "use_white_balance"):
        settings.use_white_balance, settings.white_balance_temperature = True, 4000
    values = light_file(tmp_path / "light.exr")
    wanted = shown(values, scene, tmp_path / "shown.png").astype(int)
    made = read_image_file(tmp_path / "light.exr", color_management(scene)).pixels[..., :3]
    assert made.dtype == np.uint16
    assert np.abs(np.rint(made / 257) - wanted).max() <= 1
    plain_made = read_image_file(tmp_path / "light.exr", {"view_transform": "Standard"}).pixels[..., :3]
    expected = np.clip(255 * colors.linear_to_srgb(values), 0, 255)
    assert np.abs(plain_made / 257 - expected).max() <= 1
    assert np.abs(made.astype(int) - plain_made).max() > 3000


def test_primaries_that_a_file_states_are_read(scene: bpy.types.Scene, folder: Path) -> None:
    """Read as those of Rec.709, an ACEScg file would be duller."""
    header = read_header(folder / "acescg.exr")
    assert header.linear_space == "ACEScg"
    assert "ACEScg" in header.notes[0]
    raw = {"view_transform": "Raw"}
    made, values = (
        read_image_file(folder / name, raw).pixels[..., :3] / 65535 for name in ("acescg.exr", "light-full.exr")
    )
    to_rec709 = np.array([[1.7051, -0.6218, -0.0833], [-0.1303, 1.1408, -0.0105], [-0.0240, -0.1290, 1.1530]])
    whole = values.max(axis=-1) < 1  # the others were cut off
    assert np.abs(made - np.clip(values @ to_rec709.T, 0, 1))[whole].max() < 0.01
    assert np.abs(made - values)[whole].max() > 0.1


IN_STUDIO = """
import sys, numpy as np
from pathlib import Path
from trackshade_addon.capture.given_image import color_management, read_image_file
import bpy
folder = Path(sys.argv[1])
with np.load(folder / "reference.npz") as reference:
    for name in ("color.png", "deep.png", "deep-zip.tif", "baseline.jpg"):
        assert np.array_equal(read_image_file(folder / name, None).pixels, reference[name]), name
picture = read_image_file(folder / "light.exr", color_management(bpy.context.scene))
print("read", bpy.context.scene.view_settings.view_transform, picture.size)
"""


def test_a_studios_color_configuration_changes_no_values(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.ocio").write_text(STUDIO)
    environment = {**os.environ, "OCIO": str(tmp_path / "config.ocio")}
    command = [sys.executable, "-c", IN_STUDIO, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert "read Film (36, 24)" in done.stdout, done.stdout + done.stderr


# images in Blender


def test_an_image_in_blender_is_taken_as_it_is_painted(scene: bpy.types.Scene) -> None:
    values = np.random.default_rng(2).integers(0, 256, (6, 9, 4), np.uint8)
    image = bpy.data.images.new("Painted", 9, 6, alpha=True)
    image.pixels.foreach_set((values[::-1] / np.float32(255)).reshape(-1))
    before = image.is_dirty, image.source, image.alpha_mode, image.colorspace_settings.name
    picture = read_given_image("image:Painted", None)
    np.testing.assert_array_equal(picture.pixels, values)
    assert (picture.header.alpha, picture.name) == ("straight", "Painted")
    assert (image.is_dirty, image.source, image.alpha_mode, image.colorspace_settings.name) == before
    image.alpha_mode = "NONE"
    assert read_given_image("image:Painted", None).header.alpha == "none"
    assert list(bpy.data.images) == [image]


@pytest.mark.parametrize("name", ["color.png", "deep.png", "deep-zip.tif", "lossless.webp", "light.exr",
                                  "light-full.exr", "covered.exr"])  # fmt: skip
def test_a_file_that_is_open_in_blender_is_read_as_the_file(scene: bpy.types.Scene, folder: Path, name: str) -> None:
    bpy.data.images.load(str(folder / name)).name = "Open"
    management = {"view_transform": "AgX", "exposure": 0.3}
    opened, file = (read_given_image(chosen, management) for chosen in ("image:Open", str(folder / name)))
    assert opened.pixels.dtype == file.pixels.dtype
    assert np.abs(opened.pixels[..., :3].astype(int) - file.pixels[..., :3]).max() <= (4 if "deep" in name else 0)
    assert read_given_header("image:Open").size == file.size


def test_images_without_a_picture_are_told(scene: bpy.types.Scene, tmp_path: Path) -> None:
    def code(chosen: str) -> str:
        with pytest.raises(ShotError) as caught:
            check_given_image(chosen)
        return caught.value.code

    assert code("image:Nothing") == "bad-picture"
    (tmp_path / "gone.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    bpy.data.images.load(str(tmp_path / "gone.png")).name = "Gone"
    (tmp_path / "gone.png").unlink()
    assert code("image:Gone") == "bad-picture"
    bpy.data.images.new("Tiles", 4, 4, tiled=True)
    assert code("image:Tiles") == "picture-format"
    bpy.data.images["Tiles"].source = "SEQUENCE"
    assert code("image:Tiles") == "picture-format"
    stage.add_camera(scene)
    scene.render.engine, scene.render.resolution_x, scene.render.resolution_y = "CYCLES", 8, 8
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    bpy.ops.render.render()
    assert code("image:Render Result") == "picture-format"


# over the tracks


def white_square(scene: bpy.types.Scene) -> None:
    plain(scene)
    stage.add_camera(scene, (0, -6, 0))
    stage.add(scene, "Square", stage.grid()).data.materials.append(glowing("White", (1, 1, 1)))


def extent(picture: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is light, pixels."""
    light = colors.srgb_to_linear(picture[..., 0] / 255)
    x, y = light.max(axis=0), light.max(axis=1)
    left, top = float(np.argmax(x > 0.5)), float(np.argmax(y > 0.5))
    return left, top, left + float(x.sum()), top + float(y.sum())


@pytest.mark.parametrize(
    ("size", "aspect"), [((320, 180), (1, 1)), ((180, 320), (1, 1)), ((160, 180), (2, 1)), ((288, 192), (2, 1))]
)
def test_a_given_render_lies_where_the_own_one_does(scene, tmp_path: Path, size, aspect) -> None:
    white_square(scene)
    render = scene.render
    render.resolution_x, render.resolution_y = size
    render.pixel_aspect_x, render.pixel_aspect_y = aspect
    scene.frame_end = 17
    render.filepath = str(tmp_path / "still.png")
    bpy.ops.render.render(write_still=True)
    render.resolution_percentage = 50
    what = ShotRequest()
    own = run_to_end(capture_scene(what, scene), lambda _: None)
    given = run_to_end(capture_scene(replace(what, first_frame=render.filepath), scene), lambda _: None)
    assert own.first_frame is not None
    assert given.first_frame is not None
    np.testing.assert_allclose(extent(given.first_frame), extent(own.first_frame), atol=1)
    said = given.shot.source["first_frame"]
    assert said["size"] == list(size)
    assert given.shot.size == (size[0] // 2, size[1] // 2)
    assert "shape of the shot's image" in said["statement"]
    assert not given.shot.warnings


def test_percentages_are_no_matter(scene: bpy.types.Scene, tmp_path: Path) -> None:
    white_square(scene)
    scene.render.resolution_x, scene.render.resolution_y, scene.frame_end = 333, 187, 17
    scene.render.filepath = str(tmp_path / "still.png")
    bpy.ops.render.render(write_still=True)
    own = run_to_end(capture_scene(ShotRequest(), scene), lambda _: None)
    scene.render.resolution_percentage = 50
    given = run_to_end(capture_scene(ShotRequest(first_frame=scene.render.filepath), scene), lambda _: None)
    assert own.first_frame is not None
    assert given.first_frame is not None
    np.testing.assert_allclose(extent(given.first_frame), np.array(extent(own.first_frame)) / 2, atol=1)


def test_an_image_in_blender_goes_the_whole_way(scene: bpy.types.Scene) -> None:
    white_square(scene)
    scene.render.resolution_x, scene.render.resolution_y, scene.frame_end = 160, 90, 17
    bpy.data.images.new("Painted", 320, 180).generated_color = (1, 0.5, 0, 1)
    made = run_to_end(capture_scene(ShotRequest(first_frame="image:Painted"), scene), lambda _: None)
    assert made.shot.source["first_frame"]["name"] == "Painted"
    assert "scaled to 160×90" in made.shot.source["first_frame"]["statement"]
    assert made.first_frame is not None
    assert (made.first_frame == (255, 128, 0)).all()


def test_a_damaged_picture_is_told_before_the_capture(scene: bpy.types.Scene, tmp_path: Path) -> None:
    white_square(scene)
    scene.frame_end = 17
    path = tmp_path / "half.png"
    path.write_bytes(png(np.zeros((50, 50, 3), np.uint8))[:-30])
    told = []
    with pytest.raises(ShotError, match="damaged"):
        run_to_end(capture_scene(ShotRequest(first_frame=str(path)), scene), told.append)
    assert {progress.state for progress in told} == {"planning"}


def test_the_command_fits_as_the_job_does(scene: bpy.types.Scene, tmp_path: Path, capfd) -> None:
    """The command line without Blender has scene-linear pictures shown by this command."""
    white_square(scene)
    scene.render.resolution_x, scene.render.resolution_y, scene.frame_end = 160, 90, 17
    scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 0.4
    path = tmp_path / "light.exr"
    light_file(path)
    shot = run_to_end(capture_scene(ShotRequest(first_frame="none"), scene), lambda _: None).shot
    assert shot.source["color_management"]["view_transform"] == "AgX"
    shot.save(tmp_path / "a.shot")
    wanted = with_picture(shot, str(path)).first_frame
    assert wanted is not None
    bpy.ops.wm.read_factory_settings(use_empty=True)
    arguments = ["picture", str(path), "--shot", str(tmp_path / "a.shot"), "--out", str(tmp_path / "a.png")]
    assert commands.main("test", [*arguments, "--json"]) == 0
    assert '"statement"' in capfd.readouterr().out
    np.testing.assert_array_equal(read_image_file(tmp_path / "a.png", None).pixels[..., :3], wanted)
    assert commands.main("test", arguments) == 3  # it is there already
    assert commands.main("test", [*arguments, "--force"]) == 0


# the panel


def test_the_panel_says_how_an_image_will_be_fitted(tmp_path: Path) -> None:
    trackshade_addon.register()
    try:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        white_square(scene)
        scene.render.resolution_x, scene.render.resolution_y, scene.frame_end = 160, 90, 17

        def said(size: tuple[int, int] | None, data: bytes = b"") -> tuple[str, str] | None:
            path = tmp_path / f"{size}.png"
            path.write_bytes(png(np.zeros((size[1], size[0], 3), np.uint8)) if size else data)
            what = ShotRequest(first_frame=str(path))
            found = findings(read_current_frame(scene, bpy.context.view_layer, what))
            told = [item for item in found if item.code.startswith("picture")]
            return (told[0].level, told[0].text.format(**told[0].values)) if told else None

        text = "The image (320 × 180) has the aspect ratio of the shot and is scaled to 160 × 90."
        assert said((320, 180)) == (NOTE, text)
        assert said((160, 90)) is None
        level, text = said((100, 100)) or ("", "")
        assert level == WARNING
        assert "another aspect ratio than the scene's frame (160 × 90)" in text
        level, text = said(None, b"8BPS and more") or ("", "")
        assert level == ERROR
        assert "Photoshop" in text
        own = scene.trackshade
        own.first_frame, own.image = "image", None
        assert own.shot_request("").first_frame == ""
        own.image = bpy.data.images.new("Painted", 320, 180)
        what = own.shot_request("")
        assert what.first_frame == "image:Painted"
        assert "picture-fit" in {
            item.code for item in findings(read_current_frame(scene, bpy.context.view_layer, what))
        }
        own.first_frame, own.image = "render", None
        own.apply_job(what, own.shade_settings())
        assert (own.first_frame, own.image and own.image.name) == ("image", "Painted")
        level, text = said(None, png(np.zeros((9, 9, 3), np.uint8))) or ("", "")  # the file has changed
        assert level == WARNING
    finally:
        trackshade_addon.unregister()


def test_first_frames_of_our_own_are_not_fitted(scene: bpy.types.Scene) -> None:
    white_square(scene)
    shot = stage.shoot(scene, 1)
    picture = first_frame.render_sample(shot, 0, scene)
    assert picture.shape == (shot.size[1], shot.size[0], 3)
    assert "first_frame" not in shot.source
