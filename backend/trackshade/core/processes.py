# SPDX-License-Identifier: GPL-3.0-or-later
"""How Trackshade starts Python interpreters and finds programs, so that nothing from the current folder is run.

`python -m module` and `python -c code` put the current folder at the front of the module search path, and a module
that lies there under the name of a library (`json.py`, `torch.py`) would be imported in its place. Every interpreter
that Trackshade starts is therefore described by one of these functions:

    own_python          this interpreter again, for a process that belongs to this one (workers, training, probes)
    environment_python  the interpreter of an environment that has the backend
    bare_python         an interpreter alone, without anybody's packages but its own (venv, pip)
    blender             Blender, whose own Python is isolated by itself

Programs are looked up with `find_program`, which never looks in the current folder, as Windows does by default.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trackshade

SAFE_PATH = "PYTHONSAFEPATH"
# Variables of ours that name folders; relative ones mean another folder in a process that is started elsewhere.
HARMLESS = ("PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONUTF8")  # they lead nowhere
FOLDERS = ("TRACKSHADE_HOME", "TRACKSHADE_MODELS", "TRACKSHADE_RESULTS")


@dataclass(frozen=True)
class Start:
    """What to give to `subprocess`: always both.

    Attributes:
        command: interpreter, its options and arguments.
        variables: all environment variables of the process.
    """

    command: list[str]
    variables: dict[str, str]


def own_python(*arguments: str) -> Start:
    """This interpreter again, with the same packages and as much isolation as this process has, or more.

    Of the folders in PYTHONPATH, the new process gets those that this one searches, too: a cluster or a studio may
    provide packages that way.

    Args:
        arguments: "-m" and a module or "-c" and code, and what follows.
    """
    flags = ["-P"]
    if sys.flags.isolated:
        flags = ["-I"]
    else:
        flags += ["-E"] * bool(sys.flags.ignore_environment) + ["-s"] * bool(sys.flags.no_user_site)
    variables = _variables(dict(os.environ))
    folders = [_package_folder(), *_searched(variables.pop("PYTHONPATH", ""))]
    if found := [folder for folder in folders if folder is not None]:
        variables["PYTHONPATH"] = os.pathsep.join(found)
    return Start([sys.executable, *flags, *arguments], variables)


def environment_python(python: str | os.PathLike[str], *arguments: str) -> Start:
    """The interpreter of an environment that has the backend, with the packages of that environment and no others.

    Variables of Python that are set for this process (PYTHONPATH, PYTHONHOME, PYTHONSTARTUP and so on, for instance by
    a studio for Blender) do not reach it. Where it is this very interpreter, it finds the same `trackshade` as this
    process. The packages that a user installed for it with `pip install --user` still count.

    Raises:
        FileNotFoundError: no such program is on the path.
    """
    path = _located(python)
    variables = _variables(_without_python(os.environ))
    folder = _package_folder() if path == sys.executable else None
    if folder is not None:
        variables["PYTHONPATH"] = folder
    return Start([path, *arguments], variables)


def bare_python(python: str | os.PathLike[str], *arguments: str) -> Start:
    """An interpreter in isolated mode: its standard library and its own packages, without variables of Python and
    without the user's packages.

    Raises:
        FileNotFoundError: no such program is on the path.
    """
    return Start([_located(python), "-I", *arguments], _variables(_without_python(os.environ)))


def blender(binary: str, *arguments: str) -> Start:
    """A Blender. Its own Python is isolated: it has neither the current folder nor PYTHONPATH on its search path unless
    it is started with `--python-use-system-env`.

    Raises:
        FileNotFoundError: no such program is on the path.
    """
    return Start([absolute_program(binary), *arguments], _variables(dict(os.environ)))


def protect_children() -> None:
    """Keeps the current folder off the module search path of every Python that this process and its libraries start
    from now on.
    """
    os.environ[SAFE_PATH] = "1"


def find_program(name: str) -> str | None:
    """Absolute path of a program on the PATH, or None.

    Unlike `shutil.which`, it never looks in the current folder: neither because the system does (Windows), nor because
    the PATH holds a relative folder.
    """
    names = [name]
    if sys.platform == "win32":
        suffixes = [suffix for suffix in os.environ.get("PATHEXT", ".EXE;.BAT;.CMD;.COM").split(";") if suffix]
        if not name.lower().endswith(tuple(suffix.lower() for suffix in suffixes)):
            names = [name + suffix for suffix in suffixes]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        folder = folder.strip('"')
        for candidate in names if os.path.isabs(folder) else ():
            # With a folder in its name, `which` looks at this file alone.
            if found := shutil.which(os.path.join(folder, candidate)):
                return found
    return None


def absolute_program(program: str | os.PathLike[str]) -> str:
    """Absolute path of a program that somebody named: a bare name is looked up, a path is relative to the current
    folder. Links are not followed: the interpreter of a virtual environment is one.

    Raises:
        FileNotFoundError: no such program is on the path.
    """
    path = os.fspath(program)
    if os.path.dirname(path):
        return os.path.abspath(path)
    found = find_program(path)
    if found is None:
        raise FileNotFoundError(2, "No such program", path)
    return found


def _located(python: str | os.PathLike[str]) -> str:
    return sys.executable if os.fspath(python) == sys.executable else absolute_program(python)


def _variables(variables: dict[str, str]) -> dict[str, str]:
    for name in FOLDERS:
        if variables.get(name):
            variables[name] = os.path.abspath(os.path.expanduser(variables[name]))
    return variables | {SAFE_PATH: "1"}


def _without_python(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items()
            if name in HARMLESS or not name.upper().startswith(("PYTHON", "__PYVENV_LAUNCHER__"))}  # fmt: skip


def _searched(python_path: str) -> list[str]:
    """The folders of a PYTHONPATH that this process searches for modules, absolute."""
    here = {os.path.normcase(os.path.abspath(folder)) for folder in sys.path if folder}
    named = [os.path.abspath(folder) for folder in python_path.split(os.pathsep) if folder]
    return [folder for folder in named if os.path.normcase(folder) in here]


def _package_folder() -> str | None:
    """The folder that this process has `trackshade` from; None where that is one of the interpreter's own packages,
    which must not come before the standard library.
    """
    folder = Path(trackshade.__file__).absolute().parents[1]
    return None if folder.name in ("site-packages", "dist-packages") else str(folder)
