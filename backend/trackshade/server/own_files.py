# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices that the files of a running backend were removed, moved or replaced.

A backend whose lock, job list or socket is no longer at its path cannot be reached, or accepts jobs that the next one
does not find, and nothing keeps another backend from its store. Such a backend has to end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from trackshade.core.errors import OutputError


class OwnFiles:
    """The files that have to stay where they are while a backend runs. They exist, and the backend has them open."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known = {path: _identity(path) for path in paths}

    def check(self) -> None:
        """Raise OutputError("store-removed") if a file is gone, or another one has its name.

        A disk that fails for a moment is no reason: whoever needs the file says what is wrong.
        """
        for path, known in self._known.items():
            try:
                is_there = _identity(path) == known
            except (FileNotFoundError, NotADirectoryError):
                is_there = False
            except OSError:
                continue
            if not is_there:
                raise OutputError(
                    "store-removed",
                    f"{path} was removed, moved or replaced while the backend was running.",
                    "Start the backend again, and move its folder only while it does not run.",
                )


def socket_files(endpoints: Iterable[str]) -> list[Path]:
    """Return the files of the endpoints that are ipc sockets."""
    return [Path(endpoint[6:]) for endpoint in endpoints if endpoint.startswith("ipc://")]


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
