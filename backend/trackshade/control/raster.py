# SPDX-License-Identifier: GPL-3.0-or-later
"""A z-buffer for triangles, without a GPU and without the GIL.

Vertices are given as screen vertices [V, 4] = (u, v, q, z): pixels u and v, z the depth along the camera's axis
in metres, q = 1 / z for a perspective camera and 1 for an orthographic one. Weights that are linear on the
surface are q times weights that are linear on the screen, which is what makes interpolation
perspective-correct.

A triangle that reaches behind the camera is covered by homogeneous edge functions instead (Olano and Greer
1997, "Triangle scan conversion using 2D homogeneous coordinates") and cut at the near plane exactly, pixel
by pixel.

Rules:
- pixel (row i, column j) is sampled at (j + 0.5, i + 0.5);
- coverage is decided a ten-millionth of a pixel to the right of and below the sample, so that what lies
  exactly on an edge, as in scenes that are aligned with the pixels, belongs to the triangle to the right of
  the edge or below it. The two triangles of an edge compute its function with the same rounding and opposite
  sign, so they neither leak nor overlap;
- the nearest depth wins, compared as float32; at equal depth the mesh with the lowest label wins, and in a mesh its
  first triangle, so that meshes can be drawn in any order;
- both sides of a triangle are drawn, and all of it, unless `surfaces` says otherwise: then a side may be left out, and
  pixels in which a cut-out is not opaque.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.control.surfaces import NO_SLOTS, Slots, is_opaque
from trackshade.shot.track_colors import MeshRule

NOTHING = -1  # triangle and label of the background
INVISIBLE, BLACK, COLORED, COLORED_ORTHOGRAPHIC = range(4)  # kinds of paint
# Not along a diagonal: edges are often at 45 degrees.
SAMPLE_X, SAMPLE_Y = 0.5 + 1.0e-7, 0.5 + 0.618e-7
IN_FRONT = 1e6  # q of a vertex that is surely in front of the camera: 0 < q < IN_FRONT


@dataclass(frozen=True, eq=False)
class PaintMode:
    """How the pixels of a mesh are painted while it is drawn.

    Attributes:
        kind: nothing is painted, black, or the color of each surface point by a rule.
        first: [V, 3] float32, object-space positions of the vertices in the first frame (`Geometry.first`).
        parameters: [18] float64, see `MeshRule.packed_parameters`.
        out: [H, W, 3] uint8, image that is painted.
    """

    kind: int
    first: np.ndarray
    parameters: np.ndarray = field(default_factory=lambda: np.zeros(18))
    out: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.uint8))

    @classmethod
    def by_rule(
        cls,
        rule: MeshRule,
        first: np.ndarray,  # [V, 3] float32 object space, metres
        matrix_world: np.ndarray,  # [4, 4] object to world in the first frame
        out: np.ndarray,  # [H, W, 3] uint8
    ) -> PaintMode:
        """Return the mode that paints each surface point by a rule, from its position in the first frame."""
        kind = COLORED_ORTHOGRAPHIC if rule.orthographic else COLORED
        return cls(kind, first, rule.packed_parameters(matrix_world), out)


UNPAINTED = PaintMode(INVISIBLE, np.zeros((0, 3), np.float32))


@dataclass(frozen=True)
class Buffers:
    """What is visible at every pixel, written by `draw`."""

    depth: np.ndarray  # [H, W] f32, metres along the camera's axis, inf where nothing is
    triangle: np.ndarray  # [H, W] i32, index within its mesh, -1 where nothing is
    label: np.ndarray  # [H, W] i32, the label of the mesh, -1 where nothing is

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Buffers:
        """Return buffers of `size` (width, height) that show the background."""
        w, h = size
        return cls(
            np.full((h, w), np.inf, np.float32),
            np.full((h, w), NOTHING, np.int32),
            np.full((h, w), NOTHING, np.int32),
        )

    def rows(self, first: int, end: int) -> Buffers:
        """Return a view of some rows."""
        return Buffers(self.depth[first:end], self.triangle[first:end], self.label[first:end])

    def clear(self) -> None:
        """Reset all pixels to the background."""
        self.depth.fill(np.inf)
        self.triangle.fill(NOTHING)
        self.label.fill(NOTHING)


def to_screen(
    positions: np.ndarray,  # [V, 3] object space, metres
    to_camera: np.ndarray,  # [4, 4] object to camera space: x right, y down, z forward
    intrinsics: np.ndarray,  # [3, 3] pixels; pixels per metre if orthographic
    orthographic: bool,
    out: np.ndarray | None = None,  # [V, 4] float64
) -> np.ndarray:
    """Project points; returns screen vertices [V, 4] float64, in `out` if it is given."""
    if out is None:
        out = np.empty((len(positions), 4), np.float64)
    # Copies: numba would compile once more for views that cannot be written.
    _to_screen(positions, np.array(to_camera), np.array(intrinsics), bool(orthographic), out)
    return out


@kernel
def _to_screen(positions, to_camera, k, orthographic, out):
    m = to_camera
    for n in range(positions.shape[0]):
        px, py, pz = np.float64(positions[n, 0]), np.float64(positions[n, 1]), np.float64(positions[n, 2])
        x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
        y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
        z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
        q = 1.0
        if not orthographic:
            q = 1.0 / z if abs(z) > 1e-12 else 1e12
        out[n, 0], out[n, 1] = k[0, 0] * x * q + k[0, 2], k[1, 1] * y * q + k[1, 2]
        out[n, 2], out[n, 3] = q, z


def draw(
    buffers: Buffers,
    vertices: np.ndarray,  # [V, 4] float64 screen vertices
    triangles: np.ndarray,  # [F, 3] int32
    label: int,
    near: float = 1e-6,
    far: float = math.inf,
    paint: PaintMode = UNPAINTED,
    surfaces: Slots | None = None,
    mirrored: bool = False,
) -> None:
    """Draw a mesh.

    Args:
        buffers: what is drawn into.
        vertices: the mesh's vertices on the screen.
        triangles: its triangles.
        label: number that is written where the mesh is visible.
        near: least depth that is drawn, metres along the camera's axis.
        far: greatest depth that is drawn.
        paint: how its pixels are painted.
        surfaces: which sides are drawn, and cut-outs; everything is drawn if None.
        mirrored: whether the mesh's matrix has a negative determinant, which turns its triangles inside out.
    """
    near = max(near, 1e-6)
    _draw(
        buffers.depth, buffers.triangle, buffers.label, vertices, triangles, label, near, far, 0, len(buffers.depth),
        paint.kind, paint.first, paint.parameters, paint.out,
        None if surfaces is None else True, mirrored, *(surfaces or NO_SLOTS),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Instances:
    """Meshes with the same geometry, surfaces and image, drawn in one call.

    Attributes:
        labels: [N] int64, numbers that are written where the meshes are visible.
        to_camera: [N, 4, 4] float64, object to camera space.
        kinds: [N] int64, kinds of paint.
        parameters: [N, 18] float64, see `PaintMode`.
        mirrored: [N] bool, see `draw`.
    """

    labels: np.ndarray
    to_camera: np.ndarray
    kinds: np.ndarray
    parameters: np.ndarray
    mirrored: np.ndarray


def draw_instances(
    buffers: Buffers,
    instances: Instances,
    positions: np.ndarray,  # [V, 3] object space, metres
    triangles: np.ndarray,  # [F, 3] int32
    intrinsics: np.ndarray,  # [3, 3] pixels; pixels per metre if orthographic
    orthographic: bool,
    near: float,
    far: float,
    first: np.ndarray,  # [V, 3] float32, see `PaintMode`
    out: np.ndarray,  # [H, W, 3] uint8, see `PaintMode`
    surfaces: Slots | None,
    scratch: np.ndarray,  # [V, 4] float64, overwritten
    rows: tuple[int, int] | None = None,  # the first, and the one after the last, that are drawn; all if None
) -> None:
    """Draw instances of a geometry; the result is that of `draw` for each of them."""
    top, bottom = rows or (0, len(buffers.depth))
    _draw_instances(
        buffers.depth, buffers.triangle, buffers.label, positions, scratch, triangles, np.array(intrinsics),
        bool(orthographic), max(near, 1e-6), far, top, bottom, instances.labels, instances.to_camera, instances.kinds,
        first, instances.parameters, out, None if surfaces is None else True, instances.mirrored,
        *(surfaces or NO_SLOTS),
    )  # fmt: skip


@inlined
def _paint_point(kind, n, px, py, pz, out, i, j):
    """Paint pixel (i, j) by a point's object-space position in the first frame; n: `MeshRule.packed_parameters`."""
    x = n[0] * px + n[1] * py + n[2] * pz + n[3]
    y = n[4] * px + n[5] * py + n[6] * pz + n[7]
    z = n[8] * px + n[9] * py + n[10] * pz + n[11]
    distance = math.sqrt(x * x + y * y + z * z)
    both = 1.0 / (z * distance)  # one division for two inverses: this is the innermost loop
    q = both * distance if kind == COLORED else 1.0
    red, green = n[12] * x * q + n[14], n[13] * y * q + n[15]
    if z > 0.0 and red >= 0.0 and red <= 1.0 and green >= 0.0 and green <= 1.0:
        blue = (both * z - n[16]) * n[17]
        out[i, j, 0] = np.uint8(red * 255.0 + 0.5)
        out[i, j, 1] = np.uint8(green * 255.0 + 0.5)
        out[i, j, 2] = np.uint8(min(max(blue, 0.0), 1.0) * 255.0 + 0.5)
    else:
        out[i, j, 0] = out[i, j, 1] = out[i, j, 2] = 0


@inlined
def _in_front(q0, q1, q2):
    return (q0 > 0.0) & (q1 > 0.0) & (q2 > 0.0) & (q0 < IN_FRONT) & (q1 < IN_FRONT) & (q2 < IN_FRONT)


@kernel
def _homogeneous_edge(u0, v0, q0, u1, v1, q1):
    """Return the edge function (A, B, C) of two points, and the factor that makes it that of the homogeneous points.

    A·x + B·y + C = 0 on the line through them. For two points in front of the camera it is the plain edge function of
    the screen, so that neighbors which are not cut agree with it exactly.
    """
    if 0.0 < q0 < IN_FRONT and 0.0 < q1 < IN_FRONT:
        return v0 - v1, u1 - u0, u0 * v1 - v0 * u1, 1.0 / (q0 * q1)
    w0, w1 = 1.0 / q0, 1.0 / q1
    x0, y0, x1, y1 = u0 * w0, v0 * w0, u1 * w1, v1 * w1
    return y0 * w1 - w0 * y1, w0 * x1 - x0 * w1, x0 * y1 - y0 * x1, 1.0


@kernel
def _cut_edges(u0, v0, q0, u1, v1, q1, u2, v2, q2):
    """Return edge functions, factors and orientation of a triangle with a vertex behind the camera."""
    a0, b0, c0, s0 = _homogeneous_edge(u1, v1, q1, u2, v2, q2)
    a1, b1, c1, s1 = _homogeneous_edge(u2, v2, q2, u0, v0, q0)
    a2, b2, c2, s2 = _homogeneous_edge(u0, v0, q0, u1, v1, q1)
    facing = (a0 * u0 + b0 * v0 + c0) * s0 / q0
    return a0, b0, c0, s0, a1, b1, c1, s1, a2, b2, c2, s2, facing


@kernel
def _is_covered(depth, top, bottom, left, right, nearest):
    """Return whether all pixels of a box are nearer than a depth."""
    limit = np.float32(nearest - 1e-9 * abs(nearest))  # depths of pixels are rounded otherwise than those of vertices
    for i in range(top, bottom + 1):
        is_open = False  # without a branch for each pixel, several are compared at a time
        for j in range(left, right + 1):
            is_open |= depth[np.uintp(i), np.uintp(j)] >= limit  # unsigned: no check for negative indices
        if is_open:
            return False
    return True


@inlined
def _steepness(a, b, c, end_row):
    """Return -1 / a of an edge function; 0 if it hardly changes along a row, where rounding decides."""
    return -1.0 / a if abs(a) > 1e-12 * (abs(b) * end_row + abs(c)) else 0.0


@inlined
def _clip_span(d, r, start, end):
    """Return the columns at which an edge function a·x + r may be positive, of those from `start` to `end`; d: -1 / a.

    They are a pixel too wide at either side, so that the function itself decides.
    """
    place = r * d - SAMPLE_X
    if d < 0.0:
        start = max(start, place - 1.0)
    elif d > 0.0:
        end = min(end, place + 1.0)
    return start, end


@kernel
def _draw(
    depth, triangle, labels, vertices, triangles, label, near, far, first_row, end_row, paint, first, parameters, out,
    by_slot, mirrored, slots, front, back, cutouts, layers, uv, sizes, rules, opaque, texels,
):  # fmt: skip
    # numba compiles this once for `by_slot` None, without what belongs to slots, and once with.
    width = depth.shape[1]
    for f in range(triangles.shape[0]):
        n0, n1, n2 = np.uintp(triangles[f, 0]), np.uintp(triangles[f, 1]), np.uintp(triangles[f, 2])
        u0, v0, q0, z0 = vertices[n0, 0], vertices[n0, 1], vertices[n0, 2], vertices[n0, 3]
        u1, v1, q1, z1 = vertices[n1, 0], vertices[n1, 1], vertices[n1, 2], vertices[n1, 3]
        u2, v2, q2, z2 = vertices[n2, 0], vertices[n2, 1], vertices[n2, 2], vertices[n2, 3]
        if (z0 < near and z1 < near and z2 < near) or (z0 > far and z1 > far and z2 > far):
            continue
        whole = _in_front(q0, q1, q2)
        if whole:
            left, right = min(u0, u1, u2), max(u0, u1, u2)
            top, bottom = min(v0, v1, v2), max(v0, v1, v2)
        else:
            left, top, right, bottom = _cut_box(u0, v0, q0, u1, v1, q1, u2, v2, q2, near)
        if not (right >= 0.5 and bottom >= first_row + 0.5 and left <= width and top <= end_row):
            continue
        left_column, top_row = math.ceil(max(left - SAMPLE_X, 0.0)), math.ceil(max(top - SAMPLE_Y, float(first_row)))
        right_column = math.floor(min(right - SAMPLE_X, width - 1.0))
        bottom_row = math.floor(min(bottom - SAMPLE_Y, end_row - 1.0))
        if right_column < left_column or bottom_row < top_row:
            continue
        if whole and _is_covered(depth, top_row, bottom_row, left_column, right_column, min(z0, z1, z2)):
            continue
        if whole:
            a0, b0, c0, s0 = v1 - v2, u2 - u1, u1 * v2 - v1 * u2, q0
            a1, b1, c1, s1 = v2 - v0, u0 - u2, u2 * v0 - v2 * u0, q1
            a2, b2, c2, s2 = v0 - v1, u1 - u0, u0 * v1 - v0 * u1, q2
            facing = c0 + c1 + c2
        else:
            a0, b0, c0, s0, a1, b1, c1, s1, a2, b2, c2, s2, facing = _cut_edges(u0, v0, q0, u1, v1, q1, u2, v2, q2)
        slot, cutout = 0, -1
        if by_slot is not None:
            slot = slots[f]
            # Counter-clockwise, as one sees it, is the front; rows go down, so the sign is the other one.
            if not (front[slot] if (facing < 0.0) != mirrored else back[slot]):
                continue
            cutout = cutouts[slot]
        if facing < 0.0:
            a0, b0, c0, a1, b1, c1, a2, b2, c2 = -a0, -b0, -c0, -a1, -b1, -c1, -a2, -b2, -c2
        elif not facing > 0.0:
            continue
        d0, d1, d2 = _steepness(a0, b0, c0, end_row), _steepness(a1, b1, c1, end_row), _steepness(a2, b2, c2, end_row)
        for i in range(top_row, bottom_row + 1):
            py = i + SAMPLE_Y
            r0, r1, r2 = b0 * py + c0, b1 * py + c1, b2 * py + c2
            start, end = float(left_column), float(right_column)
            start, end = _clip_span(d0, r0, start, end)
            start, end = _clip_span(d1, r1, start, end)
            start, end = _clip_span(d2, r2, start, end)
            is_inside = False  # edge functions are monotonic along a row, also as rounded: what is inside is one span
            for j in range(math.ceil(start), math.floor(end) + 1):
                px = j + SAMPLE_X
                e0, e1, e2 = a0 * px + r0, a1 * px + r1, a2 * px + r2
                if not ((e0 > 0.0) & (e1 > 0.0) & (e2 > 0.0)):  # & makes one branch of three
                    if is_inside:
                        break
                    continue
                is_inside = True
                e0, e1, e2 = e0 * s0, e1 * s1, e2 * s2
                total, deep = e0 + e1 + e2, e0 * z0 + e1 * z1 + e2 * z2
                if deep > 1.000001 * depth[i, j] * total:  # surely hidden: spares the division
                    continue
                scale = 1.0 / total
                z = deep * scale
                if not (z >= near and z <= far):
                    continue
                z32 = np.float32(z)
                if z32 < depth[i, j] or (z32 == depth[i, j] and label < labels[i, j]):
                    if by_slot is not None and cutout >= 0:
                        layer = layers[slot]
                        u = (e0 * uv[layer, f, 0, 0] + e1 * uv[layer, f, 1, 0] + e2 * uv[layer, f, 2, 0]) * scale
                        v = (e0 * uv[layer, f, 0, 1] + e1 * uv[layer, f, 1, 1] + e2 * uv[layer, f, 2, 1]) * scale
                        if not is_opaque(sizes, rules, opaque, texels, cutout, u, v):
                            continue
                    depth[i, j] = z32
                    triangle[i, j] = f
                    labels[i, j] = label
                    if paint >= COLORED:
                        e0, e1, e2 = e0 * scale, e1 * scale, e2 * scale
                        x = e0 * first[n0, 0] + e1 * first[n1, 0] + e2 * first[n2, 0]
                        y = e0 * first[n0, 1] + e1 * first[n1, 1] + e2 * first[n2, 1]
                        z = e0 * first[n0, 2] + e1 * first[n1, 2] + e2 * first[n2, 2]
                        _paint_point(paint, parameters, x, y, z, out, i, j)
                    elif paint == BLACK:
                        out[i, j, 0] = out[i, j, 1] = out[i, j, 2] = 0


@kernel
def _draw_instances(
    depth, triangle, labels, positions, scratch, triangles, k, orthographic, near, far, first_row, end_row, numbers,
    to_camera, kinds, first, parameters, out, by_slot, mirrored, slots, front, back, cutouts, layers, uv, sizes, rules,
    opaque, texels,
):  # fmt: skip
    box = _bounding_box(positions)
    order = np.argsort(to_camera[:, 2, 3])  # from near to far, so that more is hidden
    for m in range(numbers.size):
        n = order[m]
        if _is_hidden(depth, box, to_camera[n], k, orthographic, near, far, first_row, end_row):
            continue
        _to_screen(positions, to_camera[n], k, orthographic, scratch)
        _draw(
            depth, triangle, labels, scratch, triangles, numbers[n], near, far, first_row, end_row, kinds[n], first,
            parameters[n], out, by_slot, mirrored[n], slots, front, back, cutouts, layers, uv, sizes, rules, opaque,
            texels,
        )  # fmt: skip


@kernel
def _bounding_box(positions):
    """Return the lowest and highest coordinates of points, [2, 3] float64."""
    box = np.empty((2, 3))
    box[0], box[1] = np.inf, -np.inf
    for n in range(positions.shape[0]):
        for axis in range(3):
            value = np.float64(positions[n, axis])
            box[0, axis], box[1, axis] = min(box[0, axis], value), max(box[1, axis], value)
    return box


@kernel
def _is_hidden(depth, box, m, k, orthographic, near, far, first_row, end_row):
    """Return whether a mesh in a box [2, 3] surely changes no pixel of some rows: it is out of view, or covered."""
    nearest = left = top = np.inf
    farthest = right = bottom = -np.inf
    for corner in range(8):
        px, py, pz = box[corner & 1, 0], box[(corner >> 1) & 1, 1], box[corner >> 2, 2]
        x = m[0, 0] * px + m[0, 1] * py + m[0, 2] * pz + m[0, 3]
        y = m[1, 0] * px + m[1, 1] * py + m[1, 2] * pz + m[1, 3]
        z = m[2, 0] * px + m[2, 1] * py + m[2, 2] * pz + m[2, 3]
        nearest, farthest = min(nearest, z), max(farthest, z)
        q = 1.0 if orthographic else 1.0 / z
        u, v = k[0, 0] * x * q + k[0, 2], k[1, 1] * y * q + k[1, 2]
        left, right, top, bottom = min(left, u), max(right, u), min(top, v), max(bottom, v)
    # The vertices are inside the box but for the rounding of their coordinates.
    if farthest < near - 1e-9 * near or nearest > far + 1e-9 * far:
        return True
    if not nearest > near:  # the box may reach behind the camera
        return False
    if not (right >= -1.0 and bottom >= first_row - 1.0 and left <= depth.shape[1] + 1.0 and top <= end_row + 1.0):
        return True
    left_column, right_column = int(max(left - 1.0, 0.0)), int(min(right + 1.0, depth.shape[1] - 1.0))
    top_row, bottom_row = int(max(top - 1.0, float(first_row))), int(min(bottom + 1.0, end_row - 1.0))
    return _is_covered(depth, top_row, bottom_row, left_column, right_column, nearest)


@kernel
def _cut_box(u0, v0, q0, u1, v1, q1, u2, v2, q2, near):
    """Return pixel bounds (left, top, right, bottom) of the part of a triangle beyond the near plane."""
    left = top = np.inf
    right = bottom = -np.inf
    us, vs, ws = (u0, u1, u2), (v0, v1, v2), (1.0 / q0, 1.0 / q1, 1.0 / q2)
    for n in range(3):
        m = (n + 1) % 3
        if ws[n] >= near:
            left, top = min(left, us[n]), min(top, vs[n])
            right, bottom = max(right, us[n]), max(bottom, vs[n])
        if (ws[n] >= near) != (ws[m] >= near):
            s = (near - ws[n]) / (ws[m] - ws[n])
            x, y = us[n] * ws[n], vs[n] * ws[n]
            u, v = (x + s * (us[m] * ws[m] - x)) / near, (y + s * (vs[m] * ws[m] - y)) / near
            left, top, right, bottom = min(left, u), min(top, v), max(right, u), max(bottom, v)
    # A little wider than the cut: its corners are computed with other roundings than the edge functions.
    wide, high = 1e-6 + 1e-9 * max(abs(left), abs(right)), 1e-6 + 1e-9 * max(abs(top), abs(bottom))
    return left - wide, top - high, right + wide, bottom + high


def barycentric(
    buffers: Buffers,
    pixels: np.ndarray,  # [N] flat indices of pixels that show the mesh
    vertices: np.ndarray,  # [V, 4] screen vertices
    triangles: np.ndarray,  # [F, 3]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the surface points of a mesh at pixels.

    Returns:
        Vertex indices [N, 3] int32 and perspective-correct weights [N, 3] float64 with the sum 1. An attribute of the
        surface point is the weighted sum of its vertices' attributes.
    """
    corners = np.empty((len(pixels), 3), np.int32)
    weights = np.empty((len(pixels), 3), np.float64)
    _barycentric(buffers.triangle, pixels, vertices, triangles, corners, weights)
    return corners, weights


@kernel
def _barycentric(triangle, pixels, vertices, triangles, corners, weights):
    width = triangle.shape[1]
    for n in range(pixels.size):
        i, j = pixels[n] // width, pixels[n] % width
        f = triangle[i, j]
        e = weigh(vertices, triangles[f, 0], triangles[f, 1], triangles[f, 2], j + 0.5, i + 0.5)
        for a in range(3):
            corners[n, a] = triangles[f, a]
            weights[n, a] = e[a]


@inlined
def weigh(vertices, n0, n1, n2, px, py):
    """Return the perspective-correct weights of three vertices at the sample (px, py)."""
    u0, v0, q0 = vertices[n0, 0] - px, vertices[n0, 1] - py, vertices[n0, 2]
    u1, v1, q1 = vertices[n1, 0] - px, vertices[n1, 1] - py, vertices[n1, 2]
    u2, v2, q2 = vertices[n2, 0] - px, vertices[n2, 1] - py, vertices[n2, 2]
    if _in_front(q0, q1, q2):
        e0, e1, e2 = (u1 * v2 - v1 * u2) * q0, (u2 * v0 - v2 * u0) * q1, (u0 * v1 - v0 * u1) * q2
    else:
        e0, e1, e2 = _cut_weights(u0, v0, q0, u1, v1, q1, u2, v2, q2)
    scale = 1.0 / (e0 + e1 + e2)
    return e0 * scale, e1 * scale, e2 * scale


@kernel
def _cut_weights(u0, v0, q0, u1, v1, q1, u2, v2, q2):
    """Return the plain weights, times all three depths: at a vertex in the camera's plane, u and v are infinite."""
    w0, w1, w2 = 1.0 / q0, 1.0 / q1, 1.0 / q2
    x0, y0, x1, y1, x2, y2 = u0 * w0, v0 * w0, u1 * w1, v1 * w1, u2 * w2, v2 * w2
    return x1 * y2 - y1 * x2, x2 * y0 - y2 * x0, x0 * y1 - y0 * x1
