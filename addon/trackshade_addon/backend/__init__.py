# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's side of the backend: its environment, its process and its models.

    from . import backend
    connecting = backend.manager.connect("mini")   # Future[Client], shared by everything in this Blender
    backend.manager.state()                        # BackendState, for a panel

Every call returns at once and must come from Blender's main thread.
"""

from .backend_manager import BackendManager
from .model_manager import ModelManager

manager = BackendManager()
models = ModelManager()


def is_busy() -> bool:
    """Return whether something is in progress that a panel shows."""
    return manager.is_busy() or models.is_busy()


def close() -> None:
    """End everything, before Blender ends or the add-on is disabled."""
    models.close()
    manager.close()
