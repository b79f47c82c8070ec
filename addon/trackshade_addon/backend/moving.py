# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves folders: by renaming within a file system, by copying, comparing and deleting to another one.

The originals are deleted last, so that a complete copy is left however a move ends early. Does not import bpy. Copying
takes long and belongs in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from trackshade.core import folders
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.text import format_size

from ..messages.backend import cannot_write
from .tasks import CancellableTask

BLOCK = 4 << 20  # bytes that are read at a time
PART = ".moving-"  # prefix of folders that hold incomplete copies
Report = Callable[[float | None, str], None]  # fraction done, what is being done

_log = logging.getLogger(__name__)


def move_models(target: Path, report: Report, task: CancellableTask) -> Path:
    """Move all models, and make `target` the models folder for every program of this user; return its absolute path.

    Raises:
        OutputError: the folder cannot be written, its disk is full, or a copy differs. The models stay where they were.
        UsageError: TRACKSHADE_MODELS sets the folder, or one folder lies in the other.
        CancelledError: the task was canceled. The models stay where they were.
    """
    source, target = folders.models_dir().absolute(), target.absolute()
    variable = os.environ.get("TRACKSHADE_MODELS")
    if variable:
        raise UsageError(
            "models-folder-set",
            f"The environment variable TRACKSHADE_MODELS sets the models folder: {variable}.",
            "Change that variable.",
        )
    if source == target:
        return target
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError("models-folder", f"{target} and {source} lie within each other.", "Choose another folder.")
    models = [path for path in sorted(source.iterdir()) if path.is_dir()] if source.is_dir() else []
    try:
        target.mkdir(parents=True, exist_ok=True)
        taken = [path.name for path in models if (target / path.name).exists()]
        if taken:
            raise UsageError("models-folder", f"{target} already contains {taken[0]}.", "Choose another folder.")
        places = {path: target / path.name for path in models}
        renamed = rename(places)
        if not renamed:
            copy(places, target, report, task)
        try:
            folders.choose_models_dir(target)
        except BaseException:
            if renamed:
                rename({new: old for old, new in places.items()})
            else:
                delete(places.values())
            raise
        if not renamed:
            delete(models)
    except OSError as error:
        raise cannot_write(target, error) from error
    _log.info("Moved the models from %s to %s", source, target)
    return target


def rename(places: Mapping[Path, Path]) -> bool:
    """Rename each old path to its new one: all of them or, if old and new ones are in different file systems, none.

    Returns whether they were renamed.

    Raises:
        OSError: a path cannot be renamed.
    """
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in places.items():
            os.rename(old, new)
            done.append((old, new))
    except BaseException as error:
        for old, new in done:
            os.rename(new, old)
        if isinstance(error, OSError) and error.errno == errno.EXDEV:
            return False
        raise
    return True


def copy(places: Mapping[Path, Path], target: Path, report: Report, task: CancellableTask) -> None:
    """Copy files and folders to new paths in the folder `target`, and compare the copies with the originals.

    The new paths appear together, when all copies are complete; after an error there are none. Links are copied as
    links.

    Raises:
        OutputError: there is not enough space, or a copy differs.
        OSError: from the file system.
        CancelledError: the task was canceled.
    """
    part = target / f"{PART}{secrets.token_hex(3)}"
    copies = {path: part / new.name / path.relative_to(old) for old, new in places.items() for path in _walk(old)}
    files = {path: copied for path, copied in copies.items() if path.is_file() and not path.is_symlink()}
    total = sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(target).free
    if free < total:
        raise OutputError(
            "disk-full",
            f"Moving needs {format_size(total)}; the disk of {target} has {format_size(free)} free.",
            "Make room, or choose a folder on another disk.",
        )
    placed: list[Path] = []
    try:
        part.mkdir()
        for path, copied in copies.items():  # folders before their content
            if path.is_symlink():
                os.symlink(os.readlink(path), copied, target_is_directory=path.is_dir())
            elif path.is_dir():
                copied.mkdir()
        digests: dict[Path, bytes] = {}
        done = 0  # bytes that were copied, and bytes that were compared
        for path, copied in files.items():
            digests[path] = _copy_file(path, copied, task)
            done += path.stat().st_size
            report(0.5 * done / max(1, total), f"Copying {copied.relative_to(part).parts[0]}")
        for path, copied in files.items():
            if _digest(copied, task) != digests[path]:
                raise OutputError("copy-differs", f"The copy of {path} differs from it.", "Check that disk.")
            done += path.stat().st_size
            report(0.5 * done / max(1, total), f"Comparing {copied.relative_to(part).parts[0]}")
        task.check()
        for new in places.values():
            os.rename(part / new.name, new)
            placed.append(new)
    except BaseException:
        delete(placed)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def delete(paths: Iterable[Path]) -> None:
    """Delete files and folders; what may not be deleted stays."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def is_same(one: Path, other: Path) -> bool:
    """Return whether two files or folders hold the same names, links and bytes."""
    task = CancellableTask()
    ones, others = list(_walk(one)), list(_walk(other))
    if [path.relative_to(one) for path in ones] != [path.relative_to(other) for path in others]:
        return False
    for path, twin in zip(ones, others, strict=True):
        if path.is_symlink() or twin.is_symlink():
            if not (path.is_symlink() and twin.is_symlink()) or os.readlink(path) != os.readlink(twin):
                return False
        elif path.is_dir() or twin.is_dir():
            if path.is_dir() != twin.is_dir():
                return False
        elif path.stat().st_size != twin.stat().st_size or _digest(path, task) != _digest(twin, task):
            return False
    return True


def _walk(path: Path) -> Iterator[Path]:
    """Return a file or folder and everything in it, folders before their content, in order; links are not followed."""
    yield path
    if path.is_dir() and not path.is_symlink():
        for item in sorted(path.iterdir()):
            yield from _walk(item)


def _copy_file(path: Path, copied: Path, task: CancellableTask) -> bytes:
    """Copy a file and return the digest of what was read.

    A large file is flushed to the disk, so that comparing reads what the disk holds.
    """
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as source, copied.open("wb") as target:
        while block := source.read(BLOCK):
            task.check()
            state.update(block)
            target.write(block)
        target.flush()
        if target.tell() > BLOCK:  # an environment has tens of thousands of small files
            os.fsync(target.fileno())
    shutil.copystat(path, copied)
    return state.digest()


def _digest(path: Path, task: CancellableTask) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            task.check()
            state.update(block)
    return state.digest()
