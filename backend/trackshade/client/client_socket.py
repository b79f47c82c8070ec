# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket of a connection, used by one thread; any other thread may end its wait."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from trackshade.core.errors import ProtocolError, UsageError
from trackshade.ipc import Message, decode, encode
from trackshade.ipc.endpoints import ClientKeys
from trackshade.ipc.self_pipe import SelfPipe

MESSAGES_PER_TURN = 64
# Milliseconds between the transport's own heartbeats, and without an answer to them until the connection is closed. The
# threads that answer them do nothing else, so they are signs of life of a backend that is too busy for messages.
HEARTBEAT, HEARTBEAT_TIMEOUT = 2000, 20_000


@dataclass(frozen=True)
class Address:
    """Where a backend listens, and the token and keys that it requires."""

    endpoint: str
    token: str
    keys: ClientKeys | None = None

    def __post_init__(self) -> None:
        """Raise UsageError("bad-token") for one that no backend makes, and that could not be sent."""
        if not self.token.isascii():
            raise UsageError(
                "bad-token", "The token has other characters than ASCII.", "Copy it from the backend's connection file."
            )


class Disconnect(enum.IntFlag):
    """Why the connection was lost."""

    LOST = zmq.EVENT_DISCONNECTED
    KEYS_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH


class ClientSocket:
    """A DEALER socket that can be opened again. Only `wake` may be called from another thread."""

    def __init__(self) -> None:
        self._context = zmq.Context(io_threads=1)
        self._wake = SelfPipe()
        self._socket: zmq.Socket | None = None
        self._monitor: zmq.Socket | None = None
        self.is_connected = False  # whether the backend's sockets have answered, and answer heartbeats
        self._poller = zmq.Poller()
        self._poller.register(self._wake, zmq.POLLIN)
        self._ready: dict[object, int] = {}

    def wake(self) -> None:
        """End a `wait`."""
        self._wake.set()

    @property
    def is_open(self) -> bool:
        """Whether there is a socket; it may not be connected yet."""
        return self._socket is not None

    def open(self, address: Address) -> None:
        """Begin to connect a new socket. Raise UsageError("bad-endpoint")."""
        self.disconnect()
        self._socket = socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = 0  # credit bounds what is sent
        socket.ipv6 = "[" in address.endpoint
        if address.keys is not None:
            socket.curve_serverkey = address.keys.server
            socket.curve_publickey, socket.curve_secretkey = address.keys.public, address.keys.secret
        socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT, HEARTBEAT_TIMEOUT
        events = Disconnect.LOST | Disconnect.KEYS_REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        self._monitor = socket.get_monitor_socket(events)
        try:
            socket.connect(address.endpoint)
        except zmq.ZMQError as error:
            socket.disable_monitor()
            socket.close()
            self._monitor.close()
            self._socket = self._monitor = None
            raise UsageError(
                "bad-endpoint", f"{address.endpoint} is not an endpoint: {error.strerror}.", "Write tcp://HOST:PORT."
            ) from error
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def disconnect(self) -> None:
        """Close the socket; what was not sent is dropped."""
        if self._socket is not None and self._monitor is not None:
            self._poller.unregister(self._socket)
            self._poller.unregister(self._monitor)
            self._socket.disable_monitor()
            self._socket.close()
            self._monitor.close()
        self._ready = {}
        self._socket = self._monitor = None
        self.is_connected = False

    def send(self, message: Message) -> None:
        """Send a message without copying its buffers. Do nothing while there is no socket."""
        if self._socket is not None:
            self._socket.send_multipart(encode(message), copy=False)

    def wait(self, milliseconds: int) -> None:
        """Wait for input, a lost connection or a call of `wake`."""
        self._ready = dict(self._poller.poll(milliseconds))
        if self._wake.fileno() in self._ready:
            self._wake.clear()

    def messages(self) -> Iterator[Message]:
        """Yield the messages that have arrived, until the socket is closed or opened again.

        Invalid messages are dropped, as if they were lost: heartbeats and repeated requests deal with that.
        """
        socket = self._socket
        if socket is None or socket not in self._ready:
            return
        for _ in range(MESSAGES_PER_TURN):
            if socket is not self._socket:
                return
            try:
                yield decode(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            except ProtocolError:
                continue

    def has_input(self) -> bool:
        """Return whether a message has arrived."""
        return self._socket is not None and bool(self._socket.poll(0))

    def take_disconnect(self) -> Disconnect | None:
        """Return whether the connection was lost since the last call, and why."""
        lost: Disconnect | None = None
        while self._monitor is not None and self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            self.is_connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if not self.is_connected:
                lost = Disconnect(event)
        return lost

    def close(self) -> None:
        """Close the socket and its context."""
        self.disconnect()
        self._context.term()
        self._wake.close()
