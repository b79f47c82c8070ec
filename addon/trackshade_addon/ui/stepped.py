# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator that goes to frames of the scene. Where a simulation has to be stepped on the way it shows which frame it
is at, and Esc cancels it.
"""

# No postponed annotations here: Blender reads properties of subclasses from them.
import time
from collections.abc import Generator
from typing import Any

import bpy

from trackshade.core.errors import TrackshadeError

from ..capture.stepping import Steps, finish
from ..jobs.composer import stepping_progress
from ..jobs.session import current
from ..messages import texts
from .operators import hold, holds

AT_ONCE = 0.3  # seconds for which Blender waits before the operator goes on by a timer
TICK = 0.05  # seconds of work between two looks at Blender's input


class SteppedOperator:
    """What such operators share. A subclass defines `steps` and `done`."""

    report: Any
    _steps: Generator[Steps, None, Any] | None = None
    _passed: Steps = (0, 1)

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, Any]:
        """The work; leaves the scene as it was at its end and at `close`. Raises TrackshadeError."""
        raise NotImplementedError

    def done(self, context: bpy.types.Context, result: Any) -> set[str]:
        """What follows with the result of `steps`; what the operator returns."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        """All of it at once, for scripts; Blender waits."""
        try:
            return self.done(context, finish(self.steps(context)))
        except TrackshadeError as error:
            self.report({"ERROR"}, texts.told(error))
            return {"CANCELLED"}

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self._steps = self.steps(context)
        ended = self._go_on(context, AT_ONCE)
        if ended is not None:
            return ended
        current().begin_stepping(self._steps)
        hold.take(context)
        hold.show(stepping_progress(self._passed))
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """A few frames at each tick; the scene is not to be touched until all are done, so events end here."""
        held = holds(context, event)
        if held is None:  # Esc was pressed, in this window or another one
            hold.let_go()
            return {"CANCELLED"}
        if event.type != "TIMER":
            return held
        ended = self._go_on(context, TICK)
        if ended is None:
            hold.show(stepping_progress(self._passed))
            return held
        self.cancel(context)
        return ended

    def cancel(self, context: bpy.types.Context) -> None:
        """It is over, or Blender ends the operator, as when its window is closed."""
        current().end_stepping()
        hold.let_go()

    def _go_on(self, context: bpy.types.Context, seconds: float) -> set[str] | None:
        """Works for a while; what the operator returns, or None where there is more to do."""
        assert self._steps is not None
        until = time.monotonic() + seconds
        try:
            while True:
                self._passed = next(self._steps)
                if time.monotonic() > until:
                    return None
        except StopIteration as end:
            return self.done(context, end.value)
        except TrackshadeError as error:
            self.report({"ERROR"}, texts.told(error))
            return {"CANCELLED"}
