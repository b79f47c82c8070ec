# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends arrays in chunks in the background, also while they are still being filled.

Hashing runs in threads (BLAKE2b lets others run), asking and sending in the connection's thread; whoever calls
`rows` waits for neither. Chunks are sent from the arrays' own memory, without a copy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from trackshade.client.connection import Connection
from trackshade.core.errors import TrackshadeError
from trackshade.ipc import CHUNK_BYTES, DIGEST_BYTES, ArrayEntry, Message, chunk_count, digest_of
from trackshade.ipc.chunks import chunk_size, is_small, raw_bytes

ASK_AT_ONCE = 8  # chunks: fewer questions cost less, more make the backend wait for the first chunk
_NO_DIGEST = b""


class _Array:
    """An array on its way. Holding it keeps its address from being used again."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.bytes = raw_bytes(array)
        self.digests = [_NO_DIGEST] * chunk_count(array.nbytes)
        self.begun = 0  # chunks whose hashing was asked for


class Uploader:
    """One stream of arrays to a backend. Made by `Client.uploader`; forget it when the job is submitted."""

    def __init__(self, connection: Connection, hashing: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._hashing = hashing
        self._arrays: dict[tuple[int, int], _Array] = {}
        self._state = threading.Condition()
        self._to_hash = 0
        self._open = 0  # chunks not hashed, asked for, sent and stored yet
        self._fresh: dict[bytes, memoryview] = {}  # hashed; the backend was not asked yet
        self._asked: set[bytes] = set()
        self._asking = False
        self._error: TrackshadeError | None = None

    def rows(self, array: np.ndarray, count: int) -> None:
        """Say that `array[:count]` is final: its full chunks are hashed and sent from now on.

        `array` is C-contiguous and little-endian, is the memory that the shot will hold, and its first `count` rows
        must not change any more. Returns at once. Never raises for what happens on the way: `entry` does.
        """
        if not is_small(array.nbytes):  # small ones travel together at the submit
            self.final(array, count)

    def final(self, array: np.ndarray, count: int) -> None:
        """As `rows`, for an array of any size that has chunks of its own."""
        known = self._know(array)
        final = array.nbytes if count >= len(array) else count * (array.nbytes // len(array))
        ready = len(known.digests) if final == array.nbytes else final // CHUNK_BYTES
        with self._state:
            begin, known.begun = known.begun, max(known.begun, ready)
            self._open += max(0, ready - begin)
            self._to_hash += max(0, ready - begin)
        for index in range(begin, ready):
            self._hashing.submit(self._hash, known, index)

    def entry(self, array: np.ndarray) -> ArrayEntry:
        """The manifest entry of an array, all of whose rows were final; waits for the way of its chunks if need be."""
        known = self._know(array)
        with self._state:
            self._state.wait_for(lambda: all(known.digests) or self._error is not None)
            if self._error is not None:
                raise self._error
        return ArrayEntry(array.dtype.str, array.shape, tuple(known.digests))

    def finish(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Wait until everything said to be final is stored. Raises what went wrong on the way."""
        with self._state:
            while self._open and self._error is None:
                self._state.wait(0.1)
                if on_progress is not None:
                    on_progress(self._open)
            if self._error is not None:
                raise self._error

    @property
    def failed(self) -> bool:
        """Whether something went wrong on the way; then another uploader has to begin again."""
        return self._error is not None

    def chunk(self, digest: bytes) -> memoryview | None:
        """The bytes of a chunk that went through here."""
        for known in self._arrays.values():
            if digest in known.digests:
                start = known.digests.index(digest) * CHUNK_BYTES
                return known.bytes[start : start + CHUNK_BYTES]
        return None

    def _know(self, array: np.ndarray) -> _Array:
        key = (array.__array_interface__["data"][0], array.nbytes)
        with self._state:
            if key not in self._arrays:
                self._arrays[key] = _Array(array)
            return self._arrays[key]

    def _hash(self, known: _Array, index: int) -> None:
        start = index * CHUNK_BYTES
        data = known.bytes[start : start + chunk_size(len(known.bytes), index)]
        digest = digest_of(data)
        with self._state:
            known.digests[index] = digest
            self._to_hash -= 1
            if digest in self._asked:  # the same bytes again, such as a rest pose
                self._open -= 1
            else:
                self._asked.add(digest)
                self._fresh[digest] = data
            self._tell()
        self._ask()

    def _ask(self) -> None:
        """Ask which of the fresh chunks are missing: about the first ones soon, then about several at once."""
        with self._state:
            enough = min(ASK_AT_ONCE, max(1, len(self._asked) // 2)) if self._to_hash else 1
            if self._asking or len(self._fresh) < enough:
                return
            self._asking = True
            asked, self._fresh = self._fresh, {}
        future = self._connection.request("have", {"digests": list(asked)})
        future.add_done_callback(lambda answer: self._send_missing(asked, answer))

    def _send_missing(self, asked: dict[bytes, memoryview], answer: Future[Message]) -> None:
        missing: list[bytes] = []
        error = answer.exception()
        if error is None:
            found = answer.result().body.get("missing", [])
            missing = [d for d in found if isinstance(d, bytes) and len(d) == DIGEST_BYTES and d in asked]
        with self._state:
            self._asking = False
            self._open -= len(asked) - len(missing)
            self._note(error)
            self._tell()
        for digest in missing:
            self._connection.send_chunk(digest, asked[digest]).add_done_callback(self._stored)
        self._ask()

    def _stored(self, answer: Future[Message]) -> None:
        with self._state:
            self._open -= 1
            self._note(answer.exception())
            self._tell()

    def _tell(self) -> None:
        """Wake who waits, but only when it is over: each wake takes time from the sending."""
        if self._open == 0 or self._error is not None:
            self._state.notify_all()

    def _note(self, error: BaseException | None) -> None:
        if isinstance(error, TrackshadeError) and self._error is None:
            self._error = error
