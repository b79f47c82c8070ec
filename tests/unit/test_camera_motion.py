# SPDX-License-Identifier: GPL-3.0-or-later
"""Motions equal their definition, written out slowly here, and errors name the word; presets are exact."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.core.camera_motion import (
    EASINGS,
    PRESETS,
    Move,
    camera_preset,
    format_moves,
    move_camera,
    parse_camera_motion,
    parse_camera_moves,
    parse_object_motion,
    parse_object_moves,
)
from trackshade.core.errors import UsageError
from trackshade.core.geometry import world_to_camera

_WORDS = {"up": (0, -1, 0), "down": (0, 1, 0), "left": (-1, 0, 0), "right": (1, 0, 0), "front": (0, 0, 1)}
_WORDS["back"] = (0, 0, -1)
_CAMERA = world_to_camera([[1, 0, 0, 0.5], [0, 0.2, -0.98, -6], [0, 0.98, 0.2, 1.5], [0, 0, 0, 1]])

_values = st.floats(-1e6, 1e6)
_spans = st.none() | st.tuples(st.integers(-5, 200), st.integers(-5, 200))
_trans = st.builds(lambda v, s: Move("trans", v, "", s), st.tuples(_values, _values, _values), _spans)
_rot = st.builds(lambda a, v, s: Move("rot", (v,), a, s), st.sampled_from("xyz"), _values, _spans)
_spiral = st.builds(lambda v, s: Move("spiral", (v,), "", s), st.floats(1e-3, 1e3), _spans)
_shift = st.builds(lambda w, v, s: Move(w, (v,), "", s), st.sampled_from(list(_WORDS)), _values, _spans)
_matrix = st.builds(lambda v, s: Move("matrix", tuple(v), "", s), st.lists(_values, min_size=12, max_size=12), _spans)


def _turn(axis: str, degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return {
        "x": np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]]),
        "y": np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]]),
        "z": np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    }[axis]


def _shifted(x: float, y: float, z: float) -> np.ndarray:
    return np.array([[1, 0, 0, x], [0, 1, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def _spiral_pose(radius: float, t: float) -> np.ndarray:
    r = math.sin(math.pi * t) * radius * 0.1
    x, y, z = r * math.sin(2 * math.pi * t), 0.3 * r * math.cos(2 * math.pi * t), -0.5 * r
    forward = np.array([-x, -y, radius * 0.5 - z])
    forward = forward / math.sqrt(sum(forward**2))
    right = np.cross([0, 1, 0], forward)
    right = right / math.sqrt(sum(right**2))
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.inv(np.vstack([right, np.cross(forward, right), forward]))
    pose[:3, 3] = x, y, z
    return pose


def _slow(text: str, frames: int) -> np.ndarray:
    """Return the motion frame by frame and word by word, as the published definition says."""
    out = []
    for frame in range(frames):
        total = np.eye(4)
        for part in text.split(";"):
            words = part.split()
            if not words:
                continue
            plain = {"trans": 4, "rot": 3, "spiral": 2}[words[0]]
            start, end = 0, frames - 1
            if len(words) > plain:
                start, end = sorted(max(0, min(frames - 1, int(word))) for word in words[plain:])
            if frame < start:
                t = 0.0
            elif frame >= end:
                t = 1.0
            else:
                t = (frame - start) / (end - start)
            if words[0] == "trans":
                matrix = _shifted(*(float(word) * t for word in words[1:4]))
            elif words[0] == "rot":
                matrix = _turn(words[1], float(words[2]) * t)
            else:
                matrix = _spiral_pose(float(words[1]), t)
            total = total @ matrix
        out.append(total)
    return np.stack(out)


@pytest.mark.parametrize("frames", [11, 49, 81])
@pytest.mark.parametrize(
    "text",
    [
        "trans 0.3 -1 2.5",
        "rot x 25; rot y -40 3 10; rot z 190 8 1",
        "spiral 2; trans 0 0 1e-1 0 9",
        "trans 1 0 0 0 1; ; spiral 0.5 1 200 ;rot y 10 -4 1",
        "",
    ],
)
def test_a_camera_motion_equals_its_definition(text: str, frames: int) -> None:
    np.testing.assert_allclose(parse_camera_motion(text, frames), _slow(text, frames), rtol=0, atol=1e-13)


def test_signs_are_those_of_the_published_arithmetic() -> None:
    ahead = np.array([0, 0, 4, 1.0])
    assert (parse_camera_motion("trans 1 1 1", 2)[-1] @ ahead)[:3].tolist() == [1, 1, 5]  # scene right, down, away
    assert (parse_camera_motion("rot x 10", 2)[-1] @ ahead)[1] < 0  # the scene rises: the camera turns down
    assert (parse_camera_motion("rot y 10", 2)[-1] @ ahead)[0] > 0  # the scene goes right: the camera turns left
    side = parse_camera_motion("rot z 10", 2)[-1] @ np.array([1, 0, 4, 1.0])
    assert side[1] > 0  # with y down, the scene turns clockwise: the camera rolls counter-clockwise


def test_ranges_may_be_equal_and_reversed() -> None:
    step = parse_camera_motion("trans 1 0 0 3 3", 6)[:, 0, 3]
    assert step.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(parse_camera_motion("rot y 9 4 1", 6), parse_camera_motion("rot y 9 1 4", 6))
    assert np.array_equal(parse_camera_motion("trans 1 2 3; spiral 1; rot x 9", 1), np.eye(4)[None])


def test_override_drops_the_motion_of_the_source() -> None:
    source = parse_camera_motion("rot y 30; trans 1 0 0", 5) @ _CAMERA
    motion = parse_camera_motion("trans 0 0 -1", 5)
    for t in range(5):
        np.testing.assert_allclose(move_camera(motion, source)[t], motion[t] @ source[t], atol=1e-14)
        np.testing.assert_allclose(move_camera(motion, source, "override")[t], motion[t] @ source[0], atol=1e-14)
    assert np.array_equal(move_camera(motion, _CAMERA), motion @ _CAMERA)


@pytest.mark.parametrize("word", list(_WORDS))
def test_words_move_objects_along_the_axes_of_the_camera(word: str) -> None:
    pivot = np.array([0.2, 1.0, 0.5])
    points = np.random.default_rng(0).normal(pivot, 0.3, (7, 3))
    matrices = parse_object_motion(f"{word} 0.5 1 3", 6, pivot, _CAMERA)
    for t, share in enumerate([0, 0, 0.5, 1, 1, 1]):
        moved = points @ matrices[t][:3, :3].T + matrices[t][:3, 3]
        expected = np.array(_WORDS[word]) * 0.5 * share  # in camera space
        np.testing.assert_allclose((moved - points) @ _CAMERA[:3, :3].T, np.tile(expected, (7, 1)), atol=1e-12)
    assert np.array_equal(parse_object_motion(word, 2, pivot, _CAMERA)[0].round(12), np.eye(4))
    focal, depth = 360 / math.tan(math.radians(27.5)), float(_CAMERA[2, :3] @ pivot + _CAMERA[2, 3])
    offset = _CAMERA[:3, :3] @ (parse_object_motion(word, 2, pivot, _CAMERA)[1][:3, :] @ [*pivot, 1] - pivot)
    assert np.linalg.norm(offset) * focal / depth == pytest.approx(50)  # pixels, as published


@pytest.mark.parametrize(("text", "axis", "degrees"), [("rot", "y", 50), ("rot 20", "y", 20), ("rot z -70", "z", -70)])
def test_objects_turn_about_their_pivot(text: str, axis: str, degrees: float) -> None:
    pivot = np.array([0.2, 1.0, 0.5])
    center = (_CAMERA @ [*pivot, 1])[:3]
    matrices = parse_object_motion(text, 5, pivot, _CAMERA)
    for t in range(5):
        in_camera = _shifted(*center) @ _turn(axis, degrees * t / 4) @ _shifted(*-center)
        np.testing.assert_allclose(matrices[t], np.linalg.inv(_CAMERA) @ in_camera @ _CAMERA, atol=1e-12)


def test_matrices_are_reached_at_a_constant_speed() -> None:
    target = _shifted(1, 2, 3) @ _turn("z", 120) @ np.diag([2, 1, 0.5, 1.0])
    text = "matrix " + " ".join(map(repr, target.ravel().tolist()))
    matrices = parse_object_motion(text, 5, np.zeros(3), np.eye(4))
    np.testing.assert_allclose(matrices[-1], target, atol=1e-12)
    half = _shifted(0.5, 1, 1.5) @ _turn("z", 60) @ np.diag([1.5, 1, 0.75, 1.0])
    np.testing.assert_allclose(matrices[2], half, atol=1e-12)
    mirror = parse_object_motion("matrix -1 0 0 0  0 1 0 0  0 0 1 0", 3, np.zeros(3), np.eye(4))
    assert np.isfinite(mirror).all()
    assert np.array_equal(mirror[-1], np.diag([-1, 1, 1, 1.0]))
    turned = parse_object_motion("matrix -1 0 0 0  0 -1 0 0  0 0 1 0", 3, np.zeros(3), np.eye(4))
    np.testing.assert_allclose(abs(turned[1]), abs(_turn("z", 90)), atol=1e-12)


@given(st.lists(_trans | _rot | _spiral, max_size=5))
def test_the_text_of_camera_moves_gives_them_back(moves: list[Move]) -> None:
    assert parse_camera_moves(format_moves(moves)) == tuple(moves)
    assert parse_camera_moves(format_moves(moves).upper()) == tuple(moves)


@given(st.lists(_shift | _rot | _matrix, max_size=4))
def test_the_text_of_object_moves_gives_them_back(moves: list[Move]) -> None:
    assert parse_object_moves(format_moves(moves)) == tuple(moves)


@pytest.mark.parametrize(
    ("text", "word", "position"),
    [
        ("trans 0 0 1; jump 3", "jump", 14),
        ("trans 0 0", "trans", 1),
        ("trans 0 0 one", "one", 11),
        ("trans 0 nan 0", "nan", 9),
        ("trans 0 0 1 0", "trans", 1),
        ("trans 0 0 1 0 4.5", "4.5", 15),
        ("rot 30", "rot", 1),
        ("rot w 30", "w", 5),
        ("rot y", "rot", 1),
        ("  spiral -2", "-2", 10),
        ("rot y 10;spiral 0", "0", 17),
    ],
)
def test_errors_of_camera_motions_name_the_word(text: str, word: str, position: int) -> None:
    with pytest.raises(UsageError, match=f"'{word}' at character {position} "):
        parse_camera_motion(text, 49)


@pytest.mark.parametrize(
    ("text", "word"), [("trans 1 0 0", "trans"), ("up 1 2", "up"), ("rot q", "q"), ("matrix 1 2", "matrix")]
)
def test_errors_of_object_motions_name_the_word(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=f"'{word}' at character"):
        parse_object_motion(text, 49, np.zeros(3), _CAMERA)


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(UsageError, match="outside the clip, which has frames 0 to 48"):
        parse_camera_motion("trans 0 0 1 50 60", 49)
    with pytest.raises(UsageError, match="last row"):
        parse_object_moves("matrix 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 2")
    with pytest.raises(UsageError, match="behind the camera"):
        parse_object_motion("up", 2, [0, 0, -1], np.eye(4))
    with pytest.raises(UsageError, match="at least one frame"):
        parse_camera_motion("trans 0 0 1", 0)
    for arguments in [("spin", 1, "ease"), ("pan", 1, "bounce"), ("zoom", 0, "ease"), ("dolly-zoom", 1, "ease")]:
        with pytest.raises(UsageError):
            camera_preset(arguments[0], arguments[1], 5, 2, np.eye(4), 500, arguments[2])


@pytest.mark.parametrize("easing", list(EASINGS))
@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_start_at_the_camera_and_end_at_the_amount(name: str, easing: str) -> None:
    amount, distance = PRESETS[name].amount, 5.0
    cameras, focals = camera_preset(name, amount, 9, distance, _CAMERA, 500.0, easing)
    np.testing.assert_allclose(cameras[0], _CAMERA, atol=1e-12)
    assert focals[0] == 500
    for matrix in cameras:
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    before, after = np.linalg.inv(_CAMERA), np.linalg.inv(cameras[-1])
    pivot = np.append(before[:3, 3] + distance * before[:3, 2], 1)
    moved = after[:3, 3] - before[:3, 3]
    local = before[:3, :3].T @ moved
    ahead = before[:3, :3].T @ after[:3, 2]  # the new view axis in the old camera
    if name == "orbit":
        np.testing.assert_allclose(cameras @ pivot, np.tile([0, 0, distance, 1], (9, 1)), atol=1e-12)
        assert local[0] > 0
        assert moved[2] == pytest.approx(0, abs=1e-12)
        flat = [np.array(m[:2, 3] - pivot[:2]) for m in (before, after)]
        cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
        assert math.degrees(math.acos(cosine)) == pytest.approx(amount)
    elif name in ("dolly", "dolly-zoom"):
        np.testing.assert_allclose(local, [0, 0, amount * distance], atol=1e-12)
    elif name == "truck":
        np.testing.assert_allclose(local, [amount * distance, 0, 0], atol=1e-12)
    elif name == "crane":
        np.testing.assert_allclose(moved, [0, 0, amount * distance], atol=1e-12)
    elif name == "tilt":
        np.testing.assert_allclose(ahead, [0, -math.sin(math.radians(amount)), math.cos(math.radians(amount))])
    elif name == "pan":
        assert ahead[0] > 0
        assert after[2, 2] == pytest.approx(before[2, 2])
    if name in ("pan", "tilt", "zoom"):
        np.testing.assert_allclose(moved, 0, atol=1e-12)
    if name == "dolly-zoom":
        np.testing.assert_allclose(focals / (cameras @ pivot)[:, 2], 100, rtol=1e-12)
    else:
        assert focals[-1] == pytest.approx(500 * (amount if name == "zoom" else 1))
