# SPDX-License-Identifier: GPL-3.0-or-later
"""A real backend for the tests: a process of its own, in the environment that has torch."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys

import pytest

_RUN = """
import json, os, sys, traceback
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for line in sys.stdin:
    program, sys.argv[1:] = json.loads(line)
    try:
        exec(compile(program, "<test>", "exec"), {"__name__": "__main__"})
        said = ""
    except BaseException:
        said = traceback.format_exc()
    print(json.dumps(said), file=answers, flush=True)
"""


def backend_python() -> str:
    """The Python of an environment with the backend: TRACKSHADE_PYTHON, else this one. Skips where there is none."""
    chosen = os.environ.get("TRACKSHADE_PYTHON")
    if chosen is None and importlib.util.find_spec("torch") is not None:
        chosen = sys.executable
    if chosen is None:
        pytest.skip("needs an environment with torch: set TRACKSHADE_PYTHON")
    return chosen


def run_in_backend(program: str, *arguments: object) -> None:
    """Run a program in the backend's environment, with its arguments in `sys.argv[1:]`.

    All programs run in one process, which imports what they need only once. It ends with this one.
    """
    process = _process(backend_python())
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps((program, [str(argument) for argument in arguments])) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, "the process has ended"
    failure = json.loads(answer)
    assert not failure, failure


@functools.cache
def _process(python: str) -> subprocess.Popen[str]:
    return subprocess.Popen([python, "-P", "-c", _RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
