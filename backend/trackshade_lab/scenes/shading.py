# SPDX-License-Identifier: GPL-3.0-or-later
"""Shading kernels of the numpy renderer: textures, one sun with soft shadows, ambient light and sky reflections.

A pixel has four samples. All of them are textured. Light is computed once for samples of one surface with similar
normals, because it changes slowly there.
"""

from __future__ import annotations

import math

import numpy as np

from trackshade.control.compiling import kernel
from trackshade.control.raster import weigh
from trackshade_lab.scenes.textures import GLYPHS, GRADIENT, MEANS, PLAIN, TWO_TONE, mix

# Packed parameters of a material: base rgb, second rgb (both linear), texture number, cells per metre, strength of
# highlights, direction xyz, shift, share of the reflected sky, and how far the base color tints reflections.
BASE, SECOND, TEXTURE, SCALE, GLOSS, DIRECTION, SHIFT, MIRROR, METAL, MATERIAL_SIZE = 0, 3, 6, 7, 8, 9, 12, 13, 14, 15
# The sRGB curve in steps fine enough for 8 bits.
_CURVE_STEPS = 8192


def _srgb_bytes() -> np.ndarray:
    c = np.arange(_CURVE_STEPS + 1) / _CURVE_STEPS
    c = np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)
    return np.floor(c * 255.0 + 0.5).astype(np.uint8)


CURVE = _srgb_bytes()


@kernel
def vertex_normals(world, triangles, out):
    """Write area-weighted normals of `world` [V, 3] to `out` [V, 3] float32, not normalized."""
    out[:] = 0.0
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ux, uy, uz = world[b, 0] - world[a, 0], world[b, 1] - world[a, 1], world[b, 2] - world[a, 2]
        vx, vy, vz = world[c, 0] - world[a, 0], world[c, 1] - world[a, 1], world[c, 2] - world[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz


@kernel
def nearest_around(depth, reach, out):
    """Write the minimum of `depth` [S, S] within `reach` texels to `out`, to skip filtering in full light."""
    size = depth.shape[0]
    rows = np.empty_like(depth)
    for i in range(size):
        for j in range(size):
            least = depth[i, j]
            for b in range(max(0, j - reach), min(size, j + reach + 1)):
                least = min(least, depth[i, b])
            rows[i, j] = least
    for i in range(size):
        for j in range(size):
            least = rows[i, j]
            for a in range(max(0, i - reach), min(size, i + reach + 1)):
                least = min(least, rows[a, j])
            out[i, j] = least


@kernel
def _lit(shadow, nearest, light, softness, x, y, z):
    """Return the share of sunlight at a world point, from a tent filter `softness` texels wide to each side."""
    size = shadow.shape[0]
    u = light[0, 0] * x + light[0, 1] * y + light[0, 2] * z + light[0, 3] - 0.5
    v = light[1, 0] * x + light[1, 1] * y + light[1, 2] * z + light[1, 3] - 0.5
    d = light[2, 0] * x + light[2, 1] * y + light[2, 2] * z + light[2, 3]
    i, j = math.floor(v), math.floor(u)
    if i < 0 or j < 0 or i >= size or j >= size:
        return 1.0
    d -= 0.04 + 0.015 * softness
    if d <= nearest[i, j]:
        return 1.0
    lit = total = 0.0
    reach = math.ceil(softness)
    for a in range(max(0, i - reach), min(size, i + reach + 2)):
        row = max(0.0, softness + 1e-3 - abs(a - v))
        if row == 0.0:
            continue
        for b in range(max(0, j - reach), min(size, j + reach + 2)):
            weight = row * max(0.0, softness + 1e-3 - abs(b - u))
            total += weight
            if d <= shadow[a, b]:
                lit += weight
    return lit / total if total > 0.0 else 1.0


# The functions below take numbers, not arrays: `shade` was a quarter slower when it passed arrays for each sample.


@kernel
def _sky_height(x, y, z):
    """Return the mix of the sky's lower (0) and upper color (1) in a direction of any length."""
    return min(max(0.5 + 0.9 * z / math.sqrt(x * x + y * y + z * z), 0.0), 1.0)


@kernel
def _highlight(nx, ny, nz, vx, vy, vz, sx, sy, sz):
    """Return the strength of the sun's highlight for a unit normal and unit directions to the eye and the sun."""
    hx, hy, hz = vx + sx, vy + sy, vz + sz
    half = (nx * hx + ny * hy + nz * hz) / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-20)
    return max(half, 0.0) ** 48


@kernel
def _sharpness(texture, cells):
    """Return how much of a texture to draw at `cells` per pixel; small cells would flicker and fade to their mean."""
    if texture in (TWO_TONE, GRADIENT):
        return 1.0
    return min(max((0.8 - cells) * 2.2, 0.0), 1.0)


@kernel
def _across(x, y, z, ax, ay, az):
    """Return the coordinate of a point along a perpendicular of (ax, ay, az)."""
    if abs(az) < 0.7:
        return (y * ax - x * ay) / math.sqrt(ax * ax + ay * ay)
    return (z * ay - y * az) / math.sqrt(ay * ay + az * az)


@kernel
def shade(
    triangle, vertices, world, normals, rest, triangles, part, materials, sun, sun_color, ambient, shadow, nearest,
    light, softness, eye, rays, focal, sky, curve, out,
):  # fmt: skip
    """Shade one frame.

    Args:
        triangle: [2H, 2W] triangle number at each sample, -1 for the sky.
        vertices: [V, 4] screen positions in the image of the samples.
        world: [V, 3] world positions, metres.
        normals: [V, 3] vertex normals of any length.
        rest: [V, 3] object-space positions.
        triangles: [F, 3] vertex indices.
        part: [F] row of `materials` for each triangle.
        materials: [P, MATERIAL_SIZE] packed parameters.
        sun: [3] unit vector toward the sun.
        sun_color: [3] linear.
        ambient: Strength of ambient light.
        shadow: [S, S] depth of the shadow map.
        nearest: [S, S] as made by `nearest_around`.
        light: [3, 4] world to texels and depth of the shadow map.
        softness: Half width of shadow edges, texels, at least 1.
        eye: [3] camera position, world.
        rays: [3, 3] homogeneous sample positions to world directions.
        focal: Focal length in pixels of `out`.
        sky: [2, 3] linear colors below and above the horizon.
        curve: `CURVE`.
        out: [H, W, 3] uint8 sRGB, written.
    """
    steps = curve.size - 1
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            red = green = blue = 0.0
            lit_part = -1
            lx = ly = lz = 0.0  # normal that the light was computed for
            # Diffuse light, reflections, how far the base color tints them, and metres per pixel.
            lr = lg = lb = sr = sg = sb = tint = pixel = 0.0
            for sample in range(4):
                si, sj = 2 * i + sample // 2, 2 * j + sample % 2
                px, py = sj + 0.5, si + 0.5
                f = triangle[si, sj]
                if f < 0:
                    s = _sky_height(
                        rays[0, 0] * px + rays[0, 1] * py + rays[0, 2],
                        rays[1, 0] * px + rays[1, 1] * py + rays[1, 2],
                        rays[2, 0] * px + rays[2, 1] * py + rays[2, 2],
                    )
                    red += sky[0, 0] + s * (sky[1, 0] - sky[0, 0])
                    green += sky[0, 1] + s * (sky[1, 1] - sky[0, 1])
                    blue += sky[0, 2] + s * (sky[1, 2] - sky[0, 2])
                    continue
                i0, i1, i2 = triangles[f, 0], triangles[f, 1], triangles[f, 2]
                e0, e1, e2 = weigh(vertices, i0, i1, i2, px, py)
                nx = e0 * normals[i0, 0] + e1 * normals[i1, 0] + e2 * normals[i2, 0]
                ny = e0 * normals[i0, 1] + e1 * normals[i1, 1] + e2 * normals[i2, 1]
                nz = e0 * normals[i0, 2] + e1 * normals[i1, 2] + e2 * normals[i2, 2]
                length = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-20)
                nx, ny, nz = nx * length, ny * length, nz * length
                p = part[f]
                m = materials[p]
                if p != lit_part or abs(nx * lx + ny * ly + nz * lz) < 0.985:
                    lit_part, lx, ly, lz = p, nx, ny, nz
                    x = e0 * world[i0, 0] + e1 * world[i1, 0] + e2 * world[i2, 0]
                    y = e0 * world[i0, 1] + e1 * world[i1, 1] + e2 * world[i2, 1]
                    z = e0 * world[i0, 2] + e1 * world[i1, 2] + e2 * world[i2, 2]
                    vx, vy, vz = eye[0] - x, eye[1] - y, eye[2] - z
                    distance = math.sqrt(vx * vx + vy * vy + vz * vz) + 1e-20
                    vx, vy, vz = vx / distance, vy / distance, vz / distance
                    cosine = nx * vx + ny * vy + nz * vz
                    if cosine < 0.0:  # surfaces are two-sided
                        nx, ny, nz, cosine = -nx, -ny, -nz, -cosine
                    pixel = distance / (focal * max(cosine, 0.06))
                    facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
                    reached = 0.0
                    if facing > 0.0:
                        reached = _lit(shadow, nearest, light, softness, x + 0.03 * nx, y + 0.03 * ny, z + 0.03 * nz)
                    around, lit = ambient * (0.7 + 0.3 * nz), facing * reached
                    lr, lg, lb = (around + sun_color[0] * lit, around + sun_color[1] * lit, around + sun_color[2] * lit)
                    sr = sg = sb = tint = 0.0
                    if m[GLOSS] > 0.0:
                        shine = 0.0
                        if reached > 0.0:
                            shine = m[GLOSS] * reached * _highlight(nx, ny, nz, vx, vy, vz, sun[0], sun[1], sun[2])
                        s = _sky_height(2.0 * cosine * nx - vx, 2.0 * cosine * ny - vy, 2.0 * cosine * nz - vz)
                        grazing = (1.0 - cosine) * (1.0 - cosine)
                        mirror = m[MIRROR] * (0.22 + 0.78 * grazing * grazing)
                        sr = shine * sun_color[0] + mirror * (sky[0, 0] + s * (sky[1, 0] - sky[0, 0]))
                        sg = shine * sun_color[1] + mirror * (sky[0, 1] + s * (sky[1, 1] - sky[0, 1]))
                        sb = shine * sun_color[2] + mirror * (sky[0, 2] + s * (sky[1, 2] - sky[0, 2]))
                        tint = m[METAL]
                texture = int(m[TEXTURE])
                share = 0.0
                if texture != PLAIN:
                    scale = m[SCALE]
                    share, sharp = MEANS[texture], _sharpness(texture, pixel * scale)
                    if sharp > 0.0:
                        x = (e0 * rest[i0, 0] + e1 * rest[i1, 0] + e2 * rest[i2, 0]) * scale
                        y = (e0 * rest[i0, 1] + e1 * rest[i1, 1] + e2 * rest[i2, 1]) * scale
                        z = (e0 * rest[i0, 2] + e1 * rest[i1, 2] + e2 * rest[i2, 2]) * scale
                        ax, ay, az = m[DIRECTION], m[DIRECTION + 1], m[DIRECTION + 2]
                        along, across = x * ax + y * ay + z * az, _across(x, y, z, ax, ay, az)
                        axis = _facing_axis(rest, i0, i1, i2) if texture == GLYPHS else 2
                        share += sharp * (mix(texture, x, y, z, along, across, m[SHIFT], axis) - share)
                r = m[BASE] + share * (m[SECOND] - m[BASE])
                g = m[BASE + 1] + share * (m[SECOND + 1] - m[BASE + 1])
                b = m[BASE + 2] + share * (m[SECOND + 2] - m[BASE + 2])
                red += min(r * lr + sr * (1.0 + tint * (r - 1.0)), 1.0)
                green += min(g * lg + sg * (1.0 + tint * (g - 1.0)), 1.0)
                blue += min(b * lb + sb * (1.0 + tint * (b - 1.0)), 1.0)
            out[i, j, 0] = curve[int(0.25 * red * steps + 0.5)]
            out[i, j, 1] = curve[int(0.25 * green * steps + 0.5)]
            out[i, j, 2] = curve[int(0.25 * blue * steps + 0.5)]


@kernel
def _facing_axis(rest, i0, i1, i2):
    """Return the object-space axis that a triangle's normal is closest to."""
    ux, uy, uz = rest[i1, 0] - rest[i0, 0], rest[i1, 1] - rest[i0, 1], rest[i1, 2] - rest[i0, 2]
    vx, vy, vz = rest[i2, 0] - rest[i0, 0], rest[i2, 1] - rest[i0, 1], rest[i2, 2] - rest[i0, 2]
    x, y, z = abs(uy * vz - uz * vy), abs(uz * vx - ux * vz), abs(ux * vy - uy * vx)
    if x >= y and x >= z:
        return 0
    return 1 if y >= z else 2


@kernel
def texture_shares(points, material, out):
    """Write the share of the second color at points [N, 3] of a surface that faces z to `out` [N]."""
    ax, ay, az = material[DIRECTION], material[DIRECTION + 1], material[DIRECTION + 2]
    texture, scale = int(material[TEXTURE]), material[SCALE]
    for n in range(len(points)):
        x, y, z = points[n, 0] * scale, points[n, 1] * scale, points[n, 2] * scale
        along, across = x * ax + y * ay + z * az, _across(x, y, z, ax, ay, az)
        out[n] = mix(texture, x, y, z, along, across, material[SHIFT], 2)
