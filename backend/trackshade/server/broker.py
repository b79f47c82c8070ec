# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker: one thread that waits for clients, workers and the verifier, and moves jobs from state to state.

It never imports torch, keeps no chunk in memory for longer than it takes to write it, and whatever a client or
worker sends, it goes on.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import zmq

from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import JobError, OutputError, ProtocolError, TrackshadeError
from trackshade.ipc import Manifest, Message, decode, digest_of, error_body
from trackshade.ipc.messages import BufferEntry, request_id
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server import requests, states
from trackshade.server.chunk_store import storage_error
from trackshade.server.memory import MemoryWatch
from trackshade.server.options import ServeOptions
from trackshade.server.router_socket import RouterSocket
from trackshade.server.sessions import Sessions, welcome
from trackshade.server.store import Event, Job, Store
from trackshade.server.verifier import Verifier
from trackshade.server.workers import Died, Workers

log = logging.getLogger("trackshade.broker")

TICK = 0.2  # seconds: how often processes and clocks are looked at
MESSAGES_PER_TURN = 64  # of one socket before the others get their turn, and
TURN = 0.05  # seconds for them
CLEAN_EVERY = 3600.0
MAX_UNRECORDED = 1000  # events kept while the disk is full; then steps are forgotten


class Broker:
    """Serves until `stop` is set. The store, the doors and the wake come from outside and are closed there."""

    def __init__(
        self, store: Store, clients: RouterSocket, workers: RouterSocket, wake: SelfPipe, options: ServeOptions
    ) -> None:
        self.store = store
        self.sessions = Sessions(store.token)
        self.workers = Workers(workers, options.devices, store.folder / "logs", options.cancel_grace)
        self.memory = MemoryWatch(options.devices[0] if options.devices else "cpu")
        self.started = time.monotonic()
        self.stop = False
        self._clients = clients
        self._workers_door = workers
        self._wake = wake
        self._options = options
        self._verifier = Verifier(store.chunks, wake.set)
        self._unrecorded: deque[tuple[str, Mapping[str, Any], bytes | None]] = deque()
        self._busy_at = self._cleaned_at = self._looked_at = self.started
        store.recover()
        self._queue: dict[str, set[bytes]] = {}  # waiting jobs, oldest first: the chunks not verified yet
        for job in store.jobs((states.QUEUED,)):
            self._enqueue(job)
        # What an earlier owner of a private store left behind waits until somebody asks for it, behind nobody's back.
        self._unclaimed = set(self._queue) if options.owned else set()
        self._clean()

    # the loop

    def run(self) -> None:
        """Serve until `stop` is set or nobody has needed the backend for `idle_exit` seconds."""
        poller = zmq.Poller()
        for source in (self._clients.socket, self._workers_door.socket, self._wake):
            poller.register(source, zmq.POLLIN)
        while not self.stop and not self._idle_for_long():
            ready = dict(poller.poll(int(TICK * 1000)))
            if self._wake.fileno() in ready:
                self._wake.clear()
                self._take_verified()
            if self._clients.socket in ready:
                self._take_clients()
            if self._workers_door.socket in ready:
                self.workers.receive(self._from_worker)
            if time.monotonic() - self._looked_at > TICK:
                self._look_after()
            self._schedule()

    def _look_after(self) -> None:
        """What has to happen now and then: processes, silent clients, what a full disk held up, cleaning."""
        self._looked_at = time.monotonic()
        for died in self.workers.watch(self._options.worker_idle):
            self._worker_died(died)
        self._publish()
        self._verifier.begin_in_pause()
        self.sessions.drop_silent()
        if self._looked_at - self._cleaned_at > CLEAN_EVERY:
            self._clean()

    def close(self) -> None:
        """End the workers in an orderly way; what they were doing is queued for the next start."""
        for job in self.workers.close():
            self.store.remove_partial(job)
            if self.store.job(job).cancel:
                self._finish(job, {"state": states.CANCELLED})
                continue
            self._record(job, {"state": states.QUEUED, "message": "The backend ended; the next one goes on."})
        self._verifier.close()

    def _idle_for_long(self) -> bool:
        now = time.monotonic()
        if len(self.sessions) or len(self._queue) > len(self._unclaimed) or self.workers.busy():
            self._busy_at = now
        return self._options.idle_exit is not None and now - self._busy_at > self._options.idle_exit

    def _clean(self) -> None:
        self._cleaned_at = time.monotonic()
        try:
            self.store.clean(self._options.chunk_days, self._options.keep)
        except OutputError as error:
            log.warning("%s", error)  # on a full disk even deleting needs a little space; jobs say so

    # clients

    def _take_clients(self) -> None:
        until = time.monotonic() + TURN
        for identity, frames in self._clients.receive(MESSAGES_PER_TURN):
            try:
                answer = self._answer(identity, decode(frames))
            except TrackshadeError as error:
                answer = Message("error", request_id(frames), error_body(error))
            except (OSError, sqlite3.Error) as error:
                reason = error if isinstance(error, OSError) else OSError(0, str(error))
                answer = Message("error", request_id(frames), error_body(storage_error(reason, self.store.folder)))
            except Exception:  # a fault in one handler must not end the service for everybody
                log.exception("a message could not be handled")
                fault = ProtocolError("internal-error", "The backend failed on a message.", "See the backend's log.")
                answer = Message("error", request_id(frames), error_body(fault))
            self._send(identity, answer)
            if time.monotonic() > until:
                return  # a slow disk, perhaps: the others get their turn

    def _answer(self, identity: bytes, message: Message) -> Message:
        if message.type == "hello":
            self.sessions.greet(identity, message)
            return Message("welcome", message.id, welcome(self.sessions.window(), os.getpid()))
        session = self.sessions.find(identity)
        handler = requests.HANDLERS.get(message.type)
        if handler is None:
            raise ProtocolError("unknown-message", f"There is no message {message.type[:64]!r}.", "Update the backend.")
        return handler(self, session, message)

    def _send(self, identity: bytes, message: Message) -> None:
        if not self._clients.send(identity, message):
            self.sessions.drop(identity)  # gone or not reading: it says hello again, and asks for what it missed

    # chunks

    def store_chunk(self, digest: bytes, data: bytes | memoryview) -> None:
        """Write a chunk, which takes moments, and have it verified later. Raises OutputError."""
        self.store.chunks.write(digest, data)
        self._verifier.add(digest)

    def _take_verified(self) -> None:
        for verified in self._verifier.take():
            for job, missing in list(self._queue.items()):
                if verified.digest not in missing:
                    continue
                missing.discard(verified.digest)
                if not verified.intact:
                    damaged = JobError(
                        "damaged-chunk", "A part of the shot was damaged on its way.", "Send the shot again."
                    )
                    self._finish(job, {"state": states.FAILED, "error": damaged.to_dict()})

    # jobs

    def accept(self, job: str, manifest: Manifest, settings: ShadeSettings) -> str:
        """Take a job whose chunks are all stored; its state, also where it was accepted before."""
        found, new = self.store.add(job, manifest, settings.to_dict())
        if new:
            self._enqueue(found)
            self._verifier.begin()
        self.claim(job)
        return found.state

    def claim(self, job: str) -> None:
        """Somebody wants this job, so it may run."""
        self._unclaimed.discard(job)

    def cancel(self, job: str) -> str:
        """Cancel a job; the state that it is in then. One that has ended stays as it is."""
        found = self.store.job(job)
        if found.state in states.FINAL:
            return found.state
        self.store.mark_cancel(job)
        if found.state == states.QUEUED:
            self._finish(job, {"state": states.CANCELLED})
            return states.CANCELLED
        self.workers.cancel(job)
        return found.state

    def _enqueue(self, job: Job) -> None:
        manifest, _ = self.store.request(job.id)
        self._queue[job.id] = manifest.sizes().keys() & self._verifier.pending.keys()

    def _schedule(self) -> None:
        wanted = [job for job in self._queue if job not in self._unclaimed]
        if not wanted:
            return
        self.workers.start_for(len(wanted))
        for job in [job for job in wanted if not self._queue[job]]:
            slot = self.workers.idle()
            if slot is None:
                return
            del self._queue[job]
            manifest, settings = self.store.request(job)
            self._record(job, {"state": states.LOADING})
            body = {
                "manifest": manifest.to_dict(),
                "settings": settings,
                "chunks": str(self.store.chunks.folder),
                "partial": str(self.store.partial(job)),
                "result": str(self.store.result(job)),
            }
            self.workers.run(slot, job, body)

    def _from_worker(self, job: str, message: Message) -> None:
        if message.type == "event":
            body = {k: v for k, v in message.body.items() if k != "job"}
            self._record(job, body, bytes(message.buffers[0]) if message.buffers else None)
        elif message.type == "finished":
            self._finish(job, {"state": states.DONE, "summary": message.body.get("summary", {})})
        elif message.type == "cancelled":
            self._finish(job, {"state": states.CANCELLED})
        elif message.type == "failed":
            self._finish(job, {"state": states.FAILED, "error": message.body["error"]})

    def _worker_died(self, died: Died) -> None:
        if died.hopeless:
            for job in list(self._queue):
                self._finish(job, {"state": states.FAILED, "error": died.reason.to_dict()})
        if died.job is None:
            return
        self.store.remove_partial(died.job)
        if died.cancelled:
            self._finish(died.job, {"state": states.CANCELLED})
        elif self.store.result(died.job).is_dir():
            self._finish(died.job, {"state": states.DONE, "summary": {}})
        elif self._deaths(died.job) > 1:
            self._finish(died.job, {"state": states.FAILED, "error": died.reason.to_dict()})
        else:
            self._record(died.job, {"state": states.QUEUED, "message": died.reason.message + " The job starts again."})
            others, self._queue = self._queue, {}
            self._enqueue(self.store.job(died.job))
            self._queue.update(others)  # it waited its turn already

    def _deaths(self, job: str) -> int:
        try:
            return self.store.count_death(job)
        except OutputError:
            return 2  # a death that cannot be counted is not tried again

    def _finish(self, job: str, body: Mapping[str, Any]) -> None:
        self._queue.pop(job, None)
        self._unclaimed.discard(job)
        self._record(job, body)

    def _record(self, job: str, body: Mapping[str, Any], preview: bytes | None = None) -> None:
        self._unrecorded.append((job, body, preview))
        self._publish()

    def _publish(self) -> None:
        """Store what happened, in order, and tell whoever waits. On a full disk it stays for the next turn."""
        while self._unrecorded:
            try:
                event = self.store.move(*self._unrecorded[0])
            except OutputError as error:
                log.warning("%s", error)
                if len(self._unrecorded) > MAX_UNRECORDED:
                    self._unrecorded = deque(item for item in self._unrecorded if "step" not in item[1])
                return
            self._unrecorded.popleft()
            for session, number in self.sessions.listeners(event.job):
                if event.body.get("state") in states.FINAL:
                    del session.subscriptions[event.job]
                self._send(session.identity, event_message(event, number))


def event_message(event: Event, number: int) -> Message:
    """An event as it is pushed to whoever waits for it; `number` is the id of what asked for it."""
    buffers = (event.preview,) if event.preview else ()
    entries = tuple(BufferEntry.of_bytes(len(b), digest_of(b)) for b in buffers)
    return Message("event", number, requests.event_body(event), entries, buffers)
