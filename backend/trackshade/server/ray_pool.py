# SPDX-License-Identifier: GPL-3.0-or-later
"""The workers of a broker on a Ray cluster: an actor for each GPU, or for each node of a cluster without GPUs.

It takes the place of `WorkerPool` for the scheduler. `RayCluster` speaks with Ray in a thread of its own, since Ray's
calls may take long; this class is used by the broker's thread only. A node that is lost costs its job the time that it
has run: the job is queued again, and it fails only after it has ended several workers on nodes that live.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trackshade.core.errors import JobError, ProtocolError
from trackshade.ipc import decode
from trackshade.ipc.self_pipe import SelfPipe
from trackshade.server.ray_cluster import ActorEnd, ActorMessages, ActorReady, RayCluster
from trackshade.server.worker_pool import MAX_START_FAILURES, WorkerDeath

log = logging.getLogger("trackshade.broker")

RETRY_DELAY = 1.0  # seconds after a failed start, doubled with each in succession
MAX_DEATHS = 2  # of a job's workers, on nodes that live, after which they count


@dataclass
class RaySlot:
    """An actor, or one that starts."""

    number: int  # identifies it to `RayCluster`; never used again
    is_ready: bool = False
    pid: int = 0
    node: str = ""
    job: str | None = None
    kill_at: float | None = None  # when it is killed unless it answers a cancel
    idle_since: float = field(default_factory=time.monotonic)


class RayPool:
    """Starts and ends actors, gives them jobs and takes their messages.

    Args:
        cluster: The cluster.
        cancel_grace: Seconds that a worker has to answer a cancel before it is killed.
        most: Number of workers at most; None for as many as the cluster has room for.
    """

    def __init__(self, cluster: RayCluster, cancel_grace: float, most: int | None) -> None:
        self._cluster = cluster
        self._cancel_grace = cancel_grace
        self._most = most
        self._slots: dict[int, RaySlot] = {}
        self._numbers = 0
        self._failures = 0  # starts that failed in succession
        self._start_after = 0.0
        self._deaths: dict[str, list[str]] = {}  # the nodes on which workers of a job have died
        self._dead: list[WorkerDeath] = []

    @property
    def source(self) -> SelfPipe:
        """What the broker polls for messages of workers."""
        return self._cluster.wake

    @property
    def room(self) -> int:
        """Number of workers that there may be now."""
        return self._cluster.room if self._most is None else min(self._most, self._cluster.room)

    def find_idle(self) -> RaySlot | None:
        """Return a worker that is ready and has no job."""
        return next((slot for slot in self._slots.values() if slot.is_ready and slot.job is None), None)

    def start_for(self, waiting: int) -> None:
        """Start as many workers as there are waiting jobs, if the cluster has room for them."""
        available = sum(slot.job is None for slot in self._slots.values())
        while available < waiting and len(self._slots) < self.room and time.monotonic() >= self._start_after:
            self._numbers += 1
            self._slots[self._numbers] = RaySlot(self._numbers)
            self._cluster.start(self._numbers)
            available += 1

    def run(self, slot: RaySlot, job: str, body: Mapping[str, Any]) -> None:
        """Give a job to an idle worker."""
        slot.job, slot.kill_at = job, None
        self._cluster.run(slot.number, job, body)

    def load_model(self, model: str) -> None:
        """Make an idle worker load a model before there is a job for it."""
        self.start_for(1)
        slot = self.find_idle()
        if slot is not None:
            self._cluster.load(slot.number, model)

    def cancel(self, job: str) -> None:
        """Ask the worker that runs a job to stop; it is killed if it does not within the grace period."""
        for slot in self._slots.values():
            if slot.job == job and slot.kill_at is None:
                slot.kill_at = time.monotonic() + self._cancel_grace
                self._cluster.cancel(slot.number, job)

    def end_idle(self) -> tuple[int, int]:
        """End the workers without a job; return how many, and how many are busy."""
        idle = [slot for slot in self._slots.values() if slot.job is None]
        for slot in idle:
            self._end(slot)
        return len(idle), len(self._slots)

    def receive(self, on_message: Callable[[str, Any], None]) -> None:
        """Pass the messages of workers about their jobs to `on_message(job, message)`."""
        self._cluster.wake.clear()
        for event in self._cluster.events():
            slot = self._slots.get(event.number)
            if slot is None:
                continue  # it was ended meanwhile
            if isinstance(event, ActorReady):
                slot.is_ready, slot.pid, slot.node = True, event.pid, event.node
                slot.idle_since, self._failures = time.monotonic(), 0
            elif isinstance(event, ActorEnd):
                self._take_end(slot, event)
            else:
                self._take_messages(slot, event, on_message)

    def check(self, idle_limit: float) -> list[WorkerDeath]:
        """Kill workers that do not answer a cancel, end those idle for `idle_limit` seconds, and return dead ones."""
        now = time.monotonic()
        for slot in list(self._slots.values()):
            if slot.kill_at is not None and now > slot.kill_at:
                self._end(slot)
                error = JobError("worker-died", f"The worker on {slot.node} did not answer a cancel.")
                self._dead.append(WorkerDeath(slot.job, True, error, False))
            elif slot.job is None and slot.is_ready and now - slot.idle_since > idle_limit:
                self._end(slot)
        dead, self._dead = self._dead, []
        return dead

    def close(self) -> list[str]:
        """End all workers; return the jobs that they were running."""
        jobs = [slot.job for slot in self._slots.values() if slot.job is not None]
        self._slots.clear()
        self._cluster.close()
        return jobs

    def is_busy(self) -> bool:
        """Return whether a worker has a job."""
        return any(slot.job is not None for slot in self._slots.values())

    def describe(self) -> list[dict[str, Any]]:
        """Return the device, process id, node and job of each worker."""
        device = self._cluster.device
        return [
            {"device": device, "pid": slot.pid or None, "node": slot.node, "job": slot.job, "ready": slot.is_ready}
            for slot in self._slots.values()
        ]

    def _take_messages(self, slot: RaySlot, event: ActorMessages, on_message: Callable[[str, Any], None]) -> None:
        for frames in event.messages:
            try:
                message = decode(frames)
            except ProtocolError as error:
                log.warning("from a worker: %s", error)
                continue
            job = slot.job
            if job is None or message.body.get("job") != job:
                continue  # about a job that it no longer has
            if message.type in ("finished", "failed", "cancelled"):
                slot.job, slot.kill_at, slot.idle_since = None, None, time.monotonic()
                self._deaths.pop(job, None)
            on_message(job, message)

    def _take_end(self, slot: RaySlot, event: ActorEnd) -> None:
        del self._slots[slot.number]
        gave_up = False
        if not slot.is_ready and not event.node_lost:
            self._failures += 1
            self._start_after = time.monotonic() + RETRY_DELAY * 2 ** (self._failures - 1)
            gave_up = self._failures >= MAX_START_FAILURES
        if gave_up:
            self._failures = 0
        is_lost = True
        if slot.job is not None:
            nodes = self._deaths.setdefault(slot.job, [])
            nodes.append(slot.node)
            is_lost = sum(self._cluster.is_node_alive(node) for node in nodes) < MAX_DEATHS
        error = JobError(
            "worker-died",
            f"The worker on the Ray node {slot.node or 'that was chosen'} has ended. {event.reason}".strip(),
            "See the logs of that node in Ray's session folder, and whether it has enough memory.",
        )
        log.warning("%s", error)
        self._dead.append(WorkerDeath(slot.job, slot.kill_at is not None, error, gave_up, is_lost))

    def _end(self, slot: RaySlot) -> None:
        self._slots.pop(slot.number, None)
        self._cluster.end(slot.number)
