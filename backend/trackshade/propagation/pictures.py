# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of one sample of a shot, prepared so that the color of a surface point can be read from them.

A picture knows which mesh each of its pixels shows, and at which depth. Depths are stored as *levels*: 1 / depth for a
perspective camera, the depth itself for an orthographic one, which are linear over the picture where a surface is flat.

At the rim of a surface a render's pixels are mixed with what is behind. They get the colors of their own surface
(`rims`), so that no outline of an object is carried to another place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.control.scene import ShotRaster
from trackshade.propagation.outlines import outline_pixels
from trackshade.propagation.poses import resize_shot
from trackshade.propagation.rims import Rims, Visible, is_continuous, unmix_rims
from trackshade.shot import Shot

SNAP = 1e-3  # pixels: a position nearer to a pixel's center is the center
LEAST_SHARE = 0.25  # of a bilinear sample that must show the surface
NOTHING = -2  # label of pixels whose color is of no surface that the geometry has there
_OUTLINE = 3  # pixels of the background beside meshes: outlines that were painted there belong to the meshes


class SurfacePicture(NamedTuple):
    """A picture with what it shows. A plain tuple of arrays, so that kernels can take it.

    Attributes:
        image: [h, w, 3] float32, linear light.
        label: [h, w] int32, index into `Shot.meshes`, -1 for the background, `NOTHING` where outlines are painted.
        triangle: [h, w] int32, index into the mesh's triangles.
        level: [h, w] float32, see above; 0 for the background.
        tolerance: [h, w] float32, difference of level up to which a point in the pixel is on the visible surface.
        trust: [h, w] uint8, 255 inside of surfaces, less towards their rims and the borders of the picture.
        inner: [h, w] bool, whether the 4 × 4 pixels from the one above and to the left on show one smooth surface.
    """

    image: np.ndarray
    label: np.ndarray
    triangle: np.ndarray
    level: np.ndarray
    tolerance: np.ndarray
    trust: np.ndarray
    inner: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), pixels."""
        return self.label.shape[1], self.label.shape[0]


def surface_picture(
    shot: Shot,
    t: int,
    image: np.ndarray,  # [h, w, 3] linear light
    rims: Rims | None = None,
) -> SurfacePicture:
    """Prepare a picture.

    Args:
        shot: the shot, of any size of the picture's aspect.
        t: the sample that the picture shows.
        image: the picture.
        rims: how pixels at rims come about; found out by their colors if None.

    Raises:
        UsageError: the picture does not have the camera's aspect.
    """
    height, width = image.shape[:2]
    sized = resize_shot(shot, (width, height))
    buffers = ShotRaster(sized).draw(t)
    k = sized.camera.intrinsics[t]
    orthographic = bool(sized.camera.orthographic[t])
    shape = buffers.label.shape
    level = to_levels(buffers.depth, orthographic)
    slope, tolerance = np.empty(shape, np.float32), np.empty(shape, np.float32)
    label = buffers.label.copy()
    _slopes(label, level, 1.0 / min(k[0, 0], k[1, 1]), orthographic, slope, tolerance)
    near, inner = np.empty(shape, np.bool_), np.empty(shape, np.bool_)
    _find_rims(label, level, slope, tolerance, near, inner)
    clean = np.ascontiguousarray(image, np.float32).copy()
    trust = np.full(shape, 255, np.uint8)
    visible = Visible(label, level, slope, tolerance)
    kind = unmix_rims(sized, t, clean, visible, near, rims)
    if rims is None:
        covered = outline_pixels(image, visible, near, orthographic, kind)
        if covered.any():
            label[covered] = NOTHING
            _find_rims(label, level, slope, tolerance, near, inner)
    trust[_dilated(near)] = 170
    trust[near] = 85
    trust[[0, -1]] = trust[:, [0, -1]] = 85
    beside = label >= 0
    for _ in range(_OUTLINE if rims is None else 0):
        beside = _dilated(beside)
    trust[beside & (label < 0)] = 1
    return SurfacePicture(clean, label, buffers.triangle.copy(), level, tolerance, trust, inner)


def to_levels(depth: np.ndarray, orthographic: bool) -> np.ndarray:
    """Return levels from depths in metres, of the same shape; float32."""
    if orthographic:
        return np.where(np.isfinite(depth), depth, np.float32(0)).astype(np.float32)
    with np.errstate(divide="ignore"):
        return (np.float32(1) / depth).astype(np.float32)


def _dilated(mask: np.ndarray) -> np.ndarray:
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    wide = grown.copy()
    wide[:, 1:] |= grown[:, :-1]
    wide[:, :-1] |= grown[:, 1:]
    return wide


@inlined
def _step(label, level, i, j, a, b):
    """Return how the level changes to pixel (a, b); inf if that is outside or shows another mesh."""
    height, width = label.shape
    if a < 0 or b < 0 or a >= height or b >= width or label[a, b] != label[i, j]:
        return np.inf
    return abs(np.float64(level[a, b]) - level[i, j])


@kernel
def _slopes(label, level, pixel, orthographic, slope, tolerance):
    """Write the change of level per pixel, of both axes together, each by the side on which it is smaller."""
    height, width = label.shape
    for i in range(height):
        for j in range(width):
            across = min(_step(label, level, i, j, i, j - 1), _step(label, level, i, j, i, j + 1))
            down = min(_step(label, level, i, j, i - 1, j), _step(label, level, i, j, i + 1, j))
            total = (across if across < np.inf else 0.0) + (down if down < np.inf else 0.0)
            slope[i, j] = total
            size = np.float64(pixel) if orthographic else pixel * level[i, j]
            tolerance[i, j] = 1.5 * total + size + 1e-4 * abs(level[i, j])


@kernel
def _find_rims(label, level, slope, tolerance, near, inner):
    height, width = label.shape
    for i in range(height):
        for j in range(width):
            near[i, j] = False
            for a in range(max(0, i - 1), min(height, i + 2)):
                for b in range(max(0, j - 1), min(width, j + 2)):
                    if not is_continuous(label, level, slope, tolerance, i, j, a, b):
                        near[i, j] = True
            inside = i >= 1 and j >= 1 and i + 2 < height and j + 2 < width
            if inside:
                for a in range(i - 1, i + 3):
                    for b in range(j - 1, j + 3):
                        inside &= is_continuous(label, level, slope, tolerance, i, j, a, b)
            inner[i, j] = inside


@inlined
def _cubic(distance):
    """Return the Catmull-Rom weight of a pixel at a distance."""
    d = abs(distance)
    if d < 1.0:
        return (1.5 * d - 2.5) * d * d + 1.0
    if d < 2.0:
        return ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return 0.0


@inlined
def read(image, label, level, tolerance, trust, inner, u, v, mesh, value):
    """Read the color of a surface point from a picture.

    Of the arguments, the arrays are those of `SurfacePicture`, u and v the position in the picture in pixels, `mesh`
    the index of the point's mesh, -1 for the background, and `value` its level.

    Returns:
        The color (r, g, b), and how far the picture shows the point, 0 to 1. Inside of a surface the color is
        interpolated with Catmull-Rom splines, at its rim linearly between pixels of the surface.
    """
    height, width = label.shape
    x, y = u - 0.5, v - 0.5
    j, i = math.floor(x), math.floor(y)
    fx, fy = x - j, y - i
    if fx > 1.0 - SNAP:
        j, fx = j + 1, 0.0
    elif fx < SNAP:
        fx = 0.0
    if fy > 1.0 - SNAP:
        i, fy = i + 1, 0.0
    elif fy < SNAP:
        fy = 0.0
    j, i = int(j), int(i)
    r = g = b = 0.0
    if i >= 1 and j >= 1 and i + 2 < height and j + 2 < width and inner[i, j] and label[i, j] == mesh:
        top = level[i, j] * (1.0 - fx) + level[i, j + 1] * fx
        bottom = level[i + 1, j] * (1.0 - fx) + level[i + 1, j + 1] * fx
        if mesh >= 0 and abs(top * (1.0 - fy) + bottom * fy - value) > tolerance[i, j]:
            return 0.0, 0.0, 0.0, 0.0
        top = trust[i, j] * (1.0 - fx) + trust[i, j + 1] * fx
        bottom = trust[i + 1, j] * (1.0 - fx) + trust[i + 1, j + 1] * fx
        share = (top * (1.0 - fy) + bottom * fy) / 255.0
        if fx == 0.0 and fy == 0.0:
            return np.float64(image[i, j, 0]), np.float64(image[i, j, 1]), np.float64(image[i, j, 2]), share
        w0, w1, w2, w3 = _cubic(1.0 + fx), _cubic(fx), _cubic(1.0 - fx), _cubic(2.0 - fx)
        for a in range(-1, 3):
            wy = _cubic(a - fy)
            p = i + a
            for q, wx in ((j - 1, w0), (j, w1), (j + 1, w2), (j + 2, w3)):
                r += wy * wx * image[p, q, 0]
                g += wy * wx * image[p, q, 1]
                b += wy * wx * image[p, q, 2]
        return max(r, 0.0), max(g, 0.0), max(b, 0.0), share
    total = trusted = 0.0
    for a in range(2):
        for c in range(2):
            weight = (fy if a else 1.0 - fy) * (fx if c else 1.0 - fx)
            if weight == 0.0:
                continue
            p, q = min(max(i + a, 0), height - 1), min(max(j + c, 0), width - 1)
            if label[p, q] != mesh or (mesh >= 0 and abs(level[p, q] - value) > tolerance[p, q]):
                continue
            total += weight
            trusted += weight * trust[p, q]
            r += weight * image[p, q, 0]
            g += weight * image[p, q, 1]
            b += weight * image[p, q, 2]
    if total < LEAST_SHARE:
        return 0.0, 0.0, 0.0, 0.0
    return r / total, g / total, b / total, trusted / (255.0 * total)


@kernel
def read_near(image, label, level, u, v, mesh, value):
    """Return the color (r, g, b) of the nearest pixel of a mesh within two pixels, and whether there is one."""
    height, width = label.shape
    best, p, q = np.inf, -1, -1
    row, column = math.floor(v), math.floor(u)
    for a in range(max(0, row - 2), min(height, row + 3)):
        for b in range(max(0, column - 2), min(width, column + 3)):
            if label[a, b] == mesh:
                away = (a + 0.5 - v) ** 2 + (b + 0.5 - u) ** 2
                away *= 1.0 + 10.0 * abs(level[a, b] - value) / max(abs(value), 1e-9)
                if away < best:
                    best, p, q = away, a, b
    if p < 0:
        return 0.0, 0.0, 0.0, False
    return np.float64(image[p, q, 0]), np.float64(image[p, q, 1]), np.float64(image[p, q, 2]), True
