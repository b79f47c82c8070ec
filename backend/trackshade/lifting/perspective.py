# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the camera that took a picture: from the user's handles, the picture's metadata, or its lines."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from trackshade.lifting.camera import PhotoCamera, axes_of_perspective, level_axes
from trackshade.lifting.pictures import Photo
from trackshade.shot.lift_request import CAMERA_HEIGHT, LiftRequest

DEFAULT_FOCAL = 0.85  # of the longer side: about a phone's main camera
DEFAULT_FOCAL_ERROR = 0.4  # standard deviation of its natural logarithm


@dataclass(frozen=True)
class FoundCamera:
    """A camera, and how far it can be trusted.

    Attributes:
        camera: the camera.
        horizon_sure: whether its tilt and roll are known well.
        focal_sure: whether its focal length is known well.
        focal_error: standard deviation of the focal length's natural logarithm.
        given: whether the user placed it.
        warnings: sentences about what is doubtful.
    """

    camera: PhotoCamera
    horizon_sure: bool
    focal_sure: bool
    focal_error: float
    given: bool = False
    warnings: list[str] = field(default_factory=list)


def find_camera(photo: Photo, request: LiftRequest) -> FoundCamera:
    """Find the camera of a photo: by the handles, otherwise by metadata and lines."""
    height = request.camera_height or CAMERA_HEIGHT
    focal = None if request.fov is None else photo.size[0] / 2 / math.tan(math.radians(request.fov) / 2)
    handles = request.perspective
    if handles is not None:
        camera = PhotoCamera(photo.size, focal or handles.focal, axes_of_perspective(handles, photo.size), height)
        return FoundCamera(camera, True, True, 0.0, given=True)
    focal = focal or photo.focal
    known = focal or DEFAULT_FOCAL * max(photo.size)
    return FoundCamera(
        PhotoCamera(photo.size, known, level_axes(), height),
        horizon_sure=False,
        focal_sure=focal is not None,
        focal_error=0.0 if focal else DEFAULT_FOCAL_ERROR,
        warnings=["No horizon was found: the camera is taken to be level. Drag the horizon to where it is."],
    )
