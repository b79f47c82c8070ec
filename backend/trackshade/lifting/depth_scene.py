# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a scene from a picture's depth: the background, the sky, and each masked object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.lifting.camera import PhotoCamera
from trackshade.lifting.cuts import EXACT, NOTHING, SOFT, DepthLattice
from trackshade.lifting.depth_files import Depth, looks_inverted
from trackshade.lifting.ground import find_ground, level_of_ground
from trackshade.lifting.holes import continue_behind
from trackshade.lifting.perspective import FoundCamera
from trackshade.lifting.scene import Surface, behind, beyond, bordered, build_meshes, tolerance_of
from trackshade.shot.lift_request import CAMERA_HEIGHT, Behind
from trackshade.shot.lifted import LiftedMesh

SKY_DISTANCE = 8.0  # times that of the farthest surface
LEAST_SKY_DISTANCE = 300.0  # metres
_LOWEST, _HIGHEST = 0.05, 1000.0  # metres above the ground: a camera's height that is credible
_RIM, _RIM_JUMP, _RIM_DEPTH = 2, 0.05, 0.1  # width in lattice points, and relative inverse depths
_BACKGROUND, _SKY, _FIRST_OBJECT = 0, 1, 2  # labels


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """An object of the picture: its name and where it is seen, [height, width] of the picture or its analyzed size."""

    name: str
    seen: NDArray[np.bool_]

    def at(self, x: NDArray[np.float64], y: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return whether it is seen at lattice points [h, w], pixels of a picture of (width, height)."""
        rows, columns = (
            np.clip((axis * count / side).astype(int), 0, count - 1)
            for axis, count, side in zip((y, x), self.seen.shape, size[::-1], strict=True)
        )
        return self.seen[np.ix_(rows, columns)]


def stand_camera(found_camera: FoundCamera, depth: Depth, height: float | None) -> tuple[PhotoCamera, Depth, list[str]]:
    """Find how the camera stands over the ground that the depth shows, and give depth its scale.

    Args:
        found_camera: the camera, and how well its axes are known. Those that the user placed are kept, and sure ones if
            the depth is that of a network or a picture, which may add a constant to it.
        depth: the depth.
        height: of the camera above the ground, metres; None for that of metric depth, otherwise `CAMERA_HEIGHT`.

    Returns:
        The camera, the depth in metres, and warnings.
    """
    camera = found_camera.camera
    rays = camera.rays(depth.x, depth.y[:, None]).reshape(-1, 3)
    inverse = depth.inverse.ravel()
    keep = found_camera.given or (found_camera.horizon_sure and not depth.metric)
    ground = None if keep else find_ground(inverse, rays)
    warnings = []
    if ground is not None:
        down, found = ground
        away = camera.axes[:, 2] - down * (camera.axes[:, 2] @ down)
        away /= np.linalg.norm(away)
        camera = replace(camera, axes=np.stack([np.cross(down, away), down, away], axis=1))
    else:
        found = level_of_ground(inverse, rays @ camera.axes[:, 1])
        if found is None:
            warnings.append("No ground is seen; the camera stands at the height that was set.")
    above = camera.rows_above_horizon(depth.x, depth.y[:, None])
    if looks_inverted(depth.inverse, above):
        warnings.append("The depth seems to be inverted: it falls towards the horizon. Name its kind.")
    if found is None:
        found = 1 / np.median(inverse[inverse > 0]) / 3 if not depth.metric else (height or CAMERA_HEIGHT)
    if depth.metric and not _LOWEST < found < _HIGHEST:
        where = f"{found:.3g} m above the ground"
        warnings.append(f"The depth may not be in meters: the camera would be {where}. Set its unit.")
    wanted = height if height is not None else (float(found) if depth.metric else CAMERA_HEIGHT)
    return camera.with_height(wanted), replace(depth, inverse=depth.inverse * (found / wanted)), warnings


def build_depth_scene(
    camera: PhotoCamera, depth: Depth, objects: list[ObjectMask], stride: int, fill: Behind
) -> list[LiftedMesh]:
    """Build the meshes of a picture whose depth is known, in metres."""
    lattice = bordered(
        DepthLattice(depth.x, depth.y, depth.inverse, np.zeros(depth.inverse.shape, np.int32)), camera.size
    )
    x, y, inverse = lattice.x, lattice.y, np.maximum(lattice.inverse, 0.0)
    labels = np.where(inverse > 0, _BACKGROUND, _SKY).astype(np.int32)
    surfaces = {_FIRST_OBJECT + index: Surface(item.name, "object") for index, item in enumerate(objects)}
    for label, item in zip(surfaces, objects, strict=True):
        labels[item.at(x, y, camera.size) & (inverse > 0) & (labels < _FIRST_OBJECT)] = label
    rear = inverse
    if (labels >= _FIRST_OBJECT).any():
        continued = _take_rims(labels, inverse, x, y)
        rear = np.where(labels >= _FIRST_OBJECT, continued, inverse) if fill == "fill" else inverse
    in_object = labels >= _FIRST_OBJECT
    nearest_sky = sky_inverse(camera, lattice, float(inverse[inverse > 0].min()))
    is_sky = rear < nearest_sky
    rear = np.where(is_sky, nearest_sky, rear)
    rear_labels = np.where(is_sky, _SKY, _BACKGROUND).astype(np.int32)
    if fill == "none":
        rear_labels[in_object] = NOTHING
    front = behind(np.where(in_object & (fill == "fill"), rear, 0.0), inverse)
    front_labels = np.where(in_object, labels, NOTHING).astype(np.int32)
    rule = EXACT if depth.exact else SOFT
    tolerance = tolerance_of(inverse, camera.focal) if depth.exact else None
    wide = beyond(DepthLattice(x, y, rear, rear_labels), camera.size, camera.focal)
    far = sky_inverse(camera, wide, float(inverse[inverse > 0].min()))
    wide = replace(wide, inverse=np.where(wide.labels == _SKY, far, np.maximum(wide.inverse, far)))
    behind_objects = {_BACKGROUND: Surface("Background", "background"), _SKY: Surface("Sky", "sky")}
    return [
        *build_meshes(camera, wide, behind_objects, rule, stride, tolerance),
        *build_meshes(camera, DepthLattice(x, y, front, front_labels), surfaces, rule, stride, tolerance),
    ]


def _take_rims(
    labels: NDArray[np.int32], inverse: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give objects the pixels beside their masks that have their depth, since masks are seldom exact.

    Args:
        labels: [h, w], changed in place.
        inverse: [h, w] 1 / z.
        x: [w] columns of the lattice.
        y: [h] rows of the lattice.

    Returns:
        [h, w] the inverse depth with the background continued behind the objects and these pixels.
    """
    square = np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)
    in_object = labels >= _FIRST_OBJECT
    wide = cv2.dilate(in_object.astype(np.uint8), square) > 0
    continued = continue_behind(inverse, wide, x, y)
    of_object = cv2.dilate(np.where(in_object, inverse, 0.0), square)
    rim = wide & ~in_object & (inverse > continued * (1 + _RIM_JUMP)) & (inverse > of_object * (1 - _RIM_DEPTH))
    rim &= inverse < of_object * (1 + _RIM_DEPTH)
    nearby = cv2.dilate(np.where(in_object, labels, 0).astype(np.float32), square).astype(np.int32)
    labels[rim] = nearby[rim]
    return continued


def sky_inverse(camera: PhotoCamera, lattice: DepthLattice, farthest: float) -> NDArray[np.float64]:
    """Return the inverse depth [h, w] of a sphere behind everything; `farthest` is the smallest one of a surface."""
    distance = max(LEAST_SKY_DISTANCE, SKY_DISTANCE / farthest)
    return np.linalg.norm(camera.rays(lattice.x, lattice.y[:, None]), axis=-1) / distance
