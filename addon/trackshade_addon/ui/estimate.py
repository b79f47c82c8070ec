# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a job still takes, from the steps that it has done. Pure."""

from __future__ import annotations


class TimeLeft:
    """Told of each step, says how many seconds are left."""

    def __init__(self) -> None:
        self._what = ""
        self._first: tuple[int, float] | None = None  # step, and when it was done
        self._latest: tuple[int, float] = (0, 0.0)
        self._steps = 0

    def note(self, what: str, step: int | None, steps: int | None, now: float) -> None:
        """`step` of `steps` of one kind of work (`what`) are done at `now` (seconds). None: nothing can be said."""
        if step is None or steps is None:
            self._first = None
            return
        new = self._first is None or what != self._what or steps != self._steps or step < self._latest[0]
        if new:
            self._what, self._steps, self._first, self._latest = what, steps, (step, now), (step, now)
        elif step > self._latest[0]:
            self._latest = step, now

    def seconds(self, now: float) -> float | None:
        """Seconds until all steps are done; None before there is anything to judge by."""
        if self._first is None or self._latest[0] <= self._first[0]:
            return None
        done, when = self._latest
        each = (when - self._first[1]) / (done - self._first[0])
        return max(0.0, each * (self._steps - done) - (now - when))
