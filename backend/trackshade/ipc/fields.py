# SPDX-License-Identifier: GPL-3.0-or-later
"""Strict reading of a message's body, so that no handler meets a value of the wrong kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from trackshade.core.errors import ProtocolError
from trackshade.ipc.protocol import DIGEST_BYTES

T = TypeVar("T")

_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices on Windows


def take(body: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """The entry `name`, which must be of this kind. Raises ProtocolError("malformed-message")."""
    value = body.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProtocolError("malformed-message", f"A message lacks {name!r}, or it is not of type {kind.__name__}.")
    return value


def take_count(body: Mapping[str, Any], name: str) -> int:
    """A number from 0 on that fits 63 bits."""
    value = take(body, name, int)
    if not 0 <= value < 1 << 63:
        raise ProtocolError("malformed-message", f"A message's {name!r} is out of range.")
    return value


def take_job(body: Mapping[str, Any], name: str = "job") -> str:
    """A job id: letters, digits, `-` and `_`, at most 64, so that it can also name a folder."""
    value = take(body, name, str)
    if not is_job_id(value):
        raise ProtocolError("malformed-message", f"A message's {name!r} is not a job id.")
    return value


def is_job_id(value: str) -> bool:
    """Whether this may be a job's id. Names of devices are not, because an id also names a folder."""
    return _JOB.fullmatch(value) is not None and _RESERVED.fullmatch(value) is None


def take_digests(body: Mapping[str, Any], name: str = "digests") -> list[bytes]:
    """A list of chunk digests."""
    values = take(body, name, list)
    if not all(isinstance(v, bytes) and len(v) == DIGEST_BYTES for v in values):
        raise ProtocolError("malformed-message", f"A message's {name!r} are not digests of {DIGEST_BYTES} bytes.")
    return values


def take_file_name(body: Mapping[str, Any], name: str = "name") -> str:
    """A result file's name. Raises ProtocolError("unsafe-name") for whatever could leave the folder."""
    value = take(body, name, str)
    if not is_file_name(value):
        raise ProtocolError("unsafe-name", f"{value[:100]!r} is not the name of a result file.")
    return value


def is_file_name(value: str) -> bool:
    """Whether this is a plain relative name such as `frames/0001.png` on every system."""
    parts = value.split("/")
    return len(parts) <= 4 and all(
        _PART.fullmatch(part) is not None and _RESERVED.fullmatch(part) is None and not part.endswith(".")
        for part in parts
    )
