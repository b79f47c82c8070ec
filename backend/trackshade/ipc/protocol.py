# SPDX-License-Identifier: GPL-3.0-or-later
"""Constants of the protocol, and who has to update when two versions meet."""

from __future__ import annotations

from typing import Any, TypeGuard

from trackshade.core.errors import ProtocolError

PROTOCOL = 1
"""Raised whenever a message changes its meaning. `hello` and `error` keep their form in every version."""

MIB = 1 << 20
CHUNK_BYTES = MIB
DIGEST_BYTES = 32

MAX_HEADER_BYTES = 16 * MIB  # a manifest of 100 GB of chunks, or the header of a very large scene
MAX_BUFFER_BYTES = 4 * MIB  # a chunk is 1 MiB and a preview far less
MAX_BUFFERS = 64
MAX_MESSAGE_BYTES = 32 * MIB
TRANSPORT_LIMIT = 256 * MIB  # one frame; libzmq cuts the connection above it, so nobody can fill the memory

# Chunks that one client may have on the way before the backend says that one is stored: enough that neither side waits,
# few enough that a chunk is still in the processor's cache when it is written.
CREDITS = 4

DTYPES = ("|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
MAX_DIMENSIONS = 8


def is_count(value: Any) -> TypeGuard[int]:
    """Whether this is a number from 0 on that fits 63 bits (and not a bool)."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def is_array_type(dtype: Any, shape: Any) -> bool:
    """Whether these describe an array that may be on the wire."""
    return (
        isinstance(dtype, str)
        and dtype in DTYPES
        and isinstance(shape, list | tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(is_count(n) for n in shape)
    )


def check_protocol(client: int, backend: int, *, client_package: str, backend_package: str) -> None:
    """Raise ProtocolError("version-mismatch"), which says which side to update, when the protocols differ."""
    if client == backend:
        return
    side = "the add-on or command that connects" if client < backend else "the backend"
    raise ProtocolError(
        "version-mismatch",
        f"The client is Trackshade {client_package} (protocol {client}), "
        f"the backend is Trackshade {backend_package} (protocol {backend}).",
        f"Update {side}.",
    )
