# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts interpreters and finds programs without running code from the current folder; ends processes with others.

`python -m module` and `python -c code` put the current folder at the front of the module search path, and a module
there with the name of a library (`json.py`, `torch.py`) would be imported instead. Every interpreter that Trackshade
starts is therefore described by one of these functions:

    this_python         the same interpreter, for a process that belongs to this one (workers, training, probes)
    environment_python  the interpreter of an environment that has the backend
    isolated_python     an interpreter with its own packages only (venv, pip)
    blender             Blender, whose Python is isolated by itself

Programs are looked up with `find_program`, which never searches the current folder, as Windows does by default.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import trackshade

LOG_LIMIT = 1 << 20  # bytes after which a new process begins a new log
SAFE_PATH = "PYTHONSAFEPATH"
# Variables of Python that do not add code.
HARMLESS = ("PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONUTF8")
# Our variables that name folders. A relative path means another folder in a process that is started elsewhere.
FOLDERS = ("TRACKSHADE_HOME", "TRACKSHADE_MODELS", "TRACKSHADE_RESULTS", "TRACKSHADE_MEDIAPIPE")


@dataclass(frozen=True)
class ProcessCommand:
    """How to start a process: the program with its arguments, and all of its environment variables."""

    command: list[str]
    variables: dict[str, str]


def this_python(*arguments: str) -> ProcessCommand:
    """Describe this interpreter again, with the same packages and at least as much isolation as this process.

    Folders in PYTHONPATH are passed on if this process searches them: a cluster or studio may provide packages there.
    """
    flags = ["-P", *["-E"] * bool(sys.flags.ignore_environment), *["-s"] * bool(sys.flags.no_user_site)]
    if sys.flags.isolated:
        flags = ["-I"]
    variables = _variables(dict(os.environ))
    folders = [_package_folder(), *_searched_folders(variables.pop("PYTHONPATH", ""))]
    if found := [folder for folder in folders if folder is not None]:
        variables["PYTHONPATH"] = os.pathsep.join(found)
    return ProcessCommand([sys.executable, *flags, *arguments], variables)


def environment_python(python: str | os.PathLike[str], *arguments: str) -> ProcessCommand:
    """Describe the interpreter of an environment that has the backend, with the packages of that environment only.

    Variables of Python that are set for this process (PYTHONPATH, PYTHONHOME, PYTHONSTARTUP and so on, for instance by
    a studio for Blender) are not passed on. If it is the interpreter of this process, it finds the same `trackshade`.
    Packages installed for it with `pip install --user` are found.

    Raises:
        FileNotFoundError: There is no such program on the path.
    """
    path = _resolve(python)
    variables = _variables(_without_python(os.environ))
    folder = _package_folder() if path == sys.executable else None
    if folder is not None:
        variables["PYTHONPATH"] = folder
    return ProcessCommand([path, *arguments], variables)


def isolated_python(python: str | os.PathLike[str], *arguments: str) -> ProcessCommand:
    """Describe an interpreter in isolated mode: without variables of Python and without the user's packages."""
    return ProcessCommand([_resolve(python), "-I", *arguments], _variables(_without_python(os.environ)))


def blender(binary: str, *arguments: str) -> ProcessCommand:
    """Describe a Blender, whose Python searches neither the current folder nor PYTHONPATH by default."""
    return ProcessCommand([absolute_program(binary), *arguments], _variables(dict(os.environ)))


def protect_children() -> None:
    """Keep the current folder off the module search path of all Python processes started from now on."""
    os.environ[SAFE_PATH] = "1"


def find_program(name: str) -> str | None:
    """Return the absolute path of a program on the PATH, or None.

    Unlike `shutil.which`, it never searches the current folder, neither by default (Windows) nor through a relative
    folder in the PATH.
    """
    names = [name]
    if sys.platform == "win32":
        suffixes = [suffix for suffix in os.environ.get("PATHEXT", ".EXE;.BAT;.CMD;.COM").split(";") if suffix]
        if not name.lower().endswith(tuple(suffix.lower() for suffix in suffixes)):
            names = [name + suffix for suffix in suffixes]
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        folder = folder.strip('"')
        for candidate in names if os.path.isabs(folder) else ():
            # Given a path, `which` checks that file only.
            if found := shutil.which(os.path.join(folder, candidate)):
                return found
    return None


def absolute_program(program: str | os.PathLike[str]) -> str:
    """Return the absolute path of a program: a bare name is looked up, a path is relative to the current folder.

    Links are not followed: the interpreter of a virtual environment is one. Raise FileNotFoundError.
    """
    path = os.fspath(program)
    if os.path.dirname(path):
        return os.path.abspath(path)
    found = find_program(path)
    if found is None:
        raise FileNotFoundError(2, "No such program", path)
    return found


def is_process_alive(pid: int) -> bool:
    """Return whether a process with this id runs, also one of another user."""
    if os.name == "nt":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # Linux tells whether it has ended and its parent has not waited for it yet
        state = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    return state.rpartition(b") ")[2][:1] not in (b"Z", b"X")


def _is_alive_on_windows(pid: int) -> bool:
    query_limited, still_active = 0x1000, 259
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    handle = kernel.OpenProcess(query_limited, False, pid)
    if not handle:
        return False
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == still_active


def die_with_parent(parent: int) -> None:
    """On Linux, makes the kernel kill this process when its parent ends (prctl(2)), even if it is stuck in a library.

    On other systems, `call_when_input_closes` is what notices the end of the parent. The parent is given by its
    process id, as it may have ended before this call.
    """
    if not sys.platform.startswith("linux"):
        return
    set_parent_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def call_when_input_closes(callback: Callable[[], object]) -> None:
    """Call a function in a thread of its own when standard input closes.

    The process that started this one holds the other end, so it closes when that process ends, however it ends.
    """

    def wait() -> None:
        while os.read(0, 4096):
            continue
        callback()

    threading.Thread(target=wait, name="standard input", daemon=True).start()


def end_process(process: subprocess.Popen[Any], seconds: float) -> None:
    """Ask a process to end by closing its standard input, and kill it if it still runs after some seconds."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    finally:
        process.kill()  # does nothing if it has ended
        process.wait()


def open_log(path: Path) -> BinaryIO:
    """Open a log to append to it; begin a new one if it has more than LOG_LIMIT bytes."""
    is_too_long = path.exists() and path.stat().st_size > LOG_LIMIT
    return open(path, "wb" if is_too_long else "ab")


def last_log_line(log: Path, start: int = 0) -> str:
    """Return the last line of a log from a byte on, which for a failed Python process names the error; "" if none."""
    try:
        with open(log, "rb") as file:
            file.seek(max(start, os.fstat(file.fileno()).st_size - 4000))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:500] if lines else ""


def _resolve(python: str | os.PathLike[str]) -> str:
    return sys.executable if os.fspath(python) == sys.executable else absolute_program(python)


def _variables(variables: dict[str, str]) -> dict[str, str]:
    for name in FOLDERS:
        if variables.get(name):
            variables[name] = os.path.abspath(os.path.expanduser(variables[name]))
    return variables | {SAFE_PATH: "1"}


def _without_python(variables: Mapping[str, str]) -> dict[str, str]:
    prefixes = ("PYTHON", "__PYVENV_LAUNCHER__")
    return {
        name: value for name, value in variables.items() if name in HARMLESS or not name.upper().startswith(prefixes)
    }


def _searched_folders(python_path: str) -> list[str]:
    """Return the folders of a PYTHONPATH that this process searches for modules, absolute."""
    here = {os.path.normcase(os.path.abspath(folder)) for folder in sys.path if folder}
    folders = [os.path.abspath(folder) for folder in python_path.split(os.pathsep) if folder]
    return [folder for folder in folders if os.path.normcase(folder) in here]


def _package_folder() -> str | None:
    """Return the folder of `trackshade`; None for an installed one, which must not precede the standard library."""
    folder = Path(trackshade.__file__).absolute().parents[1]
    return None if folder.name in ("site-packages", "dist-packages") else str(folder)
