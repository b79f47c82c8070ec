# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's side of the backend: its environment, its process and its models.

    from . import backend
    connecting = backend.connect("mini")   # Future[Client], shared by everything in this Blender
    backend.state()                        # BackendState, for a panel

Every function returns at once and must be called from Blender's main thread. See `BackendManager`.
"""

from __future__ import annotations

from . import diagnostics as _diagnostics
from .manager import BackendManager, BackendState
from .model_manager import ModelManager
from .prefs import BackendPrefs, current_prefs
from .tasks import BackgroundTask

__all__ = [
    "BackendPrefs",
    "BackendState",
    "BackgroundTask",
    "ModelManager",
    "backend_manager",
    "cancel_set_up",
    "check_environment",
    "close",
    "connect",
    "current_prefs",
    "diagnostics",
    "free_memory",
    "is_busy",
    "is_managed",
    "log_tail",
    "models",
    "needs_packages",
    "retry",
    "set_up",
    "set_up_failed",
    "state",
    "stop",
    "unavailable_error",
]

backend_manager = BackendManager()
models = ModelManager()

cancel_set_up = backend_manager.cancel_set_up
check_environment = backend_manager.check_environment
connect = backend_manager.connect
free_memory = backend_manager.free_memory
is_managed = backend_manager.is_managed
needs_packages = backend_manager.needs_packages
retry = backend_manager.retry
set_up = backend_manager.set_up
set_up_failed = backend_manager.set_up_failed
state = backend_manager.state
stop = backend_manager.stop
unavailable_error = backend_manager.unavailable_error


def log_tail(count: int = 200) -> str:
    """The last lines of all logs, without secrets."""
    return _diagnostics.log_tail(backend_manager, count)


def diagnostics() -> str:
    """Text for a bug report, without secrets."""
    return _diagnostics.diagnostics(backend_manager, current_prefs())


def is_busy() -> bool:
    """Whether something is in progress that a panel shows."""
    return backend_manager.is_busy() or models.is_busy()


def close() -> None:
    """Ends everything, before Blender ends or the add-on is disabled."""
    models.close()
    backend_manager.close()
