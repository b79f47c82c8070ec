# SPDX-License-Identifier: GPL-3.0-or-later
"""What the camera sees in samples of a shot: the mesh that each pixel clearly shows, and up to which depth.

A pixel is *clear* if the 3×3 pixels around it show one mesh without a jump in depth, and lie inside the frame. At a
silhouette a render's pixel also holds what is behind, so that only clear pixels are used for a surface's color.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.control.scene import ShotRaster
from trackshade.control.visibility import depth_limits
from trackshade.shot import Shot

MAX_BEND = 0.01  # of the depth: second differences above it are a jump


@dataclass(frozen=True, eq=False)
class Views:
    """Samples of a shot, as its camera sees them.

    Attributes:
        shot: the shot.
        clear_mesh: [S, H, W] int32, index of the mesh that a clear pixel shows, -1 elsewhere.
        depth_limit: [S, H, W] float32, greatest depth at which a point in the pixel is still visible, metres along the
            camera's axis; inf for the background.
        samples: [S] int64, the samples; all of the shot if it is empty.
    """

    shot: Shot
    clear_mesh: np.ndarray
    depth_limit: np.ndarray
    samples: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if not len(self.samples):
            object.__setattr__(self, "samples", np.arange(len(self.clear_mesh)))


def render_views(shot: Shot, threads: int, progress: Callable[[], None] = lambda: None) -> Views:
    """Draw every sample of a shot.

    Args:
        shot: the shot.
        threads: number of frames drawn at a time.
        progress: called after every frame, in the calling thread.

    Raises:
        ShotError: what `Shot.check_values` finds.
    """
    shot.check_values()  # the kernels trust indices
    count, (w, h) = len(shot.frame_numbers), shot.size
    views = Views(shot, np.empty((count, h, w), np.int32), np.empty((count, h, w), np.float32))

    def draw(times: np.ndarray) -> None:
        raster = ShotRaster(shot)
        for t in times:
            buffers = raster.draw(int(t))
            _fill_view(views, int(t), buffers.depth, buffers.label)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(draw, np.array_split(np.arange(count), count)):
            progress()
    return views


def draw_views(raster: ShotRaster, samples: Sequence[int]) -> Views:
    """Draw some samples of a shot; its values must have been checked (`Shot.check_values`)."""
    width, height = raster.shot.size
    shape = len(samples), height, width
    views = Views(raster.shot, np.empty(shape, np.int32), np.empty(shape, np.float32), np.array(samples, np.int64))
    for n, t in enumerate(samples):
        buffers = raster.draw(int(t))
        _fill_view(views, n, buffers.depth, buffers.label)
    return views


def views_from_buffers(
    shot: Shot,
    depth: np.ndarray,  # [T, H, W] float32, metres
    label: np.ndarray,  # [T, H, W] int32
) -> Views:
    """Return the views of frames that were drawn before."""
    views = Views(shot, np.empty(label.shape, np.int32), np.empty(depth.shape, np.float32))
    for t in range(len(depth)):
        _fill_view(views, t, depth[t], label[t])
    return views


def _fill_view(views: Views, n: int, depth: np.ndarray, label: np.ndarray) -> None:
    _find_clear(depth, label, bool(views.shot.camera.orthographic[views.samples[n]]), views.clear_mesh[n])
    depth_limits(depth, views.depth_limit[n])


@kernel
def _find_clear(depth, label, orthographic, out):
    # 1/z is linear over the screen where a surface is flat (z itself for an orthographic camera), so that second
    # differences show jumps and not slopes.
    height, width = depth.shape
    out[:] = -1
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            mesh = label[i, j]
            if mesh < 0:
                continue
            same = True
            for a in range(i - 1, i + 2):
                for b in range(j - 1, j + 2):
                    same &= label[a, b] == mesh
            if not same:
                continue
            middle = _linear(depth[i, j], orthographic)
            bend = 0.0
            for a, b in ((0, 1), (1, 0), (1, 1), (1, -1)):
                ends = _linear(depth[i - a, j - b], orthographic) + _linear(depth[i + a, j + b], orthographic)
                bend = max(bend, abs(ends - 2.0 * middle))
            if bend <= MAX_BEND * abs(middle):
                out[i, j] = mesh


@kernel
def _linear(depth, orthographic):
    return np.float64(depth) if orthographic else 1.0 / np.float64(depth)
