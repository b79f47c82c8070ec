# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair of sockets that lets any thread or signal handler end another thread's poll."""

from __future__ import annotations

import socket


class Wake:
    """`set` from anywhere; the poller watches `fileno` and calls `clear`."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        return self._reader.fileno()

    def set(self) -> None:
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # full of earlier calls, which wake as well
        except OSError:
            return  # closed: nobody waits any more

    def clear(self) -> None:
        try:
            while self._reader.recv(4096):
                continue
        except BlockingIOError:
            return

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
