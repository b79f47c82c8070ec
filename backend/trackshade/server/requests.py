# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client can ask for: one short function for each type of message, found by its name in HANDLERS.

Each gets the broker, the session and the message, and returns the answer.
Whatever is wrong is raised as a TrackshadeError and becomes an error reply.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, ProtocolError, TrackshadeError
from trackshade.ipc import CHUNK_BYTES, Manifest, Message, digest_of
from trackshade.ipc.fields import take, take_count, take_digests, take_file_name, take_job
from trackshade.ipc.messages import BufferEntry
from trackshade.server import states
from trackshade.server.sessions import Session
from trackshade.server.store import Event, Job

if TYPE_CHECKING:
    from trackshade.server.broker import Broker

EVENTS_PER_REPLY = 32
JOBS_PER_REPLY = 500


def reply(message: Message, body: dict[str, Any], *buffers: bytes) -> Message:
    """The answer to a message."""
    entries = tuple(BufferEntry.of_bytes(len(b), digest_of(b)) for b in buffers)
    return Message("reply", message.id, body, entries, buffers)


def _ping(broker: Broker, session: Session, message: Message) -> Message:
    return reply(message, {"window": broker.sessions.window()})


def _have(broker: Broker, session: Session, message: Message) -> Message:
    return reply(message, {"missing": broker.store.chunks.missing(take_digests(message.body))})


def _chunk(broker: Broker, session: Session, message: Message) -> Message:
    if len(message.buffers) != 1 or not 0 < len(message.buffers[0]) <= CHUNK_BYTES:
        raise ProtocolError("malformed-message", f"A chunk has to be one buffer of up to {CHUNK_BYTES} bytes.")
    broker.store_chunk(message.entries[0].digest, message.buffers[0])
    return reply(message, {"window": broker.sessions.window()})


def _submit(broker: Broker, session: Session, message: Message) -> Message:
    job = take_job(message.body)
    settings = ShadeSettings.from_dict(_text_keys(take(message.body, "settings", dict)))
    registry.spec(settings.model)
    manifest = Manifest.from_dict(take(message.body, "manifest", dict))
    wanted = manifest.sizes()
    stored = {digest: broker.store.chunks.size(digest) for digest in wanted}
    missing = [digest for digest, size in stored.items() if size is None]
    if missing:
        return reply(message, {"accepted": False, "missing": missing})
    if stored != wanted:
        raise ProtocolError("malformed-manifest", "The shot's manifest is damaged: a chunk has another size.")
    return reply(message, {"accepted": True, "state": broker.accept(job, manifest, settings)})


def _text_keys(settings: dict[Any, Any]) -> dict[str, Any]:
    if not all(isinstance(key, str) for key in settings):
        raise ProtocolError("malformed-message", "A message's settings have names that are not text.")
    return settings


def _events(broker: Broker, session: Session, message: Message) -> Message:
    job, since = take_job(message.body), take_count(message.body, "since")
    events = broker.store.events(job, since)
    broker.claim(job)
    page, more = events[:EVENTS_PER_REPLY], len(events) > EVENTS_PER_REPLY
    if not more and broker.store.job(job).state not in states.FINAL:
        session.subscriptions[job] = message.id
    previews = tuple(event.preview for event in page if event.preview)
    return reply(message, {"events": [event_body(e) for e in page], "more": more}, *previews)


def event_body(event: Event) -> dict[str, Any]:
    """An event as it is sent; its preview travels as a buffer, in the order of the events that have one."""
    fixed = {"job": event.job, "seq": event.seq, "time": event.time, "preview": event.preview is not None}
    return {**event.body, **fixed}


def _jobs(broker: Broker, session: Session, message: Message) -> Message:
    found = broker.store.jobs()[-JOBS_PER_REPLY:]
    return reply(message, {"jobs": [_job_body(broker, job) for job in found]})


def _job_body(broker: Broker, job: Job) -> dict[str, Any]:
    last = {k: v for k, v in event_body(broker.store.last_event(job.id)).items() if k not in ("summary", "preview")}
    return {
        "id": job.id,
        "state": job.state,
        "created": job.created,
        "settings": dict(job.settings),
        "last": last,
    }


def _cancel(broker: Broker, session: Session, message: Message) -> Message:
    return reply(message, {"state": broker.cancel(take_job(message.body))})


def _result(broker: Broker, session: Session, message: Message) -> Message:
    folder = _finished(broker, take_job(message.body))
    files = [
        {"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    return reply(message, {"files": files})


def _read(broker: Broker, session: Session, message: Message) -> Message:
    folder = _finished(broker, take_job(message.body))
    name, offset = take_file_name(message.body), take_count(message.body, "offset")
    path = folder / name
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ProtocolError("unknown-file", f"The result has no file {name}.")
    if offset > path.stat().st_size:
        raise ProtocolError("malformed-message", f"{name} has no byte {offset}.")
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        return reply(message, {}, file.read(CHUNK_BYTES))


def _finished(broker: Broker, job: str) -> Path:
    state = broker.store.job(job).state
    if state == states.DONE:
        return broker.store.result(job)
    error = broker.store.last_event(job).body.get("error")
    if error:
        raise TrackshadeError.from_dict(error)
    if state == states.CANCELLED:
        raise CancelledError("cancelled", f"Job {job} was cancelled.")
    raise ProtocolError("not-finished", f"Job {job} has no result: it is {state}.")


def _models(broker: Broker, session: Session, message: Message) -> Message:
    models = [{**spec.to_dict(), "present": registry.is_present(spec)} for spec in registry.models()]
    return reply(message, {"models": models})


def _warm(broker: Broker, session: Session, message: Message) -> Message:
    model = registry.spec(take(message.body, "model", str)).name
    broker.workers.warm(model)
    return reply(message, {})


def _free(broker: Broker, session: Session, message: Message) -> Message:
    ended, busy = broker.workers.free()
    return reply(message, {"ended": ended, "busy": busy})


def _status(broker: Broker, session: Session, message: Message) -> Message:
    return reply(
        message,
        {
            "pid": os.getpid(),
            "uptime": time.monotonic() - broker.started,
            "store": str(broker.store.folder),
            "clients": len(broker.sessions),
            "queued": len(broker.store.jobs((states.QUEUED,))),
            "workers": broker.workers.describe(),
            "memory": broker.memory.now(),
        },
    )


HANDLERS: dict[str, Callable[[Broker, Session, Message], Message]] = {
    "ping": _ping,
    "have": _have,
    "chunk": _chunk,
    "submit": _submit,
    "events": _events,
    "jobs": _jobs,
    "cancel": _cancel,
    "result": _result,
    "read": _read,
    "models": _models,
    "warm": _warm,
    "free": _free,
    "status": _status,
}
