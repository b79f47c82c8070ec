# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifting a photo: objects, what is behind them, files of depth, and input that cannot be used."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.lifted_rooms import (
    BOX,
    EYE,
    FOCAL,
    FOV,
    HEIGHT,
    LOOKING_DOWN,
    WIDTH,
    X,
    Y,
    areas,
    board,
    camera,
    lift,
    mesh_of,
    pixels_of,
    room,
    with_board,
    write_depth,
    write_mask,
    write_photo,
)
from trackshade.cli import backend_tasks
from trackshade.cli.image_decoder import decode
from trackshade.core.errors import CancelledError, ShotError, TrackshadeError, UsageError
from trackshade.lifting import lift_image
from trackshade.lifting.holes import continue_behind
from trackshade.shot.lift_request import LiftRequest, ObjectBox
from trackshade.shot.lifted import LiftedScene, Perspective


def test_floor_and_wall_are_continued_behind_an_object() -> None:
    filled = continue_behind(with_board(room()), board(), X, Y)
    assert np.abs(filled / room() - 1)[board()].max() < 1e-6
    assert (filled[~board()] == with_board(room())[~board()]).all()


# Depth files


def test_a_photo_with_depth_becomes_meshes_that_show_it(tmp_path: Path) -> None:
    photo = write_photo(tmp_path)
    inverse = with_board(room())
    inverse[:8, 60:] = 0  # sky
    with np.errstate(divide="ignore"):
        depth = write_depth(tmp_path, 1 / inverse)
    scene = lift(photo, depth=depth, masks=(write_mask(tmp_path, board()),), fov=FOV)
    assert [mesh.name for mesh in scene.meshes] == ["Background", "Sky", "board"]
    assert [mesh.kind for mesh in scene.meshes] == ["background", "sky", "object"]
    assert scene.intrinsics[0, 0] == pytest.approx(FOCAL)
    assert scene.notes["metric"]
    # The ground that the depth shows is the world's, and the camera's tilt is found by it.
    center = np.linalg.inv(scene.world_to_camera[0])[:3, 3]
    assert center == pytest.approx([0, 0, EYE], abs=1e-3)
    assert scene.world_to_camera[0][2, 2] == pytest.approx(math.sin(LOOKING_DOWN), abs=1e-3)
    total, corners = 0.0, []
    for mesh in scene.meshes:
        pixels = pixels_of(scene, mesh)
        corners += [pixels.min(axis=0), pixels.max(axis=0)]
        found = areas(pixels, mesh.triangles)
        assert found.min() > 0
        total += 0 if mesh.kind == "object" else found.sum()
    # Without gaps and overlaps, in the picture and beyond it.
    extent = np.ptp(corners, axis=0)
    assert total == pytest.approx(extent[0] * extent[1], rel=1e-4)
    assert (extent > 2 * np.array([WIDTH, HEIGHT])).all()
    foot = mesh_of(scene, "board").pivot
    assert foot[1] == pytest.approx(3.5, abs=0.1)


def test_surfaces_continue_beyond_the_picture(tmp_path: Path) -> None:
    """A floor and walls stay floor and walls, as far as they are clear at the border."""
    depth = write_depth(tmp_path, 1 / room())
    scene = lift(write_photo(tmp_path), depth=depth, fov=FOV)
    positions = mesh_of(scene, "Background").positions[0]
    pixels = pixels_of(scene, mesh_of(scene, "Background"))
    below = (pixels[:, 1] > HEIGHT + 4) & (np.abs(pixels[:, 0] - WIDTH / 2) < WIDTH / 4)
    assert below.sum() > 20
    assert np.abs(positions[below, 2]).max() < 0.05
    beside = (pixels[:, 0] > WIDTH + 4) & (np.abs(pixels[:, 1] - HEIGHT / 2) < 4)
    assert beside.sum() > 5
    assert np.abs(positions[beside, 0] - 2.5).max() < 0.1


def test_what_the_border_cuts_off_does_not_become_a_wall(tmp_path: Path) -> None:
    """The side of a box at the border is seen over 0.4 m: it comes nearer by no more than that beyond the border."""
    right, down, away = np.moveaxis(camera().scene_rays(X, Y[:, None]), -1, 0)
    inverse = np.maximum.reduce([down / EYE, away / 12.0, 0 * right])
    side = -right / 1.5  # of a wall that stands 2.5 m to 2.9 m away
    box = (side < away / 2.5) & (side > away / 2.9) & (down / EYE < side)
    inverse = np.where(box, side, inverse)
    assert box[:, 0].any()
    scene = lift(write_photo(tmp_path), depth=write_depth(tmp_path, 1 / inverse), fov=FOV)
    mesh = mesh_of(scene, "Background")
    pixels, rows = pixels_of(scene, mesh), np.flatnonzero(box[:, 0])
    beside = (pixels[:, 0] < -1) & (pixels[:, 1] > rows[0] + 6) & (pixels[:, 1] < rows[-1] - 6)
    assert beside.sum() > 5
    assert mesh.positions[0][beside, 1].min() > 1.9


def test_what_is_behind_objects_can_be_left_out(tmp_path: Path) -> None:
    photo, mask = write_photo(tmp_path), write_mask(tmp_path, board())
    depth = write_depth(tmp_path, 1 / with_board(room()))
    covered = {}
    for behind in ("fill", "none"):
        scene = lift(photo, depth=depth, masks=(mask,), fov=FOV, behind=behind)
        background = mesh_of(scene, "Background")
        covered[behind] = areas(pixels_of(scene, background), background.triangles).sum()
    assert covered["fill"] - covered["none"] == pytest.approx(22 * 22, abs=8)  # its corners are round


def test_a_mask_that_is_a_little_too_small_leaves_no_rim_behind(tmp_path: Path) -> None:
    small = board()
    small[BOX[0].stop - 1] = small[:, BOX[1].start] = False
    scene = lift(
        write_photo(tmp_path),
        depth=write_depth(tmp_path, 1 / with_board(room())),
        masks=(write_mask(tmp_path, small),),
        fov=FOV,
    )
    background = mesh_of(scene, "Background").positions[0]
    on_board = np.abs(background - mesh_of(scene, "board").positions[0].mean(axis=0)).max(axis=1) < 1.0
    assert on_board.sum() == 0


@pytest.mark.parametrize("kind", ["distance", "inverse", "png", "exr"])
def test_kinds_of_depth_files(tmp_path: Path, kind: str) -> None:
    """All of them give the same shape; those without a unit get their scale from the camera's height."""
    inverse = with_board(room())
    photo, wanted = write_photo(tmp_path), {"fov": FOV, "stride": 1}
    truth = lift(photo, depth=write_depth(tmp_path, 1 / inverse), **wanted).meshes[0]
    if kind == "distance":
        path = write_depth(tmp_path, np.linalg.norm(camera().rays(X, Y[:, None]), axis=-1) / inverse)
        wanted |= {"depth_kind": "distance"}
    elif kind == "inverse":
        path = write_depth(tmp_path, inverse * 37)
        wanted |= {"depth_kind": "inverse"}
    elif kind == "png":
        path = str(tmp_path / "depth.png")
        Image.fromarray(np.round(inverse / inverse.max() * 65535).astype(np.uint16)).save(path)
    else:
        import OpenImageIO as oiio

        path = str(tmp_path / "depth.exr")
        spec = oiio.ImageSpec(WIDTH, HEIGHT, 1, oiio.FLOAT)
        spec.channelnames = ("View Layer.Depth.Z",)
        output = oiio.ImageOutput.create(path)
        output.open(path, spec)
        output.write_image((1 / inverse).astype(np.float32)[..., None])
        output.close()
    found = lift(photo, depth=path, **wanted).meshes[0]
    assert found.positions[0].min(axis=0) == pytest.approx(truth.positions[0].min(axis=0), abs=0.05)
    assert found.positions[0].max(axis=0) == pytest.approx(truth.positions[0].max(axis=0), abs=0.05)


def test_the_camera_height_sets_the_scale(tmp_path: Path) -> None:
    photo, depth = write_photo(tmp_path), write_depth(tmp_path, 1 / room())
    found = [lift(photo, depth=depth, fov=FOV, camera_height=height).meshes[0].positions for height in (1.6, 3.2)]
    assert np.allclose(found[1], 2 * found[0], rtol=1e-3, atol=1e-3)


# Without depth


def photos() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    rows = np.linspace(90, 250, HEIGHT)[:, None, None] * np.ones((1, WIDTH, 1))
    return {
        "flat": np.full((HEIGHT, WIDTH, 3), 128, np.uint8),
        "noise": rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8),
        "sky": np.concatenate([rows * 0.6, rows * 0.8, rows], axis=2).astype(np.uint8),
        "tiny": rng.integers(0, 256, (8, 8, 3)).astype(np.uint8),
        "gray": rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8),
        "deep": rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16),
        "transparent": rng.integers(1, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8),
        "narrow": rng.integers(0, 256, (120, 12, 3)).astype(np.uint8),
    }


@pytest.mark.parametrize("kind", list(photos()))
def test_any_picture_becomes_a_scene_and_what_is_doubtful_is_said(tmp_path: Path, kind: str) -> None:
    scene = lift(write_photo(tmp_path, photos()[kind]))
    assert any(mesh.kind == "ground" for mesh in scene.meshes)
    assert scene.perspective is not None
    assert not scene.perspective.horizon_sure
    assert any("horizon" in sentence for sentence in scene.warnings)
    assert LiftedScene.load(scene.save(tmp_path / "scene.lifted")).warnings == scene.warnings


def test_metadata_turns_the_picture_and_gives_its_focal_length(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.fromarray(photos()["noise"]).save(path, exif=exif)
    scene = lift(path)
    assert scene.size == (HEIGHT, WIDTH)
    assert scene.intrinsics[0, 0] == pytest.approx(26 / 43.27 * math.hypot(WIDTH, HEIGHT))
    assert scene.perspective is not None
    assert scene.perspective.focal_sure


def test_a_scene_linear_picture_is_read(tmp_path: Path) -> None:
    import OpenImageIO as oiio

    path = str(tmp_path / "photo.exr")
    output = oiio.ImageOutput.create(path)
    output.open(path, oiio.ImageSpec(WIDTH, HEIGHT, 3, oiio.HALF))
    output.write_image(photos()["noise"].astype(np.float32) / 16)
    output.close()
    assert lift(Path(path)).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("mask-size", {"masks": [np.ones((8, 9), bool)]}),
        ("empty-mask", {"masks": [np.zeros((HEIGHT, WIDTH), bool)]}),
        ("no-depth", {"depth": np.zeros((HEIGHT, WIDTH))}),
        ("no-depth", {"depth": np.full((HEIGHT, WIDTH), np.nan)}),
        ("no-depth", {"depth": np.full((HEIGHT, WIDTH), np.inf)}),
        ("depth-size", {"depth": np.ones((HEIGHT, HEIGHT))}),
        ("bad-depth", {"depth": np.ones((HEIGHT, WIDTH, 3))}),
    ],
)
def test_input_that_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path, code: str, wanted: dict) -> None:
    masks = tuple(write_mask(tmp_path, mask, f"{i}.png") for i, mask in enumerate(wanted.get("masks", ())))
    depth = write_depth(tmp_path, wanted["depth"]) if "depth" in wanted else None
    with pytest.raises(ShotError) as raised:
        lift(write_photo(tmp_path), masks=masks, depth=depth)
    assert raised.value.code == code
    assert raised.value.fix


@pytest.mark.parametrize("kind", ["constant", "inverted", "partly NaN", "one pixel", "tiny values"])
def test_strange_depth_becomes_a_scene_with_a_warning(tmp_path: Path, kind: str) -> None:
    depth = 1 / room()
    if kind == "constant":
        depth[:] = 5
    elif kind == "inverted":
        depth = 1 / depth
    elif kind == "partly NaN":
        depth[10:30, 10:30] = np.nan
    elif kind == "one pixel":
        depth[:] = 0
        depth[40, 40] = 2
    else:
        depth *= 1e-6
    scene = lift(write_photo(tmp_path), depth=write_depth(tmp_path, depth), fov=FOV)
    assert scene.meshes
    expected = {"constant": "flat", "inverted": "inverted", "partly NaN": "not numbers", "tiny values": "unit"}.get(
        kind, ""
    )
    assert any(expected in sentence for sentence in scene.warnings)


def test_masks_that_overlap_are_told_of(tmp_path: Path) -> None:
    masks = (write_mask(tmp_path, board(), "a.png"), write_mask(tmp_path, board(), "b.png"))
    scene = lift(write_photo(tmp_path), depth=write_depth(tmp_path, 1 / with_board(room())), masks=masks)
    assert [mesh.name for mesh in scene.meshes if mesh.kind == "object"] == ["a"]
    assert any("b.png" in sentence and "left out" in sentence for sentence in scene.warnings)


def test_a_picture_of_an_unsupported_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(ShotError, match="HEIF"):
        lift(path)


@pytest.mark.parametrize(
    "wanted",
    [
        {"no such": 1},
        {"fov": 0},
        {"fov": "wide"},
        {"behind": "maybe"},
        {"boxes": [{"rectangle": [5, 5, 5, 9]}]},
        {"boxes": [{}]},
        {"stride": 0},
        {"depth_kind": "far"},
        {"camera_height": -1},
        {"perspective": {"focal": 5}},
    ],
)
def test_settings_that_are_not_valid_are_named(wanted: dict) -> None:
    with pytest.raises(UsageError) as raised:
        LiftRequest.from_dict(wanted)
    assert "Error" not in raised.value.message


def test_requests_survive_json() -> None:
    handles = Perspective(((0, 5), (96, 6)), (40, 5), (10, 0, 80, 50), 80.0, indoors=True)
    box = ObjectBox((1, 2, 30, 40), "chair", 39.0, 2.5)
    request = LiftRequest("d.exr", "distance", 0.001, None, ("a.png",), (box,), 60.0, handles, None, 1.7, 8, "none")
    assert LiftRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


def test_the_task_writes_the_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = write_depth(tmp_path, 1 / room())
    out = tmp_path / "scene.lifted"
    result = backend_tasks.lift(str(write_photo(tmp_path)), json.dumps({"depth": depth, "fov": FOV}), str(out))
    assert result["meshes"] == ["Background"]
    assert LiftedScene.load(out).meshes
    assert "building the meshes" in capsys.readouterr().out
    with pytest.raises(UsageError):
        backend_tasks.lift(str(tmp_path / "photo.png"), "[]", str(out))


def test_it_can_be_cancelled(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        lift_image(write_photo(tmp_path), LiftRequest(), cancelled=lambda: True, decode=decode)
    assert issubclass(CancelledError, TrackshadeError)
