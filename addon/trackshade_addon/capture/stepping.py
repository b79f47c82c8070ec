# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps to frames of a scene so that unbaked simulations are evaluated as if the scene were played from their start."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import bpy

from .restore import Changes, set_frame, split_frame
from .simulations import simulations

T = TypeVar("T")
Steps = tuple[int, int]  # number of whole frames that were stepped through, and of all to step through


class Stepper:
    """Steps from frame to frame, through every whole frame from the start of simulations if necessary.

    If nothing is simulated, everything is baked, or the requested frames were played already, it jumps. If some frames
    were played, it continues from the last of them. They stay in their caches, and the new ones are added.

    Args:
        scene: the scene.
        view_layer: the view layer whose viewport evaluation is stepped.
        frames: scene frames that will be requested, for `total`.
        changes: restores the scene afterwards. If properties were changed, caches hold frames that are not those of
            the user's scene; showing their start once more empties them.
        on_evaluated: called with the depsgraph after each frame.
    """

    def __init__(
        self,
        scene: bpy.types.Scene,
        view_layer: bpy.types.ViewLayer,
        frames: Sequence[float],
        changes: Changes | None = None,
        on_evaluated: Callable[[bpy.types.Depsgraph], None] | None = None,
    ) -> None:
        self._scene, self._layer = scene, view_layer
        self._changes, self._on_evaluated = changes, on_evaluated
        self._simulations = simulations(scene, view_layer)
        self._keeps_frames = all(item.keeps_frames for item in self._simulations)
        self._reached: int | None = None  # all whole frames up to this one were stepped through
        self._now: int | None = None  # whole frame at which the last step ended
        goals = [self._goal(frame) for frame in frames]
        self._last = max((goal for goal in goals if goal is not None), default=None)
        self.done = 0

    @property
    def total(self) -> int:
        """Number of whole frames to step through; 0 if all frames can be jumped to."""
        if self._last is None or (self._reached is None and self._is_cached(self._last)):
            return 0
        return self._last - self._start + 1

    @property
    def _start(self) -> int:
        return min(item.start for item in self._simulations)

    def to(self, frame: float) -> Iterator[Steps]:
        """Steps to a frame. Yields after each whole frame on the way; at the end the scene is at `frame`."""
        if self._last is not None and self._reached is None and self._is_partly_cached(self._last):
            # Before any sample, which might be the start.
            yield from self._step_through(self._first_frame(self._last), self._last)
        whole, goal = split_frame(frame)[0], self._goal(frame)
        if goal is None or self._can_jump(goal):
            self._set(frame)
            if goal is not None and self._reached is not None:
                self._now = min(whole, goal)
            return
        if self._now is None or whole < self._now:
            yield from self._step_through(self._first_frame(goal), goal)
        else:
            yield from self._step_through(self._now + 1, goal, continues=True)
        if frame != goal:
            self._set(frame)
            self._now = min(whole, goal)

    def _step_through(self, first: int, goal: int, continues: bool = False) -> Iterator[Steps]:
        """Steps through all whole frames from `first` to `goal`. `continues`: the scene is at the frame before."""
        last = goal if self._last is None else max(self._last, goal)
        if self._changes is not None and not continues:
            continued = [item for item in self._simulations if item.cache is not None and item.start < first]
            self._changes.continued.update(item.start for item in continued)
        for number in range(first, goal + 1):
            self._set(number)
            if number == first and not continues:
                self._empty_caches(first, last)
            self._reached = self._now = number
            self.done = number - self._start + 1
            yield self.done, last - self._start + 1

    def _is_partly_cached(self, last: int) -> bool:
        """Whether frames were played that stepping can continue from, unless the start is shown again."""
        return (
            self._keeps_frames
            and not self._is_cached(last)
            and any(item.holds_frames() and item.reach() > item.start for item in self._simulations)
        )

    def _set(self, frame: float) -> None:
        set_frame(self._scene, frame)
        if self._on_evaluated is not None:
            self._on_evaluated(self._layer.depsgraph)

    def _goal(self, frame: float) -> int | None:
        """The last whole frame that must be evaluated for a frame, or None.

        Between two whole frames caches interpolate, so both are needed. What keeps no frames continues from the one
        before.
        """
        if not self._simulations or frame < self._start:
            return None
        whole, subframe = split_frame(frame)
        if subframe and self._keeps_frames:
            whole += 1
        ends = [item.end for item in self._simulations]
        return whole if None in ends else min(whole, max([self._start, *(end for end in ends if end is not None)]))

    def _can_jump(self, goal: int) -> bool:
        """Whether the scene can jump to a frame."""
        if self._reached is None:
            return self._is_cached(goal)
        return self._keeps_frames and goal <= self._reached

    def _is_cached(self, goal: int) -> bool:
        return all(item.reaches(goal) for item in self._simulations)

    def _first_frame(self, goal: int) -> int:
        """The first frame to step through on the way to a goal: the last that all simulations have, or their start."""
        missing = [item for item in self._simulations if not item.reaches(goal)]
        return min(max(item.reach(), item.start) for item in missing) if self._keeps_frames else self._start

    def _empty_caches(self, first: int, last: int) -> None:
        """Empties point caches whose frames up to `last` are invalid, or restart at `first`, where the scene is."""
        restarted = [item for item in self._simulations if item.start >= first and item.owner is not None]
        if self._changes is not None:
            self._changes.starts.update(item.start for item in restarted)
        emptied = [item.owner for item in restarted if item.holds_frames() and not item.reaches(last)]
        for owner in emptied:
            assert owner is not None
            owner.update_tag()
        if emptied:
            self._layer.update()


def finish(steps: Generator[object, None, T]) -> T:
    """Runs a generator to its end without reporting progress, and returns its value."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
