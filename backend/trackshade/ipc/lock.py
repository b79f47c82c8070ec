# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock that the operating system frees when its holder dies, however it dies."""

from __future__ import annotations

import os
from pathlib import Path


class FileLock:
    """Holds `path` exclusively until `release` or the end of the process.

    Raises BlockingIOError where another process holds it, and OSError where the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._file)
        except OSError:
            os.close(self._file)
            raise

    def release(self) -> None:
        os.close(self._file)


if os.name == "nt":
    import msvcrt

    def _lock(file: int) -> None:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except PermissionError as error:
            raise BlockingIOError(*error.args) from error
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
