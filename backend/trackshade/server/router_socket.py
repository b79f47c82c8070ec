# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker's ROUTER sockets: receive and send whole messages without blocking."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import zmq

from trackshade.core.errors import UsageError
from trackshade.ipc import Message, encode
from trackshade.ipc.endpoints import ServerKeys
from trackshade.ipc.protocol import MAX_BUFFERS, TRANSPORT_LIMIT

SEND_QUEUE = 64  # messages that may wait for a slow reader before it counts as gone
RECEIVE_QUEUE = 8  # messages that libzmq may read ahead from one sender, whatever credit it has
HANDSHAKE_TIME = 10_000  # milliseconds for the handshake of a connection
CURVE_DOMAIN = "trackshade"


class RouterSocket:
    """A bound ROUTER socket. `endpoint` is the address it listens on, with the port number filled in."""

    def __init__(self, context: zmq.Context, endpoint: str, keys: ServerKeys | None = None) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.sndhwm = SEND_QUEUE
        self.socket.rcvhwm = RECEIVE_QUEUE
        self.socket.maxmsgsize = TRANSPORT_LIMIT
        self.socket.handshake_ivl = HANDSHAKE_TIME
        self.socket.router_mandatory = True  # sending to a peer that is gone raises an error
        if keys is not None:
            self.socket.curve_server = True
            self.socket.curve_secretkey = keys.secret
            self.socket.zap_domain = CURVE_DOMAIN.encode()
        self._path = Path(endpoint[6:]) if endpoint.startswith("ipc://") else None
        try:
            if self._path is not None:
                check_free(self._path)
            self.socket.bind(endpoint)
        except (OSError, zmq.ZMQError) as error:
            self.socket.close()
            raise endpoint_taken(endpoint, error) from error
        self.endpoint = self.socket.get_string(zmq.LAST_ENDPOINT)

    def receive(self, limit: int) -> Iterator[tuple[bytes, list[memoryview]]]:
        """Yield up to `limit` waiting messages: the sender's identity, and the frames.

        Frames above the allowed number are dropped except for one, so that decoding reports them.
        """
        for _ in range(limit):
            try:
                identity = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            frames: list[memoryview] = []
            while self.socket.rcvmore:
                frame = self.socket.recv(copy=False)
                if len(frames) < MAX_BUFFERS + 2:
                    frames.append(frame.buffer)
            yield identity, frames

    def send(self, identity: bytes, message: Message) -> bool:
        """Send a message; return False if the peer is gone or does not read."""
        try:
            self.socket.send_multipart([identity, *encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        return True

    def close(self) -> None:
        """Close the socket and remove its file."""
        self.socket.close()
        if self._path is not None:
            with contextlib.suppress(OSError):  # removed by libzmq, or with its folder
                self._path.unlink()


def endpoint_taken(endpoint: str, error: OSError | zmq.ZMQError) -> UsageError:
    """Make the error for an address on which nobody can listen."""
    return UsageError(
        "endpoint-taken", f"The backend cannot listen on {endpoint}: {error.strerror}.", "Choose another."
    )


def check_free(path: Path) -> None:
    """Create the folder of an ipc socket.

    Raises:
        OSError: A process listens there, or the file is none of a socket. libzmq would replace either.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.path.lexists(path):
        if not path.is_socket():
            raise FileExistsError(errno.EEXIST, "there is a file of that name")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(os.fspath(path)) == 0:
                raise FileExistsError(errno.EADDRINUSE, "another process listens there")
