# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command tells what it does: to a person, to a script (--json), or to the command line that started it."""

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

from trackshade.core.errors import TrackshadeError
from trackshade.ipc import json_lines

from .jobs.composer import Progress


class Report:
    """Progress and errors go to standard error, the result to standard output.

    What Blender itself and its add-ons print to standard output meanwhile goes to standard error, so that a script
    reads nothing but the result. Where a command line reads along, everything goes to it in lines of its own instead.
    """

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._relay = os.environ.get(json_lines.VARIABLE) == "1"
        self._latest = ""
        self._out = sys.stdout
        self._python = contextlib.redirect_stdout(sys.stderr)

    def __enter__(self) -> Report:
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
        os.dup2(2, 1)  # and stays so: Blender says goodbye on standard output, too
        self._python.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._python.__exit__(None, None, None)
        self._out.close()

    def progress(self, progress: Progress) -> None:
        """Tells where the job is, once for each change."""
        if self._relay:
            self._send({"event": "progress", **progress.to_dict()})
        elif str(progress) != self._latest:
            self._latest = str(progress)
            print(f"trackshade: {progress}", file=sys.stderr, flush=True)

    def result(self, result: Mapping[str, Any]) -> None:
        """Tells what was made."""
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
        """Tells what went wrong; its exit code."""
        if self._relay:
            self._send({"event": "error", "error": error.to_dict()})
        else:
            print(f"trackshade: {error}", file=sys.stderr, flush=True)
            if self._json:
                print(json.dumps({"error": error.to_dict()}, ensure_ascii=False), file=self._out, flush=True)
        return error.exit_code

    def _send(self, message: Mapping[str, Any]) -> None:
        text = json_lines.format_line(message)
        if text != self._latest:
            self._latest = text
            with contextlib.suppress(BrokenPipeError):  # nobody reads any more: the interrupt is on its way
                print(text, file=self._out, flush=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, SIGTERM and the end of the command line that started this process raise KeyboardInterrupt here.

    Blender by itself takes Ctrl-C to mean the end of a render, and Python never hears of it.
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
    time.sleep(20)  # then whatever is still going on is not worth waiting for
    os._exit(130)
