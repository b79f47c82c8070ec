# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch has done so far, in a file of its output folder, by which a later run goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trackshade.cli.batch.rows import Row
from trackshade.core.atomic_files import is_occupied, write_json, writing
from trackshade.core.errors import OutputError, UsageError
from trackshade.ipc.locks import FileLock

FILE, LOCK = "batch.json", ".batch.lock"
FORMAT = 1
DONE, FAILED, CANCELLED, WAITING = "done", "failed", "cancelled", "waiting"


@dataclass(frozen=True)
class RowState:
    """What became of a row.

    Attributes:
        folder: Name of its result's folder.
        state: One of the states above.
        error: The error as `TrackshadeError.to_dict`, or None.
        seconds: How long it took.
        ended: When it ended, seconds since 1970; 0 if it has not.
    """

    folder: str
    state: str = WAITING
    error: dict[str, Any] | None = None
    seconds: float = 0.0
    ended: float = 0.0


class BatchRecord:
    """The states of the rows that a batch has run, by their digests. Locks the output folder until `close`.

    Raises:
        OutputError: "batch-in-use", "damaged-batch", or the folder cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._states: dict[str, RowState] = {}
        with writing("The batch", out):
            out.mkdir(parents=True, exist_ok=True)
            try:
                self._lock = FileLock(out / LOCK)
            except BlockingIOError as error:
                fix = "Wait for it, or choose another --out."
                raise OutputError("batch-in-use", f"Another batch is writing to {out}.", fix) from error
        try:
            data = json.loads((out / FILE).read_text(encoding="utf-8"))
            self._states = {str(key): RowState(**value) for key, value in data["rows"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._lock.release()
            fix = "Delete it to shade everything again, or choose another --out."
            raise OutputError("damaged-batch", f"{out / FILE} cannot be read: {error}.", fix) from error

    def assign_folders(self, rows: Sequence[Row]) -> None:
        """Give each row a folder: the one that it had, or a new one. Raise UsageError for a folder of something else.

        Rows that are done keep their state if their result is still there; others wait.
        """
        wanted = {row.digest: row for row in rows}
        named = {row.name.lower() for row in rows if row.name}
        known = {state.folder.lower(): digest for digest, state in self._states.items()}
        for row in rows:
            state = self._states.get(row.digest)
            if state is not None and row.name in ("", state.folder):
                is_done = state.state == DONE and (self.out / state.folder / "job.json").is_file()
                self._states[row.digest] = state if is_done else RowState(state.folder)
                continue
            if row.name:
                self._take_named(row, known, wanted.keys())
                folder = row.name
            else:
                folder = next(
                    name
                    for number in itertools.count(1)
                    if (name := row.stem if number == 1 else f"{row.stem}-{number}").lower() not in named | known.keys()
                    and not is_occupied(self.out / name)
                )
            known[folder.lower()] = row.digest
            self._states[row.digest] = RowState(folder)

    def _take_named(self, row: Row, known: dict[str, str], wanted: Any) -> None:
        """Take over the folder of an earlier version of a row, which is replaced."""
        before = known.get(row.name.lower())
        if before is not None and before not in wanted:
            self._states.pop(before, None)
        elif before is None and is_occupied(self.out / row.name):
            raise UsageError(
                "batch-folder-taken",
                f"{self.out / row.name} is not of this batch, and line {row.line} has its name.",
                "Give the row another name, or choose another --out.",
            )

    def state(self, row: Row) -> RowState:
        """Return the state of a row."""
        return self._states[row.digest]

    def set(self, row: Row, **changes: Any) -> None:
        """Change the state of a row, and write it. Raise OutputError."""
        self._states[row.digest] = replace(self._states[row.digest], **changes)
        self.write()

    def forgotten(self, rows: Sequence[Row]) -> list[str]:
        """Return the folders of results that belong to no row any more."""
        current = {row.digest for row in rows}
        gone = [state for digest, state in self._states.items() if digest not in current]
        return sorted(state.folder for state in gone if (self.out / state.folder / "job.json").is_file())

    def write(self) -> None:
        """Write the file. Raise OutputError."""
        rows = {digest: asdict(state) for digest, state in self._states.items()}
        write_json(self.out / FILE, {"format": FORMAT, "rows": rows})

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()
