# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of propagated frames against cases whose answers are known, and which pixels the first frame shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trackshade.core.errors import ShotError, UsageError
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot
from trackshade_lab.evaluation.propagation.arms import ARMS, EvalCase, interpolate, parse_arms, resize_shot
from trackshade_lab.evaluation.propagation.dataset import open_scene
from trackshade_lab.evaluation.propagation.measures import (
    COLUMNS,
    Reference,
    flicker,
    gradient_ratio,
    measure,
    patch_distance,
)
from trackshade_lab.evaluation.propagation.report import format_report, summarize, write_strip
from trackshade_lab.evaluation.propagation.surfaces import SampleViews

SIZE = (48, 32)
FOCAL = 40.0  # pixels
WALL, CARD = 4.0, 2.0  # metres from the camera


def sheet(half: float) -> Geometry:
    """A square in the plane z = 0, `half` metres from its center to a side."""
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32) * np.float32(half)
    return Geometry(corners[None], np.array([[0, 1, 2], [0, 2, 3]], np.int32))


def moving_shot(shifts: list[float], card: float = 0.3, orthographic: bool = False) -> Shot:
    """A small card before a wall of 3 × 3 metres; the camera looks along z and moves along x to each of `shifts`."""
    count = len(shifts)
    k = np.array([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1.0]])
    to_camera = np.tile(np.eye(4), (count, 1, 1))
    to_camera[:, 0, 3] = -np.array(shifts)
    matrices = np.tile(np.eye(4), (2, count, 1, 1))
    matrices[0, :, 2, 3], matrices[1, :, 2, 3] = WALL, CARD
    camera = CameraTrack(
        "Camera", ("Camera",) * count, np.tile(k, (count, 1, 1)), to_camera,
        np.full(count, orthographic), np.tile([0.1, 100.0], (count, 1)),
    )  # fmt: skip
    visible = np.ones(count, bool)
    meshes = (MeshTrack("Wall", 0, matrices[0], visible), MeshTrack("Card", 1, matrices[1], visible))
    return Shot(np.arange(count) + 1.0, 24.0, SIZE, camera, (sheet(1.5), sheet(card)), meshes)


def test_the_first_frame_knows_all_that_it_shows():
    places = SampleViews(moving_shot([0.0, 0.1]), (0, 1)).first_frame_places(0)
    assert places.known.all()
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    np.testing.assert_allclose(places.position, np.stack([columns, rows], axis=-1), atol=1e-3)


def test_places_shift_with_the_parallax():
    """A camera that moves by 0.2 m shifts the wall by 2 pixels, the card by 4, and the background not at all."""
    places = SampleViews(moving_shot([0.0, 0.2]), (0, 1)).first_frame_places(1)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    for mesh, distance in ((0, WALL), (1, CARD), (-1, np.inf)):
        seen = places.known & (places.mesh == mesh)
        assert seen.sum() > 20
        np.testing.assert_allclose(places.position[seen][:, 0], columns[seen] + FOCAL * 0.2 / distance, atol=1e-3)
        np.testing.assert_allclose(places.position[seen][:, 1], rows[seen], atol=1e-3)


def test_what_the_card_hid_is_unseen():
    """The card hid columns 18 to 30 of rows 10 to 22; behind it the wall is seen two pixels beside where it was."""
    places = SampleViews(moving_shot([0.0, 0.2]), (0, 1)).first_frame_places(1)
    hidden = np.zeros_like(places.known)
    hidden[10:22, 16:28] = True  # where the wall behind the card is now
    hidden &= places.mesh == 0
    assert hidden.sum() == 12 * 2  # the card itself moved four pixels
    assert not places.known[hidden].any()
    beside = ~hidden & (places.mesh >= 0)
    assert places.known[beside].mean() > 0.97  # but for rims


def test_background_that_the_wall_hid_is_unseen():
    """The right edge of the wall moves from column 39 to column 37."""
    places = SampleViews(moving_shot([0.0, 0.2]), (0, 1)).first_frame_places(1)
    assert (places.mesh[1:31, 37:] == -1).all()
    assert not places.known[1:31, 37:39].any()
    assert places.known[:, 40:].all()


def test_an_orthographic_camera_moves_everything_alike():
    shot = moving_shot([0.0, 0.05], orthographic=True)
    places = SampleViews(shot, (0, 1)).first_frame_places(1)
    columns = np.arange(SIZE[0]) + 0.5
    seen = places.known & (places.mesh >= 0)
    assert seen.mean() > 0.5
    shift = (places.position[..., 0] - columns)[seen]
    np.testing.assert_allclose(shift, FOCAL * 0.05, atol=1e-3)


def test_the_back_of_a_sheet_is_not_its_front():
    shot = moving_shot([0.0, 0.0])
    matrix = shot.meshes[1].matrix_world.copy()
    matrix[1, 0, 0] = matrix[1, 2, 2] = -1.0  # turned around by half a turn
    turned = MeshTrack("Card", 1, matrix, np.ones(2, bool))
    shot = Shot(shot.frame_numbers, 24.0, SIZE, shot.camera, shot.geometries, (shot.meshes[0], turned))
    places = SampleViews(shot, (0, 1)).first_frame_places(1)
    assert not places.known[places.mesh == 1].any()
    assert places.known[places.mesh == 0].all()


def test_points_are_followed_to_where_they_are():
    points = SampleViews(moving_shot([0.0, 0.1, 0.2]), (0, 2)).follow(400)
    assert points.position.shape[1:] == (2, 2)
    both = points.visible.all(axis=1)
    assert both.sum() > 100
    shift = (points.position[both, 0] - points.position[both, 1])[:, 0]
    assert np.isclose(shift, FOCAL * 0.2 / WALL, atol=1e-3).any()
    assert np.isclose(shift, FOCAL * 0.2 / CARD, atol=1e-3).any()
    np.testing.assert_array_equal(points.known, points.visible[:, 0])


def noise(sigma: float, seed: int, shape: tuple[int, ...] = (2, 40, 40, 3)) -> np.ndarray:
    return np.random.default_rng(seed).normal(128.0, sigma, shape)


def test_patches_of_equal_images_have_no_distance():
    images, mask = noise(20, 0), np.ones((2, 40, 40), bool)
    assert patch_distance(images, images, mask) == 0
    assert patch_distance(images, images + 30, mask) == pytest.approx(0, abs=1e-3)  # mean colors do not count


def test_the_distance_of_noise_from_a_flat_color_is_its_mean_absolute_value():
    """Along a unit direction, noise of patches without their means is normal with sigma √(24/25)."""
    sigma, mask = 12.0, np.ones((2, 40, 40), bool)
    expected = sigma * np.sqrt(24 / 25) * np.sqrt(2 / np.pi)
    assert patch_distance(noise(sigma, 0), np.full((2, 40, 40, 3), 128.0), mask) == pytest.approx(expected, rel=0.05)
    other = patch_distance(noise(sigma, 0), noise(sigma, 1), mask)  # another sample of the same texture
    assert other < 0.15 * expected


def test_patches_are_those_of_the_mask():
    images, mask = noise(20, 0), np.zeros((2, 40, 40), bool)
    mask[:, :20] = True
    other = images.copy()
    other[:, 22:] = 0  # beyond the patches around the masked pixels
    assert patch_distance(images, other, mask) == 0
    assert np.isnan(patch_distance(images, other, np.zeros_like(mask)))


def test_gradient_ratio():
    images, mask = noise(20, 0), np.ones((2, 40, 40), bool)
    assert gradient_ratio(images, 128 + 0.5 * (images - 128), mask) == pytest.approx(0.25)
    mask[:, 20:] = False
    changed = images.copy()
    changed[:, 20:] = 0
    assert gradient_ratio(images, changed, mask) == pytest.approx(1)


def test_flicker_of_a_known_amplitude():
    truth = np.full((4, 8, 8, 3), 100.0)
    images = truth + np.array([6.0, -6.0, 6.0, -6.0])[:, None, None, None]
    position, visible = np.full((5, 4, 2), 3.7), np.ones((5, 4), bool)
    assert flicker(truth, images, position, visible) == pytest.approx(6 * np.sqrt(4 / 3))
    assert flicker(images, truth, position, visible) == pytest.approx(-6 * np.sqrt(4 / 3))
    visible[:, 1::2] = False
    assert flicker(truth, images, position, visible) == 0
    visible[:, 1:] = False
    assert np.isnan(flicker(truth, images, position, visible))


def test_flicker_is_measured_at_the_moving_point():
    """A gradient that moves with the point does not flicker."""
    columns = np.arange(16.0)[:, None] * np.array([1.0, 1.0, 1.0])
    images = np.stack([np.broadcast_to(10 * columns + shift * 10, (8, 16, 3)) for shift in (0.0, 2.0)])
    position = np.array([[[7.25, 4.0], [5.25, 4.0]]])
    assert flicker(np.zeros_like(images), images, position, np.ones((1, 2), bool)) == pytest.approx(0, abs=1e-9)


def test_known_and_unseen_pixels_are_measured_apart():
    truth = np.random.default_rng(0).integers(40, 200, (3, *SIZE[::-1], 3)).astype(np.uint8)
    known = np.ones((3, *SIZE[::-1]), bool)
    known[1:, :, 24:] = False
    images = truth.copy()
    images[0] = 0  # the first frame does not count
    images[1:, :, :24] += 4
    images[1:, :, 24:] += 20
    points = SampleViews(moving_shot([0.0, 0.1, 0.2]), (0, 1, 2)).follow(200)
    figures = measure(Reference(truth, known, points), images)
    assert set(figures) <= set(COLUMNS)
    assert figures["psnr_known"] == pytest.approx(20 * np.log10(255 / 4))
    assert figures["psnr_unseen"] == pytest.approx(20 * np.log10(255 / 20))
    assert figures["psnr"] == pytest.approx(20 * np.log10(255 / np.sqrt((4**2 + 20**2) / 2)))
    assert figures["gradient_unseen"] == pytest.approx(1)
    assert 0 < figures["swd_unseen"] < 2  # of patches across the border of the two halves
    assert figures["ssim_unseen"] < figures["ssim"] < 1


def test_nothing_unseen_is_nan():
    truth = np.random.default_rng(0).integers(0, 255, (2, *SIZE[::-1], 3)).astype(np.uint8)
    points = SampleViews(moving_shot([0.0, 0.1]), (0, 1)).follow(50)
    figures = measure(Reference(truth, np.ones((2, *SIZE[::-1]), bool), points), truth)
    assert np.isnan(figures["psnr_unseen"])
    assert np.isnan(figures["ssim_unseen"])
    assert figures["psnr"] > 100
    assert figures["ssim"] == pytest.approx(1)


def test_in_betweens_are_halfway():
    rows, columns = np.mgrid[:64, :96]

    def image(shift: float) -> np.ndarray:
        level = 128 + 90 * np.exp(-((columns - 40 - shift) ** 2 + (rows - 32) ** 2) / 60)
        return np.repeat(level[..., None], 3, axis=2).astype(np.uint8)

    made = interpolate(np.stack([image(0), image(8)]), [0, 4], [0, 2, 3, 4], (96, 64))
    np.testing.assert_array_equal(made[[0, 3]], [image(0), image(8)])
    for index, shift in ((1, 4), (2, 6)):
        error = np.abs(made[index].astype(int) - image(shift)).mean()
        assert error < 0.2 * np.abs(image(0).astype(int) - image(shift)).mean()


def test_shots_change_their_size():
    shot = moving_shot([0.0, 0.1])
    resized = resize_shot(shot, (96, 32))
    assert resized.size == (96, 32)
    np.testing.assert_allclose(resized.camera.intrinsics[0], [[80, 0, 48], [0, 40, 16], [0, 0, 1]])


def test_unknown_arms_are_refused():
    assert parse_arms("flat,still") == ("flat", "still")
    assert parse_arms(None) == tuple(ARMS)
    with pytest.raises(UsageError, match="no arm 'flatt'"):
        parse_arms("flat,flatt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scene whose true frames are the wall in red and the card in green, on black, with light that halves."""
    shot = moving_shot([0.0, 0.1, 0.2])
    shot.save(tmp_path / "scene.shot")
    colors = np.array([[200, 40, 40], [40, 200, 40], [0, 0, 0]], np.uint8)  # of the wall, the card, the background
    for part in ("truth", "clay"):
        (tmp_path / part).mkdir()
    for t in (0, 2):
        mesh = SampleViews(shot, (0, t) if t else (0,)).first_frame_places(t).mesh
        Image.fromarray(colors[mesh]).save(tmp_path / "truth" / f"{t:04d}.png")
        np.save(tmp_path / "clay" / f"{t:04d}.npy", np.full((16, 24, 3), 0.5, np.float16))
    return tmp_path


def test_a_scene_is_read(folder: Path):
    scene = open_scene(folder, "wall")
    assert (scene.name, scene.truth, scene.video) == ("wall", (0, 2), ())
    assert scene.frames.shape == (2, 32, 48, 3)
    assert scene.light(2).dtype == np.float32
    assert scene.light(2).shape == (16, 24, 3)


@pytest.mark.parametrize("lost", ["scene.shot", "truth/0000.png", "truth/0002.png", "clay/0002.npy"])
def test_a_scene_that_is_not_complete_is_refused(lost: str, folder: Path):
    (folder / lost).unlink()
    with pytest.raises(ShotError, match="true frames"):
        open_scene(folder)


@pytest.mark.parametrize("arm", ["push-pull", "flat", "unlit", "full"])
def test_plain_surfaces_are_carried_exactly(arm: str, folder: Path):
    """Each mesh has one color, so that every way of filling is right but at rims."""
    case = EvalCase(open_scene(folder), threads=1)
    result = ARMS[arm].make(case)
    assert result is not None
    error = np.abs(result.images[1].astype(int) - case.scene.frames[1]).max(axis=-1)
    assert np.median(error) <= 1
    assert (error > 8).mean() < 0.06


def test_arms_that_need_a_video_are_left_out(folder: Path):
    case = EvalCase(open_scene(folder))
    assert ARMS["video"].make(case) is None
    assert ARMS["video-flow"].make(case) is None


def test_the_video_is_enlarged(folder: Path):
    (folder / "video").mkdir()
    scene = open_scene(folder)
    for t in (0, 2):
        Image.fromarray(scene.picture(t)).resize((24, 16)).save(folder / "video" / f"{t:04d}.png")
    case = EvalCase(open_scene(folder), threads=1)
    for arm in ("video", "video-flow"):
        result = ARMS[arm].make(case)
        assert result is not None
        assert result.images.shape == scene.frames.shape
        assert np.abs(result.images[1].astype(int) - scene.frames[1]).mean() < 12


def record(name: str, **psnr: float) -> dict:
    arms = {arm: {"psnr": value, "psnr_unseen": float("nan")} for arm, value in psnr.items()}
    return {"name": name, "frames": 3, "shot_frames": 9, "unseen": 0.25, "arms": arms}


def test_tables():
    records = [record("one", full=30.0, flat=20.0), record("two", full=34.0, flat=26.0), record("three", full=26.0)]
    summary = summarize(records)
    rows = {row["id"]: row for row in summary["arms"]}
    assert list(rows) == ["flat", "full"]
    assert rows["full"]["psnr"]["mean"] == pytest.approx(30)
    assert rows["flat"]["psnr"]["clips"] == 2
    assert rows["full"]["psnr"]["low"] <= 30 <= rows["full"]["psnr"]["high"]
    (difference,) = summary["differences"]
    assert difference["psnr"]["mean"] == pytest.approx(9)  # of the two scenes that have both
    text = format_report(records, summary, {"size": "48×32", "seed": 0})
    assert "| three | – | 26.00 |" in text
    assert "two: 3 true frames of 9, 25% unseen" in text


def test_a_strip_shows_truth_image_and_difference(tmp_path: Path):
    truth, known = np.full((20, 30, 3), 100, np.uint8), np.ones((20, 30), bool)
    known[:, 15:] = False
    image = truth + np.uint8(10)
    write_strip(tmp_path / "strip.png", truth, image, known, "made")
    pixels = np.asarray(Image.open(tmp_path / "strip.png"))[-20:]
    assert pixels.shape == (20, 90, 3)
    assert (pixels[:, :30] == 100).all()
    assert (pixels[:, 30:60] == 110).all()
    assert (pixels[:, 60:75] == 40).all()
    assert (pixels[:, 75] == (255, 200, 0)).all()
