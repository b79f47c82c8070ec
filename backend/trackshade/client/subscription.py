# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of one job in order and without gaps, whatever happens to the connection."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from trackshade.client.events import Event
from trackshade.core.errors import TrackshadeError
from trackshade.ipc import Message

Answer = Future[Message]
Request = Callable[[str, Mapping[str, Any], Callable[[Answer], None]], Answer]


class Subscription:
    """Asks for what was missed, takes what is pushed, and puts each event once in `arrived`.

    `request` sends a request and has its answer taken by the thread that calls `take` as well: events that are
    pushed after an answer are then looked at after it. An error in `arrived` is the last thing there.
    """

    def __init__(self, job: str, last: int, request: Request) -> None:
        self.job = job
        self.last = last  # the number of the newest event that was taken
        self.since = time.monotonic()
        self.ended = False
        self.arrived: queue.SimpleQueue[Event | TrackshadeError] = queue.SimpleQueue()
        self._request = request
        self._asking = threading.Lock()  # held while an answer is on its way

    def ask(self) -> None:
        """Ask for everything after the newest event; later ones are pushed by the backend."""
        if not self.ended and self._asking.acquire(blocking=False):
            self._request("events", {"job": self.job, "since": self.last}, self._answered)

    def take(self, message: Message) -> None:
        """A pushed event, of this job or another. One that comes too early shows that some were lost."""
        if message.body.get("job") != self.job:
            return
        seq = message.body.get("seq")
        if seq == self.last + 1:
            self._put(message.body, bytes(message.buffers[0]) if message.buffers else None)
        elif isinstance(seq, int) and seq > self.last:
            self.ask()

    def fail(self, error: TrackshadeError) -> None:
        """Nothing more will come, for this reason."""
        if not self.ended:
            self.ended = True
            self.arrived.put(error)

    def _answered(self, future: Answer) -> None:
        self._asking.release()
        error = future.exception()
        if isinstance(error, TrackshadeError):
            self.fail(error)
            return
        message = future.result()
        previews = iter(message.buffers)
        for body in message.body["events"]:
            preview = bytes(next(previews)) if body["preview"] else None
            if body["seq"] == self.last + 1:
                self._put(body, preview)
        if message.body["more"]:
            self.ask()

    def _put(self, body: Mapping[str, Any], preview: bytes | None) -> None:
        event = Event.from_body(body, preview)
        self.last = event.seq
        self.arrived.put(event)
        self.ended = self.ended or event.final
