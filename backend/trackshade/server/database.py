# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite database of a job store, whose errors are OutputErrors."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trackshade.core.errors import OutputError
from trackshade.server.chunk_store import storage_error

LOCK_TIME = 0.25  # seconds to wait for another program that locks the database: the broker answers nobody meanwhile
OPEN_LOCK_TIME = 5.0  # seconds to wait for it at the start
# Primary result codes (https://www.sqlite.org/rescode.html) of a disk or lock that may work again, as system errors.
_PASSING = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_IOERR: errno.ENOSPC,  # of a disk that is full as well
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_NOMEM: errno.ENOSPC,
    sqlite3.SQLITE_PERM: errno.EACCES,
}


class Database:
    """Opens the database at `path`; creates it and its tables if they are missing.

    Raises:
        OutputError: "store-damaged", or "store-unwritable" if it is locked or its disk is full.
    """

    def __init__(self, path: Path, tables: str) -> None:
        self._folder = path.parent
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=OPEN_LOCK_TIME)
        except sqlite3.Error as error:
            raise self._error(error) from error
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            # Safe against kill -9; a power cut may lose the last moments.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("PRAGMA cache_size = -2048")
            self._connection.executescript(tables)
            self._connection.execute(f"PRAGMA busy_timeout = {round(1000 * LOCK_TIME)}")
        except sqlite3.Error as error:
            self._connection.close()
            raise self._error(error) from error

    def rows(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; return its rows. Raise OutputError."""
        try:
            return self._connection.execute(query, values).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            raise self._error(error) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Run the block in a transaction. Raise OutputError."""
        self.rows("BEGIN IMMEDIATE")
        try:
            yield
            self.rows("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                try:
                    self._connection.execute("ROLLBACK")
                except sqlite3.Error as error:
                    raise self._error(error) from error
            raise

    def close(self) -> None:
        """Close the database."""
        try:
            self._connection.close()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> OutputError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _PASSING:
            return storage_error(OSError(_PASSING[code], str(error)), self._folder)
        fix = "Move that folder away, or start the backend with another store folder."
        return OutputError("store-damaged", f"The job list in {self._folder} cannot be read: {error}.", fix)
