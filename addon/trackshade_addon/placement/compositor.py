# SPDX-License-Identifier: GPL-3.0-or-later
"""Results in the compositor: laid over the image just before the output, in the frames that they have.

Nodes are only added, between the output and what fed it; removing them joins the two again, whatever else was changed
meanwhile. Up to Blender 4.5 a scene has an embedded node tree with a Composite node; from 5.0 on it uses a node group,
whose Group Output is the image; from 5.3 on it has several, one after the other, as effects, and ours is the last.
"""

from __future__ import annotations

from typing import Any

import bpy

from trackshade.core.errors import ShotError

from ..capture.render_guard import OVERLAY_KEY, compositor_trees
from .collection import PLATE_KEY
from .drivers import clear_empty_animation, drive, drive_by_frame
from .result_folder import ResultFolder
from .sequence import Sequence, play

_HAS_GROUPS = bpy.app.version >= (5, 0)
_HAS_EFFECTS = "compositor_effects" in bpy.types.Scene.bl_rna.properties
_MADE = "trackshade_made"  # on a tree: it was made, or switched on, for a result
_SHIFTED = "trackshade_shifted"  # on that node: the name of the output node, which was moved to make room for it
_ROOM = 60


def add_to_compositor(
    scene: bpy.types.Scene, result: ResultFolder, image: bpy.types.Image, sequence: Sequence
) -> list[str]:
    """Lay a result's images over the scene's composited image; return warnings about what keeps it from being seen.

    Raises:
        ShotError: The scene's node tree is linked from another file.
    """
    tree = _open_tree(scene)
    output = _find_output(tree, result)
    source = output.inputs[0].links[0].from_socket if output.inputs[0].is_linked else None

    def make(kind: str, column: int) -> Any:
        node = tree.nodes.new(kind)
        node[PLATE_KEY] = str(result.folder)
        node.location = (output.location.x - 190 * column, output.location.y - (250 if column > 1 else 0))
        return node

    frames = make("CompositorNodeImage", 4)
    frames.image, frames.label = image, result.name
    play(frames, sequence)
    exposure = make("CompositorNodeExposure", 3)
    scale = make("CompositorNodeScale", 2)
    _fit_to_render(scale, "Crop" if result.fit.mode == "pad" else "Fit")
    over = make("CompositorNodeAlphaOver", 1)
    over[OVERLAY_KEY] = True
    factor, below, above = _over_inputs(over)
    output.location.x += _ROOM
    over[_SHIFTED] = output.name
    if source is None:
        layers = make("CompositorNodeRLayers", 5)
        layers.scene = scene
        layers.location.y = output.location.y
        source = layers.outputs["Image"]
    link = tree.links.new
    link(frames.outputs["Image"], exposure.inputs["Image"])
    link(exposure.outputs[0], scale.inputs["Image"])
    link(scale.outputs[0], above)
    link(source, below)
    link(over.outputs[0], output.inputs[0])
    stops = {"stops": ("SCENE", scene, "view_settings.exposure")}
    drive(exposure.inputs["Exposure"], "default_value", "-stops", stops)
    drive_by_frame(factor, "default_value", {sequence.start - 1: 0, sequence.start: 1, sequence.end + 1: 0})
    warnings = []
    if others := [other.name for other in bpy.data.scenes if other != scene and tree in compositor_trees(other)]:
        named = ", ".join(f"'{name}'" for name in others)
        warnings.append(f"Scene {named} is composited by the same nodes, and shows the result too.")
    if not scene.render.use_compositing:
        warnings.append("Compositing is switched off in the scene's output properties (Post Processing).")
    return warnings


def remove_from_compositor(scene: bpy.types.Scene, tag: str | None = None) -> int:
    """Remove results, all or the one of this folder, from the compositor and return how many there were."""
    return sum(_remove(scene, tree, tag) for tree in compositor_trees(scene))


def _remove(scene: bpy.types.Scene, tree: Any, tag: str | None) -> int:
    nodes = [node for node in tree.nodes if PLATE_KEY in node and tag in (None, node[PLATE_KEY])]
    overs = [node for node in nodes if OVERLAY_KEY in node]
    for node in overs:
        below = _over_inputs(node)[1]
        source = below.links[0].from_socket if below.is_linked else None
        for link in list(node.outputs[0].links):
            target = link.to_socket
            tree.links.remove(link)
            if source is not None and (source.node not in nodes or OVERLAY_KEY in source.node):
                tree.links.new(source, target)
        output = tree.nodes.get(node.get(_SHIFTED, ""))
        if output is not None:
            output.location.x -= _ROOM
    for node in nodes:
        for socket in node.inputs:
            if hasattr(socket, "default_value"):
                socket.driver_remove("default_value")
        tree.nodes.remove(node)
    clear_empty_animation(tree)
    if tree.get(_MADE) and not any(PLATE_KEY in node for node in tree.nodes):
        _close_tree(scene, tree)
    return len(overs)


def _open_tree(scene: bpy.types.Scene) -> Any:
    """Return the tree to add nodes to; it is made, or switched on, where there is none."""
    if _HAS_EFFECTS:
        return next((tree for tree in compositor_trees(scene) if _MADE in tree), None) or _add_effect(scene)
    tree = next(iter(compositor_trees(scene)), None)
    if tree is not None and tree.library is not None:
        raise ShotError(
            "linked-compositor",
            f"The compositor's nodes of scene '{scene.name}' are linked from another file.",
            "Make them local, or place the result in another way.",
        )
    if _HAS_GROUPS:
        if tree is None:
            tree = scene.compositing_node_group = _new_group()
    elif not scene.use_nodes:
        tree = _switch_on(scene)
        tree[_MADE] = True
    return tree


def _switch_on(scene: Any) -> Any:
    """Switch on the scene's embedded tree.

    A new tree has Blender's default nodes except the viewer: the image that comes with it would stay in the file.
    """
    bare, known = scene.node_tree is None, set(bpy.data.images)
    scene.use_nodes = True
    tree = scene.node_tree
    if bare:
        for viewer in [node for node in tree.nodes if node.bl_idname == "CompositorNodeViewer"]:
            tree.nodes.remove(viewer)
        for image in set(bpy.data.images) - known:
            bpy.data.images.remove(image)
    return tree


def _new_group() -> Any:
    tree: Any = bpy.data.node_groups.new("Trackshade Compositing", "CompositorNodeTree")
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    tree[_MADE] = True
    return tree


def _add_effect(scene: Any) -> Any:
    """Add a last effect, which lets the image through, and leave the active effect as it is."""
    effects = scene.compositor_effects
    active = next((effect for effect in effects if effect.is_active), None)
    tree = effects.new("Trackshade").node_group = _new_group()
    tree.interface.new_socket("Image", in_out="INPUT", socket_type="NodeSocketColor")
    source, output = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    source.location.x = -950
    tree.links.new(source.outputs[0], output.inputs[0])
    if active is not None:
        effects.active = active
    return tree


def _close_tree(scene: Any, tree: Any) -> None:
    """Remove a tree that was made, or switch it off again, unless an artist has added nodes to it."""
    del tree[_MADE]
    if _HAS_EFFECTS:
        if {node.bl_idname for node in tree.nodes} <= {"NodeGroupInput", "NodeGroupOutput"} and tree.users == 1:
            scene.compositor_effects.remove(next(item for item in scene.compositor_effects if item.node_group == tree))
            bpy.data.node_groups.remove(tree)
    elif not _HAS_GROUPS:
        scene.use_nodes = False
    elif not tree.nodes and tree.users == 1:
        scene.compositing_node_group = None
        bpy.data.node_groups.remove(tree)


def _find_output(tree: Any, result: ResultFolder) -> Any:
    """Return the output node; it is made where there is none."""
    kind = "NodeGroupOutput" if _HAS_GROUPS else "CompositorNodeComposite"
    found = [node for node in tree.nodes if node.bl_idname == kind]
    if _HAS_GROUPS:
        found.sort(key=lambda node: not node.is_active_output)
        if not any(item.item_type == "SOCKET" and item.in_out == "OUTPUT" for item in tree.interface.items_tree):
            tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    else:
        found.sort(key=lambda node: not node.inputs[0].is_linked)
    if found:
        return found[0]
    node = tree.nodes.new(kind)
    node[PLATE_KEY] = str(result.folder)
    return node


def _fit_to_render(node: Any, method: str) -> None:
    """Set a Scale node to fit its image to the render's frame."""
    if "Frame Type" in node.inputs:  # from Blender 5.0 on
        node.inputs["Type"].default_value = "Render Size"
        node.inputs["Frame Type"].default_value = method
    else:
        node.space, node.frame_method = "RENDER_SIZE", method.upper()


def _over_inputs(node: Any) -> tuple[Any, Any, Any]:
    """Return factor, background and foreground of an Alpha Over node, whatever their order in this Blender."""
    factor = next(socket for socket in node.inputs if socket.identifier == "Fac")
    below, above = [socket for socket in node.inputs if socket.type == "RGBA"]
    return factor, below, above
