# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads camera paths from .json and .npz files of other systems, and of `trackshade export`.

- .npz: `world_to_camera`, or `camera_to_world` or `c2w`, [T, 4, 4] or [T, 3, 4], with x right, y down and z forward;
  optionally `intrinsics` or `K`, [3, 3] or [T, 3, 3], pixels, and `size`, (width, height).
- .json with the same names and nested lists.
- .json of nerfstudio, instant-ngp and NeRF: `frames` with a `transform_matrix` each, camera to world with
  x right, y up and z backwards; the lens as `fl_x`, `fl_y`, `cx` and `cy`, for all or for each, or `camera_angle_x`.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.core.geometry import Matrix, world_to_camera

_FIX = "Give a .npz or .json file with world_to_camera [T, 4, 4], or nerfstudio's transforms.json."


@dataclass(frozen=True, eq=False)
class CameraPath:
    """A camera path from a file.

    Attributes:
        world_to_camera: [T, 4, 4] float64, x right, y down, z forward, in the file's units.
        intrinsics: [T, 3, 3] float64, pixels of an image of `size`; None if the file does not say.
        size: (width, height), pixels; None if the file does not say.
    """

    world_to_camera: Matrix
    intrinsics: Matrix | None = None
    size: tuple[int, int] | None = None

    def motion(self, frames: int) -> Matrix:
        """Return the path relative to its first frame, spread evenly over a clip.

        Between the path's frames, locations are interpolated linearly and rotations by the nearest one.

        Args:
            frames: number T of the clip's frames.

        Returns:
            [T, 4, 4] matrices on points in camera space, as those of `parse_camera_motion`.
        """
        poses = self.world_to_camera[0] @ np.linalg.inv(self.world_to_camera)
        place = np.linspace(0, len(poses) - 1, frames)
        before = np.floor(place).astype(int)
        after = np.minimum(before + 1, len(poses) - 1)
        mixed = poses[before] + (place - before)[:, None, None] * (poses[after] - poses[before])
        between = np.flatnonzero(place - before)
        u, _, v = np.linalg.svd(mixed[between, :3, :3])
        mixed[between, :3, :3] = u @ v
        return np.linalg.inv(mixed)


def read_camera_path(path: Path) -> CameraPath:
    """Read a camera path. Raise ShotError if the file cannot be read or holds no camera path."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as data:
                return _from_arrays({name: data[name] for name in data.files})
        data = json.loads(path.read_text(encoding="utf-8"))
        return _from_frames(data) if "frames" in data else _from_arrays(data)
    except OSError as error:
        raise ShotError("bad-camera-file", f"{path} cannot be read: {error.strerror or error}.", _FIX) from error
    except (ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise ShotError("bad-camera-file", f"{path} holds no camera path: {error}.", _FIX) from error


def _from_arrays(data: Mapping[str, Any]) -> CameraPath:
    forward = data.get("world_to_camera")
    backward = next((data[name] for name in ("camera_to_world", "c2w") if name in data), None)
    if forward is None and backward is None:
        raise KeyError("world_to_camera")
    matrices = _affine(forward) if forward is not None else np.linalg.inv(_affine(backward))
    k = next((data[name] for name in ("intrinsics", "K") if name in data), None)
    size = data.get("size")
    return CameraPath(
        matrices,
        None if k is None else np.array(np.broadcast_to(_numbers(k), (len(matrices), 3, 3))),
        None if size is None else (int(size[0]), int(size[1])),
    )


def _from_frames(data: Mapping[str, Any]) -> CameraPath:
    frames = data["frames"]
    matrices = world_to_camera(_affine([frame["transform_matrix"] for frame in frames]))
    size = (int(data["w"]), int(data["h"])) if "w" in data and "h" in data else None
    lenses = [_lens({**data, **frame}) for frame in frames]
    known = [lens for lens in lenses if lens is not None]
    return CameraPath(matrices, np.stack(known) if len(known) == len(lenses) else None, size)


def _lens(values: Mapping[str, Any]) -> Matrix | None:
    """Return the intrinsics [3, 3] that a frame names; None if it names none."""
    width, height = (values.get(name) for name in ("w", "h"))
    focal = values.get("fl_x")
    if focal is None and width is not None and "camera_angle_x" in values:
        focal = width / 2 / math.tan(values["camera_angle_x"] / 2)
    x, y = values.get("cx", width and width / 2), values.get("cy", height and height / 2)
    if focal is None or x is None or y is None:
        return None
    return _numbers([[focal, 0, x], [0, values.get("fl_y", focal), y], [0, 0, 1]])


def _affine(values: Any) -> Matrix:
    """Return matrices as [T, 4, 4]. Raise ValueError unless they are finite and can be inverted."""
    matrices = _numbers(values)
    if matrices.ndim != 3 or matrices.shape[0] < 1 or matrices.shape[1:] not in ((4, 4), (3, 4)):
        raise ValueError(f"its matrices have the shape {matrices.shape}")
    out = np.tile(np.eye(4), (len(matrices), 1, 1))
    out[:, : matrices.shape[1]] = matrices
    if (np.abs(np.linalg.det(out[:, :3, :3])) < 1e-12).any():
        raise ValueError("a matrix cannot be inverted")
    return out


def _numbers(values: Any) -> Matrix:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise ValueError("a number is not finite")
    return array
