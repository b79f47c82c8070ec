# SPDX-License-Identifier: GPL-3.0-or-later
"""Test runs leave nothing behind: no job in a shared backend, no process when a run is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.backends import children, gone, until

ROOT = Path(__file__).resolve().parents[2]
PREAMBLE = """
import time
from pathlib import Path
import pytest
from tests.helpers.backends import Backend, grid_shot, until
from trackshade.client import start_private
from trackshade.config.settings import ShadeSettings

FOLDER = Path(__file__).parent
"""
SHARED = """
@pytest.fixture(scope="module")
def backend():
    with Backend(FOLDER / "store", "--workers", "0") as started:
        yield started


def test_leaves_a_job(backend):
    with backend.client() as client:
        client.submit(grid_shot(8), ShadeSettings())


def test_finds_it_cancelled(backend):
    with backend.client() as client:
        assert [job["state"] for job in client.jobs()] == ["cancelled"]
"""
HANGING = """
def test_hangs():
    with Backend(FOLDER / "store", "--device", "cpu") as backend, backend.client() as client:
        with start_private(store=FOLDER / "second", options=["--workers", "0"]) as private:
            client.warm()
            (FOLDER / "pids.partial").write_text(f"{backend.pid} {private.pid}")
            (FOLDER / "pids.partial").rename(FOLDER / "pids")
            time.sleep(600)
"""


def command(folder: Path, tests: str) -> list[str]:
    """A test run of a module with these tests, with what all tests share."""
    path = folder / "test_inner.py"
    path.write_text(PREAMBLE + tests)
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.conftest", str(path)]


def test_jobs_are_cancelled_after_each_test(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, SHARED), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="lists child processes as Linux does")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_killed_run_leaves_no_process(tmp_path: Path, how: str) -> None:
    run = subprocess.Popen(command(tmp_path, HANGING), cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        until(lambda: (tmp_path / "pids").exists() or run.poll() is not None)
        broker, private = (int(pid) for pid in (tmp_path / "pids").read_text().split())
        worker = until(lambda: children(broker))[0]
        run.send_signal(getattr(signal, how))
        run.wait(10)
    finally:
        run.kill()
    for pid in (broker, private, worker):
        until(lambda pid=pid: gone(pid), f"process {pid} is still there")
