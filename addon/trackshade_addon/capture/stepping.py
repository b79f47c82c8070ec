# SPDX-License-Identifier: GPL-3.0-or-later
"""Goes to frames of a scene so that unbaked simulations are there as if the scene had been played from their start."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import bpy

from .restore import Changes, set_frame, split_frame
from .simulations import simulations

T = TypeVar("T")
Steps = tuple[int, int]  # whole frames that were passed, of how many


class Stepper:
    """Goes from frame to frame; steps through every whole frame from the start of what is simulated where need be.

    Where nothing is simulated, everything is baked, or the frames that are wanted were played already, it jumps; where
    some were played, it goes on from the last of them. They stay in their caches, and those that are passed are added.

    Args:
        scene, view_layer: whose viewport evaluation is stepped.
        frames: scene frames that will be gone to, for `total`.
        changes: puts the scene back afterwards. Where properties were changed, caches then hold frames of a scene that
            is not the user's; they are emptied as their start is passed once more.
        evaluated: called with the evaluation after each frame that was passed or gone to.
    """

    def __init__(
        self,
        scene: bpy.types.Scene,
        view_layer: bpy.types.ViewLayer,
        frames: Sequence[float],
        changes: Changes | None = None,
        evaluated: Callable[[bpy.types.Depsgraph], None] | None = None,
    ) -> None:
        self._scene, self._layer = scene, view_layer
        self._changes, self._evaluated = changes, evaluated
        self._simulations = simulations(scene, view_layer)
        self._keeps = all(item.keeps_frames for item in self._simulations)
        self._reached: int | None = None  # all whole frames up to this one were passed
        self._now: int | None = None  # whole frame in which the scene was left after the last pass
        goals = [self._goal(frame) for frame in frames]
        self._last = max((goal for goal in goals if goal is not None), default=None)
        self.done = 0

    @property
    def total(self) -> int:
        """How many whole frames have to be passed in all; 0 where all frames can be jumped to."""
        if self._last is None or (self._reached is None and self._is_cached(self._last)):
            return 0
        return self._last - self._start + 1

    @property
    def _start(self) -> int:
        return min(item.start for item in self._simulations)

    def to(self, frame: float) -> Iterator[Steps]:
        """Goes to a frame. Yields after each whole frame that is passed; the scene is at `frame` after the last one."""
        if self._last is not None and self._reached is None and self._is_partly_cached(self._last):
            yield from self._pass(self._begin(self._last), self._last)  # before any sample, which might be the start
        whole, goal = split_frame(frame)[0], self._goal(frame)
        if goal is None or self._has(goal):
            self._set(frame)
            if goal is not None and self._reached is not None:
                self._now = min(whole, goal)
            return
        if self._now is None or whole < self._now:
            yield from self._pass(self._begin(goal), goal)
        else:
            yield from self._pass(self._now + 1, goal, goes_on=True)
        if frame != goal:
            self._set(frame)
            self._now = min(whole, goal)

    def _pass(self, first: int, goal: int, goes_on: bool = False) -> Iterator[Steps]:
        """Passes all whole frames from `first` to `goal`; `goes_on` from the frame before."""
        last = goal if self._last is None else max(self._last, goal)
        if self._changes is not None and not goes_on:
            played = [item for item in self._simulations if item.cache is not None and item.start < first]
            self._changes.continued.update(item.start for item in played)
        for number in range(first, goal + 1):
            self._set(number)
            if number == first and not goes_on:
                self._empty_caches(first, last)
            self._reached = self._now = number
            self.done = number - self._start + 1
            yield self.done, last - self._start + 1

    def _is_partly_cached(self, last: int) -> bool:
        """Whether frames were played that can be gone on from for as long as the start is not passed again."""
        return (
            self._keeps
            and not self._is_cached(last)
            and any(item.holds_frames() and item.reach() > item.start for item in self._simulations)
        )

    def _set(self, frame: float) -> None:
        set_frame(self._scene, frame)
        if self._evaluated is not None:
            self._evaluated(self._layer.depsgraph)

    def _goal(self, frame: float) -> int | None:
        """The last whole frame that has to be passed for a frame, or None if none has to.

        Between two whole frames caches show what lies between their states, so both are needed. What does not keep its
        frames goes on from the one before.
        """
        if not self._simulations or frame < self._start:
            return None
        whole, subframe = split_frame(frame)
        if subframe and self._keeps:
            whole += 1
        ends = [item.end for item in self._simulations]
        return whole if None in ends else min(whole, max([self._start, *(end for end in ends if end is not None)]))

    def _has(self, goal: int) -> bool:
        """Whether a jump is right."""
        if self._reached is None:
            return self._is_cached(goal)
        return self._keeps and goal <= self._reached

    def _is_cached(self, goal: int) -> bool:
        return all(item.reaches(goal) for item in self._simulations)

    def _begin(self, goal: int) -> int:
        """The first frame to pass on the way to a goal: the last one that all simulations have, or their start."""
        missing = [item for item in self._simulations if not item.reaches(goal)]
        return min(max(item.reach(), item.start) for item in missing) if self._keeps else self._start

    def _empty_caches(self, first: int, last: int) -> None:
        """Empties point caches whose frames are not valid, or cannot be gone on from as their start is passed.

        Args:
            first: the frame that is passed first, at which the scene is.
            last: the frame up to which it will be stepped.
        """
        anew = [item for item in self._simulations if item.start >= first and item.owner is not None]
        if self._changes is not None:
            self._changes.starts.update(item.start for item in anew)
        emptied = [item.owner for item in anew if item.holds_frames() and not item.reaches(last)]
        for owner in emptied:
            assert owner is not None
            owner.update_tag()
        if emptied:
            self._layer.update()


def finish(steps: Generator[object, None, T]) -> T:
    """Runs a generator to its end, for callers that do not report progress; what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
