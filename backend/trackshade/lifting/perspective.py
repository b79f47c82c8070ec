# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the camera that took a picture: from the user's handles, the picture's metadata, or its lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trackshade.lifting.camera import PhotoCamera, axes_of_perspective, level_axes
from trackshade.lifting.pictures import Photo
from trackshade.lifting.vanishing import Frame, find_frame, find_segments
from trackshade.shot.lift_request import CAMERA_HEIGHT, LiftRequest

DEFAULT_FOCAL = 0.85  # of the longer side: about a phone's main camera
DEFAULT_FOCAL_ERROR = 0.4  # standard deviation of its natural logarithm
# What a frame needs to be used, and to be called sure; and what its focal length needs to be trusted.
_USED_SUPPORT, _USED_UPRIGHT, _USED_LEVEL = 0.3, 3, 6
_SURE_SUPPORT, _SURE_UPRIGHT, _SURE_LEVEL, _SURE_ERROR = 0.4, 5, 6, math.radians(0.8)
_TRUSTED_SUPPORT, _TRUSTED_ERROR, _TRUSTED_LINES, _TRUSTED_POINTS = 0.58, 0.04, 2, 2


_NO_HORIZON = "No horizon was found: the camera is taken to be level. Drag the horizon to where it is."
_DOUBTFUL_HORIZON = "The horizon is not sure: few lines agree with it. Check it, and drag it to where it is."
_NO_FOCAL = "The field of view could not be found: that of a phone's camera is used. Set it if known."


@dataclass(frozen=True)
class FoundCamera:
    """A camera, and how far it can be trusted.

    Attributes:
        camera: the camera.
        horizon_sure: whether its tilt and roll are known well.
        focal_sure: whether its focal length is known well.
        focal_error: standard deviation of the focal length's natural logarithm.
        frame: the picture's lines, where they show how the camera stands.
        given: whether the user placed it.
        horizon_warning: sentence about a horizon that is doubtful; empty if it is not.
        focal_warning: sentence about a focal length that is doubtful; empty if it is not.
    """

    camera: PhotoCamera
    horizon_sure: bool
    focal_sure: bool
    focal_error: float
    frame: Frame | None = None
    given: bool = False
    horizon_warning: str = ""
    focal_warning: str = ""


def find_camera(photo: Photo, request: LiftRequest) -> FoundCamera:
    """Find the camera of a photo: by the handles, otherwise by metadata and lines."""
    height, side = request.camera_height or CAMERA_HEIGHT, max(photo.size)
    focal = None if request.fov is None else photo.size[0] / 2 / math.tan(math.radians(request.fov) / 2)
    handles = request.perspective
    if handles is not None:
        camera = PhotoCamera(photo.size, focal or handles.focal, axes_of_perspective(handles, photo.size), height)
        return FoundCamera(camera, True, True, 0.0, given=True)
    focal = focal or photo.focal
    frame = find_frame(find_segments(photo.colors), None if focal is None else focal / side)
    if frame is None or not is_used(frame):
        known = focal or DEFAULT_FOCAL * side
        return FoundCamera(
            PhotoCamera(photo.size, known, level_axes(), height),
            horizon_sure=False,
            focal_sure=focal is not None,
            focal_error=0.0 if focal else DEFAULT_FOCAL_ERROR,
            horizon_warning=_NO_HORIZON,
            focal_warning="" if focal else _NO_FOCAL,
        )
    horizon_sure, focal_sure = is_sure(frame), focal is not None or is_focal_trusted(frame)
    fov = 2 * math.degrees(math.atan(photo.size[0] / 2 / (frame.focal * side)))
    return FoundCamera(
        PhotoCamera(photo.size, frame.focal * side, frame.axes, height),
        horizon_sure,
        focal_sure,
        frame.focal_error,
        frame,
        horizon_warning="" if horizon_sure else _DOUBTFUL_HORIZON,
        focal_warning="" if focal_sure else f"The field of view is not sure: {fov:.0f}° was found. Set it if known.",
    )


def is_used(frame: Frame) -> bool:
    """Return whether a frame is better than a level camera."""
    right, down, away = frame.counts
    return frame.support > _USED_SUPPORT and down >= _USED_UPRIGHT and right + away >= _USED_LEVEL


def is_sure(frame: Frame) -> bool:
    """Return whether a frame's horizon can be relied on."""
    right, down, away = frame.counts
    return (
        frame.support > _SURE_SUPPORT
        and frame.tilt_error < _SURE_ERROR
        and down >= _SURE_UPRIGHT
        and right + away >= _SURE_LEVEL
    )


def is_focal_trusted(frame: Frame) -> bool:
    """Return whether a frame's focal length can be relied on."""
    right, _, away = frame.counts
    return (
        is_sure(frame)
        and frame.support > _TRUSTED_SUPPORT
        and frame.line_error < _TRUSTED_ERROR
        and min(right, away) >= _TRUSTED_LINES
        and frame.finite >= _TRUSTED_POINTS
    )
