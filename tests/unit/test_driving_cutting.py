# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures before cluttered backgrounds are cut out; crops before plain ones stay as they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.driving import box_of, puppet, wave, write_frames
from tests.helpers.footage import noise
from trackshade.core.errors import CancelledError
from trackshade.core.images import write_png
from trackshade.driving.crops import FILL, FLOOR
from trackshade.driving.cutting import CUT_SIZE, GRAY, cut_figure, figure_masks, is_cluttered
from trackshade.driving.reading import read_driving
from trackshade.motion.request import DrivingRequest

SIZE = (48, 64)
HEIGHT = FILL * CUT_SIZE[1]
FEET = (CUT_SIZE[0] / 2, FLOOR * CUT_SIZE[1])


def crops(background: np.ndarray, count: int = 8, pan: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return crops [T, h, w, 3] of a puppet before a background that passes by, and its masks [T, h, w]."""
    frames, masks = [], []
    for t in range(count):
        left = round(pan * t)
        frame = background[: CUT_SIZE[1], left : left + CUT_SIZE[0]].copy()
        masks.append(puppet(frame, FEET, HEIGHT, 2 * np.pi * t / count))
        frames.append(frame)
    return np.stack(frames), np.stack(masks)


def bars(width: int = 260) -> np.ndarray:
    """Return a background of bars of several colors, [h, w, 3] uint8."""
    image = noise(3, (width, CUT_SIZE[1]), 1.5, 25.0)
    rng = np.random.default_rng(2)
    for left in range(4, width, 22):
        cv2.line(image, (left, 0), (left + int(rng.integers(-30, 30)), 192), rng.integers(0, 255, 3).tolist(), 5)
    return image


def small(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA) for frame in frames])


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of masks."""
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("pan", [0.0, 9.0])
def test_a_figure_is_cut_out_of_clutter(pan: float) -> None:
    frames, masks = crops(bars(), pan=pan)
    shares = [overlap(one, other) for one, other in zip(figure_masks(frames), masks, strict=True)]
    assert np.mean(shares) > 0.8
    assert min(shares) > 0.7


def test_a_plain_background_stays() -> None:
    plain = np.full((CUT_SIZE[1], CUT_SIZE[0], 3), (120, 135, 150), np.uint8)
    plain[130:] = (80, 90, 70)
    cv2.rectangle(plain, (0, 40), (50, 110), (200, 60, 40), -1)
    frames, _ = crops(plain)
    assert not is_cluttered(frames)
    pictures = small(frames)
    assert cut_figure(frames, [pictures])[0] is pictures
    assert is_cluttered(crops(bars())[0])


def test_a_frame_whose_cut_is_implausible_stays() -> None:
    """Colors all over the picture that are those of its middle: no outline is a figure's."""
    (frame,) = np.random.default_rng(1).integers(0, 255, (1, CUT_SIZE[1], CUT_SIZE[0], 3), np.uint8)
    frame = cv2.resize(frame[::12, ::12], CUT_SIZE, interpolation=cv2.INTER_NEAREST)
    frame[20:175, 16:128] = (250, 20, 20)
    mask = figure_masks(frame[None])[0]
    assert mask.mean() > 0.4
    pictures = small(frame[None])
    assert is_cluttered(frame[None])
    np.testing.assert_array_equal(cut_figure(frame[None], [pictures])[0], pictures)


def test_cutting_can_be_canceled() -> None:
    frames, _ = crops(bars())
    done: list[float] = []

    def step(fraction: float) -> None:
        done.append(fraction)
        if fraction >= 0.5:
            raise CancelledError

    with pytest.raises(CancelledError):
        cut_figure(frames, [small(frames)], step)
    assert done == sorted(done)
    assert len(done) > len(frames)


def test_footage_before_clutter_is_read_as_figures_before_gray(tmp_path: Path) -> None:
    size = (160, 200)
    frames, _ = wave(5, size, background=cv2.resize(bars(), size), height=140)
    left, top, right, bottom = 45.0, 40.0, 115.0, 186.0
    request = DrivingRequest.from_dict({"box": (left, top, right, bottom)})
    clip = read_driving(write_frames(tmp_path / "clip", frames), request, SIZE, 24.0)
    corner = np.abs(clip.frames[:, 4:30, :6].astype(int) - GRAY).max(axis=-1)
    assert np.mean(corner < 3) > 0.9
    assert clip.frames[:, 24:40, 20:28].std() > 20
    assert np.array_equal(clip.reference, clip.frames[0])


def test_a_figure_of_a_cluttered_reference_is_told_of(tmp_path: Path) -> None:
    """The result has the reference's background, which is gray then."""
    frames, _ = wave(4)
    folder = write_frames(tmp_path / "wave", frames)
    plain, cluttered = tmp_path / "plain.png", tmp_path / "busy.png"
    write_png(plain, frames[0])
    picture = np.ascontiguousarray(bars()[: CUT_SIZE[1], : CUT_SIZE[0]])
    mask = puppet(picture, FEET, HEIGHT)
    write_png(cluttered, picture)
    box = box_of(mask)
    for reference, told in ((plain, ()), (cluttered, ("The background of busy.png is cluttered",))):
        request = DrivingRequest(reference=str(reference), reference_box=None if reference == plain else box)
        clip = read_driving(folder, request, SIZE, 24)
        assert len(clip.warnings) == len(told)
        assert all(sentence.startswith(start) for sentence, start in zip(clip.warnings, told, strict=True))
        assert (clip.reference[0] == GRAY).all() == bool(told)
    busy = write_frames(tmp_path / "walk", crops(bars())[0])
    assert "walk is cluttered" in read_driving(busy, DrivingRequest(box=box), SIZE, 24).warnings[0]
