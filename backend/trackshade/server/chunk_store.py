# SPDX-License-Identifier: GPL-3.0-or-later
"""Chunks as files named by their digest, and the thread that verifies them.

A chunk is written to a temporary file and renamed to `DIGEST.new`. To be verified it is renamed to `DIGEST.verify`,
which nobody writes, and to `DIGEST` once its digest is verified: a chunk that is sent again meanwhile cannot take the
place of the verified bytes. Jobs read verified chunks only. There is no index of the files that could disagree with
them.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from trackshade.core.errors import JobError, OutputError
from trackshade.ipc import CHUNK_BYTES, ArrayEntry, Manifest, digest_of
from trackshade.server.clock import age_time

_DIGEST = re.compile("[0-9a-f]{64}")
# Numbers of errors that free space ends; Windows has no quotas with one of its own.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
VERIFY_AFTER = 0.25  # seconds without a new chunk after which verification begins


class ChunkStore:
    """The folder of chunks of a job store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = os.path.join(folder, "")
        for first in range(256):
            (folder / f"{first:02x}").mkdir(parents=True, exist_ok=True)

    def path(self, digest: bytes) -> Path:
        """Return the path of a verified chunk."""
        return Path(self._name(digest))

    def _name(self, digest: bytes) -> str:
        return f"{self._prefix}{digest[:1].hex()}/{digest.hex()}"

    def size(self, digest: bytes) -> int | None:
        """Return the number of bytes of a stored chunk, verified or not; None if it is not stored."""
        path = self._name(digest)
        for candidate in (path, path + ".new", path + ".verify", path):  # the verifier may be renaming it in this order
            try:
                return os.stat(candidate).st_size
            except FileNotFoundError:
                continue
        return None

    def missing(self, digests: Iterable[bytes]) -> list[bytes]:
        """Return the digests that are not stored. The age of the others starts again, so that they are kept."""
        absent = []
        for digest in digests:
            path = self._name(digest)
            # In the order in which the verifier may be renaming it.
            if os.path.exists(path + ".new") or os.path.exists(path + ".verify"):
                continue
            try:
                os.utime(path)
            except FileNotFoundError:
                absent.append(digest)
            except OSError as error:
                raise storage_error(error, self.folder) from error
        return absent

    def write(self, digest: bytes, data: bytes | memoryview) -> None:
        """Store a chunk that has yet to be verified, whole or not at all. Raise OutputError."""
        path = self._name(digest)
        temporary = f"{path}.tmp"
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(temporary, "wb", opener=functools.partial(os.open, mode=0o600)) as file:
                file.write(data)
            os.replace(temporary, path + ".new")
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise storage_error(error, self.folder) from error

    def verify(self, digest: bytes) -> bool:
        """Give a new chunk its final name or, if its digest is wrong, delete it; return whether it is stored."""
        path = self._name(digest)
        try:
            os.replace(path + ".new", path + ".verify")
            with open(path + ".verify", "rb", buffering=0) as file:
                intact = digest_of(file.read()) == digest
            if intact:
                os.replace(path + ".verify", path)
            else:
                os.unlink(path + ".verify")
        except FileNotFoundError:  # it was sent twice, and verified the first time
            intact = False
        return intact or os.path.exists(path)

    def unverified(self) -> Iterator[bytes]:
        """Yield the unverified chunks after a restart; delete what was not completely written."""
        for path in self.folder.glob("??/*.*"):
            with contextlib.suppress(OSError):  # a folder, or another user's
                if path.suffix in (".new", ".verify") and _DIGEST.fullmatch(path.stem):
                    if path.suffix == ".verify":
                        os.replace(path, path.with_suffix(".new"))
                    yield bytes.fromhex(path.stem)
                else:
                    path.unlink(missing_ok=True)

    def clean(self, older_than: float, needed: Collection[bytes]) -> Iterator[None]:
        """Delete chunks that are not needed and older than `older_than` seconds, folder by folder."""
        limit, names = age_time() - older_than, {digest.hex() for digest in needed}
        for first in range(256):
            for path in (self.folder / f"{first:02x}").glob("*"):
                with contextlib.suppress(OSError):  # renamed by the verifier, or not a file
                    if path.stem not in names and path.stat().st_mtime < limit:
                        path.unlink()
            yield

    def arrays(self, manifest: Manifest) -> list[np.ndarray]:
        """Read a manifest's arrays, read-only. Raise JobError("missing-chunk")."""
        packed = self.array(manifest.packed) if manifest.packed else np.empty(0, np.uint8)
        found = []
        for entry in manifest.arrays:
            if entry.chunks:
                found.append(self.array(entry))
                continue
            data, packed = packed[: entry.nbytes], packed[entry.nbytes :]
            found.append(np.frombuffer(data.tobytes(), entry.dtype).reshape(entry.shape))  # a copy: aligned
        return found

    def array(self, entry: ArrayEntry) -> np.ndarray:
        """Read an array, read-only: map a single chunk, read several in order. Raise JobError("missing-chunk")."""
        try:
            if len(entry.chunks) == 1:
                return np.memmap(self.path(entry.chunks[0]), entry.dtype, "r", shape=entry.shape)
            whole = np.empty(entry.shape, entry.dtype)
            rest = whole.reshape(-1).view(np.uint8).data
            for digest, size in entry.chunk_sizes():
                with open(self.path(digest), "rb", buffering=0) as file:
                    if file.readinto(rest[:size]) != size:
                        raise ValueError(digest.hex())
                rest = rest[size:]
        except (FileNotFoundError, IsADirectoryError, PermissionError, ValueError) as error:
            raise _missing_chunk_error() from error
        whole.flags.writeable = False
        return whole


class StoredFrames:
    """The rows of a stored array [T, ...], each read when it is used."""

    def __init__(self, chunks: ChunkStore, entry: ArrayEntry) -> None:
        """Read no row yet."""
        self._chunks, self._entry = chunks, entry
        self.shape = entry.shape

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, t: int) -> np.ndarray:
        """Return row `t`, of the array's type and shape [...]. Raise JobError("missing-chunk")."""
        if not 0 <= t < len(self):
            raise IndexError(t)
        row = np.empty(self.shape[1:], self._entry.dtype)
        rest, position = row.reshape(-1).view(np.uint8).data, t * row.nbytes
        while rest:
            chunk, start = divmod(position, CHUNK_BYTES)
            part = rest[: CHUNK_BYTES - start]
            try:
                with open(self._chunks.path(self._entry.chunks[chunk]), "rb", buffering=0) as file:
                    file.seek(start)
                    if file.readinto(part) != len(part):
                        raise _missing_chunk_error()
            except FileNotFoundError as error:
                raise _missing_chunk_error() from error
            rest, position = rest[len(part) :], position + len(part)
        return row


class ChunkVerifier:
    """Verifies chunks in a thread of its own: between uploads, or at once for a waiting job.

    The thread calls `wake` when `take_results` has something to return.
    """

    def __init__(self, chunks: ChunkStore, wake: Callable[[], None]) -> None:
        # Digests not verified yet, and whether verification was requested. Used by the broker's thread only.
        self.pending: dict[bytes, bool] = dict.fromkeys(chunks.unverified(), False)
        self._added = 0.0  # when the last chunk was added
        self._chunks = chunks
        self._results: queue.SimpleQueue[tuple[bytes, bool]] = queue.SimpleQueue()
        self._wake = wake
        self._work: queue.SimpleQueue[Sequence[bytes] | None] = queue.SimpleQueue()  # None ends the thread
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="verifier", daemon=True)
        self._thread.start()
        self.verify_pending()

    def add(self, digest: bytes) -> None:
        """Add a chunk, which is verified after a pause in the uploads or when `verify_pending` is called."""
        self.pending[digest] = False
        self._added = time.monotonic()

    def verify_pending(self) -> None:
        """Request verification of all pending chunks."""
        digests = [digest for digest, is_requested in self.pending.items() if not is_requested]
        if digests:
            self.pending.update(dict.fromkeys(digests, True))
            self._work.put(digests)

    def verify_in_pause(self) -> None:
        """Request verification of all pending chunks if none was added for a while."""
        if time.monotonic() - self._added > VERIFY_AFTER:
            self.verify_pending()

    def take_results(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the chunks verified since the last call: the digest, and whether the bytes have it."""
        with contextlib.suppress(queue.Empty):
            while True:
                digest, is_intact = self._results.get_nowait()
                if self.pending.get(digest, True):  # otherwise it was sent again meanwhile
                    self.pending.pop(digest, None)
                    yield digest, is_intact

    def close(self) -> None:
        """End the thread; the remaining chunks are verified after the next start."""
        self._closing = True
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (digests := self._work.get()) is not None:
            for digest in digests:
                if self._closing:
                    return
                try:
                    is_intact = self._chunks.verify(digest)
                except OSError:
                    is_intact = False  # the client sends an unreadable chunk again
                self._results.put((digest, is_intact))
                self._wake()


def _missing_chunk_error() -> JobError:
    return JobError("missing-chunk", "A part of the shot is no longer in the job store.", "Send the shot again.")


def storage_error(error: OSError, folder: Path) -> OutputError:
    """Make the error for a store that cannot be written."""
    where, fix = folder, "Make it a folder that can be written, or start the backend with another store folder."
    if error.errno in _FULL:
        fix = "Free some space there, or start the backend with another store folder."
    elif error.errno == errno.EBUSY:
        fix = "End the program that uses it, such as a backup or a viewer of databases."
    elif error.filename is not None:
        where = error.filename
    reason = error.strerror or error
    return OutputError("store-unwritable", f"The backend cannot write to its job store {where}: {reason}.", fix)
