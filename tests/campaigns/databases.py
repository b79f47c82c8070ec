# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged job stores: each is opened and read, or gives a sentence; some are served by a backend."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgpack

from tests.campaigns.mutants import HOSTILE_VALUES, damaged_bytes, damaged_value
from tests.campaigns.table import Row
from tests.helpers.backends import until
from trackshade.config.settings import ShadeSettings
from trackshade.ipc import Manifest
from trackshade.ipc import protocol as states
from trackshade.server.cleaning import StoreLimits, clean_store
from trackshade.server.job_store import JobStore

SERVED = 20  # every which store is served, too
COLUMNS = {
    "clock": ("passed", "looked"),
    "noticed": ("mark", "passed"),
    "jobs": ("id", "created", "state", "digest", "settings", "manifest", "deaths", "restarts", "cancel"),
    "events": ("seq", "time", "body", "preview"),
}


def databases(folder: Path, count: int, seed: int) -> Row:
    """Damage the files of a store and the values in its database."""
    row, rng = Row("job stores"), random.Random(seed)
    whole = folder / "whole"
    _make_store(whole)
    for number in range(count):
        store = folder / "damaged"
        _replace_files(store, whole)
        if rng.randrange(3):
            _damage_values(store / "jobs.sqlite3", rng)
        else:
            file = rng.choice(("jobs.sqlite3", "jobs.sqlite3", "token"))
            (store / file).write_bytes(damaged_bytes((store / file).read_bytes(), rng))
        if number % SERVED == 0:
            _serve(store, row)
        else:
            row.attempt(lambda store=store: _read(store), f"store {number}")
    return row


def _make_store(folder: Path) -> None:
    store = JobStore(folder)
    for number in range(6):
        job = f"job-{number}"
        store.add(job, Manifest({"version": 1}, ()), ShadeSettings(prompt="a test").to_dict())
        store.record_event(job, {"state": states.RUNNING, "step": 1, "steps": 2}, b"preview")
        if number % 2:
            store.record_event(job, {"state": states.DONE, "summary": {}})
            store.clock.age(job, "ended")
    store.close()


def _replace_files(store: Path, whole: Path) -> None:
    """Give a store the files of another one. Its folders, of which none holds anything, stay: there are hundreds."""
    store.mkdir(exist_ok=True)
    for path in store.iterdir():
        if not path.is_dir():
            path.unlink()
    for path in whole.iterdir():
        if path.is_file():
            shutil.copyfile(path, store / path.name)


def _damage_values(path: Path, rng: random.Random) -> None:
    database = sqlite3.connect(path)
    table = rng.choice(("jobs", "events", "events", "clock", "noticed"))
    column = rng.choice(COLUMNS[table])
    found = rng.choice(database.execute(f"SELECT rowid, {column} FROM jobs").fetchall()) if table == "jobs" else None
    value = rng.choice([v for v in HOSTILE_VALUES if isinstance(v, str | bytes | int | float) and not _is_huge(v)])
    if column in ("settings", "manifest") and found is not None and rng.randrange(2):
        value = msgpack.packb(damaged_value(msgpack.unpackb(found[1]), rng), default=str)
    where = "" if found is None else f"WHERE rowid = {found[0]}"
    try:
        database.execute(f"UPDATE OR REPLACE {table} SET {column} = ? {where}", (value,))
    except (sqlite3.Error, OverflowError):  # not null, not unique
        database.rollback()
    database.commit()
    database.close()


def _is_huge(value: object) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _read(folder: Path) -> None:
    """Do everything with a store that a backend does at its start and for a client."""
    store = JobStore(folder)
    try:
        store.recover()
        jobs, _ = store.page(0, 100)
        for job, _ in jobs:
            store.events(job.id, 0)
            store.last_event(job.id)
        for _ in clean_store(store, StoreLimits(7, 3, 30, 1e9)):
            continue
    finally:
        store.close()


def _serve(folder: Path, row: Row) -> None:
    """Start a backend: it listens, or ends with a sentence."""
    row.trials += 1
    file, log = folder / "connection.json", folder / "log"
    command = [sys.executable, "-m", "trackshade.server", "--workers", "0", "--store", str(folder)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--connection-file", str(file)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    until(lambda: file.exists() or process.poll() is not None)
    code = process.poll()
    process.terminate()
    process.wait(60)
    if code not in (None, 3):
        row.ends += 1
        row.note(f"a backend ended with {code}")
    row.read_log(log)
