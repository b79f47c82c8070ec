# SPDX-License-Identifier: GPL-3.0-or-later
"""Dense tracks: where the surface point that each pixel shows was in the first frame, and its inverse depth there.

They come from a shot, exactly, or from a tracking video by the mesh rule, whose 8 bits are steps of more than half a
pixel in a frame of width 144; these are smoothed as for the embedded model (`models.track_warp`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from trackshade.control.raster import NOTHING, barycentric
from trackshade.control.scene import ShotRaster
from trackshade.core.geometry import project
from trackshade.models.track_warp import dequantize_coordinates, track_coordinates
from trackshade.shot import Shot


@dataclass(frozen=True)
class DenseTracks:
    """Places in the first frame of the surface points that all pixels show."""

    # [T, H, W, 2] float32, in pixels of the first frame; a pixel without a track has its own position
    position: np.ndarray
    # [T, H, W] float32, of the surface point in the first frame, hidden or not; on any linear scale
    inverse_depth: np.ndarray
    # [T, H, W] bool, the pixel shows a surface, and its point was in front of the first frame's camera
    tracked: np.ndarray
    first_inverse_depth: np.ndarray  # [H, W] float32, of what the first frame shows; 0 where it shows no surface
    first_tracked: np.ndarray  # [H, W] bool, where the first frame shows a surface
    tolerance: tuple[float, float]  # (relative, absolute) difference allowed between two inverse depths of one point


@dataclass(frozen=True)
class Surfaces:
    """The surfaces that the camera of a shot sees."""

    depth: np.ndarray  # [T, H, W] float32, metres along the camera's axis; inf where there is no surface
    mesh: np.ndarray  # [T, H, W] int32, index into `Shot.meshes`; -1 where there is no surface


def pixel_centers(size: tuple[int, int]) -> np.ndarray:
    """Return the centers (x, y) [H, W, 2] float32 of the pixels of a frame of `size` (width, height)."""
    rows, columns = np.mgrid[: size[1], : size[0]].astype(np.float32)
    return np.stack([columns + 0.5, rows + 0.5], axis=-1)


def shot_tracks(shot: Shot) -> tuple[DenseTracks, Surfaces]:
    """Compute the exact tracks of a shot; inverse depths are along the first camera's axis, in 1 / metre."""
    raster, (width, height) = ShotRaster(shot), shot.size
    count = len(shot.frame_numbers)
    position = np.broadcast_to(pixel_centers(shot.size), (count, height, width, 2)).copy()
    inverse_depth = np.zeros((count, height, width), np.float32)
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
            world = np.einsum("nc,ncx->nx", weights, shot.first_places(int(index), t)[corners])
            projected, z = _project_to_first_frame(shot, world)
            flat_position = position[t].reshape(-1, 2)
            flat_position[pixels] = np.where(z[:, None] > 0, projected, flat_position[pixels])
            inverse_depth[t].reshape(-1)[pixels] = np.where(z > 0, 1.0 / np.where(z > 0, z, 1.0), 0.0)
    first = mesh[0] != NOTHING
    with np.errstate(divide="ignore"):
        first_inverse_depth = np.where(first, 1.0 / depth[0], 0.0).astype(np.float32)
    tracks = DenseTracks(position, inverse_depth, inverse_depth > 0, first_inverse_depth, first, (0.003, 0.0))
    return tracks, Surfaces(depth, mesh)


def _project_to_first_frame(shot: Shot, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels [N, 2] and depths [N], metres, of points [N, 3] through the first frame's camera."""
    camera = shot.camera
    m, orthographic = camera.world_to_camera[0], bool(camera.orthographic[0])
    points = world @ m[:3, :3].T + m[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        return project(points, camera.intrinsics[0], orthographic), points[:, 2]


def video_tracks(
    tracking: np.ndarray,  # [T, H, W, 3] uint8
) -> DenseTracks:
    """Compute the tracks of a tracking video by the mesh rule; inverse depths are its blue levels plus one."""
    height, width = tracking.shape[1:3]
    tracked = tracking.any(axis=-1)
    coordinates = track_coordinates(torch.from_numpy(np.ascontiguousarray(tracking)).movedim(-1, 1)[None].float() / 255)
    smooth = dequantize_coordinates(coordinates)[0].movedim(1, -1).numpy() * 255
    position = smooth[..., :2] * (np.array([width, height], np.float32) / 255)
    position = np.where(tracked[..., None], position, pixel_centers((width, height))).astype(np.float32)
    inverse_depth = np.where(tracked, smooth[..., 2] + 1, 0).astype(np.float32)
    return DenseTracks(position, inverse_depth, tracked, inverse_depth[0], tracked[0], (0.0, 2.5))
