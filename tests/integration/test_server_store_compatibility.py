# SPDX-License-Identifier: GPL-3.0-or-later
"""A job store that an earlier version wrote is read and continued."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgpack
import pytest

from tests.helpers.backends import Backend
from trackshade.core.errors import CancelledError, JobError, TrackshadeError
from trackshade.ipc import digest_of
from trackshade.server.job_store import JobStore

# What version 0.1.0 wrote, literally: do not replace it by the code of today.
TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, created REAL NOT NULL,
    state TEXT NOT NULL, digest BLOB NOT NULL, settings BLOB NOT NULL, manifest BLOB NOT NULL,
    deaths INTEGER NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, seq INTEGER NOT NULL, time REAL NOT NULL, body BLOB NOT NULL, preview BLOB,
    PRIMARY KEY (job, seq)
) WITHOUT ROWID;
"""
SETTINGS = {
    "model": "mini", "prompt": "a street at night", "negative_prompt": None, "steps": 3, "guidance": 1.5, "seed": 7,
    "control": "points", "points": 900, "control_scale": 0.5, "control_start": 0.0, "control_end": 0.75,
    "tracking_range": "demo", "preview_every": 5, "output": "video",
}  # fmt: skip
PACKED = b"\x01\x02\x03\x04"
MANIFEST = {
    "shot": {"version": 1},
    "arrays": [{"dtype": "|u1", "shape": [4], "chunks": []}],
    "packed": {"dtype": "|u1", "shape": [4], "chunks": [digest_of(PACKED)]},
    "first_frame": None,
    "input_render": None,
}
FAILED = {"kind": "JobError", "code": "out-of-memory", "message": "Too little memory.", "fix": None, "exit_code": 4}
CANCELLED = {"kind": "Cancelled", "code": "cancelled", "message": "Cancelled.", "fix": None, "exit_code": 130}
JOBS: dict[str, list[dict]] = {
    "done": [
        {"state": "queued"},
        {"state": "loading", "message": "Reading the shot"},
        {"state": "running", "message": "", "step": 1, "steps": 3},
        {"state": "decoding", "message": "Writing the result"},
        {"state": "done", "summary": {"seed": 7}},
    ],
    "failed": [{"state": "queued"}, {"state": "failed", "error": FAILED}],
    "cancelled": [{"state": "queued"}, {"state": "cancelled", "error": CANCELLED}],
    "queued": [{"state": "queued"}],
    "running": [{"state": "queued"}, {"state": "running", "message": "", "step": 2, "steps": 3}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store as an earlier version left it."""
    store = tmp_path / "store"
    for name in ("results/done", "logs", "chunks"):
        (store / name).mkdir(parents=True)
    (store / "results" / "done" / "job.json").write_text('{"seed": 7}')
    (store / "token").write_text("old-token-old-token-old-token-old-token")
    chunk = digest_of(PACKED).hex()
    (store / "chunks" / chunk[:2]).mkdir()
    (store / "chunks" / chunk[:2] / chunk).write_bytes(PACKED)
    database = sqlite3.connect(store / "jobs.sqlite3")
    database.executescript(TABLES)
    settings, manifest = (bytes(msgpack.packb(value) or b"") for value in (SETTINGS, MANIFEST))
    for number, (job, events) in enumerate(JOBS.items()):
        database.execute(
            "INSERT INTO jobs (id, created, state, digest, settings, manifest) VALUES (?, ?, ?, ?, ?, ?)",
            (job, 1700000000.0 + number, events[-1]["state"], digest_of(settings + manifest), settings, manifest),
        )
        for seq, body in enumerate(events, start=1):
            preview = b"\x89PNG" if "step" in body else None
            database.execute(
                "INSERT INTO events (job, seq, time, body, preview) VALUES (?, ?, ?, ?, ?)",
                (job, seq, 1700000100.0 + seq, msgpack.packb(body), preview),
            )
    database.commit()
    database.close()
    return store


def test_jobs_events_and_requests_are_read(folder: Path) -> None:
    store = JobStore(folder)
    try:
        assert store.token == "old-token-old-token-old-token-old-token"
        assert {job.id: job.state for job in store.jobs()} == {job: events[-1]["state"] for job, events in JOBS.items()}
        assert store.job("done").settings == SETTINGS
        for job, events in JOBS.items():
            assert [event.body for event in store.events(job, 0)] == events
        assert store.events("done", 2)[0].preview == b"\x89PNG"
        manifest, settings = store.request("queued")
        assert settings == SETTINGS
        assert manifest.to_dict() == MANIFEST
        assert store.chunks.arrays(manifest)[0].tobytes() == PACKED
        store.recover()
        assert store.job("running").state == "queued"
        assert store.job("running").restarts == 1
    finally:
        store.close()


def test_an_error_of_the_old_kind_is_a_cancelled_error(folder: Path) -> None:
    store = JobStore(folder)
    error = TrackshadeError.from_dict(store.last_event("cancelled").body["error"])
    store.close()
    assert type(error) is CancelledError
    assert error.exit_code == 130
    assert error.to_dict()["kind"] == "CancelledError"
    assert type(TrackshadeError.from_dict({"kind": "of the future"})) is JobError


def test_a_client_sees_the_jobs_of_an_earlier_version(folder: Path) -> None:
    with Backend(folder, "--workers", "0") as backend, backend.client() as client:
        assert {job["id"]: job["state"] for job in client.jobs()} == {
            "done": "done", "failed": "failed", "cancelled": "cancelled", "queued": "queued", "running": "queued"
        }  # fmt: skip
        assert client.wait("done").summary == {"seed": 7}
        with pytest.raises(JobError, match="Too little memory"):
            client.wait("failed")
        with pytest.raises(CancelledError):
            client.wait("cancelled")
        assert client.cancel("queued") == "cancelled"
        assert client.fetch("done", folder.parent / "out") == folder.parent / "out"
        assert (folder.parent / "out" / "job.json").read_text() == '{"seed": 7}'
