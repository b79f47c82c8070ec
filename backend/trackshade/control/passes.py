# SPDX-License-Identifier: GPL-3.0-or-later
"""Render passes of a shot, drawn by the rasterizer: depth, normals, optical flow and object index."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trackshade.control.locate import Follower
from trackshade.control.raster import barycentric, to_screen
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import is_visible
from trackshade.core.colors import to_uint8
from trackshade.shot import Shot
from trackshade.shot.track_colors import inverse_range, nearness

_RANGE_FRAMES = 9  # frames that the range of the pictures is measured on
BACKGROUND = 61  # gray of what nothing covers in clay pictures, as in Blender's viewport
_CLAY_LIGHT = np.array([0.3, 0.5, 0.8]) / np.linalg.norm([0.3, 0.5, 0.8])  # direction to it, in the axes of normals


@dataclass(frozen=True, eq=False)
class FramePasses:
    """Passes of one frame.

    Attributes:
        depth: [H, W] float32, metres along the camera's axis; inf where nothing is.
        normal: [H, W, 3] float32, unit normals of the triangles, turned to the camera, in OpenGL's axes of the camera:
            x right, y up, z towards the viewer. Zero where nothing is.
        flow: [H, W, 3] float32, how far the surface point moves to the next frame in x (right) and y (down), pixels,
            and 1 where it is visible there, else 0. Zero where nothing is, and in the last frame.
        index: [H, W] int32, 1 + index into `Shot.meshes`; 0 where nothing is.
    """

    depth: np.ndarray
    normal: np.ndarray
    flow: np.ndarray
    index: np.ndarray


def frame_passes(shot: Shot, flow: bool = True, frames: range | None = None) -> Iterator[FramePasses]:
    """Yield the passes of all frames of a shot, or of some that ascend.

    Args:
        shot: the shot; its values must have been checked.
        flow: whether to compute the flow; otherwise it is zero.
        frames: samples to draw.
    """
    last = len(shot.frame_numbers) - 1
    current, following = ShotRaster(shot), ShotRaster(shot)
    drawn = -1
    for t in frames if frames is not None else range(last + 1):
        if drawn != t:
            current.draw(t)
        moved = np.zeros((shot.size[1], shot.size[0], 3), np.float32)
        if flow and t < last:
            following.draw(t + 1)
            _add_flow(current, following, t, moved)
        buffers = current.buffers
        yield FramePasses(buffers.depth.copy(), _normals(current, t), moved, buffers.label + 1)
        if flow and t < last:
            current, following, drawn = following, current, t + 1


def _normals(raster: ShotRaster, t: int) -> np.ndarray:
    shot, buffers = raster.shot, raster.buffers
    out = np.zeros((*buffers.label.shape, 3), np.float32)
    to_camera = shot.camera.world_to_camera[t]
    for mesh in np.unique(buffers.label[buffers.label >= 0]).tolist():
        here = buffers.label == mesh
        geometry, place = shot.geometry_of(mesh, t), buffers.triangle[here]
        faces = np.arange(len(geometry.triangles))
        if len(faces) > len(place):
            faces, place = np.unique(place, return_inverse=True)
        matrix = to_camera @ shot.meshes[mesh].matrix_world[t]
        corners = geometry.at(t)[geometry.triangles[faces]].astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
        ray = np.array([0.0, 0.0, 1.0]) if shot.camera.orthographic[t] else corners[:, 0]
        normal *= np.where((normal * ray).sum(axis=1, keepdims=True) > 0, -1.0, 1.0)
        out[here] = (normal * (1.0, -1.0, -1.0)).astype(np.float32)[place.ravel()]
    return out


def _add_flow(current: ShotRaster, following: ShotRaster, t: int, out: np.ndarray) -> None:
    """Write the flow from sample `t`, which `current` has drawn, to the next one, which `following` has drawn."""
    shot, camera = current.shot, current.shot.camera
    width, (near, far) = shot.size[0], (float(limit) for limit in camera.clip[t + 1])
    labels = current.buffers.label.ravel()
    for mesh in np.unique(labels[labels >= 0]).tolist():
        track, pixels = shot.meshes[mesh], np.flatnonzero(labels == mesh)
        vertices = to_screen(
            _positions_next(current, mesh, t, pixels),
            camera.world_to_camera[t + 1] @ track.matrix_world[t + 1],
            camera.intrinsics[t + 1],
            bool(camera.orthographic[t + 1]),
        )
        exists = np.isfinite(vertices).all(axis=1) & (vertices[:, 2] > 0)
        seen = is_visible(vertices, following.buffers.depth, near, far) & track.visible[t + 1]
        rows, columns = np.divmod(pixels, width)
        moved = vertices[:, :2] - np.stack([columns + 0.5, rows + 0.5], axis=1)
        values = np.column_stack([np.where(exists[:, None], moved, 0.0), seen & exists])
        out[rows, columns] = values


def _positions_next(raster: ShotRaster, mesh: int, t: int, pixels: np.ndarray) -> np.ndarray:
    """Return where the points of a mesh at pixels are in sample t + 1, [P, 3] object space; NaN where they are not."""
    shot, index = raster.shot, raster.shot.meshes[mesh].geometry_at(t)
    geometry = shot.geometries[index]
    corners, weights = barycentric(raster.buffers, pixels, raster.vertices(mesh, t), geometry.triangles)
    if shot.meshes[mesh].geometry_at(t + 1) != index:
        return Follower(shot, mesh, index, corners, weights).positions(t + 1)
    positions, moved = geometry.at(t + 1), np.zeros((len(pixels), 3))
    for corner in range(3):
        moved += weights[:, corner, None] * positions[corners[:, corner]]
    return moved


@dataclass(frozen=True)
class PassRange:
    """What the 8-bit pictures of a shot's passes show as black and white.

    Attributes:
        depth: inverse depths, 1 / metres: 2nd and 98th percentile.
        flow: length of the flow that has full color, pixels: 98th percentile.
    """

    depth: tuple[float, float]
    flow: float


def measure_range(shot: Shot, flow: bool = True) -> PassRange:
    """Measure the range of depths and flows on up to nine frames, spread evenly over the shot.

    If all surfaces have one depth, the range begins at infinity, so that they are white.
    """
    step = max(1, -(-len(shot.frame_numbers) // _RANGE_FRAMES))
    inverse, lengths = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for passes in frame_passes(shot, flow, range(0, len(shot.frame_numbers), step)):
        inverse.append(1.0 / passes.depth[np.isfinite(passes.depth)])
        lengths.append(np.linalg.norm(passes.flow[passes.flow[..., 2] > 0][:, :2], axis=1))
    moving = np.concatenate(lengths)
    low, high = inverse_range(np.concatenate(inverse))
    return PassRange((low if low < high else 0.0, high), float(np.percentile(moving, 98)) if moving.size else 0.0)


def depth_picture(passes: FramePasses, limits: PassRange) -> np.ndarray:
    """Return the inverse depth in gray, [H, W, 3] uint8: near is white, far and what nothing covers are black."""
    seen = np.isfinite(passes.depth)
    gray = np.where(seen, nearness(1.0 / passes.depth, limits.depth), 0.0)
    return np.repeat(to_uint8(gray)[..., None], 3, axis=-1)


def normal_picture(passes: FramePasses) -> np.ndarray:
    """Return normals as colors, [H, W, 3] uint8: 0 to 255 for -1 to 1; what nothing covers faces the viewer."""
    normal = np.where(passes.index[..., None] > 0, passes.normal, (0.0, 0.0, 1.0))
    return to_uint8(normal * 0.5 + 0.5)


def flow_picture(passes: FramePasses, limits: PassRange) -> np.ndarray:
    """Return the flow as colors, [H, W, 3] uint8: hue for the direction, saturation for the length, white for none."""
    x, y = passes.flow[..., 0], passes.flow[..., 1]
    length = np.hypot(x, y) / limits.flow if limits.flow > 0 else np.zeros_like(x)
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1.0
    wheel = np.clip(np.abs((hue[..., None] * 6 + (0, 4, 2)) % 6 - 3) - 1, 0, 1)
    return to_uint8(1 - np.minimum(length, 1)[..., None] * (1 - wheel))


def index_picture(passes: FramePasses) -> np.ndarray:
    """Return a color for each object, [H, W, 3] uint8; what nothing covers is black."""
    count = int(passes.index.max()) + 1
    colors = [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(n * 0.618034 % 1, 0.75, 1 - n % 3 * 0.2) for n in range(1, count))]
    return to_uint8(np.array(colors))[passes.index]


def clay_picture(passes: FramePasses) -> np.ndarray:
    """Return the surfaces in gray clay under a light beside the camera, [H, W, 3] uint8."""
    light = 0.3 + 0.55 * np.clip(passes.normal @ _CLAY_LIGHT, 0, 1)
    gray = np.where(passes.index > 0, to_uint8(light), np.uint8(BACKGROUND))
    return np.repeat(gray[..., None], 3, axis=-1)
