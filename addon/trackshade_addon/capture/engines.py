# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine whose pictures a shot must match."""

from __future__ import annotations

import bpy

OWN_ENGINE = "TRACKSHADE"
EEVEE = ("BLENDER_EEVEE", "BLENDER_EEVEE_NEXT")
WORKBENCH = "BLENDER_WORKBENCH"


def look_engine(scene: bpy.types.Scene) -> str:
    """The engine that renders first frames: the scene's own; where that is Trackshade, the one chosen for them."""
    if scene.render.engine != OWN_ENGINE:
        return scene.render.engine
    chosen = scene.trackshade.look_engine
    return "BLENDER_EEVEE_NEXT" if chosen == "BLENDER_EEVEE" and bpy.app.version < (5, 0, 0) else chosen
