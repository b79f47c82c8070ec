# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection file: where a backend listens and the token it requires, readable by this user only."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from trackshade.core.atomic_files import write_bytes
from trackshade.core.errors import OutputError, ProtocolError
from trackshade.core.processes import is_process_alive


@dataclass(frozen=True)
class ConnectionInfo:
    """What a client needs to reach a backend on this machine."""

    endpoint: str
    token: str
    pid: int
    version: str
    protocol: int
    curve: bool = False  # reachable with CURVE keys only

    def is_alive(self) -> bool:
        """Return whether a process with the backend's id runs on this machine."""
        return is_process_alive(self.pid)


def write(path: Path, info: ConnectionInfo) -> None:
    """Write the file with mode 0600 in one step. Raise OutputError("unwritable")."""
    try:
        write_bytes(path, json.dumps(asdict(info)).encode(), private=True)
    except OSError as error:
        fix = "Choose another folder."
        raise OutputError(
            "unwritable", f"The connection file {path} cannot be written: {error.strerror}.", fix
        ) from error


def read(path: Path) -> ConnectionInfo | None:
    """Read the file; None if it does not exist. Raise ProtocolError("bad-connection-file")."""
    types = {"endpoint": str, "token": str, "pid": int, "version": str, "protocol": int, "curve": bool}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for name, kind in types.items():
            if type(found[name]) is not kind:
                raise ValueError(f"its {name} is not of type {kind.__name__}")
        if not 0 < found["pid"] < 1 << 31:  # others mean whole groups of processes to the system
            raise ValueError("its pid is not a process id")
        return ConnectionInfo(**{name: found[name] for name in types})
    except (FileNotFoundError, NotADirectoryError):  # a file where its folder should be
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProtocolError(
            "bad-connection-file", f"The connection file {path} cannot be read: {error}", "Delete it."
        ) from error


def remove(path: Path, pid: int) -> None:
    """Delete the file if it still belongs to the backend with this process id."""
    with contextlib.suppress(OSError, ProtocolError):  # another backend's by now, or gone
        info = read(path)
        if info is not None and info.pid == pid:
            path.unlink(missing_ok=True)


def find_running(path: Path) -> ConnectionInfo | None:
    """Return the backend of a connection file if it runs. Raise ProtocolError("bad-connection-file")."""
    info = read(path)
    return info if info is not None and info.is_alive() else None
