# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of a job, and a subscription that delivers them in order and without gaps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from trackshade.core.errors import TrackshadeError
from trackshade.ipc import Message
from trackshade.ipc.protocol import FINAL_STATES

_FIELDS = ("job", "seq", "time", "state", "message", "step", "steps", "preview", "error", "summary")


@dataclass(frozen=True)
class JobEvent:
    """An event of a job.

    Attributes:
        job: Job id.
        seq: Number of the event within the job, from 1, without gaps.
        time: Seconds since 1970, by the backend's clock.
        state: queued, loading, running, decoding, done, failed or cancelled.
        message: A detail in words, or "".
        step: Number of denoising steps done, or None.
        steps: Number of all denoising steps, or None.
        preview: Bytes of a small PNG or JPEG image, or None.
        error: Why the job failed, or None.
        summary: The record (job.json) of a finished job.
        more: Other fields.
    """

    job: str
    seq: int
    time: float
    state: str
    message: str = ""
    step: int | None = None
    steps: int | None = None
    preview: bytes | None = None
    error: TrackshadeError | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """Whether it is the last event."""
        return self.state in FINAL_STATES

    def __str__(self) -> str:
        count = f"{self.step}/{self.steps}" if self.step is not None and self.steps is not None else ""
        return " ".join(filter(None, (self.state, count, self.message, str(self.error or ""))))

    @staticmethod
    def from_body(body: Mapping[str, Any], preview: bytes | None) -> JobEvent:
        """Read the event in a message's body; fields that this version does not know are in `more`."""
        error = body.get("error")
        return JobEvent(
            job=str(body["job"]),
            seq=int(body["seq"]),
            time=float(body["time"]),
            state=str(body["state"]),
            message=str(body.get("message", "")),
            step=body.get("step"),
            steps=body.get("steps"),
            preview=preview,
            error=None if error is None else TrackshadeError.from_dict(dict(error)),
            summary=body.get("summary") or {},
            more={key: value for key, value in body.items() if key not in _FIELDS},
        )


Request = Callable[[str, Mapping[str, Any], Callable[[Future[Message]], None]], Future[Message]]


class Subscription:
    """Requests missed events, takes those that the backend sends, and puts each once in `arrived`.

    It begins after the event `last`. The answer of `request` has to be taken by the thread that calls `take`, so that
    events sent after an answer are taken after it.
    """

    def __init__(self, job: str, last: int, request: Request) -> None:
        self.job = job
        self.last = last  # number of the latest event in `arrived`
        self.created = time.monotonic()  # in seconds of the connection's clock
        self.ended = False  # whether nothing more arrives
        # The events in order; an error is the last item.
        self.arrived: queue.SimpleQueue[JobEvent | TrackshadeError] = queue.SimpleQueue()
        self._request = request
        self._is_requesting = threading.Lock()  # held until the answer

    def request_missed(self) -> None:
        """Request all events after the latest one; the backend sends later ones by itself."""
        if not self.ended and self._is_requesting.acquire(blocking=False):
            self._request("events", {"job": self.job, "since": self.last}, self._take_answer)

    def take(self, message: Message) -> None:
        """Take an event that the backend sent, of any job. A gap in the numbers shows that some were lost."""
        if message.body.get("job") != self.job:
            return
        seq = message.body.get("seq")
        if seq == self.last + 1:
            self._put(message.body, bytes(message.buffers[0]) if message.buffers else None)
        elif isinstance(seq, int) and seq > self.last:
            self.request_missed()

    def fail(self, error: TrackshadeError) -> None:
        """End the subscription with an error."""
        if not self.ended:
            self.ended = True
            self.arrived.put(error)

    def _take_answer(self, future: Future[Message]) -> None:
        self._is_requesting.release()
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
            self.request_missed()

    def _put(self, body: Mapping[str, Any], preview: bytes | None) -> None:
        event = JobEvent.from_body(body, preview)
        self.last = event.seq
        self.arrived.put(event)
        self.ended = self.ended or event.final
