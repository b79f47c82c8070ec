# SPDX-License-Identifier: GPL-3.0-or-later
"""What may happen to a machine ends a request at most, never the backend: locks, full disks, lost folders."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest

from tests.helpers.backends import LONG, Backend, Raw, grid_shot, limited_file_size, until
from trackshade.client import Client, job_run
from trackshade.client.output_folder import OutputFolder
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, JobError, OutputError, TrackshadeError
from trackshade.ipc import Manifest, Message, digest_of, encode
from trackshade.ipc import protocol as states
from trackshade.server.chunk_store import ChunkStore
from trackshade.server.job_store import JobStore
from trackshade.server.request_handler import JOBS_PER_REPLY

SETTINGS = ShadeSettings(prompt="a test", light="render")  # a job fails at once, as no render is sent


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """A backend that only accepts jobs."""
    with Backend(tmp_path / "store", "--workers", "0") as started:
        yield started
        assert started.process is not None
        assert started.process.poll() is None


@pytest.fixture
def client(backend: Backend) -> Iterator[Client]:
    with backend.client() as opened:
        yield opened


@contextmanager
def locked_database(store: Path) -> Iterator[None]:
    """Lock the database as a program for backups may do."""
    other = sqlite3.connect(store / "jobs.sqlite3", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def test_a_locked_database_refuses_a_job_and_cancels_one(backend: Backend, client: Client) -> None:
    job = client.submit(grid_shot(count=2), SETTINGS)
    with locked_database(backend.store):
        with pytest.raises(OutputError) as caught:
            client.submit(grid_shot(count=2), SETTINGS)
        assert caught.value.code == "store-unwritable"
        assert "locked" in caught.value.message
        assert client.cancel(job) == "cancelled"
        assert client.cancel(job) == "cancelled"
    assert [event.state for event in client.events(job)] == ["queued", "cancelled"]
    backend.kill()
    backend.start()
    assert {found["id"]: found["state"] for found in client.jobs()} == {job: "cancelled"}


def test_a_full_disk_does_not_stop_a_cancel_and_is_told(
    backend: Backend, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_run, "ASK_EVERY", 0.1)
    opened: Future[Client] = Future()
    opened.set_result(client)
    job = client.submit(grid_shot(count=2), SETTINGS)
    assert client.waiting_reason(job) == ""
    following = job_run.resume_job(job, opened, OutputFolder(tmp_path / "out"))
    with limited_file_size(backend.pid, 1000):
        assert client.cancel(job) == "cancelled"
        shown = next(progress for progress in following if str(backend.store) in progress.message)
        assert (shown.state, shown.waits) == ("queued", True)
        assert [found["waiting"] for found in client.jobs()] == [shown.message]
    with pytest.raises(CancelledError):  # it goes on
        list(following)
    assert [found["waiting"] for found in client.jobs()] == [""]
    assert [event.state for event in client.events(job)] == ["queued", "cancelled"]


def test_no_file_descriptor_left_is_an_error_of_the_request(backend: Backend, client: Client) -> None:
    job = client.submit(grid_shot(count=2), SETTINGS)
    before = resource.prlimit(backend.pid, resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir(f"/proc/{backend.pid}/fd")) + 1
    resource.prlimit(backend.pid, resource.RLIMIT_NOFILE, (used, before[1]))
    try:
        filler = [Raw(backend.info.endpoint) for _ in range(4)]  # take what was free below the highest one
        with pytest.raises(TrackshadeError):
            until(lambda: client.submit(grid_shot(count=9, seed=1), SETTINGS) and None)
        for raw in filler:
            raw.__exit__()
    finally:
        resource.prlimit(backend.pid, resource.RLIMIT_NOFILE, before)
    assert client.submit(grid_shot(count=9, seed=2), SETTINGS)
    assert job in [found["id"] for found in client.jobs()]


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that has room for bytes, but for 700 files only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_no_inode_left_is_an_error_of_the_request(few_inodes: Path) -> None:
    with Backend(few_inodes / "store", "--device", "cpu") as backend, backend.client() as client:
        job = client.submit(grid_shot(count=2), SETTINGS)
        with pytest.raises(TrackshadeError, match="input render"):
            client.wait(job)
        shutil.rmtree(backend.store / "logs")
        client.free()
        filler = few_inodes / "filler"
        filler.mkdir()
        with pytest.raises(OSError, match="space"):  # noqa: PT012 - until there is no inode left
            for number in range(700):
                (filler / str(number)).touch()
        with pytest.raises(OutputError) as caught:
            client.submit(grid_shot(side=200, count=9, seed=1), SETTINGS)
        assert caught.value.code == "store-unwritable"
        again = client.submit(grid_shot(count=2), ShadeSettings(prompt="again", light="render"))
        with pytest.raises(TrackshadeError):  # its worker has no log, and may have no folder to write to
            client.wait(again)
        shutil.rmtree(filler)
        assert client.submit(grid_shot(side=200, count=9, seed=1), SETTINGS)
        assert client.status()["pid"] == backend.pid


def test_deleted_folders_are_made_again(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--device", "cpu") as backend, backend.client() as client:
        for name in ("logs", "results", "chunks"):
            shutil.rmtree(backend.store / name)
        with pytest.raises(TrackshadeError) as caught:
            client.wait(client.submit(grid_shot(count=2), SETTINGS))
        assert caught.value.code == "no-input-render"  # what the worker says about the job itself
        assert client.status()["pid"] == backend.pid


@pytest.mark.parametrize("lost", ["store", "jobs.sqlite3", "workers.ipc"])
def test_a_backend_whose_files_are_removed_ends_with_a_sentence(tmp_path: Path, lost: str) -> None:
    """It could not be reached any more, and would lose the jobs that it accepts."""
    with Backend(tmp_path / "store", "--workers", "0") as backend:
        if lost == "store":
            backend.store.rename(tmp_path / "elsewhere")
            backend.store.write_text("a file")
        else:
            (backend.store / lost).unlink()
        assert backend.process is not None
        assert backend.process.wait(LONG) == OutputError.default_exit_code
        said = (tmp_path / "store.log").read_text()
        assert "was removed, moved or replaced while" in said
        assert "Traceback" not in said
        assert not backend.file.exists()


def test_logs_that_cannot_be_written_do_not_stop_workers(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--device", "cpu") as backend, backend.client() as client:
        shutil.rmtree(backend.store / "logs")
        (backend.store / "logs").write_text("a file")
        with pytest.raises(TrackshadeError) as caught:
            client.wait(client.submit(grid_shot(count=2), SETTINGS))
        assert caught.value.code == "no-input-render"


def test_strange_tokens_at_the_door_for_workers(tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--device", "cpu") as backend, backend.client() as client:
        with Raw(f"ipc://{backend.store / 'workers.ipc'}") as raw:
            for token in ("ä" * 40, None, 7, {"x": 1}, "x" * 100_000):
                raw.send(*encode(Message("ready", 0, {"token": token})))
            raw.send(*encode(Message("failed", 0, {"job": "x"})))
            raw.send(b"\xc1")
        with pytest.raises(TrackshadeError) as caught:
            client.wait(client.submit(grid_shot(count=2), SETTINGS))
        assert caught.value.code == "no-input-render"
        assert "Traceback" not in backend.store.with_name("store.log").read_text()


def test_header_keys_of_every_kind_get_a_sentence(backend: Backend) -> None:
    with Raw(backend.info.endpoint) as raw:
        raw.hello(backend.info.token)
        for keys in ({b"x": 1, "y": 2}, {b"x": 1}, {"": 1, b"": 2}):
            header = {"v": 1, "type": "ping", "id": 4, "body": {}, **keys}
            raw.send(bytes(msgpack.packb(header) or b""))
            assert raw.receive().body["code"] == "malformed-message"


def test_a_shot_larger_than_the_memory_is_refused(backend: Backend, client: Client) -> None:
    data = bytes(1 << 20)
    count = 400_000
    entry = {"dtype": "|u1", "shape": [count << 20], "chunks": [digest_of(data)] * count}
    manifest = {**Manifest({}, ()).to_dict(), "arrays": [entry]}
    body = {"job": "large", "settings": SETTINGS.to_dict(), "manifest": manifest}
    with Raw(backend.info.endpoint) as raw:
        raw.hello(backend.info.token)
        assert raw.ask(Message("submit", 2, body)).body["code"] == "shot-too-large"
    assert client.jobs() == []


# the store


def test_all_jobs_are_listed(tmp_path: Path) -> None:
    count = 2 * JOBS_PER_REPLY + 3
    store = JobStore(tmp_path / "store")
    for number in range(count):
        store.add(f"job-{number}", Manifest({}, ()), SETTINGS.to_dict())
    store.close()
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        assert [job["id"] for job in client.jobs()] == [f"job-{number}" for number in range(count)]
        with Raw(backend.info.endpoint) as raw:  # a client of an earlier version
            raw.hello(backend.info.token)
            assert len(raw.ask(Message("jobs", 2)).body["jobs"]) == count


def test_a_job_with_a_similar_name_keeps_its_work(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    names = ("s7", "s7-b", "s7-12345678", "s7-b-1234567", "S7b")
    paths = {name: store.partial(name) for name in names}
    for path in paths.values():
        path.mkdir()
        (path / "frame").write_text("made")
    store.remove_partial("s7")
    assert [name for name, path in paths.items() if not path.exists()] == ["s7"]
    store.partial("s7").mkdir()
    moved = store.partial("s7-b")
    assert (moved / "frame").read_text() == "made"
    assert all((paths[name] / "frame").exists() for name in names[2:])
    store.close()


def test_a_verified_name_never_has_other_bytes(tmp_path: Path) -> None:
    chunks, right = ChunkStore(tmp_path), b"right" * 20_000
    digest = digest_of(right)
    is_done = threading.Event()

    def send() -> None:
        while not is_done.is_set():
            for data in (right, b"wrong" * 20_000):
                chunks.write(digest, data)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(500):
            if chunks.verify(digest):
                assert chunks.path(digest).read_bytes() == right
    finally:
        is_done.set()
        sender.join()


def test_a_chunk_that_is_sent_again_rightly_is_verified_again(tmp_path: Path) -> None:
    chunks = ChunkStore(tmp_path)
    digest = digest_of(b"data")
    chunks.write(digest, b"data")
    os.rename(f"{chunks.path(digest)}.new", f"{chunks.path(digest)}.verify")  # killed while it was verified
    assert chunks.missing([digest]) == []
    assert list(ChunkStore(tmp_path).unverified()) == [digest]
    assert chunks.verify(digest)


@pytest.mark.parametrize("damage", [b"\xff\xfe" * 30, "ä".encode() * 30])
def test_a_damaged_token_is_named(tmp_path: Path, damage: bytes) -> None:
    JobStore(tmp_path).close()
    (tmp_path / "token").write_bytes(damage)
    with pytest.raises(OutputError) as caught:
        JobStore(tmp_path)
    assert caught.value.code == "store-damaged"
    assert str(tmp_path / "token") in caught.value.message
    (tmp_path / "token").unlink()
    JobStore(tmp_path).close()


def test_a_damaged_job_fails_and_others_go_on(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "store")
    for name in ("settings", "manifest", "whole"):
        store.add(name, Manifest({}, ()), SETTINGS.to_dict())
    store.add("event", Manifest({}, ()), SETTINGS.to_dict())
    store.record_event("event", {"state": states.DONE})
    store.close()
    database = sqlite3.connect(tmp_path / "store" / "jobs.sqlite3")
    database.execute("UPDATE jobs SET settings = x'c1ff' WHERE id = 'settings'")
    database.execute("UPDATE jobs SET manifest = 'text' WHERE id = 'manifest'")
    database.execute("UPDATE events SET body = x'93c0' WHERE job = 'event' AND seq = 2")
    database.execute(
        "INSERT INTO jobs (id, created, state, digest, settings, manifest) VALUES ('../x', 0, 'done', 0, 0, 0)"
    )
    database.commit()
    database.close()
    with Backend(tmp_path / "store", "--workers", "0") as backend, backend.client() as client:
        found = {job["id"]: job["state"] for job in client.jobs()}
        assert found == {"settings": "failed", "manifest": "failed", "whole": "queued", "event": "done"}
        for name in ("settings", "manifest", "event"):
            with pytest.raises(JobError) as caught:
                client.wait(name)
            assert caught.value.code == "damaged-job"
