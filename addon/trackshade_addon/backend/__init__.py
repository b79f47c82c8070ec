# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's side of the backend: its environment, its life, its models.

    from . import backend
    connecting = backend.connect("mini")   # Future[Client]; shared by all that this Blender does
    backend.state()                        # BackendState, for a panel to draw

Everything returns at once and is to be called from Blender's main thread.
"""

from __future__ import annotations

from concurrent.futures import Future

from trackshade.client import Client
from trackshade.core.errors import TrackshadeError, UsageError

from . import diagnostics as _diagnostics
from .background_task import BackgroundTask
from .environment import find_source
from .installer import Plan, is_outdated, probe
from .manager import BackendManager, BackendState
from .model_manager import Models
from .prefs import BackendPrefs, choice, extension_folder

__all__ = [
    "BackendPrefs",
    "BackendState",
    "BackgroundTask",
    "Models",
    "busy",
    "cancel_set_up",
    "check",
    "check_environment",
    "choice",
    "close",
    "connect",
    "diagnostics",
    "free_memory",
    "log_tail",
    "models",
    "needs_packages",
    "refusal",
    "retry",
    "set_up",
    "set_up_failed",
    "sets_up",
    "state",
    "stop",
]

_life = BackendManager()
_check: BackgroundTask | None = None
models = Models()


def connect(model: str | None = "mini") -> Future[Client]:
    """The connection of this Blender; starts the backend on first need. Not to be closed by who asked for it."""
    return _life.connect(choice(), model)


def set_up_failed() -> bool:
    """Whether what failed last was the set-up, which `retry` then repeats."""
    return _life.set_up_failed


def retry() -> None:
    """Does once more what failed last: the set-up or the start. Raises UsageError as `set_up`."""
    if _life.set_up_failed:
        set_up()
    else:
        _life.try_again(choice(), "mini")


def check_environment() -> BackgroundTask:
    """Asks the existing environment that was chosen what it has."""
    global _check
    python = choice().existing

    def ask(work: BackgroundTask) -> str:
        found = probe(python, work)
        if "broken" in found or found["missing"]:
            said = found.get("broken") or f"{', '.join(found['missing'])} cannot be found"
            raise UsageError("no-backend", f"{python} lacks something: {said}.", "Install Trackshade's backend in it.")
        return f"{python} has Trackshade {found['version']}, on {found['devices'][0]['name']}."

    _check = BackgroundTask(ask, "Asking the environment")
    return _check


def check() -> BackgroundTask | None:
    """The latest `check_environment`; its result is a sentence. None where nobody asked."""
    return _check


def sets_up() -> bool:
    """Whether the backend is of an environment that `set_up` makes, rather than of an existing one or elsewhere."""
    chosen = choice()
    return not (chosen.existing or chosen.address)


def needs_packages() -> bool:
    """Whether `set_up` lacks packages: it would have to download them, and Blender may not use the network."""
    chosen = choice()
    return not (chosen.online or chosen.wheels is not None or is_outdated(chosen.home, chosen.kind))


def state() -> BackendState:
    return _life.state(choice())


def refusal() -> TrackshadeError | None:
    """Why no job can be begun as things are: there is no backend that could be started. None where one can."""
    return _life.refusal(choice())


def stop() -> None:
    """Lets go of the backend; it ends unless another Blender holds it."""
    _life.stop()


def set_up() -> BackgroundTask:
    """Begins to make or renew the environment.

    Raises UsageError where that runs, or there is nothing to make it of.
    """
    chosen = choice()
    source = find_source(extension_folder())
    plan = Plan(chosen.home, source, chosen.base, chosen.kind, chosen.wheels, chosen.index, chosen.online)
    return _life.set_up(plan)


def cancel_set_up() -> None:
    _life.cancel_set_up()


def free_memory() -> Future[int] | None:
    """Gives the device's memory back; how many workers are busy and keep theirs. None where no backend runs."""
    return _life.free_memory()


def log_tail(count: int = 200) -> str:
    """The last lines of the logs, without secrets."""
    return _diagnostics.log_tail(_life, count)


def diagnostics() -> str:
    """Text for a bug report, without secrets."""
    return _diagnostics.diagnostics(_life, choice())


def busy() -> bool:
    """Whether something is going on that a panel shows the progress of."""
    if _check is not None and _check.running:
        return True
    return (_life.work is not None and _life.work.running) or state().kind == "starting" or models.busy()


def close() -> None:
    """Ends everything: Blender is about to end, or the add-on to be disabled."""
    global _check
    if _check is not None:
        _check.cancel()
        _check = None
    models.close()
    _life.close()
