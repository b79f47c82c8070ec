# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection file: where a backend listens and the token it wants, readable by its owner only."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

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

    def alive(self) -> bool:
        """Whether a process with that pid exists on this machine."""
        return is_process_alive(self.pid)


def write(path: Path, info: ConnectionInfo) -> None:
    """Write the file with mode 0600 in one step. Raises OutputError("unwritable")."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(info), file)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(
            "unwritable",
            f"The connection file {path} cannot be written: {error.strerror}.",
            "Choose another folder.",
        ) from error


def read(path: Path) -> ConnectionInfo | None:
    """The file's contents, None where there is none. Raises ProtocolError("bad-connection-file")."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return ConnectionInfo(
            str(found["endpoint"]),
            str(found["token"]),
            int(found["pid"]),
            str(found["version"]),
            int(found["protocol"]),
            bool(found["curve"]),
        )
    except (FileNotFoundError, NotADirectoryError):  # also where its folder cannot be there
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProtocolError(
            "bad-connection-file", f"The connection file {path} cannot be read: {error}", "Delete it."
        ) from error


def remove(path: Path, pid: int) -> None:
    """Delete the file if it is still this process's own."""
    try:
        info = read(path)
        if info is not None and info.pid == pid:
            path.unlink(missing_ok=True)
    except (OSError, ProtocolError):
        return  # somebody else's by now, or gone
