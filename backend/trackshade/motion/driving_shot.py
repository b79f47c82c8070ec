# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot of a motion job: no meshes, but a camera that moves around a figure.

A motion job is sent as any other: the driving frames take the place of the input render and the reference that of the
first frame; crops of hands, where these are known, are sent beside them. Where the camera stands around the figure says
what the model is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trackshade.motion.camera_words import CameraAngles, camera_matrices
from trackshade.motion.framing import DISTANCE, focal_length
from trackshade.shot import CameraTrack, ObjectTrack, Shot

FIGURE = "Figure"
"""Name of the object that stands for the figure; azimuths count from its -Y axis."""
_CLIP = (0.1, 100.0)  # metres


def driving_shot(
    angles: CameraAngles,
    size: tuple[int, int],
    fps: float,
    *,
    frame_numbers: np.ndarray | None = None,
    source: Mapping[str, Any] | None = None,
    camera: str = "Camera",
) -> Shot:
    """Return the shot of a camera around a figure in the origin.

    Args:
        angles: where the camera stands in each of the T frames.
        size: (width, height) of the model's pictures, pixels.
        fps: rate at which the frames play.
        frame_numbers: [T] frames of the scene that they are for; counted from 1 by default.
        source: what the record says about where the job comes from.
        camera: name of the camera.
    """
    count = len(angles.azimuths)
    focal = focal_length(size[1])
    intrinsics = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1]])
    track = CameraTrack(
        name=camera,
        sources=(camera,) * count,
        intrinsics=np.tile(intrinsics, (count, 1, 1)),
        world_to_camera=camera_matrices(angles, DISTANCE),
        orthographic=np.zeros(count, bool),
        clip=np.tile(np.array(_CLIP), (count, 1)),
    )
    figure = ObjectTrack(FIGURE, "EMPTY", np.tile(np.eye(4), (count, 1, 1)))
    numbers = np.arange(1.0, count + 1) if frame_numbers is None else np.asarray(frame_numbers, np.float64)
    return Shot(numbers, fps, size, track, (), (), (figure,), source=dict(source or {}))


def repeat_still(pictures: np.ndarray, count: int) -> np.ndarray:
    """Return what a clip of one frame shows in several, [count, ...]; longer clips are returned as they are."""
    return np.repeat(pictures, count, axis=0) if len(pictures) == 1 else pictures


def hands_seen(
    hands: np.ndarray,  # [T, 2, h, h, 3]
) -> np.ndarray:
    """Return which crops of hands show one, [T, 2] bool; those of hands that are not seen are black."""
    return hands.any(axis=(2, 3, 4))
