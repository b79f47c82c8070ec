# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a job, as a client sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trackshade.core.errors import TrackshadeError

FINAL_STATES = ("done", "failed", "cancelled")
_NAMED = ("job", "seq", "time", "state", "message", "step", "steps", "preview", "error", "summary")


@dataclass(frozen=True)
class Event:
    """One event of a job.

    Attributes:
        seq: number of the event within the job, from 1, without gaps.
        time: seconds since 1970, by the backend's clock.
        state: queued, loading, running, decoding, done, failed or cancelled.
        message: a detail in words, or "".
        step, steps: `step` of `steps` denoising steps are done; None where that does not apply.
        preview: bytes of a small PNG or JPEG image, or None.
        error: why the job failed, or None.
        summary: of a finished job, what its job.json says in short.
        more: other details.
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
        """Whether nothing follows."""
        return self.state in FINAL_STATES

    def __str__(self) -> str:
        words = [self.state]
        if self.step is not None and self.steps is not None:
            words.append(f"{self.step}/{self.steps}")
        if self.message:
            words.append(self.message)
        if self.error is not None:
            words.append(str(self.error))
        return " ".join(words)

    @staticmethod
    def from_body(body: Mapping[str, Any], preview: bytes | None) -> Event:
        """The event in a message's body; what this version does not know is in `more`."""
        error = body.get("error")
        return Event(
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
            more={key: value for key, value in body.items() if key not in _NAMED},
        )
