# SPDX-License-Identifier: GPL-3.0-or-later
"""Synthetic shots whose right answers are known, and videos that are painted onto their surfaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.control.video import TrackingVideo, tracking_video
from trackshade.core.geometry import intrinsics, world_to_camera
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot

SIZE = (96, 64)


def grid(side: int = 12) -> Geometry:
    """A square of edge 2 in the plane z = 0, from -1 to 1."""
    line = np.linspace(-1, 1, side + 1)
    x, y = np.meshgrid(line, line)
    positions = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1).astype(np.float32)
    corner = (np.arange(side)[:, None] * (side + 1) + np.arange(side)).ravel()
    a, b, c, d = corner, corner + 1, corner + side + 2, corner + side + 1
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    return Geometry(positions[None], triangles)


def at(x: float, y: float, z: float, turn: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """[4, 4] a matrix that moves, and turns about the z axis by `turn` radians."""
    c, s = np.cos(turn) * scale, np.sin(turn) * scale
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, scale, z], [0, 0, 0, 1.0]])


def shot(
    tracks: list[tuple[str, list[np.ndarray]]],
    *,
    size: tuple[int, int] = SIZE,
    holdouts: tuple[str, ...] = (),
    orthographic: bool = False,
    fps: float = 8.0,
    geometry: Geometry | None = None,
    **source: Any,
) -> Shot:
    """Squares seen from 6 m above, along -z; each of `tracks` is a name and its T matrices."""
    count = len(tracks[0][1])
    k = intrinsics(lens=50, sensor_width=36, sensor_height=24, sensor_fit="AUTO", shift_x=0, shift_y=0, size=size)
    if orthographic:
        k = np.array([[size[0] / 4.0, 0, size[0] / 2], [0, size[0] / 4.0, size[1] / 2], [0, 0, 1]])
    return Shot(
        frame_numbers=np.arange(1.0, count + 1),
        fps=fps,
        size=size,
        camera=CameraTrack(
            name="Camera",
            sources=("Camera",) * count,
            intrinsics=np.repeat(k[None], count, 0),
            world_to_camera=np.repeat(world_to_camera(at(0, 0, 6))[None], count, 0),
            orthographic=np.full(count, orthographic),
            clip=np.repeat([[0.1, 100.0]], count, 0),
        ),
        geometries=(geometry or grid(),),
        meshes=tuple(
            MeshTrack(name, 0, np.stack(matrices), np.ones(count, bool), holdout=name in holdouts)
            for name, matrices in tracks
        ),
        view_layer="ViewLayer",
        source={"blender": "4.5.0", "file": "shot.blend", "warnings": [], **source},
    )


def paint(made: Shot, colors: dict[int, np.ndarray]) -> TrackingVideo:
    """The shot's tracking video with other colors: a video that is known to follow the surfaces.

    Args:
        colors: by mesh: [V, 3] or, per frame, [T, V, 3], levels 0..255.
    """
    video = tracking_video(made)
    frames = np.full(video.frames.shape, 20.0)
    raster = ShotRaster(made)
    for t in range(len(frames)):
        buffers = raster.draw(t)
        for mesh, values in colors.items():
            shown = np.flatnonzero(buffers.label == mesh)
            triangles = made.geometries[0].triangles
            corners, weights = barycentric(buffers, shown, raster.vertices(mesh, t), triangles)
            value = values[t] if values.ndim == 3 else values
            frames[t].reshape(-1, 3)[shown] = np.einsum("nc,ncx->nx", weights, value[corners])
    return replace(video, frames=np.rint(frames).astype(np.uint8))


def texture(low: float = 30.0, high: float = 230.0) -> np.ndarray:
    """[V, 3] a color ramp over the square: each point has its own color, and none of it is finer than a
    pixel.
    """
    x, y = grid().positions[0, :, 0], grid().positions[0, :, 1]
    ramp = np.stack([(x + 1) / 2, (y + 1) / 2, (x + y + 2) / 4], axis=1)
    return low + (high - low) * ramp


def flat(level: float) -> np.ndarray:
    """[V, 3] one grey."""
    return np.full((len(grid().positions[0]), 3), level)
