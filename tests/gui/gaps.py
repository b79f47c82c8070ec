# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures how long Blender's main thread does not come back to its event loop, and what it does meanwhile.

A timer of Blender notes when it is called; a thread looks at the main thread's Python stack 50 times a second. A gap is
the time between two calls of the timer. Processor time, and time for which the main thread could have run but other
threads and processes had the processors, are told apart: the rest is waiting, for files or locks.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import bpy

INTERVAL = 0.01  # seconds between two calls of the timer
SAMPLING = 0.02  # seconds between two looks at the stack
NOTED = 0.1  # gaps from here on are kept, seconds
OURS = "*"  # marks functions of the add-on and its package
_DEPTH = 6  # functions of a stack that are shown, from the innermost


@dataclass
class Gap:
    """A time in which the main thread did not come back to Blender's event loop; all times in seconds."""

    at: float  # since the measurement began
    wall: float
    cpu: float  # processor time of the main thread
    starved: float  # time for which it could have run, but had no processor
    phase: str
    stacks: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def held(self) -> float:
        """Time in which functions of the add-on ran or waited, without what other processes took."""
        seen = sum(self.stacks.values())
        ours = sum(count for stack, count in self.stacks.items() if OURS in stack)
        return (self.wall - self.starved) * ours / max(1, seen)

    def __str__(self) -> str:
        times = f"{self.wall:6.2f} s, processor {self.cpu:5.2f} s, starved {self.starved:5.2f} s"
        waits = max(0.0, self.wall - self.cpu - self.starved)
        what = "; ".join(f"{stack} ({count})" for stack, count in self.stacks.most_common(3))
        return f"{times}, waiting {waits:5.2f} s, at {self.at:6.1f} s, {self.phase}: {what or 'not seen'}"


class GapWatch:
    """Measures gaps from its creation on. `phase` is what the driver does, and is noted with each gap."""

    def __init__(self) -> None:
        self.phase = "start"
        self.gaps: list[Gap] = []
        self.calls = 0
        self._main = threading.get_ident()
        self._schedule = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._stacks: collections.Counter[str] = collections.Counter()
        self._began = self._last = time.perf_counter()
        self._cpu, self._starved = time.thread_time(), self._wait_for_processor()
        self._ended = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()
        self._timer = self._tick  # one object, by which it is unregistered
        bpy.app.timers.register(self._timer, persistent=True)

    def report(self, limit: float = 1.0, count: int = 12) -> list[Gap]:
        """End the measurement, print the longest gaps, and return those in which the add-on held Blender too long.

        Args:
            limit: longest time that the add-on may take of a gap, seconds.
            count: number of gaps that are printed for each phase.
        """
        self._ended.set()
        bpy.app.timers.unregister(self._timer)
        print(f"{self.calls} calls of the timer in {self._last - self._began:.0f} s; gaps by phase:")
        for phase in dict.fromkeys(gap.phase for gap in self.gaps):
            found = sorted((gap for gap in self.gaps if gap.phase == phase), key=lambda gap: -gap.wall)
            print(f"{phase}: {len(found)} of {NOTED:g} s or more")
            for gap in found[:count]:
                print(f"  {gap}")
        return [gap for gap in self.gaps if gap.held > limit]

    def _tick(self) -> float:
        now, cpu, starved = time.perf_counter(), time.thread_time(), self._wait_for_processor()
        self.calls += 1
        stacks, self._stacks = self._stacks, collections.Counter()
        if now - self._last >= NOTED:
            spent = now - self._last, cpu - self._cpu, starved - self._starved
            self.gaps.append(Gap(self._last - self._began, *spent, self.phase, stacks))
        self._last, self._cpu, self._starved = time.perf_counter(), time.thread_time(), self._wait_for_processor()
        return INTERVAL

    def _wait_for_processor(self) -> float:
        try:
            return int(self._schedule.read_text().split()[1]) * 1e-9
        except OSError:  # another system than Linux
            return 0.0

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLING):
            frame, names, depth = sys._current_frames().get(self._main), [], _DEPTH
            while frame is not None and len(names) < depth:
                code = frame.f_code
                is_ours = "trackshade" in frame.f_globals.get("__name__", "")
                names.append(f"{OURS * is_ours}{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}")
                frame = frame.f_back
            self._stacks[" < ".join(names) or "Blender"] += 1
