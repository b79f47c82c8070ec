# SPDX-License-Identifier: GPL-3.0-or-later
"""A shared backend: one process for all programs of a user that want one, such as two Blenders.

Each holds a lock (`trackshade.ipc.owners`) for as long as it wants the backend; the backend ends within a second or
two when nobody holds one any more, however the last one ended. One that dies is started again by whoever notices,
until that has failed three times in a row.

    FOLDER/backend.json  owners/  jobs/  log  starting.lock
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from trackshade.client.client_socket import Address
from trackshade.client.launch import END_TIME, START_TIME, last_words, wait_for_file
from trackshade.client.restart_breaker import Breaker
from trackshade.core.errors import ProtocolError
from trackshade.core.folders import shared_dir
from trackshade.core.processes import environment_python, is_process_alive
from trackshade.ipc import connection_files, owners
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.lock import FileLock

RETRY_AFTER = 0.5  # seconds
# Neither Ctrl-C in our terminal nor our end is to take it along.
_FLAGS = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0
ROOM = 1 << 20  # bytes without which a backend cannot begin to work
LOG_LIMIT = 1 << 20  # bytes after which a new start begins a new log


def share(
    python: str | os.PathLike[str] | None = None, *, folder: Path | None = None, options: Sequence[str] = ()
) -> SharedBackend:
    """The shared backend, started where there is none; returns when clients can connect.

    `python` is the interpreter of the environment with the backend (TRACKSHADE_PYTHON, else this one), `options` more
    options of `python -m trackshade.server`.

    Raises ProtocolError("backend-gave-up") with what the backend said last, ProtocolError("disk-full"),
    ProtocolError("unwritable").
    """
    chosen = os.fspath(python or os.environ.get("TRACKSHADE_PYTHON") or sys.executable)
    backend = SharedBackend(folder or shared_dir(), chosen, options)
    try:
        while True:
            try:
                backend.address()
                return backend
            except ProtocolError as error:
                if error.code != "backend-not-started":
                    raise
            time.sleep(RETRY_AFTER)
    except BaseException:
        backend.close()
        raise


def join(folder: Path | None = None) -> SharedBackend | None:
    """The shared backend if one runs now; one that dies later is not started again."""
    folder = folder or shared_dir()
    if _running(folder) is None:
        return None
    backend = SharedBackend(folder, None)  # holds it from here on
    if _running(folder) is None:
        backend.close()
        return None
    return backend


class SharedBackend:
    """This process's hold on the shared backend. `close` lets go of it, and so does the end of this process.

    Raises ProtocolError("unwritable") where the hold cannot be taken.
    """

    def __init__(self, folder: Path, python: str | None, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self._python = python  # None: never starts one
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._seen = False  # whether it has run since this process holds it
        self._closed = False
        self._breaker = Breaker()
        self._lock = threading.Lock()
        try:
            self._owner = owners.Owner(folder / "owners")
        except OSError as error:
            raise _unwritable(folder, error) from error

    def address(self) -> Address:
        """Where to connect; starts the backend where it does not run.

        Raises ProtocolError: "backend-not-started", "backend-gave-up", "backend-ended", "disk-full".
        """
        with self._lock:
            if self._closed:
                raise ProtocolError("backend-ended", "The backend is not wanted any more.")
            info = self._found() or self._start()
            self._seen = True
            return Address(info.endpoint, info.token)

    def others(self) -> int:
        """How many others hold it."""
        return max(0, owners.count(self.folder / "owners") - (not self._closed))

    def close(self) -> None:
        """Let go of the backend; where nobody else holds it, wait for its end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        info = self._found()
        self._owner.release()
        limit = time.monotonic() + END_TIME
        while info is not None and is_process_alive(info.pid) and not self.others():
            self._reap()
            if time.monotonic() > limit:
                _kill(info.pid)
                return
            time.sleep(0.05)

    def _found(self) -> ConnectionInfo | None:
        self._reap()
        return _running(self.folder)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.poll()  # one of our own that ended is no process any more once it was looked at

    def _start(self) -> ConnectionInfo:
        if self._seen:
            self._seen = False
            self._breaker.ended(last_words(self.folder / "log"))
        self._breaker.check()
        if self._python is None:
            raise ProtocolError("backend-ended", "The shared backend has ended.", "Start it again.")
        try:
            info = self._launch_alone(self._python)
        except ProtocolError as error:
            self._breaker.failed(error.message)
            self._breaker.check()
            raise
        self._breaker.started()
        return info

    def _launch_alone(self, python: str) -> ConnectionInfo:
        """Starts it unless somebody else just does."""
        limit = time.monotonic() + START_TIME
        while True:
            try:
                lock = FileLock(self.folder / "starting.lock")
                break
            except BlockingIOError as error:
                if time.monotonic() > limit:
                    raise ProtocolError(
                        "backend-not-started",
                        "Another program has been starting the backend for too long.",
                        "Close other Blenders and commands of Trackshade, and try again.",
                    ) from error
                time.sleep(0.05)
            except OSError as error:
                raise _unwritable(self.folder, error) from error
        try:
            return _running(self.folder) or self._launch(python, limit)
        finally:
            lock.release()

    def _launch(self, python: str, limit: float) -> ConnectionInfo:
        _wait_for_store(self.folder / "jobs", limit)
        file, log = _file(self.folder), self.folder / "log"
        arguments = ["--store", str(self.folder / "jobs"), "--owners", str(self.folder / "owners")]
        arguments += ["--connection-file", str(file), *self._options]
        try:
            start = environment_python(python, "-m", "trackshade.server", *arguments)
            file.unlink(missing_ok=True)
            too_long = log.exists() and log.stat().st_size > LOG_LIMIT
            with open(log, "wb" if too_long else "ab") as output:
                self._process = process = subprocess.Popen(
                    start.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder,
                    env=start.variables, creationflags=_FLAGS, start_new_session=sys.platform != "win32",
                )  # fmt: skip
        except OSError as error:
            if error.filename != python:
                raise _unwritable(self.folder, error) from error
            raise ProtocolError(
                "backend-not-started", f"{python} cannot be run: {error.strerror}.", "Give the backend's Python."
            ) from error
        try:
            return wait_for_file(process, file, log, limit)
        except ProtocolError as error:
            if process.poll() is None:
                _kill(process.pid)
            if shutil.disk_usage(self.folder).free < ROOM:  # so it could not even log why
                raise ProtocolError(
                    "disk-full", f"The disk of {self.folder} is full.", "Make room, or set TRACKSHADE_HOME elsewhere."
                ) from error
            raise


def _file(folder: Path) -> Path:
    return folder / "backend.json"


def _running(folder: Path) -> ConnectionInfo | None:
    try:
        info = connection_files.read(_file(folder))
    except ProtocolError:  # damaged; the next start writes it anew
        return None
    return info if info is not None and info.alive() else None


def _wait_for_store(store: Path, limit: float) -> None:
    """An earlier backend may still be putting its things away."""
    while (store / "lock").exists():
        try:
            FileLock(store / "lock").release()
            return
        except BlockingIOError:
            if time.monotonic() > limit:
                return  # the backend says it better
            time.sleep(0.05)
        except OSError:
            return


def _unwritable(folder: Path, error: OSError) -> ProtocolError:
    return ProtocolError(
        "unwritable", f"{folder} cannot be written: {error.strerror}.", "Set TRACKSHADE_HOME to another folder."
    )


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except OSError:
        return  # it has ended
