# SPDX-License-Identifier: GPL-3.0-or-later
"""What killed programs leave behind is deleted by the next one, and what running ones use is kept."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.backends import Backend, environment, gone, until
from trackshade.client import Client, start_private
from trackshade.client.output_folder import OutputFolder
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import JobError
from trackshade.ipc import Manifest
from trackshade.ipc import protocol as states
from trackshade.ipc.leftovers import LOCK, temporary_folder
from trackshade.server.cleaning import StoreLimits, clean_store
from trackshade.server.job_store import JobStore

DAY = 86400.0
LOCKING = """
import sys
from pathlib import Path
from trackshade.ipc.leftovers import FolderLock
folder = Path(sys.argv[1])
folder.mkdir()
lock = FolderLock(folder)
(folder / "frame").write_text("half")
print(1, flush=True)
sys.stdin.read()
"""
OWNER = """
import sys
from trackshade.client import start_private
backend = start_private(options=["--workers", "0"])
print(backend.pid, backend._folder, flush=True)
sys.stdin.read()
"""


@contextmanager
def started(code: str, *arguments: str, home: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run Python code in a process up to its first line, and kill it after the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(home) if home is not None else None,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().split()
    finally:
        process.kill()
        process.communicate()


def make_older(store: Path, name: str, mark: str, days: float) -> None:
    """Have the clock of a closed store say that something was noticed some days ago."""
    database = sqlite3.connect(store / "jobs.sqlite3")
    database.execute("INSERT OR REPLACE INTO noticed VALUES (?, ?, ?)", (name, mark, -days * DAY))
    database.commit()
    database.close()


@pytest.fixture
def done(tmp_path: Path) -> Iterator[Client]:
    """A client of a backend that has a finished job."""
    store = JobStore(tmp_path / "store")
    store.add("done", Manifest({}, ()), {})
    store.result("done").mkdir()
    (store.result("done") / "job.json").write_text("{}")
    store.record_event("done", {"state": states.DONE})
    store.close()
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        yield client


def test_a_partial_result_of_a_killed_client_is_deleted(done: Client, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    killed, used = results / ".out.partial-00000001", results / ".other.partial-00000002"
    old = results / ".old.partial-00000003"
    old.mkdir()
    os.utime(old, (time.time() - 2 * DAY, time.time() - 2 * DAY))
    (results / ".new.partial-00000004").mkdir()
    with started(LOCKING, str(killed)):
        pass
    with started(LOCKING, str(used)):
        assert done.fetch("done", results / "out") == results / "out"
        assert sorted(os.listdir(results)) == [".new.partial-00000004", used.name, "out"]
        assert os.listdir(results / "out") == ["job.json"]
        assert (used / LOCK).exists()
    OutputFolder.reserve(results, "next", registry.spec("mini"))
    assert sorted(os.listdir(results)) == [".new.partial-00000004", "next", "out"]


def test_a_result_with_foreign_files_can_be_fetched(done: Client, tmp_path: Path) -> None:
    for name in (".DS_Store", "notes!.txt"):
        (tmp_path / "store" / "results" / "done" / name).touch()
    done.fetch("done", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["job.json"]


def test_a_result_that_somebody_deleted_is_told(done: Client, tmp_path: Path) -> None:
    (tmp_path / "store" / "results" / "done" / "job.json").unlink()
    with pytest.raises(JobError) as caught:
        done.fetch("done", tmp_path / "out")
    assert caught.value.code == "result-gone"
    assert not (tmp_path / "out").exists()


def test_the_temporary_folder_of_a_killed_owner_is_deleted(tmp_path: Path) -> None:
    with started(OWNER, home=tmp_path / "a") as (_, (pid, folder)), started(OWNER, home=tmp_path / "b") as (_, other):
        assert Path(folder).parent == Path(tempfile.gettempdir())
        with temporary_folder():
            assert Path(folder).exists()
            assert Path(other[1]).exists()
    until(lambda: gone(int(pid)) and gone(int(other[0])))
    with temporary_folder() as mine:
        assert mine.exists()
        assert not Path(folder).exists()
        assert not Path(other[1]).exists()
    assert not mine.exists()


def test_a_job_that_nobody_claims_is_cancelled_in_the_end(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "s")
    for job in ("old", "new"):
        store.add(job, Manifest({}, ()), ShadeSettings().to_dict())
    store.close()
    make_older(tmp_path / "s", "old", "unclaimed", 8)
    options = ["--workers", "0"]
    with start_private(store=tmp_path / "s", options=options) as private, Client(private.address, 20) as client:
        until(lambda: {job["id"]: job["state"] for job in client.jobs()} == {"old": "cancelled", "new": "queued"})
        assert "No program" in list(client.events("old"))[-1].message


def test_old_stores_of_private_backends_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    JobStore(tmp_path / "jobs").close()
    for number in (2, 3, 4):
        JobStore(tmp_path / f"jobs-{number}").close()
    (tmp_path / "jobs-5").mkdir()  # a backend begins to make it
    held = JobStore(tmp_path / "jobs-4")
    for number in (3, 4):
        latest = max(path.stat().st_mtime for path in (tmp_path / f"jobs-{number}").glob("jobs.sqlite3*"))
        make_older(tmp_path / "jobs", f"store jobs-{number}", repr(latest), 31)
    with start_private(options=["--workers", "0"]):
        assert sorted(path.name for path in tmp_path.glob("jobs*")) == ["jobs", "jobs-2", "jobs-4", "jobs-5"]
    held.close()


# results


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the results of four jobs, each of 1000 bytes, that ended 40, 20, 2 and 0 days ago."""
    opened = JobStore(tmp_path / "store")
    for number, days in enumerate((40, 20, 2, 0)):
        job = f"job-{number}"
        opened.add(job, Manifest({}, ()), {})
        opened.result(job).mkdir()
        (opened.result(job) / "video").write_bytes(bytes(1000))
        opened.record_event(job, {"state": states.DONE})
        make_older(opened.folder, job, "ended", days)
    opened.close()
    return opened.folder


@pytest.mark.parametrize(
    ("days", "size", "left"),
    [(None, None, 4), (30, None, 3), (1, None, 1), (None, 4000, 4), (None, 2500, 2), (None, 0, 1), (30, 1500, 1)],
)
def test_results_are_kept_within_age_and_size(store: Path, days: float | None, size: float | None, left: int) -> None:
    """The latest one is kept whatever its size, since it may still be fetched."""
    opened = JobStore(store)
    for _ in clean_store(opened, StoreLimits(7, None, days, size)):
        continue
    kept = [f"job-{number}" for number in range(4 - left, 4)]
    assert [job.id for job in opened.jobs()] == kept
    assert sorted(os.listdir(store / "results")) == kept
    opened.close()


def test_a_backend_keeps_results_within_its_limits(store: Path) -> None:
    with Backend(store, "--workers", "0", "--result-days", "10") as backend, backend.client() as client:
        until(lambda: [job["id"] for job in client.jobs()] == ["job-2", "job-3"])
