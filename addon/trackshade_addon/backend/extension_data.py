# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves what earlier versions kept in the extension's own data folder, which Blender deletes with the extension.

    DATA/shaded/    results of scenes that were never saved; to the folder that those go to now
    DATA/backend/   environments; to the one folder of all Blenders

A virtual environment can be moved: Trackshade only ever runs its Python with `-m` or `-c`, and that finds its packages
from where it lies itself. (Scripts such as `pip` in it name the old path; making the environment again renews them.)

Whatever goes wrong, or ends it early, each result and each environment is whole either where it was or where it goes,
and is used from there; the next start of Blender tries again. Old and new path of each result are noted in
`moved.json`, so that scenes that show one still find it. Knows nothing of bpy.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from trackshade.core import atomic_files, folders
from trackshade.core.errors import OutputError, TrackshadeError
from trackshade.ipc import connection_files
from trackshade.ipc.locks import IN_USE, FileLock

from . import environment, moving
from .environment import Environment
from .moving import PART, Report
from .running import Task

MOVED = "moved.json"
RESULTS, ENVIRONMENTS = "shaded", "backend"  # in the extension's data folder


@dataclass
class Moved:
    """What became of the old folders.

    Attributes:
        results: where results were moved, or None.
        environments: where an environment was moved, or None.
        error: why something stayed where it was, or None.
        to_copy: something is on another disk than where it goes, and is to be copied (see `copy_over`).
    """

    results: Path | None = None
    environments: Path | None = None
    error: TrackshadeError | None = None
    to_copy: bool = False


def is_there(data: Path) -> bool:
    """Whether an extension's data folder holds anything to move."""
    return os.path.isdir(data / RESULTS) or os.path.isdir(data / ENVIRONMENTS)


def rename_over(data: Path, results: Path) -> Moved:
    """Moves all that lies on the same disk as where it goes, in milliseconds.

    Args:
        data: the extension's data folder.
        results: where the results of scenes go that were never saved.
    """
    return _move(data, results, None, Task())


def copy_over(data: Path, results: Path, report: Report, task: Task) -> Moved:
    """Moves the rest by copying, comparing and then deleting it. Raises Cancelled; what is whole by then was moved."""
    return _move(data, results, report, task)


def moved_results() -> dict[Path, Path]:
    """New path of each result that was moved, by its old one, as far as it is there."""
    noted = _noted().items()
    return {Path(old): Path(new) for old, new in noted if os.path.exists(new) and not os.path.lexists(old)}


def _move(data: Path, results: Path, report: Report | None, task: Task) -> Moved:
    moved = Moved()
    try:
        with _held(folders.home() / "moving.lock") as alone:
            for move in (_move_results, _move_environments) if alone else ():  # else another Blender does it
                try:
                    move(data, results, report, task, moved)
                except (OSError, OutputError) as error:
                    moved.error = _not_moved(data, error)
            with contextlib.suppress(OSError):  # it holds something of somebody else's
                data.rmdir()
    except OSError as error:
        moved.error = _not_moved(data, error)
    return moved


def _move_results(data: Path, results: Path, report: Report | None, task: Task, moved: Moved) -> None:
    source = data / RESULTS
    if not source.is_dir() or _lies_in(results, source):
        return
    items = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    noted = _noted()
    places: dict[Path, Path] = {}
    for item in items:
        copied = Path(noted[str(item)]) if str(item) in noted else None
        if copied is None or not copied.exists():
            places[item] = _free(results / item.name, places.values())
        elif report is None:  # Blender was ended after it was copied, or before: comparing takes its time
            moved.to_copy = True
        elif moving.same(item, copied):
            moving.delete([item])
        else:
            places[item] = _free(results / item.name, places.values())
    if places:
        results.mkdir(parents=True, exist_ok=True)
        _note({**noted, **{str(old): str(new) for old, new in places.items()}})
        try:
            if not moving.rename(places):
                moved.to_copy = moved.to_copy or report is None
                if report is not None:
                    _sweep(results)
                    moving.copy(places, results, report, task)
                    moving.delete(places)
        finally:  # what is still there was not moved
            here = {str(old) for old in places if os.path.lexists(old)}
            _note({old: new for old, new in _noted().items() if old not in here})
    if items and not moved.to_copy:
        moved.results = results
    with contextlib.suppress(OSError):
        source.rmdir()


def _move_environments(data: Path, results: Path, report: Report | None, task: Task, moved: Moved) -> None:
    source, home = data / ENVIRONMENTS, folders.environments_dir()
    if not source.is_dir() or _lies_in(home, source) or _lies_in(folders.home(), source):
        return
    with contextlib.ExitStack() as stack:
        locks = [source / environment.LOCK, home / environment.LOCK]
        if report is None:  # nothing may run from what is renamed; copying disturbs nobody
            locks.append(folders.shared_dir() / "starting.lock")
        held = [stack.enter_context(_held(path)) for path in locks]
        if not all(held) or (report is None and _runs()):
            return  # the next start of Blender moves it
        for made in environment.every(source):
            if any((made.version, made.kind) == (other.version, other.kind) for other in environment.every(home)):
                continue  # another Blender's was moved, or is the copy of this one
            moves = {made.packages: home / made.packages.name, made.folder: home / made.folder.name}
            moves = {old: new for old, new in moves.items() if not new.exists()}
            environment.mark(replace(made, home=home, folder=home / made.folder.name))  # counts once it is there
            if report is not None:
                _sweep(home)
                moving.copy(moves, home, report, task)
            elif not moving.rename(moves):
                moved.to_copy = True
                continue
            (home / made.folder.name / IN_USE).mkdir(exist_ok=True)
            moved.environments = home
            _forget(source, made)
    if report is None:  # deleting an environment takes seconds
        moved.to_copy = moved.to_copy or any(source.glob("env-*"))
    if (report is None and not moved.to_copy) or (report is not None and not _runs()):
        moving.delete(path for path in source.iterdir() if environment.is_ours(path.name))
        with contextlib.suppress(OSError):  # it holds something of somebody else's
            source.rmdir()


def _lies_in(folder: Path, source: Path) -> bool:
    """Whether a folder that things go to is the one that they are in, or within it, as somebody may have chosen: they
    stay, then."""
    return folder.resolve().is_relative_to(source.resolve())


def _forget(source: Path, made: Environment) -> None:
    """Takes away the file that makes it count where it was."""
    for marker in source.glob(environment.MARKERS):
        if marker.name in ("environment.json", made.marker.name):
            marker.unlink()


def _runs() -> bool:
    """Whether the backend that all Blenders share runs, perhaps from an environment that is to be moved."""
    try:
        info = connection_files.read(folders.shared_dir() / "backend.json")
    except TrackshadeError:  # damaged; then nobody can use it
        return False
    return info is not None and info.is_alive()


def _free(path: Path, taken: Iterable[Path]) -> Path:
    """A path beside `path` that is not there yet: itself, or with a number."""
    names = (path if number == 1 else path.with_name(f"{path.name}-{number}") for number in count(1))
    return next(item for item in names if not os.path.lexists(item) and item not in taken)


def _sweep(folder: Path) -> None:
    """Removes copies that were never finished."""
    moving.delete(folder.glob(f"{PART}*"))


def _noted() -> dict[str, str]:
    try:
        found = json.loads((folders.home() / MOVED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(old): str(new) for old, new in found.items()} if isinstance(found, dict) else {}


def _note(places: Mapping[str, str]) -> None:
    atomic_files.write_json(folders.home() / MOVED, places)


def _not_moved(data: Path, error: OSError | OutputError) -> OutputError:
    reason = str(error) if isinstance(error, OSError) else error.message.rstrip(".")
    return OutputError(
        "not-moved",
        f"Not everything in {data} could be moved out of the extension's folder: {reason}. It is used from there.",
        "Correct that and start Blender again; Blender deletes this folder when the extension is removed.",
    )


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Holds a lock; whether it could be had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
