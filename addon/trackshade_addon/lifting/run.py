# SPDX-License-Identifier: GPL-3.0-or-later
"""The lifting that is in progress in this Blender: a timer follows it, so that Blender's main thread never waits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import bpy

from trackshade.client.progress import Progress
from trackshade.core.errors import CancelledError, TrackshadeError

TICK = 0.1  # seconds between two looks at the task

Steps = Generator[Progress, None, Any]


class LiftRun:
    """A lifting in progress, or the latest one.

    Args:
        steps: does the work; see `lifting.task.lift`.
        on_change: called when something has changed that panels show.
        is_busy: whether Blender is busy, so that nothing can be done now.

    Attributes:
        progress: how far it is; None at its end.
        error: why it failed; None if it did not.
    """

    def __init__(self, steps: Steps, on_change: Callable[[], None], is_busy: Callable[[], bool]) -> None:
        self.progress: Progress | None = Progress("starting")
        self.error: TrackshadeError | None = None
        self._steps, self._on_change, self._is_busy = steps, on_change, is_busy

    @property
    def factor(self) -> float:
        """The fraction that is done."""
        progress = self.progress
        return (progress.step or 0) / progress.steps if progress is not None and progress.steps else 0.0

    def advance(self) -> bool:
        """Do the next bit of work; return whether there is more to do."""
        if self.progress is None or self._is_busy():
            return self.progress is not None
        try:
            self.progress = next(self._steps)
        except StopIteration:
            self.progress = None
        except TrackshadeError as error:
            self.progress, self.error = None, error
        self._on_change()
        return self.progress is not None

    def cancel(self) -> None:
        """End it."""
        if self.progress is not None:
            self._steps.close()
            self.progress, self.error = None, CancelledError()
            self._on_change()


_run: LiftRun | None = None


def current() -> LiftRun | None:
    """Return the lifting in progress, or the latest one."""
    return _run


def begin(steps: Steps, on_change: Callable[[], None], is_busy: Callable[[], bool] = lambda: False) -> LiftRun:
    """Start a lifting, which a timer follows; one in progress is canceled. Nothing is done while `is_busy()`."""
    global _run
    close()
    _run = LiftRun(steps, on_change, is_busy)
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=0.0, persistent=True)
    return _run


def close() -> None:
    """Cancel the lifting in progress."""
    if _run is not None:
        _run.cancel()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)


def _tick() -> float | None:
    return TICK if _run is not None and _run.advance() else None
