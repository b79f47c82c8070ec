# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend that several programs share: found by the second, gone after the last, started again when it dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.backends import until
from trackshade.client import Client, connect, join_shared, start_shared
from trackshade.client.backend_process import MAX_FAILURES, FailureCounter
from trackshade.client.discovery import PATIENCE
from trackshade.core.errors import ProtocolError
from trackshade.core.processes import is_process_alive
from trackshade.ipc import connection_files
from trackshade.ipc.locks import count_owners

OWNER = """
import sys, time
from pathlib import Path
from trackshade.client import start_shared
backend = start_shared(sys.executable, folder=Path(sys.argv[1]))
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def programs(folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two programs that share a backend."""
    started = [
        subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    yield started
    for program in started:
        program.kill()
        program.communicate()


def pid_of(folder: Path) -> int:
    info = connection_files.read(folder / "backend.json")
    assert info is not None
    return info.pid


def test_programs_share_it_and_nothing_is_left_when_they_are_killed(
    folder: Path, programs: list[subprocess.Popen[str]]
) -> None:
    for program in programs:
        assert program.stdout is not None
        assert program.stdout.readline() == "up\n"
    pid = pid_of(folder)
    assert count_owners(folder / "owners") == 2
    programs[0].kill()
    programs[0].wait()
    backend = join_shared(folder)
    assert backend is not None
    with Client(backend.address, PATIENCE, backend) as client:
        assert client.status()["pid"] == pid
    assert is_process_alive(pid)  # the other one still needs it
    programs[1].kill()
    programs[1].wait()
    until(lambda: not is_process_alive(pid))
    assert join_shared(folder) is None
    assert count_owners(folder / "owners") == 0
    assert list((folder / "owners").iterdir()) == []


def test_a_killed_backend_is_started_again_until_that_fails_three_times(folder: Path) -> None:
    backend = start_shared(sys.executable, folder=folder)
    with Client(backend.address, PATIENCE, backend) as client:
        for _ in range(MAX_FAILURES - 1):
            pid = client.status()["pid"]
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: not is_process_alive(pid))
            assert client.status()["pid"] != pid
        os.kill(client.status()["pid"], signal.SIGKILL)
        with pytest.raises(ProtocolError) as caught:
            until(lambda: client.status() is None)
        assert caught.value.code == "backend-gave-up"


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be removed there")
def test_a_folder_that_was_removed_is_made_again(folder: Path) -> None:
    backend = start_shared(sys.executable, folder=folder, options=["--workers", "0"])
    with Client(backend.address, PATIENCE, backend) as client:
        first = pid_of(folder)
        shutil.rmtree(folder, ignore_errors=True)
        until(lambda: not is_process_alive(first))
        shutil.rmtree(folder, ignore_errors=True)  # what it wrote meanwhile
        client.check()
        assert pid_of(folder) != first
        assert count_owners(folder / "owners") == 1


def test_a_python_without_the_backend_is_given_up_with_its_own_words(folder: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho $0 >>" + str(tmp_path / "attempts") + "\necho No module named trackshade >&2; exit 1\n"
    )
    python.chmod(0o700)
    with pytest.raises(ProtocolError, match="No module named trackshade") as caught:
        start_shared(python, folder=folder)
    assert caught.value.code == "backend-gave-up"
    assert len((tmp_path / "attempts").read_text().splitlines()) == MAX_FAILURES
    assert count_owners(folder / "owners") == 0


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own without any room. Skips where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", disk]).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with contextlib.suppress(OSError), open(disk / "holiday.mov", "wb", buffering=0) as file:
            while file.write(b"\0" * 4096):
                continue
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_said_though_the_backend_could_not_even_log_it(full_disk: Path) -> None:
    with pytest.raises(ProtocolError, match=f"The disk of {full_disk}.* is full") as caught:
        start_shared(sys.executable, folder=full_disk)
    assert caught.value.code == "disk-full"


def test_a_folder_that_cannot_be_written_is_what_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProtocolError, match="cannot be written") as caught:
        start_shared(sys.executable, folder=tmp_path / "file")
    assert caught.value.code == "unwritable"
    log = tmp_path / "shared" / "log"
    log.mkdir(parents=True)
    with pytest.raises(ProtocolError, match="shared cannot be written") as caught:
        start_shared(sys.executable, folder=log.parent)
    assert "Python" not in str(caught.value)


def test_a_python_that_is_none_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="no-python cannot be run"):
        start_shared(tmp_path / "no-python", folder=folder)


def test_the_running_one_is_joined_rather_than_another_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    with connect(python=sys.executable, shared=True) as first:
        pid = first.status()["pid"]
        with connect() as second:
            assert second.status()["pid"] == pid
        assert is_process_alive(pid)
    assert not is_process_alive(pid)


def test_a_backend_that_held_for_long_may_fail_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = FailureCounter()
    for _ in range(MAX_FAILURES - 1):
        failures.add("a reason")
    monkeypatch.setattr("trackshade.client.backend_process.STABLE_AFTER", -1.0)
    failures.note_start()
    failures.add_end("another")
    failures.check()
    for _ in range(MAX_FAILURES - 1):
        failures.add("a third")
    with pytest.raises(ProtocolError, match="a third"):
        failures.check()
