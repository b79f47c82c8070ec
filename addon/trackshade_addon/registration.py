# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that the add-on adds to Blender, in one list, and takes away again in reverse."""

from __future__ import annotations

from typing import Any

import bpy

from . import backend, commands, log, relocation
from .jobs import session
from .messages import translations
from .properties import preferences, scene, view_layer
from .properties.chosen import ADDON
from .render import engine, handlers
from .ui import (
    backend_panel,
    checks_fixes,
    checks_watch,
    drawing,
    jobs_list,
    looks,
    models_panel,
    operators,
    overlay_panel,
    overlay_view,
    panel,
    placed,
    render_panel,
    view_layer_panel,
)

CLASSES = (*scene.CLASSES, *preferences.CLASSES, *operators.CLASSES, *checks_fixes.CLASSES, *looks.CLASSES,
           *panel.CLASSES, *overlay_panel.CLASSES, *jobs_list.CLASSES, *placed.CLASSES, *backend_panel.CLASSES,
           *models_panel.CLASSES, *view_layer.CLASSES, *render_panel.CLASSES, *view_layer_panel.CLASSES,
           *engine.CLASSES)  # fmt: skip
COMMAND = "trackshade"

_command: Any = None


def register() -> None:
    """Adds classes, the scene's properties and the command. Timers run only while there is a job."""
    global _command
    log.attach()
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    scene.attach()
    overlay_panel.attach()
    overlay_view.attach()
    view_layer.attach()
    engine.show_panels()
    handlers.attach()
    jobs_list.attach()
    looks.attach()
    translations.attach(ADDON)
    _command = bpy.utils.register_cli_command(COMMAND, commands.execute)
    relocation.attach()


def unregister() -> None:
    """Ends what runs, and takes everything away."""
    global _command
    session.current().close()
    operators.hold.close()
    drawing.unwatch()
    checks_watch.watch.close()
    overlay_view.detach()
    relocation.detach()
    backend.close()
    if _command is not None:
        bpy.utils.unregister_cli_command(_command)
        _command = None
    translations.detach(ADDON)
    looks.detach()
    jobs_list.detach()
    handlers.detach()
    engine.hide_panels()
    view_layer.detach()
    overlay_panel.detach()
    scene.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    log.detach()
