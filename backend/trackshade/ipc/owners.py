# SPDX-License-Identifier: GPL-3.0-or-later
"""Who needs a shared backend: each owner holds a lock in a folder, and the system frees it however the owner ends.

A lock is held by a file of its own, so that owners neither know of each other nor have an order. Files of owners that
are gone are removed by whoever looks.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from pathlib import Path

from trackshade.ipc.lock import FileLock

IN_USE = "in-use"  # folder of an environment that Set Up made: who runs in it
_SUFFIX = ".owner"
_PATIENCE = 5.0  # seconds for somebody who looks at the lock just now


class Owner:
    """Holds a lock in `folder` until `release` or the end of this process. Raises OSError where it cannot be made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
        limit = time.monotonic() + _PATIENCE
        while True:
            try:
                self._lock: FileLock | None = FileLock(self._path)
            except BlockingIOError:  # somebody looks whether it is held
                if time.monotonic() > limit:
                    raise
                time.sleep(0.01)
                continue
            if self._path.exists():  # else it was taken for one that is gone, just before it was locked
                return
            self._lock.release()

    def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
            with contextlib.suppress(OSError):  # whoever looks next removes it
                self._path.unlink()


def count(folder: Path) -> int:
    """How many owners there are now."""
    return sum(_is_held(path) for path in folder.glob(f"*{_SUFFIX}"))


def _is_held(path: Path) -> bool:
    try:
        lock = FileLock(path)
    except BlockingIOError:
        return True
    except OSError:  # gone meanwhile, or not to be opened
        return path.exists()
    if os.name == "nt":  # where no open file can be removed: neither this one, nor one that was locked meanwhile
        lock.release()
    with contextlib.suppress(OSError):
        path.unlink()
    if os.name != "nt":
        lock.release()
    return False


def hold_environment() -> Owner | None:
    """Holds the environment that this process runs in until its end, so that no set-up removes it meanwhile. None where
    it is not one that Set Up made.
    """
    folder = Path(sys.prefix) / IN_USE
    if not folder.is_dir():
        return None
    try:
        return Owner(folder)
    except OSError:  # in a folder that may only be read: nobody removes it either
        return None
