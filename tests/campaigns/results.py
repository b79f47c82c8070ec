# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 of workers and backends while results are written: every job gets a whole result."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

from tests.campaigns.table import Row
from tests.helpers.backends import Backend
from tests.helpers.result_shots import at, shot
from trackshade.client import Client
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import TrackshadeError
from trackshade.shot import Shot

STAGES = ("loading", "running", "decoding", "decoding")


def results(folder: Path, count: int, seed: int) -> Row:
    """Kill the worker or the backend once in each of `count` jobs, at some moment from a random stage on."""
    row, rng = Row("kill -9 with results"), random.Random(seed)
    with Backend(folder / "results", "--device", "cpu") as backend, backend.client() as client:
        for number in range(count):
            row.trials += 1
            job = client.submit(_square(), ShadeSettings(output="tracking", seed=number))
            stage = rng.choice(STAGES)
            events = client.events(job)
            next(event for event in events if event.state == stage or event.final)
            time.sleep(rng.uniform(0.0, 0.2))
            if rng.randrange(3):
                _kill_worker(client)
            else:
                backend.kill()
                backend.start()
            _check_result(client, job, folder / "out" / job, row)
        row.lost += len(list((backend.store / "results").glob(".*")))
        if backend.process is None or backend.process.poll() is not None:
            row.ends += 1
        row.read_log(backend.store.with_name(f"{backend.store.name}.log"))
    return row


def _square() -> Shot:
    mini = spec("mini")
    places = [at(0.05 * t, 0, 0, 0.1 * t) for t in range(mini.allowed_frame_counts[0])]
    return shot([("Square", places)], size=mini.sizes[0])


def _kill_worker(client: Client) -> None:
    pid = client.status()["workers"][0]["pid"]
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _check_result(client: Client, job: str, out: Path, row: Row) -> None:
    """Count a job whose result is not there, or not whole."""
    try:
        client.wait(job)
        client.fetch(job, out)
        record = json.loads((out / "job.json").read_text())
        missing = [name for name in record["files"] if not (out / name).exists()]
        frames = len(list((out / "tracking").iterdir()))
    except (TrackshadeError, OSError, ValueError, KeyError) as error:
        row.lost += 1
        row.note(f"{job}: {error}")
        return
    if missing or frames != len(_square().frame_numbers):
        row.lost += 1
        row.note(f"{job}: {frames} frames, without {missing}")
