# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures that people give: which files are taken, how their values are read, and where they lie."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from tests.helpers import picture_files
from tests.helpers.backends import grid_shot
from trackshade.cli.image_decoder import decode
from trackshade.core.colors import linear_to_srgb, srgb_to_linear
from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, SizeFit, fit_size, rendered_size
from trackshade.core.image_headers import MAX_BYTES, MAX_PIXELS, ImageHeader, read_header, read_image_bytes
from trackshade.shot.fitting import ShotFit
from trackshade.shot.input_image import (
    InputImage,
    attach_first_frame,
    fit_image,
    fit_larger,
    input_image_from_array,
    load_input_image,
    place_image,
    size_fit_of,
)

SIZE = picture_files.WIDTH, picture_files.HEIGHT
FILES = picture_files.files()
TURNS = [f"turned-{side}.jpg" for side in range(1, 9)] + ["turned.png", "turned.tif", "p3-turned.webp"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "picture.png"  # whatever it holds: the name plays no part


def read(path: Path, data: bytes) -> InputImage:
    path.write_bytes(data)
    return load_input_image(path, decode)


def levels(picture: InputImage) -> np.ndarray:
    """[H, W, 3] uint8 sRGB at the picture's own size."""
    return fit_image(picture, picture.size, None, "any").pixels


def refused(path: Path, data: bytes | None = None) -> ShotError:
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ShotError) as caught:
        load_input_image(path, decode)
    assert str(path) in caught.value.message
    assert caught.value.fix
    return caught.value


# what the values mean


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_kind_is_taken(path: Path, name: str) -> None:
    path.write_bytes(FILES[name])
    header = read_header(path)
    if header.scene_linear:
        assert header.bits == 32
        assert header.linear_space == ("ACEScg" if name.startswith("acescg") else "Linear Rec.709")
    else:
        picture = load_input_image(path, decode)
        assert picture.size == header.size
        assert picture.pixels.dtype == (np.uint16 if "deep" in name else np.uint8)
    assert ["CMYK" in sentence for sentence in header.warnings] == [True] * name.startswith("cmyk")


@pytest.mark.parametrize("name", ["color.png", "grey.png", "palette.png", "bilevel.png", "srgb.png", "lossless.webp",
                                  "plain.bmp", "palette.bmp", "color-lzw.tif", "grey-zip.tif", "bilevel.tif",
                                  "planes.tif", "baseline.jpg", "progressive.jpg", "grey.jpg",
                                  "lossy.webp", "cmyk.jpg", "cmyk.tif"])  # fmt: skip
def test_plain_pictures_keep_their_levels(path: Path, name: str) -> None:
    with Image.open(io.BytesIO(FILES[name])) as image:
        wanted = np.asarray(image.convert("RGB"))
    assert np.array_equal(levels(read(path, FILES[name])), wanted)


@pytest.mark.parametrize("name", TURNS)
def test_orientation_is_exifs(path: Path, name: str) -> None:
    with Image.open(io.BytesIO(FILES[name])) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    picture = read(path, FILES[name])
    assert picture.size == read_header(path).size == (wanted.shape[1], wanted.shape[0])
    assert np.array_equal(picture.pixels[..., :3], wanted)


@pytest.mark.parametrize(("name", "profile"), [("p3.png", picture_files.P3), ("adobe.jpg", picture_files.ADOBE),
                                               ("p3.tif", picture_files.P3)])  # fmt: skip
def test_color_profiles_are_applied_as_by_a_color_engine(path: Path, name: str, profile: bytes) -> None:
    with Image.open(io.BytesIO(FILES[name])) as image:
        assert image.info["icc_profile"] == profile
        wanted = ImageCms.profileToProfile(
            image.convert("RGB"), io.BytesIO(profile), ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )  # fmt: skip
    picture = read(path, FILES[name])
    difference = np.abs(levels(picture).astype(int) - np.asarray(wanted))
    assert difference.max() <= 1
    assert np.abs(levels(picture).astype(int) - picture.pixels[..., :3]).max() > 10
    assert "converted from" in fit_image(picture, SIZE, None).statement


def test_a_profile_that_cannot_be_applied_is_told(path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture = read(path, picture_files.pillow(picture_files.smooth(), "PNG", icc_profile=lab))
    assert np.array_equal(levels(picture), picture_files.smooth())
    assert "cannot be applied" in fit_image(picture, SIZE, None).warnings[0]


def test_colors_that_a_png_states_are_read(path: Path) -> None:
    """Gamma 1 is light itself; code 12/13 is Display P3, as the profile is."""
    color = read(path, FILES["color.png"]).pixels[..., :3]
    light = levels(read(path, FILES["gamma.png"]))
    assert np.abs(light - 255 * linear_to_srgb(color / 255)).max() <= 0.5
    by_profile, by_code = levels(read(path, FILES["p3.png"])), levels(read(path, FILES["cicp-p3.png"]))
    assert np.abs(by_profile.astype(int) - by_code).max() <= 1


def test_sixteen_bits_are_kept_until_the_picture_is_small(path: Path) -> None:
    """A dark ramp whose steps are far below one level of 8 bits, made steep by a profile of gamma 1."""
    ramp = np.linspace(0, 400, 64).astype(np.uint16)
    values = np.broadcast_to(ramp[None, :, None], (8, 64, 3)).copy()
    data = picture_files.png_with(picture_files.plain_png(values), (b"gAMA", struct.pack(">I", 100000)))
    made = fit_image(read(path, data), (32, 4), None).pixels[0, 4:-4, 0]
    wanted = 255 * linear_to_srgb(np.linspace(0, 400, 64).reshape(32, 2).mean(axis=1) / 65535)[4:-4]
    assert np.abs(made - wanted).max() <= 0.6
    assert len(set(made.tolist())) > 12


@pytest.mark.parametrize("name", ["alpha.png", "grey-alpha.png", "palette-alpha.png", "key-color.png", "alpha.webp",
                                  "alpha-lzw.tif"])  # fmt: skip
def test_alpha_is_over_black_in_linear_light(path: Path, name: str) -> None:
    with Image.open(io.BytesIO(FILES[name])) as image:
        stored = np.asarray(image.convert("RGBA")) / 255
    wanted = 255 * linear_to_srgb(srgb_to_linear(stored[..., :3]) * stored[..., 3:])
    assert np.abs(levels(read(path, FILES[name])) - wanted).max() <= 0.5


def test_premultiplied_color_means_the_same_as_straight(path: Path) -> None:
    stored = picture_files.noise(np.uint8, 4)
    stored[..., 3] = np.maximum(stored[..., 3], 200)
    straight = read(path, picture_files.written(stored, ".tif", oiio_UnassociatedAlpha=1))
    premultiplied = stored.copy()
    premultiplied[..., :3] = np.rint(stored[..., :3] * (stored[..., 3:] / 255))
    other = read(path, picture_files.written(premultiplied, ".tif"))
    assert other.header.alpha == "premultiplied"
    assert np.abs(levels(straight).astype(int) - levels(other)).max() <= 2


def test_pixels_are_averaged_in_linear_light() -> None:
    """As an engine filters: half of a pixel in light is 188, not 128."""
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    picture = input_image_from_array(np.repeat(board[..., None], 3, axis=2).astype(np.uint8))
    made = fit_image(picture, (8, 8), None).pixels
    assert set(np.unique(made)) <= {187, 188}


# what is not taken


def movie() -> bytes:
    return b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0" * 64


OTHERS = {
    "Photoshop": b"8BPS\0\1" + b"\0" * 64,
    "PDF": b"%PDF-1.7\n" + b"\0" * 64,
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n" + b"\0" * 64,
    "SVG": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "GIF": picture_files.pillow(picture_files.smooth(), "GIF"),
    "DDS": picture_files.pillow(picture_files.smooth(), "DDS"),
    "movie": movie(),
    "Blender": b"BLENDER-v405RENDH" + b"\0" * 64,
    "AVIF": b"\0\0\0\x1cftypavif" + b"\0" * 64,
    "JPEG 2000": picture_files.pillow(picture_files.smooth(), "JPEG2000"),
    "known": b"no picture at all" * 10,
}


@pytest.mark.parametrize("word", OTHERS)
def test_other_kinds_are_told_by_name(path: Path, word: str) -> None:
    error = refused(path, OTHERS[word])
    assert error.code == "picture-format"
    assert word in error.message
    assert "PNG" in str(error.fix)


def animated(kind: str) -> bytes:
    first, *more = (Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 90, 200))
    return picture_files.pillow(first, kind, save_all=True, append_images=more, duration=40)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (animated("PNG"), "animated"),
        (animated("WEBP"), "animated"),
        (picture_files.pillow(picture_files.smooth(), "TIFF", compression="jpeg"), "compression"),
        (picture_files.written(np.zeros((8, 8, 3), np.uint32), ".tif"), "whole numbers"),
        (picture_files.written(np.zeros((8, 8, 4), np.float32), ".exr", names=("R", "G", "B", "Depth.Z")), "layers"),
        (picture_files.written(np.zeros((8, 8, 3), np.float32), ".exr", full_width=16), "part of its frame"),
        (picture_files.png_with(FILES["color.png"], (b"cICP", bytes([9, 16, 0, 1]))), "HDR"),
    ],
)
def test_kinds_whose_colors_are_not_known_are_refused(path: Path, data: bytes, word: str) -> None:
    error = refused(path, data)
    assert error.code == "picture-format"
    assert word in error.message


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere.png").message
    assert "does not exist" in refused(tmp_path / "no" / "folder.png").message
    assert "folder" in refused(tmp_path).message
    assert "0 bytes" in refused(tmp_path / "empty.png", b"").message
    with pytest.raises(ShotError):
        load_input_image(Path("a\0b.png"), decode)
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a regular file" in refused(tmp_path / "pipe.png").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(path: Path) -> None:
    path.write_bytes(FILES["color.png"])
    path.chmod(0)
    assert "cannot be read" in refused(path).message


def test_absurd_sizes_are_refused_before_anything_is_decoded(path: Path) -> None:
    def bomb(width: int, height: int) -> bytes:
        data = bytearray(FILES["color.png"])
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return bytes(data)

    assert refused(path, bomb(60000, 60000)).code == "picture-too-large"
    assert refused(path, bomb(2**31 - 1, 1)).code == "picture-too-large"
    assert refused(path, bomb(8192, 8192)).code == "bad-picture"  # allowed, but its pixels are not there
    assert MAX_PIXELS == 8192 * 8192
    assert refused(path, bomb(0, 5)).code == "bad-picture"
    with path.open("wb") as file:
        file.write(FILES["color.png"])
        file.truncate(MAX_BYTES + 1)  # without taking any space
    assert refused(path).code == "picture-too-large"


@pytest.mark.parametrize("name", [name for name in sorted(FILES) if not name.endswith((".exr", ".hdr"))])
def test_a_file_whose_end_is_missing_is_refused(path: Path, name: str) -> None:
    data = FILES[name]
    path.write_bytes(data)
    if read_header(path).scene_linear:
        return
    end = data.rindex(b"\xff\xd9") + 1 if name.endswith(".jpg") else len(data) - (name.endswith(".png") and 5)
    for length in sorted({1, 12, 30, len(data) // 3, len(data) // 2, end - 1}):
        if name.endswith(".tif") and length > len(data) // 2:
            continue  # what lies last may be anything
        refused(path, data[:length])


@pytest.mark.parametrize("name", sorted(FILES))
def test_damaged_files_give_a_picture_or_a_sentence(path: Path, name: str) -> None:
    """Never another exception, whatever bytes are changed, lost or put in."""
    random_ = random.Random(name)
    fit = fit_size((1920, 1080), (1.0, 1.0), ((48, 32),))
    for _ in range(25):
        path.write_bytes(mutated(FILES[name], random_))
        with contextlib.suppress(ShotError):
            if not read_header(path).scene_linear:
                assert fit_image(load_input_image(path, decode), (48, 32), fit).pixels.shape == (32, 48, 3)


def tiff(**tags: tuple[int, int, bytes]) -> bytes:
    """A grey TIFF of 8×8 pixels. `tags`: by t and the number, kind, count and the four bytes of the value."""
    values = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: 8, 279: 64}
    made = {number: (4, 1, struct.pack("<I", value)) for number, value in values.items()}
    made |= {int(name[1:]): value for name, value in tags.items()}
    entries = b"".join(struct.pack("<HHI", number, *made[number][:2]) + made[number][2] for number in sorted(made))
    start = b"II*\0" + struct.pack("<IH", 8, len(made)) + entries + b"\0" * 4
    return start.ljust(400, b"\0") + b"\x80" * 64


MINUS = 9, 1, b"\x9c\xff\xff\xff"  # a signed number: -100
NOTHING = 3, 0, b"\0" * 4
DEFLATED = 3, 1, b"\x08\0\0\0"


@pytest.mark.parametrize(
    "tags",
    [
        {"t273": MINUS},  # where the pixels are
        {"t279": MINUS},
        {"t256": MINUS},
        {"t277": MINUS},
        {"t273": NOTHING},
        {"t258": NOTHING},
        {"t259": DEFLATED, "t278": MINUS},
        {"t259": DEFLATED, "t324": (4, 1, b"\x90\x01\0\0")},  # tiles without lengths beside strips
        {"t259": DEFLATED, "t324": NOTHING},
    ],
)
def test_a_tiff_whose_numbers_make_no_sense_is_a_sentence(path: Path, tags: dict[str, tuple[int, int, bytes]]) -> None:
    assert read(path, tiff()).size == (8, 8)
    refused(path, tiff(**tags))
    with contextlib.suppress(ShotError):
        read_header(path)


@pytest.mark.parametrize("profile", [(3, 2, b"\x2c\x01\x90\x01"), (6, 3, b"\xff\xff\xff\0"), MINUS])
def test_a_tiff_s_profile_of_other_numbers_than_bytes_is_told(path: Path, profile: tuple[int, int, bytes]) -> None:
    assert "cannot be applied" in read(path, tiff(t34675=profile)).header.warnings[0]


@pytest.mark.parametrize("pointer", [MINUS, NOTHING, (4, 1, b"\xff" * 4), (4, 1, b"\x08\0\0\0"), (2, 1, b"abcd")])
def test_exif_that_points_nowhere_does_not_matter(path: Path, pointer: tuple[int, int, bytes]) -> None:
    entry = struct.pack("<HHI", 0x8769, *pointer[:2]) + pointer[2]
    block = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + b"\0" * 4
    assert read(path, picture_files.pillow(picture_files.smooth(), "JPEG", exif=block)).size == SIZE


@pytest.mark.parametrize("end", [b"", b"\xff" * 3, b"\0\x02" + b"\xff" * 20, b"\0"])
def test_a_jpeg_without_pixels_is_a_sentence(path: Path, end: bytes) -> None:
    data = FILES["baseline.jpg"]
    assert "no pixels" in refused(path, data[: data.index(b"\xff\xda")] + b"\xff\xd9" + end).message


def test_a_png_that_unpacks_to_far_more_than_its_pixels_takes_little_memory(path: Path) -> None:
    import tracemalloc

    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(200)) + packer.flush()
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + b"\0" * 25
    data = start[:8] + picture_files.png_with(start, (b"IHDR", head), (b"IDAT", body), (b"IEND", b""))[33:]
    path.write_bytes(data)
    tracemalloc.start()
    read_image_bytes(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 << 20


def mutated(data: bytes, random_: random.Random) -> bytes:
    changed, at = bytearray(data), random_.randrange(len(data))
    kind = random_.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        changed[at : at + random_.randrange(1, 30)] = b""
    elif kind == 2:
        changed[at:at] = random_.randbytes(random_.randrange(1, 30))
    elif kind == 3:
        at = random_.randrange(min(len(data), 200))
        changed[at : at + 4] = random_.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
    else:
        for _ in range(random_.randrange(1, 6)):
            changed[random_.randrange(len(data))] = random_.randrange(256)
    return bytes(changed)


# where it lies

SIDES = st.integers(60, 400)
ASPECTS = st.sampled_from(((1.0, 1.0), (2.0, 1.0), (1.0, 2.0), (1.0, 1.46)))
MODELS = st.sampled_from(((144, 96), (96, 144), (72, 48), (64, 64)))


def dot(size: tuple[int, int], center: tuple[float, float], spread: tuple[float, float]) -> InputImage:
    """Black with a soft white dot; center and spread in pixels, (x, y)."""
    columns, rows = (
        np.exp(-(((np.arange(side) + 0.5 - middle) / width) ** 2) / 2)
        for side, middle, width in zip(size, center, spread, strict=True)
    )
    shown = linear_to_srgb(rows[:, None] * columns[None, :])
    return input_image_from_array(np.rint(255 * np.repeat(shown[..., None], 3, axis=2)).astype(np.uint8))


def found(picture: np.ndarray) -> tuple[float, float]:
    light = srgb_to_linear(picture[..., 0] / 255)
    light = np.where(light > 0.1 * light.max(), light, 0)  # not its faint tails, which repeated edges would draw out
    y, x = (np.arange(side) + 0.5 for side in light.shape)
    return float((light.sum(axis=0) * x).sum() / light.sum()), float((light.sum(axis=1) * y).sum() / light.sum())


@settings(max_examples=60)
@given(st.data(), SIDES, SIDES, ASPECTS, MODELS, st.sampled_from(("pad", "crop")), st.sampled_from((50, 75, 100, 150)),
       st.booleans())  # fmt: skip
def test_what_the_scenes_frame_shows_lies_over_its_tracks(data, width, height, aspect, model, mode, percent, square):
    """A dot in a picture of the frame, at any percentage, with the scene's pixels or square ones."""
    frame = width, height
    fit = fit_size(frame, aspect, (model,), mode)
    stretch = aspect if square else (1.0, 1.0)
    size = tuple(round(side * percent / 100 * unit) for side, unit in zip(frame, stretch, strict=True))
    x = data.draw(st.floats(model[0] * 0.3, model[0] * 0.7))
    y = data.draw(st.floats(model[1] * 0.3, model[1] * 0.7))
    in_frame = (x - fit.offset[0]) / fit.scale[0] / width, (y - fit.offset[1]) / fit.scale[1] / height
    assume(all(0.3 < share < 0.7 for share in in_frame) and min(fit.scale[0] * width, fit.scale[1] * height) > 20)
    placement = place_image(size, model, fit)
    if placement.kind in ("model", "same"):  # by its shape it may be the model's own image as well
        assert size[0] / size[1] == pytest.approx(model[0] / model[1], rel=0.03)
        assume(width * aspect[0] / (height * aspect[1]) == pytest.approx(model[0] / model[1], rel=1e-3))
    zoom = tuple(scale * own / side for side, scale, own in zip(size, fit.scale, frame, strict=True))
    assume(max(zoom) < 3)  # else the dot, which needs some pixels, is cut by the image's edges
    picture = dot(size, (in_frame[0] * size[0], in_frame[1] * size[1]), tuple(max(1.2, 1.5 / unit) for unit in zoom))
    assert placement.fits
    made = found(fit_image(picture, model, fit).pixels)
    assert made == pytest.approx((x, y), abs=0.5)


@pytest.mark.parametrize("mode", ["pad", "crop"])
def test_the_frames_own_size_is_the_frame_even_where_it_has_the_models_shape(mode: str) -> None:
    """With pixels twice as wide, 1440×960 looks like the model's 720×480 and is a frame of 3:1."""
    fit = fit_size((1440, 960), (2.0, 1.0), ((720, 480),), mode)
    placement = place_image((1440, 960), (720, 480), fit)
    assert placement.kind == ("padded" if mode == "pad" else "cut")
    assert placement.scale == pytest.approx(fit.scale)
    assert place_image((720, 480), (720, 480), fit).kind == "same"


@given(SIDES, SIDES, MODELS)
def test_the_models_image_is_taken_as_it_is(width: int, height: int, model: tuple[int, int]) -> None:
    fit = fit_size((width, height), (1.0, 1.0), (model,))
    pixels = np.random.default_rng(width).integers(0, 256, (model[1], model[0], 3), np.uint8)
    made = fit_image(input_image_from_array(pixels), model, fit)
    if (width, height) != model:
        assert "as it is" in made.statement
    assert np.array_equal(made.pixels, pixels)
    assert not made.warnings
    larger = place_image((3 * model[0], 3 * model[1]), model, fit)
    assert larger.kind in ("model", "scaled")
    assert larger.scale == pytest.approx((1 / 3, 1 / 3))


@pytest.mark.parametrize("mode", ["pad", "crop"])
def test_light_is_fitted_as_a_picture_is(mode: str) -> None:
    """A clay render of half the size lies in the model's image where the shot's picture does."""
    row = np.linspace(0, 1, 320)
    ramp = np.stack([np.tile(row, (180, 1)), np.tile(row[:180, None], (1, 320)), np.full((180, 320), 0.3)], axis=2)
    fit = ShotFit(
        FrameMap(1.0, 1.0, 1.0, "exact", (1.0,), 24.0, ""),
        fit_size((320, 180), (1.0, 1.0), ((144, 96),), mode),
        np.zeros(1),
    )
    light = fit.fit_linear(ramp.reshape(90, 2, 160, 2, 3).mean(axis=(1, 3)).astype(np.float32))
    pixels = fit.fit_image((255 * linear_to_srgb(ramp)).round().astype(np.uint8))
    assert light.shape == (96, 144, 3)
    assert np.abs(linear_to_srgb(light) - pixels / 255)[4:-4, 4:-4].max() < 0.02


def test_another_shape_covers_the_frame_and_is_told() -> None:
    fit = fit_size((1920, 1080), (1.0, 1.0), ((720, 480),))
    left, top, right, bottom = fit.frame_in_model()
    for size in ((1000, 1000), (3000, 1000), (50, 400), (4000, 1), (1, 300), (60, 2)):
        placement = place_image(size, (720, 480), fit)
        assert placement.kind == "covering"
        (unit, other), (x, y) = placement.scale, placement.offset
        assert unit == other
        assert x <= left + 1e-9
        assert y <= top + 1e-9
        assert x + unit * size[0] >= right - 1e-9
        assert y + unit * size[1] >= bottom - 1e-9
        assert x + unit * size[0] / 2 == pytest.approx(360)
        assert y + unit * size[1] / 2 == pytest.approx(240)
    made = fit_image(input_image_from_array(np.zeros((100, 100, 3), np.uint8)), (720, 480), fit)
    assert made.warnings == (made.statement,)


def test_a_larger_picture_keeps_its_detail() -> None:
    shot = grid_shot(count=1, size=(48, 32))
    pixels = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    whole = replace(shot, source={"size_fit": rendered_size((48, 32), (1.0, 1.0)).to_dict()})
    larger = fit_larger(whole, input_image_from_array(pixels))
    assert larger is not None
    assert np.array_equal(larger, pixels)
    assert fit_larger(whole, input_image_from_array(pixels[:34, :51])) is None
    region = rendered_size((96, 64), (1.0, 1.0), (20, 10, 60, 42))
    shot = grid_shot(count=1, size=(40, 32))
    part = fit_larger(replace(shot, source={"size_fit": region.to_dict()}), input_image_from_array(pixels))
    assert part is not None
    assert np.array_equal(part, pixels[20:84, 40:120])


def test_a_shot_says_how_its_first_frame_was_fitted() -> None:
    shot = grid_shot(count=2)
    fit = fit_size((960, 540), (1.0, 1.0), (shot.size,))
    told = replace(shot, source={"size_fit": fit.to_dict(), "warnings": ["One.", "Two."]})
    made, picture = attach_first_frame(told, input_image_from_array(np.zeros((540, 960, 3), np.uint8)))
    assert picture.shape == (shot.size[1], shot.size[0], 3)
    assert made.source["first_frame"]["size"] == [960, 540]
    assert "padded" in made.source["first_frame"]["statement"]
    assert made.warnings == ("One.", "Two.")
    made, _ = attach_first_frame(told, input_image_from_array(np.zeros((500, 500, 3), np.uint8)))
    assert made.warnings == ("One.", "Two.", made.source["first_frame"]["statement"])


def test_a_shot_of_another_tool_need_not_say_how_it_was_fitted() -> None:
    shot = grid_shot(count=2)
    assert size_fit_of(shot) is None
    made, _ = attach_first_frame(shot, input_image_from_array(np.zeros((700, 500, 3), np.uint8)))
    assert "another shape" in made.warnings[-1]
    same = np.zeros((shot.size[1] * 2, shot.size[0] * 2, 3), np.uint8)
    assert not attach_first_frame(shot, input_image_from_array(same))[0].warnings


@pytest.mark.parametrize("data", [{"size": [1, 2]}, {"nothing": 1}, "pad", {"scale": None}])
def test_a_size_fit_that_is_none_is_a_sentence(data: object) -> None:
    shot = grid_shot(count=2)
    if isinstance(data, dict):
        fit = fit_size((960, 540), (1.0, 1.0), (shot.size,))
        data = fit.to_dict() | data
    with pytest.raises(ShotError) as caught:
        size_fit_of(replace(shot, source={"size_fit": data}))
    assert caught.value.code == "bad-size-fit"


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), None, "x"])
def test_other_arrays_are_refused(array: object) -> None:
    with pytest.raises(ShotError) as caught:
        input_image_from_array(array)  # pyright: ignore[reportArgumentType]
    assert caught.value.code == "bad-image"


def test_a_large_picture_is_never_held_as_floats() -> None:
    """Rows are converted a few at a time: the most that is held is far less than three floats for each pixel."""
    import tracemalloc

    picture = input_image_from_array(np.zeros((2000, 3000, 3), np.uint8))
    assert isinstance(picture.header, ImageHeader)
    fit: SizeFit = fit_size((1920, 1080), (1.0, 1.0), ((144, 96),))
    tracemalloc.start()
    fit_image(picture, (144, 96), fit)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2000 * 3000 * 3 * 8 / 4
