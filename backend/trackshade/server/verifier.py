# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that verifies chunks, in the pauses between uploads, or at once where a job waits for them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trackshade.server.chunk_store import ChunkStore

PAUSE = 0.25  # seconds without a new chunk after which verifying begins


@dataclass(frozen=True)
class Verified:
    """A chunk has its final name (`intact`), or was deleted because its bytes do not have that digest."""

    digest: bytes
    intact: bool


class Verifier:
    """Owns one thread. What it has found is put in `results`, and `wake` is called.

    `pending` holds the digests not verified yet and is used by the broker's thread only.
    """

    def __init__(self, chunks: ChunkStore, wake: Callable[[], None]) -> None:
        self.results: queue.SimpleQueue[Verified] = queue.SimpleQueue()
        self.pending: dict[bytes, bool] = dict.fromkeys(chunks.unverified(), False)  # whether it was begun
        self._added = 0.0
        self._chunks = chunks
        self._wake = wake
        self._work: queue.SimpleQueue[Sequence[bytes] | None] = queue.SimpleQueue()  # None: the end
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="verifier", daemon=True)
        self._thread.start()
        self.begin()

    def add(self, digest: bytes) -> None:
        """A chunk was stored; it is verified after a pause, or when `begin` is called."""
        self.pending[digest] = False
        self._added = time.monotonic()

    def begin(self) -> None:
        """Verify what is pending."""
        fresh = [digest for digest, begun in self.pending.items() if not begun]
        if fresh:
            self.pending.update(dict.fromkeys(fresh, True))
            self._work.put(fresh)

    def begin_in_pause(self) -> None:
        """Verify what is pending if nothing has come for a while."""
        if time.monotonic() - self._added > PAUSE:
            self.begin()

    def take(self) -> list[Verified]:
        """What was found since the last call, which is no longer pending."""
        found = []
        while True:
            try:
                found.append(self.results.get_nowait())
            except queue.Empty:
                return found
            self.pending.pop(found[-1].digest, None)

    def close(self) -> None:
        """End the thread; what is not verified is after the next start."""
        self._closing = True
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (digests := self._work.get()) is not None:
            for digest in digests:
                if self._closing:
                    return
                self.results.put(Verified(digest, self._verify(digest)))
                self._wake()

    def _verify(self, digest: bytes) -> bool:
        try:
            return self._chunks.verify(digest)
        except OSError:
            return False  # unreadable is not intact; the client sends the chunk again
