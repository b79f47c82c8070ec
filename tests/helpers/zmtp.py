# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain socket that speaks ZMTP 3 to a backend, byte by byte, so that it can send what libzmq never would."""

from __future__ import annotations

import contextlib
import socket

from trackshade.ipc import PROTOCOL, Message, encode

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
EMPTY_PARTS = b"\x01\x00" * 4096  # frames without bytes, each followed by another one of the same message


def frame(data: bytes, flags: int = 0) -> bytes:
    if len(data) > 255:
        return bytes((flags | 2,)) + len(data).to_bytes(8, "big") + data
    return bytes((flags, len(data))) + data


def ready(identity: bytes = b"") -> bytes:
    properties = (b"Socket-Type", b"DEALER"), (b"Identity", identity)
    listed = b"".join(bytes((len(k),)) + k + len(v).to_bytes(4, "big") + v for k, v in properties)
    return frame(b"\x05READY" + listed, 4)


def message(*frames: bytes) -> bytes:
    return b"".join(frame(data, int(left > 0)) for left, data in zip(range(len(frames))[::-1], frames, strict=True))


def hello(token: str) -> bytes:
    body = {"protocol": PROTOCOL, "package": "0.0.test", "token": token, "client": "bytes"}
    return message(*(bytes(part) for part in encode(Message("hello", 1, body))))


class Bytes:
    """A connection to an endpoint that has sent its greeting."""

    def __init__(self, endpoint: str, identity: bytes = b"", timeout: float = 60.0) -> None:
        if endpoint.startswith("ipc://"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(endpoint[6:])
        else:
            host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
            self.socket = socket.create_connection((host.strip("[]"), int(port)))
        self.socket.settimeout(timeout)
        self.socket.sendall(GREETING + ready(identity))

    def say_hello(self, token: str) -> None:
        """Wait for the end of the handshake, and say hello."""
        left = len(GREETING) + len(frame(b"\x05READY\x0bSocket-Type0006ROUTER\x08Identity0000", 4))
        while left:
            left -= len(self.socket.recv(left))
        self.socket.sendall(hello(token))

    def flood(self, data: bytes, most: int) -> int:
        """Send the data again and again until the backend closes the connection; return the bytes that it took."""
        sent = 0
        with contextlib.suppress(OSError):
            while sent < most:
                sent += self.socket.send(data)
        return sent

    def is_closed(self) -> bool:
        """Read up to the end of what the backend sends; return whether there is one."""
        try:
            while self.socket.recv(1 << 16):
                continue
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def __enter__(self) -> Bytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
