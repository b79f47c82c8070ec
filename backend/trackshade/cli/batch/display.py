# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows the progress of a batch on standard error: live in a terminal, otherwise a line for each row's stages."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from trackshade.ipc.protocol import FINAL_STATES


class BatchDisplay:
    """Shows a bar for the whole batch and one for each row that runs. Its `show` may be called from any thread."""

    def __init__(self, rows: int, waiting: int) -> None:
        """Prepare for a batch of so many rows, of which so many wait to be run."""
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._count, self._total = rows - waiting, rows
        self._all = self._progress.add_task("batch", total=rows, completed=self._count, what="")
        self._tasks: dict[str, TaskID] = {}
        self._stages: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> BatchDisplay:
        if self._live:
            self._progress.start()
        elif self._count:
            self._console.print(f"{self._count} of {self._total} rows were done before.")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._progress.stop()

    def show(self, name: str, message: Mapping[str, Any]) -> None:
        """Show a progress message of a row, or its end, which is a message with "ended"."""
        state, has_ended = str(message["state"]), bool(message.get("ended"))
        with self._lock:
            if has_ended:
                self._count += 1
            if self._live:
                self._update(name, state, message)
            elif has_ended or (self._stages.get(name) != state and state not in FINAL_STATES):
                self._stages[name] = state
                end = f" ({self._count} of {self._total})" if has_ended else ""
                self._console.print(f"{name}: {state}{end}", markup=False, soft_wrap=True)

    def _update(self, name: str, state: str, message: Mapping[str, Any]) -> None:
        self._progress.update(self._all, completed=self._count, what=f"{self._count} of {self._total}")
        if message.get("ended"):
            if name in self._tasks:
                self._progress.remove_task(self._tasks.pop(name))
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=None, what="")
        step, steps = message.get("step"), message.get("steps")
        what = f"{state} {step} of {steps}" if steps else state
        self._progress.update(self._tasks[name], total=steps, completed=step or 0, what=what)
