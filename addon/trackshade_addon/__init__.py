# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackshade in Blender: captures a scene, lets a backend process shade it, and places the result.

Modules that need bpy are imported when the add-on is registered, so that `python -m trackshade_addon` can report that
bpy is missing.
"""

import logging

# Without it, Python prints warnings to the console while the add-on is not registered. See `log`.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def register() -> None:
    """Register panels, operators and the command `blender --command trackshade`."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Unregister everything, and end the backend that was started."""
    from . import registration

    registration.unregister()
