# SPDX-License-Identifier: GPL-3.0-or-later
"""The self-pipe trick: a pair of sockets with which any thread or signal handler ends another thread's poll."""

from __future__ import annotations

import contextlib
import socket


class SelfPipe:
    """`set` may be called from anywhere; the polling thread watches `fileno` and calls `clear`."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._is_set = False

    def fileno(self) -> int:
        """Return the file descriptor to poll for reading."""
        return self._reader.fileno()

    def set(self) -> None:
        """End the poll."""
        if self._is_set:  # the reader has not cleared it yet, and will see what there is now as well
            return
        self._is_set = True
        with contextlib.suppress(OSError):  # full of earlier calls, which end the poll as well, or closed
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Reset it. Call it before looking for work, because work that comes later sets it again."""
        try:
            with contextlib.suppress(BlockingIOError):
                self._reader.recv(4096)
        finally:
            self._is_set = False

    def close(self) -> None:
        """Close both sockets."""
        self._reader.close()
        self._writer.close()
