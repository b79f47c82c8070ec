# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker's queue of jobs: accepts them, gives them to workers, and records and publishes what happens to them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import JobError, OutputError
from trackshade.ipc import Manifest, Message
from trackshade.ipc.protocol import CANCELLED, DONE, FAILED, FINAL_STATES, LOADING, QUEUED
from trackshade.server.chunk_store import ChunkVerifier
from trackshade.server.job_store import JobStore, StoredEvent, StoredJob
from trackshade.server.worker_pool import WorkerDeath, WorkerPool

log = logging.getLogger("trackshade.broker")

MAX_UNRECORDED = 1000  # events kept while the disk is full; above that, those of single steps are dropped


class Scheduler:
    """Moves jobs from state to state. Used by the broker's thread only."""

    def __init__(
        self,
        store: JobStore,  # holds everything that has to survive a restart
        workers: WorkerPool,
        publish: Callable[[StoredEvent], None],  # sends an event to its subscribers
        wake: Callable[[], None],  # ends the broker's poll; called by the thread that verifies chunks
        defer_queued: bool,  # whether jobs left by an earlier backend wait until a client asks for them
    ) -> None:
        self._store = store
        self._workers = workers
        self._publish_event = publish
        self._verifier = ChunkVerifier(store.chunks, wake)
        self._unrecorded: deque[tuple[str, Mapping[str, Any], bytes | None]] = deque()
        self._queue: dict[str, set[bytes]] = {}  # chunks not verified yet of each queued job, the oldest job first
        store.recover()
        for job in store.jobs((QUEUED,)):
            self._enqueue(job)
        self._deferred = set(self._queue) if defer_queued else set()

    def has_work(self) -> bool:
        """Return whether a job runs or may run."""
        return len(self._queue) > len(self._deferred) or self._workers.is_busy()

    # Requests of clients.

    def store_chunk(self, digest: bytes, data: bytes | memoryview) -> None:
        """Store a chunk, to be verified later. Raise OutputError."""
        self._store.chunks.write(digest, data)
        self._verifier.add(digest)

    def accept(self, job: str, manifest: Manifest, settings: ShadeSettings) -> str:
        """Accept a job whose chunks are all stored; return its state, also if it was accepted before."""
        stored, is_new = self._store.add(job, manifest, settings.to_dict())
        if is_new:
            self._enqueue(stored)
            self._verifier.verify_pending()
        self.allow(job)
        return stored.state

    def allow(self, job: str) -> None:
        """Let a deferred job run, because a client asked for it."""
        self._deferred.discard(job)

    def cancel(self, job: str) -> str:
        """Cancel a job unless it has ended; return its state."""
        stored = self._store.job(job)
        if stored.state in FINAL_STATES:
            return stored.state
        self._store.mark_cancel(job)
        if stored.state == QUEUED:
            self._finish(job, {"state": CANCELLED})
            return CANCELLED
        self._workers.cancel(job)
        return stored.state

    # The broker's loop.

    def run_queued(self) -> None:
        """Give queued jobs to idle workers, and start workers for them."""
        wanted = [job for job in self._queue if job not in self._deferred]
        if not wanted:
            return
        self._workers.start_for(len(wanted))
        for job in [job for job in wanted if not self._queue[job]]:
            slot = self._workers.find_idle()
            if slot is None:
                return
            del self._queue[job]
            manifest, settings = self._store.request(job)
            self._record(job, {"state": LOADING})
            body = {
                "manifest": manifest.to_dict(),
                "settings": settings,
                "chunks": str(self._store.chunks.folder),
                "partial": str(self._store.partial(job)),
                "result": str(self._store.result(job)),
            }
            self._workers.run(slot, job, body)

    def take_verified(self) -> None:
        """Take the results of the thread that verifies chunks."""
        error = JobError("damaged-chunk", "A part of the shot was damaged on its way.", "Send the shot again.")
        for digest, is_intact in self._verifier.take_results():
            for job in [job for job, unverified in self._queue.items() if digest in unverified]:
                self._queue[job].discard(digest)
                if not is_intact:
                    self._finish(job, {"state": FAILED, "error": error.to_dict()})

    def take_message(self, job: str, message: Message) -> None:
        """Take a worker's message about its job."""
        if message.type == "event":
            body = {k: v for k, v in message.body.items() if k != "job"}
            self._record(job, body, bytes(message.buffers[0]) if message.buffers else None)
        elif message.type == "finished":
            self._finish(job, {"state": DONE, "summary": message.body.get("summary", {})})
        elif message.type == "cancelled":
            self._finish(job, {"state": CANCELLED})
        elif message.type == "failed":
            self._finish(job, {"state": FAILED, "error": message.body["error"]})

    def take_worker_death(self, death: WorkerDeath) -> None:
        """Queue the job of a worker that died once more, or let it fail."""
        error = {"state": FAILED, "error": death.error.to_dict()}
        if death.gave_up:
            for job in list(self._queue):
                self._finish(job, error)
        job = death.job
        if job is None:
            return
        if death.was_cancelled:
            self._finish(job, {"state": CANCELLED})
        elif self._store.result(job).is_dir():
            self._finish(job, {"state": DONE, "summary": {}})
        elif self._count_death(job) > 1:
            self._finish(job, error)
        else:
            self._record(job, {"state": QUEUED, "message": death.error.message + " The job starts again."})
            others, self._queue = self._queue, {}
            self._enqueue(self._store.job(job))
            self._queue.update(others)  # it is the first in the queue again

    def check(self) -> None:
        """Do periodic work: record what a full disk held up, and verify chunks between uploads."""
        self._publish()
        self._verifier.verify_in_pause()

    def close(self) -> None:
        """End the workers; their jobs are queued for the next start."""
        for job in self._workers.close():
            if self._store.job(job).cancel:
                self._finish(job, {"state": CANCELLED})
            else:
                self._record(job, {"state": QUEUED, "message": "The backend ended; the next one goes on."})
        self._verifier.close()

    def _enqueue(self, job: StoredJob) -> None:
        manifest, _ = self._store.request(job.id)
        self._queue[job.id] = manifest.chunk_sizes().keys() & self._verifier.pending.keys()

    def _count_death(self, job: str) -> int:
        try:
            return self._store.count_death(job)
        except OutputError:
            return 2  # without a count, the job is not tried again

    def _finish(self, job: str, body: Mapping[str, Any]) -> None:
        self._queue.pop(job, None)
        self._deferred.discard(job)
        self._store.remove_partial(job)
        self._record(job, body)

    def _record(self, job: str, body: Mapping[str, Any], preview: bytes | None = None) -> None:
        self._unrecorded.append((job, body, preview))
        self._publish()

    def _publish(self) -> None:
        """Store the unrecorded events in order and publish them. On a full disk they wait for the next call."""
        while self._unrecorded:
            try:
                event = self._store.record_event(*self._unrecorded[0])
            except OutputError as error:
                log.warning("%s", error)
                if len(self._unrecorded) > MAX_UNRECORDED:
                    self._unrecorded = deque(item for item in self._unrecorded if "step" not in item[1])
                return
            self._unrecorded.popleft()
            self._publish_event(event)
