# SPDX-License-Identifier: GPL-3.0-or-later
"""The node trees of a scene's compositor, and the nodes in them that show placed results."""

from __future__ import annotations

from typing import Any

import bpy

HAS_GROUPS = bpy.app.version >= (5, 0)
HAS_EFFECTS = "compositor_effects" in bpy.types.Scene.bl_rna.properties
OVER_KEY = "trackshade_over"  # on the Alpha Over node of a result


def compositor_trees(scene: bpy.types.Scene) -> list[Any]:
    """Returns the node trees that a scene is composited by, in their order."""
    if HAS_EFFECTS:
        trees = [effect.node_group for effect in scene.compositor_effects]
    else:
        trees = [scene.compositing_node_group if HAS_GROUPS else scene.node_tree]
    return list(dict.fromkeys(tree for tree in trees if tree is not None))


def result_nodes(scene: bpy.types.Scene) -> list[bpy.types.Node]:
    """Returns the nodes that lay results over the image; muted, they let it through unchanged."""
    return [node for tree in compositor_trees(scene) for node in tree.nodes if OVER_KEY in node]
