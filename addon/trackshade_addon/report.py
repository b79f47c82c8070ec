# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the progress and the result of a command: for a person, a script, or the `trackshade` command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from trackshade.client.progress import Progress
from trackshade.core.errors import TrackshadeError
from trackshade.core.farm_lines import FarmLines
from trackshade.ipc import json_lines


class Report:
    """Prints progress and errors to standard error, and the result to standard output.

    What Blender itself and its add-ons print to standard output meanwhile goes to standard error, so that a script
    reads nothing but the result. If the `trackshade` command line started this process, everything goes to it as JSON
    lines instead.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._relay = os.environ.get(json_lines.VARIABLE) == "1"
        self._out = sys.stdout
        self._lines = FarmLines("none")
        self._python = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> Report:
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(2, 1)  # for good: Blender prints to standard output at its end, too
        self._python.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._python.__exit__(None, None, None)
        self._out.close()

    def help_to_output(self) -> contextlib.AbstractContextManager[Any]:
        """Let argparse print its help to standard output in the block."""
        return contextlib.redirect_stdout(self._out)

    def use_farm(self, farm: str) -> None:
        """Also print the lines of a render farm, one of `FARMS`. The command line prints them itself."""
        if not self._relay:
            self._lines = FarmLines(farm, self._out)

    def progress(self, progress: Progress) -> None:
        """Print the progress of the command."""
        self._lines.progress(progress.to_dict())
        if self._relay:
            self._send({"event": "progress", **progress.to_dict()})
        else:
            print(f"trackshade: {progress}", file=sys.stderr, flush=True)

    def result(self, result: Mapping[str, Any]) -> None:
        """Print the result of the command."""
        self._lines.result(result)
        if self._relay:
            self._send({"event": "result", "result": dict(result)})
        elif self._json:
            print(json.dumps(result, ensure_ascii=False, allow_nan=False), file=self._out, flush=True)
        else:
            for warning in result.get("warnings", ()):
                print(f"trackshade: warning: {warning}", file=sys.stderr)
            for name, path in result["files"].items():
                print(f"{name:16}{path}", file=self._out, flush=True)

    def error(self, error: TrackshadeError) -> int:
        """Print an error, and return its exit code."""
        self._lines.failure(str(error))
        if self._relay:
            self._send({"event": "error", "error": error.to_dict()})
        else:
            print(f"trackshade: {error}", file=sys.stderr, flush=True)
            if self._json:
                print(json.dumps({"error": error.to_dict()}, ensure_ascii=False), file=self._out, flush=True)
        return error.exit_code

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the reader has ended: the interrupt is on its way
            print(json_lines.format_line(message), file=self._out, flush=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block on Ctrl-C, on SIGTERM, and when the parent command line ends.

    Without this, Ctrl-C only ends a render in Blender, and Python is not interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    if os.environ.get(json_lines.VARIABLE) == "1":
        threading.Thread(target=_interrupt_at_end_of_input, name="trackshade-parent", daemon=True).start()
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was set by Blender, not by Python
                signal.signal(number, handler)


def _interrupt_at_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            continue
    signal.raise_signal(signal.SIGINT)
    time.sleep(20)  # time for an orderly end
    os._exit(130)
