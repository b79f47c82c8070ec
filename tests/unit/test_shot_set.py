# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of tracks: what they keep, what they lack, who shades them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade import registry
from trackshade.errors import ShotError
from trackshade.settings import ShadeSettings
from trackshade.shot.track_set import FIRST, Order, frame_name, free_result, read_set, write_set

SPEC = registry.spec("mini")
ORDER = Order(1, 49, 3, 24.0, "auto", "pad", None, ShadeSettings(seed=7), True, "shot-shaded")


def fill(folder: Path, frames: range) -> None:
    for frame in frames:
        (folder / f"{frame_name(frame)}.shot").write_bytes(b"tracks")


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    order = dataclasses.replace(ORDER, size=(144, 96), start=-5)
    assert write_set(tmp_path / "a", order) == read_set(tmp_path / "a")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    tracks = write_set(tmp_path, ORDER)
    fill(tmp_path, range(1, 26, 3))
    said = " ".join(tracks.missing(SPEC))
    assert said == "the tracks of frames 28, 31, 34, 37, 40, 43, 46, 49 the picture of frame 1"
    with pytest.raises(ShotError, match="frames 28, 31"):
        tracks.complete_or_raise(SPEC)
    fill(tmp_path, range(28, 50, 3))
    (tmp_path / FIRST).write_bytes(b"picture")
    assert tracks.missing(SPEC) == []


def test_one_of_two_machines_shades_a_set(tmp_path: Path) -> None:
    tracks = write_set(tmp_path, ORDER)
    fill(tmp_path, range(1, 50, 3))
    assert tracks.claim(SPEC)
    assert not read_set(tmp_path).claim(SPEC)
    tracks.give_back()
    assert tracks.claim(SPEC)


@given(st.integers(17, 400), st.integers(1, 4), st.sampled_from(("auto", "choose", "step", "resample")))
def test_only_exported_frames_are_asked_for(count: int, step: int, rule: str) -> None:
    order = dataclasses.replace(ORDER, end=1 + (count - 1) * step, step=step, frame_rule=rule)
    exported = set(range(order.start, order.end + 1, step))
    frames = order.frames(SPEC).frames
    assert len(frames) in SPEC.frames
    assert set(frames) <= exported


def test_too_short_an_export_is_a_sentence() -> None:
    with pytest.raises(ShotError, match="Own Range"):
        dataclasses.replace(ORDER, end=30).frames(SPEC)


def test_no_set_and_a_damaged_one_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match="There are no tracks"):
        read_set(tmp_path)
    for text in ("", "{}", '{"format": 1}', '{"format": "x"}'):
        (tmp_path / "set.json").write_text(text)
        with pytest.raises(ShotError, match="damaged"):
            read_set(tmp_path)


def test_results_do_not_take_each_others_place(tmp_path: Path) -> None:
    assert [free_result(tmp_path, "a").name for _ in range(3)] == ["a", "a-2", "a-3"]
