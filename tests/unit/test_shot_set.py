# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of tracks: what they keep, what they lack, who shades them."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.shots import camera_track
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError
from trackshade.core.fitting import SizeFit
from trackshade.shot import Cutout, Geometry, MeshTrack, Shot, Surfaces
from trackshade.shot.joining import join
from trackshade.shot.track_set import FIRST, Order, frame_name, read_set, write_set

ORDER = Order(1, 49, 3, 24.0, ShadeSettings(seed=7), True, "shot-shaded")


def fill(folder: Path, frames: range) -> None:
    for frame in frames:
        (folder / f"{frame_name(frame)}.shot").write_bytes(b"tracks")


def test_an_order_is_read_as_it_was_written(tmp_path: Path) -> None:
    order = dataclasses.replace(ORDER, settings=ShadeSettings(model_size=(144, 96)), start=-5, keys=(-2, 4))
    assert write_set(tmp_path / "a", order) == read_set(tmp_path / "a")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    tracks = write_set(tmp_path, ORDER)
    fill(tmp_path, range(1, 26, 3))
    said = " ".join(tracks.missing())
    assert said == "the tracks of frames 28, 31, 34, 37, 40, 43, 46, 49 the picture of frame 1"
    with pytest.raises(ShotError, match="frames 28, 31"):
        tracks.check_complete()
    fill(tmp_path, range(28, 50, 3))
    (tmp_path / FIRST).write_bytes(b"picture")
    assert tracks.missing() == []
    tracks = write_set(tmp_path, dataclasses.replace(ORDER, settings=ShadeSettings(light="render")))
    for frame in range(1, 47, 3):
        tracks.picture(frame).write_bytes(b"picture")
    assert tracks.missing() == ["the pictures of frame 49"]
    tracks = write_set(tmp_path, dataclasses.replace(ORDER, keys=(25, 28)))
    tracks.key_picture(25).write_bytes(b"picture")
    assert tracks.missing() == ["the key pictures of frame 28"]


def test_one_of_two_machines_shades_a_set(tmp_path: Path) -> None:
    tracks = write_set(tmp_path, ORDER)
    fill(tmp_path, range(1, 50, 3))
    assert tracks.claim()
    assert not read_set(tmp_path).claim()
    tracks.release()
    assert tracks.claim()


@given(st.integers(1, 400), st.integers(1, 4))
def test_every_exported_frame_is_asked_for(count: int, step: int) -> None:
    order = dataclasses.replace(ORDER, end=1 + (count - 1) * step, step=step)
    frames = order.frames()
    assert frames.frame_numbers == tuple(range(order.start, order.end + 1, step))
    assert frames.fps == 24 / step


def test_no_set_and_a_damaged_one_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match="There are no tracks"):
        read_set(tmp_path)
    for text in ("", "{}", '{"format": 1}', '{"format": "x"}'):
        (tmp_path / "set.json").write_text(text)
        with pytest.raises(ShotError, match="damaged"):
            read_set(tmp_path)


def surfaced(frame: int, shown: bool) -> Shot:
    """One exported frame: a card with a cut-out and a pane that is shown or not, and later frames' other numbers."""
    corners = np.array([[(-1, -1, 3), (1, -1, 3), (1, 1, 3), (-1, 1, 3)]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = np.zeros((2, 3, 2), np.float32)
    geometry = Geometry(corners, triangles, uv, np.array([0, 1], np.int32), (uv + 1,))
    still = np.eye(4)[None]
    leaf = Cutout(np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(256) > 2, np.eye(2, 3))
    other = Cutout(np.full((1, 1), frame, np.uint8), np.arange(256) > 2, np.eye(2, 3))
    first = np.array([0, -1], np.int32)
    card = Surfaces(np.ones((1, 2), bool), np.ones((1, 2), bool), first + (frame > 1) * (first >= 0), 1 + 0 * first)
    pane = Surfaces(np.array([[True, shown]]), np.array([[False, shown]]), first * 0 - 1, first * 0)
    track = MeshTrack("Card", 0, still, np.ones(1, bool), surfaces=0)
    fit = SizeFit((8, 8), (1.0, 1.0), (8, 8), "pad", (1.0, 1.0), (0.0, 0.0), "")
    source = {"size_fit": fit.to_dict(), "keys": [[], [], []], "topology": ["x"]}
    return Shot(
        np.array([float(frame)]), 24.0, (8, 8), camera_track(1), (geometry,),
        (track, replace(track, name="Pane", surfaces=1), replace(track, name="Plain", surfaces=None)),
        source=source, surfaces=(card, pane), cutouts=(leaf,) if frame == 1 else (other, leaf),
    )  # fmt: skip


def test_joined_frames_keep_their_surfaces(tmp_path: Path) -> None:
    """A cut-out that has another number in another frame is the same one; sides are those of each frame."""
    order = replace(ORDER, start=1, end=17, step=1)
    tracks = write_set(tmp_path, order)
    for frame in range(1, 18):
        surfaced(frame, frame % 2 == 1).save(tracks.path(frame))
    (tmp_path / FIRST).write_bytes(b"picture")
    shot = join(tracks)
    shot.check_values()
    card, pane, plain = shot.meshes
    assert plain.surfaces is None
    assert card.surfaces is not None
    assert pane.surfaces is not None
    leaf = shot.cutouts[shot.surfaces[card.surfaces].cutouts[0]]
    assert leaf.alpha.shape == (2, 3)
    assert shot.surfaces[card.surfaces].cutouts.tolist() == [0, -1]
    assert shot.surfaces[card.surfaces].uv_layers.tolist() == [1, 0]
    assert shot.surfaces[card.surfaces].front.shape == (1, 2)
    assert [bool(shot.surfaces[pane.surfaces].at(t)[0][1]) for t in range(4)] == [True, False, True, False]
    assert not shot.surfaces[pane.surfaces].back[:, 0].any()
    assert len(shot.geometries) == 1
    geometry = shot.geometries[card.geometry]
    assert geometry.materials is not None
    assert geometry.materials.tolist() == [0, 1]
    assert len(geometry.more_uv) == 1


@pytest.mark.parametrize("solid", [False, True])
def test_joined_frames_have_their_own_slots_where_these_matter(solid: bool, tmp_path: Path) -> None:
    order = replace(ORDER, start=1, end=17, step=1)
    tracks = write_set(tmp_path, order)
    for frame in range(1, 18):
        sample = surfaced(frame, True)
        slots = np.array([0, frame % 3 == 2], np.int32)
        geometry = replace(sample.geometries[0], materials=slots if slots.any() else None)
        meshes = tuple(replace(mesh, surfaces=None) for mesh in sample.meshes) if solid else sample.meshes
        replace(sample, geometries=(geometry,), meshes=meshes).save(tracks.path(frame))
    (tmp_path / FIRST).write_bytes(b"picture")
    shot = join(tracks)
    shot.check_values()
    assert len(shot.geometries) == (1 if solid else 2)
    for t in range(17) if not solid else ():
        materials = shot.geometry_of(0, t).materials
        assert (None if materials is None else materials.tolist()) == ([0, 1] if (t + 1) % 3 == 2 else None)
        np.testing.assert_array_equal(shot.first_places(0, t), shot.first_places(0, 0))
