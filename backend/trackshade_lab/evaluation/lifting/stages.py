# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes whose depth is known from any camera: rooms of our own, and shots of Blender scenes.

They are painted with solid noise, so that features can be matched everywhere; Blender scenes are rendered as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.control.scene import ShotRaster
from trackshade.lifting.camera import PhotoCamera, axes_of_perspective, perspective_of
from trackshade.shot.lifted import Perspective

from ..rendered import FrameSettings, read_frames, render_frames

Array = NDArray[np.float64]
_TO_SCENE = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # x, y, z of the world -> right, down, away
_SAMPLES = 16  # Cycles' samples of a rendered photo


@dataclass(frozen=True, eq=False)
class Stage:
    """A static scene.

    Attributes:
        name: its name.
        size: (width, height) of its pictures, pixels.
        intrinsics: [3, 3] pixels.
        world_to_camera: [4, 4] of the camera that takes the photo.
        draw: returns the depth [H, W] along the axis of a camera, metres, inf where nothing is, by the camera's
            [4, 4] and its intrinsics [3, 3].
        paint: returns the colors [..., 3] of world positions.
        objects: boxes around objects in the photo, as left, top, right, bottom.
        edges: of the back wall as left, top, right, bottom in scene coordinates; None if there is none.
        render: [H, W, 3] sRGB, the photo as Blender renders it; None for scenes of our own.
    """

    name: str
    size: tuple[int, int]
    intrinsics: Array
    world_to_camera: Array
    draw: Callable[[Array, Array], NDArray[np.float32]]
    paint: Callable[[Array], NDArray[np.uint8]]
    objects: tuple[tuple[float, float, float, float], ...] = ()
    edges: tuple[float, float, float, float] | None = None
    render: NDArray[np.uint8] | None = None

    def depth(self, world_to_camera: Array) -> Array:
        """Return the depth [H, W] at the pixel centers of a camera, metres; inf where nothing is."""
        return self.draw(world_to_camera, self.intrinsics).astype(np.float64)

    def rays(self, intrinsics: Array | None = None) -> Array:
        """Return the rays [H, W, 3] through pixel centers in camera axes, with z = 1."""
        width, height = self.size
        pixels = np.stack([*np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), np.ones((height, width))], -1)
        return pixels @ np.linalg.inv(self.intrinsics if intrinsics is None else intrinsics).T

    def points(self, depth: Array, world_to_camera: Array) -> Array:
        """Return the world positions [H, W, 3] of what a camera sees; not finite where nothing is."""
        local = self.rays() * depth[..., None]
        return (local - world_to_camera[:3, 3]) @ world_to_camera[:3, :3]

    def picture(self, world_to_camera: Array) -> NDArray[np.uint8]:
        """Return the picture [H, W, 3] that a camera takes, sRGB."""
        depth = self.depth(world_to_camera)
        points = self.points(np.where(np.isfinite(depth), depth, 1e3), world_to_camera)
        return np.where(np.isfinite(depth)[..., None], self.paint(points), 128).astype(np.uint8)

    def moves(self) -> dict[str, Array]:
        """Return cameras [4, 4] by the name of the motion, in proportion to the median depth."""
        depth = self.depth(self.world_to_camera)
        distance = float(np.median(depth[np.isfinite(depth)]))
        swing = math.radians(12)
        centers = {
            "dolly": ((0, 0, 0.2 * distance), (0, 0, 0)),
            "truck": ((0.12 * distance, 0, 0), (0, 0, 0)),
            "orbit": ((-math.sin(swing) * distance, 0, (1 - math.cos(swing)) * distance), (0, swing, 0)),
            "crane": ((0, -0.12 * distance, 0.05 * distance), (math.radians(-4), math.radians(-5), 0)),
        }
        return {name: _moved(center, turn) @ self.world_to_camera for name, (center, turn) in centers.items()}


def _moved(center: tuple[float, float, float], turn: tuple[float, float, float]) -> Array:
    """Return the matrix [4, 4] from camera axes to those of a camera at `center`, turned by a rotation vector."""
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array(turn, np.float64))[0].T
    matrix[:3, 3] = -matrix[:3, :3] @ center
    return matrix


def _solid_noise(points: Array) -> NDArray[np.uint8]:
    """Return colors [..., 3] of world positions: smooth noise of three sizes."""
    rng = np.random.default_rng(5)
    lattice = rng.uniform(0, 1, (32, 32, 32, 3))
    total = np.zeros((*points.shape[:-1], 3))
    for step, weight in ((0.6, 0.5), (0.2, 0.3), (0.07, 0.2)):
        place = points / step
        cell = np.floor(place).astype(np.int64)
        t = place - cell
        for corner in np.ndindex(2, 2, 2):
            share = np.prod(np.where(corner, t, 1 - t), axis=-1)
            x, y, z = np.moveaxis((cell + corner) % 32, -1, 0)
            total += weight * share[..., None] * lattice[x, y, z]
    return np.clip((total - 0.5) * 2.2 * 255 + 128, 0, 255).astype(np.uint8)


def mesh_depth(
    size: tuple[int, int], intrinsics: Array, world_to_camera: Array, meshes: list[tuple[Array, NDArray[np.int32]]]
) -> NDArray[np.float32]:
    """Draw meshes of world positions [V, 3] and triangles; return the depth [H, W]."""
    buffers = Buffers.empty(size)
    for label, (positions, triangles) in enumerate(meshes):
        draw(buffers, to_screen(positions, world_to_camera, intrinsics, False), triangles, label)
    return buffers.depth


def shot_stage(data: Path, kind: str, seed: int, size: tuple[int, int], report: Callable[[str], None]) -> Stage:
    """Return the first frame of a held-out Blender scene."""
    source = {"kind": kind, "seed": seed, "length": 2}
    folder = render_frames(data / f"{kind}-{seed}", source, FrameSettings(size, _SAMPLES), report)
    shot, images = read_frames(folder)

    def draw_shot(world_to_camera: Array, intrinsics: Array) -> NDArray[np.float32]:
        cameras, lenses = shot.camera.world_to_camera.copy(), shot.camera.intrinsics.copy()
        cameras[0], lenses[0] = world_to_camera, intrinsics
        moved = replace(shot, camera=replace(shot.camera, world_to_camera=cameras, intrinsics=lenses))
        return ShotRaster(moved).draw(0, into=Buffers.empty(shot.size)).depth

    return Stage(f"{kind}-{seed}", shot.size, shot.camera.intrinsics[0], shot.camera.world_to_camera[0], draw_shot,
                 _solid_noise, render=images[0])  # fmt: skip


def room_stage(seed: int, size: tuple[int, int]) -> Stage:
    """Return a room with boxes that stand on its floor, seen by a camera that looks along it."""
    rng = np.random.default_rng([seed, 9])
    width, height = size
    left, right, top = -rng.uniform(1.8, 3), rng.uniform(1.8, 3), rng.uniform(2.4, 3.2)
    back, eye = rng.uniform(5, 8), rng.uniform(1.4, 1.7)
    meshes = [_box((left, -4.0, 0.0), (right, back, top), 0.0)]
    places = rng.permutation([-0.45, 0.0, 0.45])
    for place in places[: rng.integers(2, 4)]:
        half, tall = rng.uniform(0.2, 0.35), rng.uniform(0.5, 1.6)
        at = np.array([place * (right - left) / 2 + (left + right) / 2, rng.uniform(0.6, 0.8) * back])
        meshes.append(_box((-half, -half, 0.0), (half, half, tall), rng.uniform(-0.5, 0.5), at))
    camera = np.eye(4)
    turn = (
        cv2.Rodrigues(np.array([math.radians(rng.uniform(-5, 2)), 0, 0]))[0]
        @ cv2.Rodrigues(np.array([0, math.radians(rng.uniform(-10, 10)), 0.0]))[0]
    )
    camera[:3, :3] = turn @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    camera[:3, 3] = -camera[:3, :3] @ (0, 0, eye)
    focal = width * rng.uniform(0.6, 0.85)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    frames = []
    for positions, _ in meshes[1:]:
        screen = to_screen(positions, camera, intrinsics, False)
        low, high = screen[:, :2].min(axis=0) - 3, screen[:, :2].max(axis=0) + 3
        if (screen[:, 3] > 0.5).all() and (low >= 0).all() and (high <= size).all():
            frames.append((float(low[0]), float(low[1]), float(high[0]), float(high[1])))

    def paint(points: Array) -> NDArray[np.uint8]:
        """Gray walls and colored boxes, so that boxes can be cut out."""
        x, y, z = np.moveaxis(points, -1, 0)
        distances = [np.abs(x - left), np.abs(x - right), np.abs(y - back), np.abs(z), np.abs(z - top)]
        on_wall = np.minimum.reduce(distances) < 1e-3
        noise = _solid_noise(points).astype(np.float64)
        gray = 100 + 0.4 * noise.mean(axis=-1, keepdims=True) * np.ones(3)
        return np.where(on_wall[..., None], gray, noise * (0.6, 0.25, 0.1) + (80, 20, 0)).astype(np.uint8)

    edges = (left / back, (eye - top) / back, right / back, eye / back)
    return Stage(
        f"room-{seed}", size, intrinsics, camera,
        lambda view, lens: mesh_depth(size, lens, view, meshes), paint,
        tuple(frames), edges,
    )  # fmt: skip


def handles_of(stage: Stage) -> tuple[Perspective, float]:
    """Return the true horizon, back wall and focal length of a room, and the height of its camera, metres."""
    assert stage.edges is not None
    axes = stage.world_to_camera[:3, :3] @ _TO_SCENE.T
    center = -stage.world_to_camera[:3, :3].T @ stage.world_to_camera[:3, 3]
    camera = PhotoCamera(stage.size, float(stage.intrinsics[0, 0]), axes, float(center[2]))
    handles = perspective_of(camera, camera.rectangle_of(stage.edges), indoors=True)
    assert np.allclose(axes_of_perspective(handles, stage.size), axes, atol=1e-6)
    return handles, float(center[2])


def _box(
    low: tuple[float, float, float], high: tuple[float, float, float], turn: float, at: Array | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions [8, 3] and triangles [12, 3] of a box that is turned about the vertical and moved."""
    corners = np.array([[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i, j, k in np.ndindex(2, 2, 2)])
    c, s = math.cos(turn), math.sin(turn)
    corners = corners @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
    if at is not None:
        corners[:, :2] += at
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    return corners, np.array(triangles, np.int32)
