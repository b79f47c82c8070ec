# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes of synthetic scenes: about a metre in size, around their origin, Z up, with coordinates for images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import bmesh
import bpy
import numpy as np
from mathutils import Matrix, Vector

Profile = Sequence[tuple[float, float]]


def link(data: bpy.types.ID | None, name: str) -> bpy.types.Object:
    """A new object of the scene."""
    made = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(made)
    return made


def mesh_object(name: str, build: bmesh.types.BMesh, smooth: bool = True) -> bpy.types.Object:
    """An object of a bmesh, which is freed."""
    mesh = bpy.data.meshes.new(name)
    build.to_mesh(mesh)
    build.free()
    mesh.polygons.foreach_set("use_smooth", np.full(len(mesh.polygons), smooth))
    box_coordinates(mesh)
    return link(mesh, name)


def box_coordinates(mesh: bpy.types.Mesh, scale: float = 0.8) -> None:
    """Image coordinates: each face's place, seen along the axis that it faces most."""
    layer = mesh.uv_layers.new(name="Box") if not mesh.uv_layers else mesh.uv_layers[0]
    places = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", places)
    places = places.reshape(-1, 3)
    normals = np.empty(3 * len(mesh.polygons), np.float32)
    mesh.polygons.foreach_get("normal", normals)
    sizes, corners = np.empty(len(mesh.polygons), np.int32), np.empty(len(mesh.loops), np.int32)
    mesh.polygons.foreach_get("loop_total", sizes)
    mesh.loops.foreach_get("vertex_index", corners)
    along = np.repeat(np.abs(normals.reshape(-1, 3)).argmax(axis=1), sizes)
    axes = np.array([(1, 2), (0, 2), (0, 1)])[along]  # [L, 2]
    uv = np.take_along_axis(places[corners], axes, axis=1) * scale + 0.5
    layer.data.foreach_set("uv", uv.astype(np.float32).ravel())


def modify(thing: bpy.types.Object, kind: str, **values: object) -> bpy.types.Modifier:
    """Adds a modifier."""
    made = thing.modifiers.new(kind.title(), kind)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def baked(thing: bpy.types.Object) -> bpy.types.Object:
    """The thing as a plain mesh of what its modifiers, or its kind, make of it; the thing itself goes."""
    depsgraph = bpy.context.evaluated_depsgraph_get()
    mesh = bpy.data.meshes.new_from_object(thing.evaluated_get(depsgraph))
    name = thing.name
    bpy.data.objects.remove(thing)
    mesh.polygons.foreach_set("use_smooth", np.full(len(mesh.polygons), True))
    box_coordinates(mesh)
    return link(mesh, name)


def lathe(name: str, profile: Profile, segments: int = 32, smooth: bool = True) -> bpy.types.Object:
    """A solid of revolution about Z; `profile` is (radius, height) from below, on the axis at both ends."""
    build = bmesh.new()
    rings = []
    for radius, height in profile:
        if radius < 1e-6:
            rings.append([build.verts.new((0.0, 0.0, height))])
        else:
            angles = 2 * np.pi * np.arange(segments) / segments
            rings.append([build.verts.new((radius * np.cos(a), radius * np.sin(a), height)) for a in angles])
    for low, high in itertools.pairwise(rings):
        for i in range(segments):
            j = (i + 1) % segments
            corners = [low[i % len(low)], low[j % len(low)], high[j % len(high)], high[i % len(high)]]
            corners = list(dict.fromkeys(corners))
            if len(corners) > 2:
                build.faces.new(corners)
    return mesh_object(name, build, smooth)


def ball(stretch: float = 1.0) -> bpy.types.Object:
    angles = np.linspace(-np.pi / 2, np.pi / 2, 17)
    return lathe("ball", [(0.5 * np.cos(a) if abs(a) < 1.57 else 0.0, 0.5 * stretch * np.sin(a)) for a in angles])


def capsule() -> bpy.types.Object:
    angles = np.linspace(0, np.pi / 2, 7)
    upper = [(0.3 * np.cos(a) if a < 1.57 else 0.0, 0.25 + 0.3 * np.sin(a)) for a in angles]
    return lathe("capsule", [(r, -h) for r, h in reversed(upper)] + upper)


def cylinder(top: float) -> bpy.types.Object:
    """A cylinder, or with another `top` radius a cone, with rounded edges."""
    made = lathe("cylinder", [(0.0, -0.5), (0.45, -0.5), (top, 0.5), (0.0, 0.5)][: 4 if top > 0 else 3])
    modify(made, "BEVEL", width=0.04, segments=2, limit_method="ANGLE")
    return made


def torus(thickness: float) -> bpy.types.Object:
    build = bmesh.new()
    around, across = 40, 16
    rows = []
    for a in 2 * np.pi * np.arange(around) / around:
        ring = []
        for b in 2 * np.pi * np.arange(across) / across:
            r = 0.5 + thickness * np.cos(b)
            ring.append(build.verts.new((r * np.cos(a), r * np.sin(a), thickness * np.sin(b))))
        rows.append(ring)
    for i in range(around):
        for j in range(across):
            k, m = (i + 1) % around, (j + 1) % across
            build.faces.new((rows[i][j], rows[k][j], rows[k][m], rows[i][m]))
    return mesh_object("torus", build)


def box(size: Sequence[float], bevel: float = 0.05, segments: int = 2) -> bpy.types.Object:
    build = bmesh.new()
    bmesh.ops.create_cube(build, size=1.0, matrix=Matrix.Diagonal((*size, 1.0)))
    made = mesh_object("box", build, smooth=False)
    if bevel:
        modify(made, "BEVEL", width=bevel * min(size), segments=segments)
    return made


def wedge() -> bpy.types.Object:
    build = bmesh.new()
    verts = [build.verts.new((x, y, z)) for y in (-0.4, 0.4) for x, z in ((-0.5, -0.35), (0.5, -0.35), (0.5, 0.35))]
    a, b, c, d, e, f = verts
    for corners in ((a, b, c), (f, e, d), (a, d, e, b), (b, e, f, c), (c, f, d, a)):
        build.faces.new(corners)
    bmesh.ops.recalc_face_normals(build, faces=build.faces)
    made = mesh_object("wedge", build, smooth=False)
    modify(made, "BEVEL", width=0.03, segments=2)
    return made


def rock(rng: np.random.Generator) -> bpy.types.Object:
    """A displaced sphere, rough or smooth."""
    build = bmesh.new()
    bmesh.ops.create_icosphere(build, subdivisions=4, radius=0.5)
    made = mesh_object("rock", build)
    texture = bpy.data.textures.new("rock", str(rng.choice(["CLOUDS", "VORONOI", "STUCCI"])))
    texture.noise_scale = float(rng.uniform(0.3, 0.7))
    offset = link(None, "rock place")
    offset.location = tuple(rng.uniform(-9, 9, 3))
    modify(
        made, "DISPLACE", texture=texture, strength=float(rng.uniform(0.15, 0.4)), mid_level=0.5,
        texture_coords="OBJECT", texture_coords_object=offset,
    )  # fmt: skip
    made = baked(made)
    bpy.data.objects.remove(offset)
    return made


def blob(rng: np.random.Generator) -> bpy.types.Object:
    """Metaballs that flow together."""
    data = bpy.data.metaballs.new("blob")
    data.resolution = data.render_resolution = 0.09
    for n in range(int(rng.integers(3, 7))):
        element = data.elements.new()
        element.co = tuple(rng.uniform(-0.32, 0.32, 3)) if n else (0.0, 0.0, 0.0)
        element.radius = float(rng.uniform(0.3, 0.5))
    made = link(data, "blob")
    bpy.context.view_layer.update()
    return baked(made)


def head(rng: np.random.Generator) -> bpy.types.Object:
    """An animal's head of lumps melted together: skull, muzzle, ears, brows."""
    build = bmesh.new()

    def lump(place: Sequence[float], size: Sequence[float]) -> None:
        matrix = Matrix.Translation(Vector(place)) @ Matrix.Diagonal((*size, 1.0))
        bmesh.ops.create_icosphere(build, subdivisions=3, radius=1.0, matrix=matrix)

    wide, long, ear = rng.uniform(0.34, 0.46), rng.uniform(0.16, 0.4), rng.uniform(0.12, 0.34)
    lump((0, 0, 0), (wide, 0.4, 0.42))
    lump((0, -0.32 - long / 2, -0.14), (0.2, long, 0.17))
    for side in (-1, 1):
        lump((side * wide, 0.05, 0.2 + 0.5 * ear), (0.11, 0.06, 0.1 + ear))
        lump((side * 0.16, -0.3, 0.17), (0.12, 0.1, 0.07))
    made = mesh_object("head", build)
    modify(made, "REMESH", mode="VOXEL", voxel_size=0.045)
    modify(made, "SMOOTH", factor=0.6, iterations=5)
    return baked(made)


def letters(rng: np.random.Generator) -> bpy.types.Object:
    """A solid word."""
    data = bpy.data.curves.new("letters", "FONT")
    data.body = "".join(rng.choice(list("ABEGHKMNPRSTXZ2358"), int(rng.integers(2, 5))))
    data.align_x, data.align_y = "CENTER", "CENTER"
    data.size, data.extrude, data.bevel_depth = 0.75, float(rng.uniform(0.06, 0.16)), 0.015
    made = link(data, "letters")
    bpy.context.view_layer.update()
    made = baked(made)
    made.data.transform(Matrix.Rotation(np.pi / 2, 4, "X"))
    made.data.polygons.foreach_set("use_smooth", np.full(len(made.data.polygons), False))
    box_coordinates(made.data)
    return made


def tube(places: Sequence[Sequence[float]], radius: float) -> bpy.types.Object:
    """A round tube along a smooth path."""
    data = bpy.data.curves.new("tube", "CURVE")
    data.dimensions, data.bevel_depth, data.bevel_resolution, data.use_fill_caps = "3D", radius, 3, True
    spline = data.splines.new("NURBS")
    spline.points.add(len(places) - 1)
    for point, place in zip(spline.points, places, strict=True):
        point.co = (*place, 1.0)
    spline.use_endpoint_u, spline.order_u, spline.resolution_u = True, 4, 6
    return link(data, "tube")


def sheet(width: float, height: float, cells: int, upright: bool = False) -> bpy.types.Object:
    """A rectangle of `cells` faces a side, lying, or standing along X."""
    build = bmesh.new()
    matrix = Matrix.Diagonal((width, height, 1.0, 1.0))
    if upright:
        matrix = Matrix.Rotation(np.pi / 2, 4, "X") @ matrix
    bmesh.ops.create_grid(build, x_segments=cells, y_segments=cells, size=0.5, matrix=matrix)
    return mesh_object("sheet", build)
