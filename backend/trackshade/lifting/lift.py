# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifts a photo to a scene: reads it, finds its camera and depth, and builds the meshes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import CancelledError
from trackshade.lifting.camera import PhotoCamera, perspective_of
from trackshade.lifting.cutouts import cut_out_boxes
from trackshade.lifting.depth_files import Depth, read_depth
from trackshade.lifting.depth_scene import ObjectMask, build_depth_scene, stand_camera
from trackshade.lifting.perspective import FoundCamera, find_camera
from trackshade.lifting.pictures import Photo, read_mask, read_photo
from trackshade.lifting.rooms import find_room
from trackshade.lifting.sky import find_sky
from trackshade.lifting.tour import Card, Room, build_tour
from trackshade.shot.input_image import Decoder
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedScene

Report = Callable[[str, float], None]
MOGE_SUFFIX = ".pt"
"""Ending of MoGe-2's published weights, by which they are told from folders and identifiers of other networks."""
_SKY_SHARE = 0.04  # of the picture, in which more of it means outdoors


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
        ModelError: the depth model or the mask model cannot be used.
        CancelledError: it was stopped.
    """

    def step(message: str, fraction: float) -> None:
        if cancelled():
            raise CancelledError()
        report(message, fraction)

    step("reading the picture", 0.0)
    photo = read_photo(Path(image_path), decode)
    request, depth, more = _estimate_first(photo, request, step)
    step("finding the perspective", 0.15)
    found = find_camera(photo, request)
    step("cutting out the objects", 0.3)
    cards, warnings = _find_objects(photo, request, decode, cancelled)
    warnings += more
    step("estimating the depth" if request.depth_model and not request.depth else "reading the depth", 0.5)
    depth, source = (depth, f"model {request.depth_model}") if depth else _find_depth(photo, request, found, decode)
    camera, perspective, metric = found.camera, None, False
    if depth is not None:
        camera, depth, more = stand_camera(found, depth, request.camera_height)
        warnings += [*depth.warnings, *more]
        step("building the meshes", 0.7)
        meshes = build_depth_scene(camera, depth, [card.mask for card in cards], request.stride, request.behind)
        metric = depth.metric
    else:
        sky = find_sky(photo.colors, _above_horizon(photo, camera))
        room = _choose_room(request, found, bool(sky.mean() > _SKY_SHARE), photo.colors)
        perspective = perspective_of(
            camera,
            None if room.edges is None else camera.rectangle_of(room.edges),
            focal_error=found.focal_error,
            indoors=room.indoors,
            horizon_sure=found.horizon_sure,
            focal_sure=found.focal_sure,
        )
        step("building the meshes", 0.7)
        sky &= not room.indoors
        meshes, more = build_tour(camera, room, sky, cards, request.behind)
        warnings += more
    is_as_found = np.array_equal(camera.axes, found.camera.axes)
    warnings = [*([found.horizon_warning] * is_as_found), found.focal_warning, *warnings]
    step("done", 1.0)
    notes: dict[str, Any] = {
        "source": source,
        "warnings": list(dict.fromkeys(filter(None, warnings))),
        "metric": metric,
    }
    return LiftedScene(
        picture=str(photo.path),
        size=photo.size,
        fps=0.0,
        intrinsics=camera.intrinsics,
        world_to_camera=camera.world_to_camera[None],
        meshes=tuple(meshes),
        perspective=perspective,
        notes=notes,
    )


def _above_horizon(photo: Photo, camera: PhotoCamera) -> NDArray[np.float64]:
    height, width = photo.colors.shape[:2]
    across, down = photo.scale
    x, y = (np.arange(width) + 0.5) * across, (np.arange(height) + 0.5) * down
    return camera.rows_above_horizon(x, y[:, None])


def _choose_room(request: LiftRequest, found: FoundCamera, has_sky: bool, colors: NDArray[np.uint8]) -> Room:
    """Return the walls by the user's handles, otherwise by the picture's lines and colors; else a backdrop."""
    handles = request.perspective
    if handles is not None:
        indoors = handles.indoors if request.indoors is None else request.indoors
        if handles.rectangle is None:
            return Room(None, False)
        return Room(found.camera.edges_of(handles.rectangle), indoors)
    indoors = not has_sky if request.indoors is None else request.indoors
    if found.frame is None:
        return Room(None, False)
    return find_room(found.camera, found.frame, indoors, colors)


def _estimate_first(photo: Photo, request: LiftRequest, step: Report) -> tuple[LiftRequest, Depth | None, list[str]]:
    """Return what a network finds that also estimates the field of view, before the camera is looked for.

    Returns:
        The request with the field of view, the depth and warnings; None without such a network.
    """
    name = request.depth_model
    if request.depth is not None or name is None or not name.endswith(MOGE_SUFFIX):
        return request, None, []
    step("estimating the depth", 0.1)
    from trackshade.lifting.moge import estimate_metric_depth

    focal = photo.focal if request.perspective is None else request.perspective.focal
    known = request.fov or (None if focal is None else 2 * math.degrees(math.atan(photo.size[0] / 2 / focal)))
    depth, fov = estimate_metric_depth(photo, Path(name).expanduser(), known)
    if known is not None:
        return request, depth, []
    told = f"The field of view of {fov:.0f}° was estimated by {Path(name).name}. Set it if known."
    return replace(request, fov=fov), depth, [told]


def _find_depth(photo: Photo, request: LiftRequest, found: FoundCamera, decode: Decoder) -> tuple[Depth | None, str]:
    """Return the depth of the file or the model, and its source; None without either."""
    if request.depth is not None:
        return read_depth(Path(request.depth), request.depth_kind, request.depth_unit, found.camera, decode), "file"
    if request.depth_model is not None:
        from trackshade.lifting.depth_models import estimate_depth

        return estimate_depth(photo, request.depth_model), f"model {request.depth_model}"
    return None, "perspective"


def _find_objects(
    photo: Photo, request: LiftRequest, decode: Decoder, cancelled: Callable[[], bool]
) -> tuple[list[Card], list[str]]:
    """Return the objects of the masks and boxes, and warnings about those that were left out."""
    cards: list[Card] = []
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
        cards.append(Card(ObjectMask(path.stem, seen)))
    across, down = photo.scale
    rectangles = [box.rectangle for box in request.boxes]
    inside = [(left / across, top / down, right / across, bottom / down) for left, top, right, bottom in rectangles]
    found = cut_out_boxes(photo.colors, inside, request.mask_model)
    for number, (box, seen) in enumerate(zip(request.boxes, found, strict=True), 1):
        if cancelled():
            raise CancelledError()
        name = box.name or f"Object {number}"
        left, top, right, bottom = box.rectangle
        if right <= 0 or bottom <= 0 or left >= photo.size[0] or top >= photo.size[1]:
            size = f"{photo.size[0]}×{photo.size[1]}"
            warnings.append(f"{name}: its box is outside the picture, which has {size} pixels; it was left out.")
            continue
        if seen is None:
            warnings.append(f"{name}: nothing in its box differs from what surrounds it; it was left out.")
            continue
        cards.append(Card(ObjectMask(name, seen), box.foot, box.depth))
    return cards, warnings
