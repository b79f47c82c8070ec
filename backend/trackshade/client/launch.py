# SPDX-License-Identifier: GPL-3.0-or-later
"""A private backend: a process that belongs to whoever starts it, and ends with it however that ends."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from trackshade.client.client_socket import Address
from trackshade.core.errors import ProtocolError
from trackshade.core.processes import environment_python
from trackshade.ipc import connection_files
from trackshade.ipc.connection_files import ConnectionInfo

START_TIME = 30.0  # seconds: far more than it takes, for a machine that is busy with something else
END_TIME = 10.0


def start_private(
    python: str | os.PathLike[str] | None = None,
    store: Path | None = None,
    *,
    options: Sequence[str] = (),
) -> PrivateBackend:
    """Start a backend for this process alone; returns when clients can connect, within a second or two.

    `python` is the interpreter of the environment with the backend (TRACKSHADE_PYTHON, else this one), `store` the
    job store's folder (the per-user one if None), `options` more options of `python -m trackshade.server`.

    Raises ProtocolError("backend-not-started") with what the backend said.
    """
    chosen = os.fspath(python or os.environ.get("TRACKSHADE_PYTHON") or sys.executable)
    arguments = ["--private", *options]
    if store is not None:
        arguments += ["--store", os.path.abspath(store)]
    folder = Path(tempfile.mkdtemp(prefix="trackshade-"))
    file, log = folder / "connection.json", folder / "log"
    arguments += ["--connection-file", os.fspath(file)]
    try:
        start = environment_python(chosen, "-m", "trackshade.server", *arguments)
        with open(log, "wb") as output:
            process = subprocess.Popen(
                start.command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=start.variables
            )
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ProtocolError(
            "backend-not-started", f"{chosen} cannot be run: {error.strerror}.", "Give the backend's Python."
        ) from error
    backend = PrivateBackend(process, folder, log)
    try:
        backend.wait_until_ready(file)
    except BaseException:
        backend.close()
        raise
    return backend


class PrivateBackend:
    """A running private backend. A context manager; `close` ends it, and so does the end of this process.

    Attributes:
        info: where it listens and its token, once it is ready.
    """

    info: ConnectionInfo

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, log: Path) -> None:
        self._process = process
        self._folder = folder
        self._log = log
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        return self._process.pid

    def address(self) -> Address:
        """Where to connect. Raises ProtocolError("backend-ended")."""
        if self._process.poll() is not None:
            raise ProtocolError(
                "backend-ended",
                f"The private backend has ended. {last_words(self._log)}".strip(),
                "Start it again.",
            )
        return Address(self.info.endpoint, self.info.token)

    def wait_until_ready(self, file: Path) -> None:
        """Wait for the connection file. Raises ProtocolError("backend-not-started")."""
        self.info = wait_for_file(self._process, file, self._log, time.monotonic() + START_TIME)

    def close(self) -> None:
        """End the backend and wait for it; it queues what it was doing for the next one."""
        atexit.unregister(self.close)
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(END_TIME)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> PrivateBackend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_for_file(process: subprocess.Popen[bytes], file: Path, log: Path, limit: float) -> ConnectionInfo:
    """Waits until a backend that was started writes its connection file, at most until `limit` (monotonic seconds).

    Raises ProtocolError("backend-not-started") with what it said last.
    """
    while True:
        info = connection_files.read(file)
        if info is not None:
            return info
        if process.poll() is not None or time.monotonic() > limit:
            raise ProtocolError(
                "backend-not-started",
                f"The backend could not be started with {process.args[0]}. {last_words(log)}".strip(),  # type: ignore[index]
                "Check that this Python has Trackshade with its backend, and that the job store can be written.",
            )
        time.sleep(0.02)


def last_words(log: Path) -> str:
    """The last line of a backend's log, which for a Python process that failed names the error; else ""."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4000))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:500] if lines else ""
