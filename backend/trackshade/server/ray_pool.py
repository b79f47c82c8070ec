# SPDX-License-Identifier: GPL-3.0-or-later
"""The workers of a broker on a Ray cluster: an actor for each GPU, or for each node of a cluster without GPUs.

It takes the place of `WorkerPool` for the scheduler. `RayCluster` speaks with Ray in a thread of its own, since Ray's
calls may take long; this class is used by the broker's thread only. A node that is lost costs its job the time that it
has run: the job is queued again, and it fails only after it has ended several workers on nodes that live.

Workers without a job do parts of the others' jobs (`parts.py`) until jobs are waiting. One that is lost meanwhile costs
nothing but the part that it was doing.
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
from trackshade.server.ray_cluster import ActorEnd, ActorMessages, ActorReady, HelpEnd, RayCluster
from trackshade.server.worker_pool import MAX_START_FAILURES, WorkerDeath

log = logging.getLogger("trackshade.broker")

RETRY_DELAY = 1.0  # seconds after a failed start, doubled with each in succession
HELP_AFTER = 0.5  # seconds without waiting jobs after which workers do parts of others
MAX_DEATHS = 2  # of a job's workers, on nodes that live, after which they count


@dataclass
class RaySlot:
    """An actor, or one that starts."""

    number: int  # identifies it to `RayCluster`; never used again
    is_ready: bool = False
    pid: int = 0
    node: str = ""
    job: str | None = None
    parts: int = 0  # number of parts that its job offers to other workers
    per_node: bool = False  # whether a second worker of a node would not help with them
    refused: set[int] = field(default_factory=set)  # workers that could not do them
    helps: str | None = None  # the job of which it does parts
    ticket: int = 0  # number of that help
    is_recalled: bool = False  # whether it ends that help after its present part
    kill_at: float | None = None  # when it is killed unless it answers a cancel
    idle_since: float = field(default_factory=time.monotonic)

    @property
    def is_idle(self) -> bool:
        """Whether it does nothing, or is about to start."""
        return self.job is None and self.helps is None


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
        self._tickets = 0
        self._failures = 0  # starts that failed in succession
        self._start_after = 0.0
        self._wanted_at = float("-inf")  # when a job was last waiting for a worker
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
        return next((slot for slot in self._slots.values() if slot.is_ready and slot.is_idle), None)

    def start_for(self, waiting: int) -> None:
        """Start as many workers as there are waiting jobs, if the cluster has room for them, and call helpers back."""
        self._wanted_at = time.monotonic()
        available = sum(slot.is_idle or slot.is_recalled for slot in self._slots.values())
        for slot in self._slots.values():
            if available < waiting and slot.helps is not None and not slot.is_recalled:
                slot.is_recalled = True
                self._cluster.recall(slot.number, slot.ticket)
                available += 1
        self._start(waiting - available)

    def _start(self, count: int) -> None:
        """Start some workers, if there is room for them."""
        for _ in range(min(count, self.room - len(self._slots))):
            if time.monotonic() >= self._start_after:
                self._numbers += 1
                self._slots[self._numbers] = RaySlot(self._numbers)
                self._cluster.start(self._numbers)

    def run(self, slot: RaySlot, job: str, body: Mapping[str, Any]) -> None:
        """Give a job to an idle worker."""
        slot.job, slot.kill_at, slot.parts = job, None, 0
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
            if job in (slot.job, slot.helps) and slot.kill_at is None:
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
            elif isinstance(event, HelpEnd):
                self._take_help_end(slot, event.error)
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
            elif slot.is_idle and slot.is_ready and now - slot.idle_since > idle_limit:
                self._end(slot)
        if now - self._wanted_at > HELP_AFTER:
            for slot in [slot for slot in self._slots.values() if slot.parts]:
                self._find_help(slot)
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
            {
                "device": device,
                "pid": slot.pid or None,
                "node": slot.node,
                "job": slot.job,
                "helps": slot.helps,
                "ready": slot.is_ready,
            }
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
            if message.type == "parts":
                slot.parts, slot.per_node = message.body["count"], message.body["per_node"]
                slot.refused.clear()
                continue
            if message.type in ("finished", "failed", "cancelled"):
                slot.job, slot.kill_at, slot.idle_since, slot.parts = None, None, time.monotonic(), 0
                self._deaths.pop(job, None)
            on_message(job, message)

    def _find_help(self, owner: RaySlot) -> None:
        """Have idle workers do parts of a job, and start further ones if the cluster has room."""
        helpers = [slot for slot in self._slots.values() if owner.job is not None and slot.helps == owner.job]
        nodes = {slot.node for slot in (owner, *helpers)}
        wanted = owner.parts - 1 - len(helpers)
        if owner.per_node:
            wanted = min(wanted, self._cluster.node_count - len(nodes))
        for slot in list(self._slots.values()):
            is_useful = slot.number not in owner.refused and not (owner.per_node and slot.node in nodes)
            if wanted > 0 and slot.is_idle and slot.is_ready and is_useful:
                self._tickets += 1
                slot.helps, slot.ticket, slot.is_recalled = owner.job, self._tickets, False
                self._cluster.help(slot.number, owner.number, self._tickets)
                nodes.add(slot.node)
                wanted -= 1
        starting = sum(not slot.is_ready for slot in self._slots.values())
        self._start(wanted - starting)

    def _take_help_end(self, slot: RaySlot, error: str) -> None:
        if error and slot.helps is not None:
            log.warning("The worker on the Ray node %s could not help with job %s: %s", slot.node, slot.helps, error)
            for owner in self._slots.values():
                if owner.job == slot.helps:
                    owner.refused.add(slot.number)
        slot.helps, slot.kill_at, slot.is_recalled, slot.idle_since = None, None, False, time.monotonic()

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
