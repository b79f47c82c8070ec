# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of a lifted scene: surfaces that stand still, and tracked points that move with the footage.

Tracked points are a surface whose vertices have an absolute shape key for each frame, and a Boolean attribute for each
frame that says whether the vertex is hidden then. Both are stored in the .blend file, play without scripts, and survive
edits: vertices can be deleted, masked or smoothed. Of what moves, faces none of whose vertices are seen are shrunk to a
point by a Geometry Nodes modifier, so that the topology stays the same in all frames. What stands still is hidden by
what is in front of it.
"""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

from trackshade.shot.lifted import LiftedMesh

from ..capture.animation import curves
from .material import REST

KIND = "trackshade_lifted"  # on an object: the kind of its lifted mesh
NAME = "trackshade_lifted_name"  # on an object: the name of its lifted mesh
PIVOT = "trackshade_pivot"  # on a mesh: where its origin was in the world
UNSEEN = "unseen_"  # followed by a frame number: name of the attribute of the points that are not seen in that frame


def make_object(lifted: LiftedMesh, first_frame: int, picture_frame: int) -> bpy.types.Object:
    """Make the object of a lifted mesh, with its origin at the mesh's pivot.

    Args:
        lifted: the mesh.
        first_frame: scene frame of the mesh's first sample.
        picture_frame: sample whose picture the mesh shows.
    """
    obj = bpy.data.objects.new(lifted.name, bpy.data.meshes.new(lifted.name))
    obj[KIND], obj[NAME] = lifted.kind, lifted.name
    obj.location = lifted.pivot
    fill_object(obj, lifted, first_frame, picture_frame)
    return obj


def fill_object(obj: bpy.types.Object, lifted: LiftedMesh, first_frame: int, picture_frame: int) -> None:
    """Replace the geometry of an object by that of a lifted mesh, with the origin at its pivot."""
    mesh: Any = obj.data
    still = len(lifted.positions) == 1
    rest = lifted.positions[0 if still else picture_frame]
    if mesh.shape_keys is not None:
        obj.shape_key_clear()
    mesh.clear_geometry()
    _fill_mesh(mesh, rest - lifted.pivot.astype(np.float32), lifted.triangles)
    attribute = mesh.attributes.get(REST) or mesh.attributes.new(REST, "FLOAT_VECTOR", "POINT")
    attribute.data.foreach_set("vector", np.ascontiguousarray(rest).reshape(-1))
    mesh[PIVOT] = lifted.pivot
    if not still:
        _add_motion(obj, lifted.positions - lifted.pivot.astype(np.float32), first_frame)
    if len(lifted.visible):
        _add_visibility(obj, lifted.visible, first_frame, hides=not still)


def _fill_mesh(mesh: Any, vertices: np.ndarray, triangles: np.ndarray) -> None:
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(vertices, np.float32).reshape(-1))
    mesh.loops.add(triangles.size)
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(triangles).reshape(-1))
    mesh.polygons.add(len(triangles))
    mesh.polygons.foreach_set("loop_start", np.arange(0, triangles.size, 3, dtype=np.int32))
    mesh.update(calc_edges=True)


def _add_motion(obj: bpy.types.Object, positions: np.ndarray, first_frame: int) -> None:  # [T, V, 3] from the origin
    """Give each frame a shape key, and play them."""
    mesh: Any = obj.data
    for t, shape in enumerate(positions):
        block = obj.shape_key_add(name=str(first_frame + t), from_mix=False)
        block.data.foreach_set("co", np.ascontiguousarray(shape).reshape(-1))
        block.interpolation = "KEY_LINEAR"
    keys = mesh.shape_keys
    keys.use_relative = False
    ends = (first_frame, keys.key_blocks[0].frame), (first_frame + len(positions) - 1, keys.key_blocks[-1].frame)
    for frame, time in ends:
        keys.eval_time = time
        keys.keyframe_insert("eval_time", frame=frame)
    for curve in curves(keys):
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"


def _add_visibility(
    obj: bpy.types.Object,
    visible: np.ndarray,  # [T or 1, V]
    first_frame: int,
    hides: bool,
) -> None:
    """Store when each vertex is seen, and optionally hide the faces none of whose vertices are."""
    mesh: Any = obj.data
    for t, seen in enumerate(visible):
        attribute = mesh.attributes.new(f"{UNSEEN}{first_frame + t}", "BOOLEAN", "POINT")
        attribute.data.foreach_set("value", np.ascontiguousarray(~seen))
    if not hides:
        return
    modifier: Any = obj.modifiers.get("Visibility") or obj.modifiers.new("Visibility", "NODES")
    modifier.node_group = _visibility_nodes(first_frame, first_frame + len(visible) - 1)
    modifier.show_expanded = False


def _visibility_nodes(first: int, last: int) -> bpy.types.NodeTree:
    """Make nodes that shrink the faces that are not seen in a frame; frames outside the range are its ends."""
    tree: Any = bpy.data.node_groups.new("Trackshade Visibility", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    make, link = tree.nodes.new, tree.links.new
    source, target = make("NodeGroupInput"), make("NodeGroupOutput")
    frame: Any = make("GeometryNodeInputSceneTime").outputs["Frame"]
    for operation, operand in (("ROUND", 0.0), ("MAXIMUM", float(first)), ("MINIMUM", float(last))):
        math = make("ShaderNodeMath")
        math.operation, math.inputs[1].default_value = operation, operand
        link(frame, math.inputs[0])
        frame = math.outputs[0]
    number, prefix, name = (
        make("FunctionNodeValueToString"),
        make("FunctionNodeInputString"),
        make("GeometryNodeStringJoin"),
    )
    prefix.string = UNSEEN
    link(frame, number.inputs[0])
    link(number.outputs[0], name.inputs["Strings"])
    link(prefix.outputs[0], name.inputs["Strings"])  # the latest link comes first
    unseen = make("GeometryNodeInputNamedAttribute")
    unseen.data_type = "BOOLEAN"
    link(name.outputs[0], unseen.inputs["Name"])
    hidden = make("GeometryNodeFieldOnDomain")  # of a face: whether all of its vertices are
    hidden.data_type, hidden.domain = "BOOLEAN", "FACE"
    link(_enabled(unseen.outputs, "Attribute"), _enabled(hidden.inputs, "Value"))
    center = make("GeometryNodeFieldOnDomain")
    center.data_type, center.domain = "FLOAT_VECTOR", "FACE"
    link(make("GeometryNodeInputPosition").outputs[0], _enabled(center.inputs, "Value"))
    split, place = make("GeometryNodeSplitEdges"), make("GeometryNodeSetPosition")
    link(source.outputs[0], split.inputs["Mesh"])
    link(split.outputs[0], place.inputs["Geometry"])
    link(_enabled(hidden.outputs, "Value"), place.inputs["Selection"])
    link(_enabled(center.outputs, "Value"), place.inputs["Position"])
    link(place.outputs[0], target.inputs[0])
    for column, node in enumerate(tree.nodes):
        node.location = (180 * column, 0)
    return tree


def _enabled(sockets: Any, name: str) -> bpy.types.NodeSocket:
    """Return the socket of this name that is enabled; older Blenders keep one for each data type."""
    return next(item for item in sockets if item.name == name and item.enabled)
