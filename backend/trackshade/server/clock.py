# SPDX-License-Identifier: GPL-3.0-or-later
"""The time by which a backend tells how old a file is, whatever the computer's clock is set to meanwhile."""

from __future__ import annotations

import time


def age_time() -> float:
    """Return the time to subtract a time stamp from, seconds since 1970.

    A clock that is set forward, as after a start without the right time, makes nothing old, and neither does one that
    is set back: this is the clock's time, but at most that of the process's start and what has passed since.
    """
    return min(time.time(), _START + _passed())


def _passed() -> float:
    """Return seconds of a clock that nobody sets; on Linux, it goes on while the computer sleeps."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


_START = time.time() - _passed()
