# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol between a client and the backend: messages, chunks, endpoints, connection files and locks.

It imports numpy, pyzmq, msgpack and the standard library only, so that it can be used inside Blender.
"""

from trackshade.ipc.chunks import ArrayEntry, Manifest, chunk_count, digest_of
from trackshade.ipc.messages import BufferEntry, Message, decode, encode
from trackshade.ipc.protocol import CHUNK_BYTES, DIGEST_BYTES, PROTOCOL

__all__ = [
    "CHUNK_BYTES",
    "DIGEST_BYTES",
    "PROTOCOL",
    "ArrayEntry",
    "BufferEntry",
    "Manifest",
    "Message",
    "chunk_count",
    "decode",
    "digest_of",
    "encode",
]
