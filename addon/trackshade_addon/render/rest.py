# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders of our own, such as that of a first frame, are not the user's: the hook rests, and no scripts run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bpy

_own = 0


@contextlib.contextmanager
def own_render() -> Iterator[None]:
    """Around a render that Trackshade itself asks for. Scripts on renders do not run: they may write files."""
    global _own
    _own += 1
    try:
        with without_scripts("render_", "composite_"):
            yield
    finally:
        _own -= 1


def is_own_render() -> bool:
    return _own > 0


@contextlib.contextmanager
def without_scripts(*kinds: str) -> Iterator[None]:
    """Has no handlers of these kinds run for a while.

    Args:
        kinds: what the names of their lists in `bpy.app.handlers` begin with.
    """
    names = [name for name in dir(bpy.app.handlers) if name.startswith(kinds)]
    lists = [found for name in names if isinstance(found := getattr(bpy.app.handlers, name), list)]
    kept = [list(found) for found in lists]
    try:
        for found in lists:
            found.clear()
        yield
    finally:
        for found, before in zip(lists, kept, strict=True):
            found[:] = before
