# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the rows of a batch, several at a time, each as a command of its own that a crash of another does not touch."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trackshade.cli.batch.record import CANCELLED, DONE, FAILED, BatchRecord
from trackshade.cli.batch.rows import Row
from trackshade.config import parsing
from trackshade.core.errors import CancelledError, JobError, TrackshadeError
from trackshade.core.processes import end_process, this_python
from trackshade.ipc import json_lines

GRACE = 30.0  # seconds that a row has to restore its scene and to cancel its job
_TAIL = 5  # lines of a process that ended without a result, for its error


@dataclass(frozen=True)
class RunOptions:
    """How rows are run.

    Attributes:
        parallel: Number of rows at a time.
        blender: Blender to run, or None for the default one.
        connection: The options "endpoint", "curve" and "backend_python" by key.
        variables: Further environment variables, such as the backend's token.
    """

    parallel: int = 1
    blender: str | None = None
    connection: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


OnProgress = Callable[[Row, Mapping[str, Any]], None]  # called from several threads


def run_rows(rows: Sequence[Row], record: BatchRecord, how: RunOptions, on_progress: OnProgress) -> None:
    """Run rows and record what becomes of them; a row that fails does not end the others.

    Raises:
        CancelledError: On Ctrl-C, after the running rows were cancelled.
        OutputError: The record cannot be written.
    """
    started: dict[Row, float] = {}
    running: dict[Future[TrackshadeError | None], Row] = {}
    runs = _Runs(how, on_progress)
    executor = ThreadPoolExecutor(max(1, how.parallel), thread_name_prefix="batch")
    try:
        queue = deque(rows)
        while queue or running:
            while queue and len(running) < how.parallel:
                row = queue.popleft()
                started[row] = time.time()
                running[executor.submit(runs.run, row, record.out / record.state(row).folder)] = row
            for future in wait(running, timeout=1.0, return_when=FIRST_COMPLETED).done:
                row = running.pop(future)
                _record_end(record, row, future.result(), started[row])
                on_progress(row, {"state": record.state(row).state, "ended": True})
    except BaseException as error:
        runs.cancel()
        executor.shutdown(cancel_futures=True)
        for future, row in running.items():
            if future.done() and not future.cancelled():
                _record_end(record, row, future.result(), started[row])
        if isinstance(error, KeyboardInterrupt):
            raise CancelledError from None
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _record_end(record: BatchRecord, row: Row, error: TrackshadeError | None, started: float) -> None:
    state = DONE if error is None else CANCELLED if isinstance(error, CancelledError) else FAILED
    now = time.time()
    record.set(
        row, state=state, error=None if error is None else error.to_dict(), seconds=round(now - started, 2), ended=now
    )


class _Runs:
    """The processes of the rows that run."""

    def __init__(self, how: RunOptions, on_progress: OnProgress) -> None:
        self._how = how
        self._on_progress = on_progress
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._cancelled = False

    def run(self, row: Row, folder: Path) -> TrackshadeError | None:
        """Run a row to its end; return its error, or None."""
        values = {**row.values, **self._how.connection, "out": str(folder), "force": True}
        key = "shot" if row.command == "shade" else "scene"
        arguments = parsing.to_arguments(row.command, {**values, key: str(row.source.absolute())})
        if self._how.blender is not None:
            arguments.insert(1, f"--blender={self._how.blender}")
        start = this_python("-m", "trackshade.cli", *arguments)
        variables = {**start.variables, **self._how.variables, json_lines.VARIABLE: "1", "PYTHONUNBUFFERED": "1"}
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            with self._lock:
                if self._cancelled:
                    return CancelledError()
                try:
                    process = subprocess.Popen(
                        start.command,
                        stdin=subprocess.PIPE,  # when it closes, the command is interrupted
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                        encoding="utf-8",
                        errors="replace",
                        env=variables,
                        start_new_session=os.name != "nt",  # Ctrl-C reaches this process only, which passes it on
                    )
                except OSError as error:
                    return JobError(
                        "row-not-started",
                        f"The row cannot be started: {error.strerror or error}.",
                        "Run fewer rows at a time.",
                    )
                self._processes.add(process)
            try:
                return self._follow(process, row, log)
            finally:
                self._processes.discard(process)
                end_process(process, GRACE)

    def _follow(self, process: subprocess.Popen[str], row: Row, log: Any) -> TrackshadeError | None:
        """Pass progress on until the process ends; return its error, or None."""
        final: dict[str, Any] | None = None
        assert process.stdout is not None
        for line in process.stdout:
            message = json_lines.parse_line(line)
            if message is not None and message.get("event") == "progress":
                self._on_progress(row, message)
            elif message is not None:
                final = message
        code = process.wait()
        if final is None:
            if self._cancelled:
                return CancelledError()
            log.seek(0)
            tail = " ".join(line.strip() for line in log.read().splitlines()[-_TAIL:])
            return JobError(
                "row-ended",
                f"The command ended without a result (code {code}). {tail}".strip()[:600],
                "Run the row alone, by 'trackshade render' or 'trackshade shade', to see all that it prints.",
            )
        return TrackshadeError.from_dict(final["error"]) if final.get("event") == "error" else None

    def cancel(self) -> None:
        """Interrupt all processes and wait for their end; rows that have not begun do not begin."""
        with self._lock:
            self._cancelled = True
            processes = list(self._processes)
        threads = [threading.Thread(target=end_process, args=(process, GRACE)) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
