# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the Python to make an environment with. Runs programs: not on the main thread."""

from __future__ import annotations

import json
import logging
import platform
import sys
from dataclasses import dataclass

from trackshade.config import locks
from trackshade.core.errors import UsageError
from trackshade.core.processes import find_program, isolated_python

from .tasks import CancellableTask

TIME_LIMIT = 60.0  # seconds: a virus scanner may examine a Python that it sees for the first time
_DESCRIBE = """
import importlib.util, json, struct, sys
print(json.dumps({"version": list(sys.version_info[:3]), "bits": struct.calcsize("P") * 8,
                  **{name: importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")}}))
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interpreter:
    """A Python that can make environments. One without `ensurepip` (such as Debian's) needs pip from elsewhere."""

    path: str
    version: tuple[int, ...]
    ensurepip: bool = True

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version[:2]))} ({platform.machine()})"


def find_interpreter(path: str, task: CancellableTask, has_pip: bool = False) -> Interpreter:
    """Find a Python that can make environments: the given one, else Blender's own or, if it cannot, one on the path.

    One that lacks `ensurepip` will do if pip is available otherwise (`has_pip`).

    Raises:
        UsageError: code "wrong-python", with the reason; if several were tried, that of the first.
    """
    if path:
        return check_interpreter(path, task, has_pip)
    names = (*(f"python3.{minor}" for minor in (13, 12, 11)), "python3", "python")
    candidates = [find_program(name) for name in names]
    candidates.insert(0, sys.executable)
    first: UsageError | None = None
    for candidate in candidates:
        if candidate:
            try:
                return check_interpreter(candidate, task, has_pip)
            except UsageError as error:
                _log.info("%s", error)
                first = first or error
    raise first or UsageError("wrong-python", "No Python was found.", "Choose one in the preferences, 3.11 to 3.13.")


def check_interpreter(path: str, task: CancellableTask, has_pip: bool = False) -> Interpreter:
    """Run a Python to see whether it can make environments. See `find_interpreter`.

    Raises:
        UsageError: code "wrong-python", with the reason.
    """
    choose = "Choose another Python in the preferences, 3.11 to 3.13."
    try:
        start = isolated_python(path, "-c", _DESCRIBE)
        result = task.run(start.command, variables=start.variables, limit=TIME_LIMIT)
        facts = json.loads(result.tail[-1])
        version, bits = tuple(facts["version"]), facts["bits"]
        venv, ensurepip = facts["venv"], facts["ensurepip"]
    except OSError as error:
        raise UsageError("wrong-python", f"{path} cannot be run: {error.strerror}.", choose) from error
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise UsageError("wrong-python", f"{path} does not respond like a Python interpreter.", choose) from error
    oldest, newest = locks.PYTHONS
    if not oldest <= version[:2] <= newest or bits != 64:
        number = ".".join(map(str, version))
        raise UsageError("wrong-python", f"{path} is Python {number} ({bits} bits).", choose)
    lacking = "venv" if not venv else "ensurepip" if not (ensurepip or has_pip) else ""
    if lacking:
        raise UsageError(
            "wrong-python",
            f"{path} lacks the module {lacking}, so it cannot make environments.",
            f"Install it (Debian and Ubuntu: apt install python3.{version[1]}-venv), "
            + ("" if lacking == "venv" else "put a wheel of pip into the folder of wheels, ")
            + "or choose another Python.",
        )
    return Interpreter(path, version, ensurepip)
