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
from dataclasses import dataclass, field
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
        for digest, start in zip(self.chunks, range(0, self.nbytes, CHUNK_BYTES), strict=False):
            yield digest, min(CHUNK_BYTES, self.nbytes - start)

    def to_dict(self) -> dict[str, Any]:
        """Return the form that is sent."""
        return {"dtype": self.dtype, "shape": list(self.shape), "chunks": list(self.chunks)}

    @staticmethod
    def from_dict(found: Any) -> ArrayEntry:
        """Read and check that form. Raise ProtocolError("malformed-manifest")."""
        is_described = isinstance(found, dict) and set(found) == {"dtype", "shape", "chunks"}
        _require(is_described, "an array is not described by dtype, shape and chunks")
        is_allowed = protocol.is_array_type(found["dtype"], found["shape"])
        _require(is_allowed, "an array has a dtype or shape that is not allowed")
        is_list = protocol.is_list_of_digests(chunks := found["chunks"])
        _require(is_list, f"an array has chunks that are not digests of {DIGEST_BYTES} bytes")
        entry = ArrayEntry(found["dtype"], tuple(found["shape"]), tuple(chunks))
        is_complete = len(chunks) == chunk_count(entry.nbytes) or (not chunks and is_small(entry.nbytes))
        _require(is_complete, f"an array of {entry.nbytes} bytes has {len(chunks)} chunks")
        return entry


# Type and dimensions of the optional arrays of a manifest.
_OPTIONAL = {"packed": ("|u1", 1), "first_frame": ("|u1", 3), "input_render": ("|u1", 4)}
# Those that earlier versions do not know: a manifest that has none is sent without the names.
_ADDED = {"light": ("<f2", 4), "hands": ("|u1", 4), "keys": ("|u1", 3), "references": ("|u1", 3)}


@dataclass(frozen=True)
class Manifest:
    """A shot as it is sent: its header, its arrays, and the optional images."""

    shot: Mapping[str, Any]  # the shot's header; see `trackshade.shot.encoding`
    arrays: tuple[ArrayEntry, ...]  # the shot's arrays
    packed: ArrayEntry | None = None  # uint8 [N]: the concatenated bytes of the arrays without chunks
    first_frame: ArrayEntry | None = None  # uint8 [H, W, 3] sRGB
    input_render: ArrayEntry | None = None  # uint8 [T, H, W, 3] sRGB
    # Clay renders of all samples, float16 [T, h, w, 3] scene-linear, and further pictures by the sample that they show,
    # each uint8 [h, w, 3] sRGB; of any size of the shot's aspect.
    light: ArrayEntry | None = None
    hands: ArrayEntry | None = None  # crops of hands, uint8 [T, 2h, h, 3] sRGB: the left one above the right one
    keys: Mapping[int, ArrayEntry] = field(default_factory=dict)
    references: tuple[ArrayEntry, ...] = ()  # pictures of what is to be seen, uint8 [h, w, 3] sRGB of any size

    def entries(self) -> tuple[ArrayEntry, ...]:
        """Return all arrays with chunks: those of the shot, then the packed one and the images."""
        pictures = (*self.keys.values(), *self.references)
        optional = (self.packed, self.first_frame, self.input_render, self.light, self.hands, *pictures)
        return (*(e for e in self.arrays if e.chunks), *(e for e in optional if e is not None))

    def chunk_sizes(self) -> dict[bytes, int]:
        """Return the number of bytes of each chunk by its digest."""
        return {digest: size for entry in self.entries() for digest, size in entry.chunk_sizes()}

    def to_dict(self) -> dict[str, Any]:
        """Return the form that is sent."""
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        keys = [[sample, entry.to_dict()] for sample, entry in sorted(self.keys.items())]
        return {
            "shot": dict(self.shot),
            "arrays": [entry.to_dict() for entry in self.arrays],
            **{name: entry.to_dict() if entry else None for name, entry in optional.items()},
            **({"light": self.light.to_dict()} if self.light else {}),
            **({"hands": self.hands.to_dict()} if self.hands else {}),
            **({"keys": keys} if keys else {}),
            **({"references": [entry.to_dict() for entry in self.references]} if self.references else {}),
        }

    @staticmethod
    def from_dict(found: Any) -> Manifest:
        """Read and check that form. Raise ProtocolError("malformed-manifest")."""
        has_all = isinstance(found, dict) and set(found) - {*_ADDED} == {"shot", "arrays", *_OPTIONAL}
        _require(has_all, "it does not consist of shot, arrays, packed, first_frame and input_render")
        is_typed = isinstance(found["shot"], dict) and isinstance(found["arrays"], list)
        _require(is_typed, "its shot is not a map or its arrays are not a list")
        arrays = tuple(map(ArrayEntry.from_dict, found["arrays"]))
        optional = {name: _optional_array(found.get(name), name) for name in (*_OPTIONAL, "light", "hands")}
        packed, small = optional["packed"], sum(entry.nbytes for entry in arrays if not entry.chunks)
        _require(small == (packed.nbytes if packed else 0), "its packed array has not the size of its small arrays")
        return Manifest(
            found["shot"],
            arrays,
            **optional,
            keys=_keys(found.get("keys", [])),
            references=_references(found.get("references", [])),
        )


def _keys(found: Any) -> dict[int, ArrayEntry]:
    is_list = isinstance(found, list) and all(isinstance(item, list) and len(item) == 2 for item in found)
    _require(is_list and all(protocol.is_count(item[0]) for item in found), "its keys are not pictures by sample")
    entries = {sample: _optional_array(entry, "keys") for sample, entry in found}
    _require(len(entries) == len(found) and all(entries.values()), "two of its keys show one sample, or one is empty")
    return {sample: entry for sample, entry in entries.items() if entry is not None}


def _references(found: Any) -> tuple[ArrayEntry, ...]:
    _require(isinstance(found, list), "its references are not a list")
    entries = [_optional_array(entry, "references") for entry in found]
    _require(all(entries), "one of its references is empty")
    return tuple(entry for entry in entries if entry is not None)


def _optional_array(found: Any, name: str) -> ArrayEntry | None:
    if found is None:
        return None
    entry, (dtype, dimensions) = ArrayEntry.from_dict(found), (_OPTIONAL | _ADDED)[name]
    is_typed = entry.dtype == dtype and len(entry.shape) == dimensions and entry.chunks
    _require(is_typed, f"its {name} is not {dtype} of {dimensions} dimensions")
    _require(dimensions == 1 or entry.shape[-1] == 3, f"its {name} is not RGB")
    return entry


def _require(is_valid: object, damage: str) -> None:
    """Raise ProtocolError("malformed-manifest") unless the condition holds."""
    if not is_valid:
        raise ProtocolError("malformed-manifest", f"The shot's manifest is damaged: {damage}.")
