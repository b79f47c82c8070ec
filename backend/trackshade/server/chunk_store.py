# SPDX-License-Identifier: GPL-3.0-or-later
"""Chunks as files named by their digest.

A chunk is written to a temporary file, renamed to `DIGEST.new`, and once its digest has been verified to `DIGEST`.
Only verified chunks are ever read by a job. The files are the only truth: nothing has to be kept in step with them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from trackshade.core.errors import JobError, OutputError
from trackshade.ipc import ArrayEntry, Manifest, digest_of


class ChunkStore:
    """The folder of chunks of a job store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = os.path.join(folder, "")
        for first in range(256):
            (folder / f"{first:02x}").mkdir(parents=True, exist_ok=True)

    def path(self, digest: bytes) -> Path:
        """Where a verified chunk lies."""
        return Path(self._name(digest))

    def _name(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self._prefix}{name[:2]}/{name}"

    def size(self, digest: bytes) -> int | None:
        """The bytes of a stored chunk, verified or not; None where there is none."""
        path = self._name(digest)
        for candidate in (path + ".new", path):  # in this order, as the verifier may be renaming it
            try:
                return os.stat(candidate).st_size
            except FileNotFoundError:
                continue
        return None

    def missing(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those that are not stored. The others' age starts again, so that cleaning leaves them."""
        absent = []
        for digest in digests:
            path = self._name(digest)
            if os.path.exists(path + ".new"):  # looked for first, as the verifier may be renaming it
                continue
            try:
                os.utime(path)
            except FileNotFoundError:
                absent.append(digest)
        return absent

    def write(self, digest: bytes, data: bytes | memoryview) -> None:
        """Store a chunk that still has to be verified. Raises OutputError; leaves nothing half-written."""
        path = self._name(digest)
        temporary = f"{path}.tmp"
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
            try:
                _write_all(file, data)
            finally:
                os.close(file)
            os.replace(temporary, path + ".new")
        except OSError as error:
            _unlink(temporary)
            raise storage_error(error, self.folder) from error

    def verify(self, digest: bytes) -> bool:
        """Give a new chunk its final name if its bytes have that digest, else delete it; whether it is stored."""
        path = self._name(digest)
        try:
            with open(path + ".new", "rb", buffering=0) as file:
                intact = digest_of(file.read()) == digest
            if intact:
                os.replace(path + ".new", path)
            else:
                os.unlink(path + ".new")
        except FileNotFoundError:  # sent twice, and verified the first time
            intact = False
        return intact or os.path.exists(path)

    def unverified(self) -> Iterator[bytes]:
        """The new chunks, after a restart; what was being written then is deleted."""
        for path in self.folder.glob("??/*.*"):
            if path.suffix == ".new" and len(path.stem) == 64:
                yield bytes.fromhex(path.stem)
            else:
                _unlink(os.fspath(path))

    def clean(self, older_than: float, needed: Collection[bytes]) -> int:
        """Delete chunks not asked for since `older_than` seconds ago and not needed; how many."""
        limit, count = time.time() - older_than, 0
        names = {digest.hex() for digest in needed}
        for path in self.folder.glob("??/*"):
            try:
                if path.stem not in names and path.stat().st_mtime < limit:
                    path.unlink()
                    count += 1
            except FileNotFoundError:
                continue  # renamed by the verifier
        return count

    def arrays(self, manifest: Manifest) -> list[np.ndarray]:
        """A manifest's arrays, read-only. Raises JobError("missing-chunk") where a chunk is gone."""
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
        """One array, read-only: mapped where it is one chunk, else read chunk by chunk.

        Raises JobError("missing-chunk") where a chunk is gone.
        """
        try:
            if len(entry.chunks) == 1:
                return np.memmap(self.path(entry.chunks[0]), entry.dtype, "r", shape=entry.shape)
            whole = np.empty(entry.shape, entry.dtype)
            rest = whole.reshape(-1).view(np.uint8).data
            for digest, size in entry.sizes():
                with open(self.path(digest), "rb", buffering=0) as file:
                    if file.readinto(rest[:size]) != size:
                        raise ValueError(digest.hex())
                rest = rest[size:]
        except (FileNotFoundError, ValueError) as error:
            raise JobError(
                "missing-chunk", "A part of the shot is no longer in the job store.", "Send the shot again."
            ) from error
        whole.flags.writeable = False
        return whole


def storage_error(error: OSError, folder: Path) -> OutputError:
    """The sentence for a store that cannot be written."""
    reason = error.strerror or str(error)
    return OutputError(
        "store-unwritable",
        f"The backend cannot write to its job store {folder}: {reason}.",
        "Free some space there, or start the backend with another store folder.",
    )


def _write_all(file: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
