# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders figures of capsules before generated backgrounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

NUM_PANELS = 6  # rectangles and ellipses of a background

_CELLS = 9  # of a pattern along each side


@dataclass(frozen=True)
class Backdrops:
    """Backgrounds and lights of N frames."""

    sky: np.ndarray  # [N, 2, 3] colors of the top and of the bottom
    floor: np.ndarray  # [N, 3]
    horizon: np.ndarray  # [N] fraction of the height
    panels: np.ndarray  # [N, NUM_PANELS, 8] left, top, right, bottom as fractions of the size, color, if it is round
    pattern: np.ndarray  # [N, _CELLS, _CELLS, 3] color differences, interpolated between cells
    light: np.ndarray  # [N, 3] direction towards the light: x right, y down, z towards the camera

    def take(self, index: np.ndarray) -> Backdrops:
        """Return those of some frames."""
        return Backdrops(
            self.sky[index], self.floor[index], self.horizon[index], self.panels[index], self.pattern[index],
            self.light[index],
        )  # fmt: skip


def sample_backdrops(rng: np.random.Generator, count: int) -> Backdrops:
    """Sample backgrounds and lights; half of the backgrounds have shapes, a quarter a pattern."""
    sky = rng.random((count, 2, 3))
    sky[:, 1] = np.minimum(1, sky[:, 0] * rng.uniform(0.5, 1.2, (count, 1)))
    panels = rng.random((count, NUM_PANELS, 8))
    panels[..., 2:4] = panels[..., :2] + rng.uniform(0.05, 0.5, (count, NUM_PANELS, 2))
    shown = (rng.random((count, 1)) < 0.5) & (rng.random((count, NUM_PANELS)) < 0.7)
    panels[..., 2] = np.where(shown, panels[..., 2], -1.0)
    strength = rng.uniform(0.03, 0.15, (count, 1, 1, 1)) * (rng.random((count, 1, 1, 1)) < 0.25)
    pattern = rng.standard_normal((count, _CELLS, _CELLS, 3)) * strength
    light = np.stack([rng.uniform(-0.8, 0.8, count), rng.uniform(-0.9, -0.1, count), np.ones(count)], axis=1)
    light /= np.linalg.norm(light, axis=1, keepdims=True)
    return Backdrops(sky, rng.random((count, 3)) * 0.8, rng.uniform(0.6, 0.9, count), panels, pattern, light)


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
        backdrops.panels, backdrops.pattern, backdrops.light, samples, pictures, coverage,
    )  # fmt: skip
    return pictures, coverage


def find_visible(
    places: np.ndarray,  # [N, P, 2] pixels
    depth: np.ndarray,  # [N, P] metres
    focal: np.ndarray,  # [N] pixels
    ends: np.ndarray,  # [Q, 2] points of each capsule
    radii: np.ndarray,  # [N, Q, 2] metres
    points: np.ndarray,  # [L] of the P
    size: tuple[int, int],
) -> np.ndarray:
    """Return which points of N frames are in the picture and not behind the body, [N, L] bool.

    Each point is an end of capsules; it is visible if no other capsule is more than 2 cm before these.
    """
    visible = np.empty((len(places), len(points)), np.bool_)
    _find_visible(places, depth, focal, ends, radii, points, size[0], size[1], visible)
    return visible


@njit(cache=True, nogil=True)
def _find_visible(places, depth, focal, ends, radii, points, width, height, visible):
    for n in range(len(places)):
        for index, point in enumerate(points):
            x, y = places[n, point]
            own, other = 1e9, 1e9
            for q in range(len(ends)):
                a, b = ends[q]
                z = _surface_depth(
                    x, y, places[n, a], places[n, b], depth[n, a], depth[n, b], radii[n, q, 0], radii[n, q, 1], focal[n]
                )
                if a == point or b == point:
                    own = min(own, z)
                else:
                    other = min(other, z)
            visible[n, index] = 0 <= x < width and 0 <= y < height and own < other + 0.02


@njit(cache=True, nogil=True)
def _surface_depth(x, y, start, end, start_depth, end_depth, start_radius, end_radius, focal):
    """Return the depth of a capsule's surface at a pixel, 1e9 beside the capsule."""
    ex, ey = end[0] - start[0], end[1] - start[1]
    px, py = x - start[0], y - start[1]
    u = min(1.0, max(0.0, (px * ex + py * ey) / (ex * ex + ey * ey + 1e-9)))
    qx, qy = px - u * ex, py - u * ey
    first, last = start_radius * focal / start_depth, end_radius * focal / end_depth
    radius = first + (last - first) * u
    off = qx * qx + qy * qy
    if off >= radius * radius:
        return 1e9
    middle = start_depth + (end_depth - start_depth) * u
    return middle - math.sqrt(radius * radius - off) / focal * middle


@njit(cache=True, nogil=True)
def _render(
    places, depth, focal, ends, radii, colors, sky, floor, horizon, panels, pattern, light, samples, pictures, coverage
):  # fmt: skip
    height, width = pictures.shape[1:3]
    rows, columns = height * samples, width * samples
    nearest = np.empty((rows, columns))
    image = np.empty((rows, columns, 3))
    covered = np.empty((rows, columns))
    for n in range(len(pictures)):
        nearest[:] = 1e9
        covered[:] = 0
        paint_backdrop(image, sky[n], floor[n], horizon[n], panels[n], pattern[n])
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
        average_samples(image, covered, samples, pictures[n], coverage[n])


@njit(cache=True, nogil=True)
def average_samples(image, covered, samples, picture, coverage):
    """Average the samples of an image [R, C, 3] and of what is covered [R, C] into pixels."""
    share = 1.0 / (samples * samples)
    height, width = coverage.shape
    for y in range(height):
        for x in range(width):
            total, red, green, blue = 0.0, 0.0, 0.0, 0.0
            for i in range(y * samples, (y + 1) * samples):
                for j in range(x * samples, (x + 1) * samples):
                    total += covered[i, j]
                    red += image[i, j, 0]
                    green += image[i, j, 1]
                    blue += image[i, j, 2]
            coverage[y, x] = total * share
            picture[y, x, 0] = red * share
            picture[y, x, 1] = green * share
            picture[y, x, 2] = blue * share


@njit(cache=True, nogil=True)
def paint_backdrop(image, sky, floor, horizon, panels, pattern):
    """Paint the background of a frame, from its parts of `Backdrops`, into an image [H, W, 3]."""
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
                u = 2 * (x + 0.5 - left) / max(1, right - left) - 1
                v = 2 * (y + 0.5 - top) / max(1, bottom - top) - 1
                if panels[k, 7] < 0.5 and u * u + v * v > 1:
                    continue
                for c in range(3):
                    image[y, x, c] = panels[k, 4 + c]
    if not pattern.any():
        return
    cells = len(pattern) - 1
    for y in range(rows):
        v = (y + 0.5) / rows * cells
        i = min(cells - 1, int(v))
        for x in range(columns):
            u = (x + 0.5) / columns * cells
            j = min(cells - 1, int(u))
            a, b = v - i, u - j
            for c in range(3):
                upper = pattern[i, j, c] * (1 - b) + pattern[i, j + 1, c] * b
                lower = pattern[i + 1, j, c] * (1 - b) + pattern[i + 1, j + 1, c] * b
                image[y, x, c] = min(1.0, max(0.0, image[y, x, c] + upper * (1 - a) + lower * a))


@njit(cache=True, nogil=True)
def jitter_colors(pictures, blur, gain, levels, noise, deviation, offsets, result):
    """Change sharpness, contrast, tint and noise of clips.

    Args:
        pictures: [N, F, H, W, 3] float32 in 0..1.
        blur: [N] 0 is sharp, 1 a binomial filter of 3 pixels; above 1 it is applied twice.
        gain: [N, 3] factors of the channels.
        levels: [N, L] curve of each clip, at equal distances in 0..1.
        noise: [M] normally distributed.
        deviation: [N] standard deviation of each clip's noise.
        offsets: [N, F] where in `noise` each frame's begins.
        result: [N, F, H, W, 3] float32, written.
    """
    clips, frames, height, width, _ = pictures.shape
    top = levels.shape[1] - 1
    for n in range(clips):
        for f in range(frames):
            source = pictures[n, f].copy()
            for turn in range(2):
                share = np.float32(min(1.0, blur[n] - turn))
                if share <= 0:
                    continue
                for axis in range(2):
                    before = source.copy()
                    for y in range(height):
                        for x in range(width):
                            ya, yb = (max(0, y - 1), min(height - 1, y + 1)) if axis == 0 else (y, y)
                            xa, xb = (max(0, x - 1), min(width - 1, x + 1)) if axis == 1 else (x, x)
                            for c in range(3):
                                mean = (before[ya, xa, c] + before[yb, xb, c]) * np.float32(0.5)
                                source[y, x, c] += share * np.float32(0.5) * (mean - before[y, x, c])
            place = offsets[n, f]
            for y in range(height):
                for x in range(width):
                    for c in range(3):
                        value = levels[n, int(source[y, x, c] * top)] * gain[n, c] + deviation[n] * noise[place]
                        result[n, f, y, x, c] = min(1.0, max(0.0, value))
                        place = place + 1 if place + 1 < len(noise) else 0
