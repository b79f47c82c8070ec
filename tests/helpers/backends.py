# SPDX-License-Identifier: GPL-3.0-or-later
"""Real backends in processes of their own, and raw sockets that talk to them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from tests.helpers.shots import camera_track
from trackshade.client import Client, PrivateBackend
from trackshade.client.client_socket import Address
from trackshade.core.errors import ProtocolError, TrackshadeError
from trackshade.core.processes import is_process_alive
from trackshade.ipc import PROTOCOL, Message, connection_files, decode, encode
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.messages import Buffer, pack
from trackshade.shot import Geometry, MeshTrack, Shot

FINAL = ("done", "failed", "cancelled")
LONG = 120.0  # seconds: only ever waited for in full by a test that fails


class Backend:
    """`python -m trackshade.server` on a store, with whatever options."""

    def __init__(self, store: Path, *options: str) -> None:
        self.store = store
        self.file = store.with_name(f"{store.name}.json")
        self.log = store.with_name(f"{store.name}.log")
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *more: str) -> None:
        self.file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "trackshade.server", "--store", str(self.store)]
        command += ["--connection-file", str(self.file), *self.options, *more]
        log = open(self.log, "ab")  # noqa: SIM115 - the process keeps it
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        until(lambda: self.file.exists() or self.process is None or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def info(self) -> ConnectionInfo:
        info = connection_files.read(self.file)
        assert info is not None
        return info

    def address(self) -> Address:
        info = connection_files.read(self.file)
        if info is None:
            raise ProtocolError("backend-unreachable", "The backend is not there yet.")
        return Address(info.endpoint, info.token)

    def client(self, patience: float = LONG) -> Client:
        client = Client(self.address, patience)
        client.check()
        return client

    def kill(self) -> None:
        """kill -9"""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(LONG)

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def peak_memory(self) -> int:
        """Bytes of the largest resident set so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.terminate()


def cancel_jobs(backend: Backend | PrivateBackend) -> None:
    """Cancel all unfinished jobs of a backend, if it is running."""
    if isinstance(backend, Backend) and (backend.process is None or backend.process.poll() is not None):
        return
    with contextlib.suppress(TrackshadeError), Client(backend.address, 2.0) as client:
        for job in client.jobs():
            if job["state"] not in FINAL:
                client.cancel(job["id"])


class Raw:
    """A DEALER socket that sends whatever it is given."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint)

    def send(self, *frames: Buffer) -> None:
        self.socket.send_multipart(frames)

    def receive(self) -> Message:
        assert self.socket.poll(int(LONG * 1000)), "no answer"
        return decode(self.socket.recv_multipart())

    def ask(self, message: Message) -> Message:
        self.socket.send_multipart(encode(message))
        return self.receive()

    def hello(self, token: str, protocol: int = PROTOCOL, v: int = PROTOCOL) -> Message:
        body = {"protocol": protocol, "package": "0.0.test", "token": token, "client": "test"}
        return self.ask(Message("hello", 1, body, v=v))

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(0)


class Relay:
    """A TCP port in front of an ipc socket that counts what passes towards the backend."""

    def __init__(self, ipc: str) -> None:
        self._ipc = ipc.removeprefix("ipc://")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._ipc)
                threading.Thread(target=self._copy, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._copy, args=(far, near, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, count: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.bytes += len(data) if count else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def until(holds: Callable[[], Any], what: str = "it never happened") -> Any:
    """Wait for something to hold; what it returned."""
    limit = time.monotonic() + LONG
    while not (found := holds()):
        assert time.monotonic() < limit, what
        time.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended (one that nobody has waited for yet counts)."""
    if not is_process_alive(pid):
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def grid_shot(side: int = 120, count: int = 9, seed: int = 0, size: tuple[int, int] = (96, 64)) -> Shot:
    """A deforming grid with side² vertices: 12 bytes for each, every frame; the values do not repeat."""
    positions = np.random.default_rng(seed).random((count, side * side, 3), np.float32)
    still = np.tile(np.eye(4), (count, 1, 1))
    return Shot(
        frame_numbers=np.arange(1.0, count + 1),
        fps=8.0,
        size=size,
        camera=camera_track(count),
        geometries=(Geometry(positions, np.array([[0, 1, 2]], np.int32)),),
        meshes=(MeshTrack("Grid", 0, still, np.ones(count, bool)),),
    )


@contextlib.contextmanager
def limited_file_size(pid: int, size: int) -> Iterator[None]:
    """As on a full disk: this process cannot make files larger than that."""
    import resource

    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def header(**entries: Any) -> bytes:
    """A msgpack header as it should not be."""
    return pack(entries)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "TRACKSHADE_HOME": str(home)}
