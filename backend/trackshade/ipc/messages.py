# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages: a msgpack header `{v, type, id, body, buffers?}` followed by raw buffers.

`buffers` describes each raw buffer by dtype, shape and BLAKE2b digest. Decoding is strict: anything that is not a
valid message raises ProtocolError, and no other exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from trackshade.core.errors import ProtocolError, TrackshadeError
from trackshade.ipc import protocol
from trackshade.ipc.chunks import digest_of
from trackshade.ipc.message_scan import find_number, skip_value
from trackshade.ipc.protocol import DIGEST_BYTES

_SMALL = 1 << 16  # bytes of a header, or values in it, that cost little whatever they are

Buffer = bytes | memoryview


def _require(is_valid: object, code: str, fault: str) -> None:
    """Raise ProtocolError unless the condition holds."""
    if not is_valid:
        raise ProtocolError(code, f"A message {fault}.")


@dataclass(frozen=True)
class BufferEntry:
    """The header's description of a raw buffer: numpy dtype string, shape, BLAKE2b digest of its bytes."""

    dtype: str
    shape: tuple[int, ...]
    digest: bytes

    @property
    def nbytes(self) -> int:
        """Number of bytes of the buffer."""
        return math.prod(self.shape) * int(self.dtype[2:])

    @staticmethod
    def of_bytes(nbytes: int, digest: bytes) -> BufferEntry:
        """Describe a buffer of plain bytes."""
        return BufferEntry("|u1", (nbytes,), digest)


@dataclass(frozen=True)
class Message:
    """One message. The sender of a request chooses `id`, and the answer repeats it."""

    type: str
    id: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[BufferEntry, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    v: int = protocol.PROTOCOL


def with_buffers(kind: str, number: int, body: Mapping[str, Any], *buffers: bytes) -> Message:
    """Make a message with buffers of plain bytes."""
    entries = tuple(BufferEntry.of_bytes(len(data), digest_of(data)) for data in buffers)
    return Message(kind, number, body, entries, buffers)


def error_reply(number: int, error: TrackshadeError) -> Message:
    """Make the error reply to the request with this id."""
    return Message("error", number, error.to_dict())


def encode(message: Message) -> list[Buffer]:
    """Return the frames of a message; buffers are passed on without a copy."""
    header: dict[str, Any] = {"v": message.v, "type": message.type, "id": message.id, "body": message.body}
    if message.entries:
        header["buffers"] = [{"dtype": e.dtype, "shape": e.shape, "digest": e.digest} for e in message.entries]
    return [pack(header), *message.buffers]


def pack(value: Mapping[str, Any]) -> bytes:
    """Encode a map as msgpack."""
    packed = msgpack.packb(value, use_bin_type=True)
    assert packed is not None  # only a stream of its own returns None
    return packed


def decode(frames: Sequence[Buffer]) -> Message:
    """Decode frames, the header first. Raise ProtocolError if they are not a valid message.

    `hello` and `error` are decoded in every protocol version; `v` is the sender's.
    """
    header = _header(frames)
    version, kind, number = header["v"], header["type"], header["id"]
    is_understood = version == protocol.PROTOCOL or kind in ("hello", "error")
    _require(is_understood, "version-mismatch", f"has protocol version {version}, not {protocol.PROTOCOL}")
    entries = _entries(header.get("buffers", []))
    buffers = tuple(frames[1:])
    fault = f"describes {len(entries)} buffers and has {len(buffers)}"
    _require(len(entries) == len(buffers), "malformed-message", fault)
    for position, (entry, buffer) in enumerate(zip(entries, buffers, strict=True)):
        fault = f"says that buffer {position} has {entry.nbytes} bytes, but it has {len(buffer)}"
        _require(entry.nbytes == len(buffer), "malformed-message", fault)
    return Message(kind, number, header["body"], entries, buffers, version)


def request_id(frames: Sequence[Buffer]) -> int:
    """Return the id for an error reply to invalid frames, read without decoding them: 0 if none can be read."""
    number = find_number(frames[0], "id", _SMALL) if frames else None
    return number if protocol.is_count(number) else 0


def _header(frames: Sequence[Buffer]) -> dict[str, Any]:
    _require(frames, "malformed-message", "is empty")
    header_size, *sizes = map(len, frames)
    most, large = protocol.MAX_BUFFERS, protocol.MAX_BUFFER_BYTES
    _require(len(sizes) <= most, "oversized-message", f"has more than {most} buffers")
    _require(header_size <= protocol.MAX_HEADER_BYTES, "oversized-message", f"has a header of {header_size} bytes")
    _require(max(sizes, default=0) <= large, "oversized-message", f"has a buffer of more than {large} bytes")
    is_short = header_size + sum(sizes) <= protocol.MAX_MESSAGE_BYTES
    _require(is_short, "oversized-message", f"has more than {protocol.MAX_MESSAGE_BYTES} bytes")
    if header_size > _SMALL:
        skip_value(frames[0], 0, protocol.MAX_VALUES)
    try:
        header = msgpack.unpackb(frames[0], raw=False, strict_map_key=True)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        raise ProtocolError("malformed-message", "A message has a header that is not msgpack.") from error
    has_all = isinstance(header, dict) and set(header) >= {"v", "type", "id", "body"}
    _require(has_all, "malformed-message", "has a header without v, type, id and body")
    _require(protocol.is_count(header["id"]), "malformed-message", "has an id that is not a number from 0 on")
    is_typed = isinstance(header["v"], int) and isinstance(header["type"], str) and len(header["type"]) <= 64
    _require(is_typed, "malformed-message", "has a version or type of the wrong kind")
    _require(isinstance(header["body"], dict), "malformed-message", "has a body that is not a map")
    unknown = sorted(str(key) for key in set(header) - {"v", "type", "id", "body", "buffers"})
    if unknown and header["v"] == protocol.PROTOCOL:
        raise ProtocolError("malformed-message", f"A message has an unknown header entry {unknown[0][:64]!r}.")
    return header


def _entries(found: Any) -> tuple[BufferEntry, ...]:
    is_short = isinstance(found, list) and len(found) <= protocol.MAX_BUFFERS
    _require(is_short, "malformed-message", "has buffers that are not a short list")
    entries = []
    for item in found:
        is_described = isinstance(item, dict) and set(item) == {"dtype", "shape", "digest"}
        _require(is_described, "malformed-message", "has a buffer not described by dtype, shape, digest")
        dtype, shape, digest = item["dtype"], item["shape"], item["digest"]
        is_allowed = protocol.is_array_type(dtype, shape)
        _require(is_allowed, "malformed-message", "has a buffer of a dtype or shape that is not allowed")
        is_digest = isinstance(digest, bytes) and len(digest) == DIGEST_BYTES
        _require(is_digest, "malformed-message", f"has a digest that is not {DIGEST_BYTES} bytes")
        entries.append(BufferEntry(dtype, tuple(shape), digest))
    return tuple(entries)
