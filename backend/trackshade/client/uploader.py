# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends arrays in chunks in the background, also while they are still being filled.

Hashing runs in threads (BLAKE2b releases the interpreter lock), requests in the connection's thread, so that `rows`
returns at once. Chunks are sent from the arrays' memory, without a copy.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from trackshade.client.connection import Connection
from trackshade.core.errors import TrackshadeError
from trackshade.ipc import CHUNK_BYTES, DIGEST_BYTES, ArrayEntry, Message, chunk_count, digest_of
from trackshade.ipc.chunks import is_small, raw_bytes
from trackshade.ipc.protocol import MAX_LOOKUPS

CHUNKS_PER_REQUEST = 8  # a larger number costs fewer requests, a smaller one sends the first chunk earlier
_NO_DIGEST = b""


class _UploadedArray:
    """An array that is sent. Holding its memory keeps its address from being reused."""

    def __init__(self, array: np.ndarray) -> None:
        self.bytes = raw_bytes(array)
        self.digests = [_NO_DIGEST] * chunk_count(array.nbytes)
        self.begun = 0  # number of chunks whose hashing was requested


class Uploader:
    """Sends the arrays of one shot. Created by `Client.uploader`; the next `submit` uses it."""

    def __init__(self, connection: Connection, hashing: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._hashing = hashing
        self._arrays: dict[tuple[int, int], _UploadedArray] = {}
        self._state = threading.Condition()
        self._to_hash = 0
        self._open = 0  # chunks not stored yet
        self._hashed: dict[bytes, memoryview] = {}  # hashed, but not requested yet
        self._requested: set[bytes] = set()
        self._is_requesting = False
        self._error: TrackshadeError | None = None

    def rows(self, array: np.ndarray, count: int) -> None:
        """Begin to send the full chunks of `array[:count]`, which must not change any more. Return at once.

        The array is C-contiguous and little-endian. Errors of the upload are raised by `entry` and `finish`.
        """
        if not is_small(array.nbytes):  # small ones are packed at the submit
            self.add(array, count)

    def add(self, array: np.ndarray, count: int) -> None:
        """Do the same for an array of any size that gets chunks of its own."""
        upload = self._find(array)
        final = array.nbytes if count >= len(array) else count * (array.nbytes // len(array))
        ready = len(upload.digests) if final == array.nbytes else final // CHUNK_BYTES
        with self._state:
            begin, upload.begun = upload.begun, max(upload.begun, ready)
            self._open += max(0, ready - begin)
            self._to_hash += max(0, ready - begin)
        for index in range(begin, ready):
            self._hashing.submit(self._hash, upload, index)

    def entry(self, array: np.ndarray) -> ArrayEntry:
        """Return the manifest entry of a completely added array, once its chunks are hashed."""
        upload = self._find(array)
        with self._state:
            self._state.wait_for(lambda: all(upload.digests) or self._error is not None)
            if self._error is not None:
                raise self._error
        return ArrayEntry(array.dtype.str, array.shape, tuple(upload.digests))

    def finish(self, on_progress: Callable[[int], None] | None = None) -> None:
        """Wait until everything that was added is stored. Raise the error of the upload."""
        with self._state:
            while self._open and self._error is None:
                self._state.wait(0.1)
                if on_progress is not None:
                    on_progress(self._open)
            if self._error is not None:
                raise self._error

    @property
    def failed(self) -> bool:
        """Whether the upload failed; another uploader has to begin again."""
        return self._error is not None

    def chunk(self, digest: bytes) -> memoryview | None:
        """Return the bytes of a chunk that was added."""
        for upload in self._arrays.values():
            if digest in upload.digests:
                return upload.bytes[upload.digests.index(digest) * CHUNK_BYTES :][:CHUNK_BYTES]
        return None

    def _find(self, array: np.ndarray) -> _UploadedArray:
        key = (array.__array_interface__["data"][0], array.nbytes)
        with self._state:
            if key not in self._arrays:
                self._arrays[key] = _UploadedArray(array)
            return self._arrays[key]

    def _hash(self, upload: _UploadedArray, index: int) -> None:
        data = upload.bytes[index * CHUNK_BYTES :][:CHUNK_BYTES]
        digest = digest_of(data)
        with self._state:
            upload.digests[index] = digest
            self._to_hash -= 1
            if digest in self._requested:  # the same bytes again, such as a rest pose
                self._open -= 1
            else:
                self._requested.add(digest)
                self._hashed[digest] = data
            self._notify()
        self._request_missing()

    def _request_missing(self) -> None:
        """Ask which of the hashed chunks the backend lacks: soon for the first ones, then for several at once."""
        with self._state:
            minimum = min(CHUNKS_PER_REQUEST, max(1, len(self._requested) // 2)) if self._to_hash else 1
            if self._is_requesting or len(self._hashed) < minimum:
                return
            self._is_requesting = True
            asked = dict(itertools.islice(self._hashed.items(), MAX_LOOKUPS))
            for digest in asked:
                del self._hashed[digest]
        future = self._connection.request("have", {"digests": list(asked)})
        future.add_done_callback(lambda answer: self._send_missing(asked, answer))

    def _send_missing(self, asked: dict[bytes, memoryview], answer: Future[Message]) -> None:
        missing: list[bytes] = []
        error = answer.exception()
        if error is None:
            found = answer.result().body.get("missing", [])
            missing = [d for d in found if isinstance(d, bytes) and len(d) == DIGEST_BYTES and d in asked]
        with self._state:
            self._is_requesting = False
            self._open -= len(asked) - len(missing)
            self._keep_error(error)
            self._notify()
        for digest in missing:
            self._connection.send_chunk(digest, asked[digest]).add_done_callback(self._stored)
        self._request_missing()

    def _stored(self, answer: Future[Message]) -> None:
        with self._state:
            self._open -= 1
            self._keep_error(answer.exception())
            self._notify()

    def _notify(self) -> None:
        """Wake `entry` and `finish`, only at the end: each time takes time from the sending."""
        if self._open == 0 or self._error is not None:
            self._state.notify_all()

    def _keep_error(self, error: BaseException | None) -> None:
        if isinstance(error, TrackshadeError) and self._error is None:
            self._error = error
