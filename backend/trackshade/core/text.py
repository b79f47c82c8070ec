# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterable


def format_size(count: int | None) -> str:
    """Format a number of bytes in binary units, which graphics cards are sold by; "?" for None."""
    if count is None:
        return "?"
    if 0 < count < 2**20:
        return f"{-(-count // 2**10)} KB"
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def format_count(count: int) -> str:
    """Format a count with its thousands apart."""
    return f"{count:,}".replace(",", "\u202f")


def join_and(items: Iterable[object]) -> str:
    """Join what belongs together: "4, 9 and 12"."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def join_or(items: Iterable[object]) -> str:
    """Join alternatives: "17 or 49"."""
    return " or ".join(map(str, items))
