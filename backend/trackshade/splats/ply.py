# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes splats as a PLY file for each frame, in the layout of the published 3D Gaussian splatting.

Source: Kerbl et al. 2023, "3D Gaussian splatting for real-time radiance field rendering"; `save_ply` of its code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trackshade.core.errors import OutputError
from trackshade.splats.frame import SplatFrame

WIDTH = 0.6  # standard deviation in units of the distance between splats
OPACITY = 0.999
HIDDEN = 1e-4  # opacity of splats that do not exist
HARMONIC = 0.28209479177387814  # the constant spherical harmonic
COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def write_splat_ply(path: Path, frame: SplatFrame, width: float = WIDTH, opacity: float = OPACITY) -> None:
    """Write the splats of a frame, whose number in the scene is a comment in the header.

    Args:
        path: the file.
        frame: the splats.
        width: standard deviation of the splats in units of the distance between them.
        opacity: opacity at their centers, above 0 and below 1.

    Raises:
        OutputError: a value is not finite.
    """
    check_finite(frame)
    rows = np.zeros((len(frame.position), len(COLUMNS)), "<f4")
    rows[:, 0:3] = frame.position
    rows[:, 3:6] = normals(frame.rotation)
    rows[:, 6:9] = (frame.color - 0.5) / HARMONIC
    shown = np.where(frame.exists, opacity, HIDDEN)
    rows[:, 9] = np.log(shown / (1 - shown))
    rows[:, 10:13] = np.log(width * frame.size)
    rows[:, 13:17] = frame.rotation
    header = [
        "ply", "format binary_little_endian 1.0", f"comment frame {frame.number:g}", f"element vertex {len(rows)}",
        *(f"property float {name}" for name in COLUMNS), "end_header", "",
    ]  # fmt: skip
    path.write_bytes("\n".join(header).encode() + rows.tobytes())


def check_finite(frame: SplatFrame) -> None:
    """Raise OutputError if a value is not finite, or a splat has no size: readers would take it without a word."""
    parts = frame.position, frame.rotation, frame.size, frame.color
    bad = np.flatnonzero(~np.all([np.isfinite(part).all(axis=1) for part in parts], axis=0) | (frame.size <= 0).any(1))
    if len(bad):
        raise OutputError(
            "bad-splats",
            f"{len(bad)} splats of frame {frame.number:g} have values that are not finite numbers.",
            "Look for meshes without extent there.",
        )


def normals(
    rotation: np.ndarray,  # [N, 4] (w, x, y, z)
) -> np.ndarray:
    """Return the third axis [N, 3] of rotations."""
    w, x, y, z = rotation.T
    return np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=1)
