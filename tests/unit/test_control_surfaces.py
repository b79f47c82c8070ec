# SPDX-License-Identifier: GPL-3.0-or-later
"""Surfaces that a render shows through: sides that are left out and cut-outs, against rays; and in files."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import shots
from tests.helpers.ray_reference import tracking_frame
from trackshade.control import tracking_video
from trackshade.control.scene import ShotRaster
from trackshade.core.errors import ShotError
from trackshade.shot import CameraTrack, Cutout, Geometry, MeshTrack, Shot, Surfaces
from trackshade.shot.parts import EXTENSIONS
from trackshade.shot.track_colors import mesh_rule

SIZE = (48, 40)
CUT = np.arange(256) >= 128


def camera(count: int = 1) -> CameraTrack:
    """At the origin, looking along +z."""
    intrinsics = np.array([[40.0, 0, 24.3], [0, 40.0, 19.8], [0, 0, 1]])
    return CameraTrack(
        "Camera", ("Camera",) * count, np.repeat(intrinsics[None], count, 0), np.repeat(np.eye(4)[None], count, 0),
        np.zeros(count, bool), np.tile([0.1, 50.0], (count, 1)),
    )  # fmt: skip


def shot(geometries, meshes, surfaces=(), cutouts=(), count: int = 1) -> Shot:
    return Shot(
        np.arange(1.0, count + 1), 24.0, SIZE, camera(count), tuple(geometries), tuple(meshes),
        surfaces=tuple(surfaces), cutouts=tuple(cutouts),
    )  # fmt: skip


def mesh(geometry: int, count: int = 1, scale=(1, 1, 1), surfaces: int | None = None) -> MeshTrack:
    matrix = np.repeat(np.diag([*scale, 1.0])[None], count, 0)
    return MeshTrack("Mesh", geometry, matrix, np.ones(count, bool), surfaces=surfaces)


def one_sample(front, back, cutouts=None, layers=None) -> Surfaces:
    none, zero = np.full(len(front), -1, np.int32), np.zeros(len(front), np.int32)
    return Surfaces(
        np.array([front]), np.array([back]), none if cutouts is None else np.array(cutouts, np.int32),
        zero if layers is None else np.array(layers, np.int32),
    )  # fmt: skip


def square(depth: float, half: float = 1.2, materials=None, **more) -> Geometry:
    """Seen from its front by the camera: its triangles turn against the clock, as one sees them."""
    corners = [(-half, half, depth), (half, half, depth), (half, -half, depth), (-half, -half, depth)]
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)[triangles]
    chosen = None if materials is None else np.array(materials, np.int32)
    return Geometry(np.array([corners], np.float32), triangles, uv, chosen, **more)


def label(found: Shot, t: int = 0) -> np.ndarray:
    return ShotRaster(found).draw(t).label


@pytest.mark.parametrize("scale", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1)])
@pytest.mark.parametrize("front", [True, False])
def test_a_side_that_is_left_out_shows_what_is_behind(scale, front):
    """A mirrored mesh turns its triangles round and keeps its front where its normals are."""
    wall, behind = square(2.0), square(4.0, 0.5)
    surfaces = one_sample([front], [not front])
    found = label(shot([wall, behind], [mesh(0, 1, scale, 0), mesh(1)], [surfaces]))
    assert found[20, 24] == (0 if front else 1)
    assert (found[1, 2] == 0) == front


def test_each_slot_has_its_own_surface_and_the_last_stands_for_those_beyond():
    wall, surfaces = square(2.0, materials=[0, 7]), one_sample([True, False], [True, False])
    found = label(shot([wall, square(4.0, 1.5)], [mesh(0, surfaces=0), mesh(1)], [surfaces]))
    assert found[32, 30] == 0  # the lower right half is triangle 0
    assert found[12, 18] == 1


def test_a_surface_is_shown_in_some_samples_only():
    surfaces = Surfaces(
        np.array([[True], [False], [True]]), np.array([[True], [False], [True]]), np.array([-1], np.int32),
        np.array([0], np.int32),
    )  # fmt: skip
    found = shot([square(2.0), square(4.0)], [mesh(0, 3, surfaces=0), mesh(1, 3)], [surfaces], count=3)
    assert [label(found, t)[20, 24] for t in range(3)] == [0, 1, 0]
    assert tracking_video(found).object_index[:, 20, 24].tolist() == [0, 1, 0]


def test_each_topology_of_a_mesh_has_its_own_slots_and_coordinates():
    """A square whose right half alone is drawn, by its slots and a cut-out; later its left half, as one of many
    triangles; then again, as its coordinates are turned round."""
    right, left = (32, 30), (12, 18)  # pixels, in its first and its second triangle
    cutout = Cutout(np.array([[0, 255]], np.uint8), CUT, np.eye(2, 3), extension="EXTEND", smooth=False)
    small = square(2.0, materials=[0, 1])
    assert small.uv is not None
    turned = np.stack([1 - small.uv[..., 0], small.uv[..., 1]], axis=-1)
    count = 400
    many = Geometry(
        small.positions, np.concatenate([np.zeros((count, 3), np.int32), small.triangles]),
        np.concatenate([np.zeros((count, 3, 2), np.float32), turned]), np.array([0] * count + [1, 0], np.int32),
        start=1,
    )  # fmt: skip
    last = Geometry(small.positions, small.triangles, turned, start=2)
    changing = replace(mesh(0, 3, surfaces=0), changes=((1, 1), (2, 2)))
    surfaces = one_sample([True, False], [True, False], [0, -1])
    found = shot([small, many, last, square(4.0, 3)], [changing, mesh(3, 3)], [surfaces], [cutout], count=3)
    found.check_values()
    drawn = [(int(image[right]), int(image[left])) for image in (label(found, t) for t in range(3))]
    assert drawn == [(0, 1), (1, 0), (1, 0)]
    assert (tracking_video(found).object_index == [label(found, t) for t in range(3)]).all()


def test_a_cut_out_draws_what_its_image_has():
    """The picture of a disc on a card: seen inside it, the other mesh around it; row 0 of an image is its bottom."""
    y, x = np.mgrid[:64, :64]
    alpha = np.where(np.hypot(x - 31.5, y - 15.5) < 12, 255, 0).astype(np.uint8)
    cutout = Cutout(alpha, CUT, np.eye(2, 3))
    found = label(shot([square(2.0), square(4.0, 3)], [mesh(0, surfaces=0), mesh(1)],
                       [one_sample([True], [True], [0])], [cutout]))  # fmt: skip
    assert found[32, 24] == 0  # below the middle
    assert found[8, 24] == 1
    share = (found == 0).sum() / (40 / 2 * 2.4) ** 2
    assert share == pytest.approx(np.pi * 12**2 / 64**2, rel=0.05)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    extension=st.sampled_from(EXTENSIONS),
    smooth=st.booleans(),
    layer=st.integers(0, 1),
    mirrored=st.booleans(),
)
def test_same_as_rays(seed, extension, smooth, layer, mirrored):
    rng = np.random.default_rng(seed)
    count = 12
    positions = np.stack([rng.uniform(-2, 2, 3 * count), rng.uniform(-2, 2, 3 * count), rng.uniform(0.8, 5, 3 * count)])
    layers = [rng.uniform(-1, 2, (count, 3, 2)).astype(np.float32) for _ in range(2)]
    soup = Geometry(
        positions.T[None].astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(-1, 3), layers[0],
        rng.integers(0, 4, count).astype(np.int32), (layers[1],),
    )  # fmt: skip
    cutout = Cutout(
        rng.integers(0, 256, (rng.integers(1, 7), rng.integers(1, 7))).astype(np.uint8), rng.random(256) < 0.5,
        rng.normal(0, 1, (2, 3)), extension, smooth,
    )  # fmt: skip
    plain = Cutout(np.array([[0, 255]], np.uint8), CUT, np.eye(2, 3), "EXTEND", False)
    surfaces = one_sample(rng.random(4) < 0.7, rng.random(4) < 0.7, [-1, 0, 1, 0], [0, layer, 0, 1 - layer])
    found = shot([soup], [mesh(0, scale=(1, -1 if mirrored else 1, 1), surfaces=0)], [surfaces], [cutout, plain])
    _, owner, depth, sure = tracking_frame(found, 0, mesh_rule(found))
    buffers = ShotRaster(found).draw(0)
    other = sure & ((buffers.label != owner) | ~np.isclose(buffers.depth, depth, rtol=1e-4))
    assert sure.mean() > 0.8
    assert other.sum() <= 2  # values that round the other way, just on the border of what is opaque


def test_shots_without_surfaces_are_drawn_as_ever():
    """Surfaces that show everything give the same pixels as none."""
    plain = shots.small_shot()
    every = one_sample([True], [True])
    marked = replace(plain, meshes=tuple(replace(item, surfaces=0) for item in plain.meshes), surfaces=(every,))
    for t in range(len(plain.frame_numbers)):
        one, other = ShotRaster(plain).draw(t), ShotRaster(marked).draw(t)
        np.testing.assert_array_equal(one.triangle, other.triangle)
        np.testing.assert_array_equal(one.depth, other.depth)


def full() -> Shot:
    cutout = Cutout(np.arange(12, dtype=np.uint8).reshape(3, 4), CUT, np.eye(2, 3), "MIRROR", False)
    geometry = square(2.0, materials=[0, 1])
    assert geometry.uv is not None
    more = replace(geometry, more_uv=(geometry.uv * 2,))
    return shot([more], [mesh(0, surfaces=0)], [one_sample([True, False], [False, True], [-1, 0], [0, 1])], [cutout])


def test_a_file_keeps_them(tmp_path):
    made = full()
    read = Shot.load(made.save(tmp_path / "it.shot"))
    read.check_values()
    assert read.encode()[0] == made.encode()[0]
    for one, other in zip(read.encode()[1], made.encode()[1], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(label(read), label(made))


def test_a_header_of_format_1_still_opens():
    """Which a shot without surfaces is still written in."""
    header, arrays = shots.small_shot().encode()
    assert header["version"] == 1
    assert header.keys() & {"surfaces", "cutouts"} == set()
    read = Shot.decode(msgpack.unpackb(msgpack.packb(header)), arrays)
    assert read.surfaces == ()
    assert read.meshes[0].surfaces is None
    assert read.geometries[0].materials is None


def first_layer() -> Surfaces:
    return one_sample([True], [True], [0], [0])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: replace(s, surfaces=()),
        lambda s: replace(s, cutouts=()),
        lambda s: replace(s, surfaces=(one_sample([True], [True], [-2]),)),
        lambda s: replace(s, surfaces=(one_sample([], [], [], []),)),
        lambda s: replace(s, surfaces=(one_sample([True], [True], [0], [2]),)),
        lambda s: replace(s, surfaces=(one_sample([True], [True], [0], [-1]),)),
        lambda s: replace(s, geometries=(replace(s.geometries[0], materials=np.array([0, -1], np.int32)),)),
        lambda s: replace(s, geometries=(replace(s.geometries[0], materials=np.array([0], np.int32)),)),
        lambda s: replace(s, geometries=(replace(s.geometries[0], uv=None),), surfaces=(first_layer(),)),
        lambda s: replace(s, cutouts=(replace(s.cutouts[0], extension="FOLD"),)),
        lambda s: replace(s, cutouts=(replace(s.cutouts[0], alpha=np.zeros((0, 4), np.uint8)),)),
        lambda s: replace(s, cutouts=(replace(s.cutouts[0], transform=np.full((2, 3), np.nan)),)),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(spoil):
    """The kernels trust what was checked."""
    with pytest.raises(ShotError):
        spoil(full()).check_values()
