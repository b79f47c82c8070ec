# SPDX-License-Identifier: GPL-3.0-or-later
"""Backends that the client starts: a private one for this process, or one that all programs of the user share.

A private backend ends with the process that started it. For a shared backend, each program holds a lock
(`trackshade.ipc.locks`) while it uses it; the backend ends within a second or two when no lock is held any more,
however the last program ended. A program that notices that it died starts it again, until that failed three times in
succession. Its folder:

    backend.json  owners/  jobs/  log  starting.lock
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trackshade.client.client_socket import Address
from trackshade.core.errors import ProtocolError
from trackshade.core.folders import shared_dir
from trackshade.core.processes import end_process, environment_python, is_process_alive, last_log_line, open_log
from trackshade.ipc import connection_files
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.leftovers import FolderLock, make_temporary_folder
from trackshade.ipc.locks import OwnerLock, count_owners, wait_for_lock

START_TIME = 120.0  # seconds for a process that has not ended: a second or two, but minutes on a busy machine
END_TIME = 10.0  # seconds
RETRY_AFTER = 0.5  # seconds
MIN_DISK_SPACE = 1 << 20  # bytes without which a backend cannot begin to work
MAX_FAILURES = 3  # in succession, after which a shared backend is not started again
STABLE_AFTER = 60.0  # seconds that a backend has to run for its earlier failures not to count any more
# A shared backend must survive Ctrl-C in the terminal of the program that started it, and the end of that program.
_FLAGS = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP if sys.platform == "win32" else 0


def start_private(
    python: str | os.PathLike[str] | None = None, store: Path | None = None, *, options: Sequence[str] = ()
) -> PrivateBackend:
    """Start a backend for this process only; return when clients can connect, within a second or two.

    Args:
        python: Interpreter of the backend's environment. Default: TRACKSHADE_PYTHON, or this interpreter.
        store: Folder of the job store. Default: the first free one of this user.
        options: Further options of `python -m trackshade.server`.

    Raises:
        ProtocolError: "backend-not-started", with the last line of the backend's log.
    """
    folder, lock = make_temporary_folder()
    file, log = folder / "connection.json", folder / "log"
    arguments = ["--private", *options, "--connection-file", os.fspath(file)]
    if store is not None:
        arguments += ["--store", os.path.abspath(store)]
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(lock.release)
        process = _start_server(_choose_python(python), arguments, log, stdin=subprocess.PIPE)
        backend = undo.enter_context(PrivateBackend(process, folder, lock))
        backend.info = _wait_until_ready(process, file, log, time.monotonic() + START_TIME)
        undo.pop_all()
        return backend


class PrivateBackend:
    """A running private backend. A context manager; `close` ends it, and so does the end of this process."""

    info: ConnectionInfo  # where it listens, and its token

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, lock: FolderLock) -> None:
        self._process = process
        self._folder = folder
        self._folder_lock = lock
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def address(self) -> Address:
        """Return where to connect. Raise ProtocolError("backend-ended")."""
        if self._process.poll() is not None:
            reason = last_log_line(self._folder / "log")
            raise ProtocolError("backend-ended", f"The private backend has ended. {reason}".strip(), "Start it again.")
        return Address(self.info.endpoint, self.info.token)

    def close(self) -> None:
        """End the backend and wait for it; it queues its jobs for the next one."""
        atexit.unregister(self.close)
        end_process(self._process, END_TIME)
        self._folder_lock.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> PrivateBackend:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def start_shared(
    python: str | os.PathLike[str] | None = None, *, folder: Path | None = None, options: Sequence[str] = ()
) -> SharedBackend:
    """Return the shared backend, started if it does not run, when clients can connect.

    Its folder is that of this user by default. `python` and `options` are those of `start_private`.

    Raises:
        ProtocolError: "backend-gave-up" with the last line of the backend's log, "disk-full", or "unwritable".
    """
    backend = SharedBackend(folder or shared_dir(), _choose_python(python), options)
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


def join_shared(folder: Path | None = None) -> SharedBackend | None:
    """Return the shared backend if it runs now. If it dies later, it is not started again."""
    folder = folder or shared_dir()
    if _find_running(folder) is None:
        return None
    backend = SharedBackend(folder, None)  # it does not end any more from here on
    if _find_running(folder) is None:
        backend.close()
        return None
    return backend


class SharedBackend:
    """This process's use of the shared backend, until `close` or the end of this process.

    Args:
        folder: The backend's folder.
        python: Interpreter to start it with; None if it must not be started.
        options: Further options of `python -m trackshade.server`.
    """

    def __init__(self, folder: Path, python: str | None, options: Sequence[str] = ()) -> None:
        self.folder = folder
        self._python = python
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._has_run = False  # whether it has run since the lock was taken or it was started
        self._is_closed = False
        self._failures = FailureCounter()
        self._lock = threading.Lock()
        self._owner = _own(folder)

    def address(self) -> Address:
        """Return where to connect; start the backend if it does not run. Raise ProtocolError if it cannot run."""
        with self._lock:
            if self._is_closed:
                raise ProtocolError("backend-ended", "The backend is not wanted any more.")
            if not self._owner.is_in_place():  # the folder was removed, and a new backend would have no owner
                self._owner.release()
                self._owner = _own(self.folder)
            info = self._find() or self._start()
            self._has_run = True
            return Address(info.endpoint, info.token)

    def count_others(self) -> int:
        """Return how many other programs use it."""
        return max(0, count_owners(self.folder / "owners") - (not self._is_closed))

    def close(self) -> None:
        """End the use of the backend, and wait for its end if no other program uses it."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        info = self._find()
        self._owner.release()
        limit = time.monotonic() + END_TIME
        while info is not None and is_process_alive(info.pid) and not self.count_others():
            self._reap()
            if time.monotonic() > limit:
                _kill(info.pid)
                return
            time.sleep(0.05)

    def _find(self) -> ConnectionInfo | None:
        self._reap()
        return _find_running(self.folder)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.poll()  # a child that ended stays a zombie until then

    def _start(self) -> ConnectionInfo:
        if self._has_run:
            self._has_run = False
            self._failures.add_end(last_log_line(self.folder / "log"))
        self._failures.check()
        if self._python is None:
            raise ProtocolError("backend-ended", "The shared backend has ended.", "Start it again.")
        try:
            info = self._start_exclusively(self._python)
        except ProtocolError as error:
            self._failures.add(error.message)
            self._failures.check()
            raise
        self._failures.note_start()
        return info

    def _start_exclusively(self, python: str) -> ConnectionInfo:
        """Start the backend, or wait for another program that does so."""
        limit = time.monotonic() + START_TIME
        try:
            lock = wait_for_lock(self.folder / "starting.lock", limit)
        except BlockingIOError as error:
            raise ProtocolError(
                "backend-not-started",
                "Another program has been starting the backend for too long.",
                "Close other Blenders and commands of Trackshade, and try again.",
            ) from error
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            return _find_running(self.folder) or self._start_locked(python, limit)
        finally:
            lock.release()

    def _start_locked(self, python: str, limit: float) -> ConnectionInfo:
        file, log, store = self.folder / "backend.json", self.folder / "log", self.folder / "jobs"
        arguments = ["--store", str(store), "--owners", str(self.folder / "owners")]
        arguments += ["--connection-file", str(file), *self._options]
        if (store / "lock").exists():  # an earlier backend that is ending may hold it
            with contextlib.suppress(OSError):  # the new backend reports it
                wait_for_lock(store / "lock", limit).release()
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self._process = process = _start_server(
            python,
            arguments,
            log,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            creationflags=_FLAGS,
            start_new_session=sys.platform != "win32",
        )
        try:
            return _wait_until_ready(process, file, log, limit)
        except ProtocolError as error:
            if process.poll() is None:
                _kill(process.pid)
            if shutil.disk_usage(self.folder).free < MIN_DISK_SPACE:  # so that it could not even log the reason
                raise ProtocolError(
                    "disk-full", f"The disk of {self.folder} is full.", "Make room, or set TRACKSHADE_HOME elsewhere."
                ) from error
            raise


class FailureCounter:
    """Counts failures of a backend in succession, so that it is not started again for ever."""

    def __init__(self) -> None:
        self.count = 0
        self._reason = ""
        self._started = 0.0

    def check(self) -> None:
        """Raise ProtocolError("backend-gave-up") with the latest reason after MAX_FAILURES failures."""
        if self.count >= MAX_FAILURES:
            raise ProtocolError(
                "backend-gave-up",
                f"The backend failed {self.count} times in a row. {self._reason}".strip(),
                "See its log, and try again when the reason is gone.",
            )

    def note_start(self) -> None:
        """Note that the backend was started now."""
        self._started = time.monotonic()

    def add(self, reason: str) -> None:
        """Count a failed start."""
        self.count, self._reason = self.count + 1, reason

    def add_end(self, reason: str) -> None:
        """Count an unexpected end; if the backend has run for long, it is the first failure again."""
        if time.monotonic() - self._started > STABLE_AFTER:
            self.count = 0
        self.add(reason)


def _choose_python(python: str | os.PathLike[str] | None) -> str:
    return os.fspath(python or os.environ.get("TRACKSHADE_PYTHON") or sys.executable)


def _start_server(python: str, arguments: list[str], log: Path, **popen: Any) -> subprocess.Popen[bytes]:
    """Start a backend that writes to a log. Raise ProtocolError."""
    try:
        start = environment_python(python, "-m", "trackshade.server", *arguments)
        with open_log(log) as output:
            process: Any = subprocess.Popen(start.command, stdout=output, stderr=output, env=start.variables, **popen)
            return process
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) == os.fspath(log):
            raise _unwritable(log.parent, error) from error
        raise ProtocolError(
            "backend-not-started", f"{python} cannot be run: {error.strerror}.", "Give the backend's Python."
        ) from error


def _wait_until_ready(process: subprocess.Popen[bytes], file: Path, log: Path, limit: float) -> ConnectionInfo:
    """Wait until a backend writes its connection file, at most until `limit` (monotonic seconds)."""
    while True:
        if info := connection_files.read(file):
            return info
        if process.poll() is not None or time.monotonic() > limit:
            raise ProtocolError(
                "backend-not-started",
                f"The backend could not be started with {process.args[0]}. {last_log_line(log)}".strip(),  # type: ignore[index]
                "Check that this Python has Trackshade with its backend, and that the job store can be written.",
            )
        time.sleep(0.02)


def _find_running(folder: Path) -> ConnectionInfo | None:
    with contextlib.suppress(ProtocolError):  # a damaged file, which the next start replaces
        return connection_files.find_running(folder / "backend.json")


def _own(folder: Path) -> OwnerLock:
    """Become an owner of the shared backend in a folder. Raise ProtocolError("unwritable")."""
    try:
        return OwnerLock(folder / "owners")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ProtocolError:
    return ProtocolError(
        "unwritable", f"{folder} cannot be written: {error.strerror}.", "Set TRACKSHADE_HOME to another folder."
    )


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        os.kill(pid, 9)
