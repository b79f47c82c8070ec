# SPDX-License-Identifier: GPL-3.0-or-later
"""Files with several animations: which there are, and which one plays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trackshade.core.errors import UsageError

_NAMES = 20  # that a sentence lists


def check_animation(file: Path, wanted: str, names: Sequence[str]) -> None:
    """Raises UsageError that lists the animations of a file, where the wanted one is not among them."""
    if wanted not in names:
        known = f"It has: {listed(names)}." if names else "It has none."
        raise UsageError("unknown-animation", f"{file.name} has no animation '{wanted}'.", known)


def several_animations(file: Path, names: Sequence[str], playing: str) -> tuple[str, ...]:
    """A sentence about the animations of a file and the one that plays, where there are several."""
    if len(names) < 2:
        return ()
    said = f"{file.name} has {len(names)} animations: {listed(names)}."
    return (f"{said} '{playing}' plays; --animation NAME chooses another.",)


def listed(names: Sequence[str]) -> str:
    """Names in quotes, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:_NAMES])
    more = len(names) - _NAMES
    return f"{shown} and {more} more" if more > 0 else shown
