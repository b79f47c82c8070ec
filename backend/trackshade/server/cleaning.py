# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a job store within its limits: results by number, age and size, chunks by age."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trackshade.core.errors import OutputError, TrackshadeError
from trackshade.ipc.locks import FileLock
from trackshade.ipc.protocol import ACTIVE_STATES, QUEUED
from trackshade.server.job_store import JobStore
from trackshade.server.store_clock import StoreClock

DAY = 86400.0  # seconds
FETCH_TIME = (
    3600.0  # seconds after its end was noticed in which a result is kept whatever its size, so that it can be fetched
)

_ENDED = "ended"  # mark of a job whose age counts from its end


@dataclass(frozen=True)
class StoreLimits:
    """What a job store keeps. None for no limit."""

    chunk_days: float  # days for which unused chunks are kept
    keep: int | None = None  # number of finished jobs
    result_days: float | None = None  # days for which finished jobs are kept
    result_bytes: float | None = None  # size of all results; the oldest ones are deleted above it


def clean_store(store: JobStore, limits: StoreLimits) -> Iterator[None]:
    """Delete what exceeds the limits, in short steps, between which the broker does other work. Raise OutputError."""
    total, failure = 0, None
    for number, job in enumerate(reversed(store.finished())):
        age = store.clock.age(job, _ENDED)
        is_old = limits.result_days is not None and age > limits.result_days * DAY
        if limits.result_bytes is not None:
            total += _size(store.result(job))
        is_large = limits.result_bytes is not None and total > limits.result_bytes and age > FETCH_TIME
        if is_old or is_large or (limits.keep is not None and number >= limits.keep):
            try:
                store.delete(job)
            except OutputError as error:  # a full disk: chunks are deleted nevertheless, which makes room
                failure = error
        yield
    needed: set[bytes] = set()
    for waiting in store.jobs((QUEUED, *ACTIVE_STATES)):
        with contextlib.suppress(TrackshadeError):  # a damaged job needs none
            needed.update(store.request(waiting.id)[0].chunk_sizes())
        yield
    yield from store.chunks.clean(limits.chunk_days * DAY, needed)
    if failure is not None:
        raise failure


def delete_unused_stores(folders: Iterator[Path], days: float, clock: StoreClock) -> None:
    """Delete job stores that no backend has, and in which nothing was recorded for some days.

    Args:
        folders: Folders of job stores.
        days: Days of the clock.
        clock: Clock of the store that is in use.
    """
    for folder in folders:
        with contextlib.suppress(OSError, OutputError):  # in use, or deleted meanwhile
            latest = max((path.stat().st_mtime for path in folder.glob("jobs.sqlite3*")), default=None)
            if latest is None:  # another backend is creating it, or it is no store
                continue
            if clock.age(f"store {folder.name}", repr(latest)) < days * DAY:
                continue
            lock = FileLock(folder / "lock")
            try:
                shutil.rmtree(folder, ignore_errors=True)
                clock.forget(f"store {folder.name}")
            finally:
                lock.release()


def _size(folder: Path) -> int:
    """Return the bytes of the files in a folder; 0 if there is none."""
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(root, name)).st_size
    return size
