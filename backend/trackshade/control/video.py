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

from trackshade.control.locate import Follower
from trackshade.control.points import PointTracks, choose_points, draw_points
from trackshade.control.raster import NOTHING, Buffers
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import is_visible
from trackshade.core.errors import CancelledError, ShotError, UsageError
from trackshade.shot import Shot
from trackshade.shot.track_colors import MeshRule, mesh_rule

Mode = Literal["mesh", "points"]


@dataclass(frozen=True, eq=False)
class TrackingVideo:
    """A tracking video, and what the camera sees at each of its pixels.

    Attributes:
        shot: the shot.
        frames: [T, H, W, 3] uint8, exact RGB, black where nothing is tracked.
        object_index: [T, H, W] int32, index into `Shot.meshes`, holdouts included; -1 for the background.
        depth: [T, H, W] float32, metres along the camera's axis; inf for the background.
        rule: the color rule of the shot's surfaces.
        points: the points that were drawn, in mode "points".
    """

    shot: Shot
    frames: np.ndarray
    object_index: np.ndarray
    depth: np.ndarray
    rule: MeshRule
    points: PointTracks | None

    def colors(self, mesh: int, t: int = 0) -> np.ndarray:
        """Return colors [V, 3] in 0..1 of the vertices that a mesh has in sample `t`; black for a holdout."""
        first = self.shot.first_places(mesh, t)
        return np.zeros_like(first) if self.shot.meshes[mesh].holdout else self.rule.colors(first)

    def visible_vertices(self, mesh: int) -> np.ndarray:
        """Return which vertices of a mesh's first geometry the camera sees, [T, V] bool."""
        track = self.shot.meshes[mesh]
        count = len(self.shot.geometries[track.geometry].first)
        alone = np.repeat(np.arange(count, dtype=np.int32)[:, None], 3, axis=1), np.tile([1.0, 0.0, 0.0], (count, 1))
        points = Follower(self.shot, mesh, track.geometry, *alone)
        raster = ShotRaster(self.shot)
        table = np.zeros((len(self.frames), count), np.bool_)
        for t in np.flatnonzero(track.visible).tolist():
            near, far = self.shot.camera.clip[t]
            positions = None if track.geometry_at(t) == track.geometry else points.positions(t)
            table[t] = is_visible(raster.vertices(mesh, t, positions), self.depth[t], float(near), float(far))
        return table


def tracking_video(
    shot: Shot,
    mode: Mode = "mesh",
    points: int = 4900,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    threads: int | None = None,
    needs_surface: bool = True,
) -> TrackingVideo:
    """Draw the tracking video of a shot.

    Args:
        shot: the shot.
        mode: "mesh" colors every surface point (see `MeshRule`); "points" draws sampled points (see `points`).
        points: number of points, in mode "points".
        seed: which points are chosen, in mode "points".
        progress: called as progress(done, total) after every frame, in the calling thread.
        cancel: called before every frame; returns whether to stop.
        threads: number of frames drawn at a time; one for each core if None.
        needs_surface: whether the first frame must show a surface.

    Raises:
        ShotError: "no-tracks", the first frame shows no surface to follow; or what `Shot.check_values` finds.
        UsageError: unknown mode, or fewer than one point.
        CancelledError: `cancel` returned True.
    """
    if mode not in ("mesh", "points"):
        raise UsageError("unknown-control", f"There is no tracking mode {mode!r}.", "Use mesh or points.")
    if mode == "points" and points < 1:
        raise UsageError("no-points", f"{points} tracking points were asked for.", "Ask for one or more.")
    _check_cancel(cancel)
    shot.check_values()  # The kernels trust indices.
    rule = mesh_rule(shot)
    is_drawn = needs_surface or mode == "points"
    tracks = _check_first_frame(shot, points if mode == "points" else None, seed) if is_drawn else None
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
        for done, future in enumerate(_completed(pool, draw_frame, count, workers, cancel), 1):
            future.result()
            if progress:
                progress(done, count)
    return video


def _completed(
    pool: ThreadPoolExecutor,
    work: Callable[[int], None],
    count: int,
    workers: int,
    cancel: Callable[[], bool] | None,
) -> Iterator[Future[None]]:
    """Yield futures of work(0) … work(count - 1) as they end.

    Never more than `workers` have begun, so that ending early waits for those only.
    """
    pending: set[Future[None]] = set()
    for t in range(count):
        _check_cancel(cancel)
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


def _check_first_frame(shot: Shot, points: int | None, seed: int) -> PointTracks | None:
    """Raise ShotError unless the first frame shows a mesh; return the chosen points if a number is given."""
    raster = ShotRaster(shot)
    labels = np.unique(raster.draw(0).label)
    if not any(label != NOTHING and not shot.meshes[label].holdout for label in labels):
        raise ShotError(
            "no-tracks",
            f"Camera '{shot.camera.name}' sees no mesh in the first frame ({shot.frame_numbers[0]:g}), so there is "
            "nothing to follow.",
            "Point it at the meshes, make them visible in the render, or begin at a frame that shows them.",
        )
    return None if points is None else choose_points(raster, points, seed)


def _check_cancel(cancel: Callable[[], bool] | None) -> None:
    if cancel is not None and cancel():
        raise CancelledError()
