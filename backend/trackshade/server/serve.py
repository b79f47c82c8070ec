# SPDX-License-Identifier: GPL-3.0-or-later
"""Start a backend in this process, serve, and end it cleanly."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import zmq
import zmq.auth.thread

from trackshade import __version__
from trackshade.core import folders
from trackshade.core.errors import OutputError, UsageError
from trackshade.ipc import PROTOCOL, connection_files, owners
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.endpoints import IPC_PATH_LIMIT, ServerKeys, check_bind, server_keys
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server.broker import Broker
from trackshade.server.options import ServeOptions
from trackshade.server.router_socket import CURVE_DOMAIN, RouterSocket
from trackshade.server.store import Store

MAX_PRIVATE_STORES = 64
OWNERS_EVERY = 0.5  # seconds between two looks at who is left
END_TIME = 20.0  # seconds that an end in good order may take
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?|xpu(:\d+)?")


def serve(options: ServeOptions, on_ready: Callable[[ConnectionInfo], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, until the owners end, or until idle for `idle_exit`.

    `on_ready` is called when clients can connect. Call it in the main thread.

    Raises:
        UsageError: the endpoint cannot be used ("open-endpoint" without CURVE keys), keys are missing, or a device
            is none.
        OutputError: the store or the connection file cannot be written, or another backend has the store.
    """
    os.umask(0o077)  # sockets, results and logs are this user's own
    for device in options.devices:
        if _DEVICE.fullmatch(device) is None:
            raise UsageError("unknown-device", f"There is no device {device!r}.", "Use auto, cpu, cuda, cuda:N or mps.")
    keys = server_keys(options.curve) if options.curve else None
    if options.endpoint is not None:
        check_bind(options.endpoint, keys is not None)
    ended = threading.Event()
    with ExitStack() as stack:
        stack.callback(ended.set)
        store = _open_store(options)
        stack.callback(store.close)
        context = stack.enter_context(zmq.Context(io_threads=1))
        if keys is not None:
            stack.enter_context(_authenticator(context, keys))
        clients = RouterSocket(context, options.endpoint or _local_endpoint(store.folder, "broker"), keys)
        stack.callback(clients.close)
        workers = RouterSocket(context, _local_endpoint(store.folder, "workers"))
        stack.callback(workers.close)
        wake = SelfPipe()
        stack.callback(wake.close)
        broker = Broker(store, clients, workers, wake, options)
        stack.callback(broker.close)
        _end_when_told(broker, wake, options, ended)
        info = ConnectionInfo(clients.endpoint, store.token, os.getpid(), __version__, PROTOCOL, keys is not None)
        path = options.connection_file or folders.connection_file()
        connection_files.write(path, info)
        stack.callback(connection_files.remove, path, os.getpid())
        if on_ready is not None:
            on_ready(info)
        broker.run()


def _open_store(options: ServeOptions) -> Store:
    """The chosen store; a private backend without a choice takes the first one that no other backend has."""
    if options.store is not None:
        return Store(options.store)
    default = folders.jobs_dir()
    if not options.private:
        return Store(default)
    for number in range(1, MAX_PRIVATE_STORES + 1):
        try:
            return Store(default if number == 1 else default.with_name(f"{default.name}-{number}"))
        except OutputError as error:
            if error.code != "store-in-use" or number == MAX_PRIVATE_STORES:
                raise
    raise AssertionError("unreachable")


def _local_endpoint(store: Path, name: str) -> str:
    """A socket that only this user reaches: a file in the store, or where such a path is too long (or there are
    no such sockets) one in a private folder, or a loopback port.
    """
    if not hasattr(socket, "AF_UNIX") or not zmq.has("ipc"):
        return "tcp://127.0.0.1:*"
    path = store / f"{name}.ipc"
    if len(os.fsencode(path)) > IPC_PATH_LIMIT:
        folder = Path(tempfile.gettempdir()) / f"trackshade-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise UsageError("unsafe-folder", f"{folder} belongs to somebody else.", "Give an endpoint.")
        path = folder / f"{hashlib.blake2b(os.fsencode(store), digest_size=8).hexdigest()}-{name}.ipc"
    return f"ipc://{path}"


@contextmanager
def _authenticator(context: zmq.Context, keys: ServerKeys) -> Iterator[None]:
    """Lets in the clients whose public keys are in the folder."""
    thread = zmq.auth.thread.ThreadAuthenticator(context)
    thread.start()
    try:
        thread.configure_curve(domain=CURVE_DOMAIN, location=str(keys.clients))
        yield
    finally:
        thread.stop()


def _end_when_told(broker: Broker, wake: SelfPipe, options: ServeOptions, ended: threading.Event) -> None:
    def end(*_: object) -> None:
        broker.stop = True
        wake.set()

    signal.signal(signal.SIGTERM, end)
    # Ctrl-C in a terminal reaches the whole group: a private backend's owner decides, not the key.
    signal.signal(signal.SIGINT, signal.SIG_IGN if options.owned else end)
    if options.owners is not None:
        waiting = (options.owners, end, ended)
        threading.Thread(target=_wait_for_owners, args=waiting, name="owners", daemon=True).start()
    if options.private:
        threading.Thread(target=_wait_for_end_of_input, args=(end,), name="owner", daemon=True).start()


def _wait_for_end_of_input(end: Callable[[], None]) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    end()


def _wait_for_owners(folder: Path, end: Callable[[], None], ended: threading.Event) -> None:
    while owners.count(folder):
        time.sleep(OWNERS_EVERY)
    end()
    if not ended.wait(END_TIME):
        os._exit(1)  # it is stuck, and nobody is there who could end it


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log as a service does: time, level and message on standard error."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
