# SPDX-License-Identifier: GPL-3.0-or-later
"""What a made video is measured against: the true video and all that is known about it, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.control.video import TrackingVideo
from trackshade.results.consistency import follow as follow_surface
from trackshade.results.consistency import sample_points
from trackshade.shot import CameraTrack, Shot
from trackshade.shot.track_colors import mesh_rule

from .camera_error import CameraErrors, Movement, camera_errors, movement
from .following import follow, trusted
from .points import TruePoints, shot_points, track_points
from .tracks import shot_tracks, video_tracks
from .warp import Warp, warp

_SPREAD_POINTS = 1500


@dataclass(frozen=True)
class Subject:
    """One clip or one result.

    Attributes:
        video, tracking: [T, H, W, 3] uint8, true frames and tracking video.
        warp: the first frame warped along the tracks, and which pixels it knows.
        main: [T, H, W] bool, the main object; None where it is not known.
        points: surface points to follow, with their true places.
        trust: [P, T] bool, see `following.trusted`.
        places, seen: [S, T, 2] px and [S, T] bool of surface points for the spread of colors; None without a shot.
        camera: None where it is not known.
        movement: of the true camera; None where it is not known.
        camera_truth: errors of the camera that the true video gives; None where the camera rests or is not known.
    """

    video: np.ndarray
    tracking: np.ndarray
    warp: Warp
    main: np.ndarray | None
    points: TruePoints
    trust: np.ndarray
    places: np.ndarray | None
    seen: np.ndarray | None
    camera: CameraTrack | None
    movement: Movement | None
    camera_truth: CameraErrors | None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), pixels."""
        return self.video.shape[2], self.video.shape[1]


def shot_subject(video: np.ndarray, tracking: np.ndarray, shot: Shot, main: np.ndarray | None = None) -> Subject:
    """Of a true video [T, H, W, 3] uint8 whose shot is known."""
    tracks, surfaces = shot_tracks(shot)
    points = shot_points(shot, surfaces, video[0])
    found, width = follow(video, points.pixels[:, 0]), video.shape[2]
    trust = trusted(found, points, width)
    camera = shot.camera
    moved = movement(camera.world_to_camera, points.world)
    truth = None
    if moved.moves:
        truth = camera_errors(found, points, trust, camera.world_to_camera, camera.intrinsics, width)
    seen_by = TrackingVideo(shot, tracking, surfaces.mesh, surfaces.depth, mesh_rule(shot), None)
    places, seen = follow_surface(shot, seen_by, sample_points(shot, _SPREAD_POINTS))
    twice = seen.sum(axis=1) >= 2
    return Subject(
        video=video,
        tracking=tracking,
        warp=warp(video[0], tracks),
        main=main,
        points=points,
        trust=trust,
        places=places[twice],
        seen=seen[twice],
        camera=camera,
        movement=moved,
        camera_truth=truth,
    )


def video_subject(video: np.ndarray, tracking: np.ndarray) -> Subject:
    """Of a true video [T, H, W, 3] uint8 of which only the tracking video is known (by the mesh rule)."""
    tracks = video_tracks(tracking)
    points = track_points(tracks, video[0])
    trust = trusted(follow(video, points.pixels[:, 0]), points, video.shape[2])
    return Subject(video, tracking, warp(video[0], tracks), None, points, trust, None, None, None, None, None)
