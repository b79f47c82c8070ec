# SPDX-License-Identifier: GPL-3.0-or-later
"""Content-addressed arrays: an array's raw bytes in chunks of 1 MiB, each named by its BLAKE2b digest.

A manifest is a shot's header and, for each of its arrays, dtype, shape and chunk digests. Two shots that share
an array, or the first part of one, share those chunks. Small arrays are packed into one array of bytes, so
that a thousand instances do not need thousands of chunks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trackshade.core.errors import ProtocolError
from trackshade.ipc import protocol
from trackshade.ipc.protocol import CHUNK_BYTES, DIGEST_BYTES

SMALL_BYTES = 1 << 16  # arrays below this are packed


def is_small(nbytes: int) -> bool:
    """Return whether an array of this size is packed with others."""
    return 0 < nbytes < SMALL_BYTES


def digest_of(data: bytes | memoryview) -> bytes:
    """Compute BLAKE2b with 32 bytes of output; the interpreter lock is released while a large buffer is hashed."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def chunk_count(nbytes: int) -> int:
    """Return how many chunks an array of this many bytes has."""
    return -(-nbytes // CHUNK_BYTES)


def chunk_size(nbytes: int, index: int) -> int:
    """Return the number of bytes of one chunk: CHUNK_BYTES except for the last."""
    return min(CHUNK_BYTES, nbytes - index * CHUNK_BYTES)


def raw_bytes(array: np.ndarray) -> memoryview:
    """Return the bytes of a C-contiguous little-endian array without a copy. Raise ValueError for other arrays."""
    if not array.flags.c_contiguous or array.dtype.str.startswith(">"):
        raise ValueError(f"an array of dtype {array.dtype.str} must be C-contiguous and little-endian")
    if array.nbytes == 0:
        return memoryview(b"")
    return array.reshape(-1).view(np.uint8).data


@dataclass(frozen=True)
class ArrayEntry:
    """An array in a manifest: numpy dtype string, shape, and the digests of its chunks in order.

    A small array has no chunks of its own.
    """

    dtype: str
    shape: tuple[int, ...]
    chunks: tuple[bytes, ...]

    @property
    def nbytes(self) -> int:
        """Number of bytes of the array."""
        return math.prod(self.shape) * int(self.dtype[2:])

    def chunk_sizes(self) -> Iterator[tuple[bytes, int]]:
        """Yield each chunk's digest and its number of bytes."""
        for index, digest in enumerate(self.chunks):
            yield digest, chunk_size(self.nbytes, index)

    def to_dict(self) -> dict[str, Any]:
        """Return the form that is sent."""
        return {"dtype": self.dtype, "shape": list(self.shape), "chunks": list(self.chunks)}

    @staticmethod
    def from_dict(found: Any) -> ArrayEntry:
        """Read and check that form. Raise ProtocolError("malformed-manifest")."""
        if not isinstance(found, dict) or set(found) != {"dtype", "shape", "chunks"}:
            raise _malformed("an array is not described by dtype, shape and chunks")
        if not protocol.is_array_type(found["dtype"], found["shape"]):
            raise _malformed("an array has a dtype or shape that is not allowed")
        chunks = found["chunks"]
        if not isinstance(chunks, list) or not all(isinstance(c, bytes) and len(c) == DIGEST_BYTES for c in chunks):
            raise _malformed(f"an array has chunks that are not digests of {DIGEST_BYTES} bytes")
        entry = ArrayEntry(found["dtype"], tuple(found["shape"]), tuple(chunks))
        if len(chunks) != chunk_count(entry.nbytes) and (chunks or not is_small(entry.nbytes)):
            raise _malformed(f"an array of {entry.nbytes} bytes has {len(chunks)} chunks")
        return entry


@dataclass(frozen=True)
class Manifest:
    """A shot as it is sent: its header, its arrays, and the two optional images.

    Attributes:
        shot: The shot's header; see `trackshade.shot.encoding`.
        arrays: The shot's arrays.
        packed: uint8 [N]: the bytes of the arrays without chunks, one after the other.
        first_frame: uint8 [H, W, 3] sRGB.
        input_render: uint8 [T, H, W, 3] sRGB.
    """

    shot: Mapping[str, Any]
    arrays: tuple[ArrayEntry, ...]
    packed: ArrayEntry | None = None
    first_frame: ArrayEntry | None = None
    input_render: ArrayEntry | None = None

    def entries(self) -> tuple[ArrayEntry, ...]:
        """Return all arrays with chunks, the images last."""
        extra = (self.packed, self.first_frame, self.input_render)
        return (*(e for e in self.arrays if e.chunks), *(e for e in extra if e is not None))

    def chunk_sizes(self) -> dict[bytes, int]:
        """Return the number of bytes of each chunk by its digest."""
        return {digest: size for entry in self.entries() for digest, size in entry.chunk_sizes()}

    def to_dict(self) -> dict[str, Any]:
        """Return the form that is sent."""
        return {
            "shot": dict(self.shot),
            "arrays": [entry.to_dict() for entry in self.arrays],
            "packed": self.packed.to_dict() if self.packed else None,
            "first_frame": self.first_frame.to_dict() if self.first_frame else None,
            "input_render": self.input_render.to_dict() if self.input_render else None,
        }

    @staticmethod
    def from_dict(found: Any) -> Manifest:
        """Read and check that form. Raise ProtocolError("malformed-manifest")."""
        if not isinstance(found, dict) or set(found) != {"shot", "arrays", *_EXTRA}:
            raise _malformed("it does not consist of shot, arrays, packed, first_frame and input_render")
        if not isinstance(found["shot"], dict) or not isinstance(found["arrays"], list):
            raise _malformed("its shot is not a map or its arrays are not a list")
        arrays = tuple(map(ArrayEntry.from_dict, found["arrays"]))
        extra = {name: _extra(found, name, dimensions) for name, dimensions in _EXTRA.items()}
        packed, small = extra["packed"], sum(entry.nbytes for entry in arrays if not entry.chunks)
        if small != (packed.nbytes if packed else 0):
            raise _malformed("its small arrays do not have the bytes that are packed")
        return Manifest(found["shot"], arrays, **extra)


_EXTRA = {"packed": 1, "first_frame": 3, "input_render": 4}  # name: dimensions


def _extra(found: Mapping[str, Any], name: str, dimensions: int) -> ArrayEntry | None:
    if found[name] is None:
        return None
    entry = ArrayEntry.from_dict(found[name])
    if entry.dtype != "|u1" or len(entry.shape) != dimensions or not entry.chunks:
        raise _malformed(f"its {name} is not 8-bit of {dimensions} dimensions")
    if dimensions > 1 and entry.shape[-1] != 3:
        raise _malformed(f"its {name} is not RGB")
    return entry


def _malformed(what: str) -> ProtocolError:
    return ProtocolError("malformed-manifest", f"The shot's manifest is damaged: {what}.")
