# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of generated solids in object space, about one metre in size, z up.

A solid is `(positions [V, 3] float32, triangles [F, 3] int32)`. Vertices are doubled along sharp edges, so that normals
averaged per vertex keep the edge.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

Solid = tuple[np.ndarray, np.ndarray]

# Only in held-out clips, to measure whether tracks are followed or shapes remembered.
UNSEEN_SHAPES = ("star prism", "torus knot")


def xyz(*values: float) -> np.ndarray:
    """Return three numbers as float32."""
    return np.array(values, np.float32)


def join(*solids: Solid) -> Solid:
    """Merge several solids into one."""
    positions, triangles, offset = [], [], 0
    for p, f in solids:
        positions.append(p)
        triangles.append(f + offset)
        offset += len(p)
    return np.concatenate(positions).astype(np.float32), np.concatenate(triangles).astype(np.int32)


def lattice(nu: int, nv: int, wrap_u: bool = False, wrap_v: bool = False) -> np.ndarray:
    """Return the triangles [F, 3] of a grid of nu × nv vertices (index u·nv + v)."""
    u, v = np.meshgrid(np.arange(nu if wrap_u else nu - 1), np.arange(nv if wrap_v else nv - 1), indexing="ij")
    a, b = u * nv + v, u * nv + (v + 1) % nv
    c, d = (u + 1) % nu * nv + v, (u + 1) % nu * nv + (v + 1) % nv
    quads = np.stack([a, c, d, a, d, b], axis=-1)
    return quads.reshape(-1, 3).astype(np.int32)


def sheet(width: float, height: float, nu: int, nv: int) -> Solid:
    """Make a flat rectangle in the xy plane with nu × nv vertices."""
    x, y = np.meshgrid(np.linspace(-width / 2, width / 2, nu), np.linspace(-height / 2, height / 2, nv), indexing="ij")
    return np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32), lattice(nu, nv)


def box(size: tuple[float, float, float] = (1.0, 1.0, 1.0), cells: int = 3) -> Solid:
    """Make a cuboid with `cells` × `cells` quads on each face."""
    p, f = sheet(1.0, 1.0, cells + 1, cells + 1)
    p = p + xyz(0.0, 0.0, 0.5)
    faces = []
    for sign, axes in itertools.product((1, -1), ((0, 1, 2), (1, 2, 0), (2, 0, 1))):
        q = p[:, axes] * sign
        faces.append((q, f if sign > 0 else f[:, ::-1]))
    solid, triangles = join(*faces)
    return solid * xyz(*size), triangles


def revolve(profile: np.ndarray, around: int = 22) -> Solid:
    """Turn a profile [N, 2] of (radius, z) about z."""
    angle = np.arange(around) * (2 * np.pi / around)
    r, z = profile[:, 0], profile[:, 1]
    p = np.stack(
        [np.outer(np.cos(angle), r), np.outer(np.sin(angle), r), np.broadcast_to(z, (around, len(z)))], axis=-1
    )
    return p.reshape(-1, 3).astype(np.float32), lattice(around, len(r), wrap_u=True)


def sphere(radius: float = 0.5, around: int = 22, rings: int = 13) -> Solid:
    """Make a sphere."""
    polar = np.linspace(0.0, np.pi, rings)
    return revolve(np.stack([np.sin(polar), -np.cos(polar)], 1) * radius, around)


def cylinder(radius: float = 0.42, height: float = 1.0, around: int = 22, cells: int = 5) -> Solid:
    """Make a cylinder along z with flat caps."""
    z = np.linspace(-height / 2, height / 2, cells)
    side = revolve(np.stack([np.full(cells, radius), z], 1), around)
    caps = [
        revolve(np.array([[0.0, s * height / 2], [radius / 2, s * height / 2], [radius, s * height / 2]]), around)
        for s in (-1, 1)
    ]
    return join(side, *caps)


def cone(radius: float = 0.5, height: float = 1.0) -> Solid:
    """Make a cone along z with a flat base."""
    s = np.linspace(0.0, 1.0, 7)
    side = revolve(np.stack([radius * (1 - s), height * (s - 0.5)], 1))
    return join(side, revolve(np.array([[0.0, -height / 2], [radius / 2, -height / 2], [radius, -height / 2]])))


def capsule(radius: float = 0.28, length: float = 0.6, around: int = 14, rings: int = 5) -> Solid:
    """Make a cylinder along z with round ends; `length` is that of the straight part."""
    low, high = np.linspace(0, np.pi / 2, rings), np.linspace(np.pi / 2, np.pi, rings)
    lower = np.stack([np.sin(low) * radius, -np.cos(low) * radius - length / 2], 1)
    upper = np.stack([np.sin(high) * radius, -np.cos(high) * radius + length / 2], 1)
    return revolve(np.concatenate([lower, upper]), around)


def torus(radius: float = 0.42, thickness: float = 0.17, around: int = 28, rings: int = 12) -> Solid:
    """Make a torus about z."""
    angle = np.arange(rings + 1) * (2 * np.pi / rings)
    return revolve(np.stack([radius + thickness * np.cos(angle), thickness * np.sin(angle)], 1), around)


def blob(rng: np.random.Generator) -> Solid:
    """Make a sphere that is displaced by a few smooth waves."""
    p, f = sphere(1.0, 26, 17)
    bump = np.zeros(len(p))
    for _ in range(4):
        bump += np.sin(p @ rng.normal(0.0, 2.0, 3) + rng.uniform(0, 6.28))
    return (p * (0.48 + 0.09 * bump)[:, None]).astype(np.float32), f


def rock(rng: np.random.Generator) -> Solid:
    """Make a low-poly rock: a coarse, displaced sphere with flat faces."""
    p, f = sphere(0.55, 7, 5)
    # The poles are rings of coincident vertices, which a function of position keeps together.
    directions = rng.normal(0.0, 1.0, (3, 3)) * 3.0
    p = p * (1.0 + 0.16 * np.sin(p @ directions.T + rng.uniform(0, 6.28, 3))).astype(np.float32)
    return p[f].reshape(-1, 3), np.arange(3 * len(f), dtype=np.int32).reshape(-1, 3)


def prism(outline: np.ndarray, height: float) -> Solid:
    """Extrude a star-shaped outline [N, 2] around the origin along z, with sharp edges."""
    n = len(outline)
    following = np.roll(outline, -1, axis=0)
    side = np.zeros((n, 2, 2, 3), np.float32)  # [edge, end, level, xyz]
    side[:, 0, :, :2], side[:, 1, :, :2] = outline[:, None], following[:, None]
    side[:, :, 0, 2], side[:, :, 1, 2] = -height / 2, height / 2
    quad = np.array([[0, 2, 3], [0, 3, 1]], np.int32)
    sides = side.reshape(-1, 3), (np.arange(n)[:, None, None] * 4 + quad).reshape(-1, 3).astype(np.int32)
    fan = np.stack([np.zeros(n, int), 1 + np.arange(n), 1 + (np.arange(n) + 1) % n], 1).astype(np.int32)
    caps = []
    for s in (-1, 1):
        rim = np.concatenate([np.zeros((1, 2)), outline])
        caps.append((np.column_stack([rim, np.full(n + 1, s * height / 2)]).astype(np.float32), fan))
    return join(sides, *caps)


def star_prism(points: int = 5) -> Solid:
    """Make a prism over a star."""
    angle = np.arange(2 * points) * (np.pi / points)
    radius = np.where(np.arange(2 * points) % 2 == 0, 0.6, 0.27)
    return prism(np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None], 0.4)


def wedge() -> Solid:
    """Make a prism over a triangle."""
    outline = np.array([[-0.5, -0.35], [0.5, -0.35], [-0.3, 0.5]])
    return prism(outline, 0.8)


def torus_knot(p: int = 2, q: int = 3, along: int = 84, around: int = 8) -> Solid:
    """Make a tube around a (p, q) torus knot."""
    t = np.arange(along) * (2 * np.pi / along)
    r = 0.36 * (1.0 + 0.4 * np.cos(q * t))
    center = np.stack([r * np.cos(p * t), r * np.sin(p * t), 0.16 * np.sin(q * t) * 1.4], 1)
    tangent = np.roll(center, -1, 0) - np.roll(center, 1, 0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, tangent)
    a = np.arange(around) * (2 * np.pi / around)
    ring = np.cos(a)[None, :, None] * side[:, None] + np.sin(a)[None, :, None] * up[:, None]
    return (center[:, None] + 0.1 * ring).reshape(-1, 3).astype(np.float32), lattice(along, around, True, True)


SHAPES: dict[str, Callable[[np.random.Generator], Solid]] = {
    "box": lambda rng: box(tuple(rng.uniform(0.6, 1.0, 3))),
    "ball": lambda rng: sphere(),
    "egg": lambda rng: (sphere()[0] * xyz(0.8, 0.8, 1.15), sphere()[1]),
    "cylinder": lambda rng: cylinder(rng.uniform(0.3, 0.48), rng.uniform(0.7, 1.1)),
    "cone": lambda rng: cone(rng.uniform(0.4, 0.55), rng.uniform(0.8, 1.15)),
    "ring": lambda rng: torus(thickness=rng.uniform(0.12, 0.2)),
    "capsule": lambda rng: capsule(),
    "blob": blob,
    "rock": rock,
    "wedge": lambda rng: wedge(),
    "star prism": lambda rng: star_prism(int(rng.integers(5, 7))),
    "torus knot": lambda rng: torus_knot(),
}
