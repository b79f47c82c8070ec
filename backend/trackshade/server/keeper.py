# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that writes chunks and verifies them, so that a slow disk never holds up the broker's loop.

Writing comes first, because a client waits for it; verifying fills the pauses. What has happened is put in
`results`, and `wake` is called.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trackshade.errors import OutputError
from trackshade.server.chunk_store import ChunkStore

_WRITE, _VERIFY = 0, 1


@dataclass(frozen=True)
class Written:
    """A chunk was stored, or not: `error`. `ticket` is what `write` was given."""

    ticket: Any
    error: OutputError | None


@dataclass(frozen=True)
class Verified:
    """A chunk has its final name (`intact`), or was deleted because its bytes do not have that digest."""

    digest: bytes
    intact: bool


class Keeper:
    """Owns one thread. `pending` holds the digests not verified yet and is used by the broker's thread only."""

    def __init__(self, chunks: ChunkStore, wake: Callable[[], None]) -> None:
        self.results: queue.SimpleQueue[Written | Verified] = queue.SimpleQueue()
        self.pending: set[bytes] = set()
        self._chunks = chunks
        self._wake = wake
        self._work: queue.PriorityQueue[tuple[int, int, Any]] = queue.PriorityQueue()
        self._number = itertools.count()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()
        for digest in chunks.unverified():
            self.verify(digest)

    def write(self, digest: bytes, data: memoryview, ticket: Any) -> None:
        """Store these bytes under this digest; `Written` follows, and `Verified` after it."""
        self.pending.add(digest)
        self._work.put((_WRITE, next(self._number), (digest, data, ticket)))

    def verify(self, digest: bytes) -> None:
        self.pending.add(digest)
        self._work.put((_VERIFY, next(self._number), digest))

    def close(self) -> None:
        """Finish the writes that were accepted and end the thread."""
        self._work.put((_WRITE, next(self._number), None))
        self._thread.join()

    def _run(self) -> None:
        while True:
            kind, _, work = self._work.get()
            if work is None:
                return
            if kind == _WRITE:
                digest, data, ticket = work
                self.results.put(Written(ticket, self._write(digest, data)))
                del data, work  # the bytes belong to the message and should go with it
            else:
                self.results.put(Verified(work, self._verify(work)))
            self._wake()

    def _write(self, digest: bytes, data: memoryview) -> OutputError | None:
        try:
            self._chunks.write(digest, data)
        except OutputError as error:
            return error
        self._work.put((_VERIFY, next(self._number), digest))
        return None

    def _verify(self, digest: bytes) -> bool:
        try:
            return self._chunks.verify(digest)
        except OSError:
            return False  # unreadable is not intact; the client sends the chunk again
