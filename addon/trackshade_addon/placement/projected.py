# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each point of a mesh was in the picture, carried along by the mesh itself, whatever it does now.

In each scene frame a mesh's vertices know their picture coordinates in the sample that this frame shows, as the
attribute `PLACE` (see `trackshade.results.texture.projection`: X and Y over Z, which are linear over a triangle). So
the picture sticks to the surface: between samples, under another camera, and where the scene's animation was changed.

They come from a point cache with a row for each sample, which a hidden object of bare vertices plays, and a Geometry
Nodes modifier at the end of the mesh's own stack copies them over, vertex by vertex. Where the mesh has other
vertices than the tracks (a viewport that subdivides less than renders do), the attribute is zero: nothing is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from .collection import PLATE_KEY, stored_path, tag
from .record import Result
from .sequence import FrameChoice, Sequence
from .timing import follow_frames

PLACE = "trackshade_place"  # attribute
TRACKS_KEY = "trackshade_tracks"  # on the hidden objects
_NAME = "Trackshade Tracks"


@dataclass(frozen=True)
class Projection:
    """What a projected material is made of.

    Attributes:
        choices: the sample of each scene frame.
        frames, picture: the shaded frames by scene frame, as files and as an image.
        reach_frames, reach: the same of how far in each pixel is known.
        low, high: keys that are 0 and 1 there.
        orthographic: of the shot's camera.
    """

    choices: list[FrameChoice]
    frames: Sequence
    picture: bpy.types.Image
    reach_frames: Sequence
    reach: bpy.types.Image
    low: float
    high: float
    orthographic: bool


def carry_tracks(
    obj: bpy.types.Object,
    home: bpy.types.Collection,
    result: Result,
    path: Path,
    vertices: int,
    projection: Projection,
) -> list[str]:
    """Gives an object its picture coordinates, from the point cache at `path`; sentences about where it lacks them."""
    carrier = _carrier(f"{result.name} tracks {obj.name}", result, path, vertices)
    home.objects.link(carrier)
    carrier.hide_viewport = carrier.hide_render = True
    follow_frames(
        carrier.modifiers[_NAME], "eval_frame", {choice.frame: choice.sample for choice in projection.choices}
    )
    modifier = obj.modifiers.new(_NAME, "NODES")
    modifier.node_group = tag(_nodes(carrier), result)
    modifier.show_expanded = False
    view = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    count = len(view.data.vertices) if isinstance(view.data, bpy.types.Mesh) else 0
    if count != vertices:
        return [
            f"'{obj.name}' has {count} vertices in the viewport and {vertices} in the tracks, so it shows the baked "
            "texture there. Where renders have the same as the tracks, they show the projection."
        ]
    return []


def drop_tracks(obj: bpy.types.Object) -> None:
    """Takes the modifier off, and removes what it copied from, unless a duplicate of the object goes on using it."""
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


def _carrier(name: str, result: Result, path: Path, vertices: int) -> bpy.types.Object:
    """An object of bare vertices that lie, in each sample, at the picture coordinates."""
    mesh = tag(bpy.data.meshes.new(name), result)
    mesh.vertices.add(vertices)
    carrier = tag(bpy.data.objects.new(name, mesh), result)
    carrier[TRACKS_KEY] = True
    cache: Any = carrier.modifiers.new(_NAME, "MESH_CACHE")
    cache.cache_format, cache.filepath = "PC2", stored_path(path)
    cache.play_mode, cache.time_mode, cache.interpolation = "CUSTOM", "FRAME", "NONE"
    cache.forward_axis, cache.up_axis = "POS_Y", "POS_Z"
    return carrier


def _nodes(carrier: bpy.types.Object) -> bpy.types.NodeTree:
    """Copies the carrier's points into the attribute, by index, where there are as many."""
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
    store.inputs["Name"].default_value = PLACE
    link(source.outputs[0], store.inputs["Geometry"])
    link(scale.outputs[0], _socket(store.inputs, "Value"))
    link(store.outputs["Geometry"], target.inputs[0])
    for column, node in enumerate(tree.nodes):
        node.location = (180 * column, 0)
    return tree


def _socket(sockets: Any, name: str) -> bpy.types.NodeSocket:
    """The socket of this name that the node's data type shows; older Blenders keep one for each type."""
    return next(item for item in sockets if item.name == name and item.enabled)
