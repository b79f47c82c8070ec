# SPDX-License-Identifier: GPL-3.0-or-later
"""The job store: nothing accepted is lost, nothing wrong is used, nothing is half-written."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from trackshade.core.errors import JobError, OutputError, ProtocolError
from trackshade.ipc import CHUNK_BYTES, ArrayEntry, Manifest, digest_of
from trackshade.ipc import protocol as states
from trackshade.ipc.chunks import raw_bytes
from trackshade.server.chunk_store import ChunkStore, storage_error
from trackshade.server.cleaning import StoreLimits, clean_store
from trackshade.server.job_store import MAX_RESTARTS, JobStore

MANIFEST = Manifest({"version": 1}, ())


def clean(store: JobStore, limits: StoreLimits) -> None:
    for _ in clean_store(store, limits):
        continue


def put(chunks: ChunkStore, array: np.ndarray) -> ArrayEntry:
    raw, digests = raw_bytes(array), []
    for start in range(0, len(raw), CHUNK_BYTES):
        data = raw[start : start + CHUNK_BYTES]
        digests.append(digest_of(data))
        chunks.write(digests[-1], data)
        assert chunks.verify(digests[-1])
    return ArrayEntry(array.dtype.str, array.shape, tuple(digests))


def test_a_clock_that_is_set_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real = JobStore(tmp_path), time.time
    for shift in (40, -40):
        job = f"job{shift}"
        store.add(job, MANIFEST, {})
        store.record_event(job, {"state": states.FAILED})
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift * 86400)
        clean(store, StoreLimits(chunk_days=7, result_days=30))
    assert {job.id for job in store.jobs()} == {"job40", "job-40"}


def test_a_clock_that_is_wrong_at_a_start_makes_nothing_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, limits = time.time, StoreLimits(chunk_days=7, result_days=3)
    store = JobStore(tmp_path)
    store.add("a", MANIFEST, {})
    store.record_event("a", {"state": states.FAILED})
    # Days that the clock is wrong by at each start: an empty battery, a year too late, right, right but a month later.
    for shift, is_kept in ((-9000, True), (365, True), (0, True), (30, True), (30.9, True), (31.8, False)):
        store.close()
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift * 86400)
        store = JobStore(tmp_path)
        clean(store, limits)
        assert bool(store.jobs()) is is_kept, shift
    store.close()


def test_a_damaged_clock_begins_again(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    store.add("a", MANIFEST, {})
    store.record_event("a", {"state": states.FAILED})
    for passed, looked in (("x", 1.0), (float("inf"), 1.0), (1e9, b"x")):
        store.close()
        database = sqlite3.connect(tmp_path / "jobs.sqlite3")
        database.execute("INSERT OR REPLACE INTO clock VALUES (0, ?, ?)", (passed, looked))
        database.execute("INSERT OR REPLACE INTO noticed VALUES ('a', 'ended', 'x')")
        database.commit()
        database.close()
        store = JobStore(tmp_path)
        clean(store, StoreLimits(chunk_days=7, result_days=0.001))
        assert store.jobs()
    store.close()


def test_a_submit_is_idempotent(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first, new = store.add("a", MANIFEST, {"prompt": "x"})
    again, new_again = store.add("a", MANIFEST, {"prompt": "x"})
    assert (new, new_again) == (True, False)
    assert first == again
    assert len(store.jobs()) == len(store.events("a", 0)) == 1
    with pytest.raises(ProtocolError) as caught:
        store.add("a", MANIFEST, {"prompt": "y"})
    assert caught.value.code == "job-exists"


def test_events_are_numbered_and_kept(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    store.add("a", MANIFEST, {})
    store.add("b", MANIFEST, {})
    store.record_event("a", {"state": states.LOADING})
    store.record_event("a", {"state": states.RUNNING, "step": 1, "steps": 2}, b"preview")
    store.close()
    store = JobStore(tmp_path)
    events = store.events("a", 0)
    assert [e.seq for e in events] == [1, 2, 3]
    assert events[2].body == {"state": "running", "step": 1, "steps": 2}
    assert events[2].preview == b"preview"
    assert [e.seq for e in store.events("a", 2)] == [3]
    assert store.request("a") == (MANIFEST, {})
    with pytest.raises(ProtocolError):
        store.events("nobody", 0)


def test_after_a_restart_every_job_goes_on(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for job in ("queued", "running", "finished", "cancelled", "poison"):
        store.add(job, MANIFEST, {})
    for job in ("running", "finished", "cancelled", "poison"):
        store.record_event(job, {"state": states.RUNNING})
    store.mark_cancel("cancelled")
    store.result("finished").mkdir()
    (store.result("finished") / "job.json").write_text('{"seed": 3}')
    store.partial("running").mkdir()
    for _ in range(MAX_RESTARTS + 1):
        store.record_event("poison", {"state": states.RUNNING})
        store.recover()
    assert {job.id: job.state for job in store.jobs()} == {
        "queued": "queued",
        "running": "queued",
        "finished": "done",
        "cancelled": "cancelled",
        "poison": "failed",
    }
    assert store.last_event("finished").body["summary"] == {"seed": 3}
    assert store.last_event("poison").body["error"]["code"] == "backend-killed"
    left = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert [name[: len(".partial-running")] for name in left] == [".partial-running", "finished"]


def test_what_an_attempt_left_is_there_for_the_next_one_only(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for job in ("a", "a-b"):
        store.add(job, MANIFEST, {})
        store.partial(job).mkdir()
    left = next((tmp_path / "results").glob(".partial-a-????????"))
    (left / "frame").write_text("made")
    (left / ".frame.01234567.png").write_text("begun by a worker that was killed")
    again = store.partial("a")
    assert (again / "frame").read_text() == "made"
    assert [path.name for path in again.iterdir()] == ["frame"]
    assert not left.exists()
    assert again != left
    store.remove_partial("a")
    assert [path.name[:13] for path in (tmp_path / "results").iterdir()] == [".partial-a-b-"]
    store.record_event("a-b", {"state": states.FAILED, "error": {}})
    store.recover()
    assert not list((tmp_path / "results").iterdir())


def test_two_backends_never_share_a_store(tmp_path: Path) -> None:
    held = JobStore(tmp_path)
    with pytest.raises(OutputError) as caught:
        JobStore(tmp_path)
    assert caught.value.code == "store-in-use"
    held.close()
    JobStore(tmp_path).close()


def test_a_killed_holder_gives_the_store_free(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trackshade.server.job_store import JobStore\n"
        "store = JobStore(Path(sys.argv[1])); print(1, flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(OutputError):
        JobStore(tmp_path)
    holder.kill()
    holder.communicate()
    JobStore(tmp_path).close()


@pytest.mark.parametrize("place", ["file/store", "/proc/store"])
def test_a_store_that_cannot_be_made(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as caught:
        JobStore(tmp_path / place)
    assert caught.value.code == "store-unwritable"
    assert place in caught.value.message


@pytest.mark.skipif(os.name == "nt", reason="files have no mode there")
def test_a_token_that_others_may_read_is_made_private(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    store.close()
    (tmp_path / "token").chmod(0o644)
    again = JobStore(tmp_path)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert again.token == store.token
    again.close()


def test_what_to_do_about_a_store_goes_by_what_is_wrong(tmp_path: Path) -> None:
    for error, fix in (
        (OSError(errno.ENOSPC, "No space left on device"), "Free some space"),
        (OSError(errno.EBUSY, "database is locked"), "End the program"),
        (OSError(errno.EISDIR, "Is a directory", str(tmp_path / "token")), "Make it a folder that can be written"),
    ):
        made = storage_error(error, tmp_path)
        assert fix in str(made.fix)
        assert str(error.filename or tmp_path) in made.message


def test_a_damaged_job_list_is_named(tmp_path: Path) -> None:
    JobStore(tmp_path).close()
    for path in tmp_path.glob("jobs.sqlite3*"):
        path.unlink()
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(OutputError) as caught:
        JobStore(tmp_path)
    assert caught.value.code == "store-damaged"
    JobStore(tmp_path.with_name("other")).close()


def test_arrays_come_back(tmp_path: Path) -> None:
    chunks = ChunkStore(tmp_path)
    rng = np.random.default_rng(0)
    large, one = rng.random((3, 100_000, 3), np.float32), rng.random((10_000, 4))
    small, flags = rng.random((4, 4)), np.array([True, False, True])
    packed = np.frombuffer(b"".join(map(raw_bytes, (flags, small))), np.uint8)
    manifest = Manifest(
        {},
        (
            put(chunks, large),
            ArrayEntry("|b1", (3,), ()),
            put(chunks, one),
            ArrayEntry("<f8", (4, 4), ()),
            put(chunks, np.empty((0, 3), np.int32)),
        ),
        put(chunks, packed),
    )
    found = chunks.arrays(Manifest.from_dict(manifest.to_dict()))
    for array, wanted in zip(found, (large, flags, one, small, np.empty((0, 3), np.int32)), strict=True):
        np.testing.assert_array_equal(array, wanted)
        assert array.dtype == wanted.dtype
        assert not array.flags.writeable
    chunks.path(manifest.arrays[0].chunks[1]).unlink()
    with pytest.raises(JobError) as caught:
        chunks.arrays(manifest)
    assert caught.value.code == "missing-chunk"


def test_a_wrong_digest_never_gets_a_name(tmp_path: Path) -> None:
    chunks = ChunkStore(tmp_path)
    digest = digest_of(b"right")
    chunks.write(digest, b"wrong")
    assert not chunks.path(digest).exists()
    assert not chunks.verify(digest)
    assert chunks.missing([digest]) == [digest]
    chunks.write(digest, b"right")
    assert chunks.verify(digest)
    chunks.write(digest, b"wrong")
    assert chunks.verify(digest)  # the right one stays
    assert chunks.path(digest).read_bytes() == b"right"


def test_a_chunk_is_there_all_the_while_it_is_verified(tmp_path: Path) -> None:
    chunks = ChunkStore(tmp_path)
    data = [number.to_bytes(4, "big") for number in range(500)]
    for piece in data:
        chunks.write(digest_of(piece), piece)
    verifying = threading.Thread(target=lambda: [chunks.verify(digest_of(piece)) for piece in data])
    verifying.start()
    while verifying.is_alive():
        assert chunks.missing(map(digest_of, data)) == []
        assert {chunks.size(digest_of(piece)) for piece in data} == {4}
    verifying.join()


def test_a_restart_verifies_what_was_not(tmp_path: Path) -> None:
    chunks = ChunkStore(tmp_path)
    digest = digest_of(b"data")
    chunks.write(digest, b"data")
    torn = chunks.path(digest_of(b"other")).with_suffix(".tmp")
    torn.write_bytes(b"oth")
    assert list(ChunkStore(tmp_path).unverified()) == [digest]
    assert not torn.exists()


def test_cleaning_takes_old_unneeded_chunks_only(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    rng = np.random.default_rng(0)
    old, needed, asked, new = (put(store.chunks, rng.random((20_000,))) for _ in range(4))
    week_ago = time.time() - 9 * 86400
    for entry in (old, needed, asked):
        os.utime(store.chunks.path(entry.chunks[0]), (week_ago, week_ago))
    store.add("waiting", Manifest({}, (needed,)), {})
    store.chunks.missing(asked.chunks)
    clean(store, StoreLimits(chunk_days=7))
    assert store.chunks.missing(e.chunks[0] for e in (old, needed, asked, new)) == list(old.chunks)


def test_chunks_are_deleted_though_the_job_list_cannot_be_written(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for job in "ab":
        store.add(job, MANIFEST, {})
        store.record_event(job, {"state": states.DONE})
    store.chunks.write(digest_of(b"old"), b"old")
    assert store.chunks.verify(digest_of(b"old"))
    os.utime(store.chunks.path(digest_of(b"old")), (0, 0))
    other = sqlite3.connect(tmp_path / "jobs.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutputError):
        clean(store, StoreLimits(chunk_days=7, keep=1))
    other.close()
    assert not store.chunks.path(digest_of(b"old")).exists()
    assert [job.id for job in store.jobs()] == ["a", "b"]


def test_cleaning_keeps_the_newest_jobs(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for job in "abcd":
        store.add(job, MANIFEST, {})
        if job != "b":
            store.result(job).mkdir()
            store.record_event(job, {"state": states.DONE})
    clean(store, StoreLimits(chunk_days=7, keep=1))
    assert [job.id for job in store.jobs()] == ["b", "d"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["d"]
