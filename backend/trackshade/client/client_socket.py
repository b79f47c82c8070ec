# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket under a connection: opened, watched and closed by one thread, and woken by any."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import recv_monitor_message

from trackshade.core.errors import ProtocolError
from trackshade.ipc import Message, decode, encode
from trackshade.ipc.endpoints import ClientKeys
from trackshade.ipc.self_pipe import SelfPipe

MESSAGES_PER_TURN = 64


@dataclass(frozen=True)
class Address:
    """Where a backend is and what it wants to see."""

    endpoint: str
    token: str
    keys: ClientKeys | None = None


class HungUp(enum.IntFlag):
    """Why the other side is gone."""

    LOST = zmq.EVENT_DISCONNECTED
    KEYS_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH


class ClientSocket:
    """At most one DEALER socket. Only `wake` may be called from another thread."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self._context = zmq.Context(io_threads=1)
        self._wake = SelfPipe()
        self._socket: zmq.Socket | None = None
        self._monitor: zmq.Socket | None = None
        self._poller = zmq.Poller()
        self._poller.register(self._wake, zmq.POLLIN)
        self._ready: dict[object, int] = {}

    def wake(self) -> None:
        """End a `wait`."""
        self._wake.set()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def open(self, address: Address) -> None:
        """Begin to connect, in place of any earlier socket."""
        self.hang_up()
        self._socket = socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = 0  # what is sent ahead is bounded by credit
        if address.keys is not None:
            socket.curve_serverkey = address.keys.server
            socket.curve_publickey, socket.curve_secretkey = address.keys.public, address.keys.secret
        self._monitor = socket.get_monitor_socket(HungUp.LOST | HungUp.KEYS_REFUSED)
        socket.connect(address.endpoint)
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)

    def hang_up(self) -> None:
        """Close the socket; what was not sent is forgotten."""
        if self._socket is not None and self._monitor is not None:
            self._poller.unregister(self._socket)
            self._poller.unregister(self._monitor)
            self._socket.disable_monitor()
            self._socket.close()
            self._monitor.close()
        self._ready = {}
        self._socket = self._monitor = None

    def send(self, message: Message) -> None:
        """Send a message, buffers from their own memory; into nothing while there is no socket."""
        if self._socket is not None:
            frames = encode(message)
            self.sent_bytes += sum(map(len, frames))
            self._socket.send_multipart(frames, copy=False)

    def wait(self, milliseconds: int) -> None:
        """Wait until there is something to look at, or somebody calls `wake`."""
        self._ready = dict(self._poller.poll(milliseconds))
        if self._wake.fileno() in self._ready:
            self._wake.clear()

    def messages(self) -> Iterator[Message]:
        """What has arrived; stops when the line is opened anew or hung up. What is no message counts as lost:
        heartbeats and repetition deal with that.
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

    def has_mail(self) -> bool:
        """Whether something has arrived that nobody looked at."""
        return self._socket is not None and bool(self._socket.poll(0))

    def hung_up(self) -> HungUp | None:
        """Whether the other side has gone since the last call."""
        if self._monitor is None or self._monitor not in self._ready:
            return None
        return HungUp(recv_monitor_message(self._monitor)["event"])

    def close(self) -> None:
        """Give everything back."""
        self.hang_up()
        self._context.term()
        self._wake.close()
