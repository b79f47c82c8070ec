# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves what earlier versions kept in the extension's data folder, which Blender deletes with the extension.

    DATA/shaded/    results of scenes that were never saved; moved to the folder where these go now
    DATA/backend/   environments; moved to the folder that all Blenders share

A virtual environment can be moved, because Trackshade runs its Python only with `-m` or `-c`, and Python finds the
packages relative to itself. (Scripts such as `pip` contain the old path; making the environment again renews them.)

However a move ends early, each result and each environment is complete in the old place or in the new one, and is used
from there; the next start of Blender tries again. `moved.json` records old and new path of each result, so that scenes
that show one still find it. Does not import bpy.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from trackshade.core import atomic_files, folders
from trackshade.core.errors import OutputError, TrackshadeError
from trackshade.ipc import connection_files
from trackshade.ipc.locks import IN_USE, FileLock

from . import environment, moving
from .moving import PART, Report
from .tasks import CancellableTask

MOVED = "moved.json"
RESULTS, ENVIRONMENTS = "shaded", "backend"  # in the extension's data folder

_log = logging.getLogger(__name__)


@dataclass
class Moved:
    """What became of the old folders."""

    results: Path | None = None  # where results were moved
    environments: Path | None = None  # where an environment was moved
    error: TrackshadeError | None = None  # why something stayed where it was
    to_copy: bool = False  # whether something must be copied to another disk, which takes long


def has_data(data: Path) -> bool:
    """Return whether an extension's data folder holds anything to move."""
    return os.path.isdir(data / RESULTS) or os.path.isdir(data / ENVIRONMENTS)


def moved_results() -> dict[Path, Path]:
    """Return the new path of each result that was moved and exists, by its old path."""
    recorded = _read_record().items()
    return {Path(old): Path(new) for old, new in recorded if os.path.exists(new) and not os.path.lexists(old)}


def move(data: Path, results: Path, report: Report | None = None, task: CancellableTask | None = None) -> Moved:
    """Move everything to the new folders.

    Args:
        data: the extension's data folder.
        results: new folder of the results.
        report: called as report(fraction, message). Without it, only what is on the same disk is moved, which takes
            milliseconds; else the rest as well, by copying, comparing and deleting.
        task: cancels the copying.

    Raises:
        CancelledError: the task was canceled; what was complete by then has been moved.
    """
    moved, task = Moved(), task or CancellableTask()
    try:
        with lock(folders.home() / "moving.lock") as locked:
            for step in (_move_results, _move_environments) if locked else ():  # else another Blender moves it
                try:
                    step(data, results, report, task, moved)
                except (OSError, OutputError) as error:
                    moved.error = _not_moved(data, error)
            _remove_if_empty(data)
    except OSError as error:
        moved.error = _not_moved(data, error)
    _log.info("Moving out of %s: %s", data, moved)
    return moved


def _move_results(data: Path, results: Path, report: Report | None, task: CancellableTask, moved: Moved) -> None:
    source = data / RESULTS
    if not source.is_dir() or _is_inside(results, source):
        return
    items = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    recorded = _read_record()
    places: dict[Path, Path] = {}
    for item in items:
        copied = Path(recorded[str(item)]) if str(item) in recorded else None
        if copied is not None and copied.exists():  # Blender ended before the original was deleted, or while copying
            if report is None:  # comparing takes long
                moved.to_copy = True
                continue
            if moving.is_same(item, copied):
                moving.delete([item])
                continue
        places[item] = _free_path(results / item.name, places.values())
    if places:
        results.mkdir(parents=True, exist_ok=True)
        _write_record({**recorded, **{str(old): str(new) for old, new in places.items()}})
        try:
            if not moving.rename(places):
                moved.to_copy = moved.to_copy or report is None
                if report is not None:
                    moving.delete(results.glob(f"{PART}*"))
                    moving.copy(places, results, report, task)
                    moving.delete(places)
        finally:  # what still exists was not moved
            remaining = {str(old) for old in places if os.path.lexists(old)}
            _write_record({old: new for old, new in _read_record().items() if old not in remaining})
    if items and not moved.to_copy:
        moved.results = results
    _remove_if_empty(source)


def _move_environments(data: Path, results: Path, report: Report | None, task: CancellableTask, moved: Moved) -> None:
    source, home = data / ENVIRONMENTS, folders.environments_dir()
    if not source.is_dir() or _is_inside(home, source) or _is_inside(folders.home(), source):
        return
    with contextlib.ExitStack() as stack:
        paths = [source / environment.LOCK, home / environment.LOCK]
        if report is None:  # nothing may run from what is renamed; copying disturbs nobody
            paths.append(folders.shared_dir() / "starting.lock")
        locked = [stack.enter_context(lock(path)) for path in paths]
        if not all(locked) or (report is None and _is_backend_running()):
            return  # the next start of Blender moves it
        present = {(item.version, item.kind) for item in environment.list_environments(home)}
        for item in environment.list_environments(source):
            if (item.version, item.kind) in present:
                continue  # another Blender's was moved, or this one was copied
            moves = {item.packages: home / item.packages.name, item.folder: home / item.folder.name}
            moves = {old: new for old, new in moves.items() if not new.exists()}
            environment.write_marker(replace(item, home=home, folder=home / item.folder.name))  # counts once moved
            if report is not None:
                moving.delete(home.glob(f"{PART}*"))
                moving.copy(moves, home, report, task)
            elif not moving.rename(moves):
                moved.to_copy = True
                continue
            present.add((item.version, item.kind))
            (home / item.folder.name / IN_USE).mkdir(exist_ok=True)
            moved.environments = home
            for marker in source.glob(environment.MARKERS):
                if marker.name in ("environment.json", item.marker.name):
                    marker.unlink()
    if report is None:  # deleting an environment takes seconds
        moved.to_copy = moved.to_copy or any(source.glob("env-*"))
    if (report is None and not moved.to_copy) or (report is not None and not _is_backend_running()):
        moving.delete(path for path in source.iterdir() if environment.is_ours(path.name))
        _remove_if_empty(source)


def _is_inside(folder: Path, source: Path) -> bool:
    """Return whether a new folder is the old one or lies in it, by the user's choice; then nothing is moved."""
    return folder.resolve().is_relative_to(source.resolve())


def _is_backend_running() -> bool:
    """Return whether the backend that all Blenders share is running, possibly from an environment to be moved."""
    try:
        info = connection_files.read(folders.shared_dir() / "backend.json")
    except TrackshadeError:  # the file is damaged, so nobody can use the backend
        return False
    return info is not None and info.is_alive()


def _free_path(path: Path, taken: Iterable[Path]) -> Path:
    """Return `path`, with a number appended if it exists or is taken."""
    names = chain([path], (path.with_name(f"{path.name}-{number}") for number in count(2)))
    return next(item for item in names if not os.path.lexists(item) and item not in taken)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it holds files that are not ours
        folder.rmdir()


def _read_record() -> dict[str, str]:
    try:
        found = json.loads((folders.home() / MOVED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(old): str(new) for old, new in found.items()} if isinstance(found, dict) else {}


def _write_record(places: Mapping[str, str]) -> None:
    atomic_files.write_json(folders.home() / MOVED, places)


def _not_moved(data: Path, error: OSError | OutputError) -> OutputError:
    reason = str(error) if isinstance(error, OSError) else error.message.rstrip(".")
    return OutputError(
        "not-moved",
        f"Not everything in {data} could be moved out of the extension's folder: {reason}. It is used from there.",
        "Correct that and start Blender again; Blender deletes this folder when the extension is removed.",
    )


@contextlib.contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Lock a file for the duration of the block; yield whether that succeeded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        file_lock = FileLock(path)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        file_lock.release()
