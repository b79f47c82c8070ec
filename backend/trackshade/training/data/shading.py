# SPDX-License-Identifier: GPL-3.0-or-later
"""Shading of procedural frames: textures that live on the surface, one sun with a shadow map, ambient light,
gloss.
"""

from __future__ import annotations

import math

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.control.raster import weigh

# Textures, by their number in a material row.
PLAIN, STRIPES, CHECKS, NOISE, TWO_TONE, SPOTS, GRADIENT, TILES = range(8)
# A material is a row of floats: base rgb, second rgb (both linear), texture, scale per metre, gloss,
# direction xyz, shift.
BASE, SECOND, TEXTURE, SCALE, GLOSS, DIRECTION, SHIFT, MATERIAL_SIZE = 0, 3, 6, 7, 8, 9, 12, 13


@kernel
def vertex_normals(world, triangles, out):
    """Area-weighted normals `[V, 3]` f32 of `world` `[V, 3]`, not normalised."""
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


@inlined
def _hash(i, j, k):
    n = np.uint32(i * 73856093) ^ np.uint32(j * 19349663) ^ np.uint32(k * 83492791)
    n = np.uint32((n ^ (n >> np.uint32(13))) * np.uint32(1274126177))
    return np.float64((n ^ (n >> np.uint32(16))) & np.uint32(0xFFFF)) / 65535.0


@kernel
def _noise(x, y, z):
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    i, j, k = int(i), int(j), int(k)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += weight * _hash(i + a, j + b, k + c)
    return total


@kernel
def _mix(texture, x, y, z, along):
    """Share of the second colour at a point of the texture space."""
    if texture == STRIPES:
        return float(math.floor(along) & 1)
    if texture == CHECKS:
        return float((math.floor(x) + math.floor(y) + math.floor(z)) & 1)
    if texture == NOISE:
        n = 0.65 * _noise(x, y, z) + 0.35 * _noise(2.1 * x + 7.0, 2.1 * y, 2.1 * z)
        return min(max((n - 0.35) * 3.3, 0.0), 1.0)
    if texture == TWO_TONE:
        return 1.0 if along > 0.0 else 0.0
    if texture == SPOTS:
        u, v, w = x - math.floor(x) - 0.5, y - math.floor(y) - 0.5, z - math.floor(z) - 0.5
        return 1.0 if u * u + v * v + w * w < 0.15 else 0.0
    if texture == GRADIENT:
        return min(max(0.5 + 0.6 * along, 0.0), 1.0)
    if texture == TILES:
        u, v = x - math.floor(x), y - math.floor(y)
        return 1.0 if min(u, v) < 0.1 else 0.12 * _hash(math.floor(x), math.floor(y), 3)
    return 0.0


@kernel
def _lit(shadow, light, x, y, z):
    """Share of sunlight that reaches a world point: four neighbouring texels of the shadow map."""
    size = shadow.shape[0]
    u = light[0, 0] * x + light[0, 1] * y + light[0, 2] * z + light[0, 3] - 0.5
    v = light[1, 0] * x + light[1, 1] * y + light[1, 2] * z + light[1, 3] - 0.5
    d = light[2, 0] * x + light[2, 1] * y + light[2, 2] * z + light[2, 3]
    i, j = math.floor(v), math.floor(u)
    if i < 0 or j < 0 or i + 1 >= size or j + 1 >= size:
        return 1.0
    fu, fv = u - j, v - i
    lit = 0.0
    for a in range(2):
        for b in range(2):
            weight = (fv if a else 1 - fv) * (fu if b else 1 - fu)
            if d <= shadow[i + a, j + b] + 0.06:
                lit += weight
    return lit


@kernel
def shade(
    triangle,
    vertices,
    world,
    normals,
    rest,
    triangles,
    part,
    materials,
    sun,
    sun_colour,
    ambient,
    shadow,
    light,
    eye,
    rays,
    sky_low,
    sky_high,
    out,
):
    """Linear colours `[H, W, 3]` f32 of one frame.

    triangle [H, W]; screen vertices [V, 4]; world, normals, rest [V, 3]; triangles [F, 3]; part
    [F] row of `materials` [P, MATERIAL_SIZE]; sun [3] towards the light; shadow [S, S] depth and light [3,
    4] world to its texels and depth; eye [3] world; rays [3, 3] homogeneous pixels to world directions;
    sky_* [3] below and above the horizon.
    """
    height, width = triangle.shape
    for i in range(height):
        py = i + 0.5
        for j in range(width):
            px = j + 0.5
            f = triangle[i, j]
            if f < 0:
                dx = rays[0, 0] * px + rays[0, 1] * py + rays[0, 2]
                dy = rays[1, 0] * px + rays[1, 1] * py + rays[1, 2]
                dz = rays[2, 0] * px + rays[2, 1] * py + rays[2, 2]
                s = min(max(0.5 + 0.9 * dz / math.sqrt(dx * dx + dy * dy + dz * dz), 0.0), 1.0)
                for a in range(3):
                    out[i, j, a] = sky_low[a] + s * (sky_high[a] - sky_low[a])
                continue
            i0, i1, i2 = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            e0, e1, e2 = weigh(vertices, i0, i1, i2, px, py)
            x = e0 * world[i0, 0] + e1 * world[i1, 0] + e2 * world[i2, 0]
            y = e0 * world[i0, 1] + e1 * world[i1, 1] + e2 * world[i2, 1]
            z = e0 * world[i0, 2] + e1 * world[i1, 2] + e2 * world[i2, 2]
            nx = e0 * normals[i0, 0] + e1 * normals[i1, 0] + e2 * normals[i2, 0]
            ny = e0 * normals[i0, 1] + e1 * normals[i1, 1] + e2 * normals[i2, 1]
            nz = e0 * normals[i0, 2] + e1 * normals[i1, 2] + e2 * normals[i2, 2]
            vx, vy, vz = eye[0] - x, eye[1] - y, eye[2] - z
            length = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-20)
            away = 1.0 / (math.sqrt(vx * vx + vy * vy + vz * vz) + 1e-20)
            if nx * vx + ny * vy + nz * vz < 0.0:
                length = -length
            nx, ny, nz = nx * length, ny * length, nz * length
            m = materials[part[f]]
            scale, shift = m[SCALE], m[SHIFT]
            qx = e0 * rest[i0, 0] + e1 * rest[i1, 0] + e2 * rest[i2, 0]
            qy = e0 * rest[i0, 1] + e1 * rest[i1, 1] + e2 * rest[i2, 1]
            qz = e0 * rest[i0, 2] + e1 * rest[i1, 2] + e2 * rest[i2, 2]
            along = (qx * m[DIRECTION] + qy * m[DIRECTION + 1] + qz * m[DIRECTION + 2]) * scale
            texture = int(m[TEXTURE])
            if texture != TWO_TONE and texture != GRADIENT:
                along += shift
            share = _mix(texture, qx * scale + shift, qy * scale + shift, qz * scale + shift, along)
            facing = nx * sun[0] + ny * sun[1] + nz * sun[2]
            lit = 0.0
            if facing > 0.0:
                lit = facing * _lit(shadow, light, x + 0.03 * nx, y + 0.03 * ny, z + 0.03 * nz)
            shine = 0.0
            if m[GLOSS] > 0.0 and lit > 0.0:
                hx, hy, hz = vx * away + sun[0], vy * away + sun[1], vz * away + sun[2]
                half = (nx * hx + ny * hy + nz * hz) / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-20)
                shine = m[GLOSS] * max(half, 0.0) ** 32
            sky = ambient * (0.75 + 0.25 * nz)
            for a in range(3):
                base = m[BASE + a] + share * (m[SECOND + a] - m[BASE + a])
                out[i, j, a] = base * (sky + sun_colour[a] * lit) + shine * sun_colour[a]


@kernel
def develop(linear, out):
    """Average 2 × 2 samples of `linear` `[2H, 2W, 3]` and encode them to 8 bits with the sRGB curve into
    `[H, W, 3]`.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for a in range(3):
                c = 0.25 * (
                    min(linear[2 * i, 2 * j, a], 1.0)
                    + min(linear[2 * i + 1, 2 * j, a], 1.0)
                    + min(linear[2 * i, 2 * j + 1, a], 1.0)
                    + min(linear[2 * i + 1, 2 * j + 1, a], 1.0)
                )
                c = 12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055
                out[i, j, a] = np.uint8(c * 255.0 + 0.5)
