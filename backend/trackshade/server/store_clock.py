# SPDX-License-Identifier: GPL-3.0-or-later
"""How old something in a job store is, whatever the computer's clock is or was set to."""

from __future__ import annotations

import contextlib
import math
import time

from trackshade.core.errors import OutputError
from trackshade.server.database import Database

STORE_EVERY = 60.0  # seconds
MAX_STEP = 86400.0  # seconds that count from one look at the computer's clock to the next, at most
TABLES = """
CREATE TABLE IF NOT EXISTS clock (
    id INTEGER PRIMARY KEY CHECK (id = 0), passed REAL NOT NULL, looked REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS noticed (
    name TEXT PRIMARY KEY, mark TEXT NOT NULL, passed REAL NOT NULL
) WITHOUT ROWID;
"""


class StoreClock:
    """Counts the time that passes for a job store, over all backends that have it one after the other.

    From one look at the computer's clock to the next, a day counts at most, and a clock that was set back counts
    nothing. So a computer that starts with a wrong clock, whose next start is with the right one, makes nothing old,
    and days on which no backend runs count as one.
    """

    def __init__(self, database: Database) -> None:
        """Go on where the last backend ended. The database has the tables `TABLES`. Raise OutputError."""
        self._database = database
        found = database.rows("SELECT passed, looked FROM clock WHERE id = 0")
        passed, looked = found[0] if found else (0.0, time.time())
        is_damaged = not (_is_time(passed) and _is_time(looked))
        self._passed, self._looked = (0.0, time.time()) if is_damaged else (passed, looked)
        self._stored = 0.0  # when the time was stored

    def look(self) -> float:
        """Look at the computer's clock; return the seconds that have passed for the store.

        On a disk that cannot be written, the time goes on in memory.
        """
        now = time.time()
        self._passed += min(max(0.0, now - self._looked), MAX_STEP)
        self._looked = now
        if abs(now - self._stored) > STORE_EVERY:
            with contextlib.suppress(OutputError):
                self._database.rows("INSERT OR REPLACE INTO clock VALUES (0, ?, ?)", (self._passed, now))
                self._stored = now
        return self._passed

    def age(self, name: str, mark: str) -> float:
        """Return the seconds since something was asked for under a name and with a mark for the first time.

        If the mark is another one than before, the age begins again. So it does not begin, and is 0, while the disk
        cannot be written.
        """
        now = self.look()
        found = self._database.rows("SELECT passed FROM noticed WHERE name = ? AND mark = ?", (name, mark))
        if found and _is_time(found[0][0]):
            return max(0.0, now - found[0][0])
        with contextlib.suppress(OutputError):
            self._database.rows("INSERT OR REPLACE INTO noticed VALUES (?, ?, ?)", (name, mark, now))
        return 0.0

    def forget(self, name: str) -> None:
        """Delete what is known of a name. Raise OutputError."""
        self._database.rows("DELETE FROM noticed WHERE name = ?", (name,))


def _is_time(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
