# SPDX-License-Identifier: GPL-3.0-or-later
"""Ray clusters on this machine, and workers whose jobs take a given time and no processor, to see how work spreads."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import zmq

from tests.helpers.backends import until
from trackshade.config.settings import ShadeSettings
from trackshade.ipc import ArrayEntry, Manifest
from trackshade.ipc.protocol import DONE, FINAL_STATES
from trackshade.server.job_store import JobStore, StoredEvent
from trackshade.server.parts import Packed, PartDoer, Parts
from trackshade.server.ray_cluster import RayCluster
from trackshade.server.ray_pool import RayPool
from trackshade.server.ray_worker import RayWorker
from trackshade.server.scheduler import Scheduler

LEAN: dict[str, Any] = {"include_dashboard": False, "include_log_monitor": False}  # fewer processes for each node


@contextlib.contextmanager
def start_cluster() -> Iterator[Any]:
    """A head without processors, so that all workers are on the nodes that are added."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # By default they wait for every other test of a busy machine. This is how Ray spells it.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **LEAN})
    yield made
    made.shutdown()


def add_node(cluster: Any) -> Any:
    """Add a node for one worker. On a busy machine, Ray gives up before a node has started."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            return cluster.add_node(num_cpus=1, **LEAN)
    return cluster.add_node(num_cpus=1, **LEAN)


def kill_node(cluster: Any, node: Any) -> None:
    """kill -9 of everything that makes a node of a cluster."""
    for processes in node.all_processes.values():
        for item in processes:
            psutil.Process(item.process.pid).send_signal(signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


class WaitingParts(Parts):
    """Each part waits; its result is its number and the process that did it."""

    kind = "waiting"
    per_node = True

    def __init__(self, count: int, seconds: float) -> None:
        self._count, self._seconds = count, seconds

    @property
    def count(self) -> int:
        return self._count

    def do(self, index: int) -> Packed:
        time.sleep(self._seconds)
        return {"index": index, "pid": os.getpid()}, []

    def pack(self) -> Packed:
        return {"count": self._count, "seconds": self._seconds}, []

    def pack_part(self, index: int) -> Packed:
        return {"index": index}, []


class WaitingWorker(RayWorker):
    """Its result is when the job ran and on which process; the job's prompt is the number of seconds that it waits.

    With a number of parts before it, as in "20 0.5", each part waits, and the result says which process did it. With
    the prompt "chunk" it asks for a chunk, which it cannot take.
    """

    def write_result(self, manifest: Any, settings: Any, chunks: Path, folder: Path) -> dict[str, Any]:
        started = time.time()
        if settings["prompt"] == "chunk":
            self._get_chunks(Manifest({}, (ArrayEntry("|u1", (1,), (bytes(32),)),)))
        *count, seconds = settings["prompt"].split()
        parts = WaitingParts(int(count[0]) if count else 1, float(seconds))
        results = [values for values, _ in self.spread(parts)]
        self.check()
        (folder / "job.json").write_text("{}")
        return {"started": started, "ended": time.time(), "pid": os.getpid(), "parts": results}

    def put_chunks(self, chunks: dict[bytes, bytes | None]) -> None:
        raise RuntimeError("no chunk can be taken")

    def _get_runner(self) -> Any:
        return self

    def make_part_doer(self, kind: str, shared: Packed, reporter: Any) -> PartDoer:
        assert kind == WaitingParts.kind
        parts = WaitingParts(**shared[0])
        return lambda part: parts.do(part[0]["index"])


class Queue:
    """The broker's scheduler with its store and workers on a cluster, driven by the test."""

    def __init__(
        self, folder: Path, address: str, worker: type[RayWorker] = WaitingWorker, most: int | None = None
    ) -> None:
        self.store = JobStore(folder)
        self.pool = RayPool(RayCluster(address, worker=worker), 5.0, most)
        self.ends: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count()
        self.scheduler = Scheduler(self.store, self.pool, self._publish, self.pool.source.set, defer_queued=False)

    def _publish(self, event: StoredEvent) -> None:
        if event.body.get("state") in FINAL_STATES:
            self.ends[event.job] = dict(event.body)

    def submit(self, count: int, prompt: str) -> list[str]:
        jobs = [f"{next(self.numbers):016x}" for _ in range(count)]
        for job in jobs:
            self.scheduler.accept(job, Manifest({"version": 1}, ()), ShadeSettings(prompt=prompt))
        return jobs

    def turn(self) -> None:
        poller = zmq.Poller()
        poller.register(self.pool.source, zmq.POLLIN)
        poller.poll(100)
        self.pool.receive(self.scheduler.take_message)
        for death in self.pool.check(900.0):
            self.scheduler.take_worker_death(death)
        self.scheduler.run_queued()

    def run(self, jobs: list[str]) -> list[dict[str, Any]]:
        until(lambda: self.turn() or self.ends.keys() >= set(jobs))
        assert {self.ends[job]["state"] for job in jobs} == {DONE}
        return [self.ends[job]["summary"] for job in jobs]

    def events(self, job: str) -> list[Mapping[str, Any]]:
        return [event.body for event in self.store.events(job, 0)]

    def close(self) -> None:
        self.scheduler.close()
        self.store.close()
