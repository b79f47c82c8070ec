# SPDX-License-Identifier: GPL-3.0-or-later
"""The job store: a folder with an SQLite database, chunks, results and logs, locked by one broker at a time.

    lock  token  jobs.sqlite3  chunks/ab/abcd...  results/JOB/  results/.partial-JOB-N/  logs/

Everything is in the database before a client hears of it, so a broker that is killed loses no accepted job.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from trackshade.core.atomic_files import delete_temporaries, write_bytes
from trackshade.core.errors import JobError, OutputError, ProtocolError
from trackshade.core.file_systems import network_file_system
from trackshade.core.json_files import read_object
from trackshade.ipc import Manifest, digest_of
from trackshade.ipc.locks import FileLock
from trackshade.ipc.messages import pack
from trackshade.ipc.protocol import ACTIVE_STATES, CANCELLED, DONE, FAILED, FINAL_STATES, QUEUED, is_job_id
from trackshade.server import store_clock
from trackshade.server.chunk_store import ChunkStore, storage_error
from trackshade.server.database import Database

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
        OutputError: "store-in-use" if another backend has it, "network-store", "store-unwritable" or "store-damaged".
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder = Path(os.path.abspath(folder))
        if (network := network_file_system(folder)) is not None:
            raise OutputError(
                "network-store",
                f"The job store {folder} is on a network file system ({network}), which cannot lock a database.",
                "Choose a folder on a local disk with --store or TRACKSHADE_HOME; results are fetched from there.",
            )
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
            self._database = Database(folder / "jobs.sqlite3", _TABLES + store_clock.TABLES)
            self.clock = store_clock.StoreClock(self._database)
        except OSError as error:
            self._lock.release()
            raise storage_error(error, folder) from error
        except OutputError:
            self._lock.release()
            raise

    @property
    def fixed_files(self) -> tuple[Path, Path]:
        """The files that stay the same while the store is open: its lock and its database."""
        return self.folder / "lock", self.folder / "jobs.sqlite3"

    def close(self) -> None:
        """Close the database and release the lock."""
        try:
            self._database.close()
        finally:
            self._lock.release()

    def add(self, job: str, manifest: Manifest, settings: Mapping[str, Any]) -> tuple[StoredJob, bool]:
        """Add a job, or find the same one; return it, and whether it is new.

        Raises:
            ProtocolError: "job-exists" if the id belongs to another job.
            OutputError: The store cannot be written.
        """
        packed = (pack(dict(settings)), pack(manifest.to_dict()))
        digest = digest_of(b"".join(packed))
        found = self._database.rows("SELECT digest FROM jobs WHERE id = ?", (job,))
        if found and found[0][0] != digest:
            raise ProtocolError("job-exists", f"There is another job with the id {job}.", "Take a new id.")
        if found:
            return self.job(job), False
        with self._database.writing():
            self._database.rows(
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
        rows = self._database.rows(f"SELECT {_JOB_COLUMNS} FROM jobs {where} ORDER BY position", wanted or ())
        return [_job(row) for row in rows if is_job_id(str(row[0]))]

    def page(self, after: int | None, count: int) -> tuple[list[tuple[StoredJob, StoredEvent]], int | None]:
        """Return jobs, oldest first, each with its latest event, and where the next page begins (None: at no job).

        Args:
            after: Where the page begins: 0 for the oldest job. None for the latest jobs.
            count: Number of jobs, at most.
        """
        columns = f"{_JOB_COLUMNS}, position, seq, time, body"
        query = (
            f"SELECT {columns} FROM jobs LEFT JOIN events ON job = id AND seq = "
            "(SELECT max(seq) FROM events WHERE job = id) WHERE position > ? ORDER BY position"
        )
        order = " DESC" if after is None else ""
        rows = self._database.rows(f"{query}{order} LIMIT ?", (after or 0, count))
        following = rows[-1][-4] if after is not None and len(rows) == count else None
        jobs = []
        for *row, _, seq, moment, body in rows if after is not None else reversed(rows):
            job = _job(tuple(row))
            if not is_job_id(job.id):
                continue
            last = StoredEvent(job.id, 0, job.created, {"state": job.state})
            jobs.append((job, last if seq is None else _event((job.id, seq, moment, body, None))))
        return jobs, following

    def count(self, state: str) -> int:
        """Return how many jobs are in a state."""
        return int(self._database.rows("SELECT count(*) FROM jobs WHERE state = ?", (state,))[0][0])

    def request(self, job: str) -> tuple[Manifest, dict[str, Any]]:
        """Return a job's manifest and settings. Raise JobError("damaged-job")."""
        manifest, settings = map(_unpack, self._row_of(job, "SELECT manifest, settings FROM jobs WHERE id = ?"))
        if manifest is None or settings is None:
            raise damaged_job(job)
        try:
            return Manifest.from_dict(manifest), settings
        except ProtocolError as error:
            raise damaged_job(job) from error

    def record_event(self, job: str, body: Mapping[str, Any], preview: bytes | None = None) -> StoredEvent:
        """Store an event, whose `state`, if it has one, becomes the job's; return it with its number."""
        with self._database.writing():
            if "state" in body:
                self._database.rows("UPDATE jobs SET state = ? WHERE id = ?", (body["state"], job))
            return self._add_event(job, body, preview)

    def mark_cancel(self, job: str) -> None:
        """Store that a client has cancelled a job, also for after a restart."""
        with self._database.writing():
            self._database.rows("UPDATE jobs SET cancel = 1 WHERE id = ?", (job,))

    def count_death(self, job: str) -> int:
        """Count a worker that died while it ran a job; return how many there were."""
        with self._database.writing():
            self._database.rows("UPDATE jobs SET deaths = deaths + 1 WHERE id = ?", (job,))
        return self.job(job).deaths

    def events(self, job: str, since: int, count: int = -1) -> list[StoredEvent]:
        """Return the first `count` events numbered above `since`. Raise ProtocolError("unknown-job")."""
        self.job(job)
        query = f"SELECT {_EVENT_COLUMNS} FROM events WHERE job = ? AND seq > ? ORDER BY seq LIMIT ?"
        return [_event(row) for row in self._database.rows(query, (job, since, count))]

    def last_event(self, job: str) -> StoredEvent:
        """Return the latest event of a job."""
        query = f"SELECT {_EVENT_COLUMNS} FROM events WHERE job = ? ORDER BY seq DESC LIMIT 1"
        return _event(self._row_of(job, query))

    def result(self, job: str) -> Path:
        """Return the folder of a job's result, which exists only once it is complete."""
        return self.folder / "results" / job

    def summary(self, job: str) -> dict[str, Any]:
        """Return the record of a job's result; nothing if it cannot be read."""
        try:
            return read_object(self.result(job) / "job.json")
        except (OSError, ValueError):
            return {}

    def partial(self, job: str) -> Path:
        """Return the path of a folder for a worker to write; it is renamed to `result` when it is complete.

        What an earlier attempt left is moved there, so that its frames are used, and a worker of that attempt that is
        still ending can write no more. Files that it had only begun are deleted. Raise OutputError.
        """
        path = self.folder / "results" / f".partial-{job}-{secrets.token_hex(4)}"
        try:
            path.parent.mkdir(exist_ok=True, mode=0o700)
            for left in self._partials(job):
                if not path.exists():
                    os.rename(left, path)
                    delete_temporaries(path)
                else:
                    shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            raise storage_error(error, self.folder) from error
        return path

    def remove_partial(self, job: str) -> None:
        """Delete what a worker left behind."""
        for path in self._partials(job):
            shutil.rmtree(path, ignore_errors=True)

    def _partials(self, job: str) -> list[Path]:
        """Return the folders that attempts at a job left, the latest first."""
        name = re.compile(rf"\.partial-{re.escape(job)}-[0-9a-f]{{8}}")
        found = (path for path in (self.folder / "results").glob(".partial-*") if name.fullmatch(path.name))
        return sorted(found, key=_modified, reverse=True)

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
                self.record_event(job.id, {"state": DONE, "summary": self.summary(job.id)})
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
                with self._database.writing():
                    self._database.rows("UPDATE jobs SET restarts = restarts + 1 WHERE id = ?", (job.id,))
                self.record_event(job.id, {"state": QUEUED, "message": "The backend was restarted."})

    def finished(self) -> list[str]:
        """Return the jobs that have ended, the oldest first."""
        query = f"SELECT id FROM jobs WHERE state IN ({','.join('?' * len(FINAL_STATES))}) ORDER BY position"
        return [job for (job,) in self._database.rows(query, FINAL_STATES) if is_job_id(str(job))]

    def delete(self, job: str) -> None:
        """Delete a job and its result."""
        with self._database.writing():
            self._database.rows("DELETE FROM events WHERE job = ?", (job,))
            self._database.rows("DELETE FROM jobs WHERE id = ?", (job,))
            self.clock.forget(job)
        shutil.rmtree(self.result(job), ignore_errors=True)

    def _add_event(self, job: str, body: Mapping[str, Any], preview: bytes | None) -> StoredEvent:
        now = time.time()
        (seq,) = self._row_of(job, "SELECT coalesce(max(seq), 0) + 1 FROM events WHERE job = ?")
        self._database.rows(
            "INSERT INTO events (job, seq, time, body, preview) VALUES (?, ?, ?, ?, ?)",
            (job, seq, now, pack(dict(body)), preview),
        )
        return StoredEvent(job, seq, now, dict(body), preview)

    def _row_of(self, job: str, query: str) -> tuple[Any, ...]:
        rows = self._database.rows(query, (job,))
        if not rows:
            raise ProtocolError("unknown-job", f"The backend has no job {job}.")
        return rows[0]


def event_body(event: StoredEvent) -> dict[str, Any]:
    """Return an event as it is sent. Its preview is sent as a buffer, in the order of the events that have one."""
    more = {"job": event.job, "seq": event.seq, "time": event.time, "preview": event.preview is not None}
    return {**event.body, **more}


def damaged_job(job: str) -> JobError:
    """Make the error for a job whose row in the database cannot be read."""
    return JobError("damaged-job", f"What the job store has of job {job} is damaged.", "Send the shot again.")


# Values of the database are checked as if they were received: whatever changed the file must not end the backend.


def _job(row: tuple[Any, ...]) -> StoredJob:
    name, created, state, settings, deaths, restarts, cancel = row
    return StoredJob(
        str(name),
        created if isinstance(created, float) else 0.0,
        state if state in (QUEUED, *ACTIVE_STATES, *FINAL_STATES) else FAILED,
        _unpack(settings) or {},
        deaths if isinstance(deaths, int) else 0,
        restarts if isinstance(restarts, int) else 0,
        bool(cancel),
    )


def _event(row: tuple[Any, ...]) -> StoredEvent:
    job, seq, moment, packed, preview = row
    body = _unpack(packed)
    if body is None:
        body = {"state": FAILED, "error": damaged_job(job).to_dict()}
    moment = moment if isinstance(moment, float) else 0.0
    return StoredEvent(job, seq, moment, body, preview if isinstance(preview, bytes) else None)


def _unpack(packed: Any) -> dict[str, Any] | None:
    """Return a map with names that are text; None if it is damaged."""
    try:
        found = msgpack.unpackb(packed, strict_map_key=True)
    except (TypeError, ValueError, RecursionError, msgpack.UnpackException):
        return None
    return found if isinstance(found, dict) and all(isinstance(key, str) for key in found) else None


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


def _read_or_create_token(path: Path) -> str:
    """Read or create the token, which stays the same, so that clients find a restarted backend again.

    One that others may read, as after a copy of the folder, is made private.
    """
    try:
        if os.name != "nt" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        token = path.read_bytes()[:1024].decode("ascii").strip()
    except FileNotFoundError:
        token = ""
    except UnicodeDecodeError as error:
        fix = "Delete that file; a new token is made then."
        raise OutputError("store-damaged", f"The token in {path} is not plain text.", fix) from error
    if not token.isprintable():
        token = ""
    if len(token) < 32:
        token = secrets.token_urlsafe(32)
        write_bytes(path, token.encode(), private=True)
    return token
