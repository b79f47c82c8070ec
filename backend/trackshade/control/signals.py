# SPDX-License-Identifier: GPL-3.0-or-later
"""Control signals of a shot, to compare them (Gu et al. 2025, table 3).

    none        black: no control
    depth       inverse depth of every pixel in gray, between its 2nd and 98th percentile over the shot
    tracks-N    N points of the first frame's surfaces, drawn as rectangles like the published training data
    mesh        every surface point (what `trackshade render` uses)

The rectangles are colored by the rule of the mesh signal (a point's position in the frame), so that the signals differ
in density only; `point_rule` "points" uses the published data's colors.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

import numpy as np

from trackshade.control import tracking_video
from trackshade.control.points import PointTracks, choose_points, draw_points
from trackshade.control.scene import ShotRaster
from trackshade.core.colors import to_uint8
from trackshade.core.errors import UsageError
from trackshade.shot import Shot
from trackshade.shot.track_colors import inverse_range, mesh_rule, nearness

SIGNALS = ("none", "depth", "tracks-900", "tracks-2500", "tracks-4900", "tracks-8100", "mesh")
PointRule = Literal["mesh", "points"]


def control_signal(shot: Shot, name: str, seed: int = 0, point_rule: PointRule = "mesh") -> np.ndarray:
    """Return a control signal of a shot, one of `SIGNALS` or "tracks-N", [T, H, W, 3] uint8.

    `seed` decides which points are chosen, `point_rule` how they are colored. Raise UsageError if the name is unknown.
    """
    count, (width, height) = len(shot.frame_numbers), shot.size
    if name == "none":
        return np.zeros((count, height, width, 3), np.uint8)
    if name == "mesh":
        return tracking_video(shot, threads=1).frames
    if name == "depth":
        return _depth_video(shot)
    found = re.fullmatch(r"tracks-([1-9]\d*)", name)
    if found is None:
        fix = f"Take {', '.join(SIGNALS)}, or tracks-N."
        raise UsageError("unknown-control", f"There is no control signal '{name}'.", fix)
    return _point_video(shot, int(found[1]), seed, point_rule)


def _depth_video(shot: Shot) -> np.ndarray:
    """Return the inverse depth as gray, [T, H, W, 3] uint8: near is bright, far and the background are black."""
    raster = ShotRaster(shot)
    inverse = np.stack([1.0 / raster.draw(t).depth for t in range(len(shot.frame_numbers))])  # 0 where nothing is
    seen = inverse > 0
    gray = np.where(seen, nearness(inverse, inverse_range(inverse[seen])), 0.0)
    return np.repeat(to_uint8(gray)[..., None], 3, axis=-1)


def _point_video(shot: Shot, count: int, seed: int, point_rule: PointRule) -> np.ndarray:
    """Return a video with `count` points, [T, H, W, 3] uint8; fewer if the first frame has fewer pixels of surfaces."""
    raster = ShotRaster(shot)
    raster.draw(0)
    points = choose_points(raster, count, seed)
    if point_rule == "mesh":
        points = dataclasses.replace(points, colors=mesh_rule(shot).colors(_world_positions(shot, points)))
    frames = np.zeros((len(shot.frame_numbers), shot.size[1], shot.size[0], 3), np.uint8)
    for t, frame in enumerate(frames):
        draw_points(points, shot, t, raster.draw(t), frame)
    return frames


def _world_positions(shot: Shot, points: PointTracks) -> np.ndarray:
    """Return the points' world positions in the first frame, [N, 3], metres."""
    world = np.empty((len(points), 3))
    for mesh, follower in points.followers.items():
        world[points.mesh == mesh] = follower.at(0).interpolate(shot.world_positions(mesh, 0))
    return world
