# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs, and the parts of one job, on several nodes of a Ray cluster against one; all nodes are on this machine.

    python tests/benchmarks/bench_ray.py

Where more nodes than processors are measured, jobs and parts wait for a second instead of computing, so the figures are
what the distribution of work costs: starting, messages, results, the last ones that run alone. The frames of a real
propagation are measured with a processor for each of one and two nodes: a terrain of 130,000 triangles at 640 × 360,
where the second node's share begins with the transfer of the prepared propagation.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_propagation import _picture, _scene

from tests.helpers.backends import until  # pyright: ignore[reportMissingImports]
from tests.helpers.ray_jobs import Queue, WaitingWorker, add_node, start_cluster  # pyright: ignore[reportMissingImports]
from trackshade.propagation import KeyPicture, Propagation
from trackshade.server.parts import Packed
from trackshade.server.propagate import FrameParts
from trackshade.server.ray_worker import RayWorker

NODES = (1, 2, 4, 8)
JOBS, PARTS, SECONDS = 64, 64, 1.0
FRAMES, SIZE = 60, (640, 360)
Row = tuple[str, str, str]


class DrawingWorker(RayWorker):
    """Draws the frames of a propagation; its result is how long that took, without the preparation."""

    def write_result(self, manifest: Any, settings: Any, chunks: Path, folder: Path) -> dict[str, Any]:
        propagation = Propagation(_scene(FRAMES, SIZE), [KeyPicture(0, _picture(SIZE))])
        propagation.prepare()
        parts = _CountedFrames(propagation, range(FRAMES), None, "png", alpha=False)
        propagation.frame(0)
        began = time.perf_counter()
        size = sum(array.nbytes for _, arrays in self.spread(parts) for array in arrays)
        seconds = time.perf_counter() - began
        shared = sum(array.nbytes for array in parts.pack()[1])
        (folder / "job.json").write_text("{}")
        return {"seconds": seconds, "here": parts.here, "shared": shared, "frame": size // FRAMES}


class _CountedFrames(FrameParts):
    """Frames that count those that the worker of the job has drawn itself."""

    here = 0

    def do(self, index: int) -> Packed:
        self.here += 1
        return super().do(index)


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    return list(measure())


def measure() -> Iterator[Row]:
    """Yield every figure as soon as it is there."""
    os.environ.setdefault("PYTHONPATH", f"{Path(__file__).parents[2]}:{Path(__file__).parent}")
    wait = f"that wait {SECONDS:g} s instead of computing"
    with start_cluster() as cluster, tempfile.TemporaryDirectory() as text:
        folder, address = Path(text), cluster.address
        for _ in range(max(NODES)):
            add_node(cluster)
        yield from _scaling(f"{JOBS} jobs {wait}", lambda count: _time_jobs(folder / f"jobs-{count}", address, count))
        yield from _scaling(
            f"one job of {PARTS} parts {wait}", lambda count: _time_parts(folder / f"parts-{count}", address, count)
        )
        what = f"{FRAMES} frames of {SIZE[0]} × {SIZE[1]} of one job"
        one = _draw(folder / "frames-1", address, 1)
        yield f"{what}, one node with one processor", f"{one['seconds']:.1f} s", ""
        two = _draw(folder / "frames-2", address, 2)
        there = FRAMES - two["here"]
        value = f"{one['seconds'] / two['seconds']:.2f} x, {there} frames by the second node"
        yield "the same, two nodes with one processor each", value, ""
        yield "what the second node is sent once", f"{two['shared'] / 1e6:.0f} MB", ""
        yield "what it sends for a frame", f"{two['frame'] / 1e6:.1f} MB", ""


def _scaling(name: str, time_on: Callable[[int], float]) -> Iterator[Row]:
    """Yield the time on one node, and by how much more nodes are faster."""
    alone = time_on(NODES[0])
    yield f"{name}, 1 node", f"{alone:.1f} s", ""
    for count in NODES[1:]:
        yield f"the same, {count} nodes", f"{alone / time_on(count):.2f} x", f">= {0.75 * count:g} x"


def _ready_queue(folder: Path, address: str, count: int, worker: type[RayWorker] = WaitingWorker) -> Queue:
    """A queue all of whose workers have started."""
    queue = Queue(folder, address, worker, count)
    queue.pool.start_for(count)
    until(lambda: queue.turn() or sum(item["ready"] for item in queue.pool.describe()) == count)
    return queue


def _time_jobs(folder: Path, address: str, count: int) -> float:
    queue = _ready_queue(folder, address, count)
    began = time.perf_counter()
    queue.run(queue.submit(JOBS, str(SECONDS)))
    seconds = time.perf_counter() - began
    queue.close()
    return seconds


def _time_parts(folder: Path, address: str, count: int) -> float:
    queue = _ready_queue(folder, address, count)
    began = time.perf_counter()
    (summary,) = queue.run(queue.submit(1, f"{PARTS} {SECONDS}"))
    seconds = time.perf_counter() - began
    assert [item["index"] for item in summary["parts"]] == list(range(PARTS))
    queue.close()
    return seconds


def _draw(folder: Path, address: str, count: int) -> dict[str, Any]:
    queue = _ready_queue(folder, address, count, DrawingWorker)
    processors = sorted(os.sched_getaffinity(0))
    for number, item in enumerate(queue.pool.describe()):
        for thread in os.listdir(f"/proc/{item['pid']}/task"):
            os.sched_setaffinity(int(thread), {processors[number % len(processors)]})
    (job,) = queue.submit(1, "")
    while job not in queue.ends:
        queue.turn()
    summary = queue.ends[job]["summary"]
    queue.close()
    return summary


if __name__ == "__main__":
    for name, value, target in measure():
        print(f"{name:80s} {value:>40s}  {target}", flush=True)
