# SPDX-License-Identifier: GPL-3.0-or-later
"""Small lifted scenes, as the backend makes them of photos and videos."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from trackshade.core.geometry import world_to_camera
from trackshade.core.images import write_png
from trackshade.shot.lifted import LiftedMesh, LiftedScene, MeshKind, Perspective

SIZE = (48, 32)
FOCAL = 40.0
HEIGHT = 1.6  # of the camera above the ground, metres


def photo(path: Path, seed: int = 0) -> np.ndarray:
    """Write a photo of random pixels, [H, W, 3] uint8."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    write_png(path, pixels)
    return pixels


def camera(pitch: float = 0.0, height: float = HEIGHT) -> np.ndarray:
    """World to camera, [4, 4], of a camera above the ground that looks along +y, turned down by `pitch` radians."""
    matrix = np.eye(4)
    turn = np.pi / 2 - pitch
    matrix[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[2, 3] = height
    return world_to_camera(matrix)


def intrinsics() -> np.ndarray:
    return np.array([[FOCAL, 0, SIZE[0] / 2 + 1.5], [0, FOCAL, SIZE[1] / 2 - 2.25], [0, 0, 1.0]])


def points_at(pixels: np.ndarray, depth: np.ndarray | float, view: np.ndarray) -> np.ndarray:
    """World positions, [N, 3], of what is seen at pixels, [N, 2], at these depths."""
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ np.linalg.inv(intrinsics()).T
    return (np.column_stack([rays * np.reshape(depth, (-1, 1)), np.ones(len(pixels))]) @ np.linalg.inv(view).T)[:, :3]


def quad(
    name: str,
    kind: MeshKind,
    box: tuple[float, float, float, float],
    depth: np.ndarray | float,
    view: np.ndarray,
    one_sided: bool = False,
) -> LiftedMesh:
    """A mesh of two triangles that covers a box of the picture (left, top, right, bottom)."""
    left, top, right, bottom = box
    corners = points_at(np.array([(left, bottom), (right, bottom), (right, top), (left, top)], float), depth, view)
    return LiftedMesh(
        name,
        kind,
        corners[None].astype(np.float32),
        np.array([(0, 1, 2), (0, 2, 3)], np.int32),
        np.zeros((0, 4), np.bool_),
        corners[:2].mean(0),
        one_sided,
    )


def photo_scene(path: Path, pitch: float = 0.1, height: float = HEIGHT) -> LiftedScene:
    """A ground, a wall, a sky, and an object in front of them."""
    width, bottom = SIZE[0], SIZE[1] + 2
    view = camera(pitch, height)
    horizon = 16.0
    ground = np.array([2.0, 2.0, 9.0, 9.0])
    meshes = (
        quad("Sky", "sky", (-2, -2, width + 2, 8.0), 2000.0, view),
        quad("Wall", "wall", (-2, 8.0, width + 2, horizon), 9.0, view, one_sided=True),
        quad("Ground", "ground", (-2, horizon, width + 2, bottom), ground, view),
        quad("Person", "object", (14, 10, 24, 26), 3.0, view),
    )
    return LiftedScene(str(path), SIZE, 0.0, intrinsics(), view[None], meshes)


FRAMES = 5
COLOR = (0.8, 0.6, 0.4)  # of the last frame of the footage
BEHIND = [19, 20, 27, 28]  # points of the wall that the person hides


def tracked_scene(path: Path, triangles: bool = False) -> LiftedScene:
    """A wall and a person of tracked points, in footage whose camera moves to the right; the person walks along.

    The person is not seen in the third frame, and what it hides in none. The left column of the wall is first seen in
    the second frame.
    """
    right = np.eye(4)
    views = []
    for t in range(FRAMES):
        right[0, 3] = -0.1 * t
        views.append(right @ camera())
    columns, rows = np.meshgrid(np.linspace(3, SIZE[0] - 3, 8), np.linspace(3, SIZE[1] - 3, 6))
    wall = points_at(np.column_stack([columns.ravel(), rows.ravel()]), 9.0, views[0])
    columns, rows = np.meshgrid([20.0, 24.0, 28.0], [10.0, 16.0, 22.0])
    person = points_at(np.column_stack([columns.ravel(), rows.ravel()]), 3.0, views[0])
    walk = np.array([[0.1 * t, 0.05 * t, 0.0] for t in range(FRAMES)])
    positions = np.concatenate([np.broadcast_to(wall, (FRAMES, 48, 3)), person + walk[:, None]], 1)
    visible = np.ones((FRAMES, 57), np.bool_)
    visible[2, 48:] = False
    visible[0, 0:48:8] = False
    visible[:, BEHIND] = False
    faces = np.array([(48, 51, 49), (49, 51, 52)] if triangles else np.zeros((0, 3)), np.int32)
    mesh = LiftedMesh("Tracks", "points", positions.astype(np.float32), faces, visible, np.array([0.0, 5.0, 0.0]))
    picture = path.with_suffix(".png")
    photo(picture)
    notes = {"picture": str(picture)}
    return LiftedScene(str(path), SIZE, 12.0, intrinsics(), np.array(views), (mesh,), notes=notes)


def write_video(path: Path) -> Path:
    """Write footage of `FRAMES` plain frames, each brighter than the one before, by Blender."""
    import bpy

    scene = bpy.data.scenes.new("Footage")
    strips = scene.sequence_editor_create()
    colors = (strips.strips if hasattr(strips, "strips") else strips.sequences).new_effect
    length = {"length": FRAMES} if bpy.app.version >= (5, 0, 0) else {"frame_end": FRAMES + 1}
    strip = colors(name="Color", type="COLOR", channel=1, frame_start=1, **length)
    for t in range(FRAMES):
        strip.color = np.array(COLOR) * (t + 1) / FRAMES
        strip.keyframe_insert("color", frame=1 + t)
    scene.view_settings.view_transform = "Standard"
    render = scene.render
    render.resolution_x, render.resolution_y, render.fps = *SIZE, 12
    scene.frame_end = FRAMES
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "VIDEO"
    render.image_settings.file_format, render.ffmpeg.format = "FFMPEG", "MPEG4"
    render.filepath = str(path)
    bpy.ops.render.render(animation=True, scene=scene.name)
    bpy.data.scenes.remove(scene)
    return path


def turn(path: Path) -> None:
    """Mark a PNG as to be turned clockwise by a quarter (eXIf chunk, orientation 6)."""
    tag = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = path.read_bytes()
    chunk = struct.pack(">I", len(tag)) + b"eXIf" + tag + struct.pack(">I", zlib.crc32(b"eXIf" + tag))
    at = data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + chunk + data[at:])


def write_rgba(path: Path, pixels: np.ndarray) -> None:  # [H, W, 4]
    """Write a PNG with alpha."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + 4 * width), np.uint8)
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(rows.tobytes()), b"IEND": b""}
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def wall_scene(path: Path, size: tuple[int, int] = SIZE, aspect: float = 1.0) -> LiftedScene:
    """A wall that fills the picture of a camera with other focal lengths in x and in y."""
    view, k = camera(), intrinsics()
    k[1] *= aspect
    wall = quad("Wall", "wall", (-50, -50, SIZE[0] + 50, SIZE[1] + 50), 5.0, view)
    return LiftedScene(str(path), size, 0.0, k, view[None], (wall,))


def with_perspective(scene: LiftedScene, horizon: float = 12.0, sure: bool = False) -> LiftedScene:
    """The scene as if its camera had been found in the photo."""
    width = float(SIZE[0])
    perspective = Perspective(
        horizon=((0.0, horizon), (width, horizon)),
        vanishing_point=(20.0, horizon),
        rectangle=(12.0, 8.0, 36.0, 20.0),
        focal=FOCAL,
        focal_error=0.2,
        indoors=True,
        horizon_sure=sure,
        focal_sure=sure,
    )
    return replace(scene, perspective=perspective, notes={"warnings": ["The horizon was not found."]})
