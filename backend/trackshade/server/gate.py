# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's public address: accepts connections, and passes them on to the broker's ROUTER socket within limits.

libzmq accepts any number of connections and keeps what each of them sends, so a process that does not even know the
token could use up the file descriptors and the memory of the backend. The gate bounds what a connection costs before
its hello: in bytes, in time, and by the number of such connections. Afterwards it passes bytes on as they are, and
counts the frames of each message only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trackshade.core.errors import UsageError
from trackshade.ipc.endpoints import split_tcp
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server.router_socket import check_free, endpoint_taken
from trackshade.server.zmtp_limits import GREETING, ClientStream, LimitError

log = logging.getLogger("trackshade.gate")

HELLO_TIME = 10.0  # seconds until a connection has to have said hello
STALL_TIME = 60.0  # seconds in which a client has to take some of the bytes that wait for it
MAX_STRANGERS = 64  # connections that have not said hello
MAX_CLIENTS = 256  # connections that have
WINDOWS_CLIENTS = 240  # there, `select` takes 512 sockets, two for each client
FILES_PER_CLIENT = 3  # file descriptors: the client's, the gate's own to the broker, and the broker's
RESERVED_FILES = 128  # file descriptors for everything else
WANTED_FILES = RESERVED_FILES + FILES_PER_CLIENT * (MAX_STRANGERS + MAX_CLIENTS)
ACCEPTS_PER_SECOND = 100  # new connections: each costs time, which those of clients need
ACCEPTS_AT_ONCE = 64
BACKLOG = 128
BLOCK = 256 << 10  # bytes that are read at once
CHECK_EVERY = 0.5  # seconds
PAUSE = 0.05  # seconds without accepting connections once there were too many
CURVE_WELCOME = GREETING + 170  # bytes of the broker's answer before it says that it accepts a client's key


class _Connection:
    """A client's connection and the one to the broker that belongs to it."""

    def __init__(self, client: socket.socket, broker: socket.socket, stream: ClientStream) -> None:
        self.client = client
        self.broker = broker
        self.stream = stream
        self.to_client = self.to_broker = memoryview(b"")  # read, but not passed on yet
        self.early_answer = b""  # beginning of what the broker answers to a client that is not admitted yet
        self.opened = self.moved = time.monotonic()  # `moved`: when the client last took bytes, or had none to take
        self.is_ending = False  # whether the client has closed its side


class Gate:
    """Listens on an endpoint until `close`, in a thread of its own.

    Args:
        endpoint: `ipc://PATH` or `tcp://HOST:PORT`.
        broker: Endpoint of the broker's ROUTER socket.
        is_hello: Returns whether a message's only frame is a hello with the right token. Called from the thread.
        encrypted: Whether clients and the broker use CURVE keys.

    Attributes:
        endpoint: The address it listens on, with the port number filled in.

    Raises:
        UsageError: "endpoint-taken", or "too-few-files" if this process may open too few files.
    """

    def __init__(self, endpoint: str, broker: str, is_hello: Callable[[bytes], bool], encrypted: bool) -> None:
        self._broker = broker
        self._is_hello = is_hello
        self._encrypted = encrypted
        self._path = Path(endpoint[6:]) if endpoint.startswith("ipc://") else None
        self._max_clients = min(MAX_CLIENTS + MAX_STRANGERS, _count_possible_clients())
        try:
            self._listener, self.endpoint = _listen(endpoint)
        except OSError as error:
            raise endpoint_taken(endpoint, error) from error
        self._block = bytearray(BLOCK)
        self._connections: dict[_Connection, None] = {}  # in the order in which they came
        self._selector = selectors.DefaultSelector()
        self._wake = SelfPipe()
        self._closing = False
        self._accept_after = 0.0  # monotonic seconds
        self._accepts_left = float(ACCEPTS_AT_ONCE)
        self._counted = self._checked = time.monotonic()  # when `_accepts_left` was updated
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._is_accepting = True
        self._thread = threading.Thread(target=self._run, name="gate", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close all connections and the address."""
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._wake.close()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._take_turn()
            except Exception:  # nobody else would accept connections
                log.exception("An error in the gate:")
                time.sleep(PAUSE)
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        self._listener.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _take_turn(self) -> None:
        """Wait for connections and bytes, and deal with them."""
        for key, _ in self._selector.select(CHECK_EVERY if self._is_accepting else PAUSE):
            if key.data is not None:
                self._guarded(key.data, key.fileobj)
            elif key.fileobj is self._listener:
                self._accept()
        now = time.monotonic()
        if not self._is_accepting and now > self._accept_after:
            self._selector.register(self._listener, selectors.EVENT_READ)
            self._is_accepting = True
        if now - self._checked > CHECK_EVERY:
            self._checked = now
            self._check(now)

    def _check(self, now: float) -> None:
        """Close connections that say no hello or take no bytes."""
        for connection in list(self._connections):
            if not connection.to_client:
                connection.moved = now
            is_silent = not connection.stream.is_admitted and now - connection.opened > HELLO_TIME
            if is_silent or now - connection.moved > STALL_TIME:
                self._drop(connection)

    # Connections.

    def _accept(self) -> None:
        """Accept a connection, or pause: others wait in the system's queue meanwhile."""
        now = time.monotonic()
        self._accepts_left += (now - self._counted) * ACCEPTS_PER_SECOND
        self._accepts_left, self._counted = min(self._accepts_left, ACCEPTS_AT_ONCE), now
        if self._accepts_left < 1:
            self._pause_accepting(PAUSE)
            return
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # such as no file descriptor or memory being left
            log.warning("A connection could not be accepted: %s.", error.strerror)
            self._drop_oldest_stranger()
            self._pause_accepting(CHECK_EVERY)
            return
        self._accepts_left -= 1
        self._add(client)

    def _pause_accepting(self, seconds: float) -> None:
        self._selector.unregister(self._listener)
        self._is_accepting, self._accept_after = False, time.monotonic() + seconds

    def _add(self, client: socket.socket) -> None:
        strangers = sum(not connection.stream.is_admitted for connection in self._connections)
        is_full = len(self._connections) >= self._max_clients
        if (strangers >= MAX_STRANGERS or is_full) and not self._drop_oldest_stranger():
            client.close()
            return
        try:
            client.setblocking(False)
            broker = _connect(self._broker)
        except OSError as error:
            log.warning("A connection could not be passed on: %s.", error.strerror)
            client.close()
            return
        for end in (client, broker):
            if end.family != getattr(socket, "AF_UNIX", None):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, broker, ClientStream(self._is_hello, self._encrypted))
        self._connections[connection] = None
        for end in (client, broker):
            self._selector.register(end, selectors.EVENT_READ, connection)

    def _drop_oldest_stranger(self) -> bool:
        for connection in self._connections:
            if not connection.stream.is_admitted:
                self._drop(connection)
                return True
        return False

    def _drop(self, connection: _Connection) -> None:
        del self._connections[connection]
        for end in (connection.client, connection.broker):
            with contextlib.suppress(KeyError):  # it waits for the other end
                self._selector.unregister(end)
            end.close()

    # Bytes.

    def _guarded(self, connection: _Connection, end: object) -> None:
        """Pass on what has arrived. Whatever goes wrong ends this connection only."""
        if connection not in self._connections:  # dropped in this turn
            return
        try:
            if end is connection.client:
                connection.to_client = self._send(connection.client, connection.to_client, connection)
                if not connection.to_broker and not connection.is_ending:
                    self._read_client(connection)
            else:
                connection.to_broker = self._send(connection.broker, connection.to_broker)
                if not connection.to_client:
                    self._read_broker(connection)
            if connection.is_ending and not connection.to_broker:
                self._drop(connection)
            else:
                self._select(connection)
        except LimitError as error:
            log.info("A client was disconnected: %s.", error)
            self._drop(connection)
        except (OSError, EOFError):
            self._drop(connection)
        except Exception:
            log.exception("A connection failed.")
            self._drop(connection)

    def _read_client(self, connection: _Connection) -> None:
        data = self._receive(connection.client)
        if data is None:
            return
        if not data:
            connection.is_ending = True
            return
        connection.stream.feed(data)
        connection.to_broker = self._send(connection.broker, data)

    def _read_broker(self, connection: _Connection) -> None:
        data = self._receive(connection.broker)
        if data is None:
            return
        if not data:
            raise EOFError
        if self._encrypted and not connection.stream.is_admitted:
            connection.early_answer += bytes(data[: CURVE_WELCOME + 16])
            if b"\x05READY" in connection.early_answer[CURVE_WELCOME : CURVE_WELCOME + 16]:
                connection.stream.admit()
        connection.to_client = self._send(connection.client, data, connection)

    def _receive(self, source: socket.socket) -> memoryview | None:
        """Read a block, which is valid until the next one; None if there is nothing."""
        try:
            count = source.recv_into(self._block)
        except BlockingIOError:
            return None
        return memoryview(self._block)[:count]

    def _send(self, target: socket.socket, data: memoryview, connection: _Connection | None = None) -> memoryview:
        """Send as much as possible; return a copy of the rest. Given a connection, note that its client took bytes."""
        if not data:
            return data
        try:
            count = target.send(data)
        except BlockingIOError:
            count = 0
        if count and connection is not None:
            connection.moved = time.monotonic()
        return memoryview(bytes(data[count:]))

    def _select(self, connection: _Connection) -> None:
        """Wait for what can be done: for an end to be read if the other one takes bytes, and to be written."""
        for end, read, write in (
            (connection.client, not connection.to_broker and not connection.is_ending, connection.to_client),
            (connection.broker, not connection.to_client, connection.to_broker),
        ):
            events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
            known = self._selector.get_map().get(end)
            if known is None:
                if events:
                    self._selector.register(end, events, connection)
            elif not events:
                self._selector.unregister(end)
            elif known.events != events:
                self._selector.modify(end, events, connection)


def _listen(endpoint: str) -> tuple[socket.socket, str]:
    """Listen on an endpoint; return the socket, and the endpoint with its port. Raise OSError."""
    if endpoint.startswith("ipc://"):
        path = Path(endpoint[6:])
        check_free(path)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        address: object = os.fspath(path)
    else:
        endpoint = endpoint.replace("//*:", "//0.0.0.0:")
        host, port = split_tcp(endpoint)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener, address = socket.socket(found[0]), found[4]
        if os.name != "nt":  # there it would let another process take the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)  # type: ignore[arg-type]
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    if not endpoint.startswith("ipc://"):
        endpoint = f"{endpoint.rpartition(':')[0]}:{listener.getsockname()[1]}"
    return listener, endpoint


def _connect(endpoint: str) -> socket.socket:
    """Connect to the broker's socket, which is on this machine and accepts at once."""
    if endpoint.startswith("ipc://"):
        broker, address = socket.socket(socket.AF_UNIX), endpoint[6:]
    else:
        broker, address = socket.socket(socket.AF_INET), split_tcp(endpoint)  # type: ignore[assignment]
    try:
        broker.settimeout(1.0)
        broker.connect(address)
        broker.setblocking(False)
    except OSError:
        broker.close()
        raise
    return broker


def _count_possible_clients() -> int:
    """Return how many connections this process may have; raise its limit of open files if it is allowed to."""
    try:
        import resource
    except ImportError:
        return WINDOWS_CLIENTS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED_FILES:
        wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        soft = WANTED_FILES
    if soft < 2 * RESERVED_FILES:
        raise UsageError(
            "too-few-files",
            f"The backend may open {soft} files, and needs at least {2 * RESERVED_FILES}.",
            "Raise the limit, for instance with `ulimit -n 1024`.",
        )
    return (soft - RESERVED_FILES) // FILES_PER_CLIENT
