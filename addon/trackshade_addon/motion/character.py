# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads rigged characters: the meshes that an armature moves, reduced to what small pictures show."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import bmesh
import bpy
import numpy as np
from mathutils import Matrix, Vector
from mathutils.bvhtree import BVHTree

from trackshade.motion.bone_names import match_bones
from trackshade.motion.characters import Character, make_character

from ..capture.render_state import RenderState
from ..capture.restore import preserve_scene
from .armature import rest_bones
from .surface_colors import MeshPoints, surface_colors

_MAX_TRIANGLES = 1200
_LONGEST_EDGE = 0.04  # of triangles, as a share of the rig's size: each has one color
_ROUNDS = 6  # in which edges are halved
_MAX_LEVEL = 1  # of subdivision: what is finer would be removed again
_INWARD = 0.4  # a triangle's color is the mean of three, which are so far on the way from its corners to its middle


@dataclass(frozen=True, eq=False)
class _Surface:
    """Triangles in the space of an armature; arrays as in `make_character`."""

    vertices: np.ndarray
    weights: np.ndarray
    triangles: np.ndarray
    colors: np.ndarray  # [F, 3] sRGB 0..1
    materials: np.ndarray


def read_character(
    armature: bpy.types.Object, scene: bpy.types.Scene, table: Mapping[str, str] | None = None
) -> tuple[Character, list[str]]:
    """Read what an armature moves, in its rest pose, as renders show it. The scene is left as it was.

    Args:
        armature: the armature.
        scene: its scene.
        table: bone for joints of the skeleton; found by the bones' names if None.

    Returns:
        The character, and sentences about what may look otherwise than expected.

    Raises:
        ShotError: bones are missing that a character needs, or it has no mesh.
    """
    rest = rest_bones(armature)
    table = match_deforming_bones(armature) if table is None else table
    heads = rest.heads
    longest = _LONGEST_EDGE * float(np.ptp(heads, axis=0).max()) if len(heads) else 0.0
    warnings: list[str] = []
    with preserve_scene(scene) as changes:
        view_layer = scene.view_layers[0]
        RenderState(changes, scene, view_layer, warnings.append)
        changes.set(armature.data, "pose_position", "REST")
        moved = list(_moved_objects(armature, view_layer))
        for modifier in (item for obj, _ in moved for item in obj.modifiers):
            if isinstance(modifier, (bpy.types.SubsurfModifier, bpy.types.MultiresModifier)):
                changes.set(modifier, "levels", min(modifier.levels, _MAX_LEVEL))
        view_layer.update()
        depsgraph = view_layer.depsgraph
        depsgraph.update()
        to_rig = armature.matrix_world.inverted_safe()
        parts = [_read_object(obj, bone, armature, depsgraph, to_rig, rest.names, longest) for obj, bone in moved]
    whole = _join([part for part in parts if len(part.triangles)], len(rest.names))
    if len(whole.triangles) > _MAX_TRIANGLES:
        whole = _reduce(whole)
    count = len(whole.triangles)
    if count > 2 * _MAX_TRIANGLES:  # edges of more than two faces are never removed
        warnings.append(f"{armature.name} could not be reduced to fewer than {count} triangles: its clips take longer.")
    made = make_character(
        armature.name, rest, table, whole.vertices, whole.weights, whole.triangles,
        np.rint(255 * np.clip(whole.colors, 0, 1)), whole.materials,
    )  # fmt: skip
    return made, warnings


def match_deforming_bones(armature: bpy.types.Object) -> dict[str, str]:
    """Return the bone of each joint of the skeleton by the bones' names; bones that deform meshes come first."""
    bones = armature.data.bones
    return {**match_bones(bone.name for bone in bones), **match_bones(bone.name for bone in bones if bone.use_deform)}


def _moved_objects(
    armature: bpy.types.Object, view_layer: bpy.types.ViewLayer
) -> Iterator[tuple[bpy.types.Object, str]]:
    """Yield the meshes that an armature moves, and the bone that each hangs on; "" for a skin."""
    for obj in sorted(view_layer.objects, key=lambda item: item.name):
        if obj.type != "MESH" or obj.hide_render or not obj.visible_get(view_layer=view_layer):
            continue
        modifiers = (item for item in obj.modifiers if item.type == "ARMATURE" and item.show_render)
        is_skin = any(item.object == armature for item in modifiers)
        if is_skin or (obj.parent == armature and obj.parent_type == "ARMATURE"):
            yield obj, ""
            continue
        below = obj
        while below.parent is not None and below.parent != armature:
            below = below.parent
        if below.parent == armature and below.parent_type == "BONE":
            yield obj, below.parent_bone


def _read_object(
    obj: bpy.types.Object,
    bone: str,
    armature: bpy.types.Object,
    depsgraph: bpy.types.Depsgraph,
    to_rig: Matrix,
    names: tuple[str, ...],
    longest: float,
) -> _Surface:
    """Read the evaluated mesh of an object; `longest` is the length above which edges are halved."""
    evaluated = obj.evaluated_get(depsgraph)
    mesh = bpy.data.meshes.new("Character")
    try:
        _copy_triangles(evaluated, mesh, to_rig @ evaluated.matrix_world, longest)
        corners = np.empty(len(mesh.loops), np.int32)
        mesh.loops.foreach_get("vertex_index", corners)
        vertices = np.empty(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", vertices)
        materials = np.empty(len(mesh.polygons), np.int32)
        mesh.polygons.foreach_get("material_index", materials)
        weights = np.zeros((len(mesh.vertices), len(names)), np.float32)
        if bone:
            weights[:, names.index(bone)] = 1.0
        else:
            _read_weights(mesh, obj, names, weights)
        slots = [slot.material for slot in evaluated.material_slots] or [None]
        colors = _colors(mesh, evaluated, slots, materials)
    finally:
        bpy.data.meshes.remove(mesh)
    numbers = np.array([0 if item is None else item.original.session_uid for item in slots])
    chosen = numbers[np.minimum(materials, len(slots) - 1)]
    return _Surface(vertices.reshape(-1, 3), weights, corners.reshape(-1, 3), colors, chosen)


def _copy_triangles(obj: bpy.types.Object, mesh: bpy.types.Mesh, matrix: Matrix, longest: float) -> None:
    """Write the triangles of an evaluated object, transformed, to a new mesh; long edges are halved."""
    build = bmesh.new()
    try:
        build.from_mesh(obj.data)
        build.transform(matrix)
        bmesh.ops.triangulate(build, faces=build.faces)
        for _ in range(_ROUNDS if longest > 0 else 0):
            edges = [edge for edge in build.edges if edge.calc_length() > longest]
            if not edges or len(build.faces) + 2 * len(edges) > 2 * _MAX_TRIANGLES:
                break
            bmesh.ops.subdivide_edges(build, edges=edges, cuts=1)
            bmesh.ops.triangulate(build, faces=[face for face in build.faces if len(face.verts) > 3])
        build.to_mesh(mesh)
    finally:
        build.free()


def _read_weights(mesh: bpy.types.Mesh, obj: bpy.types.Object, names: tuple[str, ...], weights: np.ndarray) -> None:
    index = {name: number for number, name in enumerate(names)}
    bones = [index.get(group.name, -1) for group in obj.vertex_groups]
    for vertex, row in zip(mesh.vertices, weights, strict=True):
        for item in vertex.groups:
            if 0 <= item.group < len(bones) and bones[item.group] >= 0:
                row[bones[item.group]] = max(0.0, item.weight)


def _colors(
    mesh: bpy.types.Mesh,
    obj: bpy.types.Object,
    slots: list[bpy.types.Material | None],
    materials: np.ndarray,
) -> np.ndarray:
    """Return the colors of triangles, [F, 3] sRGB."""
    points = _corner_points(mesh)
    result = np.empty((len(mesh.loops), 3))
    owner = np.repeat(np.minimum(materials, len(slots) - 1), 3)
    for slot, material in enumerate(slots):
        chosen = np.flatnonzero(owner == slot)
        if len(chosen):
            result[chosen] = surface_colors(material, obj, points.take(chosen), len(chosen))
    return result.reshape(-1, 3, 3).mean(axis=1)


def _corner_points(mesh: bpy.types.Mesh) -> MeshPoints:
    """Return UVs and stored colors near the corners of triangles."""

    def inward(values: np.ndarray) -> np.ndarray:
        triples = values.reshape(-1, 3, values.shape[-1])
        return (triples + _INWARD * (triples.mean(axis=1, keepdims=True) - triples)).reshape(values.shape)

    uvs: dict[str | None, np.ndarray] = {}
    for layer in mesh.uv_layers:
        values = np.empty(2 * len(mesh.loops), np.float32)
        layer.uv.foreach_get("vector", values)
        uvs[layer.name] = inward(values.reshape(-1, 2))
        if layer.active_render:
            uvs[None] = uvs[layer.name]
    colors: dict[str | None, np.ndarray] = {}
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    for number, layer in enumerate(mesh.color_attributes):
        values = np.empty(4 * len(layer.data), np.float32)
        layer.data.foreach_get("color", values)
        values = values.reshape(-1, 4)[:, :3]
        colors[layer.name] = inward(values[corners] if layer.domain == "POINT" else values)
        if number == mesh.color_attributes.render_color_index:
            colors[None] = colors[layer.name]
    return MeshPoints(uvs, colors)


def _join(parts: list[_Surface], num_bones: int) -> _Surface:
    """Return the surfaces of all objects as one; materials are numbered from 0."""
    if not parts:
        empty = np.zeros((0, 3))
        return _Surface(empty, np.zeros((0, num_bones)), empty.astype(int), empty, np.zeros(0, int))
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    materials = np.concatenate([part.materials for part in parts])
    return _Surface(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.triangles + start for part, start in zip(parts, starts, strict=True)]),
        np.concatenate([part.colors for part in parts]),
        np.unique(materials, return_inverse=True)[1].reshape(-1),
    )


def _reduce(surface: _Surface) -> _Surface:
    """Return a surface of at most `_MAX_TRIANGLES`; weights and colors are those of the nearest places."""
    triangles = _decimate(surface)
    tree = BVHTree.FromPolygons(surface.vertices.tolist(), surface.triangles.tolist())
    vertices, index = np.unique(triangles.reshape(-1, 3).round(7), axis=0, return_inverse=True)
    index = index.reshape(-1, 3)
    faces, shares = _nearest(tree, surface, vertices)
    weights = np.einsum("vc,vcb->vb", shares, surface.weights[surface.triangles[faces]])
    places = [triangles + share * (triangles.mean(axis=1, keepdims=True) - triangles) for share in (_INWARD, 1.0)]
    inside = np.concatenate([places[0], places[1][:, :1]], axis=1)
    faces = _nearest(tree, surface, inside.reshape(-1, 3))[0].reshape(-1, 4)
    return _Surface(vertices, weights, index, surface.colors[faces].mean(axis=1), surface.materials[faces[:, 3]])


def _decimate(surface: _Surface) -> np.ndarray:
    """Return the corners of a simpler surface, [F, 3, 3].

    Vertices in one place that move alike are one: files may have a vertex for each face there.
    """
    digits = 6 - math.ceil(math.log10(max(1e-6, np.ptp(surface.vertices))))
    alike = np.concatenate([surface.vertices.round(digits), surface.weights.round(3)], axis=1)
    _, first, index = np.unique(alike, axis=0, return_index=True, return_inverse=True)
    mesh = bpy.data.meshes.new("Character")
    obj = bpy.data.objects.new("Character", mesh)
    scene = bpy.data.scenes.new("Character")
    try:
        mesh.from_pydata(surface.vertices[first].tolist(), [], index.reshape(-1)[surface.triangles].tolist())
        mesh.validate()  # triangles without area are left out
        scene.collection.objects.link(obj)
        modifier = obj.modifiers.new("Decimate", "DECIMATE")
        modifier.ratio = _MAX_TRIANGLES / len(surface.triangles)
        modifier.use_collapse_triangulate = True
        scene.view_layers[0].update()
        depsgraph = scene.view_layers[0].depsgraph
        depsgraph.update()
        simple = obj.evaluated_get(depsgraph).data
        simple.calc_loop_triangles()
        corners = np.empty(3 * len(simple.loop_triangles), np.int32)
        simple.loop_triangles.foreach_get("vertices", corners)
        vertices = np.empty(3 * len(simple.vertices), np.float32)
        simple.vertices.foreach_get("co", vertices)
        return vertices.reshape(-1, 3)[corners.reshape(-1, 3)]
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(obj)
        bpy.data.meshes.remove(mesh)


def _nearest(tree: BVHTree, surface: _Surface, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the triangles nearest to points [N, 3], and the shares [N, 3] of their corners there."""
    found = [tree.find_nearest(Vector(point)) for point in points.tolist()]
    faces = np.array([face or 0 for _, _, face, _ in found])
    places = np.array([point if place is None else tuple(place)
                       for point, (place, *_) in zip(points.tolist(), found, strict=True)])  # fmt: skip
    corners = surface.vertices[surface.triangles[faces]]
    return faces, _barycentric(corners, places)


def _barycentric(corners: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the shares [N, 3] of the corners [N, 3, 3] of triangles at places in them."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = places - corners[:, 0]
    aa, ab, bb, pa, pb = ((x * y).sum(axis=1) for x, y in ((a, a), (a, b), (b, b), (p, a), (p, b)))
    scale = np.maximum(aa * bb - ab * ab, 1e-20)
    second, third = (bb * pa - ab * pb) / scale, (aa * pb - ab * pa) / scale
    shares = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, 1)
    return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
