# SPDX-License-Identifier: GPL-3.0-or-later
"""Result folders and scenes for the tests of placing."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.core.fitting import SizeFit, fit_size

SIZE = (48, 32)


def png(path: Path, picture: np.ndarray) -> None:
    """Writes [H, W, 3] uint8 as a PNG."""
    height, width = picture.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in picture)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def pictures(count: int, size: tuple[int, int] = SIZE, vivid: bool = True) -> np.ndarray:
    """[T, H, W, 3] uint8 noise, another in each frame; if not `vivid`, of colors that every transform can show."""
    random = np.random.default_rng(5)
    if vivid:
        return random.integers(0, 256, (count, size[1], size[0], 3), np.uint8)
    grey = random.uniform(40, 200, (count, size[1], size[0], 1))
    return np.rint(grey * random.uniform(0.92, 1.08, (count, size[1], size[0], 3))).astype(np.uint8)


def numbered(count: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """[T, H, W, 3] uint8, each frame in one grey of its own: 10, 20, 30 and so on."""
    levels = 10 * np.arange(1, count + 1)
    return np.broadcast_to(levels[:, None, None, None], (count, size[1], size[0], 3)).astype(np.uint8)


def make_result(
    folder: Path,
    frames: np.ndarray,
    samples: Sequence[float],
    *,
    cameras: Sequence[str] | str = "Camera",
    fit: SizeFit | None = None,
    view_layer: str = "ViewLayer",
    world_to_camera: np.ndarray | None = None,
    nearest: float | None = None,
    intrinsics: np.ndarray | None = None,
    orthographic: bool = False,
) -> Path:
    """A result folder with what placing reads of it."""
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=1):
        png(folder / "frames" / f"{number:04d}.png", frame)
    size = (frames.shape[2], frames.shape[1])
    fit = fit or fit_size(size, (1.0, 1.0), [size])
    names = [cameras] * len(samples) if isinstance(cameras, str) else list(cameras)
    places = (np.eye(4) if world_to_camera is None else world_to_camera).reshape(-1, 16).tolist()
    k = (np.diag([100.0, 100.0, 1.0]) if intrinsics is None else intrinsics).reshape(-1, 9).tolist()
    record: dict[str, Any] = {
        "format": 1,
        "shot": {
            "frames": list(samples),
            "size": list(size),
            "size_fit": fit.to_dict(),
            "view_layer": view_layer,
            "camera": {
                "name": names[0],
                "sources": names,
                "world_to_camera": places * (len(samples) // len(places)),
                "intrinsics": k * (len(samples) // len(k)),
                "orthographic": [orthographic] * len(samples),
                "clip": [[0.1, 100.0]] * len(samples),
            },
            "nearest": nearest,
        },
    }
    (folder / "job.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def new_scene(size: tuple[int, int] = SIZE) -> bpy.types.Scene:
    """An empty session whose scene has a camera, renders with Cycles, and filters pixels by a point."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    assert scene is not None
    add_camera(scene, "Camera")
    scene.camera = bpy.data.objects["Camera"]
    render = scene.render
    render.resolution_x, render.resolution_y = size
    render.resolution_percentage = 100
    render.dither_intensity = 0
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGB"
    render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.cycles.use_denoising = False
    scene.cycles.pixel_filter_type = "BOX"
    scene.cycles.filter_width = 0.01
    scene.view_settings.view_transform = "Standard"
    return scene


def add_camera(scene: bpy.types.Scene, name: str) -> bpy.types.Object:
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    scene.collection.objects.link(camera)
    camera.location = (1.5, -4.0, 2.0)
    camera.rotation_euler = (1.1, 0.2, 0.4)
    return camera


def render(scene: bpy.types.Scene, frame: int, path: Path) -> np.ndarray:
    """[H, W, 3] levels of the scene's render of a frame."""
    scene.frame_set(frame)
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return levels(path)


def levels(path: Path) -> np.ndarray:
    """[H, W, 3] float levels of an 8-bit picture, top row first."""
    image = bpy.data.images.load(str(path), check_existing=False)
    image.colorspace_settings.name = "Non-Color"
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    picture = values.reshape(image.size[1], image.size[0], 4)[::-1, :, :3] * 255
    bpy.data.images.remove(image)
    return picture
