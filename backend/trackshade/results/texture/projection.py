# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with which a renderer projects each frame onto the moving surfaces: tracks and reach.

Tracks. For each sample and vertex (X, Y, Z): Z is the depth along the camera's axis, metres, and the position in the
picture is (X / Z, Y / Z) for a perspective camera, (X, Y) for an orthographic one, 0..1 from the lower left corner.
X, Y and Z are linear over a triangle, so that what is interpolated between its corners is exact. They are written as
a point cache (PC2), which Blender reads one sample at a time.

Reach. A 16-bit picture for each sample: a point is visible if its key is not below the picture's value in its pixel.
The key is 1 / Z for a perspective camera and -Z for an orthographic one, mapped from `low`..`high` to 0..1. Pixels that
are not clear (see `views`), such as the picture's rim, and those that show a surface at a steep angle, for which the
baked texture is better, are white, which no key reaches.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.core.errors import ShotError
from trackshade.results.cells.views import Views
from trackshade.shot import Shot

REACH = "reach"
SLANT = 3.0  # tangent of the angle between the view and the surface's normal
_STEPS = 65535


def write_tracks(path: Path, shot: Shot, mesh: int) -> int:
    """Write a mesh's tracks as a PC2 file; returns the number of vertices.

    They are those of its first geometry. In samples in which it has another, all are 0, which is visible nowhere.
    """
    geometry = shot.geometries[shot.meshes[mesh].geometry]
    count = geometry.positions.shape[1]
    with path.open("wb") as file:
        file.write(struct.pack("<12siiffi", b"POINTCACHE2\0", 1, count, 0.0, 1.0, len(shot.frame_numbers)))
        for t in range(len(shot.frame_numbers)):
            coordinates = np.zeros((count, 3))
            if geometry.same_points(shot.geometry_of(mesh, t)):
                coordinates = _picture_coordinates(shot, mesh, t)
            file.write(np.ascontiguousarray(coordinates, "<f4").data)
    return count


def _picture_coordinates(shot: Shot, mesh: int, t: int) -> np.ndarray:
    """Return (X, Y, Z) of a mesh's vertices in sample `t`, [V, 3]; see the module's docstring."""
    track, camera = shot.meshes[mesh], shot.camera
    matrix = camera.world_to_camera[t] @ track.matrix_world[t]
    k = camera.intrinsics[t] / np.array([[shot.size[0]], [shot.size[1]], [1.0]])
    x, y, z = (shot.geometry_of(mesh, t).at(t) @ matrix[:3, :3].T + matrix[:3, 3]).T
    one = 1.0 if camera.orthographic[t] else z
    return np.stack([k[0, 0] * x + k[0, 2] * one, one - (k[1, 1] * y + k[1, 2] * one), z], axis=1)


def write_reach(folder: Path, views: Views) -> dict[str, Any]:
    """Write the reach of every sample into `folder`/reach; returns what is needed to decode it.

    Raise ShotError if the camera is perspective in some samples and orthographic in others.
    """
    orthographic = views.shot.camera.orthographic
    if orthographic.any() and not orthographic.all():
        raise ShotError(
            "mixed-cameras",
            "The shot's cameras are perspective in some frames and orthographic in others, which a projection cannot "
            "follow.",
            "Place it baked, or shade the cameras one by one.",
        )
    known = np.stack([_known(views, t) for t in range(len(views.clear_mesh))])
    with np.errstate(divide="ignore"):
        key = -views.depth_limit if orthographic.all() else 1.0 / views.depth_limit
    low, high = (float(key[known].min()), float(key[known].max())) if known.any() else (0.0, 1.0)
    high += 1e-3 * max(high - low, abs(high), 1e-6)  # so that no key comes to 1
    (folder / REACH).mkdir()
    for t in range(len(key)):
        value = np.full(key.shape[1:], _STEPS, np.uint16)
        share = (key[t][known[t]] - low) / (high - low)
        value[known[t]] = np.floor(share * _STEPS).astype(np.uint16)
        Image.fromarray(value).save(folder / REACH / f"{t + 1:04d}.png", compress_level=1)
    return {"reach": REACH, "orthographic": bool(orthographic.all()), "low": low, "high": high}


def _known(views: Views, t: int) -> np.ndarray:
    """Return the pixels of sample `t` that are projected onto the surface, [H, W] bool."""
    reach, k = views.depth_limit[t], views.shot.camera.intrinsics[t]
    known = (views.clear_mesh[t] >= 0) & np.isfinite(reach)
    with np.errstate(invalid="ignore"):
        down, right = np.gradient(reach)
        pixel = 1.0 if views.shot.camera.orthographic[t] else reach  # times the focal length: metres per pixel
        slope = np.hypot(right * k[0, 0], down * k[1, 1]) / pixel
    return known & (slope < SLANT)
