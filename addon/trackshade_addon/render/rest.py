# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders of our own, such as that of a first frame, are no exports: the hook rests meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_own = 0


@contextlib.contextmanager
def own_render() -> Iterator[None]:
    """Around a render that Trackshade itself asks for."""
    global _own
    _own += 1
    try:
        yield
    finally:
        _own -= 1


def is_own_render() -> bool:
    return _own > 0
