# SPDX-License-Identifier: GPL-3.0-or-later
"""Damages bytes and plain values at random, the same way for the same generator."""

from __future__ import annotations

import copy
import random
from typing import Any

HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -1.5, float("nan"), float("inf"), "", "x",
    "\0", "..", "ä" * 40, "x" * 5000, b"", b"\xff" * 32, [], {}, [None] * 50, [[[[[]]]]], {"x": {"y": {}}}, [0, 0, 0],
    ["x"], [-1], [2**40, 2**40], "<f8", "|O", "<f4",
)  # fmt: skip


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return a copy with a few changed, lost, repeated or added bytes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        position = rng.randrange(len(changed) + 1)
        kind = rng.randrange(7)
        if kind == 0:
            del changed[position:]
        elif kind == 1:
            del changed[position : position + rng.randrange(1, 64)]
        elif kind == 2:
            changed[position:position] = rng.randbytes(rng.randrange(1, 32))
        elif kind == 3:
            changed[position : position + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
        elif kind == 4:
            other = rng.randrange(len(changed) + 1)
            changed[position : position + 16] = changed[other : other + 16]
        elif position < len(changed):
            changed[position] = rng.randrange(256) if kind == 5 else changed[position] ^ 1 << rng.randrange(8)
    return bytes(changed)


def damaged_value(value: Any, rng: random.Random) -> Any:
    """Return a deep copy of plain values in which one is replaced, removed or repeated, somewhere inside."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return rng.choice(HOSTILE_VALUES)
    holder, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 1:
        holder[rng.choice(("x", "", "v", "é", b"bytes", "id", "dtype"))] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(HOSTILE_VALUES))
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return each list or map inside with each of its indices or keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    found = [(value, key) for key in keys]
    for key in keys:
        found += _places(value[key])
    return found
