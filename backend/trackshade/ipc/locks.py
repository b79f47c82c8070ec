# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that the operating system releases when their holder ends, however it ends.

`FileLock` is exclusive. An `OwnerLock` is one of many on a folder, such as those of the programs that use a shared
backend: each owner locks a file of its own, so that owners neither know each other nor have an order. Files of owners
that have ended are removed by whoever counts them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

IN_USE = "in-use"  # folder in an environment created by Set Up: the locks of the processes that run in it
_SUFFIX = ".owner"
_MAX_WAIT = 5.0  # seconds, while another process checks the lock


class FileLock:
    """Holds an exclusive lock on `path` until `release` or the end of the process.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: The file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(self._file)
        except OSError:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Release the lock; the file stays."""
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


def wait_for_lock(path: Path, until: float, pause: float = 0.05) -> FileLock:
    """Take a lock as soon as its holder releases it; raise BlockingIOError after `until` (monotonic seconds)."""
    while True:
        try:
            return FileLock(path)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(pause)


class OwnerLock:
    """Makes this process an owner of `folder` until `release` or the end of the process.

    Raises:
        OSError: The lock file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        limit = time.monotonic() + _MAX_WAIT
        while True:
            self._lock: FileLock | None = wait_for_lock(self._path, limit, 0.01)
            if self._path.exists():  # otherwise it was removed as stale just before it was locked
                return
            self._lock.release()

    def is_in_place(self) -> bool:
        """Return whether those who count the owners see this one: somebody may have removed the folder."""
        return self._lock is not None and self._path.exists()

    def release(self) -> None:
        """Give up ownership. Calling it again does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
            with contextlib.suppress(OSError):  # the next process that counts removes it
                self._path.unlink()


def count_owners(folder: Path) -> int:
    """Return how many owners the folder has now."""
    return sum(_is_held(path) for path in folder.glob(f"*{_SUFFIX}"))


def _is_held(path: Path) -> bool:
    try:
        lock = FileLock(path)
    except BlockingIOError:
        return True
    except OSError:  # removed meanwhile, or cannot be opened
        return path.exists()
    if os.name == "nt":  # an open file cannot be removed there, so it has to be closed first
        lock.release()
    with contextlib.suppress(OSError):
        path.unlink()
    if os.name != "nt":
        lock.release()
    return False


@contextlib.contextmanager
def locked_environment() -> Iterator[None]:
    """Lock the Python environment of this process in the block, so that Set Up does not remove it meanwhile."""
    folder, lock = Path(sys.prefix) / IN_USE, None
    if folder.is_dir():  # otherwise Set Up did not create it
        with contextlib.suppress(OSError):  # it is read-only, so nobody can remove it
            lock = OwnerLock(folder)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
