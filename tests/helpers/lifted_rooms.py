# SPDX-License-Identifier: GPL-3.0-or-later
"""A room with an upright board, computed ray by ray, and its files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from trackshade.cli.image_decoder import decode
from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.core.geometry import project
from trackshade.lifting import lift_image
from trackshade.lifting.camera import PhotoCamera, level_axes
from trackshade.lifting.cuts import DepthLattice
from trackshade.lifting.meshing import PictureMesh
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedMesh, LiftedScene

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
