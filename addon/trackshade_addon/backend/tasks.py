# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that run outside Blender's main thread, with progress and cancellation. Does not import bpy.

`CancellableTask` runs programs one after another, `BackgroundTask` runs a function in a thread for a panel to follow,
and `run_backend_task` runs one command of `trackshade.cli.backend_tasks` in the backend's environment.
"""

from __future__ import annotations

import contextlib
import logging
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
from typing import Any

from trackshade.core.errors import CancelledError, JobError, TrackshadeError, UsageError
from trackshade.core.processes import environment_python
from trackshade.ipc import json_lines

TAIL = 200  # lines of a program's output that are kept
LOG_LINES = 300  # lines that a background task keeps for the log
END_TIME = 3.0  # seconds that a canceled program has to clean up

# Runs a module and exits when standard input closes, that is, when the program that started it is gone.
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

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProgramResult:
    """The exit code and the last lines of a program, and whether it was ended because it exceeded its time limit."""

    code: int
    tail: tuple[str, ...]
    timed_out: bool = False


class CancellableTask:
    """Runs programs one after another; can be canceled from any thread.

    Args:
        patience: seconds between closing a canceled program's standard input and killing it; 0 if it does not watch it.
    """

    def __init__(self, patience: float = END_TIME) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self.cancelled = threading.Event()

    def check(self) -> None:
        """Raise CancelledError if the task was canceled."""
        if self.cancelled.is_set():
            raise CancelledError

    def cancel(self) -> None:
        """End the program that is running; return immediately."""
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
    ) -> ProgramResult:
        """Run a program to its end, at the latest after `limit` seconds.

        `on_line` is called with each non-empty line of output. Without variables or folder it has Blender's.

        Raises:
            CancelledError: the task was canceled.
            OSError: the program cannot be started.
        """
        self.check()
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8", errors="replace", env=variables, cwd=folder,
            creationflags=subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0,
            start_new_session=sys.platform != "win32",
        )  # fmt: skip
        with self._lock:
            self._process = process
        timed_out = threading.Event()
        end = partial(_end, process, self._patience)
        timer = threading.Timer(limit, lambda: (timed_out.set(), end())) if limit is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            if self.cancelled.is_set():  # between the check and the start
                end()
            tail: deque[str] = deque(maxlen=TAIL)
            assert process.stdout is not None
            for line in process.stdout:
                text = line.rstrip()
                tail.append(text)
                if on_line is not None and text:
                    on_line(text)
            process.wait()
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._process = None
            end()
        self.check()
        return ProgramResult(process.returncode, tuple(tail), timed_out.is_set())


class BackgroundTask(CancellableTask):
    """Calls `function(task)` in a thread of its own. The function reports its progress to the task."""

    def __init__(self, function: Callable[[BackgroundTask], Any], message: str = "") -> None:
        super().__init__()
        self.progress: float | None = None  # fraction that is done, 0 to 1, if known
        self.message = message  # what is being done, for the panel
        self.error: TrackshadeError | None = None  # why the function failed
        self.result: Any = None  # what the function returned
        self.log_lines: deque[str] = deque(maxlen=LOG_LINES)  # the latest messages and lines of output
        self._function = function
        self._thread = threading.Thread(target=self._run, name="trackshade-work", daemon=True)
        self._thread.start()

    def report(self, progress: float | None, message: str) -> None:
        """Set the progress, 0 to 1, and the message that the panel shows."""
        self.progress, self.message = progress, message
        if not self.log_lines or self.log_lines[-1] != message:
            self.log_lines.append(message)

    def cancel(self) -> None:
        """Ask the function to end; return immediately."""
        super().cancel()
        if self.running:
            self.message = "Stopping"

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; return whether it came in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.result = self._function(self)
        except CancelledError as error:
            self.error = error
            return
        except TrackshadeError as error:
            self.error = error
            _log.warning("%s: %s", self.message, error)
        except Exception as error:  # noqa: BLE001 - a defect must be shown, not lost in a thread
            self.error = JobError("defect", f"Trackshade has failed ({type(error).__name__}: {error}).", "Report it.")
            _log.exception("%s: failed", self.message)
        if self.error is not None:
            self.log_lines.append(str(self.error))


def run_backend_task(
    task: CancellableTask,
    python: Path | str,
    *arguments: str,
    progress: Callable[[int, int, str], None] | None = None,
    on_line: Callable[[str], None] | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """Run a command of `trackshade.cli.backend_tasks` to its end, and return the result that it prints.

    The interpreter is that of the backend's environment. Meanwhile progress(done, total, message) is called, in bytes
    or steps and with what is done or "", and `on_line` with each line of output that is not a message. After `limit`
    seconds the program is ended.

    Raises:
        UsageError: the interpreter cannot be run.
        JobError: the program ended without a result.
        CancelledError: the task was canceled.
        TrackshadeError: the command failed with this error.
    """
    answer: dict[str, Any] = {}

    def receive(line: str) -> None:
        message = json_lines.parse_line(line)
        if message is None:
            if on_line is not None:
                on_line(line)
        elif message.get("event") != "progress":
            answer.update(message)
        elif progress is not None:
            progress(int(message["done"]), max(1, int(message["total"])), str(message.get("message", "")))

    try:
        start = environment_python(python, "-m", "trackshade.cli.backend_tasks", *arguments)
        result = task.run(start.command, receive, variables=start.variables, limit=limit)
    except OSError as error:
        raise UsageError(
            "wrong-python", f"{python} cannot be run: {error.strerror}.", "Choose another Python."
        ) from error
    if answer.get("event") == "error":
        raise TrackshadeError.from_dict(answer)
    if answer.get("event") != "result":
        reason = next((line for line in reversed(result.tail) if line.strip()), "it printed nothing")
        if result.timed_out:
            reason = f"it did not answer within {limit:.0f} seconds"
        _log.warning("%s in %s ended with code %d: %s", arguments[0], python, result.code, "\n".join(result.tail[-20:]))
        raise JobError(
            "backend-task-failed",
            f"The backend's environment does not work ({python}): {reason[:300]}",
            "Set the backend up again, or choose another environment.",
        )
    return answer


def _end(process: subprocess.Popen[str], patience: float) -> None:
    """End a program and everything that it started."""
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(OSError):  # the program has ended already
            process.stdin.close()
    try:
        process.wait(patience if process.returncode is None else 0)
    except subprocess.TimeoutExpired:
        if sys.platform == "win32":
            process.kill()
            return
        with contextlib.suppress(OSError):  # ended in the meantime
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
