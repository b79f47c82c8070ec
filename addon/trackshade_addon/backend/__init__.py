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
from trackshade.errors import UsageError

from . import diagnostics as _diagnostics
from .choice import Choice, choice, default_home, extension_folder
from .environment import find_source
from .life import BackendState, Life
from .model_list import Models
from .setting_up import Plan, probe
from .work import Work

__all__ = [
    "BackendState",
    "Choice",
    "Models",
    "Work",
    "address",
    "busy",
    "cancel_set_up",
    "check_environment",
    "checked",
    "choice",
    "close",
    "connect",
    "diagnostics",
    "free_memory",
    "log_tail",
    "models",
    "python",
    "retry",
    "set_up",
    "set_up_failed",
    "state",
    "stop",
    "try_again",
]

_life = Life()
_check: Work | None = None
models = Models()


def python() -> str | None:
    """Interpreter of the chosen environment; None where it is still to be made."""
    return choice().python()


def address() -> str | None:
    """Of a backend that somebody runs elsewhere; None for the shared one of this computer."""
    return choice().address or None


def connect(model: str = "mini") -> Future[Client]:
    """The connection of this Blender; starts the backend on first need. Not to be closed by who asked for it."""
    return _life.connect(choice(), model)


def try_again(model: str = "mini") -> Future[Client]:
    """As `connect`, also where the backend was given up."""
    return _life.try_again(choice(), model)


def set_up_failed() -> bool:
    """Whether what failed last was the set-up, which `retry` then repeats."""
    return _life.set_up_failed


def retry() -> None:
    """Does once more what failed last: the set-up or the start. Raises UsageError as `set_up`."""
    if _life.set_up_failed:
        set_up()
    else:
        try_again()


def check_environment() -> Work:
    """Asks the existing environment that was chosen what it has; `checked` tells."""
    global _check
    python = choice().existing

    def check(work: Work) -> str:
        found = probe(python, work)
        if "broken" in found or found["missing"]:
            said = found.get("broken") or f"{', '.join(found['missing'])} cannot be found"
            raise UsageError("no-backend", f"{python} lacks something: {said}.", "Install Trackshade's backend in it.")
        return f"{python} has Trackshade {found['version']}, on {found['devices'][0]['name']}."

    _check = Work(check, "Asking")
    return _check


def checked() -> str:
    """What `check_environment` found, or does; "" where nobody asked."""
    if _check is None:
        return ""
    if _check.running:
        return "Asking the environment"
    return str(_check.error or _check.result)


def state() -> BackendState:
    return _life.state(choice())


def stop() -> None:
    """Lets go of the backend; it ends unless another Blender holds it."""
    _life.stop()


def set_up() -> Work:
    """Begins to make or renew the environment. Raises UsageError where that runs, or there is nothing to make it of."""
    chosen = choice()
    home = default_home(create=True) if chosen.home == default_home() else chosen.home
    plan = Plan(
        home, find_source(extension_folder()), chosen.base, chosen.kind, chosen.wheels, chosen.index, chosen.online
    )
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
