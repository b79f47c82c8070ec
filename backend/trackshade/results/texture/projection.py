# SPDX-License-Identifier: GPL-3.0-or-later
"""What a renderer needs to lay each frame onto the moving surface: where its points are in the picture, and how far in
the picture is known.

Tracks. For each sample and vertex (X, Y, Z): Z is the depth along the camera's axis, metres, and the place in the
picture is (X / Z, Y / Z) for a perspective camera, (X, Y) for an orthographic one, 0..1 from the lower left corner.
X, Y and Z are linear over a triangle, so that what is interpolated between its corners is exact. They are written as
a point cache (PC2), which Blender reads one sample at a time.

Reach. A 16-bit picture for each sample: a point is seen if its key is not below the picture's value in its pixel. The
key is 1 / Z for a perspective camera and -Z for an orthographic one, mapped from `low`..`high` to 0..1. Pixels that
are not clear (see `views`), as the picture's rim, and those that show a surface too slantingly to be worth more than
the baked texture, are white, which no key reaches.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.core.errors import ShotError
from trackshade.results.texture.views import Views
from trackshade.shot import Shot

REACH = "reach"
SLANT = 3.0  # tangent of the angle between the view and the surface's normal
_STEPS = 65535


def write_tracks(path: Path, shot: Shot, mesh: int) -> int:
    """Writes a mesh's tracks as a PC2 file; how many vertices it has. They are those of its first geometry: in samples
    in which it has others, all are 0, which is seen nowhere.
    """
    geometry = shot.geometries[shot.meshes[mesh].geometry]
    count = geometry.positions.shape[1]
    with path.open("wb") as file:
        file.write(struct.pack("<12siiffi", b"POINTCACHE2\0", 1, count, 0.0, 1.0, len(shot.frame_numbers)))
        for t in range(len(shot.frame_numbers)):
            places = np.zeros((count, 3))
            if geometry.same_points(shot.geometry_of(mesh, t)):
                places = picture_coordinates(shot, mesh, t)
            file.write(np.ascontiguousarray(places, "<f4").data)
    return count


def picture_coordinates(shot: Shot, mesh: int, t: int) -> np.ndarray:
    """[V, 3] (X, Y, Z) of a mesh's vertices at sample `t`; see above."""
    track, camera = shot.meshes[mesh], shot.camera
    matrix = camera.world_to_camera[t] @ track.matrix_world[t]
    k = camera.intrinsics[t] / np.array([[shot.size[0]], [shot.size[1]], [1.0]])
    place = shot.geometry_of(mesh, t).at(t) @ matrix[:3, :3].T + matrix[:3, 3]
    x, y, z = place.T
    one = 1.0 if camera.orthographic[t] else z
    return np.stack([k[0, 0] * x + k[0, 2] * one, one - (k[1, 1] * y + k[1, 2] * one), z], axis=1)


def write_reach(folder: Path, views: Views) -> dict[str, Any]:
    """Writes the reach of every sample into `folder`/reach, and returns what decodes it.

    Raises:
        ShotError: the camera is perspective in some samples and orthographic in others.
    """
    flat = views.shot.camera.orthographic
    if flat.any() and not flat.all():
        raise ShotError(
            "mixed-cameras",
            "The shot's cameras are perspective in some frames and orthographic in others, which a projection cannot "
            "follow.",
            "Place it baked, or shade the cameras one by one.",
        )
    known = np.stack([_known(views, t) for t in range(len(views.owner))])
    with np.errstate(divide="ignore"):
        key = -views.reach if flat.all() else 1.0 / views.reach
    low, high = (float(key[known].min()), float(key[known].max())) if known.any() else (0.0, 1.0)
    high += 1e-3 * max(high - low, abs(high), 1e-6)  # so that no key comes to 1
    (folder / REACH).mkdir()
    for t in range(len(key)):
        value = np.full(key.shape[1:], _STEPS, np.uint16)
        share = (key[t][known[t]] - low) / (high - low)
        value[known[t]] = np.floor(share * _STEPS).astype(np.uint16)
        Image.fromarray(value).save(folder / REACH / f"{t + 1:04d}.png", compress_level=1)
    return {"reach": REACH, "orthographic": bool(flat.all()), "low": low, "high": high}


def _known(views: Views, t: int) -> np.ndarray:
    """[H, W] bool: the pixels of sample `t` that are laid onto the surface."""
    reach, k = views.reach[t], views.shot.camera.intrinsics[t]
    known = (views.owner[t] >= 0) & np.isfinite(reach)
    with np.errstate(invalid="ignore"):
        down, right = np.gradient(reach)
        pixel = 1.0 if views.shot.camera.orthographic[t] else reach  # times the focal length: metres per pixel
        slope = np.hypot(right * k[0, 0], down * k[1, 1]) / pixel
    return known & (slope < SLANT)
