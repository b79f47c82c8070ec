# SPDX-License-Identifier: GPL-3.0-or-later
"""Projecting frames onto moving surfaces: each vertex carries the image coordinates in which the camera saw it.

In each scene frame a mesh's vertices have their image coordinates in the sample that this frame shows, as the attribute
`PROJECTION_ATTRIBUTE` (see `trackshade.results.texture.projection`: X and Y over Z, which are linear over a triangle).
So the image sticks to the surface: between samples, under another camera, and where the scene's animation was changed.

The coordinates come from a point cache with a row for each sample, which a hidden object of bare vertices plays, and a
Geometry Nodes modifier at the end of the mesh's modifier stack copies them over, vertex by vertex. Where the mesh has
other vertices than the tracks (a viewport that subdivides less than renders do), the attribute is zero: nothing is
projected.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from .collection import PLATE_KEY, stored_path, tag
from .drivers import drive_by_frame
from .result_folder import ResultFolder
from .sequence import FrameChoice, Sequence

PROJECTION_ATTRIBUTE = "trackshade_place"
TRACKS_KEY = "trackshade_tracks"  # on the hidden objects
_NAME = "Trackshade Tracks"


@dataclass(frozen=True)
class Projection:
    """Inputs of a material that shows projected frames."""

    choices: list[FrameChoice]  # the sample of each scene frame
    frames: Sequence  # the shaded frames by scene frame, as files
    image: bpy.types.Image  # the same as an image data-block
    depth_frames: Sequence  # for each pixel how far away the surface is that was seen there, by scene frame, as files
    depth_image: bpy.types.Image  # the same as an image data-block
    low: float  # depth key that is 0 in the depth images
    high: float  # depth key that is 1 in the depth images
    orthographic: bool  # whether the shot's camera is orthographic


def attach_tracks(
    obj: bpy.types.Object,
    collection: bpy.types.Collection,
    result: ResultFolder,
    path: Path,
    vertices: int,
    choices: list[FrameChoice],
) -> list[str]:
    """Give an object's vertices their image coordinates in each frame, for which `choices` names the sample.

    They come from a point cache (PC2) with this number of vertices and a row for each sample, which a hidden object in
    the collection plays. Returns a warning where the object has other vertices in the viewport.
    """
    carrier = _make_carrier(f"{result.name} tracks {obj.name}", result, path, vertices)
    collection.objects.link(carrier)
    carrier.hide_viewport = carrier.hide_render = True
    drive_by_frame(carrier.modifiers[_NAME], "eval_frame", {choice.frame: choice.sample for choice in choices})
    modifier = obj.modifiers.new(_NAME, "NODES")
    modifier.node_group = tag(_make_nodes(carrier), result)
    modifier.show_expanded = False
    evaluated = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    count = len(evaluated.data.vertices) if isinstance(evaluated.data, bpy.types.Mesh) else 0
    if count == vertices:
        return []
    return [
        f"'{obj.name}' has {count} vertices in the viewport and {vertices} in the tracks, so it shows the baked "
        "texture there. Where renders have the same as the tracks, they show the projection."
    ]


def detach_tracks(obj: bpy.types.Object) -> None:
    """Remove the modifier, and what it copies from unless a duplicate of the object still uses that."""
    for modifier in [item for item in obj.modifiers if item.type == "NODES"]:
        group: Any = modifier.node_group
        if group is not None and PLATE_KEY in group:
            obj.modifiers.remove(modifier)
            if group.users == 0:
                info = next(node for node in group.nodes if node.bl_idname == "GeometryNodeObjectInfo")
                carrier = info.inputs["Object"].default_value
                bpy.data.node_groups.remove(group)
                if carrier is not None:
                    bpy.data.objects.remove(carrier)


def _make_carrier(name: str, result: ResultFolder, path: Path, vertices: int) -> bpy.types.Object:
    """Make an object of bare vertices whose locations are the image coordinates of each sample."""
    mesh = tag(bpy.data.meshes.new(name), result)
    mesh.vertices.add(vertices)
    carrier = tag(bpy.data.objects.new(name, mesh), result)
    carrier[TRACKS_KEY] = True
    cache: Any = carrier.modifiers.new(_NAME, "MESH_CACHE")
    cache.cache_format, cache.filepath = "PC2", stored_path(path)
    cache.play_mode, cache.time_mode, cache.interpolation = "CUSTOM", "FRAME", "NONE"
    cache.forward_axis, cache.up_axis = "POS_Y", "POS_Z"
    return carrier


def _make_nodes(carrier: bpy.types.Object) -> bpy.types.NodeTree:
    """Make nodes that copy the carrier's points into the attribute, by index, where there are as many."""
    tree: Any = bpy.data.node_groups.new(carrier.name, "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    make, link = tree.nodes.new, tree.links.new
    source, target = make("NodeGroupInput"), make("NodeGroupOutput")
    info = make("GeometryNodeObjectInfo")
    info.transform_space = "ORIGINAL"
    info.inputs["Object"].default_value = carrier
    sample = make("GeometryNodeSampleIndex")
    sample.data_type, sample.domain, sample.clamp = "FLOAT_VECTOR", "POINT", True
    link(info.outputs["Geometry"], sample.inputs["Geometry"])
    link(make("GeometryNodeInputPosition").outputs[0], _socket(sample.inputs, "Value"))
    link(make("GeometryNodeInputIndex").outputs[0], sample.inputs["Index"])
    counts = []
    for geometry in (source.outputs[0], info.outputs["Geometry"]):
        size = make("GeometryNodeAttributeDomainSize")
        size.component = "MESH"
        link(geometry, size.inputs[0])
        counts.append(size.outputs["Point Count"])
    same = make("ShaderNodeMath")
    same.operation, same.inputs[2].default_value = "COMPARE", 0.5
    link(counts[0], same.inputs[0])
    link(counts[1], same.inputs[1])
    scale = make("ShaderNodeVectorMath")
    scale.operation = "SCALE"
    link(_socket(sample.outputs, "Value"), scale.inputs[0])
    link(same.outputs[0], scale.inputs["Scale"])
    store = make("GeometryNodeStoreNamedAttribute")
    store.data_type, store.domain = "FLOAT_VECTOR", "POINT"
    store.inputs["Name"].default_value = PROJECTION_ATTRIBUTE
    link(source.outputs[0], store.inputs["Geometry"])
    link(scale.outputs[0], _socket(store.inputs, "Value"))
    link(store.outputs["Geometry"], target.inputs[0])
    for column, node in enumerate(tree.nodes):
        node.location = (180 * column, 0)
    return tree


def _socket(sockets: Any, name: str) -> bpy.types.NodeSocket:
    """Return the socket of this name that is enabled; older Blenders keep one for each data type."""
    return next(item for item in sockets if item.name == name and item.enabled)
