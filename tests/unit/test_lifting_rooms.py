# SPDX-License-Identifier: GPL-3.0-or-later
"""Walls that are found in a picture, rooms that handles give, and how lines show the camera."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.lifted_rooms import (
    EYE,
    FOCAL,
    HEIGHT,
    LOOKING_DOWN,
    WIDTH,
    areas,
    camera,
    lift,
    mesh_of,
    pixels_of,
    write_photo,
)
from trackshade.cli.image_decoder import decode
from trackshade.lifting import lift_image
from trackshade.lifting.camera import PhotoCamera, axes_of_perspective, level_axes, perspective_of
from trackshade.lifting.vanishing import Segments, find_frame
from trackshade.shot.lift_request import LiftRequest, ObjectBox


def furnished_room(width: int = 480, height: int = 320) -> tuple[np.ndarray, PhotoCamera]:
    """A room whose walls differ by a few levels only, with a tiled floor, a door, a window and a wardrobe."""
    view = PhotoCamera((width, height), 0.75 * width, level_axes(math.radians(-3)), EYE)
    rays = view.scene_rays(np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5)
    right, down, away = np.moveaxis(rays, -1, 0)
    walls = np.stack([away / 5.0, right / 2.0, -right / 2.4, down / EYE, -down / 1.1])
    surface, inverse = walls.argmax(axis=0), walls.max(axis=0)
    x, z, y = right / inverse, EYE - down / inverse, away / inverse
    colors = np.array([[196, 194, 190], [203, 201, 196], [190, 188, 185], [120, 100, 80], [215, 215, 215]])[surface]
    tiles = (np.floor(x / 0.5) + np.floor(y / 0.5)) % 2
    colors = np.where(((surface == 3) & (tiles > 0))[..., None], colors - 14, colors)
    door, window = (surface == 0) & (np.abs(x - 0.9) < 0.45) & (z < 2.0), (surface == 1) & (np.abs(y - 3.2) < 0.6)
    colors = np.where(door[..., None], (130, 110, 95), colors)
    colors = np.where((window & (np.abs(z - 1.5) < 0.5))[..., None], (235, 240, 250), colors)
    wardrobe = (x * 0 + right / away * 3.4 > -2.3) & (right / away * 3.4 < -1.2) & (np.abs(down / away * 3.4) < EYE)
    wardrobe &= (EYE - down / away * 3.4 < 1.9) & (EYE - down / away * 3.4 > 0)
    colors = np.where(wardrobe[..., None], (110, 115, 130), colors)
    noise = np.random.default_rng(3).normal(0, 1.0, colors.shape)
    return np.clip(colors + noise, 0, 255).astype(np.uint8), view


def test_walls_are_found_by_faint_edges(tmp_path: Path) -> None:
    """Line segments show the floor, the door and the wardrobe; where the walls are, the colors show."""
    colors, view = furnished_room()
    path = tmp_path / "room.png"
    Image.fromarray(colors).save(path)
    fov = 2 * math.degrees(math.atan(view.size[0] / 2 / view.focal))
    scene = lift_image(path, LiftRequest(fov=fov, indoors=True), decode=decode)
    for name, axis, wanted in (
        ("Back wall", 1, 5.0),
        ("Left wall", 0, -2.4),
        ("Right wall", 0, 2.0),
        ("Ceiling", 2, 2.7),
    ):
        assert np.median(mesh_of(scene, name).positions[0][:, axis]) == pytest.approx(wanted, rel=0.1), name


def test_the_room_of_the_handles_is_built(tmp_path: Path) -> None:
    view = camera()
    perspective = perspective_of(view, view.rectangle_of((-2.5 / 8, -1.2 / 8, 2.5 / 8, EYE / 8)), indoors=True)
    scene = lift(write_photo(tmp_path), perspective=perspective, boxes=(ObjectBox((30, 28, 52, 50), depth=3.5),))
    names = [mesh.name for mesh in scene.meshes]
    assert names[:5] == ["Ground", "Back wall", "Left wall", "Right wall", "Ceiling"]
    for mesh, axis, value in zip(scene.meshes, (2, 1, 0, 0, 2), (0, 8, -2.5, 2.5, EYE + 1.2), strict=False):
        off = np.abs(mesh.positions[0][:, axis] - value)
        assert off.max() < 1e-3, mesh.name
        assert areas(pixels_of(scene, mesh), mesh.triangles).min() > 0
    ground, back = (mesh.positions[0] for mesh in scene.meshes[:2])  # which a moved camera sees no gap between
    assert ground[:, 1].max() > 8
    assert back[:, 0].max() > 2.5
    assert back[:, 2].min() < 0
    assert [mesh.one_sided for mesh in scene.meshes[:5]] == [False, True, True, True, True]
    assert scene.perspective is not None
    assert scene.perspective.focal_error == 0


def test_a_card_stands_where_it_touches_the_ground(tmp_path: Path) -> None:
    """A red board before a gray room is cut out by a loose box, and stands upright on the floor."""
    pixels = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    pixels += np.random.default_rng(0).integers(0, 12, pixels.shape).astype(np.uint8)
    pixels[28:50, 30:52] = (200, 30, 20)
    view = camera()
    perspective = perspective_of(view, view.rectangle_of((-0.4, -0.3, 0.4, 0.2)), indoors=True)
    box = ObjectBox((26, 24, 56, 54), "board")
    scene = lift(write_photo(tmp_path, pixels), perspective=perspective, boxes=(box,))
    card = mesh_of(scene, "board")
    assert areas(pixels_of(scene, card), card.triangles).sum() == pytest.approx(22 * 22, rel=0.05)
    assert card.pivot[2] == pytest.approx(0, abs=0.03)
    assert np.ptp(card.positions[0][:, 1]) < 0.2  # upright, across the view
    expected = EYE / math.tan(math.atan((49.5 - HEIGHT / 2) / FOCAL) - LOOKING_DOWN)
    assert card.pivot[1] == pytest.approx(expected, rel=0.02)
    moved = lift(write_photo(tmp_path, pixels), perspective=perspective,
                 boxes=(ObjectBox((26, 24, 56, 54), "board", foot=44.0),))  # fmt: skip
    assert mesh_of(moved, "board").positions[0][:, 1].max() > card.pivot[1] + 0.5


@pytest.mark.parametrize("pitch", [-0.15, 0.0, 0.2])
def test_handles_and_the_camera_are_the_same(pitch: float) -> None:
    c, s = math.cos(0.05), math.sin(0.05)
    roll = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = math.cos(0.3), math.sin(0.3)
    yaw = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    view = PhotoCamera((WIDTH, HEIGHT), FOCAL, roll @ level_axes(pitch) @ yaw, EYE)
    edges = (-0.4, -0.3, 0.5, 0.2)
    perspective = perspective_of(view, view.rectangle_of(edges))
    assert np.allclose(axes_of_perspective(perspective, view.size), view.axes, atol=1e-9)
    assert perspective.rectangle is not None
    assert view.edges_of(perspective.rectangle) == pytest.approx(edges)
    assert np.allclose(view.rows_above_horizon(*np.array(perspective.horizon).T), 0, atol=1e-9)


def segments_of_a_room(focal: float, axes: np.ndarray, seed: int) -> Segments:
    """Edges along the three directions of a room, and half as many segments in any direction."""
    rng = np.random.default_rng(seed)
    start, end = [], []
    while len(start) < 60:
        a = np.array([rng.uniform(-4, 4), rng.uniform(-2, 1.6), rng.uniform(3, 9)])
        b = a + np.eye(3)[rng.integers(3)] * rng.uniform(0.5, 2)
        (u, v) = (axes @ a)[:2] / (axes @ a)[2] * focal, (axes @ b)[:2] / (axes @ b)[2] * focal
        if (np.abs([u, v]) < (0.5, 0.33)).all() and np.linalg.norm(u - v) > 0.03:
            start.append(u + rng.normal(0, 0.0004, 2))
            end.append(v + rng.normal(0, 0.0004, 2))
    for _ in range(30):
        u, angle = rng.uniform(-0.5, 0.5, 2) * (1, 0.66), rng.uniform(0, math.pi)
        start.append(u)
        end.append(u + 0.06 * np.array([math.cos(angle), math.sin(angle)]))
    lines = np.array(start), np.array(end)
    return Segments(*lines, np.minimum(np.linalg.norm(lines[1] - lines[0], axis=1), 0.25))


def test_lines_show_how_the_camera_stands() -> None:
    c, s = math.cos(0.4), math.sin(0.4)
    axes = level_axes(-0.1) @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    segments = segments_of_a_room(0.7, axes, 0)
    for known in (None, 0.7):
        frame = find_frame(segments, known)
        assert frame is not None
        assert math.degrees(math.acos(min(1.0, frame.axes[:, 1] @ axes[:, 1]))) < 0.5
        assert frame.focal == pytest.approx(0.7, rel=0.05)
        assert np.abs(frame.axes[:, 2] @ axes[:, 2]) > math.cos(math.radians(1))
    assert find_frame(Segments(np.zeros((3, 2)), np.ones((3, 2)), np.ones(3))) is None


# Pictures of all kinds, and input that cannot be used
