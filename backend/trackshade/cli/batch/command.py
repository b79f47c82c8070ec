# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `trackshade batch`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from trackshade.cli.batch.display import BatchDisplay
from trackshade.cli.batch.record import CANCELLED, DONE, FAILED, BatchRecord
from trackshade.cli.batch.report import write_report
from trackshade.cli.batch.rows import Row, read_rows, row_options
from trackshade.cli.batch.run import RunOptions, run_rows
from trackshade.client import find_served, start_private
from trackshade.config.options import BACKEND, JSON, Option
from trackshade.core.errors import CancelledError, JobError, UsageError

REPORT = "report.html"
_OWN = (
    Option(
        "sources",
        "CSV list with a column 'scene' and columns for options of 'render'; or a folder of scenes; or scenes.",
        "LIST.csv|FOLDER|SCENE",
        required=True,
        repeat=True,
    ),
    Option("--out", "Folder of the results and the report. Default: named after the list.", "DIR", short="-o"),
    Option("--parallel", "Number of rows that run at a time.", "N", 1, int, short="-j"),
    Option("--workers", "Workers of a backend that is started for this; they share its devices.", "N", 1, int),
    Option("--check", "Check the rows, print them, and end.", default=False, kind=bool),
    JSON,
    *BACKEND,
)


def batch_options() -> tuple[Option, ...]:
    """Return the options of the command: its own, and those that hold for all rows."""
    own = {option.key for option in _OWN}
    return *_OWN, *(option for option in row_options() if option.key not in own)


def run_batch(values: Mapping[str, Any]) -> None:
    """Run a batch, print a table of its rows and write its report.

    Raises:
        UsageError: Rows are wrong; nothing was started.
        OutputError: The output folder cannot be written.
        CancelledError: It was interrupted; the next run goes on.
        JobError: "batch-failed": rows failed, which are named with their reasons.
    """
    if values["parallel"] < 1 or values["workers"] < 1:
        raise UsageError("usage", "--parallel and --workers are at least 1.", "See: trackshade batch --help")
    sources = [Path(source).expanduser() for source in values["sources"]]
    own = {option.key for option in _OWN}
    shared = {option.key: values[option.key] for option in row_options() if option.key not in own}
    shared = {option.key: shared[option.key] for option in row_options() if shared[option.key] != option.default}
    rows = read_rows(sources, shared)
    out = Path(values["out"] or f"{sources[0].absolute().stem}-batch").absolute()
    if values["check"]:
        _print_rows(rows)
        return
    record = BatchRecord(out)
    try:
        record.assign_folders(rows)
        waiting = [row for row in rows if record.state(row).state != DONE]
        interrupted = _run(rows, waiting, record, values)
        report = write_report(out / REPORT, rows, record)
        failed = [row for row in rows if record.state(row).state == FAILED]
        result = _result(rows, record, report)
        if values["json"] and (failed or interrupted is not None):
            error = interrupted or _failure(failed, record)
            print(json.dumps({**result, "error": error.to_dict()}, ensure_ascii=False), flush=True)
            sys.exit(error.exit_code)
        _print_summary(rows, waiting, record, report, values["json"], result)
        if interrupted is not None:
            raise interrupted
        if failed:
            raise _failure(failed, record)
    finally:
        record.close()


def _run(
    rows: Sequence[Row], waiting: Sequence[Row], record: BatchRecord, values: Mapping[str, Any]
) -> CancelledError | None:
    """Run the rows that wait; return the error if it was interrupted."""
    if not waiting:
        return None
    connection = {option.key: values[option.key] for option in BACKEND}
    with ExitStack() as stack:
        variables = {}
        if connection["endpoint"] is None and find_served() is None:  # one backend for all rows
            workers = ["--workers", str(values["workers"])]
            backend = stack.enter_context(start_private(connection["backend_python"], options=workers))
            connection["endpoint"], variables = backend.info.endpoint, {"TRACKSHADE_TOKEN": backend.info.token}
        display = stack.enter_context(BatchDisplay(len(rows), len(waiting)))
        how = RunOptions(values["parallel"], values["blender"], connection, variables)
        try:
            run_rows(waiting, record, how, lambda row, message: display.show(record.state(row).folder, message))
        except CancelledError as error:
            return error
    return None


def _failure(failed: Sequence[Row], record: BatchRecord) -> JobError:
    reasons = [f"{record.state(row).folder}: {_reason(row, record)}" for row in failed]
    count = "1 row" if len(failed) == 1 else f"{len(failed)} rows"
    return JobError(
        "batch-failed",
        f"{count} failed. {' '.join(reasons)}",
        "The same command runs those rows again.",
    )


def _reason(row: Row, record: BatchRecord) -> str:
    error = record.state(row).error or {}
    return " ".join(str(error[key]) for key in ("message", "fix") if error.get(key))


def _result(rows: Sequence[Row], record: BatchRecord, report: Path) -> dict[str, Any]:
    states = [record.state(row) for row in rows]
    return {
        "out": str(record.out),
        "files": {"report": str(report)},
        "rows": [
            {
                "line": row.line,
                "name": state.folder,
                "scene": str(row.source),
                "state": state.state,
                "out": str(record.out / state.folder),
                "seconds": state.seconds,
                "error": state.error,
            }
            for row, state in zip(rows, states, strict=True)
        ],
        "warnings": [],
    }


def _print_rows(rows: Sequence[Row]) -> None:
    table = Table("line", "name", "command", "scene", box=None, pad_edge=False)
    for row in rows:
        table.add_row(str(row.line), row.name or row.stem, row.command, str(row.source))
    Console(highlight=False, markup=False).print(table)


def _print_summary(
    rows: Sequence[Row],
    waiting: Sequence[Row],
    record: BatchRecord,
    report: Path,
    as_json: bool,
    result: Mapping[str, Any],
) -> None:
    """Print the table of the rows to standard error, and where the report is to standard output."""
    has_run = set(waiting)
    table = Table("line", "name", "state", "time", "", box=None, pad_edge=False)
    for row in rows:
        state = record.state(row)
        how = "done before" if state.state == DONE and row not in has_run else state.state
        reason = _reason(row, record) if state.state in (FAILED, CANCELLED) else ""
        seconds = f"{state.seconds:.0f} s" if state.seconds else ""
        table.add_row(str(row.line), state.folder, how, seconds, reason)
    notes = Console(stderr=True, highlight=False, markup=False)
    notes.print(table)
    if forgotten := record.forgotten(rows):
        notes.print(f"Results of rows that are not in the list any more were kept: {', '.join(forgotten)}.")
    if as_json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
    else:
        print(f"{'report':16}{report}", flush=True)
