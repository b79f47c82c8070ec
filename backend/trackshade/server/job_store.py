# SPDX-License-Identifier: GPL-3.0-or-later
"""The job store: a folder with an SQLite database, chunks, results and logs, locked by one broker at a time.

    lock  token  jobs.sqlite3  chunks/ab/abcd...  results/JOB/  results/.partial-JOB-N/  logs/

Everything is in the database before a client hears of it, so a broker that is killed loses no accepted job.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from trackshade.core.atomic_files import write_bytes
from trackshade.core.errors import JobError, OutputError, ProtocolError
from trackshade.ipc import Manifest, digest_of
from trackshade.ipc.locks import FileLock
from trackshade.ipc.messages import pack
from trackshade.ipc.protocol import ACTIVE_STATES, CANCELLED, DONE, FAILED, FINAL_STATES, QUEUED
from trackshade.server.chunk_store import ChunkStore, storage_error

MAX_RESTARTS = 5
"""A job that ran each time the backend was killed, more often than this, fails: it may be the cause."""

_JOB_COLUMNS = "id, created, state, settings, deaths, restarts, cancel"
_EVENT_COLUMNS = "job, seq, time, body, preview"
_TABLES = """
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


@dataclass(frozen=True)
class StoredJob:
    """A row of the job table."""

    id: str  # chosen by the client
    created: float  # seconds since 1970
    state: str  # one of the states in `trackshade.ipc.protocol`
    settings: Mapping[str, Any]  # as `ShadeSettings.to_dict`
    deaths: int  # workers that died while they ran it
    restarts: int  # brokers that were killed while it ran
    cancel: bool  # whether a client has cancelled it


@dataclass(frozen=True)
class StoredEvent:
    """A row of the event table."""

    job: str  # job id
    seq: int  # number of the event within the job, from 1
    time: float  # seconds since 1970
    body: Mapping[str, Any]  # state and details
    preview: bytes | None = None  # bytes of a small image


class JobStore:
    """Opens the store in `folder`, creates it if there is none, and locks it until `close`.

    Raises:
        OutputError: "store-in-use" if another backend has it, "store-unwritable" or "store-damaged".
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder = Path(os.path.abspath(folder))
        try:
            for name in ("results", "logs"):
                (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = FileLock(folder / "lock")
        except BlockingIOError as error:
            fix = "Connect to that backend, end it, or choose another store folder."
            raise OutputError("store-in-use", f"Another backend is using the job store {folder}.", fix) from error
        except OSError as error:
            raise storage_error(error, folder) from error
        try:
            self.chunks = ChunkStore(folder / "chunks")
            self.token = _read_or_create_token(folder / "token")
            self._database = _open(folder / "jobs.sqlite3")
        except OSError as error:
            self._lock.release()
            raise storage_error(error, folder) from error
        except sqlite3.Error as error:
            self._lock.release()
            fix = "Move that folder away, or start the backend with another store folder."
            raise OutputError("store-damaged", f"The job list in {folder} cannot be read: {error}.", fix) from error

    def close(self) -> None:
        """Close the database and release the lock."""
        self._database.close()
        self._lock.release()

    def add(self, job: str, manifest: Manifest, settings: Mapping[str, Any]) -> tuple[StoredJob, bool]:
        """Add a job, or find the same one; return it, and whether it is new.

        Raises:
            ProtocolError: "job-exists" if the id belongs to another job.
            OutputError: The store cannot be written.
        """
        packed = (pack(dict(settings)), pack(manifest.to_dict()))
        digest = digest_of(b"".join(packed))
        row = self._database.execute("SELECT digest FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is not None and row[0] != digest:
            raise ProtocolError("job-exists", f"There is another job with the id {job}.", "Take a new id.")
        if row is not None:
            return self.job(job), False
        with self._writing():
            self._database.execute(
                "INSERT INTO jobs (id, created, state, digest, settings, manifest) VALUES (?, ?, ?, ?, ?, ?)",
                (job, time.time(), QUEUED, digest, *packed),
            )
            self._add_event(job, {"state": QUEUED}, None)
        return self.job(job), True

    def job(self, job: str) -> StoredJob:
        """Return a job. Raise ProtocolError("unknown-job")."""
        return _job(self._row_of(job, f"SELECT {_JOB_COLUMNS} FROM jobs WHERE id = ?"))

    def jobs(self, wanted: tuple[str, ...] | None = None) -> list[StoredJob]:
        """Return all jobs, or those in one of these states, oldest first."""
        where = "" if wanted is None else f"WHERE state IN ({','.join('?' * len(wanted))})"
        rows = self._database.execute(f"SELECT {_JOB_COLUMNS} FROM jobs {where} ORDER BY position", wanted or ())
        return [_job(row) for row in rows]

    def request(self, job: str) -> tuple[Manifest, dict[str, Any]]:
        """Return a job's manifest and settings."""
        manifest, settings = map(msgpack.unpackb, self._row_of(job, "SELECT manifest, settings FROM jobs WHERE id = ?"))
        return Manifest.from_dict(manifest), settings

    def record_event(self, job: str, body: Mapping[str, Any], preview: bytes | None = None) -> StoredEvent:
        """Store an event, whose `state`, if it has one, becomes the job's; return it with its number."""
        with self._writing():
            if "state" in body:
                self._database.execute("UPDATE jobs SET state = ? WHERE id = ?", (body["state"], job))
            return self._add_event(job, body, preview)

    def mark_cancel(self, job: str) -> None:
        """Store that a client has cancelled a job, also for after a restart."""
        with self._writing():
            self._database.execute("UPDATE jobs SET cancel = 1 WHERE id = ?", (job,))

    def count_death(self, job: str) -> int:
        """Count a worker that died while it ran a job; return how many there were."""
        with self._writing():
            self._database.execute("UPDATE jobs SET deaths = deaths + 1 WHERE id = ?", (job,))
        return self.job(job).deaths

    def events(self, job: str, since: int) -> list[StoredEvent]:
        """Return the events numbered above `since`. Raise ProtocolError("unknown-job")."""
        self.job(job)
        query = f"SELECT {_EVENT_COLUMNS} FROM events WHERE job = ? AND seq > ? ORDER BY seq"
        return [_event(row) for row in self._database.execute(query, (job, since))]

    def last_event(self, job: str) -> StoredEvent:
        """Return the latest event of a job."""
        query = f"SELECT {_EVENT_COLUMNS} FROM events WHERE job = ? ORDER BY seq DESC LIMIT 1"
        return _event(self._row_of(job, query))

    def result(self, job: str) -> Path:
        """Return the folder of a job's result, which exists only once it is complete."""
        return self.folder / "results" / job

    def partial(self, job: str) -> Path:
        """Return the path of a folder for a worker to write; it is renamed to `result` when it is complete.

        What an earlier attempt left is moved there, so that its frames are used, and a worker of that attempt that is
        still ending can write no more.
        """
        path = self.folder / "results" / f".partial-{job}-{secrets.token_hex(4)}"
        for left in self._partials(job):
            if not path.exists():
                os.rename(left, path)
            else:
                shutil.rmtree(left, ignore_errors=True)
        return path

    def remove_partial(self, job: str) -> None:
        """Delete what a worker left behind."""
        for path in self._partials(job):
            shutil.rmtree(path, ignore_errors=True)

    def _partials(self, job: str) -> list[Path]:
        """Return the folders that attempts at a job left, the latest first."""
        found = (self.folder / "results").glob(f".partial-{job}-{'?' * 8}")
        return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)

    def recover(self) -> None:
        """Put jobs that ran when the last broker ended in a state from which they continue."""
        self._recover_jobs()
        waiting = {job.id for job in self.jobs((QUEUED,))}
        for path in (self.folder / "results").glob(".partial-*"):
            if path.name[len(".partial-") : -9] not in waiting:
                shutil.rmtree(path, ignore_errors=True)

    def _recover_jobs(self) -> None:
        for job in self.jobs(ACTIVE_STATES):
            if self.result(job.id).is_dir():
                self.record_event(job.id, {"state": DONE, "summary": _summary(self.result(job.id))})
            elif job.cancel:
                self.record_event(job.id, {"state": CANCELLED})
            elif job.restarts >= MAX_RESTARTS:
                error = JobError(
                    "backend-killed",
                    f"The backend was killed {MAX_RESTARTS + 1} times while it worked on this job.",
                    "Try a smaller size, fewer frames or another model.",
                )
                self.record_event(job.id, {"state": FAILED, "error": error.to_dict()})
            else:
                with self._writing():
                    self._database.execute("UPDATE jobs SET restarts = restarts + 1 WHERE id = ?", (job.id,))
                self.record_event(job.id, {"state": QUEUED, "message": "The backend was restarted."})

    def clean(self, chunk_days: float, keep: int | None) -> None:
        """Delete all but the latest `keep` finished jobs, and chunks that were not used for `chunk_days`."""
        finished = self.jobs(FINAL_STATES)
        for job in finished[: max(0, len(finished) - keep)] if keep is not None else ():
            with self._writing():
                self._database.execute("DELETE FROM events WHERE job = ?", (job.id,))
                self._database.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
            shutil.rmtree(self.result(job.id), ignore_errors=True)
        waiting = self.jobs((QUEUED, *ACTIVE_STATES))
        needed = {digest for job in waiting for digest in self.request(job.id)[0].chunk_sizes()}
        self.chunks.clean(chunk_days * 86400, needed)

    def _add_event(self, job: str, body: Mapping[str, Any], preview: bytes | None) -> StoredEvent:
        now = time.time()
        (seq,) = self._row_of(job, "SELECT coalesce(max(seq), 0) + 1 FROM events WHERE job = ?")
        self._database.execute(
            "INSERT INTO events (job, seq, time, body, preview) VALUES (?, ?, ?, ?, ?)",
            (job, seq, now, pack(dict(body)), preview),
        )
        return StoredEvent(job, seq, now, dict(body), preview)

    def _row_of(self, job: str, query: str) -> tuple[Any, ...]:
        row = self._database.execute(query, (job,)).fetchone()
        if row is None:
            raise ProtocolError("unknown-job", f"The backend has no job {job}.")
        return row

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Run the block in a transaction; turn a full disk into an OutputError."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise storage_error(OSError(0, str(error)), self.folder) from error
            raise


def event_body(event: StoredEvent) -> dict[str, Any]:
    """Return an event as it is sent. Its preview is sent as a buffer, in the order of the events that have one."""
    more = {"job": event.job, "seq": event.seq, "time": event.time, "preview": event.preview is not None}
    return {**event.body, **more}


def _job(row: tuple[Any, ...]) -> StoredJob:
    name, created, state, settings, deaths, restarts, cancel = row
    return StoredJob(name, created, state, msgpack.unpackb(settings), deaths, restarts, bool(cancel))


def _event(row: tuple[Any, ...]) -> StoredEvent:
    job, seq, moment, body, preview = row
    return StoredEvent(job, seq, moment, msgpack.unpackb(body), preview)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=5)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # safe against kill -9; a power cut may lose the last moments
    database.execute("PRAGMA cache_size = -2048")
    database.executescript(_TABLES)
    return database


def _read_or_create_token(path: Path) -> str:
    """Read or create the token, which stays the same, so that clients find a restarted backend again."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = ""
    if len(token) < 32:
        token = secrets.token_urlsafe(32)
        write_bytes(path, token.encode(), private=True)
    return token


def _summary(result: Path) -> dict[str, Any]:
    try:
        found = json.loads((result / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
