# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers on a real Ray cluster of several nodes on this machine: jobs spread, nodes are lost, many jobs are queued."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.helpers.backends import Backend, until
from tests.helpers.ray_jobs import WaitingWorker
from tests.helpers.result_shots import at, shot
from trackshade.client import Client
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ProtocolError, TrackshadeError
from trackshade.ipc import Manifest
from trackshade.ipc.protocol import DONE, FINAL_STATES
from trackshade.server.job_store import JobStore, StoredEvent
from trackshade.server.ray_cluster import RayCluster
from trackshade.server.ray_pool import RayPool
from trackshade.server.scheduler import Scheduler

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
MINI = spec("mini")
COUNT, SIZE = MINI.allowed_frame_counts[0], MINI.sizes[0]
IMAGE = np.full((*SIZE[::-1], 3), 90, np.uint8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, so that all workers are on the nodes that tests add."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def add_node(cluster: Any) -> Any:
    """Add a node for one worker. On a busy machine, Ray gives up before a node has started."""
    for _ in range(2):
        with contextlib.suppress(Exception):
            return cluster.add_node(num_cpus=1, include_dashboard=False)
    return cluster.add_node(num_cpus=1, include_dashboard=False)


@pytest.fixture(scope="module")
def nodes(cluster: Any) -> list[Any]:
    """Two nodes for one worker each."""
    return [add_node(cluster) for _ in range(2)]


@pytest.fixture
def served(cluster: Any, nodes: list[Any], tmp_path: Path) -> Iterator[Backend]:
    with Backend(tmp_path / "store", "--ray", cluster.address, "--cancel-grace", "20") as backend:
        yield backend


def square(count: int = COUNT) -> Any:
    """A square that turns; its first frame is carried to all others, which needs no model."""
    return shot([("Square", [at(0.01 * (t % 50), 0, 0, 0.1 * t) for t in range(count)])], size=SIZE)


def workers(client: Client) -> list[dict[str, Any]]:
    return client.status()["workers"]


def test_jobs_of_one_shot_spread_and_give_what_one_machine_gives(
    served: Backend, backend: Backend, tmp_path: Path
) -> None:
    """Seeds are jobs of one shot. The chunks and the result travel, since nodes share no folder with the broker."""
    settings = [ShadeSettings(seed=seed, light="none") for seed in (1, 2)]
    with served.client() as client:
        jobs = [client.submit(square(), item, IMAGE) for item in settings]
        busy = until(lambda: len({item["node"] for item in workers(client) if item["job"]}) == 2)
        assert busy
        for number, job in enumerate(jobs):
            client.wait(job)
            client.fetch(job, tmp_path / f"ray-{number}")
        pids = {item["pid"] for item in workers(client)}
        job = client.submit(square(2000), settings[0], IMAGE)
        events = client.events(job)
        next(event for event in events if event.state == "running" and (event.step or 0) >= 1)
        client.cancel(job)
        assert list(events)[-1].state == "cancelled"
        failing = client.submit(square(), ShadeSettings(light="render"), IMAGE)
        with pytest.raises(TrackshadeError, match="none was sent"):
            client.wait(failing)
        assert {item["pid"] for item in workers(client)} == pids  # the workers live on
    with backend.client() as client:
        for number, item in enumerate(settings):
            job = client.submit(square(), item, IMAGE)
            client.wait(job)
            client.fetch(job, tmp_path / f"here-{number}")
    for number in range(2):
        folders = [tmp_path / f"{name}-{number}" for name in ("ray", "here")]
        files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in folders]
        assert files[0] == files[1]
        for name in files[0]:
            if name.endswith(".png") and "sheet" not in name:
                remote, local = (np.asarray(Image.open(folder / name)) for folder in folders)
                np.testing.assert_array_equal(remote, local)
        records = [json.loads((folder / "job.json").read_text()) for folder in folders]
        assert records[0]["shot"]["digest"] == records[1]["shot"]["digest"]


class Queue:
    """The broker's scheduler with its store and workers on a cluster, driven by the test."""

    def __init__(self, folder: Path, address: str) -> None:
        self.store = JobStore(folder)
        self.pool = RayPool(RayCluster(address, worker=WaitingWorker), 5.0, None)
        self.ends: dict[str, dict[str, Any]] = {}
        self.scheduler = Scheduler(self.store, self.pool, self._publish, self.pool.source.set, defer_queued=False)

    def _publish(self, event: StoredEvent) -> None:
        if event.body.get("state") in FINAL_STATES:
            self.ends[event.job] = dict(event.body)

    def submit(self, count: int, seconds: float) -> list[str]:
        jobs = [f"{number:016x}" for number in range(count)]
        for job in jobs:
            self.scheduler.accept(job, Manifest({"version": 1}, ()), ShadeSettings(prompt=str(seconds)))
        return jobs

    def turn(self) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(self.pool.source, zmq.POLLIN)
        poller.poll(100)
        self.pool.receive(self.scheduler.take_message)
        for death in self.pool.check(900.0):
            self.scheduler.take_worker_death(death)
        self.scheduler.run_queued()

    def run(self, jobs: list[str]) -> list[dict[str, Any]]:
        until(lambda: self.turn() or len(self.ends) == len(jobs))
        assert {self.ends[job]["state"] for job in jobs} == {DONE}
        return [self.ends[job]["summary"] for job in jobs]

    def close(self) -> None:
        self.scheduler.close()
        self.store.close()


def kill_node(cluster: Any, node: Any) -> None:
    """kill -9 of everything that makes a node of a cluster."""
    for processes in node.all_processes.values():
        for item in processes:
            psutil.Process(item.process.pid).send_signal(signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def test_a_node_that_is_killed_costs_its_job_the_time_and_nothing_else(
    cluster: Any, nodes: list[Any], tmp_path: Path
) -> None:
    node = add_node(cluster)
    queue = Queue(tmp_path / "store", cluster.address)
    jobs = queue.submit(5, 4.0)

    def job_on_it() -> str | None:
        queue.turn()
        return next((item["job"] for item in queue.pool.describe() if item["node"] == node.node_id), None)

    lost = until(job_on_it)
    kill_node(cluster, node)
    queue.run(jobs)
    events = [event.body for event in queue.store.events(lost, 0)]
    again = [body["message"] for body in events if body["state"] == "queued" and "message" in body]
    assert len(again) == 1
    assert again[0].endswith("The job starts again.")
    assert queue.store.job(lost).deaths == 0  # which would make it fail when another one is lost
    queue.close()


def test_a_thousand_queued_jobs_on_several_workers(cluster: Any, nodes: list[Any], tmp_path: Path) -> None:
    """The jobs wait instead of computing, so that all workers are busy whatever the number of processors is."""
    queue = Queue(tmp_path / "store", cluster.address)
    jobs = queue.submit(1000, 0.02)
    summaries = queue.run(jobs)
    count = len({item["pid"] for item in summaries})
    assert count == queue.pool.room >= len(nodes)
    assert all((queue.store.result(job) / "job.json").is_file() for job in jobs)
    changes = [(item["started"], 1) for item in summaries] + [(item["ended"], -1) for item in summaries]
    assert np.cumsum([change for _, change in sorted(changes)]).max() == count  # at a time
    queue.close()


def test_what_stands_in_the_way_of_a_cluster_is_a_sentence() -> None:
    with pytest.raises(ProtocolError, match=r"No Ray cluster at 127\.0\.0\.1:1: "):
        RayCluster("127.0.0.1:1")
