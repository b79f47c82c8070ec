# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackshade in Blender: captures a scene, has it shaded by a process of its own, and places the result.

What needs bpy is imported when the add-on is registered, so that `python -m trackshade_addon` can say in a sentence
that bpy is missing.
"""

import logging

# Without it, Python prints warnings to the console while the add-on is not registered. See `log`.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def register() -> None:
    """Adds the panel, its operators and the command `blender --command trackshade`."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Takes all of it away again, and ends the backend that was started."""
    from . import registration

    registration.unregister()
