# SPDX-License-Identifier: GPL-3.0-or-later
"""Which points persist through a change of topology, and the geometries that come of it, without Blender."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_surface_search import ball
from trackshade.shot.carrying import Carried, Surface, carry
from trackshade.shot.segments import History, geometries_of


def fresh(positions: np.ndarray, triangles: np.ndarray) -> Surface:
    return Surface(positions, triangles, positions, np.zeros(len(positions), np.int32))


def sheet(columns: int, rows: int = 12, spacing: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A flat grid whose faces go column by column, so that one with more columns begins with the same faces."""
    x, y = np.meshgrid(np.arange(columns) * spacing, np.arange(rows) * spacing, indexing="ij")
    positions = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3).astype(np.float32)
    n = np.arange(columns * rows).reshape(columns, rows)
    a, b, c, d = n[:-1, :-1], n[1:, :-1], n[1:, 1:], n[:-1, 1:]
    corners = np.stack([np.stack([a, b, c], axis=-1), np.stack([a, c, d], axis=-1)], axis=2)
    return positions, corners.reshape(-1, 3).astype(np.int32)


def put(before: Surface, positions: np.ndarray, triangles: np.ndarray, t: int = 1) -> Carried:
    return carry(before, positions, triangles, t)


def test_vertices_at_the_same_place_are_the_same_in_any_order() -> None:
    positions, triangles = ball(12)
    order = np.random.default_rng(0).permutation(len(positions))
    inverse = np.argsort(order)
    origins = np.random.default_rng(1).random(positions.shape).astype(np.float32)
    births = np.arange(len(positions), dtype=np.int32)
    found = put(Surface(positions, triangles, origins, births), positions[order], inverse[triangles].astype(np.int32))
    np.testing.assert_array_equal(found.origins, origins[order])
    np.testing.assert_array_equal(found.births, births[order])
    assert found.is_exact


def test_vertices_that_lie_on_each_other_are_told_apart_by_their_order() -> None:
    """Two sheets at one place with origins of their own, of which a third one is cut off in front."""
    positions, triangles = sheet(5)
    count = len(positions)
    both = np.concatenate([positions - 50, positions, positions])
    faces = np.concatenate([triangles, triangles + count, triangles + 2 * count])
    origins = np.concatenate([positions, positions + 7, positions - 7])
    before = Surface(both, faces, origins, np.zeros(3 * count, np.int32))
    found = put(before, both[count:], np.concatenate([triangles, triangles + count]))
    np.testing.assert_array_equal(found.origins, origins[count:])


def test_minus_zero_is_zero() -> None:
    positions, triangles = sheet(5)
    found = put(fresh(positions, triangles), (positions * [1, 1, -1])[::-1].astype(np.float32), triangles)
    np.testing.assert_array_equal(found.births, 0)


@pytest.mark.parametrize("moved", [False, True])
def test_what_is_added_is_new_and_the_rest_keeps_its_identity(moved: bool) -> None:
    positions, triangles = sheet(8)
    more, faces = sheet(11)
    if moved:
        more = more + np.array([0.1, 0.2, 3.0], np.float32)
    found = put(fresh(positions, triangles), more, faces)
    count = len(positions)
    np.testing.assert_array_equal(found.births, [0] * count + [1] * (len(more) - count))
    np.testing.assert_array_equal(found.origins[:count], positions)
    np.testing.assert_array_equal(found.origins[count:], more[count:])
    assert found.is_exact


def test_a_still_surface_with_more_columns_is_not_taken_for_a_moving_one() -> None:
    """Its first faces are the same, but all its vertices slide: the surface rests."""
    positions, triangles = sheet(40, spacing=1.0)
    finer, faces = sheet(44)
    finer = finer * np.array([39 / 43, 1, 1], np.float32)
    found = put(fresh(positions, triangles), finer, faces)
    np.testing.assert_allclose(found.origins, finer, atol=1e-4)
    assert not found.births.any()


def test_finer_faces_keep_the_origins_of_a_surface_that_has_moved() -> None:
    positions, triangles = ball(12)
    middle = positions[triangles].mean(axis=1)
    number = len(positions) + np.arange(len(triangles))
    faces = [np.stack([triangles[:, k], triangles[:, (k + 1) % 3], number], axis=1) for k in range(3)]
    moved = np.array([4, 5, 6], np.float32)
    before = Surface(positions + moved, triangles, positions, np.full(len(positions), 3, np.int32))
    all_now = np.concatenate([positions, middle]) + moved
    found = put(before, all_now.astype(np.float32), np.concatenate(faces).astype(np.int32), 5)
    np.testing.assert_allclose(found.origins, np.concatenate([positions, middle]), atol=1e-5)
    np.testing.assert_array_equal(found.births, 3)


def test_a_body_that_moves_and_is_remeshed_keeps_its_points() -> None:
    positions, triangles = ball(30)
    other, faces = ball(33, 1.06)
    found = put(fresh(positions, triangles), other, faces)
    assert not found.births.any()
    assert not found.is_exact
    np.testing.assert_allclose(found.origins, other / np.float32(1.06), atol=0.02)


def test_a_body_that_appears_beside_another_is_new() -> None:
    """They touch, and the first one is remeshed, too."""
    positions, triangles = ball(30)
    again, faces = ball(33, 1.01)
    second, more = ball(20, 0.5)
    second = second + np.array([1.5, 0, 0], np.float32)
    both = np.concatenate([again, second])
    found = put(fresh(positions, triangles), both, np.concatenate([faces, more + len(again)]))
    assert not found.births[: len(again)].any()
    apart = second[:, 0] > 1.4
    assert found.births[len(again) :][apart].all()
    np.testing.assert_array_equal(found.origins[len(again) :][apart], second[apart])


def test_births_are_not_mixed() -> None:
    positions, triangles = sheet(6)
    births = np.where(positions[:, 0] > 2.5, 4, 0).astype(np.int32)
    finer, faces = sheet(51, 12)
    finer = finer * np.array([0.1, 1, 1], np.float32)
    found = put(Surface(positions, triangles, positions, births), finer, faces, 6)
    assert set(found.births.tolist()) == {0, 4}
    np.testing.assert_array_equal(found.births[finer[:, 0] > 2.51], 4)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_any_meshes_give_origins_and_births(seed: int) -> None:
    """Loose vertices, faces without area, anything: origins are finite, and births are of then or of now."""
    rng = np.random.default_rng(seed)

    def soup() -> tuple[np.ndarray, np.ndarray]:
        count = int(rng.integers(3, 60))
        positions = np.round(rng.normal(size=(count, 3)), int(rng.integers(0, 3))).astype(np.float32)
        return positions, rng.integers(0, count, (int(rng.integers(1, 90)), 3)).astype(np.int32)

    found = put(fresh(*soup()), *soup(), 9)
    assert np.isfinite(found.origins).all()
    assert set(np.unique(found.births)) <= {0, 9}


def history(samples: list[tuple[str, np.ndarray, np.ndarray]], total: int | None = None) -> History:
    key, positions, triangles = samples[0]
    made = History(total or len(samples), key, positions, triangles, None)
    for t, (key, positions, triangles) in enumerate(samples):
        made.put(t, key, positions, lambda triangles=triangles: (triangles, None))
    return made


def test_a_history_holds_what_was_seen_last() -> None:
    """Also between the samples in which a mesh is seen, and to the end."""
    positions, triangles = sheet(4)
    made = History(6, "a", positions, triangles, None)
    made.put(1, "a", positions, lambda: (triangles, None))
    made.put(3, "a", positions + 1, lambda: (triangles, None))
    made.complete()
    (geometry,), _ = geometries_of([made])
    np.testing.assert_array_equal(geometry.positions[:, 0, 0], [0, 0, 0, 1, 1, 1])
    assert made.changes == []


def test_one_segment_for_each_topology() -> None:
    a, b = sheet(4), sheet(6)
    made = history([("a", *a), ("b", *b), ("b", b[0] + 1, b[1]), ("a", *a), ("a", a[0] + 2, a[1]), ("b", *b)])
    made.complete()
    geometries, numbers = geometries_of([made])
    first, changes = made.track(numbers)
    assert (first, changes) == (0, ((1, 1), (3, 0), (4, 2), (5, 3)))
    assert [(item.start, len(item.positions)) for item in geometries] == [(0, 1), (1, 2), (4, 1), (5, 1)]
    assert np.shares_memory(geometries[2].triangles, geometries[0].triangles)
    assert geometries[2].same_points(geometries[0])
    assert geometries[3].same_points(geometries[1])


@pytest.mark.parametrize("parts", ["deforms", "changes"])
def test_a_history_that_parts_from_another(parts: str) -> None:
    """Both share what was before; neither sees what the other does."""
    a, b = sheet(4), sheet(6)
    one = history([("a", *a), ("b", *b), ("b", b[0] + 1, b[1])], 5)
    other = one.fork(2)
    if parts == "deforms":
        other.put(2, "b", b[0] + 9, lambda: (b[1], None))
    else:
        other.put(2, "a", a[0], lambda: (a[1], None))
    for t in (3, 4):
        one.put(t, "b", b[0] + t, lambda: (b[1], None))
        other.put(t, "b", b[0] - t, lambda: (b[1], None))
    for made in (one, other):
        made.complete()
    geometries, numbers = geometries_of([one, other])

    def shown(made: History, t: int) -> np.ndarray:
        first, changes = made.track(numbers)
        index = next((k for s, k in reversed(changes) if s <= t), first)
        return geometries[index].at(t)

    for t, offset in enumerate((None, 0, 1, 3, 4)):
        expected = a[0] if offset is None else b[0] + np.float32(offset)
        np.testing.assert_array_equal(shown(one, t), expected)
    expected = [a[0], b[0], b[0] + 9 if parts == "deforms" else a[0], b[0] - 3, b[0] - 4]
    for t in range(5):
        np.testing.assert_array_equal(shown(other, t), expected[t])
    assert one.segments[0] is other.segments[0]
