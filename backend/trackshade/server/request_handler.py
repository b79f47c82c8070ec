# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests of clients: one short method for each type of message, named after it.

A method takes the session and the body, and returns the body of the reply, with buffers if there are any. Everything
that is wrong with a request is raised as a TrackshadeError and becomes an error reply.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, JobError, ProtocolError, ShotError, TrackshadeError
from trackshade.core.text import format_size
from trackshade.ipc import CHUNK_BYTES, Manifest, Message
from trackshade.ipc.messages import with_buffers
from trackshade.ipc.protocol import (
    CANCELLED,
    DONE,
    FINAL_STATES,
    MAX_LOOKUPS,
    QUEUED,
    is_file_name,
    require,
    require_count,
    require_digests,
    require_file_name,
    require_job_id,
)
from trackshade.server.job_store import JobStore, StoredEvent, StoredJob, event_body
from trackshade.server.memory import MemoryMonitor, total_main_memory
from trackshade.server.scheduler import Scheduler
from trackshade.server.sessions import Session, Sessions
from trackshade.server.workers import Workers

EVENTS_PER_REPLY = 32
JOBS_PER_REPLY = 100
LATEST_JOBS = 500  # for clients of earlier versions, which ask once

Body = dict[str, Any]
Answer = Body | tuple[Body, tuple[bytes, ...]]
Handler = Callable[[Session, Message], Answer]


class RequestHandler:
    """Answers the requests of clients that have said hello."""

    def __init__(
        self, store: JobStore, sessions: Sessions, scheduler: Scheduler, workers: Workers, memory: MemoryMonitor
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._scheduler = scheduler
        self._workers = workers
        self._memory = memory
        self._started = time.monotonic()

    def answer(self, session: Session, message: Message) -> Message:
        """Return the reply to a request. Raise TrackshadeError if it is malformed or cannot be fulfilled."""
        handler: Handler | None = getattr(self, f"_handle_{message.type}", None)
        if handler is None:
            raise ProtocolError("unknown-message", f"There is no message {message.type[:64]!r}.", "Update the backend.")
        answer = handler(session, message)
        body, buffers = answer if isinstance(answer, tuple) else (answer, ())
        return with_buffers("reply", message.id, body, *buffers)

    def _handle_ping(self, session: Session, message: Message) -> Answer:
        return {"window": self._sessions.window()}

    def _handle_have(self, session: Session, message: Message) -> Answer:
        digests = require_digests(message.body)
        return {"missing": [*self._store.chunks.missing(digests[:MAX_LOOKUPS]), *digests[MAX_LOOKUPS:]]}

    def _handle_chunk(self, session: Session, message: Message) -> Answer:
        if len(message.buffers) != 1 or not 0 < len(message.buffers[0]) <= CHUNK_BYTES:
            raise ProtocolError("malformed-message", f"A chunk has to be one buffer of up to {CHUNK_BYTES} bytes.")
        self._scheduler.store_chunk(message.entries[0].digest, message.buffers[0])
        return {"window": self._sessions.window()}

    def _handle_submit(self, session: Session, message: Message) -> Answer:
        job, values = require_job_id(message.body), require(message.body, "settings", dict)
        if not all(isinstance(key, str) for key in values):
            raise ProtocolError("malformed-message", "A message's settings have names that are not text.")
        settings = ShadeSettings.from_dict(values)
        (registry.motion_spec if settings.output == "motion" else registry.spec)(settings.model)
        manifest = Manifest.from_dict(require(message.body, "manifest", dict))
        _check_memory(manifest)
        wanted = manifest.chunk_sizes()
        stored = {digest: self._store.chunks.size(digest) for digest in wanted}
        missing = [digest for digest, size in stored.items() if size is None]
        if missing:
            return {"accepted": False, "missing": missing}
        if stored != wanted:
            raise ProtocolError("malformed-manifest", "The shot's manifest is damaged: a chunk has another size.")
        return {"accepted": True, "state": self._scheduler.accept(job, manifest, settings)}

    def _handle_events(self, session: Session, message: Message) -> Answer:
        job = require_job_id(message.body)
        events = self._store.events(job, require_count(message.body, "since"), EVENTS_PER_REPLY + 1)
        self._scheduler.allow(job)
        page, more = events[:EVENTS_PER_REPLY], len(events) > EVENTS_PER_REPLY
        if not more and self._store.job(job).state not in FINAL_STATES:
            session.subscriptions[job] = message.id
        previews = tuple(event.preview for event in page if event.preview)
        return {"events": [event_body(event) for event in page], "more": more}, previews

    def _handle_jobs(self, session: Session, message: Message) -> Answer:
        """Return a page of jobs from `after` on, and where the next one begins; without `after`, the latest jobs."""
        after = require_count(message.body, "after") if "after" in message.body else None
        jobs, following = self._store.page(after, LATEST_JOBS if after is None else JOBS_PER_REPLY)
        reason = self._scheduler.waiting_reason
        return {"jobs": [_job_body(job, last, reason(job.id)) for job, last in jobs], "next": following}

    def _handle_waiting(self, session: Session, message: Message) -> Answer:
        return {"reason": self._scheduler.waiting_reason(require_job_id(message.body))}

    def _handle_cancel(self, session: Session, message: Message) -> Answer:
        return {"state": self._scheduler.cancel(require_job_id(message.body))}

    def _handle_result(self, session: Session, message: Message) -> Answer:
        """Return the files of a result. Others that the system or a user has put there are left out."""
        folder, files = self._result_folder(message), []
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if is_file_name(name) and path.is_file() and not path.is_symlink():
                files.append({"name": name, "size": path.stat().st_size})
        return {"files": files}

    def _handle_read(self, session: Session, message: Message) -> Answer:
        folder = self._result_folder(message)
        name, offset = require_file_name(message.body), require_count(message.body, "offset")
        path = folder / name
        if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
            raise ProtocolError("unknown-file", f"The result has no file {name}.")
        if offset > path.stat().st_size:
            raise ProtocolError("malformed-message", f"{name} has no byte {offset}.")
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            return {}, (file.read(CHUNK_BYTES),)

    def _result_folder(self, message: Message) -> Path:
        job = require_job_id(message.body)
        state = self._store.job(job).state
        if state == DONE:
            folder = self._store.result(job)
            if not (folder / "job.json").is_file():
                raise JobError("result-gone", f"The backend has no result of job {job} any more.", "Shade it again.")
            return folder
        error = self._store.last_event(job).body.get("error")
        if error:
            raise TrackshadeError.from_dict(error)
        if state == CANCELLED:
            raise CancelledError("cancelled", f"Job {job} was canceled.")
        raise ProtocolError("not-finished", f"Job {job} has no result: it is {state}.")

    def _handle_models(self, session: Session, message: Message) -> Answer:
        return {"models": [{**spec.to_dict(), "present": registry.is_present(spec)} for spec in registry.models()]}

    def _handle_warm(self, session: Session, message: Message) -> Answer:
        self._workers.load_model(registry.spec(require(message.body, "model", str)).name)
        return {}

    def _handle_free(self, session: Session, message: Message) -> Answer:
        ended, busy = self._workers.end_idle()
        return {"ended": ended, "busy": busy}

    def _handle_status(self, session: Session, message: Message) -> Answer:
        return {
            "pid": os.getpid(),
            "uptime": time.monotonic() - self._started,
            "store": str(self._store.folder),
            "clients": len(self._sessions),
            "queued": self._store.count(QUEUED),
            "workers": self._workers.describe(),
            "memory": self._memory.latest(),
        }


def _check_memory(manifest: Manifest) -> None:
    """Raise ShotError if a worker could not have the shot in memory: one chunk may stand for many gigabytes of it."""
    needed, total = sum(entry.nbytes for entry in manifest.arrays), total_main_memory()
    if total is not None and needed > total:
        raise ShotError(
            "shot-too-large",
            f"The shot has {format_size(needed)}, and the backend's machine has {format_size(total)} of memory.",
            "Export fewer frames or simpler meshes.",
        )


def _job_body(job: StoredJob, last: StoredEvent, waiting: str) -> Body:
    return {
        "id": job.id,
        "state": job.state,
        "created": job.created,
        "settings": dict(job.settings),
        "waiting": waiting,
        "last": {key: value for key, value in event_body(last).items() if key not in ("summary", "preview")},
    }
