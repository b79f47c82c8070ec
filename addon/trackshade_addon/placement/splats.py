# SPDX-License-Identifier: GPL-3.0-or-later
"""Places Gaussian splats in a scene: as a point cloud of splats in Blender 5.3, as colored points in older versions.

A USD file is played by Blender itself, by a cache modifier; numbered PLY files are played by a modifier with geometry
nodes (see `splat_sequence`). Versions before 5.3 show points as large as the splats are wide. Nothing of the scene is
changed but the collection "Trackshade".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from trackshade.core.colors import srgb_to_linear
from trackshade.core.errors import UsageError

from .collection import PLATE_KEY, make_collection, remove_empty_collections, stored_path
from .splat_files import USD_SUFFIXES, Splats, read_splats
from .splat_sequence import SplatSequence, add_player, can_play, find_sequence

SPLATS_SINCE = (5, 3, 0)  # Blender version
_POINT_MATERIAL = "Splat Colors"


@dataclass(frozen=True)
class PlacedSplats:
    """What placing splats has added to a scene."""

    object: str  # name of the object
    count: int  # number of splats
    warnings: tuple[str, ...]


def has_splats() -> bool:
    """Return whether this version of Blender renders Gaussian splats."""
    return bpy.app.version >= SPLATS_SINCE


def place_splats(path: Path, scene: bpy.types.Scene) -> PlacedSplats:
    """Add the splats of a file to a scene, instead of earlier ones of the same file.

    Args:
        path: a USD file with the splats of all frames, or a PLY file of one frame; numbered ones are placed together.
        scene: the scene.

    Raises:
        UsageError: the file is missing or damaged, or holds no splats.
    """
    path = path.absolute()
    sequence = find_sequence(path) if path.suffix.lower() not in USD_SUFFIXES and can_play() else None
    path = path if sequence is None else sequence.files[0]
    splats = read_splats(path, scene.frame_current)
    remove_splats(scene, path)
    collection = make_collection(scene, path.stem if sequence is None else path.parent.name, str(path))
    is_played = sequence is not None or (has_splats() and path.suffix.lower() in USD_SUFFIXES)
    if sequence is not None:
        obj = _play_sequence(sequence, collection)
    elif is_played:
        obj = _import_usd(path, scene, collection)
    elif has_splats():
        obj = _add_object(path, collection, _splat_cloud(path.stem, splats))
    else:
        obj = _add_points(path, collection, splats)
    return PlacedSplats(obj.name, len(splats.position), tuple(_warnings(path, scene, is_played)))


def remove_splats(scene: bpy.types.Scene, path: Path) -> None:
    """Remove the splats of a file from a scene."""
    for obj in [obj for obj in scene.objects if obj.get(PLATE_KEY) == str(path)]:
        data = obj.data
        bpy.data.objects.remove(obj)
        if data is not None and data.users == 0:
            (bpy.data.meshes if isinstance(data, bpy.types.Mesh) else bpy.data.pointclouds).remove(data)
    for blocks in (bpy.data.node_groups, bpy.data.materials):
        for block in [item for item in blocks if item.users == 0 and item.get(PLATE_KEY) == str(path)]:
            blocks.remove(block)
    remove_empty_collections(scene)


def _warnings(path: Path, scene: bpy.types.Scene, is_played: bool) -> list[str]:
    found = []
    version = ".".join(map(str, SPLATS_SINCE[:2]))
    if not has_splats():
        shown = "they were" if is_played else f"frame {scene.frame_current} was"
        found.append(
            f"Blender {bpy.app.version_string} does not draw Gaussian splats, which Blender {version} does: {shown} "
            "placed as colored points."
        )
    elif not is_played:
        found.append(f"{path.name} holds one frame. Splats of all frames are in a USD file.")
    transform = scene.view_settings.view_transform
    if transform != "Standard":
        found.append(f"Splats have the colors that the view transform Standard shows; {transform} changes them.")
    return found


def _add_object(path: Path, collection: bpy.types.Collection, data: bpy.types.ID) -> bpy.types.Object:
    data[PLATE_KEY] = str(path)
    obj = bpy.data.objects.new(path.stem, data)
    obj[PLATE_KEY] = str(path)
    collection.objects.link(obj)
    return obj


def _play_sequence(sequence: SplatSequence, collection: bpy.types.Collection) -> bpy.types.Object:
    first = sequence.files[0]
    obj = _add_object(first, collection, bpy.data.meshes.new(first.parent.name))
    obj.name = first.parent.name
    material = None if has_splats() else _point_material(first)
    try:
        bpy.data.node_groups[add_player(obj, sequence, material)][PLATE_KEY] = str(first)
    except UsageError:
        remove_splats(bpy.context.scene, first)
        raise
    return obj


def _splat_cloud(name: str, splats: Splats) -> bpy.types.PointCloud:
    """Return a point cloud of Gaussian splats, with the attributes that Blender 5.3 names so."""
    cloud = bpy.data.pointclouds.new(name)
    cloud.resize(len(splats.position))
    cloud.type = "GAUSSIAN_SPLAT"
    parts = (
        ("position", "FLOAT_VECTOR", "vector", splats.position),
        ("radiance:base", "FLOAT4", "vector", np.column_stack([splats.radiance, splats.opacity])),
        ("scale", "FLOAT_VECTOR", "vector", splats.scale),
        ("rotation", "QUATERNION", "value", splats.rotation),
    )
    for attribute, kind, key, values in parts:
        layer = cloud.attributes.get(attribute) or cloud.attributes.new(attribute, kind, "POINT")
        layer.data.foreach_set(key, np.ascontiguousarray(values, np.float32).ravel())
    cloud.update_tag()
    return cloud


def _import_usd(path: Path, scene: bpy.types.Scene, collection: bpy.types.Collection) -> bpy.types.Object:
    """Import a USD file by Blender's importer, and move what it makes into a collection."""
    before, caches = set(bpy.data.objects), set(bpy.data.cache_files)
    chosen = [obj for obj in bpy.context.view_layer.objects if obj.select_get()]
    active = bpy.context.view_layer.objects.active
    bpy.ops.wm.usd_import(
        filepath=str(path), set_frame_range=False, create_collection=False, import_cameras=False, import_lights=False,
        import_materials=False, create_world_material=False, import_points=True,
    )  # fmt: skip
    made = [obj for obj in bpy.data.objects if obj not in before]
    for obj in made:
        for owner in list(obj.users_collection):
            owner.objects.unlink(obj)
        collection.objects.link(obj)
        obj[PLATE_KEY] = str(path)
        obj.select_set(False)
    for obj in chosen:
        obj.select_set(True)
    bpy.context.view_layer.objects.active = active
    for cache in set(bpy.data.cache_files) - caches:
        cache.filepath = stored_path(path)
    cloud = next((obj for obj in made if isinstance(obj.data, bpy.types.PointCloud)), None)
    if cloud is None:
        raise UsageError("no-splats", f"Blender found no splats in {path}.", "Export the splats again.")
    cloud.name = path.stem
    return cloud


def _add_points(path: Path, collection: bpy.types.Collection, splats: Splats) -> bpy.types.Object:
    """Add loose vertices with a color and a radius each, which a modifier shows as points."""
    mesh = bpy.data.meshes.new(path.stem)
    mesh.vertices.add(len(splats.position))
    mesh.attributes["position"].data.foreach_set("vector", splats.position.ravel())
    color = np.ones((len(splats.position), 4), np.float32)
    color[:, :3] = srgb_to_linear(np.clip(splats.color, 0, 1))
    mesh.attributes.new("Color", "FLOAT_COLOR", "POINT").data.foreach_set("color", color.ravel())
    mesh.attributes.new("radius", "FLOAT", "POINT").data.foreach_set(
        "value", np.ascontiguousarray(splats.scale[:, :2].max(axis=1))
    )
    obj = _add_object(path, collection, mesh)
    obj.modifiers.new("Points", "NODES").node_group = _points_group(path)
    return obj


def _points_group(path: Path) -> bpy.types.GeometryNodeTree:
    group = bpy.data.node_groups.new("Splat Points", "GeometryNodeTree")
    group[PLATE_KEY] = str(path)
    group.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    nodes, links = group.nodes, group.links
    source, target = nodes.new("NodeGroupInput"), nodes.new("NodeGroupOutput")
    points, radius = nodes.new("GeometryNodeMeshToPoints"), nodes.new("GeometryNodeInputNamedAttribute")
    material = nodes.new("GeometryNodeSetMaterial")
    radius.data_type = "FLOAT"
    radius.inputs["Name"].default_value = "radius"
    material.inputs["Material"].default_value = _point_material(path)
    links.new(source.outputs[0], points.inputs["Mesh"])
    links.new(next(item for item in radius.outputs if item.enabled), points.inputs["Radius"])
    links.new(points.outputs[0], material.inputs["Geometry"])
    links.new(material.outputs[0], target.inputs[0])
    return group


def _point_material(path: Path) -> bpy.types.Material:
    material = bpy.data.materials.new(_POINT_MATERIAL)
    material[PLATE_KEY] = str(path)
    material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    color, shine = tree.nodes.new("ShaderNodeAttribute"), tree.nodes.new("ShaderNodeEmission")
    output = tree.nodes.new("ShaderNodeOutputMaterial")
    color.attribute_name = "Color"
    tree.links.new(color.outputs["Color"], shine.inputs["Color"])
    tree.links.new(shine.outputs["Emission"], output.inputs["Surface"])
    return material
