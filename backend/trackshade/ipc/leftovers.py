# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that are deleted even if the process that fills them is killed: by the next one that comes by.

Such a folder holds a lock file that is locked as long as its process runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trackshade.ipc.locks import FileLock

LOCK = ".in-progress"
OLD = 86400.0  # seconds after which an unfinished folder without a lock file is a left-over of an earlier version
_PREFIX = "trackshade-"
_ATTEMPTS = 3


class FolderLock:
    """Marks a folder as in use until `release` or the end of this process. Raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._lock: FileLock | None = FileLock(self._path)
        if not self._path.exists():  # deleted as a left-over just before it was locked
            self._lock.release()
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(self._path))

    def release(self) -> None:
        """Release the lock and remove its file. Calling it again does nothing."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()
            with contextlib.suppress(OSError):
                self._path.unlink()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def make_temporary_folder() -> tuple[Path, FolderLock]:
    """Make a folder for temporary files, and mark it as in use; delete those that killed processes left.

    Raises:
        OSError: It cannot be made.
    """
    delete_leftovers(Path(tempfile.gettempdir()), f"{_PREFIX}*", float("inf"))
    for attempt in range(_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            return folder, FolderLock(folder)
        except OSError:  # another process may have taken it for a left-over
            shutil.rmtree(folder, ignore_errors=True)
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for temporary files, which is deleted after the block. Raise OSError."""
    folder, lock = make_temporary_folder()
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def delete_leftovers(parent: Path, pattern: str, without_lock: float = OLD) -> None:
    """Delete the folders in `parent` that no process fills any more.

    Args:
        parent: Folder to look in; it need not exist.
        pattern: Pattern of their names.
        without_lock: Seconds after which one that has no lock file is deleted.
    """
    for folder in parent.glob(pattern):
        with contextlib.suppress(OSError):  # in use, deleted meanwhile, or another user's
            if folder.is_symlink() or not folder.is_dir():
                continue
            if (folder / LOCK).is_file():
                FileLock(folder / LOCK).release()
            elif time.time() - folder.stat().st_mtime < without_lock:
                continue
            shutil.rmtree(folder, ignore_errors=True)


def delete_partial_results(out: Path) -> None:
    """Delete the unfinished results that killed processes left beside `out`."""
    delete_leftovers(out.parent, ".*.partial-*")
