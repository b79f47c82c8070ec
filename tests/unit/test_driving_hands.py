# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands of driving footage: files that say where they are, their crops, and the detector that may be installed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.driving import wave, write_frames
from trackshade.core.errors import CancelledError, ShotError
from trackshade.driving.crops import crop_hands, crop_mask
from trackshade.driving.person_detector import PersonDetector, find_detector
from trackshade.driving.reading import DrivingClip, read_driving
from trackshade.motion.driving_shot import hands_seen
from trackshade.motion.framing import HAND_WIDTH, VISIBLE_HEIGHT
from trackshade.motion.hand_places import HandPlaces, read_hands, write_hands
from trackshade.motion.request import DrivingRequest

PLACES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)) | st.none(), min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def no_detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests see a detector only where they name one."""
    monkeypatch.setenv("TRACKSHADE_MEDIAPIPE", str(tmp_path / "none"))


def read(path: Path, **values: object) -> DrivingClip:
    return read_driving(path, DrivingRequest.from_dict(values), (48, 64), 24.0)


@given(left=PLACES, right=PLACES, start=st.floats(0, 100), step=st.floats(0.01, 1))
def test_files_of_hands_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, left: list, right: list, start: float, step: float
) -> None:
    count = min(len(left), len(right))
    nowhere = (math.nan, math.nan)
    places = [[side[n] or nowhere for side in (left, right)] for n in range(count)]
    hands = HandPlaces(start + step * np.arange(count), np.array(places, np.float64))
    path = tmp_path_factory.mktemp("hands") / "hands.json"
    write_hands(path, hands)
    found = read_hands(path)
    np.testing.assert_allclose(found.times, hands.times, atol=1e-5)
    np.testing.assert_allclose(found.places, hands.places, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no JSON", "Expecting value"),
        ("[]", "list"),
        ('{"times": [0], "left": [null]}', "it has no 'right'"),
        ('{"times": [0, 1], "left": [null], "right": [null]}', "different lengths"),
        ('{"times": [], "left": [], "right": []}', "neither null nor"),
        ('{"times": [1, 0], "left": [null, null], "right": [null, null]}', "do not ascend"),
        ('{"times": [0], "left": [[1, 2, 3]], "right": [null]}', "neither null nor"),
        ('{"times": [0], "left": ["a"], "right": [null]}', "could not convert"),
        ('{"times": [NaN], "left": [null], "right": [null]}', "do not ascend"),
    ],
)
def test_what_is_no_file_of_hands_is_told(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "hands.json"
    path.write_text(text)
    with pytest.raises(ShotError, match=reason) as caught:
        read_hands(path)
    assert caught.value.code == "bad-hands"
    with pytest.raises(ShotError, match="No such file"):
        read_hands(tmp_path / "other.json")


def test_places_between_frames_follow_a_hand_and_end_where_it_is_lost() -> None:
    nowhere = (math.nan, math.nan)
    left = [(0.1, 0.2), (0.2, 0.2), nowhere, (0.4, 0.2), *[nowhere] * 10, (0.9, 0.2)]
    places = np.stack([np.array(left), np.full((15, 2), np.nan)], axis=1)
    found = HandPlaces(np.arange(15) / 10, places).at(np.array([0.05, 0.2, 0.8, 1.4, 3.0]))
    np.testing.assert_allclose(found[[0, 1, 3], 0], [(0.15, 0.2), (0.3, 0.2), (0.9, 0.2)])
    assert np.isnan(found[[2, 4], 0]).all()
    assert np.isnan(found[:, 1]).all()


def test_crops_of_hands_show_what_is_around_them() -> None:
    crops = np.full((2, 192, 144, 3), 90, np.uint8)
    crops[:, 100:104, 30:34] = (250, 10, 10)
    places = np.array([[(32.0, 102.0), (math.nan, math.nan)], [(200.0, 10.0), (40.0, 102.0)]])
    hands = crop_hands(crops, places, 24)
    assert hands_seen(hands).tolist() == [[True, False], [False, True]]
    scale = 24 / (192 * HAND_WIDTH / VISIBLE_HEIGHT)
    for hand, middle in ((hands[0, 0], 12.0), (hands[1, 1], 12 - 8 * scale)):
        rows, columns = np.nonzero(hand[..., 0] > 170)
        assert rows.mean() + 0.5 == pytest.approx(12, abs=0.5)
        assert columns.mean() + 0.5 == pytest.approx(middle, abs=0.5)
    assert hands_seen(crop_hands(0 * crops, places, 24)).tolist() == [[True, False], [False, True]]  # a black picture


def test_masks_are_cropped_as_pictures_are_and_end_at_their_border() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:20, 0:20] = True
    found = crop_mask(mask, np.array([10.0, 15.0]), 20.0, (30, 40))
    assert found.shape == (40, 30)
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 29, 0, 29)
    assert not crop_mask(mask, np.array([-10.0, 15.0]), 10.0, (20, 20)).any()


def test_a_file_says_where_the_hands_are(tmp_path: Path) -> None:
    frames, _ = wave(12)
    folder = write_frames(tmp_path / "clip", frames)
    places = np.full((12, 2, 2), np.nan)
    places[:, 0] = 0.5, 0.4
    write_hands(tmp_path / "hands.json", HandPlaces(np.arange(12) / 24, places))
    clip = read(folder, hands=str(tmp_path / "hands.json"))
    assert clip.hands is not None
    assert clip.hands.shape == (12, 2, 24, 24, 3)
    assert hands_seen(clip.hands).tolist() == [[True, False]] * 12
    # The middle of the crop is the pixel of the footage that was named.
    np.testing.assert_allclose(clip.hands[3, 0, 11:13, 11:13].mean((0, 1)), frames[3][48, 80], atol=30)
    still = read(folder / "frame 3.png", mode="novel-view", hands=str(tmp_path / "hands.json"))
    assert still.hands is not None
    assert read(folder).hands is None
    assert read(folder, hands="none").hands is None
    write_hands(tmp_path / "none.json", HandPlaces(np.zeros(1), np.full((1, 2, 2), np.nan)))
    clip = read(folder, hands=str(tmp_path / "none.json"))
    assert clip.hands is None
    assert clip.warnings == ("No hand of the figure was found: the motion is read from the body alone.",)


def test_a_detector_that_fails_is_told_of_and_the_body_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the tests has no mediapipe."""
    monkeypatch.setenv("TRACKSHADE_MEDIAPIPE", sys.prefix)
    assert find_detector() is not None
    folder = write_frames(tmp_path / "clip", wave(12)[0])
    clip = read(folder)
    assert clip.hands is None
    (warning,) = clip.warnings
    assert "The hands were not read" in warning
    assert "No module named 'mediapipe'" in warning
    assert not read(folder, hands="none").warnings
    np.testing.assert_array_equal(read(folder, hands="none").frames, clip.frames)


def test_the_detector_can_be_canceled_and_ends(tmp_path: Path) -> None:
    with PersonDetector(Path(sys.executable), (32, 32), lambda: True) as detector:
        process = detector._process
        with pytest.raises(CancelledError):
            detector.add(np.zeros((32, 32, 3), np.uint8))
    assert process is not None
    assert process.poll() is not None
    with PersonDetector(tmp_path / "no-python", (32, 32), lambda: False) as detector:
        detector.add(np.zeros((32, 32, 3), np.uint8))
        (person,) = detector.found()
    assert person.mask is None
    assert np.isnan(person.hands).all()
    assert detector.failure


def test_an_installed_detector_answers_every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is in these pictures. It runs where mediapipe is installed."""
    monkeypatch.delenv("TRACKSHADE_MEDIAPIPE")
    python = find_detector()
    if python is None:
        pytest.skip("mediapipe is not installed in an environment of its own")
    with PersonDetector(python, (64, 64), lambda: False) as detector:
        for level in (0, 90, 255):
            detector.add(np.full((64, 64, 3), level, np.uint8))
        found = detector.found()
    assert not detector.failure
    assert [person.mask for person in found] == [None] * 3
    assert np.isnan([person.hands for person in found]).all()


def test_requests_keep_how_hands_are_found() -> None:
    request = DrivingRequest.from_dict({"hands": "none"})
    assert json.loads(json.dumps(request.to_dict()))["hands"] == "none"
    assert DrivingRequest.from_dict({}).hands == "auto"
