# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the processes that a test run leaves behind, however the run ends, SIGKILL included.

    python reaper.py MARK       waits for the end of its standard input, then kills all processes with that mark

A test run marks its environment, which its children inherit, and holds the other end of the pipe.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

VARIABLE = "TRACKSHADE_TEST_RUN"
ROUNDS = 50  # a process may be starting another one at the moment in which it is killed


def start_reaper() -> subprocess.Popen[bytes]:
    """Mark this process's environment, and start a reaper that acts when the returned process's `stdin` closes."""
    os.environ.pop(VARIABLE, None)
    mark = secrets.token_hex(8)
    reaper = subprocess.Popen(
        [sys.executable, __file__, mark], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    os.environ[VARIABLE] = mark
    return reaper


def marked(mark: str) -> Iterator[psutil.Process]:
    """All processes whose environment had the mark when they started."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(VARIABLE) == mark:
                yield process


def main() -> None:
    sys.stdin.buffer.read()
    for _ in range(ROUNDS):
        found = list(marked(sys.argv[1]))
        if not found:
            return
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.1)


if __name__ == "__main__":
    main()
