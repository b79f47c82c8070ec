# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers on a real Ray cluster of several nodes on this machine: jobs and their parts spread, nodes are lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.backends import Backend, until
from tests.helpers.ray_jobs import Queue, add_node, kill_node, start_cluster
from tests.helpers.result_shots import at, shot
from trackshade.client import Client
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ProtocolError, TrackshadeError
from trackshade.ipc.protocol import CANCELLED, FAILED
from trackshade.server.ray_cluster import RayCluster

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
MINI = spec("mini")
LONG = 120  # frames, enough for a second worker to begin with some
COUNT, SIZE = MINI.allowed_frame_counts[0], MINI.sizes[0]
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), np.uint8)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with start_cluster() as started:
        yield started


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


@pytest.mark.long
def test_jobs_of_one_shot_spread_and_give_what_one_machine_gives(
    served: Backend, backend: Backend, tmp_path: Path
) -> None:
    """Seeds are jobs of one shot; frames of one job are drawn by both workers.

    The chunks and the result travel, since nodes share no folder with the broker.
    """
    settings = [ShadeSettings(seed=seed, light="none") for seed in (1, 2)]
    with served.client() as client:
        jobs = [client.submit(square(), item, IMAGE) for item in settings]
        busy = until(lambda: len({item["node"] for item in workers(client) if item["job"]}) == 2)
        assert busy
        for number, job in enumerate(jobs):
            client.wait(job)
            client.fetch(job, tmp_path / f"ray-{number}")
        pids = {item["pid"] for item in workers(client)}
        job = client.submit(square(2000), settings[0], IMAGE)  # alone, so that the other worker helps
        events = client.events(job)
        next(event for event in events if event.state == "running" and (event.step or 0) >= 1)
        assert until(lambda: [item["helps"] for item in workers(client) if item["helps"]]) == [job]
        client.cancel(job)
        assert list(events)[-1].state == "cancelled"
        until(lambda: not any(item["helps"] for item in workers(client)))
        job = client.submit(square(LONG), settings[0], IMAGE)
        until(lambda: any(item["helps"] == job for item in workers(client)))
        client.wait(job)
        client.fetch(job, tmp_path / "ray-2")
        failing = client.submit(square(), ShadeSettings(light="render"), IMAGE)
        with pytest.raises(TrackshadeError, match="none was sent"):
            client.wait(failing)
        assert {item["pid"] for item in workers(client)} == pids  # the workers live on
    with backend.client() as client:
        for number, count in ((0, COUNT), (2, LONG)):
            job = client.submit(square(count), settings[0], IMAGE)
            client.wait(job)
            client.fetch(job, tmp_path / f"here-{number}")
    for number in (0, 2):
        folders = [tmp_path / f"{name}-{number}" for name in ("ray", "here")]
        files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in folders]
        assert files[0] == files[1]
        for name in files[0]:
            if name.endswith(".png") and "sheet" not in name:
                remote, local = (np.asarray(Image.open(folder / name)) for folder in folders)
                np.testing.assert_array_equal(remote, local)
        records = [json.loads((folder / "job.json").read_text()) for folder in folders]
        assert records[0]["shot"]["digest"] == records[1]["shot"]["digest"]


@pytest.fixture(scope="module")
def queue(cluster: Any, nodes: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queue]:
    """The broker's queue, whose jobs and parts wait instead of computing, so that all workers are busy."""
    made = Queue(tmp_path_factory.mktemp("queue") / "store", cluster.address)
    until(
        lambda: len({item["pid"] for item in made.run(made.submit(len(nodes), "0.5"))}) == len(nodes)
    )  # all have started
    yield made
    made.close()


def helpers(queue: Queue, job: str) -> list[str]:
    """Nodes of the workers that do parts of a job, after a turn of the queue."""
    queue.turn()
    return [item["node"] for item in queue.pool.describe() if item["helps"] == job]


@pytest.mark.long
def test_hundreds_of_queued_jobs_on_several_workers(queue: Queue, nodes: list[Any]) -> None:
    jobs = queue.submit(300, "0.02")
    summaries = queue.run(jobs)
    count = len({item["pid"] for item in summaries})
    assert count == queue.pool.room >= len(nodes)
    assert all((queue.store.result(job) / "job.json").is_file() for job in jobs)
    changes = [(item["started"], 1) for item in summaries] + [(item["ended"], -1) for item in summaries]
    assert np.cumsum([change for _, change in sorted(changes)]).max() == count  # at a time


@pytest.mark.long
def test_helpers_leave_for_jobs_that_wait_and_for_a_cancel(queue: Queue, nodes: list[Any]) -> None:
    (job,) = queue.submit(1, "1000 0.1")
    until(lambda: helpers(queue, job))
    queue.run(queue.submit(2, "0.1"))
    assert job not in queue.ends
    until(lambda: helpers(queue, job))
    queue.scheduler.cancel(job)
    until(lambda: not helpers(queue, job) and job in queue.ends)
    assert queue.ends[job]["state"] == CANCELLED


def test_a_node_that_is_killed_while_it_helps_costs_one_part(cluster: Any, queue: Queue, nodes: list[Any]) -> None:
    """All parts of the job are there, in order, and the job was not started again."""
    (job,) = queue.submit(1, "40 0.1")
    (lost,) = until(lambda: helpers(queue, job))
    kill_node(cluster, next(node for node in nodes if node.node_id == lost))
    (summary,) = queue.run([job])
    assert [item["index"] for item in summary["parts"]] == list(range(40))
    assert summary["parts"][-1]["pid"] == summary["pid"]
    assert not any("message" in body for body in queue.events(job) if body["state"] == "queued")
    nodes[:] = [node for node in nodes if node.node_id != lost]


def test_a_node_that_is_killed_costs_its_job_the_time_and_nothing_else(
    cluster: Any, queue: Queue, nodes: list[Any]
) -> None:
    node = add_node(cluster)

    def on_it() -> list[dict[str, Any]]:
        queue.turn()
        return [item for item in queue.pool.describe() if item["node"] == node.node_id]

    until(lambda: queue.run(queue.submit(len(nodes) + 1, "0.1")) and on_it())  # its worker has started
    jobs = queue.submit(3, "1.0")
    lost = until(lambda: on_it()[0]["job"])
    kill_node(cluster, node)
    queue.run(jobs)
    again = [body["message"] for body in queue.events(lost) if body["state"] == "queued" and "message" in body]
    assert len(again) == 1
    assert again[0].endswith("The job starts again.")
    assert queue.store.job(lost).deaths == 0  # which would make it fail when another one is lost


@pytest.mark.long
def test_a_job_whose_worker_cannot_take_chunks_fails_with_the_reason(queue: Queue, nodes: list[Any]) -> None:
    """Instead of waiting for ever for what will not arrive."""
    (job,) = queue.submit(1, "chunk")
    until(lambda: queue.turn() or job in queue.ends)
    assert queue.ends[job]["state"] == FAILED
    assert "no chunk can be taken" in str(queue.ends[job]["error"])
    queue.run(queue.submit(2, "0.1"))  # others run


def test_what_stands_in_the_way_of_a_cluster_is_a_sentence() -> None:
    with pytest.raises(ProtocolError, match=r"No Ray cluster at 127\.0\.0\.1:1: "):
        RayCluster("127.0.0.1:1")
