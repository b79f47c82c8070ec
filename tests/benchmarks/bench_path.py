# SPDX-License-Identifier: GPL-3.0-or-later
"""Capture and sending at the same time, beside each alone: a 300 × 300 grid with a Wave modifier that turns, 49 frames
(53 MB), to a real backend whose store is empty each time.

`python tests/benchmarks/bench_path.py` prints the table; `rows()` gives it to a common runner. The three take turns in
one Blender, and medians are compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from bench_capture import FRAMES, _grid

ROUNDS = 11  # and one before that does not count
Row = tuple[str, str, str]


def rows() -> list[Row]:
    """(name, value, target) of every figure."""
    done = subprocess.run([sys.executable, __file__, "measure"], capture_output=True, text=True, check=True)
    times = json.loads(done.stdout.splitlines()[-1])
    longer = max(times["capture"], times["send"])
    return [
        ("capture alone", f"{1e3 * times['capture']:.0f} ms", ""),
        ("sending alone, digests and storing included", f"{1e3 * times['send']:.0f} ms", ""),
        ("both at once", f"{1e3 * times['both']:.0f} ms", ""),
        ("both at once against the longer of the two", f"{times['both'] / longer:.2f} x", "<= 1.3 x"),
    ]


def _measure() -> dict[str, float]:
    import bpy

    from trackshade.client.job_run import CapturedShot, run_to_end
    from trackshade.config.settings import ShadeSettings
    from trackshade_addon.capture.request import ShotRequest
    from trackshade_addon.jobs.composer import capture_scene

    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, FRAMES
    _grid(scene)
    what = ShotRequest(first_frame="none")
    settings = ShadeSettings(model="das-cogvideox-5b", output_size="model")

    def capture(client: Any) -> CapturedShot:
        return run_to_end(capture_scene(what, scene, client), lambda progress: None)

    captured = capture(None)

    def send(client: Future[Any]) -> None:
        client.result().submit(captured.shot, settings)

    def both(client: Future[Any]) -> None:
        client.result().submit(capture(client).shot, settings)

    work: dict[str, Callable[[Future[Any]], Any]] = {"capture": lambda _: capture(None), "send": send, "both": both}
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(1 + ROUNDS):
        for name, run in work.items():
            with _connected() as client:
                start = time.perf_counter()
                run(client)
                if number:
                    taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


@contextmanager
def _connected() -> Iterator[Future[Any]]:
    """A backend that has nothing yet, and does nothing but take jobs."""
    from trackshade.client import connect, start_private

    with (
        tempfile.TemporaryDirectory() as store,
        start_private(options=["--workers", "0", "--store", store]) as backend,
        connect(backend.info.endpoint, backend.info.token) as client,
    ):
        future: Future[Any] = Future()
        future.set_result(client)
        yield future


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        import os

        print(json.dumps(_measure()), flush=True)
        os._exit(0)  # not by bpy's own exit handlers, in which bpy 4.5 can wait for itself
    for row in rows():
        print("{:60} {:>12} {}".format(*row))
