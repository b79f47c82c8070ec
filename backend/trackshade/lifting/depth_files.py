# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads depth files: arrays, OpenEXR depth passes, and 8-bit or 16-bit pictures."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ShotError
from trackshade.lifting.camera import PhotoCamera
from trackshade.lifting.pictures import analyzed_size, read_channels
from trackshade.shot.input_image import Decoder, load_input_image
from trackshade.shot.lift_request import DepthKind

_CHANNELS = ("Z", "Depth", "V", "Y", "R")  # of an OpenEXR file, by the last part of their names, the best first
_KEYS = ("depth", "z", "arr_0")
_ASPECT_TOLERANCE = 0.01
_FARTHEST = 1e9  # metres; what is farther, as Blender's 1e10 where nothing is, is the sky


MAX_VALUES = 4_000_000  # of a depth that is used; larger ones are thinned out


@dataclass(frozen=True, eq=False)
class Depth:
    """The depth of a picture on a lattice of points.

    Attributes:
        x: [w] columns of the lattice, pixels of the picture.
        y: [h] rows of the lattice, pixels of the picture.
        inverse: [h, w] 1 / z of the camera's axes, or its multiple by an unknown scale; 0 where nothing is, and in the
            sky.
        metric: whether it is in metres.
        exact: whether its edges are sharp.
        warnings: sentences about what is doubtful.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    inverse: NDArray[np.float64]
    metric: bool
    exact: bool
    warnings: tuple[str, ...] = ()


def read_depth(path: Path, kind: DepthKind, unit: float | None, camera: PhotoCamera, decode: Decoder) -> Depth:
    """Read a depth file.

    Args:
        path: the file.
        kind: what its values are, see `LiftRequest.depth_kind`.
        unit: metres of a value of 1, or None.
        camera: the picture's camera.
        decode: the decoder of pictures.

    Raises:
        ShotError: it cannot be read, has another shape than the picture, or holds no depth.
    """
    values, is_picture = _read_values(path, decode)
    width, height = camera.size
    rows, columns = values.shape
    if abs(columns * height / (rows * width) - 1) > _ASPECT_TOLERANCE and abs(columns * height / rows - width) > 1:
        raise ShotError(
            "depth-size",
            f"The depth {path} has {columns}×{rows} values, another shape than the picture.",
            "Give a depth file of the picture's shape.",
        )
    if kind == "auto":
        kind = "inverse" if is_picture else "z"
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        if kind == "inverse":
            inverse = np.where(np.isfinite(values) & (values > 0), values, 0.0)
        else:
            valid = np.isfinite(values) & (values > 0) & (values * (unit or 1.0) < _FARTHEST)
            inverse = np.where(valid, 1 / np.where(valid, values, 1.0), 0.0)
    warnings = _check(path, values, inverse, kind)
    exact = rows >= height and not (is_picture and kind == "inverse")
    x, y, inverse = on_lattice(inverse, camera.size, exact)
    if kind == "distance":
        inverse = inverse * np.linalg.norm(camera.rays(x, y[:, None]), axis=-1)
    if unit is not None:
        inverse = inverse * (unit if kind == "inverse" else 1 / unit)
    return Depth(x, y, inverse, kind != "inverse" or unit is not None, exact, warnings)


def on_lattice(
    inverse: NDArray[np.float64], size: tuple[int, int], exact: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the columns [w] and rows [h], pixels of the picture, and the inverse depth [h, w] of a lattice.

    Exact values are kept where they are, and thinned out if they are too many. Soft ones are interpolated to the
    analyzed size of a picture of the given (width, height).
    """
    if not exact:
        inverse = np.maximum(cv2.resize(inverse, analyzed_size(size), interpolation=cv2.INTER_LINEAR), 0.0)
    rows, columns = inverse.shape
    factor = max(1.0, math.sqrt(rows * columns / MAX_VALUES))
    kept = [np.unique(np.round(np.linspace(0, count - 1, max(2, int(count / factor))))) for count in (rows, columns)]
    y, x = ((index + 0.5) * side / count for index, side, count in zip(kept, size[::-1], inverse.shape, strict=True))
    return x, y, inverse[np.ix_(*(index.astype(int) for index in kept))]


def _read_values(path: Path, decode: Decoder) -> tuple[NDArray[np.float64], bool]:
    """Return the values [H, W] of a file, and whether it is an 8-bit or 16-bit picture."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ShotError("bad-depth", f"The depth file {path} cannot be read: {reason}.", "Check its path.") from error
    if start[:6] == b"\x93NUMPY" or start[:4] == b"PK\x03\x04":
        return _read_array(path), False
    if start[:4] in (b"\x76\x2f\x31\x01", b"II*\0", b"MM\0*"):
        values, names = read_channels(path)
        if start[:1] == b"\x76" or values.shape[2] == 1:
            by_name = {name.rpartition(".")[2]: index for index, name in reversed(list(enumerate(names)))}
            index = next((by_name[name] for name in _CHANNELS if name in by_name), 0)
            return values[..., index].astype(np.float64), False
    image = load_input_image(path, decode)
    return image.pixels[..., :3].mean(axis=-1, dtype=np.float64), True


def _read_array(path: Path) -> NDArray[np.float64]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded as items:
                name = next((key for key in _KEYS if key in items.files), (items.files or [""])[0])
                loaded = items[name]
        values = np.squeeze(np.asarray(loaded))
        if values.ndim != 2 or values.dtype.kind not in "fiu" or min(values.shape) < 2:
            raise ValueError(f"it holds an array {list(values.shape)} of {values.dtype}, not one depth for each pixel")
        return values.astype(np.float64)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ShotError("bad-depth", f"The depth file {path} cannot be read: {error}.", "Save it again.") from error


def _check(path: Path, values: np.ndarray, inverse: np.ndarray, kind: str) -> tuple[str, ...]:
    known = inverse > 0
    share = float(known.mean())
    if not share:
        raise ShotError(
            "no-depth",
            f"The depth file {path} holds no value above 0 that is finite.",
            "Check what the file holds, and its kind.",
        )
    warnings = []
    if np.isnan(values).any():
        warnings.append(f"{np.isnan(values).mean():.1%} of the depth file's values are not numbers; nothing is there.")
    if (values < 0).any():
        warnings.append("The depth file has negative values; nothing is there.")
    spread = np.ptp(inverse[known])
    if spread <= 1e-9 * inverse.max():
        warnings.append("The depth file has the same value everywhere: the scene is a flat picture.")
    if kind == "inverse" and share == 1 and inverse.min() > inverse.max() / 2:
        warnings.append("The depth file has little contrast; if it is not inverse depth, name its kind.")
    return tuple(warnings)


def looks_inverted(inverse: NDArray[np.float64], above_horizon: NDArray[np.float64]) -> bool:
    """Return whether depth falls towards the horizon below it, as no ground does."""
    below = (above_horizon < -0.02) & (inverse > 0)
    if np.count_nonzero(below) < 0.05 * inverse.size:
        return False
    steepness, values = -above_horizon[below], inverse[below]
    if not np.ptp(values) or not np.ptp(steepness):
        return False
    return bool(np.corrcoef(steepness, values)[0, 1] < -0.6)
