# SPDX-License-Identifier: GPL-3.0-or-later
"""Dense tracks: where the surface point that a pixel shows was in the first frame, and whether it was seen there.

Two sources. A shot gives exact places. A tracking video by the mesh rule gives them in 8 bits, a step of more than
half a pixel in a frame of 144; what rounding took is given back as for the embedded model (`models.track_warp`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trackshade.control.raster import NOTHING, barycentric
from trackshade.control.scene import ShotRaster
from trackshade.core.geometry import project
from trackshade.models import track_coordinates
from trackshade.models.track_warp import dequantize_coordinates
from trackshade.shot import Shot


@dataclass(frozen=True)
class DenseTracks:
    """Places in the first frame of what every pixel shows.

    Attributes:
        place: [T, H, W, 2] float32, pixels of the first frame; what is not tracked is at its own pixel.
        nearness: [T, H, W] float32, larger where nearer: of the surface point in the first frame, hidden or not.
        tracked: [T, H, W] bool, a surface is seen and its point is in front of the first frame's camera.
        first_nearness: [H, W] float32, of what the first frame shows, on the same scale; 0 where no surface is.
        first_tracked: [H, W] bool, where the first frame shows a surface.
        tolerance: (share, absolute) by which two nearnesses of one point may differ.
    """

    place: np.ndarray
    nearness: np.ndarray
    tracked: np.ndarray
    first_nearness: np.ndarray
    first_tracked: np.ndarray
    tolerance: tuple[float, float]


@dataclass(frozen=True)
class Surfaces:
    """What the camera of a shot sees, pixel by pixel.

    Attributes:
        depth: [T, H, W] float32, metres along the camera's axis, inf where nothing is.
        mesh: [T, H, W] int32, index of `Shot.meshes`, -1 where nothing is.
    """

    depth: np.ndarray
    mesh: np.ndarray


def pixel_centers(size: tuple[int, int]) -> np.ndarray:
    """[H, W, 2] float32 places (x, y) of the pixels of a frame of `size` (w, h)."""
    rows, columns = np.mgrid[: size[1], : size[0]].astype(np.float32)
    return np.stack([columns + 0.5, rows + 0.5], axis=-1)


def shot_tracks(shot: Shot) -> tuple[DenseTracks, Surfaces]:
    """Exact tracks of a shot; nearness is 1 / depth along the first camera's axis, per metre."""
    raster, (width, height) = ShotRaster(shot), shot.size
    count = len(shot.frame_numbers)
    place = np.broadcast_to(pixel_centers(shot.size), (count, height, width, 2)).copy()
    nearness = np.zeros((count, height, width), np.float32)
    depth = np.empty((count, height, width), np.float32)
    mesh = np.empty((count, height, width), np.int32)
    for t in range(count):
        buffers = raster.draw(t)
        depth[t], mesh[t] = buffers.depth, buffers.label
        flat = buffers.label.ravel()
        for index in np.unique(flat[flat != NOTHING]):
            pixels = np.flatnonzero(flat == index).astype(np.int32)
            triangles = shot.geometry_of(int(index), t).triangles
            corners, weights = barycentric(buffers, pixels, raster.vertices(int(index), t), triangles)
            then = np.einsum("nc,ncx->nx", weights, shot.first_places(int(index), t)[corners])
            pixel, z = _in_first_frame(shot, then)
            place[t].reshape(-1, 2)[pixels] = np.where(z[:, None] > 0, pixel, place[t].reshape(-1, 2)[pixels])
            nearness[t].reshape(-1)[pixels] = np.where(z > 0, 1.0 / np.where(z > 0, z, 1.0), 0.0)
    first = mesh[0] != NOTHING
    with np.errstate(divide="ignore"):
        first_nearness = np.where(first, 1.0 / depth[0], 0.0).astype(np.float32)
    return DenseTracks(place, nearness, nearness > 0, first_nearness, first, (0.003, 0.0)), Surfaces(depth, mesh)


def _in_first_frame(shot: Shot, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 2] and depths [N], metres, of points [N, 3] through the first frame's camera."""
    camera = shot.camera
    m, orthographic = camera.world_to_camera[0], bool(camera.orthographic[0])
    places = world @ m[:3, :3].T + m[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        return project(places, camera.intrinsics[0], orthographic), places[:, 2]


def video_tracks(tracking: np.ndarray) -> DenseTracks:
    """Tracks of a tracking video [T, H, W, 3] uint8 by the mesh rule; nearness is blue, in levels, plus one."""
    height, width = tracking.shape[1:3]
    tracked = tracking.any(axis=-1)
    coordinates = track_coordinates(torch.from_numpy(np.ascontiguousarray(tracking)).movedim(-1, 1)[None].float() / 255)
    smooth = dequantize_coordinates(coordinates)[0].movedim(1, -1).numpy() * 255
    place = smooth[..., :2] * (np.array([width, height], np.float32) / 255)
    place = np.where(tracked[..., None], place, pixel_centers((width, height)))
    nearness = np.where(tracked, smooth[..., 2] + 1, 0).astype(np.float32)
    return DenseTracks(place.astype(np.float32), nearness, tracked, nearness[0], tracked[0], (0.0, 2.5))
