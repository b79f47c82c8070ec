# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs programs for a task that takes its time and can be cancelled; never on Blender's main thread."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trackshade.core.errors import CancelledError

TAIL = 200  # lines that are kept
END_TIME = 3.0  # seconds to end in good order

# Runs a module, and ends with the program that started it: its standard input closes then.
WATCHED = """
import os, runpy, sys, threading
def watch():
    while os.read(0, 4096):
        pass
    os._exit(130)
threading.Thread(target=watch, daemon=True).start()
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended: exit code, its last lines, and whether it was ended for taking too long."""

    code: int
    tail: tuple[str, ...]
    timed_out: bool = False


class Task:
    """Something that runs programs one after the other, and can be cancelled from any thread.

    Cancelled, a program's standard input closes, and `patience` seconds later it is killed: 0 for one that has nothing
    to put in order.
    """

    def __init__(self, patience: float = END_TIME) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self.cancelled = threading.Event()

    def check(self) -> None:
        """Raises Cancelled where somebody wants the end."""
        if self.cancelled.is_set():
            raise CancelledError

    def cancel(self) -> None:
        """Ends what runs; returns at once."""
        self.cancelled.set()
        with self._lock:
            process = self._process
        if process is not None:
            threading.Thread(target=_end, args=(process, self._patience), name="trackshade-end", daemon=True).start()

    def run(
        self,
        command: Sequence[str],
        on_line: Callable[[str], None] | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        folder: Path | None = None,
        limit: float | None = None,
    ) -> Ended:
        """Runs a program to its end; `on_line` gets each line that it says. `folder` is where it is started, the
        current folder if None.

        Raises Cancelled, and OSError where it cannot be started.
        """
        self.check()
        process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace", env=None if variables is None else dict(variables), cwd=folder,
            creationflags=subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0,
            start_new_session=sys.platform != "win32",
        )  # fmt: skip
        with self._lock:
            self._process = process
        late = threading.Event()
        end = partial(_end, process, self._patience)
        timer = threading.Timer(limit, lambda: (late.set(), end())) if limit is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            if self.cancelled.is_set():  # between the check and the start
                end()
            tail = self._read(process, on_line)
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._process = None
            end()
        self.check()
        return Ended(process.returncode, tuple(tail), late.is_set())

    def _read(self, process: subprocess.Popen[str], on_line: Callable[[str], None] | None) -> deque[str]:
        tail: deque[str] = deque(maxlen=TAIL)
        assert process.stdout is not None
        for line in process.stdout:
            text = line.rstrip()
            tail.append(text)
            if on_line is not None and text:
                on_line(text)
        process.wait()
        return tail


def _end(process: subprocess.Popen[str], patience: float) -> None:
    """Ends a program and what it started."""
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(OSError):  # it is gone already
            process.stdin.close()
    try:
        process.wait(patience if process.returncode is None else 0)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:  # it ended meanwhile
        return
    process.wait()
