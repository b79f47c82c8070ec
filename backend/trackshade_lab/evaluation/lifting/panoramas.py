# SPDX-License-Identifier: GPL-3.0-or-later
"""Crops of panoramas, as photos whose camera is known: Blender's own studio lights, which are CC0."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.core.colors import linear_to_srgb, to_uint8
from trackshade.core.errors import UsageError
from trackshade.lifting.pictures import read_channels

_FIELDS_OF_VIEW = (65.0, 90.0)  # degrees, horizontal
_PITCH, _ROLL = 10.0, 3.0  # degrees, at most


@dataclass(frozen=True, eq=False)
class Crop:
    """A perspective view of a panorama.

    Attributes:
        name: the panorama.
        colors: [h, w, 3] uint8 sRGB.
        focal: focal length, pixels.
        down: [3] direction down in camera axes.
    """

    name: str
    colors: NDArray[np.uint8]
    focal: float
    down: NDArray[np.float64]


def find_panoramas() -> list[Path]:
    """Return the panoramas that Blender's module brings. Raise UsageError without them."""
    spec = importlib.util.find_spec("bpy")
    roots = [] if spec is None else [Path(item) for item in spec.submodule_search_locations or ()]
    found = sorted(path for root in roots for path in root.glob("*/datafiles/studiolights/world/*.exr"))
    if not found:
        raise UsageError("no-panoramas", "Blender's module is not installed, whose panoramas are cropped.")
    return found


def make_crops(count: int, seed: int, size: tuple[int, int] = (720, 480)) -> Iterator[Crop]:
    """Yield random crops, as many of each panorama; the same seed gives the same ones.

    Args:
        count: crops of each panorama.
        seed: of the random cameras.
        size: (width, height), pixels.
    """
    rng = np.random.default_rng(seed)
    for path in find_panoramas():
        panorama = read_channels(path)[0][..., :3]
        for _ in range(count):
            fov, yaw = math.radians(rng.uniform(*_FIELDS_OF_VIEW)), rng.uniform(0, 2 * math.pi)
            pitch, roll = math.radians(rng.uniform(-_PITCH, _PITCH)), math.radians(rng.uniform(-_ROLL, _ROLL))
            yield _crop(path.stem, panorama, size, size[0] / 2 / math.tan(fov / 2), yaw, pitch, roll)


def _crop(
    name: str, panorama: np.ndarray, size: tuple[int, int], focal: float, yaw: float, pitch: float, roll: float
) -> Crop:
    """Return the view of a camera; a positive pitch looks up, angles in radians."""
    turn_x = cv2.Rodrigues(np.array([pitch, 0.0, 0]))[0]
    turn_z = cv2.Rodrigues(np.array([0.0, 0, roll]))[0]
    turn_y = cv2.Rodrigues(np.array([0.0, yaw, 0]))[0]
    to_level = turn_y @ turn_x @ turn_z  # camera axes -> x right, y down, z forward of the panorama
    width, height = size
    x, y = np.meshgrid((np.arange(width) + 0.5 - width / 2) / focal, (np.arange(height) + 0.5 - height / 2) / focal)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ to_level.T
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    rows, columns = panorama.shape[:2]
    u = (np.arctan2(rays[..., 0], rays[..., 2]) / (2 * math.pi) + 0.5) * columns - 0.5
    v = (np.arcsin(np.clip(rays[..., 1], -1, 1)) / math.pi + 0.5) * rows - 0.5
    light = cv2.remap(panorama, u.astype(np.float32), v.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    light = np.maximum(light, 0)
    middle = float(np.median(light.mean(axis=-1)))
    return Crop(name, to_uint8(linear_to_srgb(light * (0.2 / max(middle, 1e-9)))), focal, to_level.T @ (0.0, 1, 0))
