# SPDX-License-Identifier: GPL-3.0-or-later
"""Registers everything that the add-on adds to Blender, and unregisters it in reverse order."""

from __future__ import annotations

from typing import Any

import bpy

from . import backend, commands, log, relocation
from .checks.watch import watcher
from .jobs import session
from .messages import translations
from .overlay import handles, view
from .placement import splat_operator
from .properties import lifted, motion, scene, view_layer
from .properties.preferences import ADDON
from .redraw import cancel_redraw
from .render import engine, handlers
from .ui import (
    backend_panel,
    camera_moves,
    cameras,
    checks_operators,
    drawing,
    export_tracks,
    import_result,
    jobs_list,
    key_pictures,
    lifting,
    lifting_handles,
    lifting_objects,
    looks,
    manual,
    menus,
    modal,
    models_panel,
    motion_armature,
    motion_footage,
    operators,
    overlay_panel,
    panel,
    preferences_panel,
    properties_panels,
)

COMMAND = "trackshade"
PROPERTIES = (
    (bpy.types.Scene, "trackshade", scene.TrackshadeSettings),
    (bpy.types.Scene, "trackshade_overlay", scene.TrackshadeOverlay),
    (bpy.types.Scene, "trackshade_lift", lifted.TrackshadeLift),
    (bpy.types.Scene, "trackshade_motion", motion.TrackshadeMotion),
    (bpy.types.ViewLayer, "trackshade", view_layer.TrackshadeLayer),
    (bpy.types.WindowManager, "trackshade", jobs_list.TrackshadeJobs),
)
_MODULES = (
    *(scene, lifted, motion, view_layer, preferences_panel, operators, modal, checks_operators, looks, panel),
    *(key_pictures, cameras, camera_moves, lifting_objects, lifting, lifting_handles, export_tracks, splat_operator),
    *(motion_footage, motion_armature, overlay_panel, jobs_list, import_result, manual),
    *(backend_panel, models_panel, properties_panels),
)
# In the order of their definition: groups of properties before those that contain them, panels before their subpanels.
_CLASSES = [
    *engine.CLASSES,
    *(
        item
        for module in _MODULES
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, bpy.types.bpy_struct) and item.__module__ == module.__name__
    ),
]

_command: Any = None


def register() -> None:
    """Register classes, properties, handlers and the command. Timers run only while there is a job."""
    global _command
    log.attach()
    scene.find_specs = lambda: backend.models.specs()  # without reading the disk each time
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    for owner, name, group in PROPERTIES:
        setattr(owner, name, bpy.props.PointerProperty(type=group))
    view.attach()
    handles.attach()
    engine.show_panels()
    handlers.attach()
    jobs_list.attach()
    key_pictures.attach()
    lifting.attach()
    splat_operator.attach()
    import_result.attach()
    menus.attach()
    manual.attach()
    export_tracks.attach()
    looks.attach()
    translations.attach(ADDON)
    _command = bpy.utils.register_cli_command(COMMAND, commands.execute)
    relocation.attach()


def unregister() -> None:
    """End what is running, and unregister everything."""
    global _command
    session.current().close()
    modal.input_lock.close()
    drawing.unwatch()
    cancel_redraw()
    watcher.close()
    view.detach()
    handles.detach()
    relocation.detach()
    backend.close()
    if _command is not None:
        bpy.utils.unregister_cli_command(_command)
        _command = None
    translations.detach(ADDON)
    looks.detach()
    export_tracks.detach()
    manual.detach()
    menus.detach()
    import_result.detach()
    splat_operator.detach()
    lifting.detach()
    camera_moves.detach()
    key_pictures.detach()
    jobs_list.detach()
    handlers.detach()
    engine.hide_panels()
    for owner, name, _ in reversed(PROPERTIES):
        delattr(owner, name)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
    log.detach()
