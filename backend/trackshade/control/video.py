# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws the tracking video of a shot, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Literal

import numpy as np

from trackshade.control.locate import shows_surface
from trackshade.control.points import PointTracks, choose_points, draw_points
from trackshade.control.raster import Buffers
from trackshade.control.scene import ShotRaster
from trackshade.core.errors import ShotError, UsageError
from trackshade.shot import Shot
from trackshade.shot.track_colors import MeshRule, mesh_rule

Mode = Literal["mesh", "points"]


@dataclass(frozen=True, eq=False)
class TrackingVideo:
    """A tracking video, and what the camera sees at each of its pixels."""

    shot: Shot
    frames: np.ndarray  # [T, H, W, 3] uint8, exact RGB, black where nothing is tracked
    object_index: np.ndarray  # [T, H, W] int32, index into `Shot.meshes`, holdouts included; -1 for the background
    depth: np.ndarray  # [T, H, W] float32, metres along the camera's axis; inf for the background
    rule: MeshRule  # the color rule of the shot's surfaces
    points: PointTracks | None  # the points that were drawn, in mode "points"


def tracking_video(
    shot: Shot,
    mode: Mode = "mesh",
    points: int = 4900,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    needs_surface: bool = True,
) -> TrackingVideo:
    """Draw the tracking video of a shot.

    Args:
        shot: the shot.
        mode: "mesh" colors every surface point (see `MeshRule`); "points" draws sampled points (see `points`).
        points: number of points, in mode "points".
        seed: which points are chosen, in mode "points".
        progress: called as progress(done, total) after every frame, in the calling thread; what it raises ends the
            drawing.
        threads: number of frames drawn at a time; one for each core if None.
        needs_surface: whether the first frame must show a surface.

    Raises:
        ShotError: "no-tracks", the first frame shows no surface to follow; or what `Shot.check_values` finds.
        UsageError: unknown mode, or fewer than one point.
    """
    if mode not in ("mesh", "points"):
        raise UsageError("unknown-control", f"There is no tracking mode {mode!r}.", "Use mesh or points.")
    if mode == "points" and points < 1:
        raise UsageError("no-points", f"{points} tracking points were asked for.", "Ask for one or more.")
    shot.check_values()  # The kernels trust indices.
    rule = mesh_rule(shot)
    tracks = choose_first_points(shot, points, seed) if mode == "points" else None
    if tracks is None and needs_surface:
        _draw_first_frame(shot)
    count, (w, h) = len(shot.frame_numbers), shot.size
    video = TrackingVideo(
        shot,
        np.zeros((count, h, w, 3), np.uint8),
        np.empty((count, h, w), np.int32),
        np.empty((count, h, w), np.float32),
        rule,
        tracks,
    )
    workers = min(count, threads or os.cpu_count() or 1)
    rasters: SimpleQueue[ShotRaster] = SimpleQueue()
    for _ in range(workers):
        rasters.put(ShotRaster(shot))

    def draw_frame(t: int) -> None:
        raster = rasters.get()
        try:
            _draw_frame(video, raster, t)
        finally:
            rasters.put(raster)

    with ThreadPoolExecutor(workers) as pool:
        for done, future in enumerate(_completed(pool, draw_frame, count, workers), 1):
            future.result()
            if progress:
                progress(done, count)
    return video


def _completed(
    pool: ThreadPoolExecutor,
    work: Callable[[int], None],
    count: int,
    workers: int,
) -> Iterator[Future[None]]:
    """Yield futures of work(0) … work(count - 1) as they end.

    Never more than `workers` have begun, so that ending early waits for those only.
    """
    pending: set[Future[None]] = set()
    for t in range(count):
        pending.add(pool.submit(work, t))
        if len(pending) >= workers:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from done
    yield from wait(pending).done


def _draw_frame(video: TrackingVideo, raster: ShotRaster, t: int) -> None:
    buffers = Buffers(video.depth[t], raster.buffers.triangle, video.object_index[t])
    if video.points is None:
        raster.draw(t, video.rule, video.frames[t], into=buffers)
    else:
        raster.draw(t, into=buffers)
        draw_points(video.points, video.shot, t, buffers, video.frames[t])


def choose_first_points(shot: Shot, count: int, seed: int) -> PointTracks:
    """Choose points on what the first frame shows; see `choose_points`. Raise ShotError unless it shows a mesh."""
    return choose_points(_draw_first_frame(shot), count, seed)


def _draw_first_frame(shot: Shot) -> ShotRaster:
    """Return a raster that has drawn the first frame. Raise ShotError unless it shows a mesh."""
    raster = ShotRaster(shot)
    raster.draw(0)
    if not shows_surface(raster).any():
        raise ShotError(
            "no-tracks",
            f"Camera '{shot.camera.name}' sees no mesh in the first frame ({shot.frame_numbers[0]:g}), so there is "
            "nothing to follow.",
            "Point it at the meshes, make them visible in the render, or begin at a frame that shows them.",
        )
    return raster
