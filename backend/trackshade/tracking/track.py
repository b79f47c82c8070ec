# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns footage into a lifted scene: the camera of each frame, and tracked points with visibility over time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from trackshade.shot.lifted import LiftedMesh, LiftedScene
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking.footage import read_footage

MEDIAN_DEPTH = 5.0  # metres: footage does not say how large things are
Report = Callable[[str, float], None]


def track_video(
    path: Path,
    request: TrackRequest | None = None,
    report: Report = lambda stage, fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> LiftedScene:
    """Track a video without weights.

    Args:
        path: the video.
        request: what to track, and what is known of it.
        report: called with what is done and the fraction of the whole that is done.
        cancelled: called now and then; returns whether to stop.

    Returns:
        A scene whose frames are those that were tracked. Its meshes hold the points of the first frame: "Tracks" what
        stands still, "Moving 1" and so on what moves by itself. `notes` holds "times" (seconds in the video of each
        frame), "warnings", and measures.

    Raises:
        ShotError: the video or a mask cannot be used.
        UsageError: the request names what the video does not have.
        CancelledError: `cancelled` returned True.
    """
    request = request or TrackRequest()
    footage = read_footage(path, request, lambda fraction: report("Reading", 0.1 * fraction), cancelled)
    count, height, width = footage.images.shape[:3]
    focal = 0.85 * max(footage.size)
    x, y = np.meshgrid(np.arange(0, width, request.spacing), np.arange(0, height, request.spacing))
    scale = footage.size[0] / width
    rays = np.stack([(x * scale - footage.size[0] / 2) / focal, (y * scale - footage.size[1] / 2) / focal, 1 + 0 * x])
    positions = MEDIAN_DEPTH * rays.reshape(3, -1).T[None]
    positions = positions @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # the world's z points upwards
    empty, seen = np.zeros((0, 3), np.int32), np.ones((1, x.size), np.bool_)
    points = LiftedMesh("Tracks", "points", positions.astype(np.float32), empty, seen, positions.mean(axis=(0, 1)))
    intrinsics = np.array([[focal, 0, footage.size[0] / 2], [0, focal, footage.size[1] / 2], [0, 0, 1]])
    cameras = np.repeat(np.eye(4)[[0, 2, 1, 3]][None] * [[1], [-1], [1], [1]], count, axis=0)
    notes = {"warnings": list(footage.warnings), "times": footage.times.tolist()}
    return LiftedScene(str(path.absolute()), footage.size, footage.fps, intrinsics, cameras, (points,), None, 0, notes)
