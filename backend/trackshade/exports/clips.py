# SPDX-License-Identifier: GPL-3.0-or-later
"""Control clips: passes and tracks of a shot as videos, in the arrangement that a video model takes them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av.error
import numpy as np

from trackshade.control.passes import (
    clay_picture,
    depth_picture,
    flow_picture,
    frame_passes,
    index_picture,
    measure_range,
    normal_picture,
)
from trackshade.control.tracks import sample_tracks
from trackshade.exports.tracks import draw_ltx_tracks
from trackshade.results.video import VideoWriter
from trackshade.shot import Shot

Report = Callable[[int], None]


@contextmanager
def _videos(folder: Path, size: tuple[int, int], fps: float, *names: str) -> Iterator[tuple[VideoWriter, ...]]:
    """Yield writers of `NAME.mp4` in a folder; they are closed at the end."""
    writers = tuple(VideoWriter(folder / f"{name}.mp4", size, fps) for name in names)
    try:
        yield writers
        for writer in writers:
            writer.close()
    except BaseException as error:
        for writer in writers:
            writer.abort()
        if isinstance(error, av.error.FFmpegError):
            raise OSError(error.errno, error.strerror) from error
        raise


def write_pass_videos(shot: Shot, folder: Path, report: Report = lambda done: None) -> None:
    """Write `depth.mp4`, `normal.mp4`, `flow.mp4` and `index.mp4`."""
    limits = measure_range(shot)
    with _videos(folder, shot.size, shot.fps, "depth", "normal", "flow", "index") as (depth, normal, flow, index):
        for t, passes in enumerate(frame_passes(shot)):
            depth.add(depth_picture(passes, limits))
            normal.add(normal_picture(passes))
            flow.add(flow_picture(passes, limits))
            index.add(index_picture(passes))
            report(t + 1)


def write_vace(
    shot: Shot,
    folder: Path,
    picture: np.ndarray | None,  # [H, W, 3] uint8
    report: Report = lambda done: None,
) -> None:
    """Write `depth.mp4` and `gray.mp4`, either of which is VACE's control video, and `mask.mp4`.

    The mask is white where VACE makes an image. With a picture of the first frame, that is frame 0 of the clips, and
    the mask is black there.

    Source: `WanVACEPipeline` of diffusers.
    """
    limits = measure_range(shot, flow=False)
    with _videos(folder, shot.size, shot.fps, "depth", "gray", "mask") as (depth, gray, mask):
        for t, passes in enumerate(frame_passes(shot, flow=False)):
            given = picture if t == 0 else None
            depth.add(depth_picture(passes, limits) if given is None else given)
            gray.add(clay_picture(passes) if given is None else given)
            mask.add(np.full((*passes.depth.shape, 3), 255 if given is None else 0, np.uint8))
            report(t + 1)


def write_ltx(shot: Shot, folder: Path, points: int, report: Report = lambda done: None) -> None:
    """Write `layout.mp4` (gray clay), `depth.mp4`, and `motion_tracks.mp4` at half the size.

    Source: `LTX2InContextPipeline` of diffusers; the model cards of the IC-LoRAs Layout-To-Render and Motion-Track.
    """
    count = len(shot.frame_numbers)
    limits = measure_range(shot, flow=False)
    tracks = sample_tracks(shot, points, lambda done: report(done // 3))
    half = shot.size[0] // 2, shot.size[1] // 2
    with (
        _videos(folder, shot.size, shot.fps, "layout", "depth") as (layout, depth),
        _videos(folder, half, shot.fps, "motion_tracks") as (motion,),
    ):
        drawn = draw_ltx_tracks(tracks, shot.size, half)
        for t, (passes, image) in enumerate(zip(frame_passes(shot, flow=False), drawn, strict=True)):
            layout.add(clay_picture(passes))
            depth.add(depth_picture(passes, limits))
            motion.add(image)
            report((count + 2 * (t + 1)) // 3)
