# SPDX-License-Identifier: GPL-3.0-or-later
"""Work of a job that consists of independent parts, such as the frames of a propagation or stills of several seeds.

The worker that has the job does them in order. Where other workers are idle (`ray_worker.py`), they help: each gets
once what all parts share, then takes one part after the other. A part depends on nothing but what it is given, so it
does not matter who does it, nor whether it is done twice.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, ClassVar

import numpy as np

AHEAD = 3  # results for each worker that may wait for one before them
LATE = 3.0  # times the usual time of a part, after which somebody else does it too
GRACE = 2.0  # seconds more
WAIT = 0.1  # seconds between two looks at a part that somebody else does

Packed = tuple[dict[str, Any], Sequence[np.ndarray]]
"""Plain values and arrays: what travels between workers."""


class Parts(ABC):
    """Independent parts of a job's work.

    Attributes:
        kind: Name by which another worker knows how to do them.
        per_node: Whether a part uses all processors of its machine, so that a second worker there would not help.
    """

    kind: ClassVar[str]
    per_node: bool = False

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of parts."""

    @abstractmethod
    def do(self, index: int) -> Packed:
        """Do a part in the worker that has the job; return its result."""

    @abstractmethod
    def pack(self) -> Packed:
        """Return what all parts share."""

    @abstractmethod
    def pack_part(self, index: int) -> Packed:
        """Return what one part needs besides."""


PartDoer = Callable[[Packed], Packed]
"""Does a part in another worker: from what `Parts.pack_part` returned to the result."""


Spread = Callable[[Parts], Generator[Packed, None, None]]
"""Does all parts, wherever; yields their results in order."""


def do_in_order(parts: Parts) -> Generator[Packed, None, None]:
    """Do all parts in this worker; yield their results."""
    for index in range(parts.count):
        yield parts.do(index)


@dataclass
class _Taken:
    """A part that is being done."""

    worker: str
    since: float


class PartQueue:
    """Parts that several workers do. Thread-safe.

    A part that takes much longer than the others is given out again, since its worker may be lost; the first result
    counts. Results are kept until those before them have been yielded, so workers do not run far ahead.
    """

    def __init__(self, count: int, now: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._now = now
        self._front = 0  # the part whose result is yielded next
        self._taken: dict[int, _Taken] = {}
        self._results: dict[int, Packed] = {}
        self._workers: set[str] = set()
        self._seconds: deque[float] = deque(maxlen=25)  # that the latest parts took
        self._is_open = True
        self._changed = threading.Condition()

    def take(self, worker: str) -> int | None:
        """Return a part to do, or None if there is none at the moment (see `is_open`)."""
        with self._changed:
            self._workers.add(worker)
            limit = min(self._count, self._front + 1 + AHEAD * len(self._workers)) if self._is_open else 0
            open_parts = [index for index in range(self._front, limit) if index not in self._results]
            now, late = self._now(), LATE * median(self._seconds) + GRACE if self._seconds else math.inf
            new = [index for index in open_parts if index not in self._taken]
            again = [
                index
                for index, taken in self._taken.items()
                if index in open_parts and taken.worker != worker and now - taken.since > late
            ]
            index = min(new or again, default=None)
            if index is not None:
                self._taken[index] = _Taken(worker, now)
            return index

    def put(self, index: int, result: Packed) -> None:
        """Take the result of a part, unless there is one already."""
        with self._changed:
            taken = self._taken.pop(index, None)
            if not self._is_open or index < self._front or index in self._results:
                return
            if taken is not None:
                self._seconds.append(self._now() - taken.since)
            self._results[index] = result
            self._changed.notify_all()

    @property
    def is_open(self) -> bool:
        """Whether there are or may be parts to do."""
        return self._is_open

    def close(self) -> None:
        """Give out no further part."""
        with self._changed:
            self._is_open = False
            self._results.clear()

    def results(self, do: Callable[[int], Packed], check: Callable[[], None]) -> Generator[Packed, None, None]:
        """Yield all results in order, and do parts meanwhile.

        Args:
            do: Does a part in this thread.
            check: Called between parts and while the thread waits for others; may raise to cancel.
        """
        for front in range(self._count):
            while True:
                check()
                with self._changed:
                    if front in self._results:
                        self._front = front + 1
                        result = self._results.pop(front)
                        break
                index = self.take("")
                if index is not None:
                    self.put(index, do(index))
                    continue
                with self._changed:
                    if front not in self._results:
                        self._changed.wait(WAIT)
            yield result
