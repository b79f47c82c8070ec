# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures msgpack data without decoding it, since a byte of it can take a hundred bytes of memory once decoded."""

from __future__ import annotations

from trackshade.core.errors import ProtocolError
from trackshade.ipc.protocol import DIGEST_BYTES

_BIN, _STRIDE = 0xC4, DIGEST_BYTES + 2  # a digest is packed as the tag of short bytes, the length and the bytes
# Of the tags from 0xC0 on: bytes of the length that follows, or bytes of the value.
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXTENSIONS = {0xC7, 0xC8, 0xC9}  # a byte for their type follows the length
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # bytes of the length, values for each entry
_VALUES = {
    0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4,
    0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip


def skip_value(data: bytes | memoryview, start: int, max_elements: int) -> int:
    """Return the position after the value that begins at `start`.

    The time that it takes is bounded by `max_elements`, whatever the length of the data.

    Raises:
        ProtocolError: "oversized-message" if the value has more than `max_elements` elements, itself included;
            "malformed-message" if it is cut short or not msgpack.
    """
    position, left, budget = start, 1, max_elements - 1
    try:
        while left:
            tag, position, left = data[position], position + 1, left - 1
            count = 0
            if tag < 0x80 or tag >= 0xE0:
                continue
            if tag < 0x90:
                count = 2 * (tag & 0x0F)
            elif tag < 0xA0:
                count = tag & 0x0F
            elif tag < 0xC0:
                position += tag & 0x1F
            elif tag in _VALUES:
                position += _VALUES[tag]
            elif tag in _LENGTHS:
                width = _LENGTHS[tag]
                length = int.from_bytes(data[position : position + width], "big")
                position += width + length + (tag in _EXTENSIONS)
            elif tag in _CONTAINERS:
                width, values = _CONTAINERS[tag]
                count = values * int.from_bytes(data[position : position + width], "big")
                position += width
            else:
                raise IndexError(tag)
            if count:
                budget -= count
                if budget < 0:
                    raise ProtocolError("oversized-message", f"A message has more than {max_elements} values.")
                digests = _count_digests(data, position, count)
                position += digests * _STRIDE
                left += count - digests
    except IndexError:
        position = len(data) + 1
    if position > len(data):
        raise ProtocolError("malformed-message", "A message has a header that is not msgpack.")
    return position


def find_number(data: bytes | memoryview, key: str, max_elements: int) -> int | None:
    """Return the integer of a key of the map in `data`, or None where there is none or it cannot be read."""
    wanted = key.encode()
    try:
        tag, position = data[0], 1
        if tag & 0xF0 != 0x80:  # a header has at most five keys
            return None
        for _ in range(tag & 0x0F):
            end = skip_value(data, position, max_elements)
            is_wanted = data[position] == 0xA0 | len(wanted) and data[position + 1 : end] == wanted
            position, end = end, skip_value(data, end, max_elements)
            if is_wanted:
                return _integer(data[position], bytes(data[position + 1 : end]))
            position = end
    except (IndexError, ProtocolError):
        pass
    return None


def _count_digests(data: bytes | memoryview, start: int, count: int) -> int:
    """Return `count` if as many digests follow, else 0: a list of digests is the one long list of an honest message."""
    if count < 2 or data[start : start + 2] != bytes((_BIN, DIGEST_BYTES)):
        return 0
    end = start + count * _STRIDE
    tags, lengths = (bytes(data[start + offset : end : _STRIDE]) for offset in (0, 1))
    return count if tags == bytes((_BIN,)) * count and lengths == bytes((DIGEST_BYTES,)) * count else 0


def _integer(tag: int, value: bytes) -> int | None:
    if tag < 0x80:
        return tag
    return int.from_bytes(value, "big") if 0xCC <= tag <= 0xCF else None
