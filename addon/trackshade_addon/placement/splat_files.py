# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads files of Gaussian splats: PLY files in the published layout, and USD files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.core.errors import UsageError

USD_SUFFIXES = (".usdc", ".usda", ".usd")
HARMONIC = 0.28209479177387814  # the constant spherical harmonic
_KINDS = {"float": "<f4", "double": "<f8", "uchar": "u1", "int": "<i4", "uint": "<u4", "short": "<i2", "ushort": "<u2"}
_NEEDED = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
           "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Splats:
    """N splats of one frame.

    Attributes:
        position: [N, 3] float32 world, metres, Z up.
        rotation: [N, 4] float32 quaternions (w, x, y, z).
        scale: [N, 3] float32 standard deviations along the axes, metres.
        radiance: [N, 3] float32 coefficients of the constant harmonic.
        opacity: [N] float32.
    """

    position: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    radiance: np.ndarray
    opacity: np.ndarray

    @property
    def color(self) -> np.ndarray:
        """[N, 3] sRGB, 0..1."""
        return 0.5 + HARMONIC * self.radiance


def read_splats(path: Path, frame: float) -> Splats:
    """Read the splats of a frame.

    Args:
        path: a PLY file of one frame, or a USD file.
        frame: scene frame that is read from a USD file.

    Raises:
        UsageError: the file is missing or damaged, or holds no splats.
    """
    try:
        splats = _read_usd(path, frame) if path.suffix.lower() in USD_SUFFIXES else _read_ply(path)
    except OSError as error:
        raise UsageError(
            "no-splats", f"{path} cannot be read: {error.strerror or error}.", "Correct the path."
        ) from error
    parts = (splats.position, splats.rotation, splats.scale, splats.radiance, splats.opacity)
    if not len(splats.position) or not all(np.isfinite(part).all() for part in parts):
        raise UsageError(
            "no-splats", f"{path} holds no splats, or values that are not finite numbers.", "Export the splats again."
        )
    return splats


def _read_ply(path: Path) -> Splats:
    head, mark, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode("ascii", "replace").split("\n")
    count, fields, element = 0, [], ""
    for words in (line.split() for line in lines):
        if words[:1] == ["element"]:
            element = words[1]
            count = int(words[2]) if element == "vertex" else count
        elif words[:1] == ["property"] and element == "vertex" and words[1] in _KINDS:
            fields.append((words[2], _KINDS[words[1]]))
    names = [name for name, _ in fields]
    if not mark or "format binary_little_endian 1.0" not in lines or not set(_NEEDED) <= set(names):
        raise UsageError(
            "no-splats",
            f"{path} is no PLY file of Gaussian splats.",
            "Choose a file with the properties f_dc, opacity, scale and rot, in binary form.",
        )
    kind = np.dtype(fields)
    if len(body) < count * kind.itemsize:
        raise UsageError("no-splats", f"{path} is cut short.", "Export the splats again.")
    rows = np.frombuffer(body, kind, count)

    def stacked(*wanted: str) -> np.ndarray:
        return np.stack([rows[name].astype(np.float32) for name in wanted], axis=-1)

    return Splats(
        stacked("x", "y", "z"),
        stacked("rot_0", "rot_1", "rot_2", "rot_3"),
        np.exp(stacked("scale_0", "scale_1", "scale_2")),
        stacked("f_dc_0", "f_dc_1", "f_dc_2"),
        1 / (1 + np.exp(-rows["opacity"].astype(np.float32))),
    )


def _read_usd(path: Path, frame: float) -> Splats:
    if hasattr(bpy.utils, "expose_bundled_modules"):  # Blender 4.4 and newer
        bpy.utils.expose_bundled_modules()
    try:
        from pxr import Tf, Usd
    except ImportError as error:
        raise UsageError(
            "no-splats", f"Blender {bpy.app.version_string} cannot read {path.name}.", "Export PLY files of the splats."
        ) from error
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        stage: Any = Usd.Stage.Open(str(path))  # pyright: ignore[reportAttributeAccessIssue]
    except Tf.ErrorException as error:
        raise UsageError("no-splats", f"{path} cannot be read as USD.", "Export the splats again.") from error
    prims = [prim for prim in stage.Traverse() if prim.GetTypeName() == "ParticleField3DGaussianSplat"]
    if not prims:
        raise UsageError(
            "no-splats", f"{path} holds no Gaussian splats.", "Choose a file of trackshade export --format splats-usd."
        )

    def values(name: str, columns: int) -> np.ndarray:
        found = np.array(prims[0].GetAttribute(name).Get(frame), np.float32)
        return found.reshape(-1, columns)

    count = len(values("positions", 3))
    turns = [(q.GetReal(), *q.GetImaginary()) for q in prims[0].GetAttribute("orientations").Get(frame)]
    radiance = values("radiance:sphericalHarmonicsCoefficients", 3)
    return Splats(
        values("positions", 3),
        np.array(turns, np.float32).reshape(-1, 4),
        values("scales", 3),
        np.ascontiguousarray(radiance.reshape(count, -1, 3)[:, 0]) if count else radiance,
        values("opacities", 1)[:, 0],
    )
