# SPDX-License-Identifier: GPL-3.0-or-later
"""The broker's queue of jobs: accepts them, gives them to workers, and records and publishes what happens to them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import JobError, OutputError, TrackshadeError
from trackshade.ipc import Manifest, Message
from trackshade.ipc.protocol import CANCELLED, DONE, FAILED, FINAL_STATES, LOADING, QUEUED
from trackshade.server.chunk_store import ChunkVerifier
from trackshade.server.job_store import JobStore, StoredEvent, StoredJob
from trackshade.server.worker_pool import WorkerDeath
from trackshade.server.workers import Workers

log = logging.getLogger("trackshade.broker")

RETRY_AFTER = 1.0  # seconds until something is written again to a store that could not be written
MAX_UNRECORDED = 1000  # events kept while the disk is full; above that, those of single steps are dropped


_UNKNOWN = JobError("job-failed", "The job failed in the backend.", "See the worker's log.")


class Scheduler:
    """Moves jobs from state to state. Used by the broker's thread only."""

    def __init__(
        self,
        store: JobStore,  # holds everything that has to survive a restart
        workers: Workers,
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
        self._deferred: set[str] = set()  # queued jobs that wait until a client asks for them
        self._unmarked: set[str] = set()  # cancelled jobs whose cancel is not stored yet
        self._retry_at = 0.0  # monotonic seconds until which the store is left alone
        self._store_error = ""  # why the store could not be written the last time, "" if it could
        store.recover()
        for job in store.jobs((QUEUED,)):
            self._enqueue(job)
        if defer_queued:
            self._deferred.update(self._queue)

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
        state = self._unrecorded_state(job) or self._store.job(job).state
        if state in FINAL_STATES:
            return state
        self._unmarked.add(job)
        self._mark_cancels()
        if state == QUEUED:
            self._finish(job, {"state": CANCELLED})
            return CANCELLED
        self._workers.cancel(job)
        return state

    def waiting_reason(self, job: str) -> str:
        """Return why a job that has not ended waits for the store to be writable, such as a full disk; "" if not."""
        is_waiting = job in self._queue or any(name == job for name, *_ in self._unrecorded)
        return self._store_error if is_waiting else ""

    def drop_unclaimed(self, days: float) -> None:
        """Cancel the jobs of earlier programs for which nobody has asked in some days."""
        for job in list(self._deferred):
            if self._store.clock.age(job, "unclaimed") > 86400 * days:
                self._finish(job, {"state": CANCELLED, "message": "No program asked for it."})

    # The broker's loop.

    def run_queued(self) -> None:
        """Give queued jobs to idle workers, and start workers for them."""
        wanted = [job for job in self._queue if job not in self._deferred]
        if not wanted:
            return
        self._workers.start_for(len(wanted))
        for job in [job for job in wanted if not self._queue[job]]:
            slot = self._workers.find_idle()
            if slot is None or time.monotonic() < self._retry_at:
                return
            try:
                body = self._run_body(job)
            except OutputError as error:
                self._wait_for_store(error)
                return
            except TrackshadeError as error:
                self._finish(job, {"state": FAILED, "error": error.to_dict()})
                continue
            self._store_error = ""
            del self._queue[job]
            self._record(job, {"state": LOADING})
            self._workers.run(slot, job, body)

    def _run_body(self, job: str) -> dict[str, Any]:
        """Return what a worker needs for a job. Raise OutputError, or JobError if the job is damaged."""
        manifest, settings = self._store.request(job)
        return {
            "manifest": manifest.to_dict(),
            "settings": settings,
            "chunks": str(self._store.chunks.folder),
            "partial": str(self._store.partial(job)),
            "result": str(self._store.result(job)),
        }

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
            self._finish(job, {"state": FAILED, "error": message.body.get("error", _UNKNOWN.to_dict())})

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
            self._finish(job, {"state": DONE, "summary": self._store.summary(job)})
        elif not death.is_lost and self._count_death(job) > 1:
            self._finish(job, error)
        else:
            self._record(job, {"state": QUEUED, "message": death.error.message + " The job starts again."})
            others, self._queue = self._queue, {job: set()}  # its chunks were verified before
            self._queue.update(others)  # it is the first in the queue again

    def check(self) -> None:
        """Do periodic work: record what a full disk held up, and verify chunks between uploads."""
        self._mark_cancels()
        self._publish()
        self._verifier.verify_in_pause()

    def close(self) -> None:
        """End the workers; their jobs are queued for the next start."""
        try:
            for job in self._workers.close():
                if job in self._unmarked or self._store.job(job).cancel:
                    self._finish(job, {"state": CANCELLED})
                else:
                    self._record(job, {"state": QUEUED, "message": "The backend ended; the next one goes on."})
        except OutputError as error:
            log.warning("%s", error)  # the next start finds the jobs as they are
        finally:
            self._verifier.close()

    def _enqueue(self, job: StoredJob) -> None:
        try:
            manifest, _ = self._store.request(job.id)
        except JobError as error:
            self._finish(job.id, {"state": FAILED, "error": error.to_dict()})
            return
        self._queue[job.id] = manifest.chunk_sizes().keys() & self._verifier.pending.keys()

    def _unrecorded_state(self, job: str) -> str | None:
        """Return the latest state of a job that is not stored yet."""
        states = [str(body["state"]) for name, body, _ in self._unrecorded if name == job and "state" in body]
        return states[-1] if states else None

    def _mark_cancels(self) -> None:
        """Store which jobs were cancelled, for after a restart. Their workers are told whether or not that succeeds."""
        while self._unmarked and time.monotonic() >= self._retry_at:
            job = next(iter(self._unmarked))
            try:
                self._store.mark_cancel(job)
            except OutputError as error:
                self._wait_for_store(error)
                return
            self._store_error = ""
            self._unmarked.discard(job)

    def _wait_for_store(self, error: OutputError) -> None:
        log.warning("%s", error)
        self._store_error = str(error)
        self._retry_at = time.monotonic() + RETRY_AFTER

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
        """Store the unrecorded events in order and publish them. On a full disk they wait for a later call."""
        while self._unrecorded and time.monotonic() >= self._retry_at:
            try:
                event = self._store.record_event(*self._unrecorded[0])
            except OutputError as error:
                self._wait_for_store(error)
                break
            except (ValueError, TypeError, OverflowError):  # a worker sent what cannot be stored
                log.exception("An event of job %s is dropped.", self._unrecorded[0][0])
                self._unrecorded.popleft()
                continue
            self._store_error = ""
            self._unrecorded.popleft()
            self._publish_event(event)
        if len(self._unrecorded) > MAX_UNRECORDED:
            self._unrecorded = deque(item for item in self._unrecorded if "step" not in item[1])
