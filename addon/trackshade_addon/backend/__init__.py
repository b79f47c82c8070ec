# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's side of the backend: its environment, its process and its models.

    from . import backend
    connecting = backend.connect("mini")   # Future[Client], shared by everything in this Blender
    backend.state()                        # BackendState, for a panel

Every function returns at once and must be called from Blender's main thread.
"""

from __future__ import annotations

from concurrent.futures import Future

from trackshade.client import Client
from trackshade.core.errors import TrackshadeError, UsageError

from . import diagnostics as _diagnostics
from .environment import find_source
from .installer import SetUpOptions, is_outdated, probe
from .manager import BackendManager, BackendState
from .model_manager import ModelManager
from .prefs import BackendPrefs, current_prefs, extension_folder
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
    "environment_check",
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
_check: BackgroundTask | None = None


def connect(model: str | None = "mini") -> Future[Client]:
    """Returns the connection of this Blender, and starts the backend if necessary. Callers must not close it.

    Args:
        model: name of a model to load in advance, or None.
    """
    return backend_manager.connect(current_prefs(), model)


def set_up_failed() -> bool:
    """Whether `retry` would repeat the set-up, because that failed last."""
    return backend_manager.set_up_failed


def retry() -> None:
    """Repeats what failed last: the set-up, or the start of the backend.

    Raises:
        UsageError: as `set_up`.
    """
    if backend_manager.set_up_failed:
        set_up()
    else:
        backend_manager.try_again(current_prefs(), "mini")


def check_environment() -> BackgroundTask:
    """Starts checking the existing environment that the preferences name; the task's result is a sentence."""
    global _check
    python = current_prefs().existing

    def check(task: BackgroundTask) -> str:
        found = probe(python, task)
        if "broken" in found or found["missing"]:
            reason = found.get("broken") or f"{', '.join(found['missing'])} cannot be found"
            raise UsageError(
                "no-backend", f"{python} lacks something: {reason}.", "Install Trackshade's backend in it."
            )
        return f"{python} has Trackshade {found['version']}, on {found['devices'][0]['name']}."

    _check = BackgroundTask(check, "Asking the environment")
    return _check


def environment_check() -> BackgroundTask | None:
    """The latest task of `check_environment`, or None."""
    return _check


def is_managed() -> bool:
    """Whether the backend runs in an environment of Set Up, not in an existing one or elsewhere."""
    prefs = current_prefs()
    return not (prefs.existing or prefs.address)


def needs_packages() -> bool:
    """Whether `set_up` would have to download packages although Blender may not use the network."""
    prefs = current_prefs()
    return not (prefs.online or prefs.wheels is not None or is_outdated(prefs.home, prefs.kind))


def state() -> BackendState:
    """The backend's state."""
    return backend_manager.state(current_prefs())


def unavailable_error() -> TrackshadeError | None:
    """Why no job can be started: there is no backend that runs or could be started. None if one can."""
    return backend_manager.unavailable_error(current_prefs())


def stop() -> None:
    """Disconnects from the backend, which ends unless another Blender uses it."""
    backend_manager.stop()


def set_up() -> BackgroundTask:
    """Starts making or updating the environment.

    Raises:
        UsageError: a set-up is running already, or the wheel of Trackshade is missing.
    """
    prefs = current_prefs()
    source = find_source(extension_folder())
    return backend_manager.set_up(
        SetUpOptions(prefs.home, source, prefs.base, prefs.kind, prefs.wheels, prefs.index, prefs.online)
    )


def cancel_set_up() -> None:
    """Cancels the set-up, if one is running."""
    backend_manager.cancel_set_up()


def free_memory() -> Future[int] | None:
    """Frees the device's memory; see `BackendManager.free_memory`."""
    return backend_manager.free_memory()


def log_tail(count: int = 200) -> str:
    """The last lines of all logs, without secrets."""
    return _diagnostics.log_tail(backend_manager, count)


def diagnostics() -> str:
    """Text for a bug report, without secrets."""
    return _diagnostics.diagnostics(backend_manager, current_prefs())


def is_busy() -> bool:
    """Whether something is in progress that a panel shows."""
    tasks = [task for task in (_check, backend_manager.set_up_task) if task is not None]
    return any(task.running for task in tasks) or state().kind == "starting" or models.is_busy()


def close() -> None:
    """Ends everything, before Blender ends or the add-on is disabled."""
    global _check
    if _check is not None:
        _check.cancel()
        _check = None
    models.close()
    backend_manager.close()
