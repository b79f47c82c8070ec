# SPDX-License-Identifier: GPL-3.0-or-later
"""What generated videos are measured against: true videos with all that is known of them, and the held-out clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.core.errors import UsageError
from trackshade.results.consistency import follow, sample_points
from trackshade.shot import CameraTrack, Shot
from trackshade_lab.scenes import Clip, clip_kinds, generate_clip, scene_shot

from .camera import CameraErrors, CameraMotion, camera_errors, camera_motion
from .points import ReferencePoints, find_trusted, follow_points, shot_points, tracking_video_points
from .tracks import shot_tracks, video_tracks
from .warp import Warp, warp_first_frame

SPIN = "spin"  # kind of the spin set: textured objects that turn in place
_FIRST_SEED, _FIRST_SPIN_SEED = 100_000, 500_000
_NUM_SPREAD_POINTS = 1500


@dataclass(frozen=True)
class EvalTarget:
    """A true video, and what generated videos are measured by."""

    video: np.ndarray  # [T, H, W, 3] uint8, the true frames
    tracking: np.ndarray  # [T, H, W, 3] uint8, the tracking video
    warp: Warp  # the first frame warped along the tracks
    points: ReferencePoints  # points to follow, with their true positions
    trusted: np.ndarray  # [P, T] bool, points and frames to compare, see `points.find_trusted`
    object_mask: np.ndarray | None = None  # [T, H, W] bool, the main object, if it is known
    # [S, T, 2] px and [S, T] bool, positions and visibility of the surface points whose color spread is measured; only
    # with a shot
    spread_points: tuple[np.ndarray, np.ndarray] | None = None
    camera: CameraTrack | None = None  # the true camera, if it is known
    camera_motion: CameraMotion | None = None  # its motion
    # errors of the camera estimated from the true video; None if the camera does not move
    true_camera_errors: CameraErrors | None = None

    @property
    def width(self) -> int:
        """Width of the frames, px."""
        return self.video.shape[2]


def target_from_shot(
    video: np.ndarray,  # [T, H, W, 3] uint8
    tracking: np.ndarray,  # [T, H, W, 3] uint8
    shot: Shot,
    object_mask: np.ndarray | None = None,  # [T, H, W] bool
) -> EvalTarget:
    """Prepare a true video whose shot is known."""
    tracks, surfaces = shot_tracks(shot)
    points = shot_points(shot, surfaces, video[0])
    followed, width = follow_points(video, points.pixels[:, 0]), video.shape[2]
    trusted = find_trusted(followed, points, width)
    camera = shot.camera
    motion, errors = camera_motion(camera.world_to_camera, points.world), None
    if motion.is_moving:
        errors = camera_errors(followed, points, trusted, camera.world_to_camera, camera.intrinsics, width)
    positions, visible = follow(shot, sample_points(shot, _NUM_SPREAD_POINTS), surfaces.depth, surfaces.mesh)
    repeated = visible.sum(axis=1) >= 2
    return EvalTarget(
        video=video,
        tracking=tracking,
        warp=warp_first_frame(video[0], tracks),
        points=points,
        trusted=trusted,
        object_mask=object_mask,
        spread_points=(positions[repeated], visible[repeated]),
        camera=camera,
        camera_motion=motion,
        true_camera_errors=errors,
    )


def target_from_tracking(
    video: np.ndarray,  # [T, H, W, 3] uint8
    tracking: np.ndarray,  # [T, H, W, 3] uint8
) -> EvalTarget:
    """Prepare a true video of which only the tracking video (by the mesh rule) is known."""
    tracks = video_tracks(tracking)
    points = tracking_video_points(tracks, video[0])
    trusted = find_trusted(follow_points(video, points.pixels[:, 0]), points, video.shape[2])
    return EvalTarget(video, tracking, warp_first_frame(video[0], tracks), points, trusted)


@dataclass(frozen=True)
class ClipSpec:
    """Which clip to generate."""

    kind: str  # kind of the scene
    seed: int  # of the scene, and of the model's noise
    is_extra: bool  # whether it belongs to the spin set only, not to the total
    other: tuple[str, int]  # kind and seed of the clip that gives another scene's tracks

    @property
    def name(self) -> str:
        """Name in files and reports."""
        return f"{self.kind}-{self.seed}"


@dataclass(frozen=True)
class HeldOutClip:
    """A generated held-out clip."""

    spec: ClipSpec  # which clip it is
    target: EvalTarget  # its video and measures
    shot: Shot  # its scene
    caption: str  # its caption
    object_index: np.ndarray  # [T, H, W] int16, the object that each pixel shows
    color: str | None  # the caption's color word of the main object, if that color dominates it

    def other_tracking(self) -> np.ndarray:
        """Generate the tracking video [T, H, W, 3] uint8 of another clip."""
        return _generate(*self.spec.other, self.shot.size, len(self.target.video)).tracking


def plan_clips(count: int, spin: int, kinds: tuple[str, ...] = ()) -> list[ClipSpec]:
    """Plan `count` held-out clips, spread evenly over the kinds (all if empty), and `spin` extra ones of the spin set.

    Raise UsageError for an unknown kind.
    """
    known = tuple(clip_kinds("held-out"))
    if unknown := [kind for kind in kinds if kind not in known]:
        raise UsageError("bad-setting", f"There is no scene kind '{unknown[0]}'.", f"Choose of {', '.join(known)}.")
    kinds = kinds or known

    def clip(n: int) -> tuple[str, int]:
        return kinds[n % len(kinds)], _FIRST_SEED + n

    clips = [ClipSpec(*clip(n), is_extra=False, other=clip(n + 1)) for n in range(count)]
    return clips + [ClipSpec(SPIN, _FIRST_SPIN_SEED + n, is_extra=True, other=clip(n)) for n in range(spin)]


def generate_held_out(spec: ClipSpec, size: tuple[int, int], num_frames: int) -> HeldOutClip:
    """Generate a planned clip at a size (width, height)."""
    clip = _generate(spec.kind, spec.seed, size, num_frames)
    shot = scene_shot(clip.scene, size)
    target = target_from_shot(clip.video, clip.tracking, shot, clip.object_index == 1)
    return HeldOutClip(spec, target, shot, clip.caption, clip.object_index, clip.scene.color)


def _generate(kind: str, seed: int, size: tuple[int, int], num_frames: int) -> Clip:
    return generate_clip(seed, size, num_frames, kind, split="held-out")
