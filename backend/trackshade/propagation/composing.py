# SPDX-License-Identifier: GPL-3.0-or-later
"""Composes the pixels of a frame: colors from pictures, fills where none shows the surface, and the frame's light."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.propagation.light import LUMINANCE, light_at
from trackshade.propagation.pictures import SurfacePicture
from trackshade.propagation.poses import Pose
from trackshade.propagation.surface import Points

CHANGED = (0.1, 0.35)  # change of the light's logarithm from which and to which a doubtful color is replaced
ASIDE = 1.0  # pixels of the clay render, by which a rim of light may seem to have moved
BLENDED = (0.5, 1.0)  # side of a pixel, in texels of a canvas, from which and to which it takes the place of its inset
TRUSTED = 0.33  # of what `pictures.read` returns, from which a picture is used alone
NO_LIGHT = SurfacePicture(
    np.zeros((0, 0, 3), np.float32), np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int32),
    np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.uint8), np.zeros((0, 0), np.bool_),
)  # fmt: skip


class Fills(NamedTuple):
    """Colors of all surface points that frames need and no picture shows. A plain tuple of arrays for kernels.

    Attributes:
        start: [M] int64, where the triangles of each mesh begin in `canvas` and `uv`; -1 for a mesh without canvases.
        canvas: [N] int32, index into `table`; -1 for a triangle without canvas.
        uv: [N, 3, 2] float32, positions of the triangles' corners on their canvas, texels.
        table: [C, 3] int64: where a canvas begins in `texels`, its height and width.
        insets: [C, 4] float64: index of the finer canvas of a part of this one, -1 for none; factor and offset (x, y)
            with which texels of this one are texels of that one.
        texels: [X, 5] float32: color in linear light; 1 where it is better than what pictures show, else 0; and the
            light of the pictures there, 0 where none shows it, -1 where it is not needed.
        vertex_start: [M] int64, where the colors of each mesh's vertices begin; -1 if it has none.
        vertices: [V, 3] float32, colors of vertices, for meshes without canvases.
        plain: [M + 1, 3] float32, color of each mesh that has neither, and of the background.
        panorama: [h, w, 3] float32, the background by elevation (first row: up) and azimuth; may be empty.
    """

    start: np.ndarray
    canvas: np.ndarray
    uv: np.ndarray
    table: np.ndarray
    insets: np.ndarray
    texels: np.ndarray
    vertex_start: np.ndarray
    vertices: np.ndarray
    plain: np.ndarray
    panorama: np.ndarray


@inlined
def fill_color(
    start, canvas, uv, table, insets, texels, vertex_start, vertices, plain, panorama, triangles, face_start, mesh,
    face, b, c, spread, dx, dy, dz,
):  # fmt: skip
    """Return the fill (r, g, b) at a surface point, or of the background in direction (dx, dy, dz).

    `spread` is the side of the frame's pixel in texels of the point's coarsest canvas, 0 if unknown.

    Then follow -1 for a color that does not agree with the pictures around it, or for one of a canvas how much better
    than a picture it is, 0 to 1; and the light of the pictures there, as in `Fills.texels`.
    """
    if mesh < 0:
        if panorama.shape[0] == 0:
            return np.float64(plain[-1, 0]), np.float64(plain[-1, 1]), np.float64(plain[-1, 2]), -1.0, -1.0
        height, width = panorama.shape[0], panorama.shape[1]
        length = math.sqrt(dx * dx + dy * dy + dz * dz)
        v = math.acos(min(max(dz / length, -1.0), 1.0)) / math.pi * height - 0.5
        u = (math.atan2(dy, dx) / (2.0 * math.pi) + 0.5) * width - 0.5
        v = min(max(v, 0.0), height - 1.001)
        i, j = int(v), math.floor(u)
        fy, fx = v - i, u - j
        left, right = j % width, (j + 1) % width
        r = _mix(
            panorama[i, left, 0], panorama[i, right, 0], panorama[i + 1, left, 0], panorama[i + 1, right, 0], fx, fy
        )
        g = _mix(
            panorama[i, left, 1], panorama[i, right, 1], panorama[i + 1, left, 1], panorama[i + 1, right, 1], fx, fy
        )
        d = _mix(
            panorama[i, left, 2], panorama[i, right, 2], panorama[i + 1, left, 2], panorama[i + 1, right, 2], fx, fy
        )
        return r, g, d, 0.0, -1.0
    at = start[mesh] + face
    index = canvas[at] if start[mesh] >= 0 else -1
    if index < 0 and vertex_start[mesh] >= 0:
        k, n, p = triangles[face_start[mesh] + face]
        k, n, p = vertex_start[mesh] + k, vertex_start[mesh] + n, vertex_start[mesh] + p
        a = 1.0 - b - c
        return (
            a * vertices[k, 0] + b * vertices[n, 0] + c * vertices[p, 0],
            a * vertices[k, 1] + b * vertices[n, 1] + c * vertices[p, 1],
            a * vertices[k, 2] + b * vertices[n, 2] + c * vertices[p, 2],
            -1.0,
            -1.0,
        )
    if index < 0:
        return np.float64(plain[mesh, 0]), np.float64(plain[mesh, 1]), np.float64(plain[mesh, 2]), -1.0, -1.0
    u, v = _texel(uv, at, b, c)
    while True:
        finer, factor = int(insets[index, 0]), insets[index, 1]
        if finer < 0 or spread >= BLENDED[1]:
            break
        x, y = u * factor + insets[index, 2], v * factor + insets[index, 3]
        if not (0.5 <= x <= table[finer, 2] - 0.5 and 0.5 <= y <= table[finer, 1] - 0.5):
            break
        if spread > BLENDED[0]:
            part = (BLENDED[1] - spread) / (BLENDED[1] - BLENDED[0])
            r, g, d, better, light = _read(table, texels, finer, x, y)
            r2, g2, d2, better2, light2 = _read(table, texels, index, u, v)
            rest = 1.0 - part
            return (
                r * part + r2 * rest, g * part + g2 * rest, d * part + d2 * rest, better * part + better2 * rest,
                light if part >= 0.5 else light2,
            )  # fmt: skip
        index, u, v, spread = finer, x, y, spread * factor
    return _read(table, texels, index, u, v)


@inlined
def _texel(uv, at, b, c):
    """Return the place of a surface point on its coarsest canvas, texels."""
    a = 1.0 - b - c
    return (
        a * uv[at, 0, 0] + b * uv[at, 1, 0] + c * uv[at, 2, 0],
        a * uv[at, 0, 1] + b * uv[at, 1, 1] + c * uv[at, 2, 1],
    )


@inlined
def _spread(start, canvas, uv, insets, labels, faces, weights, p, q, samples):
    """Return the side of a pixel in texels of a sample's coarsest canvas, by the samples beside it; 0 if unknown."""
    mesh = labels[p, q]
    if mesh < 0 or start[mesh] < 0 or samples < 2:
        return 0.0
    at = start[mesh] + faces[p, q]
    index = canvas[at]
    if index < 0 or insets[index, 0] < 0:
        return 0.0
    u, v = _texel(uv, at, weights[p, q, 0], weights[p, q, 1])
    below = p + 1 if (p + 1) % samples != 0 else p - 1
    right = q + 1 if (q + 1) % samples != 0 else q - 1
    ax = ay = bx = by = 0.0
    other = labels[p, right]
    if other >= 0 and start[other] >= 0 and canvas[start[other] + faces[p, right]] == index:
        x, y = _texel(uv, start[other] + faces[p, right], weights[p, right, 0], weights[p, right, 1])
        ax, ay = x - u, y - v
    other = labels[below, q]
    if other >= 0 and start[other] >= 0 and canvas[start[other] + faces[below, q]] == index:
        x, y = _texel(uv, start[other] + faces[below, q], weights[below, q, 0], weights[below, q, 1])
        bx, by = x - u, y - v
    return samples * math.sqrt(abs(ax * by - ay * bx))


@inlined
def _read(table, texels, index, u, v):
    """Return what a canvas has at a place: color, how much better it is than a picture, and the pictures' light."""
    first, height, width = table[index, 0], table[index, 1], table[index, 2]
    u, v = min(max(u - 0.5, 0.0), width - 1.001), min(max(v - 0.5, 0.0), height - 1.001)
    i, j = int(v), int(u)
    fy, fx = v - i, u - j
    n = first + i * width + j
    k = n + width
    r = _mix(texels[n, 0], texels[n + 1, 0], texels[k, 0], texels[k + 1, 0], fx, fy)
    g = _mix(texels[n, 1], texels[n + 1, 1], texels[k, 1], texels[k + 1, 1], fx, fy)
    d = _mix(texels[n, 2], texels[n + 1, 2], texels[k, 2], texels[k + 1, 2], fx, fy)
    better = _mix(texels[n, 3], texels[n + 1, 3], texels[k, 3], texels[k + 1, 3], fx, fy)
    nearest = (n if fy < 0.5 else k) + (0 if fx < 0.5 else 1)
    return r, g, d, better, np.float64(texels[nearest, 4])


@inlined
def _mix(a, b, c, d, x, y):
    return (a * (1.0 - x) + b * x) * (1.0 - y) + (c * (1.0 - x) + d * x) * y


def compose(
    points: Points,
    samples: int,
    frame: Pose,
    pulled: np.ndarray,
    soft: np.ndarray | None,
    fills: Fills,
    triangles: np.ndarray,
    face_start: np.ndarray,
    low: np.ndarray | None,
    light: SurfacePicture | None,
    holdout: np.ndarray,
    image: np.ndarray,
    alpha: np.ndarray,
    shown: np.ndarray,
) -> None:
    """Write some rows of a frame.

    Args:
        points: the surface points of the rows.
        samples: S, samples along each side of a pixel.
        frame: the frame's pose.
        pulled: [h * S, W * S, 5] float32, what `surface.pull` has added up.
        soft: the same of pictures without detail, which are used where `pulled` has nothing, or less that is sure;
            None for none.
        fills: colors where nothing was pulled.
        triangles: see `PoseTable`.
        face_start: where each mesh's triangles begin, [M].
        low: [h * S, W * S, 5] float32, factors of the colors, pulled as colors are; None for none.
        light: the frame's clay render, see `clay_picture`; None if colors have their light already.
        holdout: [M] bool, meshes that are black and transparent.
        image: [h, W, 3] float32 that is written, sRGB-coded.
        alpha: [h, W] float32 that is written, share of each pixel that shows a mesh.
        shown: [h, W] float32 that is written, share of each pixel that a picture shows.
    """
    _compose(
        *points, samples, background_rays(frame), frame.lens, pulled, soft is not None,
        pulled if soft is None else soft, *fills, triangles, face_start, low is not None,
        pulled if low is None else low, light is not None, *(light or NO_LIGHT), holdout, image,
        alpha, shown,
    )  # fmt: skip


def background_rays(frame: Pose) -> np.ndarray:
    """Return the matrix [3, 3] from pixels of a frame, (x, y, 1), to directions in world space."""
    if frame.orthographic:
        return np.stack([np.zeros(3), np.zeros(3), frame.rotation[2]], axis=1)
    fx, fy, cx, cy, _, _ = frame.lens
    unproject = np.array([[1 / fx, 0, -cx / fx], [0, 1 / fy, -cy / fy], [0, 0, 1.0]])
    return frame.rotation.T @ unproject


@inlined
def _encode(value):
    value = max(value, 0.0)
    if value <= 0.0031308:
        return value * 12.92
    return 1.055 * np.float64(np.float32(value) ** np.float32(1.0 / 2.4)) - 0.055  # as exact as what is written


@kernel
def _compose(
    labels, faces, levels, weights, side, uniform, first_row, samples, ray, lens, pulled, has_soft, soft,
    start, canvas, uv, table, insets, texels, vertex_start, vertices, plain, panorama, triangles, face_start, has_low,
    low, has_light, image, label, triangle, level, tolerance, trust, inner, holdout, out, alpha, shown,
):  # fmt: skip
    rows, columns = uniform.shape
    count = samples * samples
    sx, sy = label.shape[1] / lens[4], label.shape[0] / lens[5]
    for i in range(rows):
        for j in range(columns):
            whole = uniform[i, j]
            red = green = blue = covered = hidden = 0.0
            lr = lg = lb = 1.0
            lx = ly = value = 0.0
            for s in range(count):
                p, q = i * samples + s // samples, j * samples + s % samples
                mesh = labels[p, q]
                x, y = (q + 0.5) / samples, first_row + (p + 0.5) / samples
                if mesh >= 0 and holdout[mesh]:
                    continue
                at_p, at_q = (i * samples, j * samples) if whole else (p, q)
                weight, share = np.float64(pulled[at_p, at_q, 3]), np.float64(pulled[at_p, at_q, 4])
                weight_soft = np.float64(soft[at_p, at_q, 3]) if has_soft else 0.0
                r = g = b = 0.0
                if weight > 0.0:
                    r, g, b = (
                        pulled[at_p, at_q, 0] / weight,
                        pulled[at_p, at_q, 1] / weight,
                        pulled[at_p, at_q, 2] / weight,
                    )
                else:
                    share = 0.0
                    hidden += 1.0 if weight_soft == 0.0 else 0.0
                if not (whole and s > 0):  # the samples of a whole pixel have one light
                    lr = lg = lb = 1.0
                    lx = ly = value = 0.0
                if mesh >= 0:
                    covered += 1.0
                    if has_light and not (whole and s > 0):
                        value, lx, ly = np.float64(levels[p, q]), x, y
                        if whole:
                            lx, ly, value = j + 0.5, first_row + i + 0.5, _mean_level(levels, i, j, samples)
                        lr, lg, lb = light_at(
                            image, label, level, tolerance, trust, inner, lx * sx, ly * sy, mesh, value
                        )
                is_doubtful = has_light and share < TRUSTED
                share = min(1.0, share / TRUSTED)
                if share < 1.0 or (mesh >= 0 and start[mesh] >= 0):
                    dx = ray[0, 0] * x + ray[0, 1] * y + ray[0, 2]
                    dy = ray[1, 0] * x + ray[1, 1] * y + ray[1, 2]
                    dz = ray[2, 0] * x + ray[2, 1] * y + ray[2, 2]
                    spread = _spread(start, canvas, uv, insets, labels, faces, weights, p, q, samples)
                    fr, fg, fb, better, then = fill_color(
                        start, canvas, uv, table, insets, texels, vertex_start, vertices, plain, panorama, triangles,
                        face_start, mesh, faces[p, q], weights[p, q, 0], weights[p, q, 1], spread, dx, dy, dz,
                    )  # fmt: skip
                    if weight > 0.0 and is_doubtful and then >= 0.0:
                        change = _change(
                            image,
                            label,
                            level,
                            tolerance,
                            trust,
                            inner,
                            lx * sx,
                            ly * sy,
                            mesh,
                            value,
                            then,
                            lr,
                            lg,
                            lb,
                        )
                        share = 1.0 - min(max((change - CHANGED[0]) / (CHANGED[1] - CHANGED[0]), 0.0), 1.0)
                    elif weight > 0.0 and (better < 0.0 or (is_doubtful and mesh >= 0)):
                        share = 1.0
                    share *= 1.0 - max(better, 0.0)
                    if weight_soft > 0.0:
                        if is_doubtful and better <= 0.0 and soft[at_p, at_q, 4] >= TRUSTED:
                            share = 0.0
                        part = max(better, 0.0)
                        fr = fr * part + soft[at_p, at_q, 0] / weight_soft * (1.0 - part)
                        fg = fg * part + soft[at_p, at_q, 1] / weight_soft * (1.0 - part)
                        fb = fb * part + soft[at_p, at_q, 2] / weight_soft * (1.0 - part)
                    rest = 1.0 - share
                    r, g, b = r * share + fr * rest, g * share + fg * rest, b * share + fb * rest
                r, g, b = r * lr, g * lg, b * lb
                if has_low and low[at_p, at_q, 3] > 0.0:
                    weight_low = np.float64(low[at_p, at_q, 3])
                    r *= low[at_p, at_q, 0] / weight_low
                    g *= low[at_p, at_q, 1] / weight_low
                    b *= low[at_p, at_q, 2] / weight_low
                if whole and s == 0 and weight > 0.0 and share >= 1.0:  # all samples are the same
                    red, green, blue, covered = r * count, g * count, b * count, covered * count
                    break
                red, green, blue = red + r, green + g, blue + b
            out[i, j, 0], out[i, j, 1], out[i, j, 2] = (
                _encode(red / count),
                _encode(green / count),
                _encode(blue / count),
            )
            alpha[i, j] = covered / count
            shown[i, j] = 1.0 - hidden / count


@kernel
def _change(image, label, level, tolerance, trust, inner, u, v, mesh, value, then, lr, lg, lb):
    """Return by how much the logarithm of the light `then` is out of the range of the light at and around a place.

    At the rim of a shadow that stays, two clay renders differ by less than what a part of a pixel makes.
    """
    now = math.log(max(LUMINANCE[0] * lr + LUMINANCE[1] * lg + LUMINANCE[2] * lb, 1e-3))
    low = high = now
    before = math.log(max(then, 1e-3))
    if abs(now - before) <= CHANGED[0]:
        return 0.0
    for k in range(4):
        du = ASIDE * (k - 1.0) if k % 2 == 0 else 0.0
        dv = ASIDE * (k - 2.0) if k % 2 == 1 else 0.0
        r, g, b = light_at(image, label, level, tolerance, trust, inner, u + du, v + dv, mesh, value)
        other = math.log(max(LUMINANCE[0] * r + LUMINANCE[1] * g + LUMINANCE[2] * b, 1e-3))
        low, high = min(low, other), max(high, other)
    return max(low - before, before - high, 0.0)


@inlined
def _mean_level(levels, i, j, samples):
    total = 0.0
    for p in range(i * samples, (i + 1) * samples):
        for q in range(j * samples, (j + 1) * samples):
            total += levels[p, q]
    return total / (samples * samples)
