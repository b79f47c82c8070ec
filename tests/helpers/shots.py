# SPDX-License-Identifier: GPL-3.0-or-later
"""Shots for tests: a small one by hand, and any shot by hypothesis."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trackshade.shot import CameraTrack, Geometry, MeshTrack, ObjectTrack, Shot, Surfaces

FINITE = st.floats(-1e6, 1e6, width=32)


def camera_track(count: int) -> CameraTrack:
    return CameraTrack(
        name="Camera",
        sources=("Camera",) * count,
        intrinsics=np.tile(np.array([[90.0, 0, 48], [0, 90, 32], [0, 0, 1]]), (count, 1, 1)),
        world_to_camera=np.tile(np.eye(4), (count, 1, 1)),
        orthographic=np.zeros(count, bool),
        clip=np.tile([0.1, 100.0], (count, 1)),
    )


def small_shot(count: int = 3) -> Shot:
    """A rigid triangle used twice, a deforming square with texture coordinates, and a light."""
    rng = np.random.default_rng(1)
    triangle = Geometry(rng.random((1, 3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    square = Geometry(
        rng.random((count, 4, 3), np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        rng.random((2, 3, 2), np.float32),
    )
    moving = np.tile(np.eye(4), (count, 1, 1))
    moving[:, 0, 3] = np.arange(count)
    seen = np.ones(count, bool)
    return Shot(
        frame_numbers=np.arange(1.0, count + 1),
        fps=24.0,
        size=(96, 64),
        camera=camera_track(count),
        geometries=(triangle, square),
        meshes=(
            MeshTrack("Triangle", 0, moving, seen, pass_index=3),
            MeshTrack("Triangle.001", 0, moving * 2, ~seen, holdout=True),
            MeshTrack("Square", 1, moving, seen),
        ),
        objects=(ObjectTrack("Lamp", "LIGHT", moving),),
        view_layer="ViewLayer",
        source={"file": "a.blend", "scene": "Scene", "warnings": ["a warning"], "frame_map": {"step": 1.0}},
    )


def changing_shot() -> Shot:
    """A square that is a triangle fan of five vertices in samples 1 and 2, and itself again in sample 3."""
    corners = np.array([(0, 0, 5), (1, 0, 5), (1, 1, 5), (0, 1, 5)], np.float32)
    square = Geometry(corners[None], np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    fan = np.stack([np.vstack([corners, [(0.5, 0.5, 5 - t)]]) for t in (0, 1)]).astype(np.float32)
    between = Geometry(
        fan,
        np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]], np.int32),
        origins=fan[0],
        births=np.array([0, 0, 0, 0, 1], np.int32),
        start=1,
    )
    again = Geometry(
        square.positions + np.float32(0.25), square.triangles, origins=corners, births=np.zeros(4, np.int32), start=3
    )
    moving = np.tile(np.eye(4), (4, 1, 1))
    moving[:, 0, 3] = np.arange(4)
    track = MeshTrack("Square", 0, moving, np.ones(4, bool), changes=((1, 1), (3, 2)))
    return Shot(np.arange(1.0, 5), 24.0, (96, 64), camera_track(4), (square, between, again), (track,))


@st.composite
def geometries(draw: st.DrawFn, count: int) -> Geometry:
    vertices = draw(st.integers(1, 6))
    faces = draw(st.integers(0, 4))
    samples = draw(st.sampled_from([1, count]))
    uv = hnp.arrays(np.float32, (faces, 3, 2), elements=FINITE)
    return Geometry(
        draw(hnp.arrays(np.float32, (samples, vertices, 3), elements=FINITE)),
        draw(hnp.arrays(np.int32, (faces, 3), elements=st.integers(0, vertices - 1))),
        draw(st.none() | uv),
        materials=draw(st.none() | hnp.arrays(np.int32, faces, elements=st.integers(0, 3))),
        more_uv=tuple(draw(st.lists(uv, max_size=2))),
        origins=draw(st.none() | hnp.arrays(np.float32, (vertices, 3), elements=FINITE)),
        births=draw(st.none() | hnp.arrays(np.int32, vertices, elements=st.integers(0, count - 1))),
    )


@st.composite
def changes(draw: st.DrawFn, count: int, shapes: int) -> tuple[tuple[int, int], ...]:
    times = draw(st.lists(st.integers(1, count - 1), unique=True, max_size=3)) if count > 1 else []
    return tuple((t, draw(st.integers(0, shapes - 1))) for t in sorted(times))


@st.composite
def surfaces(draw: st.DrawFn, count: int) -> Surfaces:
    """Any surfaces without cut-outs, which need texture coordinates."""
    slots = draw(st.integers(1, 3))
    sides = hnp.arrays(np.bool_, (draw(st.sampled_from([1, count])), slots))
    return Surfaces(draw(sides), draw(sides), np.full(slots, -1, np.int32), np.zeros(slots, np.int32))


@st.composite
def shots(draw: st.DrawFn) -> Shot:
    """Any valid shot: shared and unused geometries, empty meshes, sub-frames, any names."""
    count = draw(st.integers(1, 4))
    names = st.text(max_size=8)
    matrices = hnp.arrays(np.float64, (count, 4, 4), elements=FINITE)
    flags = hnp.arrays(np.bool_, count)
    shapes = tuple(draw(st.lists(geometries(count), max_size=3)))
    index = st.integers(0, len(shapes) - 1)
    looks = tuple(draw(st.lists(surfaces(count), max_size=2)))
    meshes = st.builds(
        MeshTrack, names, index, matrices, flags, st.booleans(), st.integers(0, 32767),
        surfaces=st.none() | st.integers(0, len(looks) - 1) if looks else st.none(),
        changes=changes(count, len(shapes)),
    )  # fmt: skip
    start = draw(st.floats(-1000, 1000))
    return Shot(
        frame_numbers=start + np.cumsum(draw(hnp.arrays(np.float64, count, elements=st.floats(0.125, 100)))),
        fps=draw(st.floats(0.1, 240)),
        size=(draw(st.integers(1, 4096)), draw(st.integers(1, 4096))),
        camera=camera_track(count),
        geometries=shapes,
        meshes=tuple(draw(st.lists(meshes, max_size=3))) if shapes else (),
        objects=tuple(draw(st.lists(st.builds(ObjectTrack, names, names, matrices), max_size=2))),
        view_layer=draw(names),
        source={"file": draw(names), "warnings": draw(st.lists(names, max_size=2))},
        surfaces=looks,
    )


def same(one: Shot, other: Shot) -> bool:
    """Whether two shots hold the same bytes and the same words."""
    (header, arrays), (header_2, arrays_2) = one.encode(), other.encode()
    return header == header_2 and all(a.tobytes() == b.tobytes() for a, b in zip(arrays, arrays_2, strict=True))
