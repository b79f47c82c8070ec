# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's Python, with what its tasks import already imported: a process that forks itself for each task.

A task of the add-on otherwise imports numba, SciPy and PyAV, which takes several times as long as the task
itself in tests. All else is started as usual.

    python warm_python.py serve SOCKET PARENT     forks for each task; ends when the process PARENT is gone
    python warm_python.py run SOCKET PYTHON ...   runs `PYTHON ...` by it
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

MODULE = ["-m", "trackshade.cli.backend_tasks"]
PACKAGES = {  # by task, what it imports
    "bake": "trackshade.results.baking",
    "drive": "trackshade.driving.reading",
    "export": "trackshade.exports",
    "lift": "trackshade.lifting",
}
ENDED = 70  # exit code for a task that was ended by a signal


def make_warm_python(python: str, folder: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Start the process that forks; return the program to use in place of `python`, and the process, to be killed."""
    address, program = folder / "tasks", folder / "python"
    server = subprocess.Popen(
        [python, "-P", __file__, "serve", str(address), str(os.getpid())], stdin=subprocess.DEVNULL
    )
    command = shlex.join([sys.executable, "-IS", __file__, "run", str(address), python])
    program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    program.chmod(0o755)
    return str(program), server


def serve(address: str, parent: int) -> None:
    """Fork for each task that is asked for."""
    from trackshade.cli import backend_tasks

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen()
    listener.settimeout(1.0)
    os.rename(f"{address}.new", address)
    tasks: set[int] = set()
    while os.getppid() == parent:
        tasks = {task for task in tasks if os.waitpid(task, os.WNOHANG)[0] == 0}
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        connection.settimeout(None)
        data, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        arguments, folder, variables = json.loads(data)
        importlib.import_module(PACKAGES[arguments[0]])
        task = os.fork()
        if task == 0:
            listener.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(variables)
            code = backend_tasks.main(arguments)
            sys.stdout.flush()
            connection.send(bytes([code]))
            os._exit(code)
        tasks.add(task)
        connection.close()
        for stream in streams:
            os.close(stream)


def run(address: str, python: str, arguments: list[str]) -> int:
    """Have a task run with this process's streams; return its exit code."""
    if arguments[:2] != MODULE or arguments[2] not in PACKAGES:
        os.execv(python, [python, *arguments])
    import time

    while not os.path.exists(address):  # it imports
        time.sleep(0.02)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        request = json.dumps([arguments[2:], os.getcwd(), dict(os.environ)])
        socket.send_fds(connection, [request.encode()], [0, 1, 2])
        for stream in (0, 1, 2):
            os.close(stream)
        code = connection.recv(1)
    return code[0] if code else ENDED


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        os._exit(run(sys.argv[2], sys.argv[3], sys.argv[4:]))
