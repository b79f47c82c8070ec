# SPDX-License-Identifier: GPL-3.0-or-later
"""Refines cameras and points by the pixels themselves: patches of the first frame, compared with all other frames.

A point of the first frame is a small piece of a surface. Over its patch the inverse depth is a linear function of the
pixel (a plane is one exactly), so a point has three unknowns: inverse depth and its slopes. Where a patch is in another
frame follows from these and the camera. What is minimized is the difference of the patches after mean and contrast are
made equal, as in direct methods (Engel et al., Direct Sparse Odometry, 2018): edges and weak texture say as much as
they can, and no more, unlike the positions of corners.

Pixels have their centers at halves; pictures are float32 [T, H, W].
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.tracking.bundle import Solution

_ALIKE = 0.6  # least correlation of a patch that takes part
_LEVELS = 5.0  # noise of the pixels, 8-bit levels
_PARTS = 16  # of the points, whose equations are summed by themselves
_SLOPE_SPREAD = 0.02  # of the inverse depth, per pixel: how much slopes may differ from what they begin with


def patch_offsets(radius: int, step: int) -> np.ndarray:
    """Return the offsets of a square patch's samples, [K, 2] float64 pixels."""
    line = np.arange(-radius, radius + 1, step, dtype=np.float64)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def smoothed(grays: np.ndarray, sigma: float) -> np.ndarray:
    """Return pictures [T, H, W] float32 without their finest detail, which linear interpolation would change."""
    return np.stack([cv2.GaussianBlur(gray.astype(np.float32), (0, 0), sigma) for gray in grays])


@inlined
def _sample(images, t, x, y):
    """Return a picture's value at a pixel and its derivatives, bilinear; x and y are inside by a pixel."""
    column, row = math.floor(x - 0.5), math.floor(y - 0.5)
    right, down = x - 0.5 - column, y - 0.5 - row
    a, b = images[t, row, column], images[t, row, column + 1]
    c, d = images[t, row + 1, column], images[t, row + 1, column + 1]
    value = (a * (1 - right) + b * right) * (1 - down) + (c * (1 - right) + d * right) * down
    return value, (b - a) * (1 - down) + (d - c) * down, (c - a) * (1 - right) + (d - b) * right


@kernel
def _reference(images, points, offsets, values, contrast):
    """Write the patches of the first frame without their means, [N, K], and their standard deviations, [N]."""
    height, width = images.shape[1:]
    count = offsets.shape[0]
    for n in range(points.shape[0]):
        mean = 0.0
        for k in range(count):
            x = min(max(points[n, 0] + offsets[k, 0], 0.5), width - 1.51)
            y = min(max(points[n, 1] + offsets[k, 1], 0.5), height - 1.51)
            values[n, k] = _sample(images, 0, x, y)[0]
            mean += values[n, k]
        mean /= count
        square = 0.0
        for k in range(count):
            values[n, k] -= mean
            square += values[n, k] ** 2
        contrast[n] = math.sqrt(square / count)


@kernel
def _look(images, t, rotation, translation, lens, x, y, rho, a, b, offsets, buffer):
    """Sample a patch in frame `t`.

    Writes value, derivatives and camera-space position (x, y, z scaled by the inverse depth) of each sample to
    `buffer`, [K, 6]. Returns whether all samples are inside and in front, and mean and standard deviation.
    """
    height, width = images.shape[1:]
    focal, cx, cy = lens[0], lens[1], lens[2]
    count = offsets.shape[0]
    mean, square = 0.0, 0.0
    for k in range(count):
        u, v = (x + offsets[k, 0] - cx) / focal, (y + offsets[k, 1] - cy) / focal
        r = rho + a * offsets[k, 0] + b * offsets[k, 1]
        px = rotation[0, 0] * u + rotation[0, 1] * v + rotation[0, 2] + r * translation[0]
        py = rotation[1, 0] * u + rotation[1, 1] * v + rotation[1, 2] + r * translation[1]
        pz = rotation[2, 0] * u + rotation[2, 1] * v + rotation[2, 2] + r * translation[2]
        if pz < 1e-3:
            return False, 0.0, 0.0
        column, row = focal * px / pz + cx, focal * py / pz + cy
        if not (column >= 1.0 and row >= 1.0 and column < width - 1.0 and row < height - 1.0):
            return False, 0.0, 0.0
        value, dx, dy = _sample(images, t, column, row)
        buffer[k, 0], buffer[k, 1], buffer[k, 2] = value, dx, dy
        buffer[k, 3], buffer[k, 4], buffer[k, 5] = px, py, pz
        mean += value
        square += value * value
    mean /= count
    return True, mean, math.sqrt(max(square / count - mean * mean, 0.0))


@inlined
def _alike(values, n, buffer, mean, deviation, contrast, noise):
    """Return the correlation of a patch with its reference; `noise` makes that of patches without texture small."""
    product = 0.0
    for k in range(values.shape[1]):
        product += values[n, k] * (buffer[k, 0] - mean)
    return product / values.shape[1] / (deviation * contrast[n] + noise)


@inlined
def _invert(m, out):
    """Return `out`, to which the inverse of a symmetric matrix [3, 3] is written."""
    out[0, 0], out[1, 1] = m[1, 1] * m[2, 2] - m[1, 2] * m[1, 2], m[0, 0] * m[2, 2] - m[0, 2] * m[0, 2]
    out[2, 2], out[0, 1] = m[0, 0] * m[1, 1] - m[0, 1] * m[0, 1], m[0, 2] * m[1, 2] - m[0, 1] * m[2, 2]
    out[0, 2], out[1, 2] = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1], m[0, 1] * m[0, 2] - m[0, 0] * m[1, 2]
    determinant = m[0, 0] * out[0, 0] + m[0, 1] * out[0, 1] + m[0, 2] * out[0, 2]
    out[1, 0], out[2, 0], out[2, 1] = out[0, 1], out[0, 2], out[1, 2]
    for i in range(3):
        for j in range(3):
            out[i, j] /= determinant
    return out


@kernel
def _correlations(images, rotations, translations, lens, points, shape, offsets, values, contrast, noise, pixels, out):
    """Write where points are in all frames, [T, N, 2], and how alike their patches are there; -1 where not inside."""
    buffer = np.empty((offsets.shape[0], 6))
    focal, cx, cy = lens[0], lens[1], lens[2]
    for n in range(points.shape[0]):
        u, v = (points[n, 0] - cx) / focal, (points[n, 1] - cy) / focal
        for t in range(rotations.shape[0]):
            m, s = rotations[t], translations[t]
            px = m[0, 0] * u + m[0, 1] * v + m[0, 2] + shape[n, 0] * s[0]
            py = m[1, 0] * u + m[1, 1] * v + m[1, 2] + shape[n, 0] * s[1]
            pz = m[2, 0] * u + m[2, 1] * v + m[2, 2] + shape[n, 0] * s[2]
            pz = pz if abs(pz) > 1e-6 else 1e-6
            pixels[t, n, 0], pixels[t, n, 1] = focal * px / pz + cx, focal * py / pz + cy
            out[t, n] = -1.0
            good, mean, deviation = _look(
                images,
                t,
                m,
                s,
                lens,
                points[n, 0],
                points[n, 1],
                shape[n, 0],
                shape[n, 1],
                shape[n, 2],
                offsets,
                buffer,
            )
            if good:
                out[t, n] = _alike(values, n, buffer, mean, deviation, contrast, noise)


@kernel
def _refine_points(
    images, rotations, translations, lens, order, points, shape, offsets, values, contrast, iterations, tightness,
    noise, precision,
):  # fmt: skip
    """Refine the shapes [N, 3] of points by Gauss-Newton steps, over more and more frames in a given order."""
    count = offsets.shape[0]
    buffer, gradient = np.empty((count, 6)), np.empty((count, 3))
    focal = lens[0]
    normal, inverse, right, step = np.empty((3, 3)), np.empty((3, 3)), np.empty(3), np.empty(3)
    for n in range(points.shape[0]):
        rho0, a0, b0 = shape[n, 0], shape[n, 1], shape[n, 2]
        rho, a, b = rho0, a0, b0
        scale = abs(rho0) + 1e-9
        for iteration in range(iterations):
            used = min(order.size, 2 + (order.size * (iteration + 1)) // max(1, iterations - 2))
            # The beginning counts as a measurement: what has no texture stays where it is.
            normal[:] = 0.0
            normal[0, 0] = tightness / (scale * scale)
            normal[1, 1] = normal[2, 2] = 1.0 / (_SLOPE_SPREAD * scale) ** 2
            right[0], right[1], right[2] = normal[0, 0] * (rho0 - rho), normal[1, 1] * (a0 - a), normal[2, 2] * (b0 - b)
            reach = 1e-9
            for index in range(used):
                t = order[index]
                m, s = rotations[t], translations[t]
                good, mean, deviation = _look(
                    images, t, m, s, lens, points[n, 0], points[n, 1], rho, a, b, offsets, buffer
                )
                if not good:
                    continue
                likeness = _alike(values, n, buffer, mean, deviation, contrast, noise)
                if likeness < _ALIKE:
                    continue
                gain = min(max(contrast[n] / (deviation + 1e-3), 0.5), 2.0)
                middle0 = middle1 = middle2 = 0.0
                for k in range(count):
                    pz = buffer[k, 5]
                    x, y = buffer[k, 3] / pz, buffer[k, 4] / pz
                    along = focal / pz * (buffer[k, 1] * (s[0] - x * s[2]) + buffer[k, 2] * (s[1] - y * s[2]))
                    gradient[k, 0] = gain * along
                    gradient[k, 1], gradient[k, 2] = gradient[k, 0] * offsets[k, 0], gradient[k, 0] * offsets[k, 1]
                    middle0 += gradient[k, 0]
                    middle1 += gradient[k, 1]
                    middle2 += gradient[k, 2]
                middle0, middle1, middle2 = middle0 / count, middle1 / count, middle2 / count
                weight = likeness * likeness / (_LEVELS * _LEVELS)
                middle = count // 2
                pz = buffer[middle, 5]
                shift_x = s[0] - s[2] * buffer[middle, 3] / pz
                shift_y = s[1] - s[2] * buffer[middle, 4] / pz
                reach = max(reach, focal / pz * math.sqrt(shift_x * shift_x + shift_y * shift_y))
                for k in range(count):
                    g0, g1, g2 = gradient[k, 0] - middle0, gradient[k, 1] - middle1, gradient[k, 2] - middle2
                    residual = values[n, k] - gain * (buffer[k, 0] - mean)
                    w = weight / (1.0 + abs(residual) / (3.0 * _LEVELS))
                    normal[0, 0] += w * g0 * g0
                    normal[0, 1] += w * g0 * g1
                    normal[0, 2] += w * g0 * g2
                    normal[1, 1] += w * g1 * g1
                    normal[1, 2] += w * g1 * g2
                    normal[2, 2] += w * g2 * g2
                    right[0] += w * g0 * residual
                    right[1] += w * g1 * residual
                    right[2] += w * g2 * residual
            normal[1, 0], normal[2, 0], normal[2, 1] = normal[0, 1], normal[0, 2], normal[1, 2]
            inverse = _invert(normal, inverse)
            for i in range(3):
                step[i] = inverse[i, 0] * right[0] + inverse[i, 1] * right[1] + inverse[i, 2] * right[2]
            limit = 1.0 / reach  # a pixel in the frame with the longest parallax
            change = min(max(step[0], -limit), limit)
            rho = min(max(rho + change, 0.3 * rho0), 3.0 * rho0)
            a += min(max(step[1], -0.1 * scale), 0.1 * scale)
            b += min(max(step[2], -0.1 * scale), 0.1 * scale)
        shape[n, 0], shape[n, 1], shape[n, 2] = rho, a, b
        precision[n] = math.sqrt(max(1.0 / inverse[0, 0] - tightness / (scale * scale), 0.0))


@kernel
def _equations(
    images, rotations, translations, lens, points, shape, offsets, values, contrast, noise, used,
    point_block, point_right, coupling, camera_block, camera_right,
):  # fmt: skip
    """Add to the normal equations of cameras, focal length and points: see `refine_cameras`."""
    count = offsets.shape[0]
    total_frames = rotations.shape[0]
    last = 6 * total_frames
    buffer, rows = np.empty((count, 6)), np.empty((count, 10))
    middle, right, normal = np.empty(10), np.empty(10), np.empty((10, 10))
    focal, cx, cy = lens[0], lens[1], lens[2]
    for n in range(points.shape[0]):
        for t in range(1, total_frames):
            if not used[t, n]:
                continue
            m, s = rotations[t], translations[t]
            good, mean, deviation = _look(
                images,
                t,
                m,
                s,
                lens,
                points[n, 0],
                points[n, 1],
                shape[n, 0],
                shape[n, 1],
                shape[n, 2],
                offsets,
                buffer,
            )
            if not good:
                continue
            likeness = _alike(values, n, buffer, mean, deviation, contrast, noise)
            if likeness < _ALIKE:
                continue
            gain = min(max(contrast[n] / (deviation + 1e-3), 0.5), 2.0)
            middle[:] = 0.0
            for k in range(count):
                px, py, pz = buffer[k, 3], buffer[k, 4], buffer[k, 5]
                x, y = px / pz, py / pz
                u, v = (points[n, 0] + offsets[k, 0] - cx) / focal, (points[n, 1] + offsets[k, 1] - cy) / focal
                r = shape[n, 0] + shape[n, 1] * offsets[k, 0] + shape[n, 2] * offsets[k, 1]
                # Of the value by the scaled position.
                gx, gy = gain * focal / pz * buffer[k, 1], gain * focal / pz * buffer[k, 2]
                gz = -(gx * x + gy * y)
                along = gx * s[0] + gy * s[1] + gz * s[2]
                rows[k, 0], rows[k, 1], rows[k, 2] = along, along * offsets[k, 0], along * offsets[k, 1]
                # The rotation acts on what is turned, not on the translation.
                tx, ty, tz = px - r * s[0], py - r * s[1], pz - r * s[2]
                rows[k, 3], rows[k, 4], rows[k, 5] = ty * gz - tz * gy, tz * gx - tx * gz, tx * gy - ty * gx
                rows[k, 6], rows[k, 7], rows[k, 8] = r * gx, r * gy, r * gz
                by_ray = gx * (m[0, 0] * u + m[0, 1] * v) + gy * (m[1, 0] * u + m[1, 1] * v)
                by_ray += gz * (m[2, 0] * u + m[2, 1] * v)
                rows[k, 9] = gain * focal * (buffer[k, 1] * x + buffer[k, 2] * y) - by_ray
                for i in range(10):
                    middle[i] += rows[k, i] / count
            weight = likeness * likeness / (_LEVELS * _LEVELS)
            normal[:], right[:] = 0.0, 0.0
            for k in range(count):
                residual = values[n, k] - gain * (buffer[k, 0] - mean)
                w = weight / (1.0 + abs(residual) / (3.0 * _LEVELS))
                for i in range(10):
                    rows[k, i] -= middle[i]
                for i in range(10):
                    wi = w * rows[k, i]
                    right[i] += wi * residual
                    for j in range(i, 10):
                        normal[i, j] += wi * rows[k, j]
            for i in range(3):
                point_right[n, i] += right[i]
                for j in range(3):
                    point_block[n, i, j] += normal[min(i, j), max(i, j)]
                for j in range(6):
                    coupling[n, i, 6 * t + j] += normal[i, 3 + j]
                coupling[n, i, last] += normal[i, 9]
            for i in range(3, 10):
                camera_right[t, i - 3] += right[i]
                for j in range(3, 10):
                    camera_block[t, i - 3, j - 3] += normal[min(i, j), max(i, j)]


class Patches:
    """Patches of the first frame, and what they are compared with.

    Args:
        images: [T, H, W] float32.
        points: [N, 2] their pixels in the first frame.
        offsets: [K, 2], see `patch_offsets`.
        noise: product of standard deviations in levels that is added below correlations, so that noise is not alike.
        threads: number of threads.
    """

    def __init__(
        self, images: np.ndarray, points: np.ndarray, offsets: np.ndarray, noise: float = 4.0, threads: int = 1
    ) -> None:
        self.images, self.points, self.offsets = images, np.ascontiguousarray(points, np.float64), offsets
        self.noise, self.threads = noise, threads
        self.values, self.contrast = np.empty((len(points), len(offsets))), np.empty(len(points))
        _reference(images, self.points, offsets, self.values, self.contrast)

    def _chunks(self) -> list[slice]:
        edges = np.linspace(0, len(self.points), 8 * self.threads + 1).astype(int)
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges)]

    def refine(
        self, solution: Solution, shape: np.ndarray, order: np.ndarray, iterations: int, tightness: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Refine points with given cameras.

        Args:
            solution: the cameras.
            shape: [N, 3] inverse depths and their slopes per pixel, to begin with.
            order: frames to compare with; the first ones alone at first.
            iterations: number of steps.
            tightness: how much the inverse depths to begin with count: the squared inverse of their relative error.

        Returns:
            The refined shapes, and the standard deviation of each inverse depth, relative, by its texture alone: inf
            where there is none.
        """
        out = np.array(shape, np.float64)
        precision = np.zeros(len(out))

        def run(part: slice) -> None:
            _refine_points(
                self.images, *_camera(solution), order, self.points[part], out[part], self.offsets, self.values[part],
                self.contrast[part], iterations, tightness, self.noise, precision[part],
            )  # fmt: skip

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(run, self._chunks()))
        with np.errstate(divide="ignore"):
            return out, 1 / (precision * out[:, 0])

    def compare(self, solution: Solution, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where points are in all frames, [T, N, 2] pixels, and correlations there, [T, N]; -1 outside."""
        count = len(self.images)
        pixels = np.empty((len(self.points), count, 2)).swapaxes(0, 1)
        alike = np.empty((len(self.points), count)).T

        def run(part: slice) -> None:
            _correlations(
                self.images, *_camera(solution), self.points[part], shape[part], self.offsets, self.values[part],
                self.contrast[part], self.noise, pixels[:, part], alike[:, part],
            )  # fmt: skip

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(run, self._chunks()))
        return np.ascontiguousarray(pixels), np.ascontiguousarray(alike)

    def _equations(self, solution: Solution, shape: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the normal equations of points and cameras.

        Returns:
            [N, 3, 3] and [N, 3] of the points, their coupling with the cameras [N, 3, 6 T + 1], and [T, 7, 7] and
            [T, 7] of the cameras and the focal length.
        """
        count, points = len(self.images), len(self.points)
        block, right = np.zeros((points, 3, 3)), np.zeros((points, 3))
        coupling = np.zeros((points, 3, 6 * count + 1))
        edges = np.linspace(0, points, _PARTS + 1).astype(int)  # however many threads there are, so that sums are equal
        cameras, camera_right = np.zeros((_PARTS, count, 7, 7)), np.zeros((_PARTS, count, 7))

        def run(number: int) -> None:
            part = slice(int(edges[number]), int(edges[number + 1]))
            _equations(
                self.images, *_camera(solution), self.points[part], shape[part], self.offsets, self.values[part],
                self.contrast[part], self.noise, used[:, part], block[part], right[part], coupling[part],
                cameras[number], camera_right[number],
            )  # fmt: skip

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(run, range(_PARTS)))
        return block, right, coupling, cameras.sum(axis=0), camera_right.sum(axis=0)

    def refine_cameras(
        self,
        solution: Solution,
        shape: np.ndarray,
        used: np.ndarray,
        iterations: int,
        focal: tuple[float, float],
    ) -> tuple[Solution, np.ndarray, float]:
        """Refine cameras, focal length and points together.

        Args:
            solution: the cameras to begin with; the first one stays.
            shape: [N, 3] of the points, see `refine`.
            used: [T, N] which patches to compare.
            iterations: number of steps.
            focal: what is known of the focal length, pixels, and the standard deviation of its natural logarithm; 0 if
                it is given.

        Returns:
            The cameras, the shapes, and the standard deviation of the focal length's natural logarithm.
        """
        now, shape = solution, np.array(shape, np.float64)
        count, points = len(self.images), len(self.points)
        lengths = np.linalg.norm(now.translations, axis=1)
        far = int(lengths.argmax())
        fixed = 6 * far + 3 + int(np.abs(now.translations[far]).argmax())  # the scale is not observable
        known, deviation = focal
        kept = np.setdiff1d(np.arange(6, 6 * count + (deviation > 0)), [fixed])
        begin, spread = shape.copy(), 0.0
        for _ in range(iterations):
            block, right, coupling, cameras, camera_right = self._equations(now, shape, used)
            scale = np.abs(begin[:, 0]) + 1e-9
            stiff = np.stack([0.05 / scale**2, *(1 / (_SLOPE_SPREAD * scale) ** 2,) * 2], axis=1)
            block[:, range(3), range(3)] += stiff
            right += stiff * (begin - shape)
            matrix, side = np.zeros((6 * count + 1, 6 * count + 1)), np.zeros(6 * count + 1)
            for t in range(count):
                at = slice(6 * t, 6 * t + 6)
                matrix[at, at], matrix[at, -1], matrix[-1, at] = (
                    cameras[t, :6, :6],
                    cameras[t, :6, 6],
                    cameras[t, 6, :6],
                )
                side[at] = camera_right[t, :6]
            matrix[-1, -1], side[-1] = cameras[:, 6, 6].sum(), camera_right[:, 6].sum()
            # A patch errs in all its pixels and frames alike, for it is no plane, or the light on it changes: they are
            # worth one measurement.
            repeats = len(self.offsets) * float(used[1:].sum()) / points
            if deviation > 0:
                matrix[-1, -1] += repeats / deviation**2
                side[-1] += repeats / deviation**2 * math.log(known / now.focal)
            inverse = np.linalg.inv(block)
            flat = coupling.reshape(3 * points, -1)
            weighted = (inverse @ coupling).reshape(3 * points, -1)
            matrix -= flat.T @ weighted
            side -= weighted.T @ right.reshape(-1)
            matrix[range(len(matrix)), range(len(matrix))] *= 1 + 1e-6
            part = matrix[np.ix_(kept, kept)] + 1e-9 * np.eye(len(kept))
            step = np.zeros(6 * count + 1)
            step[kept] = np.linalg.solve(part, side[kept])
            shape += np.einsum("nij,nj->ni", inverse, right - coupling @ step)
            shape[:, 0] = np.clip(shape[:, 0], 0.5 * begin[:, 0], 2 * begin[:, 0])
            rotations, translations = now.rotations.copy(), now.translations.copy()
            for t in range(1, count):
                rotations[t] = cv2.Rodrigues(step[6 * t : 6 * t + 3])[0] @ rotations[t]
                translations[t] += step[6 * t + 3 : 6 * t + 6]
            changed = now.focal * float(np.exp(np.clip(step[-1], -0.05, 0.05)))
            now = replace(now, rotations=rotations, translations=translations, focal=changed)
            if deviation > 0:
                spread = float(np.sqrt(max(np.linalg.inv(part)[-1, -1], 0) * repeats))
        return now, shape, spread


def _camera(solution: Solution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.ascontiguousarray(solution.rotations),
        np.ascontiguousarray(solution.translations),
        np.array([solution.focal, *solution.center], np.float64),
    )
