# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own panels that make sense with the engine: output, passes, compositor, camera, world, data and so on."""

from __future__ import annotations

from collections.abc import Iterator

import bpy

from ..capture.scene_settings import TRACKSHADE_ENGINE

_MARK = "BLENDER_RENDER"  # of those that any engine may show
_NOT_OURS = {  # marked, but they set what only an engine of Blender's own obeys
    "DATA_PT_light", "DATA_PT_preview", "DATA_PT_spot", "NODE_DATA_PT_light", "RENDER_PT_gpencil",
    "RENDER_PT_grease_pencil_render", "RENDER_PT_simplify_greasepencil", "RENDER_PT_stereoscopy",
}  # fmt: skip
_LOOK = {  # EEVEE's, of materials, lights and the world: the first frame is rendered with them, by whatever engine
    "EEVEE_MATERIAL_PT_context_material", "EEVEE_MATERIAL_PT_surface", "EEVEE_MATERIAL_PT_displacement",
    "EEVEE_WORLD_PT_surface", "DATA_PT_EEVEE_light", "DATA_PT_EEVEE_light_distance",
}  # fmt: skip


def _panels() -> Iterator[type[bpy.types.Panel]]:
    for panel in bpy.types.Panel.__subclasses__():
        name = panel.__name__
        marked = _MARK in getattr(panel, "COMPAT_ENGINES", ()) and "freestyle" not in name and name not in _NOT_OURS
        if marked or name in _LOOK:
            yield panel


def attach() -> None:
    """Shows them with our engine."""
    for panel in _panels():
        panel.COMPAT_ENGINES.add(TRACKSHADE_ENGINE)  # type: ignore[attr-defined]


def detach() -> None:
    """Hides them again with our engine."""
    for panel in _panels():
        panel.COMPAT_ENGINES.discard(TRACKSHADE_ENGINE)  # type: ignore[attr-defined]
