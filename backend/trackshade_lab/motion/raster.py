# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders figures of capsules before generated backgrounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

NUM_PANELS = 4  # rectangles of a background


@dataclass(frozen=True)
class Backdrops:
    """Backgrounds and lights of N frames."""

    sky: np.ndarray  # [N, 2, 3] colors of the top and of the bottom
    floor: np.ndarray  # [N, 3]
    horizon: np.ndarray  # [N] fraction of the height
    panels: np.ndarray  # [N, NUM_PANELS, 7] left, top, right, bottom as fractions of the size, and a color
    light: np.ndarray  # [N, 3] direction towards the light: x right, y down, z towards the camera

    def take(self, index: np.ndarray) -> Backdrops:
        """Return those of some frames."""
        return Backdrops(self.sky[index], self.floor[index], self.horizon[index], self.panels[index], self.light[index])


def sample_backdrops(rng: np.random.Generator, count: int) -> Backdrops:
    """Sample backgrounds and lights; half of the backgrounds have rectangles."""
    sky = rng.random((count, 2, 3))
    sky[:, 1] = np.minimum(1, sky[:, 0] * rng.uniform(0.5, 1.2, (count, 1)))
    panels = rng.random((count, NUM_PANELS, 7))
    panels[..., 2:4] = panels[..., :2] + rng.uniform(0.05, 0.5, (count, NUM_PANELS, 2))
    shown = (rng.random((count, 1)) < 0.5) & (rng.random((count, NUM_PANELS)) < 0.7)
    panels[..., 2] = np.where(shown, panels[..., 2], -1.0)
    light = np.stack([rng.uniform(-0.8, 0.8, count), rng.uniform(-0.9, -0.1, count), np.ones(count)], axis=1)
    light /= np.linalg.norm(light, axis=1, keepdims=True)
    return Backdrops(sky, rng.random((count, 3)) * 0.8, rng.uniform(0.6, 0.9, count), panels, light)


def render(
    places: np.ndarray,  # [N, P, 2] pixels
    depth: np.ndarray,  # [N, P] metres
    focal: np.ndarray,  # [N] pixels
    ends: np.ndarray,  # [Q, 2] points of each capsule
    radii: np.ndarray,  # [N, Q, 2] metres
    colors: np.ndarray,  # [N, Q, 3]
    backdrops: Backdrops,
    size: tuple[int, int],
    samples: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Render N frames.

    Args:
        places: projected points.
        depth: their depths.
        focal: focal lengths.
        ends: which points a capsule is between.
        radii: of its ends.
        colors: of the capsules, sRGB 0..1.
        backdrops: backgrounds and lights.
        size: width and height.
        samples: samples along each side of a pixel.

    Returns:
        Pictures [N, H, W, 3] and coverage by the figure [N, H, W], float32 0..1.
    """
    width, height = size
    pictures = np.empty((len(places), height, width, 3), np.float32)
    coverage = np.empty((len(places), height, width), np.float32)
    _render(
        places, depth, focal, ends, radii, colors, backdrops.sky, backdrops.floor, backdrops.horizon,
        backdrops.panels, backdrops.light, samples, pictures, coverage,
    )  # fmt: skip
    return pictures, coverage


@njit(cache=True, nogil=True)
def _render(
    places, depth, focal, ends, radii, colors, sky, floor, horizon, panels, light, samples, pictures, coverage
):  # fmt: skip
    height, width = pictures.shape[1:3]
    rows, columns = height * samples, width * samples
    nearest = np.empty((rows, columns))
    image = np.empty((rows, columns, 3))
    covered = np.empty((rows, columns))
    for n in range(len(pictures)):
        nearest[:] = 1e9
        covered[:] = 0
        _paint_backdrop(image, sky[n], floor[n], horizon[n], panels[n])
        for q in range(len(ends)):
            a, b = ends[q]
            ax, ay = places[n, a, 0] * samples, places[n, a, 1] * samples
            ex, ey = places[n, b, 0] * samples - ax, places[n, b, 1] * samples - ay
            da, db = depth[n, a], depth[n, b]
            ra, rb = radii[n, q, 0] * focal[n] / da * samples, radii[n, q, 1] * focal[n] / db * samples
            reach = max(ra, rb)
            left, right = max(0, int(min(ax, ax + ex) - reach)), min(columns - 1, int(max(ax, ax + ex) + reach) + 1)
            top, bottom = max(0, int(min(ay, ay + ey) - reach)), min(rows - 1, int(max(ay, ay + ey) + reach) + 1)
            squared = ex * ex + ey * ey + 1e-9
            for y in range(top, bottom + 1):
                for x in range(left, right + 1):
                    px, py = x + 0.5 - ax, y + 0.5 - ay
                    u = min(1.0, max(0.0, (px * ex + py * ey) / squared))
                    qx, qy = px - u * ex, py - u * ey
                    radius = ra + (rb - ra) * u
                    off = qx * qx + qy * qy
                    if off >= radius * radius:
                        continue
                    bulge = math.sqrt(radius * radius - off)
                    middle = da + (db - da) * u
                    z = middle - bulge / (focal[n] * samples) * middle
                    if z >= nearest[y, x]:
                        continue
                    nearest[y, x] = z
                    covered[y, x] = 1
                    facing = (qx * light[n, 0] + qy * light[n, 1] + bulge * light[n, 2]) / radius
                    shade = 0.5 + 0.6 * max(0.0, facing)
                    for c in range(3):
                        image[y, x, c] = min(1.0, colors[n, q, c] * shade)
        share = 1.0 / (samples * samples)
        for y in range(height):
            for x in range(width):
                total, red, green, blue = 0.0, 0.0, 0.0, 0.0
                for i in range(y * samples, (y + 1) * samples):
                    for j in range(x * samples, (x + 1) * samples):
                        total += covered[i, j]
                        red += image[i, j, 0]
                        green += image[i, j, 1]
                        blue += image[i, j, 2]
                coverage[n, y, x] = total * share
                pictures[n, y, x, 0] = red * share
                pictures[n, y, x, 1] = green * share
                pictures[n, y, x, 2] = blue * share


@njit(cache=True, nogil=True)
def _paint_backdrop(image, sky, floor, horizon, panels):
    rows, columns = image.shape[:2]
    for y in range(rows):
        v = (y + 0.5) / rows
        for c in range(3):
            if v < horizon:
                image[y, :, c] = sky[0, c] * (1 - v) + sky[1, c] * v
            else:
                image[y, :, c] = floor[c] * (0.7 + 0.4 * v)
    for k in range(len(panels)):
        if panels[k, 2] < 0:
            continue
        left, right = int(panels[k, 0] * columns), min(columns, int(panels[k, 2] * columns))
        top, bottom = int(panels[k, 1] * rows), min(rows, int(panels[k, 3] * rows))
        for y in range(top, bottom):
            for x in range(left, right):
                for c in range(3):
                    image[y, x, c] = panels[k, 4 + c]
