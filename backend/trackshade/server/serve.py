# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts a backend in this process, serves, and ends it cleanly."""

from __future__ import annotations

import functools
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
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import zmq
import zmq.auth.thread

from trackshade import __version__
from trackshade.core import folders
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.processes import call_when_input_closes
from trackshade.ipc import PROTOCOL, connection_files
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade.ipc.endpoints import IPC_PATH_LIMIT, check_bind, read_server_keys
from trackshade.ipc.locks import count_owners
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server.broker import Broker
from trackshade.server.cleaning import delete_unused_stores
from trackshade.server.gate import Gate
from trackshade.server.job_store import JobStore
from trackshade.server.options import ServeOptions
from trackshade.server.own_files import OwnFiles, socket_files
from trackshade.server.router_socket import CURVE_DOMAIN, RouterSocket
from trackshade.server.sessions import is_hello
from trackshade.server.worker_pool import WorkerPool
from trackshade.server.workers import Workers

MAX_PRIVATE_STORES = 64
CHECK_OWNERS_EVERY = 0.5  # seconds
SWITCH_INTERVAL = 0.001  # seconds for which the threads of the gate and of the broker keep each other waiting
SHUTDOWN_TIME = 20.0  # seconds that an orderly exit may take
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?|xpu(:\d+)?")


def serve(options: ServeOptions, on_ready: Callable[[ConnectionInfo], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, until the owners end, or until idle for `idle_exit`, in the main thread.

    `on_ready` is called when clients can connect.

    Raises:
        UsageError: The endpoint cannot be used ("open-endpoint" without CURVE keys), keys are missing, or a device
            is unknown.
        OutputError: The store or the connection file cannot be written, another backend has the store, or the store
            was removed or replaced meanwhile.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    os.umask(0o077)  # only this user may access sockets, results and logs
    for device in options.devices:
        _check_device(device)
    keys = read_server_keys(options.curve) if options.curve else None
    if options.endpoint is not None:
        check_bind(options.endpoint, keys is not None)
    ended = threading.Event()
    with ExitStack() as stack:
        stack.callback(ended.set)
        store = _open_store(options)
        stack.callback(store.close)
        context = stack.enter_context(zmq.Context(io_threads=1))
        if keys is not None:
            authenticator = zmq.auth.thread.ThreadAuthenticator(context)  # accepts the clients whose keys are there
            authenticator.start()
            stack.callback(authenticator.stop)
            authenticator.configure_curve(domain=CURVE_DOMAIN, location=str(keys.clients))
        clients = RouterSocket(context, _local_endpoint(store.folder, "clients"), keys)
        stack.callback(clients.close)
        address = options.endpoint or _local_endpoint(store.folder, "broker")
        gate = Gate(address, clients.endpoint, functools.partial(is_hello, store.token), keys is not None)
        stack.callback(gate.close)
        workers = _workers(options, store, context, stack)
        wake = SelfPipe()
        stack.callback(wake.close)
        endpoints = [gate.endpoint, clients.endpoint, *([workers.endpoint] if isinstance(workers, WorkerPool) else [])]
        own_files = OwnFiles([*store.fixed_files, *socket_files(endpoints)])
        broker = Broker(store, clients, workers, wake, own_files, options)
        stack.callback(broker.close)
        _install_exits(broker, wake, options, ended)
        info = ConnectionInfo(gate.endpoint, store.token, os.getpid(), __version__, PROTOCOL, keys is not None)
        path = options.connection_file or folders.connection_file()
        connection_files.write(path, info)
        stack.callback(connection_files.remove, path, os.getpid())
        if on_ready is not None:
            on_ready(info)
        broker.run()


def _check_device(device: str) -> None:
    """Check the device of a worker, or several that are joined by "+". Raise UsageError("unknown-device")."""
    names = device.split("+")
    for name in names:
        if _DEVICE.fullmatch(name) is None:
            raise UsageError("unknown-device", f"There is no device {name!r}.", "Use auto, cpu, cuda, cuda:N or mps.")
    cards = {name for name in names if name.startswith("cuda:")}
    if len(names) > 1 and len(cards) < len(names) and set(names) != {"cpu"}:
        raise UsageError(
            "unknown-device",
            f"The devices {device} cannot share a model.",
            "Join different graphics cards by their numbers, such as cuda:0+cuda:1.",
        )


def _workers(
    options: ServeOptions, store: JobStore, context: zmq.Context[zmq.Socket[bytes]], stack: ExitStack
) -> Workers:
    """Return what runs the jobs: processes on this machine, or actors on a Ray cluster. `Broker.close` ends them."""
    if options.ray is not None:
        from trackshade.server.ray_cluster import RayCluster
        from trackshade.server.ray_pool import RayPool

        cluster = RayCluster(options.ray, on_cpu=options.devices[:1] == ("cpu",))
        return RayPool(cluster, options.cancel_grace, options.workers)
    socket = RouterSocket(context, _local_endpoint(store.folder, "workers"))
    stack.callback(socket.close)
    return WorkerPool(socket, options.devices, store.folder / "logs", options.cancel_grace)


def _open_store(options: ServeOptions) -> JobStore:
    """Open the store; a private backend without `store` takes the first one that no other backend has."""
    if options.store is not None:
        return JobStore(options.store)
    default = folders.jobs_dir()
    if not options.private:
        return JobStore(default)
    for number in range(1, MAX_PRIVATE_STORES):
        try:
            store = JobStore(default if number == 1 else default.with_name(f"{default.name}-{number}"))
        except OutputError as error:
            if error.code != "store-in-use":
                raise
        else:
            delete_unused_stores(default.parent.glob(f"{default.name}-*"), options.result_days, store.clock)
            return store
    return JobStore(default.with_name(f"{default.name}-{MAX_PRIVATE_STORES}"))


def _local_endpoint(store: Path, name: str) -> str:
    """Return an address that only this user reaches.

    It is a socket file in the store, or in a private temporary folder if its path would be too long for a socket, or a
    loopback port on systems without socket files.
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


def _install_exits(broker: Broker, wake: SelfPipe, options: ServeOptions, ended: threading.Event) -> None:
    def end(*_: object) -> None:
        broker.stop = True
        wake.set()

    signal.signal(signal.SIGTERM, end)
    # Ctrl-C in a terminal reaches the whole process group, and a backend with an owner exits with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN if options.has_owner else end)
    if options.owners is not None:
        threading.Thread(target=_wait_for_owners, args=(options.owners, end, ended), name="owners", daemon=True).start()
    if options.private:
        call_when_input_closes(end)


def _wait_for_owners(folder: Path, end: Callable[[], None], ended: threading.Event) -> None:
    while count_owners(folder):
        time.sleep(CHECK_OWNERS_EVERY)
    end()
    if not ended.wait(SHUTDOWN_TIME):
        os._exit(1)  # it is stuck, and no owner is left to kill it


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log time, level and message to standard error."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
