# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress display of a command (a line for each stage, a bar for the current one) and its result or error.

A command that another one has started reports all three to it as JSON lines instead (`trackshade.ipc.json_lines`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from trackshade.core.errors import TrackshadeError
from trackshade.core.farm_lines import FarmLines
from trackshade.core.processes import call_when_input_closes
from trackshade.ipc import json_lines


def has_reader() -> bool:
    """Return whether another command has started this one and reads JSON lines from it."""
    return os.environ.get(json_lines.VARIABLE) == "1"


def interrupt_with_reader() -> None:
    """Interrupt this process, as Ctrl-C does, when the command that reads from it ends or closes standard input."""
    call_when_input_closes(lambda: signal.raise_signal(signal.SIGINT))


class ProgressDisplay:
    """Shows progress on standard error: live in a terminal, otherwise a line for each change.

    Args:
        lines: Prints it for a render farm, too.
    """

    def __init__(self, lines: FarmLines | None = None) -> None:
        self._lines = lines or FarmLines("none")
        self._reader = has_reader()
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None, count="")
        self._state = "starting"
        self._started = time.monotonic()
        self._line = ""

    def __enter__(self) -> ProgressDisplay:
        if self._live:
            self._progress.start()
        else:
            self.show({"state": "starting"})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._live:
            if kind is None:
                self._finish_stage()
            self._progress.stop()

    @property
    def is_interactive(self) -> bool:
        """Whether the user can answer questions."""
        return self._live and sys.stdin.isatty()

    def print(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        self._console.print(sentence, markup=False, soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Hide the bar while a question is asked."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def show(self, message: Mapping[str, Any]) -> None:
        """Show a message with "state" and optionally "message", "step" and "steps"."""
        self._lines.progress(message)
        if self._reader:
            fields = {key: message.get(key) for key in ("state", "message", "step", "steps")}
            print(json_lines.format_line({"event": "progress", **fields}), flush=True)
            return
        state, detail = str(message["state"]), str(message.get("message") or "")
        step, steps = message.get("step"), message.get("steps")
        count = f"{step} of {steps}" if step is not None and steps is not None else ""
        if not self._live:
            line = ", ".join(part for part in (state, count, detail) if part)
            if line != self._line:
                self._line = line
                self._console.print(line, markup=False, soft_wrap=True)
            return
        if state != self._state:
            self._finish_stage()
            self._state, self._started = state, time.monotonic()
            self._progress.reset(self._task)
        self._progress.update(
            self._task, description=_shorten(f"{state} {detail}"), total=steps, completed=step or 0, count=count
        )

    def _finish_stage(self) -> None:
        seconds = time.monotonic() - self._started
        self._progress.console.print(f"✓ {self._state:<12}{seconds:6.1f} s", markup=False)


def print_result(result: Mapping[str, Any], as_json: bool) -> None:
    """Print warnings and how the shot was fitted to standard error, then the files or one JSON object."""
    if has_reader():
        print(json_lines.format_line({"event": "result", "result": dict(result)}), flush=True)
        return
    if as_json:
        print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)
        return
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    for statement in (result.get("fit") or {}).values():
        if statement:
            notes.print(statement, markup=False)
    for warning in result.get("warnings", ()):
        notes.print(f"Warning: {warning}", markup=False, style="yellow")
    if sentence := consistency_sentence(result.get("consistency")):
        notes.print(sentence, markup=False)
    for name, path in result.get("files", {}).items():
        print(f"{name.replace('_', ' '):16}{path}", flush=True)


def consistency_sentence(consistency: Mapping[str, Any] | None) -> str:
    """Return the measured track consistency as a sentence, "" without a measurement."""
    if not consistency or consistency.get("result") is None:
        return ""
    words = [f"{consistency['result']:.1f} of 255 levels"]
    for key, name in (("input_render", "the input render's"), ("first_frame_held", "the first frame's, held still,")):
        if consistency.get(key) is not None:
            words.append(f"{name} by {consistency[key]:.1f}")
    return f"The color of a visible surface point varies by {'; '.join(words)}."


def print_error(error: TrackshadeError, as_json: bool) -> int:
    """Print one sentence to standard error, and with --json an object; return the exit code."""
    if has_reader():
        print(json_lines.format_line({"event": "error", "error": error.to_dict()}), flush=True)
        return error.exit_code
    print(f"trackshade: {error}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps({"error": error.to_dict()}, ensure_ascii=False), flush=True)
    return error.exit_code


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
