# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows what a client sends over ZMTP 3 (https://rfc.zeromq.org/spec/23/), so that it can be limited.

libzmq limits the size of a frame and the number of waiting messages, but neither the number of frames of a message nor
what a connection costs before it has said who it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

GREETING = 64  # bytes
MORE, LONG, COMMAND = 1, 2, 4  # flags of a frame
EARLY_BYTES = 16 << 10  # that a client may send before it is admitted: its hello has a few hundred
EARLY_FRAMES = 16  # two for the handshake; each of the others is decoded and answered
MAX_FRAMES = 1024  # of a message; those above the limits of `trackshade.ipc.protocol` get an error reply
MAX_MESSAGE = 64 << 20  # bytes of a message
_ROUTING_ID = re.compile(rb"\x08Identity(....)", re.IGNORECASE | re.DOTALL)


class LimitError(Exception):
    """The client sent something that ends its connection."""


class ClientStream:
    """The bytes from one client.

    Args:
        is_hello: Returns whether the frame of a message is a hello with the right token, which admits the client.
        encrypted: Whether frames are encrypted (CURVE). `admit` is called from outside then.
    """

    def __init__(self, is_hello: Callable[[bytes], bool], encrypted: bool) -> None:
        self.is_admitted = False
        self._is_hello = is_hello
        self._encrypted = encrypted
        self._early = bytearray()  # everything before the client is admitted
        self._position = 0  # up to where `_early` has been read
        self._left = 0  # bytes of the current frame that are still to come
        self._head = b""  # the beginning of a frame whose length is not known yet
        self._frames = self._bytes = 0  # of the current message

    def feed(self, data: memoryview) -> None:
        """Take the next bytes. Raise LimitError."""
        if self.is_admitted:
            self._count(data)
            return
        self._early += data
        if len(self._early) > EARLY_BYTES:
            raise LimitError("too much before hello")
        if not self._position and len(self._early) >= GREETING:
            self._position = GREETING
        while self._position and not self.is_admitted and self._read_frame():
            continue

    def admit(self) -> None:
        """Lift the limits for clients that are not known yet."""
        if not self.is_admitted:
            self.is_admitted = True
            rest, self._early = bytes(self._early[self._position :]), bytearray()
            self._count(memoryview(rest))

    def _read_frame(self) -> bool:
        """Read a frame if it is complete."""
        head = bytes(self._early[self._position : self._position + 9])
        width = 8 if head and head[0] & LONG else 1
        if len(head) < 1 + width:
            return False
        start, size = self._position + 1 + width, int.from_bytes(head[1 : 1 + width], "big")
        if size > EARLY_BYTES:
            raise LimitError("a large frame before hello")
        if len(self._early) < start + size:
            return False
        frame = bytes(self._early[start : start + size])
        self._position = start + size
        self._frames += 1
        if self._frames > EARLY_FRAMES:
            raise LimitError("too much before hello")
        if head[0] & COMMAND:
            self._check_command(frame)
        elif not self._encrypted and not head[0] & MORE and self._is_hello(frame):
            self._frames = 0
            self.admit()
        return True

    def _check_command(self, command: bytes) -> None:
        """Refuse a routing id that a client chose: it could be that of another client, whose session it would get."""
        found = _ROUTING_ID.search(command) if command.startswith(b"\x05READY") else None
        if found is not None and any(found[1]):
            raise LimitError("a routing id of its own")

    def _count(self, data: memoryview) -> None:
        """Count frames and bytes of each message."""
        while data:
            if self._left:
                taken = min(self._left, len(data))
                self._left, data = self._left - taken, data[taken:]
                continue
            known = len(self._head)
            head = self._head + bytes(data[: 9 - known])
            width = 8 if head[0] & LONG else 1
            if len(head) < 1 + width:
                self._head = head
                return
            self._head, data = b"", data[1 + width - known :]
            self._left = int.from_bytes(head[1 : 1 + width], "big")
            self._frames, self._bytes = self._frames + 1, self._bytes + self._left
            if self._frames > MAX_FRAMES or self._bytes > MAX_MESSAGE:
                raise LimitError("a message that is too large")
            if not head[0] & MORE:
                self._frames = self._bytes = 0
