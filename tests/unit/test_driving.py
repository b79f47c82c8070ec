# SPDX-License-Identifier: GPL-3.0-or-later
"""Driving footage: the figure is found, crops are steady, and what cannot drive a motion is a sentence."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.driving import box_of, puppet, wave, write_frames
from tests.helpers.footage import noise
from trackshade.core.errors import CancelledError, ShotError, UsageError
from trackshade.driving.crops import FILL, FLOOR, crop, crop_path
from trackshade.driving.figures import find_figures
from trackshade.driving.reading import DrivingClip, read_driving, read_picture_crop
from trackshade.motion.framing import focal_length, project
from trackshade.motion.request import DrivingRequest
from trackshade.results.video import write_video
from trackshade_lab.motion.figures import CAPSULE_ENDS, average_figure
from trackshade_lab.motion.motions import sample_motions
from trackshade_lab.motion.raster import Backdrops, render

SIZE, FPS = (48, 64), 8.0


def read(path: Path, **values: object) -> DrivingClip:
    return read_driving(path, DrivingRequest.from_dict(values), SIZE, FPS)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def shaken(background: np.ndarray, count: int) -> list[np.ndarray]:
    """Views of a background by a hand-held camera."""
    rng = np.random.default_rng(3)
    moves = np.cumsum(rng.normal(0, 1.2, (count, 2)), axis=0)
    return [
        cv2.warpAffine(background, np.array([[1, 0, x - 20], [0, 1, y - 20]]), (160, 120), flags=cv2.INTER_LINEAR)
        for x, y in moves
    ]


@pytest.mark.parametrize("kind", ["plain", "textured", "moving camera"])
def test_a_figure_is_found(kind: str) -> None:
    background = noise(5, (220, 180), 2.0, 30.0)
    if kind == "plain":
        frames, masks = wave(16)
    elif kind == "textured":
        frames, masks = wave(16, background=background, travel=60)
    else:
        views, frames_list, masks_list = shaken(background, 16), [], []
        for t, view in enumerate(views):
            frame = view.copy()
            masks_list.append(puppet(frame, (50 + 4 * t, 106), 84, 2 * np.pi * t / 15))
            frames_list.append(frame)
        frames, masks = np.stack(frames_list), np.stack(masks_list)
    found = find_figures(frames)
    assert len(found) == 1
    assert found[0].found.mean() > 0.7
    shared = [overlap(box, np.array(box_of(mask))) for box, mask in zip(found[0].boxes, masks, strict=True)
              if np.isfinite(box[0])]  # fmt: skip
    assert np.median(shared) > (0.85 if kind == "plain" else 0.6)


def test_nothing_is_found_where_nobody_is() -> None:
    plain = np.full((6, 90, 120, 3), 128, np.uint8)
    assert find_figures(plain) == []
    textured = np.stack([noise(2, (160, 120), 2.0)] * 6)
    assert find_figures(textured) == []


def test_furniture_that_reaches_into_the_picture_is_no_figure() -> None:
    frames, masks = wave(12, (240, 160), height=120)
    for frame, mask in zip(frames, masks, strict=True):
        mast = np.zeros(mask.shape, bool)
        mast[:140, 186:192] = mast[:140, 214:220] = mast[60:64, 170:] = True
        frame[mast & ~mask] = (30, 40, 35)
    found = find_figures(frames)
    assert len(found) == 1
    assert overlap(found[0].box, np.median([box_of(mask) for mask in masks], axis=0)) > 0.85


def test_a_person_who_touches_furniture_is_cropped_without_it() -> None:
    """A bar on the floor joins somebody and a mast at the border: one outline, which is no box of a figure."""
    size, count = (240, 320), 8
    points = average_figure().pose(sample_motions(np.random.default_rng(2), 1, motion="walk"))[0]
    plane, depth = project(points, np.full(count, 0.2), np.full(count, 0.1))
    focal = np.full(count, 0.75 * focal_length(size[1]))
    places = plane * focal[:, None, None] + (size[0] / 2, 0.55 * size[1])
    plain = Backdrops(
        np.full((count, 2, 3), 0.6), np.full((count, 3), 0.6), np.ones(count), np.full((count, 1, 8), -1.0),
        np.zeros((count, 2, 2, 3)), np.tile([0.3, -0.4, 0.8], (count, 1)),
    )  # fmt: skip
    radii = np.repeat(average_figure().radii, count, axis=0)
    colors = np.full((count, len(CAPSULE_ENDS), 3), (0.8, 0.2, 0.3))
    pictures, coverage = render(places, depth, focal, CAPSULE_ENDS, radii, colors, plain, size)
    frames = (255 * pictures).astype(np.uint8)
    frames[:, :276, 222:230] = frames[:, 268:274, 110:230] = 30
    (found,) = find_figures(frames)
    left, top, right, bottom = np.median([box_of(frame > 0.5) for frame in coverage], axis=0)
    assert left - 25 < found.box[0] < left
    assert right < found.box[2] < right + 25
    assert top - 25 < found.box[1] < bottom - 100


def test_crops_hold_the_figure_and_hardly_change() -> None:
    frames, masks = wave(24, travel=60)
    times = np.arange(24) / 24
    boxes = np.array([box_of(mask) for mask in masks])
    boxes[5] = np.nan
    path = crop_path(times, boxes, times, SIZE[0] / SIZE[1])
    assert np.ptp(path.heights) < 0.05 * path.heights.mean()
    cut = np.stack([crop(frame, path.centers[t], path.heights[t], SIZE) for t, frame in enumerate(frames)])
    kept = np.stack([
        crop(np.repeat(255 * mask[..., None].astype(np.uint8), 3, axis=2), path.centers[t], path.heights[t], SIZE)
        for t, mask in enumerate(masks)
    ])[..., 0] > 127  # fmt: skip
    assert cut.shape == (24, 64, 48, 3)
    for t, mask in enumerate(kept):
        left, top, right, bottom = box_of(mask)
        assert min(left, top, 48 - right) > 0, t
        assert bottom == pytest.approx(FLOOR * 64, abs=2), t
        assert mask.sum() == pytest.approx(masks[t].sum() * (64 / path.heights[t]) ** 2, rel=0.05), t
    assert np.median([np.ptp(np.flatnonzero(mask.any(axis=1))) for mask in kept]) <= FILL * 64 + 1


def test_boxes_of_something_else_do_not_move_the_crop() -> None:
    """In some frames the background is taken for a part of the figure, or a detail for all of it."""
    _, masks = wave(24, travel=60)
    times = np.arange(24) / 8
    boxes = np.array([box_of(mask) for mask in masks])
    right = crop_path(times, boxes, times, SIZE[0] / SIZE[1])
    boxes[16:19], boxes[22] = (0.0, 0.0, 160.0, 120.0), (60.0, 20.0, 66.0, 40.0)
    boxes[16:19] *= 4
    path = crop_path(times, boxes, times, SIZE[0] / SIZE[1])
    np.testing.assert_allclose(path.heights, right.heights, rtol=0.03)
    np.testing.assert_allclose(path.centers, right.centers, atol=4)


def test_a_crouch_and_an_approach_are_followed() -> None:
    """Boxes may be half as high for a while, and grow to three times their size."""
    times = np.arange(25) / 8
    tops = np.where((times > 1) & (times < 2), 60.0, 20.0)
    crouched = np.stack([np.full(25, 60.0), tops, np.full(25, 90.0), np.full(25, 100.0)], axis=1)
    path = crop_path(times, crouched, times, SIZE[0] / SIZE[1])
    np.testing.assert_allclose(path.heights, 80 / FILL, rtol=1e-6)
    size = np.linspace(40, 120, 25)
    nearer = np.stack([80 - size / 5, 130 - size, 80 + size / 5, np.full(25, 130.0)], axis=1)
    grown = crop_path(times, nearer, times, SIZE[0] / SIZE[1])
    assert grown.heights[-1] > 0.95 * 120 / FILL


def test_footage_of_any_rate_plays_at_the_models(tmp_path: Path) -> None:
    for rate in (7.3, 24, 60):
        frames, _ = wave(round(rate * 1.5) + 1)
        write_video(tmp_path / f"{rate}.mp4", frames, rate, lossless=True)
        clip = read(tmp_path / f"{rate}.mp4")
        assert len(clip.frames) == pytest.approx(13, abs=1)
        assert clip.warnings == ()
        np.testing.assert_array_equal(clip.reference, clip.frames[0])


def test_a_part_of_a_folder_of_pictures_is_read(tmp_path: Path) -> None:
    frames, masks = wave(25)
    folder = write_frames(tmp_path / "wave", frames)
    whole, part = read(folder, rate=24), read(folder, rate=24, start=0.25, end=0.75)
    assert (len(whole.frames), len(part.frames)) == (9, 5)
    assert part.start == pytest.approx(0.25)
    assert overlap(np.array(whole.box), np.median([box_of(mask) for mask in masks], axis=0)) > 0.85
    slow = read(folder, rate=12)
    assert len(slow.frames) == 17


def test_a_given_box_or_mask_wins(tmp_path: Path) -> None:
    frames, masks = wave(12)
    folder = write_frames(tmp_path / "wave", frames)
    box = (40.0, 20.0, 90.0, 110.0)
    assert read(folder, box=box).box == box
    Image.fromarray(np.uint8(255) * masks[0]).resize((320, 240)).save(tmp_path / "mask.png")
    assert read(folder, mask=str(tmp_path / "mask.png")).box == pytest.approx(box_of(masks[0]), abs=1)
    with pytest.raises(ShotError, match="outside"):
        read(folder, box=(500, 20, 600, 90))
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(ShotError, match="black everywhere"):
        read(folder, mask=str(tmp_path / "mask.png"))


def test_of_several_figures_one_is_chosen(tmp_path: Path) -> None:
    left, right = wave(12, (200, 120))[0], []
    for t, frame in enumerate(left):
        moved = np.roll(frame, -55, axis=1)
        puppet(moved, (150, 106), 80, t / 3)
        right.append(moved)
    folder = write_frames(tmp_path / "two", np.stack(right))
    with pytest.raises(ShotError) as caught:
        read(folder)
    assert caught.value.code == "several-figures"
    assert "1. at" in str(caught.value)
    assert "2. at" in str(caught.value)
    first, second = read(folder, person=1), read(folder, person=2)
    assert first.box[2] < second.box[0]
    with pytest.raises(ShotError, match="not 3"):
        read(folder, person=3)


def test_what_cannot_drive_a_motion_is_a_sentence(tmp_path: Path) -> None:
    frames, _ = wave(12)
    nobody = write_frames(tmp_path / "nobody", np.full((8, 90, 120, 3), 90, np.uint8))
    with pytest.raises(ShotError, match="No figure was found"):
        read(nobody)
    one = write_frames(tmp_path / "one", frames[:1])
    with pytest.raises(ShotError, match="one frame"):
        read(one)
    with pytest.raises(ShotError, match="single picture"):
        read(one / "frame 1.png")
    cut = write_frames(tmp_path / "cut", np.concatenate([frames, np.roll(wave(12, background=noise(9, (160, 120), 2.0))
                                                                         [0], 30, axis=2)]))  # fmt: skip
    with pytest.raises(ShotError) as caught:
        read(cut)
    assert caught.value.code == "cut-in-footage"
    assert "0.50 s" in str(caught.value)
    assert len(read(cut, end=0.45).frames) == 4
    with pytest.raises(ShotError, match="There is no file"):
        read(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShotError, match="no pictures"):
        read(tmp_path / "empty")
    for values in ({"start": 2, "end": 1}, {"box": (1, 1, 1, 1)}, {"person": 0}, {"mode": "dance"}, {"speed": 1}):
        with pytest.raises(UsageError):
            DrivingRequest.from_dict(values)
    with pytest.raises(CancelledError):
        read_driving(tmp_path / "cut", DrivingRequest(), SIZE, FPS, cancelled=lambda: True)


def test_pictures_of_any_name_are_read_and_bad_ones_are_told(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "wave", wave(6)[0])
    for number, name in enumerate(("x²1.png", "²2.png", "ß3.png"), 1):
        (folder / f"frame {number}.png").rename(folder / name)
    (folder / "._frame 4.png").write_bytes(b"of another system")
    assert len(read_driving(folder, DrivingRequest(), (48, 64), 24).frames) == 6
    good = (folder / "frame 4.png").read_bytes()
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + b"IHDR" + size + struct.pack(">I", zlib.crc32(b"IHDR" + size))
    for damaged in (good[:60], good.replace(b"IDAT", b"I\0AT"), good[:8] + header + good[33:], b"GIF89a", b""):
        (folder / "frame 4.png").write_bytes(damaged)
        for read in (lambda: read_driving(folder, DrivingRequest(), (48, 64), 24),
                     lambda: read_picture_crop(folder / "frame 4.png", None, (48, 64))):  # fmt: skip
            with pytest.raises(ShotError, match=r"frame 4\.png") as caught:
                read()
            assert caught.value.code == "bad-image"


def test_long_footage_is_trimmed_and_said_so(tmp_path: Path) -> None:
    frames, _ = wave(64, (96, 80), height=56)
    write_video(tmp_path / "long.mp4", np.tile(frames, (2, 1, 1, 1)), 1.0)
    clip = read(tmp_path / "long.mp4")
    assert len(clip.frames) == 60 * FPS + 1
    assert "60 s of 128 s" in clip.warnings[0]


def test_a_figure_that_is_gone_for_a_while_is_told_of(tmp_path: Path) -> None:
    plain = np.full((120, 160, 3), (120, 135, 150), np.uint8)
    frames = np.repeat(plain[None], 60, axis=0)
    for t, frame in enumerate(frames):  # it walks out of the picture, and comes back
        puppet(frame, (60 + 160 * np.sin(np.pi * t / 59), 106), 84, t / 3)
    gone = np.flatnonzero((frames == plain).all(axis=(1, 2, 3))) / 24
    path = write_frames(tmp_path / "walk", frames)
    (warning,) = read_driving(path, DrivingRequest(), SIZE, 24).warnings
    found = re.search(r"not found in walk between ([\d.]+) s and ([\d.]+) s", warning)
    assert found is not None
    assert [float(time) for time in found.groups()] == pytest.approx(
        [gone[0], gone[-1]], abs=0.25
    )  # a tenth of a second apart
    assert not read_driving(path, DrivingRequest(box=(20, 10, 140, 115)), SIZE, 24).warnings


def test_a_reference_is_cropped_around_its_figure(tmp_path: Path) -> None:
    frames, _ = wave(2, (300, 240), height=120)
    Image.fromarray(frames[0]).save(tmp_path / "hero.png")
    picture, is_cut = read_picture_crop(tmp_path / "hero.png", None, SIZE)
    assert not is_cut
    rows = np.flatnonzero(np.abs(picture.astype(int) - picture[0, 0]).max(axis=(1, 2)) > 20)
    assert np.ptp(rows) == pytest.approx(FILL * 64, abs=3)
    Image.fromarray(np.full((80, 60, 3), 90, np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises(ShotError) as caught:
        read_picture_crop(tmp_path / "empty.png", None, SIZE)
    assert caught.value.code == "no-reference-figure"
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ShotError, match="cannot be read"):
        read_picture_crop(tmp_path / "text.png", None, SIZE)


def test_a_still_is_frozen_for_a_novel_view(tmp_path: Path) -> None:
    frames, _ = wave(12)
    folder = write_frames(tmp_path / "wave", frames)
    write_video(tmp_path / "wave.mp4", frames, 24, lossless=True)
    for source in (folder / "frame 1.png", folder, tmp_path / "wave.mp4"):
        clip = read(source, mode="novel-view")
        assert clip.frames.shape == (1, 64, 48, 3)
        np.testing.assert_array_equal(clip.frames[0], clip.reference)
