# SPDX-License-Identifier: GPL-3.0-or-later
"""Blended patches against a dense solution, what is filled by patches at all, and smooth fills of bodies."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from tests.helpers import canvases
from tests.helpers import propagation_reference as reference
from trackshade.propagation import KeyPicture, Propagation
from trackshade.propagation.canvases import LARGEST
from trackshade.propagation.fills import KNOWN, PATCH_MATCH, PUSH_PULL, canvas, fill_canvas
from trackshade.propagation.fills.patch_match import _SCREEN, blend_sources
from trackshade.propagation.layout import find_planes
from trackshade.propagation.views import BLOCK, MARGIN, viewed_texels
from trackshade.shot import Shot


def blend_slowly(image: np.ndarray, known: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Solve the least squares of `blend_sources` texel by texel: one equation for each pair of neighbors and texel."""
    height, width = known.shape
    places = {(i, j): (i, j) for i, j in np.argwhere(known).tolist()}
    unknown = [(i, j) for i, j in np.argwhere(~known & (source[..., 0] >= 0)).tolist()]
    places |= {place: tuple(source[place].tolist()) for place in unknown}
    column = {place: n for n, place in enumerate(unknown)}
    equations, values = [], []

    def add(terms: dict[tuple[int, int], float], value: np.ndarray, weight: float = 1.0) -> None:
        row = np.zeros(len(unknown))
        for place, factor in terms.items():
            if place in column:
                row[column[place]] += factor
            else:
                value = value - factor * image[place]
        equations.append(np.sqrt(weight) * row)
        values.append(np.sqrt(weight) * value)

    def difference(place: tuple[int, int], i: int, j: int) -> np.ndarray | None:
        at = place[0] + i, place[1] + j
        inside = 0 <= at[0] < height and 0 <= at[1] < width
        return image[at] - image[place] if inside and known[at] else None

    for one in places:
        for i, j in ((0, 1), (1, 0)):
            other = one[0] + i, one[1] + j
            if other not in places or (one not in column and other not in column):
                continue
            after, before = difference(places[one], i, j), difference(places[other], -i, -j)
            slopes = [value for value in (after, None if before is None else -before) if value is not None]
            add({other: 1.0, one: -1.0}, np.mean(slopes, axis=0) if slopes else np.zeros(3))
    for place in unknown:
        add({place: 1.0}, image[places[place]].astype(float), _SCREEN)
    solved = np.linalg.lstsq(np.array(equations), np.array(values), rcond=None)[0]
    out = np.where(known[..., None], image, 0).astype(float)
    for place, value in zip(unknown, solved, strict=True):
        out[place] = value
    return out


@pytest.mark.parametrize("seed", range(4))
def test_blended_patches_have_the_differences_of_their_sources(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((11, 14, 3)).astype(np.float32)
    known = rng.random((11, 14)) < 0.6
    known[3:8, 4:10] = False
    choice = np.argwhere(known)
    source = choice[rng.integers(0, len(choice), known.shape)].astype(np.int32)
    source[known] = -1
    source[rng.random(known.shape) < 0.1] = -1  # that no patch reaches
    blended = blend_sources(image, known, source)
    np.testing.assert_allclose(blended, blend_slowly(image, known, source), atol=2e-3)
    assert np.array_equal(blended[known], image[known])


@pytest.mark.parametrize("orthographic", [False, True])
def test_texels_in_a_frame_are_viewed(orthographic: bool) -> None:
    """All of those whose point some frame sees, or would see without what hides it; and none far from these."""
    shot = reference.box_over_floor(4, orthographic)
    size, density = (320, 288), 8.0
    [plane] = find_planes(shot.geometries[0])
    corners = plane.project(shot.geometries[0].first[shot.geometries[0].triangles[plane.faces]].astype(float))
    low = corners.reshape(-1, 2).min(axis=0) - 14.0
    viewed = viewed_texels(shot, 0, plane.faces, (corners - low) * density, size)
    x, y = np.meshgrid(*(low[k] + (np.arange(size[k]) + 0.5) / density for k in (0, 1)))
    inside = (np.abs([x - corners[..., 0].mean(), y - corners[..., 1].mean()]) <= 6.0).all(axis=0)
    points = plane.origin + x[..., None] * plane.axes[0] + y[..., None] * plane.axes[1]
    seen = inside & np.any([_in_frame(shot, t, points) for t in range(4)], axis=0)
    assert (viewed | ~seen).all()
    rows, columns = np.nonzero(seen)
    reach = (MARGIN + 1) * BLOCK
    assert not viewed[: max(rows.min() - reach, 0)].any()
    assert not viewed[:, : max(columns.min() - reach, 0)].any()
    assert not viewed[rows.max() + reach :].any()
    assert not viewed[:, columns.max() + reach :].any()
    assert 0.02 < seen.mean() < viewed.mean() < 0.5


def _in_frame(shot: Shot, t: int, points: np.ndarray) -> np.ndarray:
    """Return which points [..., 3] of the first mesh project into a frame."""
    matrix, camera = shot.meshes[0].matrix_world[t], shot.camera
    world = points @ matrix[:3, :3].T + matrix[:3, 3]
    x, y, z = np.moveaxis(world @ camera.world_to_camera[t, :3, :3].T + camera.world_to_camera[t, :3, 3], -1, 0)
    k, depth = camera.intrinsics[t], np.ones_like(z) if camera.orthographic[t] else z
    u, v = k[0, 0] * x / depth + k[0, 2], k[1, 1] * y / depth + k[1, 2]
    return (z > 0) & (u >= 0) & (v >= 0) & (u <= shot.size[0]) & (v <= shot.size[1])


def test_what_no_frame_looks_at_is_filled_smoothly() -> None:
    color, known = canvases.render("gravel", 128), ~canvases.holes(128)
    viewed = np.zeros_like(known)
    viewed[:, :64] = True
    filled = fill_canvas(color, known, np.ones_like(known), kind="plane", viewed=viewed)
    assert (filled.method[known] == KNOWN).all()
    assert (filled.method[viewed & ~known] == PATCH_MATCH).all()
    assert (filled.method[~viewed & ~known] == PUSH_PULL).all()


def test_smooth_fills_of_bodies_are_interpolated_between_some_of_their_texels(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of a search for each texel but for a small part of their contrast."""
    height, width = 60, 90
    angle, z = np.meshgrid(np.linspace(0, 2 * np.pi, width, endpoint=False), np.linspace(-1, 1, height))
    positions = np.stack([np.cos(angle), np.sin(angle), z], -1).astype(np.float32)
    normals = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(z)], -1).astype(np.float32)
    color = (0.5 + 0.3 * positions).astype(np.float32)
    known = np.zeros((height, width), bool)
    known[5:55, 10:40] = True
    inside = np.ones_like(known)
    inside[:, 62] = inside[31] = False
    fills = []
    for grid in (canvas.GRID, 1):
        monkeypatch.setattr(canvas, "GRID", grid)
        filled = fill_canvas(
            color, known, inside, kind="atlas", positions=positions, normals=normals, method="push-pull"
        )
        assert (filled.method[inside & ~known] == PUSH_PULL).all()
        fills.append(filled.color[inside & ~known])
    # On the side that is turned away, where other points become the nearest, the search for each texel has a step.
    assert np.percentile(np.abs(fills[0] - fills[1]), 95) < 0.1 * fills[1].std()


def test_a_propagation_is_freed_when_it_is_not_needed_any_more() -> None:
    """Without waiting for the collection of cycles: pictures and canvases of a large shot are hundreds of megabytes."""
    shot = reference.box_over_floor(2)
    propagation = Propagation(shot, [KeyPicture(0, np.zeros((*shot.size[::-1], 3), np.uint8))])
    propagation.prepare()
    propagation.frame(1)
    alive = weakref.ref(propagation)
    gc.disable()
    try:
        del propagation
        assert alive() is None
    finally:
        gc.enable()


def test_ground_near_a_camera_that_moves_back_has_the_colors_of_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture shows none of what is nearest to the camera in other frames: its inset has to reach what is known."""
    monkeypatch.setitem(LARGEST, "plane", 96)
    views = [reference.look_at((x, 0, 1.6), (x + 8, 0, height)) for x, height in ((0, 1.4), (-12, 0.9), (-24, 0.4))]
    shot = reference.make_shot(
        (reference.floor(200.0),), (reference.mesh(0, reference.moved(*[(0, 0, 0)] * 3)),), reference.camera(views)
    )
    image = np.broadcast_to(np.array([200, 90, 40], np.uint8), (*shot.size[::-1], 3)).copy()
    propagation = Propagation(shot, [KeyPicture(0, image)])
    propagation.prepare()
    frame = propagation.frame(2)
    ground = frame.alpha == 1
    assert (frame.shown[ground] == 0).mean() > 0.2
    np.testing.assert_allclose(frame.image[ground], np.broadcast_to(image[0, 0] / 255, (ground.sum(), 3)), atol=0.02)
