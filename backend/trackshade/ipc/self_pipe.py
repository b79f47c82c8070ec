# SPDX-License-Identifier: GPL-3.0-or-later
"""A pair of sockets that lets any thread or signal handler end another thread's poll."""

from __future__ import annotations

import socket


class SelfPipe:
    """`set` from anywhere; the poller watches `fileno` and calls `clear`."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._is_set = False

    def fileno(self) -> int:
        return self._reader.fileno()

    def set(self) -> None:
        if self._is_set:  # the reader has not looked yet, and will find what there is now as well
            return
        self._is_set = True
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # full of earlier calls, which wake as well
        except OSError:
            return  # closed: nobody waits any more

    def clear(self) -> None:
        """To be called before looking at what there is: what comes after this sets it again."""
        try:
            self._reader.recv(4096)
        except BlockingIOError:
            return
        finally:
            self._is_set = False

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
