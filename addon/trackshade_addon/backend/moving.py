# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves folders: within one file system by renaming them, to another one by copying and comparing first.

What was there before is deleted last, so that whatever ends a move early leaves one whole copy. Knows nothing of bpy.
Copying takes its time and belongs into a thread of its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from trackshade.core import folders
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.text import format_size

from ..messages.backend import cannot_write
from .running import Task

BLOCK = 4 << 20
PART = ".moving-"  # begins the names of folders that hold copies which are not whole yet
Report = Callable[[float | None, str], None]


def move_models(target: Path, report: Report, task: Task) -> Path:
    """Moves every model to `target` and makes it the folder of models for every program of this user.

    Raises OutputError (unwritable, too small, full, a copy that differs), UsageError where the folder is set by
    TRACKSHADE_MODELS or lies within itself, Cancelled; the models are then where they were.
    """
    source, target = folders.models_dir().absolute(), target.absolute()
    said = os.environ.get("TRACKSHADE_MODELS")
    if said:
        raise UsageError("models-folder-set", f"TRACKSHADE_MODELS is set to {said}.", "Change or unset that variable.")
    if source == target:
        return target
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError("models-folder", f"{target} and {source} lie within each other.", "Choose another folder.")
    moved = [path for path in sorted(source.iterdir()) if path.is_dir()] if source.is_dir() else []
    try:
        target.mkdir(parents=True, exist_ok=True)
        taken = [path.name for path in moved if (target / path.name).exists()]
        if taken:
            raise UsageError("models-folder", f"{target} has a {taken[0]} already.", "Choose another folder.")
        places = {path: target / path.name for path in moved}
        if rename(places):
            done = False
            try:
                folders.choose_models_dir(target)
                done = True
            finally:
                if not done:
                    rename({new: old for old, new in places.items()})
        else:
            copy(places, target, report, task)
            try:
                folders.choose_models_dir(target)
            except BaseException:
                delete(places.values())
                raise
            delete(moved)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def rename(places: Mapping[Path, Path]) -> bool:
    """Renames each old path to its new one, all or none; False where they are not in one file system.

    Raises:
        OSError: one cannot be renamed.
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


def copy(places: Mapping[Path, Path], target: Path, report: Report, task: Task) -> None:
    """Copies each old path, a file or a folder, to its new one in the folder `target`, and compares what was written
    with what was read. New paths appear whole, when all are. Links stay links.

    Raises:
        OutputError: not enough room, or a copy that differs. OSError: from the file system. Cancelled. Nothing of the
            copies is left then.
    """
    files = [(old, path) for old in places for path in _walk(old) if path.is_file() and not path.is_symlink()]
    total = sum(path.stat().st_size for _, path in files)
    free = shutil.disk_usage(target).free
    if free < total:
        raise OutputError(
            "disk-full",
            f"What is moved needs {format_size(total)}; the disk of {target} has {format_size(free)} free.",
            "Make room, or choose a folder on another disk.",
        )
    part = target / f"{PART}{secrets.token_hex(3)}"
    placed: list[Path] = []
    try:
        for old, new in places.items():
            _copy_frame(old, part / new.name)
        digests: list[bytes] = []
        done = 0
        for old, path in files:
            digests.append(_copy_file(path, _at(path, old, part / places[old].name), task))
            done += path.stat().st_size
            report(0.5 * done / max(1, total), f"Copying {old.name}")
        done = 0
        for (old, path), digest in zip(files, digests, strict=True):
            if _digest(_at(path, old, part / places[old].name), task) != digest:
                raise OutputError("copy-differs", f"The copy of {path} differs from it.", "Check that disk.")
            done += path.stat().st_size
            report(0.5 + 0.5 * done / max(1, total), f"Comparing {old.name}")
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
    """Deletes files and folders as far as that is allowed."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def same(one: Path, other: Path) -> bool:
    """Whether two files or folders hold the same names, links and bytes."""
    task = Task()
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
    """A file or folder and all that is in it, folders first, in order; links are not followed."""
    yield path
    if path.is_dir() and not path.is_symlink():
        for item in sorted(path.iterdir()):
            yield from _walk(item)


def _at(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path != old else new


def _copy_frame(old: Path, new: Path) -> None:
    """Makes the folders and links of a copy."""
    new.parent.mkdir(parents=True, exist_ok=True)
    for path in _walk(old):
        copied = _at(path, old, new)
        if path.is_symlink():
            os.symlink(os.readlink(path), copied, target_is_directory=path.is_dir())
        elif path.is_dir():
            copied.mkdir()


def _copy_file(path: Path, copied: Path, task: Task) -> bytes:
    """Copies, a large file to the disk itself, so that comparing says something; the digest of what was read."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as read, copied.open("wb") as write:
        while block := read.read(BLOCK):
            task.check()
            state.update(block)
            write.write(block)
        write.flush()
        if write.tell() > BLOCK:  # an environment has tens of thousands of small ones
            os.fsync(write.fileno())
    shutil.copystat(path, copied)
    return state.digest()


def _digest(path: Path, task: Task) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            task.check()
            state.update(block)
    return state.digest()
