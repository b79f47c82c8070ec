# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifting a photo: cut meshes, objects, walls, and input that cannot be used. Scenes are computed ray by ray here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trackshade.cli import backend_tasks
from trackshade.cli.image_decoder import decode
from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.core.errors import CancelledError, ShotError, TrackshadeError, UsageError
from trackshade.core.geometry import project
from trackshade.lifting import lift_image
from trackshade.lifting.camera import PhotoCamera, axes_of_perspective, level_axes, perspective_of
from trackshade.lifting.cuts import EXACT, NOTHING, SOFT, DepthLattice, cut_edges
from trackshade.lifting.holes import continue_behind
from trackshade.lifting.meshing import PictureMesh, mesh_lattice
from trackshade.lifting.vanishing import Segments, find_frame
from trackshade.shot.lift_request import LiftRequest, ObjectBox
from trackshade.shot.lifted import LiftedMesh, LiftedScene, Perspective

WIDTH, HEIGHT, FOCAL, EYE = 96, 64, 80.0, 1.6
FOV = 2 * math.degrees(math.atan(WIDTH / 2 / FOCAL))
LOOKING_DOWN = math.radians(-4)
X, Y = np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5
BOX = (slice(28, 50), slice(30, 52))  # rows and columns of an upright board that stands on the floor


def camera(pitch: float = LOOKING_DOWN) -> PhotoCamera:
    return PhotoCamera((WIDTH, HEIGHT), FOCAL, level_axes(pitch), EYE)


def room(pitch: float = LOOKING_DOWN) -> np.ndarray:
    """[H, W] 1 / z of a room: the floor, a back wall 8 m away, and walls 2.5 m to the left and the right."""
    rays = camera(pitch).scene_rays(X, Y[:, None])
    right, down, away = np.moveaxis(rays, -1, 0)
    return np.maximum.reduce([down / EYE, away / 8.0, right / 2.5, -right / 2.5])


def with_board(inverse: np.ndarray) -> np.ndarray:
    result = inverse.copy()
    result[BOX] = 1 / 3.5
    return result


def board() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[BOX] = True
    return mask


def lattice(inverse: np.ndarray, labels: np.ndarray | None = None) -> DepthLattice:
    return DepthLattice(X, Y, inverse, np.zeros(inverse.shape, np.int32) if labels is None else labels)


def areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Signed areas in the picture, positive for triangles that are counter-clockwise as seen (y is down)."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    return ((c - a)[:, 0] * (b - a)[:, 1] - (c - a)[:, 1] * (b - a)[:, 0]) / 2


def write_photo(folder: Path, pixels: np.ndarray | None = None, name: str = "photo.png") -> Path:
    if pixels is None:
        pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def write_mask(folder: Path, mask: np.ndarray, name: str = "board.png") -> str:
    Image.fromarray((mask * 255).astype(np.uint8)).save(folder / name)
    return str(folder / name)


def write_depth(folder: Path, depth: np.ndarray, name: str = "depth.npy") -> str:
    np.save(folder / name, depth.astype(np.float32))
    return str(folder / name)


def lift(path: Path, **wanted) -> LiftedScene:
    return lift_image(path, LiftRequest(**wanted), decode=decode)


def mesh_of(scene: LiftedScene, name: str) -> LiftedMesh:
    return next(mesh for mesh in scene.meshes if mesh.name == name)


def pixels_of(scene: LiftedScene, mesh: LiftedMesh) -> np.ndarray:
    """Where the photo's camera sees a mesh's vertices."""
    matrix = scene.world_to_camera[0]
    return project(mesh.positions[0].astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3], scene.intrinsics, False)


def drawn_labels(mesh: PictureMesh) -> np.ndarray:
    """[H, W] the surface that covers each pixel's center, inf for none."""
    buffers = Buffers.empty((WIDTH, HEIGHT))
    for label in np.unique(mesh.labels):
        part = mesh.part(label)
        positions = np.column_stack([part.points - (WIDTH / 2, HEIGHT / 2), np.full(len(part.points), 2.0 + label)])
        lens = np.array([[2.0 + label, 0, WIDTH / 2], [0, 2.0 + label, HEIGHT / 2], [0, 0, 1]])
        draw(buffers, to_screen(positions, np.eye(4), lens, False), part.triangles, int(label))
    return buffers.depth - 2.0


# Cuts


@pytest.mark.parametrize("stride", [1, 4, 7])
@pytest.mark.parametrize("rule", [EXACT, SOFT])
def test_the_mesh_covers_the_picture_once(stride: int, rule) -> None:
    """All triangles face the camera, and their areas add up: no slit, no overlap."""
    rng = np.random.default_rng(1)
    rough = with_board(room()) * np.where(rng.random((HEIGHT, WIDTH)) < 0.05, 1.5, 1.0)
    mesh = mesh_lattice(lattice(rough), rule, stride)
    found = areas(mesh.points, mesh.triangles)
    assert found.min() > 0
    assert found.sum() == pytest.approx((WIDTH - 1) * (HEIGHT - 1), rel=1e-9)


def test_vertices_lie_on_the_surfaces_and_no_triangle_joins_two_of_them() -> None:
    labels = np.where(board(), 1, 0).astype(np.int32)
    mesh = mesh_lattice(lattice(with_board(room()), labels), EXACT, 1)
    for label, truth in ((0, None), (1, 1 / 3.5)):
        part = mesh.part(label)
        x, y = part.points.T
        right, down, away = np.moveaxis(camera().scene_rays(x, y), -1, 0)
        behind = np.maximum.reduce([down / EYE, away / 8.0, right / 2.5, -right / 2.5])
        error = np.abs(part.inverse / (behind if truth is None else truth) - 1)
        assert np.quantile(error, 0.98) < 1e-6  # where two walls meet, a vertex may continue either of them
        assert error.max() < 0.03


def test_a_jump_is_cut_and_a_crease_or_a_grazing_floor_is_not() -> None:
    across, down = cut_edges(lattice(with_board(room())), EXACT)
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[BOX] = True
    expected_across, expected_down = truth[:, 1:] != truth[:, :-1], truth[1:] != truth[:-1]
    # The board's foot is where it touches the floor: there is no jump.
    assert (across == expected_across)[: BOX[0].stop - 6].all()
    assert (down == expected_down)[: BOX[0].stop - 6].all()
    assert not cut_edges(lattice(room()), EXACT)[0].any()
    floor = np.maximum(Y[:, None] - 20.2, 0.0) * np.ones(WIDTH) / 100 + 1e-3
    assert not cut_edges(lattice(floor), EXACT)[1][21:].any()


def test_a_blended_pixel_on_an_edge_does_not_join_its_sides() -> None:
    inverse = np.full((HEIGHT, WIDTH), 0.5)
    inverse[:, 40:] = 0.1
    inverse[:, 39] = 0.3
    across, _ = cut_edges(lattice(inverse), EXACT)
    assert across[:, [38, 39]].all()
    assert across.sum() == 2 * HEIGHT


def test_flat_regions_get_large_triangles_and_curved_ones_small_triangles() -> None:
    """Between large and small triangles no crack opens: every edge but those of the border belongs to two of them."""
    x, y = np.arange(97) + 0.5, np.arange(65) + 0.5
    labels = np.zeros((65, 97), np.int32)
    flat = mesh_lattice(DepthLattice(x, y, np.full((65, 97), 0.2), labels), EXACT, 4, tolerance=1e-4)
    bump = 0.2 + 0.05 * np.exp(-((x - 48) ** 2 + (y[:, None] - 32) ** 2) / 30)
    curved = mesh_lattice(DepthLattice(x, y, bump, labels), EXACT, 4, tolerance=1e-4)
    assert len(flat.triangles) == 2 * 24 * 16
    assert 1.2 * len(flat.triangles) < len(curved.triangles) < 2.2 * len(flat.triangles)
    edges = np.concatenate([curved.triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    pairs = {(int(a), int(b)) for a, b in edges}
    assert len(pairs) == len(edges)
    points = curved.points
    for a, b in pairs:
        on_border = any(points[a, k] == points[b, k] and points[a, k] in (0.5, (96.5, 64.5)[k]) for k in (0, 1))
        assert on_border or (b, a) in pairs


def test_nothing_is_left_where_there_is_no_surface() -> None:
    labels = np.where(board(), NOTHING, 0).astype(np.int32)
    mesh = mesh_lattice(lattice(room(), labels), EXACT, 4)
    assert areas(mesh.points, mesh.triangles).sum() == pytest.approx((WIDTH - 1) * (HEIGHT - 1) - 22 * 22, abs=8)
    seen = drawn_labels(mesh)
    assert (np.isfinite(seen) == ~board())[1:-1, 1:-1].all()  # corners are rounded between the pixels only


@pytest.mark.parametrize("seed", range(4))
def test_all_pixels_keep_their_surface(seed: int) -> None:
    """However the surfaces lie: silhouettes run between the pixels' centers."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 3, (16, 24)).astype(np.int32).repeat(4, axis=0).repeat(4, axis=1)
    labels = np.where(rng.random(labels.shape) < 0.1, rng.integers(-1, 3, labels.shape), labels).astype(np.int32)
    mesh = mesh_lattice(lattice(0.1 + 0.1 * labels, labels), None, 4)
    assert areas(mesh.points, mesh.triangles).min() > 0
    seen = drawn_labels(mesh)[1:-1, 1:-1]
    assert np.array_equal(np.where(np.isfinite(seen), seen, NOTHING), labels[1:-1, 1:-1])


@pytest.mark.parametrize("slope", [0.0, 0.1, 0.3, 0.9, 2.5])
def test_straight_silhouettes_are_straight(slope: float) -> None:
    """They are found between the pixels; a staircase is off by 0.29 pixels."""
    distance = (Y[:, None] - 20.3 - slope * (X - 40.1)) / math.hypot(1, slope)
    mesh = mesh_lattice(lattice(np.where(distance > 0, 0.5, 0.1)), EXACT, 4)
    x, y = mesh.points[mesh.inverse == 0.5].T
    off = (y - 20.3 - slope * (x - 40.1)) / math.hypot(1, slope)
    inside = (x > 12) & (x < WIDTH - 12) & (y > 12) & (y < HEIGHT - 12)
    edge = off[inside & ((x % 1 != 0.5) | (y % 1 != 0.5))]
    assert len(edge) > 20
    assert np.sqrt((edge**2).mean()) < 0.15 if slope else np.allclose(edge, -0.3)


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.2])
def test_two_planes_meet_where_they_do(turn: float) -> None:
    """A crease between pixels has its own vertices, and both sides share them."""
    across = math.cos(turn) * (X - 47.3) + math.sin(turn) * (Y[:, None] - 31.8)
    mesh = mesh_lattice(lattice(0.3 - 0.002 * np.abs(across)), EXACT, 4, tolerance=1e-5)
    x, y = mesh.points.T
    inside = (np.abs(x - 48) < 44) & (np.abs(y - 32) < 28)
    truth = 0.3 - 0.002 * np.abs(math.cos(turn) * (x - 47.3) + math.sin(turn) * (y - 31.8))
    assert np.abs(mesh.inverse - truth)[inside].max() < 1e-12
    corners = mesh.points[mesh.triangles]
    middle, value = corners.mean(axis=1), mesh.inverse[mesh.triangles].mean(axis=1)
    inside = (np.abs(middle - (48, 32)) < (44, 28)).all(axis=1)
    truth = 0.3 - 0.002 * np.abs(math.cos(turn) * (middle[:, 0] - 47.3) + math.sin(turn) * (middle[:, 1] - 31.8))
    assert np.abs(value - truth)[inside].max() < 0.04 * 0.004  # a pixel's center is as good where it is as near
    edges = np.concatenate([mesh.triangles[:, [i, (i + 1) % 3]] for i in range(3)])
    pairs = {(int(a), int(b)) for a, b in edges}
    inner = (np.abs(mesh.points - (48, 32)) < (44, 28)).all(axis=1)
    assert all((b, a) in pairs for a, b in pairs if inner[a] and inner[b])


def test_floor_and_wall_are_continued_behind_an_object() -> None:
    filled = continue_behind(with_board(room()), board(), X, Y)
    assert np.abs(filled / room() - 1)[board()].max() < 1e-6
    assert (filled[~board()] == with_board(room())[~board()]).all()


# Depth files


def test_a_photo_with_depth_becomes_meshes_that_show_it(tmp_path: Path) -> None:
    photo = write_photo(tmp_path)
    inverse = with_board(room())
    inverse[:8, 60:] = 0  # sky
    with np.errstate(divide="ignore"):
        depth = write_depth(tmp_path, 1 / inverse)
    scene = lift(photo, depth=depth, masks=(write_mask(tmp_path, board()),), fov=FOV)
    assert [mesh.name for mesh in scene.meshes] == ["Background", "Sky", "board"]
    assert [mesh.kind for mesh in scene.meshes] == ["background", "sky", "object"]
    assert scene.intrinsics[0, 0] == pytest.approx(FOCAL)
    assert scene.notes["metric"]
    # The ground that the depth shows is the world's, and the camera's tilt is found by it.
    center = np.linalg.inv(scene.world_to_camera[0])[:3, 3]
    assert center == pytest.approx([0, 0, EYE], abs=1e-3)
    assert scene.world_to_camera[0][2, 2] == pytest.approx(math.sin(LOOKING_DOWN), abs=1e-3)
    total, corners = 0.0, []
    for mesh in scene.meshes:
        pixels = pixels_of(scene, mesh)
        corners += [pixels.min(axis=0), pixels.max(axis=0)]
        found = areas(pixels, mesh.triangles)
        assert found.min() > 0
        total += 0 if mesh.kind == "object" else found.sum()
    # Without gaps and overlaps, in the picture and beyond it.
    extent = np.ptp(corners, axis=0)
    assert total == pytest.approx(extent[0] * extent[1], rel=1e-4)
    assert (extent > 2 * np.array([WIDTH, HEIGHT])).all()
    foot = mesh_of(scene, "board").pivot
    assert foot[1] == pytest.approx(3.5, abs=0.1)


def test_surfaces_continue_beyond_the_picture(tmp_path: Path) -> None:
    """A floor and walls stay floor and walls, as far as they are clear at the border."""
    depth = write_depth(tmp_path, 1 / room())
    scene = lift(write_photo(tmp_path), depth=depth, fov=FOV)
    positions = mesh_of(scene, "Background").positions[0]
    pixels = pixels_of(scene, mesh_of(scene, "Background"))
    below = (pixels[:, 1] > HEIGHT + 4) & (np.abs(pixels[:, 0] - WIDTH / 2) < WIDTH / 4)
    assert below.sum() > 20
    assert np.abs(positions[below, 2]).max() < 0.05
    beside = (pixels[:, 0] > WIDTH + 4) & (np.abs(pixels[:, 1] - HEIGHT / 2) < 4)
    assert beside.sum() > 5
    assert np.abs(positions[beside, 0] - 2.5).max() < 0.1


def test_what_the_border_cuts_off_does_not_become_a_wall(tmp_path: Path) -> None:
    """The side of a box at the border is seen over 0.4 m: it comes nearer by no more than that beyond the border."""
    right, down, away = np.moveaxis(camera().scene_rays(X, Y[:, None]), -1, 0)
    inverse = np.maximum.reduce([down / EYE, away / 12.0, 0 * right])
    side = -right / 1.5  # of a wall that stands 2.5 m to 2.9 m away
    box = (side < away / 2.5) & (side > away / 2.9) & (down / EYE < side)
    inverse = np.where(box, side, inverse)
    assert box[:, 0].any()
    scene = lift(write_photo(tmp_path), depth=write_depth(tmp_path, 1 / inverse), fov=FOV)
    mesh = mesh_of(scene, "Background")
    pixels, rows = pixels_of(scene, mesh), np.flatnonzero(box[:, 0])
    beside = (pixels[:, 0] < -1) & (pixels[:, 1] > rows[0] + 6) & (pixels[:, 1] < rows[-1] - 6)
    assert beside.sum() > 5
    assert mesh.positions[0][beside, 1].min() > 1.9


def test_what_is_behind_objects_can_be_left_out(tmp_path: Path) -> None:
    photo, mask = write_photo(tmp_path), write_mask(tmp_path, board())
    depth = write_depth(tmp_path, 1 / with_board(room()))
    covered = {}
    for behind in ("fill", "none"):
        scene = lift(photo, depth=depth, masks=(mask,), fov=FOV, behind=behind)
        background = mesh_of(scene, "Background")
        covered[behind] = areas(pixels_of(scene, background), background.triangles).sum()
    assert covered["fill"] - covered["none"] == pytest.approx(22 * 22, abs=8)  # its corners are round


def test_a_mask_that_is_a_little_too_small_leaves_no_rim_behind(tmp_path: Path) -> None:
    small = board()
    small[BOX[0].stop - 1] = small[:, BOX[1].start] = False
    scene = lift(
        write_photo(tmp_path),
        depth=write_depth(tmp_path, 1 / with_board(room())),
        masks=(write_mask(tmp_path, small),),
        fov=FOV,
    )
    background = mesh_of(scene, "Background").positions[0]
    on_board = np.abs(background - mesh_of(scene, "board").positions[0].mean(axis=0)).max(axis=1) < 1.0
    assert on_board.sum() == 0


@pytest.mark.parametrize("kind", ["distance", "inverse", "png", "exr"])
def test_kinds_of_depth_files(tmp_path: Path, kind: str) -> None:
    """All of them give the same shape; those without a unit get their scale from the camera's height."""
    inverse = with_board(room())
    photo, wanted = write_photo(tmp_path), {"fov": FOV, "stride": 1}
    truth = lift(photo, depth=write_depth(tmp_path, 1 / inverse), **wanted).meshes[0]
    if kind == "distance":
        path = write_depth(tmp_path, np.linalg.norm(camera().rays(X, Y[:, None]), axis=-1) / inverse)
        wanted |= {"depth_kind": "distance"}
    elif kind == "inverse":
        path = write_depth(tmp_path, inverse * 37)
        wanted |= {"depth_kind": "inverse"}
    elif kind == "png":
        path = str(tmp_path / "depth.png")
        Image.fromarray(np.round(inverse / inverse.max() * 65535).astype(np.uint16)).save(path)
    else:
        import OpenImageIO as oiio

        path = str(tmp_path / "depth.exr")
        spec = oiio.ImageSpec(WIDTH, HEIGHT, 1, oiio.FLOAT)
        spec.channelnames = ("View Layer.Depth.Z",)
        output = oiio.ImageOutput.create(path)
        output.open(path, spec)
        output.write_image((1 / inverse).astype(np.float32)[..., None])
        output.close()
    found = lift(photo, depth=path, **wanted).meshes[0]
    assert found.positions[0].min(axis=0) == pytest.approx(truth.positions[0].min(axis=0), abs=0.05)
    assert found.positions[0].max(axis=0) == pytest.approx(truth.positions[0].max(axis=0), abs=0.05)


def test_the_camera_height_sets_the_scale(tmp_path: Path) -> None:
    photo, depth = write_photo(tmp_path), write_depth(tmp_path, 1 / room())
    found = [lift(photo, depth=depth, fov=FOV, camera_height=height).meshes[0].positions for height in (1.6, 3.2)]
    assert np.allclose(found[1], 2 * found[0], rtol=1e-3, atol=1e-3)


# Without depth


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


def photos() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    rows = np.linspace(90, 250, HEIGHT)[:, None, None] * np.ones((1, WIDTH, 1))
    return {
        "flat": np.full((HEIGHT, WIDTH, 3), 128, np.uint8),
        "noise": rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8),
        "sky": np.concatenate([rows * 0.6, rows * 0.8, rows], axis=2).astype(np.uint8),
        "tiny": rng.integers(0, 256, (8, 8, 3)).astype(np.uint8),
        "gray": rng.integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8),
        "deep": rng.integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16),
        "transparent": rng.integers(1, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8),
        "narrow": rng.integers(0, 256, (120, 12, 3)).astype(np.uint8),
    }


@pytest.mark.parametrize("kind", list(photos()))
def test_any_picture_becomes_a_scene_and_what_is_doubtful_is_said(tmp_path: Path, kind: str) -> None:
    scene = lift(write_photo(tmp_path, photos()[kind]))
    assert any(mesh.kind == "ground" for mesh in scene.meshes)
    assert scene.perspective is not None
    assert not scene.perspective.horizon_sure
    assert any("horizon" in sentence for sentence in scene.warnings)
    assert LiftedScene.load(scene.save(tmp_path / "scene.lifted")).warnings == scene.warnings


def test_metadata_turns_the_picture_and_gives_its_focal_length(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.fromarray(photos()["noise"]).save(path, exif=exif)
    scene = lift(path)
    assert scene.size == (HEIGHT, WIDTH)
    assert scene.intrinsics[0, 0] == pytest.approx(26 / 43.27 * math.hypot(WIDTH, HEIGHT))
    assert scene.perspective is not None
    assert scene.perspective.focal_sure


def test_a_scene_linear_picture_is_read(tmp_path: Path) -> None:
    import OpenImageIO as oiio

    path = str(tmp_path / "photo.exr")
    output = oiio.ImageOutput.create(path)
    output.open(path, oiio.ImageSpec(WIDTH, HEIGHT, 3, oiio.HALF))
    output.write_image(photos()["noise"].astype(np.float32) / 16)
    output.close()
    assert lift(Path(path)).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("mask-size", {"masks": [np.ones((8, 9), bool)]}),
        ("empty-mask", {"masks": [np.zeros((HEIGHT, WIDTH), bool)]}),
        ("no-depth", {"depth": np.zeros((HEIGHT, WIDTH))}),
        ("no-depth", {"depth": np.full((HEIGHT, WIDTH), np.nan)}),
        ("no-depth", {"depth": np.full((HEIGHT, WIDTH), np.inf)}),
        ("depth-size", {"depth": np.ones((HEIGHT, HEIGHT))}),
        ("bad-depth", {"depth": np.ones((HEIGHT, WIDTH, 3))}),
    ],
)
def test_input_that_cannot_be_used_is_refused_with_a_sentence(tmp_path: Path, code: str, wanted: dict) -> None:
    masks = tuple(write_mask(tmp_path, mask, f"{i}.png") for i, mask in enumerate(wanted.get("masks", ())))
    depth = write_depth(tmp_path, wanted["depth"]) if "depth" in wanted else None
    with pytest.raises(ShotError) as raised:
        lift(write_photo(tmp_path), masks=masks, depth=depth)
    assert raised.value.code == code
    assert raised.value.fix


@pytest.mark.parametrize("kind", ["constant", "inverted", "partly NaN", "one pixel", "tiny values"])
def test_strange_depth_becomes_a_scene_with_a_warning(tmp_path: Path, kind: str) -> None:
    depth = 1 / room()
    if kind == "constant":
        depth[:] = 5
    elif kind == "inverted":
        depth = 1 / depth
    elif kind == "partly NaN":
        depth[10:30, 10:30] = np.nan
    elif kind == "one pixel":
        depth[:] = 0
        depth[40, 40] = 2
    else:
        depth *= 1e-6
    scene = lift(write_photo(tmp_path), depth=write_depth(tmp_path, depth), fov=FOV)
    assert scene.meshes
    expected = {"constant": "flat", "inverted": "inverted", "partly NaN": "not numbers", "tiny values": "unit"}.get(
        kind, ""
    )
    assert any(expected in sentence for sentence in scene.warnings)


def test_masks_that_overlap_are_told_of(tmp_path: Path) -> None:
    masks = (write_mask(tmp_path, board(), "a.png"), write_mask(tmp_path, board(), "b.png"))
    scene = lift(write_photo(tmp_path), depth=write_depth(tmp_path, 1 / with_board(room())), masks=masks)
    assert [mesh.name for mesh in scene.meshes if mesh.kind == "object"] == ["a"]
    assert any("b.png" in sentence and "left out" in sentence for sentence in scene.warnings)


def test_a_picture_of_an_unsupported_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    with pytest.raises(ShotError, match="HEIF"):
        lift(path)


@pytest.mark.parametrize(
    "wanted",
    [
        {"no such": 1},
        {"fov": 0},
        {"fov": "wide"},
        {"behind": "maybe"},
        {"boxes": [{"rectangle": [5, 5, 5, 9]}]},
        {"boxes": [{}]},
        {"stride": 0},
        {"depth_kind": "far"},
        {"camera_height": -1},
        {"perspective": {"focal": 5}},
    ],
)
def test_settings_that_are_not_valid_are_named(wanted: dict) -> None:
    with pytest.raises(UsageError) as raised:
        LiftRequest.from_dict(wanted)
    assert "Error" not in raised.value.message


def test_requests_survive_json() -> None:
    handles = Perspective(((0, 5), (96, 6)), (40, 5), (10, 0, 80, 50), 80.0, indoors=True)
    box = ObjectBox((1, 2, 30, 40), "chair", 39.0, 2.5)
    request = LiftRequest("d.exr", "distance", 0.001, None, ("a.png",), (box,), 60.0, handles, None, 1.7, 8, "none")
    assert LiftRequest.from_dict(json.loads(json.dumps(request.to_dict()))) == request


def test_the_task_writes_the_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    depth = write_depth(tmp_path, 1 / room())
    out = tmp_path / "scene.lifted"
    result = backend_tasks.lift(str(write_photo(tmp_path)), json.dumps({"depth": depth, "fov": FOV}), str(out))
    assert result["meshes"] == ["Background"]
    assert LiftedScene.load(out).meshes
    assert "building the meshes" in capsys.readouterr().out
    with pytest.raises(UsageError):
        backend_tasks.lift(str(tmp_path / "photo.png"), "[]", str(out))


def test_it_can_be_cancelled(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        lift_image(write_photo(tmp_path), LiftRequest(), cancelled=lambda: True, decode=decode)
    assert issubclass(CancelledError, TrackshadeError)
