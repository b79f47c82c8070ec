# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that writes chunks and verifies them, so that a slow disk never holds up the broker's loop.

Writing comes first, because a client waits for it; verifying waits for a pause, or for a job that wants the chunks.
What has happened is put in `results`, and `wake` is called.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trackshade.errors import OutputError
from trackshade.server.chunk_store import ChunkStore

PAUSE = 0.25  # seconds without a write after which verifying begins


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


@dataclass(frozen=True)
class _Write:
    digest: bytes
    data: memoryview
    ticket: Any


class Keeper:
    """Owns one thread. `pending` holds the digests not verified yet and is used by the broker's thread only."""

    def __init__(self, chunks: ChunkStore, wake: Callable[[], None]) -> None:
        self.results: queue.SimpleQueue[Written | Verified] = queue.SimpleQueue()
        self.pending: set[bytes] = set()
        self._chunks = chunks
        self._wake = wake
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()  # None: look again
        self._to_verify: deque[bytes] = deque()
        self._hurry = self._closing = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        for digest in chunks.unverified():
            self.pending.add(digest)
            self._to_verify.append(digest)
        self._thread.start()

    def write(self, digest: bytes, data: memoryview, ticket: Any) -> None:
        """Store these bytes under this digest; `Written` follows, and `Verified` some time after it."""
        self.pending.add(digest)
        self._writes.put(_Write(digest, data, ticket))

    def hurry(self) -> None:
        """Verify what there is now, as a job waits for it."""
        self._hurry = True
        self._writes.put(None)

    def close(self) -> None:
        """Finish the writes that were accepted and end the thread; what is not verified is after the next start."""
        self._closing = True
        self._writes.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                write = self._writes.get(timeout=self._patience())
            except queue.Empty:
                self._verify_next()
                continue
            if write is not None:
                self.results.put(Written(write.ticket, self._write(write.digest, write.data)))
                del write  # the bytes belong to the message and should go with it
                self._wake()
                if self._hurry and self._to_verify:
                    self._verify_next()  # so that a job waits for no other client's upload
            elif self._closing and self._writes.empty():
                return

    def _patience(self) -> float | None:
        """How long to wait for the next write before verifying instead."""
        if not self._to_verify:
            return None
        return 0.0 if self._hurry else PAUSE

    def _verify_next(self) -> None:
        digest = self._to_verify.popleft()
        if not self._to_verify:
            self._hurry = False
        self.results.put(Verified(digest, self._verify(digest)))
        self._wake()

    def _write(self, digest: bytes, data: memoryview) -> OutputError | None:
        try:
            self._chunks.write(digest, data)
        except OutputError as error:
            return error
        self._to_verify.append(digest)
        return None

    def _verify(self, digest: bytes) -> bool:
        try:
            return self._chunks.verify(digest)
        except OSError:
            return False  # unreadable is not intact; the client sends the chunk again
