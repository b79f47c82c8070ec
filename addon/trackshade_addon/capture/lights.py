# SPDX-License-Identifier: GPL-3.0-or-later
"""What lights a shot, as a digest: clay renders are kept by it, and are left out where nothing moves in the light.

The shot itself holds what is in view. The digest is of the rest that decides about the light on it: lamps, the world,
and materials, each as it is evaluated in every sample, so that drivers and all kinds of animation are covered.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np

from .animation import has_frame_scripts

# Properties that do not change what is rendered.
_IGNORED = {
    *("rna_type", "id_data", "animation_data", "preview", "asset_data", "session_uid", "tag", "inputs", "outputs"),
    *("location_absolute", "location", "width", "height", "width_hidden", "select", "parent", "internal_links"),
    *("show_options", "show_preview", "show_texture", "color", "use_custom_color", "label", "hide", "frame_current"),
    *("is_active_output", "view_center", "nodes", "links", "interface", "diffuse_color", "warning_propagation"),
}
PICTURE = "trackshade_picture"  # on a material that shows a photo by emission
_LIGHT_COLOR = "color"  # which nodes have as well, for their frames
_RAYS = ("visible_camera", "visible_diffuse", "visible_glossy", "visible_transmission", "visible_shadow", "hide_render")
_CASTERS = {"CURVES", "POINTCLOUD", "VOLUME"}  # cast shadows, and are not part of a shot


class LightReader:
    """Reads what lights a view layer, one sample after another.

    Attributes:
        is_lit: whether there is a lamp or a world that gives light, or a material that may.
        is_complete: whether the digest covers everything that casts shadows.
    """

    def __init__(self) -> None:
        self.is_lit = False
        self.is_complete = True
        self._digests: list[bytes] = []  # by sample
        self._switches: list[str] = []  # of objects, in the first sample; they are rarely animated
        self._static: dict[int, bytes] = {}  # digests of data that is not animated, by session uid

    def add_sample(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Reads the next sample."""
        parts: list[bytes] = []
        for item in depsgraph.ids:
            if isinstance(item, bpy.types.Object):
                if not self._digests:
                    self._read_switches(item)
                parts += self._read_object(item)
            elif isinstance(item, bpy.types.Light):
                self.is_lit |= bool(item.energy)
                parts.append(self._read_data(item))
            elif isinstance(item, bpy.types.World):
                self.is_lit |= _has_background(item)
                parts.append(self._read_data(item))
            elif isinstance(item, bpy.types.Material):
                self.is_lit |= emits(item)
                parts.append(self._read_data(item))
        self._digests.append(hashlib.blake2b(b"".join(sorted(parts)), digest_size=16).digest())

    def to_dict(self) -> dict[str, Any]:
        """Returns what a shot records in its `source`: "digest", "varies", "lit", "complete"."""
        switches = (text.encode() for text in sorted(self._switches))
        return {
            "digest": hashlib.blake2b(b"".join([*self._digests, *switches]), digest_size=16).hexdigest(),
            "varies": len(set(self._digests)) > 1,
            "lit": self.is_lit,
            "complete": self.is_complete,
        }

    def _read_object(self, obj: bpy.types.Object) -> Iterator[bytes]:
        if obj.type == "LIGHT" or obj.instance_type != "NONE":
            yield repr((obj.name, obj.data and obj.data.name)).encode() + np.array(obj.matrix_world).tobytes()
        elif not obj.hide_render and (obj.type in _CASTERS or obj.particle_systems or not obj.visible_camera):
            self.is_complete = False

    def _read_switches(self, obj: bpy.types.Object) -> None:
        """Notes which rays see an object, and its materials."""
        slots = [slot.material and slot.material.name_full for slot in obj.material_slots]
        self._switches.append(repr((obj.name, [getattr(obj, name) for name in _RAYS], slots)))

    def _read_data(self, item: bpy.types.ID) -> bytes:
        original = item.original
        uid = original.session_uid
        if uid not in self._static:
            text = "\n".join(self._describe(item, set()))
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if has_frame_scripts() or _is_animated(original):
                return digest
            self._static[uid] = digest
        return self._static[uid]

    def _describe(self, item: Any, seen: set[int]) -> Iterator[str]:
        """Yields the values of a data-block, a node or another structure, and of what it owns."""
        address = item.as_pointer()
        if address in seen:
            return
        seen.add(address)
        yield f"<{type(item).__name__}>"
        for prop in item.bl_rna.properties:
            name = prop.identifier
            if name in _IGNORED and not (name == _LIGHT_COLOR and isinstance(item, bpy.types.Light | bpy.types.World)):
                continue
            is_structure = prop.type in ("POINTER", "COLLECTION")
            if prop.is_readonly and not is_structure:
                continue
            value = getattr(item, name, None)
            if prop.type == "COLLECTION":
                for entry in value or ():
                    yield name
                    yield from self._describe_value(entry, seen)
            elif is_structure:
                yield name
                yield from self._describe_value(value, seen)
            else:
                is_array = getattr(prop, "is_array", False)
                yield f"{name}={tuple(value) if is_array and value is not None else value!r}"
        if isinstance(item, bpy.types.NodeTree):
            yield from self._describe_tree(item, seen)

    def _describe_value(self, value: Any, seen: set[int]) -> Iterator[str]:
        if isinstance(value, bpy.types.NodeTree):
            yield from self._describe(value, seen)
        elif isinstance(value, bpy.types.Image):
            yield from self._describe_image(value)
        elif isinstance(value, bpy.types.ID):
            yield value.name_full
        elif value is not None and not isinstance(value, bpy.types.Node | bpy.types.NodeSocket):
            yield from self._describe(value, seen)

    def _describe_tree(self, tree: bpy.types.NodeTree, seen: set[int]) -> Iterator[str]:
        for node in tree.nodes:
            yield from self._describe(node, seen)
            for socket in node.inputs:
                value = getattr(socket, "default_value", None)
                yield f"{socket.identifier}={_plain(value)}"
            for socket in node.outputs:  # of nodes that hold a value
                if node.type in ("VALUE", "RGB", "NORMAL"):
                    yield f"{_plain(getattr(socket, 'default_value', None))}"
        for link in tree.links:
            yield repr((link.from_node.name, link.from_socket.identifier, link.to_node.name, link.to_socket.identifier))

    def _describe_image(self, image: bpy.types.Image) -> Iterator[str]:
        self.is_complete &= not image.is_dirty
        path = bpy.path.abspath(image.filepath, library=image.library)
        try:
            status = os.stat(path)
            changed = status.st_mtime_ns, status.st_size
        except OSError:
            changed = None
        packed = None if image.packed_file is None else image.packed_file.size
        yield repr((image.name_full, path, changed, packed, tuple(image.size), image.colorspace_settings.name))


def emits(material: bpy.types.Material) -> bool:
    """Whether a material may give light, by its nodes. One that shows a photo does not: it emits the photo's colors."""
    return PICTURE not in material and any(node_emits(node) for tree in trees_of(material) for node in tree.nodes)


def node_emits(node: bpy.types.Node) -> bool:
    """Whether a shader node may give light: an emission, or a Principled BSDF with some."""
    if node.type not in ("EMISSION", "BSDF_PRINCIPLED", "EEVEE_SPECULAR"):
        return False
    if not any(output.is_linked for output in node.outputs):
        return False
    strength = node.inputs.get("Strength" if node.type == "EMISSION" else "Emission Strength")
    color = node.inputs.get("Color") or node.inputs.get("Emission Color") or node.inputs.get("Emissive Color")
    is_strong = strength is None or strength.is_linked or strength.default_value > 0
    return is_strong and (color is None or color.is_linked or any(color.default_value[:3]))


def trees_of(owner: bpy.types.ID) -> Iterator[bpy.types.NodeTree]:
    """Yields the node tree of a material, world or light, and the groups in it, each once."""
    waiting = [owner.node_tree] if getattr(owner, "node_tree", None) is not None else []
    known = set()
    while waiting:
        tree = waiting.pop()
        if tree.as_pointer() in known:
            continue
        known.add(tree.as_pointer())
        yield tree
        waiting += [node.node_tree for node in tree.nodes if getattr(node, "node_tree", None) is not None]


def _has_background(world: bpy.types.World) -> bool:
    if world.node_tree is None or not getattr(world, "use_nodes", True):
        return any(world.color)
    for node in world.node_tree.nodes:
        if node.type == "BACKGROUND":
            color, strength = node.inputs["Color"], node.inputs["Strength"]
            if (strength.is_linked or strength.default_value) and (color.is_linked or any(color.default_value[:3])):
                return True
    return False


def _is_animated(owner: bpy.types.ID) -> bool:
    return owner.animation_data is not None or any(tree.animation_data is not None for tree in trees_of(owner))


def _plain(value: Any) -> Any:
    """Returns the value of a socket as numbers or text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.name_full if isinstance(value, bpy.types.ID) else tuple(value)
