# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a job is, in one form for the panel, the render engine, the commands and scripts."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One step of a job.

    Attributes:
        state: "planning", "capturing", "stepping" (a simulation), "rendering", "starting" (the backend), "sending",
            then the backend's own states ("queued", "loading", "running", "decoding"), "fetching", "baking", "placing".
        message: A detail in words, or "".
        step: How many of `steps` are done; None where the state has no steps.
        steps: Number of steps of this state, or None.
        waits: The caller has nothing to do for now and may sleep.
        preview: Bytes of a small PNG or JPEG preview image, or None.
    """

    state: str
    message: str = ""
    step: int | None = None
    steps: int | None = None
    waits: bool = False
    preview: bytes | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a progress message on standard output."""
        return {"state": self.state, "message": self.message, "step": self.step, "steps": self.steps}

    def __str__(self) -> str:
        if self.state == "stepping":
            return f"stepping the simulation, frame {self.step} of {self.steps}"
        parts = [self.state]
        if self.step is not None and self.steps is not None:
            parts.append(f"{self.step} of {self.steps}")
        return ", ".join([*parts, self.message] if self.message else parts)


class TimeLeft:
    """Estimates the remaining time of a job from the steps that it has done."""

    def __init__(self) -> None:
        self._state = ""
        self._steps = 0
        self._first: tuple[int, float] | None = None  # step, and the time at which it was done
        self._latest: tuple[int, float] = (0, 0.0)

    def update(self, progress: Progress, now: float) -> None:
        """Record that the progress was reached at `now` (seconds). A state without steps ends the estimate."""
        step, steps = progress.step, progress.steps
        if step is None or steps is None:
            self._first = None
            return
        same = self._first is not None and (progress.state, steps) == (self._state, self._steps)
        if not same or step < self._latest[0]:
            self._state, self._steps, self._first, self._latest = progress.state, steps, (step, now), (step, now)
        elif step > self._latest[0]:
            self._latest = step, now

    def seconds(self, now: float) -> float | None:
        """Return the seconds until all steps are done, or None before two steps have been seen."""
        if self._first is None or self._latest[0] <= self._first[0]:
            return None
        done, when = self._latest
        seconds_per_step = (when - self._first[1]) / (done - self._first[0])
        return max(0.0, seconds_per_step * (self._steps - done) - (now - when))


def wait_for(future: Future[T], state: str, message: str | Callable[[], str] = "") -> Generator[Progress, None, T]:
    """Yield progress until a future is done, and return its result; `message` may be a function that returns it."""
    while not future.done():
        yield Progress(state, message if isinstance(message, str) else message(), waits=True)
    return future.result()
