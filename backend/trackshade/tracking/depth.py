# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth of the first frame from a solved camera: plane sweep and semi-global matching.

Planes parallel to the first frame's image plane, evenly spaced in inverse depth, project every other frame into the
first one (Collins, A Space-Sweep Approach to True Multi-Image Matching, 1996). How alike they are there is measured by
the normalized cross-correlation of small windows, averaged over the frames where they are most alike, since what is
hidden in some is seen in others. Semi-global matching (Hirschmüller, Stereo Processing by Semiglobal Matching and
Mutual Information, 2008) finds a depth that changes little from pixel to pixel, also where there is little texture.
"Little" is relative to the slope of a smooth surface through the solved features (Scharstein et al., Semi-Global
Matching with Surface Orientation Priors, 2017), so that floors are not cut into steps.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from trackshade.control.compiling import kernel
from trackshade.tracking.bundle import Solution

PLANES = 96
_HEIGHT = 240  # px: of the pictures that are swept
_FRAMES = 10
_SEEN = 0.4  # share of the frames that have to see a point
_WINDOW = 5  # px
_STEP = 1.3  # px: most that neighboring planes are apart in a swept frame
_SMALL, _LARGE = 0.06, 0.5  # costs of a change of depth by one plane, and by more
_NOISE = 9.0  # variance of levels that is noise


def sweep_depth(
    grays: np.ndarray,
    solution: Solution,
    limits: tuple[float, float],
    points: np.ndarray,
    threads: int,
    step: Callable[[float], None],
) -> np.ndarray:
    """Find the inverse depth of every pixel of the first frame.

    Args:
        grays: [T, H, W] uint8.
        solution: the cameras; the first one is at the origin.
        limits: least and greatest inverse depth.
        points: [N, 3] solved features in the first frame: pixels x and y, and inverse depth.
        threads: number of threads.
        step: called with the fraction that is done.

    Returns:
        [h, w] float32 inverse depths of a smaller picture.
    """
    height, width = grays.shape[1:]
    scale = min(1.0, _HEIGHT / height)
    size = max(16, round(width * scale)), max(16, round(height * scale))
    small = np.stack([cv2.resize(gray, size, interpolation=cv2.INTER_AREA) for gray in grays])
    ratio = np.array(size) / (width, height)
    matrix = np.array([[solution.focal, 0, solution.center[0]], [0, solution.focal, solution.center[1]], [0, 0, 1]])
    matrix[:2] *= ratio[:, None]
    matrix[:2, 2] -= 0.5  # OpenCV's pixels have their centers at whole numbers
    planes = np.linspace(*limits, PLANES)
    chosen = _choose_frames(solution, matrix, size, limits)
    volume = np.empty((size[1], size[0], PLANES), np.float32)
    reference = small[0].astype(np.float32)
    mean = cv2.blur(reference, (_WINDOW, _WINDOW))
    variance = np.maximum(cv2.blur(reference * reference, (_WINDOW, _WINDOW)) - mean * mean, 0)
    inverse = np.linalg.inv(matrix)

    best = max(1, round(_SEEN * len(chosen)))

    def sweep(index: int) -> None:
        scores = np.empty((len(chosen), size[1], size[0]), np.float32)
        for number, t in enumerate(chosen):
            plane = np.outer(solution.translations[t], [0, 0, planes[index]])
            homography = matrix @ (solution.rotations[t] + plane) @ inverse
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            warped = cv2.warpPerspective(small[t], homography, size, flags=flags).astype(np.float32)
            means = [cv2.blur(item, (_WINDOW, _WINDOW)) for item in (warped, warped * warped, reference * warped)]
            _correlate(mean, variance, *means, homography, scores[number])
        _mean_costs(scores, best, volume[..., index])

    with ThreadPoolExecutor(threads) as pool:
        for number, _ in enumerate(pool.map(sweep, range(PLANES))):
            step(0.7 * (number + 1) / PLANES)
    surface = smooth_surface(points * (*ratio, 1), size)
    levels = np.rint((surface - limits[0]) / (planes[1] - planes[0])).astype(np.int32)
    total = np.zeros_like(volume)
    jumps = (
        np.abs(cv2.Sobel(reference, cv2.CV_32F, 1, 0, scale=0.25)),
        np.abs(cv2.Sobel(reference, cv2.CV_32F, 0, 1, scale=0.25)),
    )
    for number, (dy, dx) in enumerate(((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))):
        _accumulate(volume, jumps[0] if dy == 0 else jumps[1] if dx == 0 else np.maximum(*jumps), levels, dy, dx,
                    total, _SMALL, _LARGE)  # fmt: skip
        step(0.7 + 0.3 * (number + 1) / 8)
    return _pick(total, np.float64(limits[0]), np.float64(planes[1] - planes[0]))


def smooth_surface(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a smooth surface through points (x, y, value), [h, w] float32, by robust local planes."""
    columns, rows = max(4, size[0] // 16), max(4, size[1] // 16)
    x, y = np.meshgrid((np.arange(columns) + 0.5) * size[0] / columns, (np.arange(rows) + 0.5) * size[1] / rows)
    nodes = np.stack([x.ravel(), y.ravel()], axis=1)
    values = np.empty(len(nodes))
    bandwidth = 0.09 * size[0]
    for number, node in enumerate(nodes):
        offset = points[:, :2] - node
        square = np.square(offset).sum(axis=1)
        # Wide enough for a few points, wherever they are.
        width = max(bandwidth**2, float(np.partition(square, min(11, len(square) - 1))[min(11, len(square) - 1)]))
        near = np.exp(-0.5 * square / width)
        design = np.c_[np.ones(len(points)), offset / bandwidth]
        robust, plane = np.ones(len(points)), np.zeros(3)
        for _ in range(4):
            weight = near * robust
            normal = (design.T * weight) @ design + np.diag([1e-9, 1e-3 * weight.sum(), 1e-3 * weight.sum()])
            plane = np.linalg.solve(normal, (design.T * weight) @ points[:, 2])
            error = np.abs(design @ plane - points[:, 2])
            scale = 1.5 * np.average(error, weights=weight + 1e-12) + 1e-9
            robust = 1 / (1 + np.square(error / scale))
        values[number] = plane[0]
    values = np.clip(values, points[:, 2].min(), points[:, 2].max()).reshape(rows, columns)
    return cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)


def _choose_frames(
    solution: Solution, matrix: np.ndarray, size: tuple[int, int], limits: tuple[float, float]
) -> np.ndarray:
    """Return frames that show the most parallax, but not so much that neighboring planes are far apart."""
    x, y = np.meshgrid(np.linspace(0.15, 0.85, 4) * size[0], np.linspace(0.15, 0.85, 4) * size[1])
    rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ np.linalg.inv(matrix).T
    ranges = np.zeros(len(solution.rotations))
    inside = np.zeros(len(solution.rotations))
    for t in range(1, len(ranges)):
        ends = []
        for rho in limits:
            local = rays @ solution.rotations[t].T + rho * solution.translations[t]
            ends.append(local[:, :2] / np.maximum(local[:, 2:], 1e-6) @ matrix[:2, :2].T)
            pixel = ends[-1] + matrix[:2, 2]
            inside[t] += ((pixel >= 0) & (pixel < size) & (local[:, 2:] > 0)).all(axis=1).mean() / 2
        ranges[t] = np.percentile(np.linalg.norm(ends[0] - ends[1], axis=1), 75)
    usable = np.flatnonzero((np.arange(len(ranges)) > 0) & (ranges <= _STEP * PLANES) & (inside > 0.3))
    if len(usable) < 3:
        usable = 1 + np.argsort(ranges[1:])[: max(3, _FRAMES // 2)]
    if len(usable) > _FRAMES:  # without the nearest ones, which show little parallax
        far = usable[np.argsort(ranges[usable])[len(usable) // 6 :]]
        usable = np.sort(far)[np.unique(np.linspace(0, len(far) - 1, _FRAMES).round().astype(int))]
    return np.sort(usable)


@kernel
def _correlate(mean, variance, other_mean, other_square, product, homography, out):
    """Write the normalized cross-correlation of windows, [h, w]; little where there is no texture, or no picture.

    Args:
        mean: [h, w] of the windows of one picture.
        variance: of these.
        other_mean: of the windows of another picture, which was projected into the first one.
        other_square: mean squares of these.
        product: mean products of the windows.
        homography: [3, 3] from the first picture's pixels to those of the other.
        out: written to.
    """
    height, width = mean.shape
    noise = np.float32(_NOISE)
    for row in range(height):
        for column in range(width):
            scale = homography[2, 0] * column + homography[2, 1] * row + homography[2, 2]
            x = homography[0, 0] * column + homography[0, 1] * row + homography[0, 2]
            y = homography[1, 0] * column + homography[1, 1] * row + homography[1, 2]
            low, right, bottom = -0.5 * scale, (width - 0.5) * scale, (height - 0.5) * scale
            if scale > 0 and low <= x < right and low <= y < bottom:
                average = other_mean[row, column]
                spread = variance[row, column] * max(other_square[row, column] - average * average, np.float32(0))
                both = product[row, column] - mean[row, column] * average
                out[row, column] = both / (np.sqrt(spread) + noise)
            else:
                out[row, column] = -0.2


@kernel
def _mean_costs(scores, best, out):
    """Write 1 less the mean of the greatest scores [F, h, w] of each pixel to `out` [h, w]."""
    frames, height, width = scores.shape
    ranked = np.empty((best, width), np.float32)
    for y in range(height):
        ranked[:] = -np.inf
        for f in range(frames):
            for x in range(width):
                score = scores[f, y, x]
                for k in range(best):
                    larger = max(ranked[k, x], score)
                    score = min(ranked[k, x], score)
                    ranked[k, x] = larger
        for x in range(width):
            total = np.float32(0)
            for k in range(best):
                total += ranked[k, x]
            out[y, x] = 1 - total / best


@kernel
def _accumulate(volume, jumps, levels, dy, dx, total, small, large):
    """Add the costs along one direction of semi-global matching."""
    height, width, planes = volume.shape
    y_start, y_end, y_step = (0, height, 1) if dy >= 0 else (height - 1, -1, -1)
    x_start, x_end, x_step = (0, width, 1) if dx >= 0 else (width - 1, -1, -1)
    before = np.zeros((width, planes), np.float32)  # of the row before, or of the pixel before in this row
    now = np.zeros((width, planes), np.float32)
    for y in range(y_start, y_end, y_step):
        for x in range(x_start, x_end, x_step):
            has = 0 <= x - dx < width and 0 <= y - dy < height
            if not has:
                for d in range(planes):
                    now[x, d] = volume[y, x, d]
            else:
                source = now[x - dx] if dy == 0 else before[x - dx]
                least = source[0]
                for d in range(1, planes):
                    least = min(least, source[d])
                jump = np.float32(least + max(small * 1.5, large / (1.0 + 0.15 * jumps[y, x])))
                shift = levels[y - dy, x - dx] - levels[y, x]
                for d in range(planes):
                    value = jump
                    e = d + shift  # the plane that a surface of the prior's slope has there
                    if 0 <= e < planes:
                        value = min(value, source[e])
                    if 0 < e <= planes:
                        value = min(value, source[e - 1] + small)
                    if -1 <= e < planes - 1:
                        value = min(value, source[e + 1] + small)
                    now[x, d] = volume[y, x, d] + value - least
            for d in range(planes):
                total[y, x, d] += now[x, d]
        if dy != 0:
            before, now = now, before


@kernel
def _pick(total, first, spacing):
    """Return the inverse depth of the least cost of each pixel, between planes by a parabola, [h, w] float32."""
    height, width, planes = total.shape
    out = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            best = 0
            for d in range(1, planes):
                if total[y, x, d] < total[y, x, best]:
                    best = d
            offset = 0.0
            if 0 < best < planes - 1:
                left, middle, right = total[y, x, best - 1], total[y, x, best], total[y, x, best + 1]
                curve = left - 2 * middle + right
                if curve > 1e-6:
                    offset = 0.5 * (left - right) / curve
            out[y, x] = first + (best + offset) * spacing
    return out
