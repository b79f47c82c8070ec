# SPDX-License-Identifier: GPL-3.0-or-later
"""Constants of the protocol, the check of its version, and strict reading of the fields of a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

from trackshade.core.errors import ProtocolError
from trackshade.core.file_names import is_path_part, is_reserved

T = TypeVar("T")

PROTOCOL = 1
"""Increased whenever a message changes its meaning. `hello` and `error` keep their form in every version."""

MIB = 1 << 20
CHUNK_BYTES = MIB
DIGEST_BYTES = 32

MAX_HEADER_BYTES = 16 * MIB  # a manifest of 100 GB of chunks, or the header of a very large scene
MAX_BUFFER_BYTES = 4 * MIB  # a chunk is 1 MiB and a preview far less
MAX_BUFFERS = 64
MAX_MESSAGE_BYTES = 32 * MIB
MAX_VALUES = 1_000_000  # msgpack values in a header: a decoded one takes up to a hundred bytes
MAX_HELLO_BYTES = 4096  # header of a sender that has not said the token yet
MAX_LOOKUPS = 1024  # digests of one `have` that are looked up; further ones count as missing
TRANSPORT_LIMIT = MAX_MESSAGE_BYTES  # one frame; libzmq closes the connection above it

# Chunks that a client may send before the backend confirms that one is stored: enough that neither side waits, few
# enough that a chunk is still in the processor's cache when it is written.
CREDITS = 4

DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
MAX_DIMENSIONS = 8

# States of a job.
QUEUED, LOADING, RUNNING, DECODING = "queued", "loading", "running", "decoding"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
ACTIVE_STATES = (LOADING, RUNNING, DECODING)  # a worker has it
FINAL_STATES = (DONE, FAILED, CANCELLED)

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def check_protocol(client: int, backend: int, *, client_package: str, backend_package: str) -> None:
    """Raise ProtocolError("version-mismatch"), with the side to update, unless both have the same version."""
    if client == backend:
        return
    side = "the add-on or command that connects" if client < backend else "the backend"
    raise ProtocolError(
        "version-mismatch",
        f"The client is Trackshade {client_package} (protocol {client}), "
        f"the backend is Trackshade {backend_package} (protocol {backend}).",
        f"Update {side}.",
    )


def is_count(value: Any) -> TypeGuard[int]:
    """Return whether the value is an integer (not a bool) from 0 that fits 63 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_array_type(dtype: Any, shape: Any) -> bool:
    """Return whether the values are the numpy dtype string and shape of an array that may be sent."""
    return (
        isinstance(dtype, str)
        and dtype in DTYPES
        and isinstance(shape, list | tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(is_count(n) for n in shape)
    )


def is_list_of_digests(value: Any) -> bool:
    """Return whether the value is a list of chunk digests."""
    return isinstance(value, list) and all(isinstance(v, bytes) and len(v) == DIGEST_BYTES for v in value)


def is_job_id(value: str) -> bool:
    """Return whether the value may be a job id and the name of a folder: at most 64 letters, digits, `-` and `_`."""
    return _JOB_ID.fullmatch(value) is not None and not is_reserved(value)


def is_file_name(value: str) -> bool:
    """Return whether the value is a plain relative path such as `frames/0001.png` on every system."""
    parts = value.split("/")
    return len(parts) <= 4 and all(map(is_path_part, parts))


# The functions below return a field of a message's body and raise ProtocolError("malformed-message") if it is missing
# or has the wrong type, so that no handler meets a value of the wrong kind.


def require(body: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return the field `name`, which must have the type `kind`."""
    value = body.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProtocolError("malformed-message", f"A message lacks {name!r}, or it is not of type {kind.__name__}.")
    return value


def require_count(body: Mapping[str, Any], name: str) -> int:
    """Return an integer from 0 that fits 63 bits."""
    value = require(body, name, int)
    if not is_count(value):
        raise ProtocolError("malformed-message", f"A message's {name!r} is out of range.")
    return value


def require_job_id(body: Mapping[str, Any], name: str = "job") -> str:
    """Return a job id; see `is_job_id`."""
    value = require(body, name, str)
    if not is_job_id(value):
        raise ProtocolError("malformed-message", f"{value[:80]!r} is not a job id.", "Take one from the list of jobs.")
    return value


def require_digests(body: Mapping[str, Any], name: str = "digests") -> list[bytes]:
    """Return a list of chunk digests."""
    values = require(body, name, list)
    if not is_list_of_digests(values):
        raise ProtocolError("malformed-message", f"A message's {name!r} are not digests of {DIGEST_BYTES} bytes.")
    return values


def require_file_name(body: Mapping[str, Any], name: str = "name") -> str:
    """Return a result file's name. Raise ProtocolError("unsafe-name") for one that could leave the folder."""
    value = require(body, name, str)
    if not is_file_name(value):
        raise ProtocolError("unsafe-name", f"{value[:100]!r} is not the name of a result file.")
    return value
