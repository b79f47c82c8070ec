# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifts a photo to a scene: reads it, finds its camera and depth, and builds the meshes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import CancelledError, ModelError
from trackshade.lifting.depth_files import Depth, read_depth
from trackshade.lifting.depth_scene import ObjectMask, build_depth_scene, stand_camera
from trackshade.lifting.perspective import FoundCamera, find_camera
from trackshade.lifting.pictures import Photo, read_mask, read_photo
from trackshade.shot.input_image import Decoder
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedMesh, LiftedScene, Perspective

Report = Callable[[str, float], None]


def lift_image(
    image_path: str | os.PathLike[str],
    request: LiftRequest,
    report: Report = lambda message, fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    decode: Decoder,
) -> LiftedScene:
    """Lift a photo to a scene.

    Args:
        image_path: the photo.
        request: what is wanted.
        report: called with a message and the fraction that is done.
        cancelled: whether to stop.
        decode: the decoder of pictures.

    Raises:
        ShotError: the photo, the depth or a mask cannot be used.
        ModelError: the depth model cannot be used.
        CancelledError: it was stopped.
    """

    def step(message: str, fraction: float) -> None:
        if cancelled():
            raise CancelledError()
        report(message, fraction)

    step("reading the picture", 0.0)
    photo = read_photo(Path(image_path), decode)
    step("finding the perspective", 0.2)
    found = find_camera(photo, request)
    objects, warnings = _read_objects(photo, request, decode)
    warnings += found.warnings
    step("reading the depth", 0.4)
    depth, source = _find_depth(photo, request, found, decode)
    if depth is None:
        raise ModelError("no-depth", "Lifting without a depth file is not supported yet.", "Give a depth file.")
    camera, depth, more = stand_camera(found.camera, depth, request.camera_height, found.given)
    warnings += [*depth.warnings, *more]
    step("building the meshes", 0.7)
    meshes = build_depth_scene(camera, depth, objects, request.stride, request.behind)
    step("done", 1.0)
    notes: dict[str, Any] = {"source": source, "warnings": list(dict.fromkeys(warnings)), "metric": depth.metric}
    return LiftedScene(
        picture=str(photo.path),
        size=photo.size,
        fps=0.0,
        intrinsics=camera.intrinsics,
        world_to_camera=camera.world_to_camera[None],
        meshes=tuple(meshes),
        perspective=None,
        notes=notes,
    )


def _find_depth(photo: Photo, request: LiftRequest, found: FoundCamera, decode: Decoder) -> tuple[Depth | None, str]:
    """Return the depth of the file or the model, and its source; None without either."""
    if request.depth is not None:
        return read_depth(Path(request.depth), request.depth_kind, request.depth_unit, found.camera, decode), "file"
    return None, "perspective"


def _read_objects(photo: Photo, request: LiftRequest, decode: Decoder) -> tuple[list[ObjectMask], list[str]]:
    """Return the objects of the masks, and warnings about masks that overlap."""
    objects: list[ObjectMask] = []
    warnings: list[str] = []
    taken: np.ndarray | None = None
    for path in map(Path, request.masks):
        seen = read_mask(path, photo.size, decode)
        if taken is not None and (taken & seen).any():
            warnings.append(f"The mask {path.name} overlaps an earlier one; the earlier one keeps what both cover.")
            seen = seen & ~taken
            if not seen.any():
                warnings.append(f"The mask {path.name} is covered by earlier ones and was left out.")
                continue
        taken = seen if taken is None else taken | seen
        objects.append(ObjectMask(path.stem, seen))
    return objects, warnings
