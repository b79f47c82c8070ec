# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol between a client and the backend: messages, chunks, endpoints, the connection file.

Light ring: imports numpy, pyzmq, msgpack and the standard library only. README.md describes the protocol.
"""

from trackshade.ipc.chunks import CHUNK_BYTES, DIGEST_BYTES, ArrayEntry, Manifest, chunk_count, digest_of
from trackshade.ipc.messages import Message, decode, encode, error_body, raise_error
from trackshade.ipc.protocol import PROTOCOL

__all__ = [
    "CHUNK_BYTES",
    "DIGEST_BYTES",
    "PROTOCOL",
    "ArrayEntry",
    "Manifest",
    "Message",
    "chunk_count",
    "decode",
    "digest_of",
    "encode",
    "error_body",
    "raise_error",
]
