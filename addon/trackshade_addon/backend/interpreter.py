# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Python an environment is made with, and for which kind of device. Runs programs: not for the main thread."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass

from trackshade.config import locks
from trackshade.core.errors import UsageError
from trackshade.core.processes import find_program, isolated_python

from .running import Task

TIME_LIMIT = 60.0  # seconds: a virus scanner may look at a Python that it sees for the first time
_ASK = """
import importlib.util, json, struct, sys
print(json.dumps({"version": list(sys.version_info[:3]), "bits": struct.calcsize("P") * 8,
                  **{name: importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip")}}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that can make environments; one without `ensurepip` (Debian's own) has to be given pip."""

    path: str
    version: tuple[int, ...]
    ensurepip: bool = True

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version[:2]))} ({platform.machine()})"


def find(chosen: str, task: Task, has_pip: bool = False) -> Interpreter:
    """The chosen Python, else Blender's own where it can make environments, else one that is on the path. `has_pip`
    says that pip comes from elsewhere.

    Raises UsageError("wrong-python") that says what is wrong with it.
    """
    if chosen:
        return look(chosen, task, has_pip)
    names = [f"python3.{minor}" for minor in (13, 12, 11, 14)] + ["python3", "python"]
    candidates = [find_program(name) for name in names]
    candidates.insert(0, sys.executable)
    first: UsageError | None = None
    for candidate in candidates:
        if candidate:
            try:
                return look(candidate, task, has_pip)
            except UsageError as error:
                first = first or error
    raise first or UsageError("wrong-python", "No Python was found.", "Choose one in the preferences, 3.11 to 3.14.")


def look(path: str, task: Task, has_pip: bool = False) -> Interpreter:
    """Raises UsageError("wrong-python") where it cannot make an environment for the backend."""
    choose = "Choose another Python in the preferences, 3.11 to 3.14."
    try:
        start = isolated_python(path, "-c", _ASK)
        ended = task.run(start.command, variables=start.variables, limit=TIME_LIMIT)
        facts = json.loads(ended.tail[-1])
        version, bits = tuple(facts["version"]), facts["bits"]
        venv, ensurepip = facts["venv"], facts["ensurepip"]
    except OSError as error:
        raise UsageError("wrong-python", f"{path} cannot be run: {error.strerror}.", choose) from error
    except (IndexError, ValueError, KeyError, TypeError) as error:
        raise UsageError("wrong-python", f"{path} is no Python that answers.", choose) from error
    oldest, newest = locks.PYTHONS
    if not oldest <= version[:2] <= newest or bits != 64:
        said = ".".join(map(str, version))
        raise UsageError("wrong-python", f"{path} is Python {said} ({bits} bits).", choose)
    if not venv or not (ensurepip or has_pip):
        raise UsageError(
            "wrong-python",
            f"{path} lacks the modules venv or ensurepip, so it cannot make environments.",
            f"Install them (Debian and Ubuntu: python3.{version[1]}-venv), put a wheel of pip into the folder of "
            "wheels, or choose another Python.",
        )
    return Interpreter(path, version, ensurepip)


def detect(task: Task) -> str:
    """The kind of device here: "cuda", "mps" or "cpu"."""
    if sys.platform == "darwin":
        return "mps" if platform.machine() == "arm64" else "cpu"
    tool = find_program("nvidia-smi")
    if tool is None:
        return "cpu"
    try:
        ended = task.run([tool, "-L"], limit=TIME_LIMIT)
    except OSError:
        return "cpu"
    return "cuda" if ended.code == 0 and any(line.startswith("GPU ") for line in ended.tail) else "cpu"
