# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves the folder of models: copied, compared and only then switched to; what was there before goes last.

Within one file system it is a matter of renaming. Knows nothing of bpy; runs in a thread of its own.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from trackshade import settings as places
from trackshade.conventions import size_in_words
from trackshade.errors import OutputError, UsageError

from .running import Task
from .words import cannot_write

BLOCK = 4 << 20
Report = Callable[[float | None, str], None]


def move_models(target: Path, report: Report, task: Task) -> Path:
    """Moves every model to `target` and makes it the folder of models for every program of this user.

    Raises OutputError (unwritable, too small, full, a copy that differs), UsageError where the folder is set by
    TRACKSHADE_MODELS or lies within itself, Cancelled; the models are then where they were.
    """
    source, target = places.models_dir().absolute(), target.absolute()
    said = os.environ.get("TRACKSHADE_MODELS")
    if said:
        raise UsageError("models-folder-set", f"TRACKSHADE_MODELS says {said}.", "Change it there.")
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
        if moved and source.stat().st_dev == target.stat().st_dev:
            _rename(moved, target)
        else:
            _copy(moved, source, target, report, task)
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def _rename(moved: list[Path], target: Path) -> None:
    done: list[Path] = []
    try:
        for path in moved:
            os.rename(path, target / path.name)
            done.append(path)
        places.choose_models_dir(target)
    except BaseException:
        for path in done:
            os.rename(target / path.name, path)
        raise


def _copy(moved: list[Path], source: Path, target: Path, report: Report, task: Task) -> None:
    files = [path for folder in moved for path in sorted(folder.rglob("*")) if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(target).free
    if free < total:
        raise OutputError(
            "disk-full",
            f"The models need {size_in_words(total)}; the disk of {target} has {size_in_words(free)} free.",
            "Make room, or choose a folder on another disk.",
        )
    part = target / f".moving-{secrets.token_hex(3)}"
    try:
        digests: dict[Path, bytes] = {}
        done = 0
        for path in files:
            digests[path] = _copy_file(path, part / path.relative_to(source), task)
            done += path.stat().st_size
            report(0.5 * done / max(1, total), f"Copying {path.parent.name}")
        done = 0
        for path in files:
            if _digest(part / path.relative_to(source), task) != digests[path]:
                raise OutputError("copy-differs", f"The copy of {path} differs from it.", "Check that disk.")
            done += path.stat().st_size
            report(0.5 + 0.5 * done / max(1, total), f"Comparing {path.parent.name}")
        task.check()
        for folder in moved:
            (part / folder.name).mkdir(parents=True, exist_ok=True)
            os.rename(part / folder.name, target / folder.name)
        try:
            places.choose_models_dir(target)
        except BaseException:
            for folder in moved:
                shutil.rmtree(target / folder.name, ignore_errors=True)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for folder in moved:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_file(path: Path, copy: Path, task: Task) -> bytes:
    """Copies to the disk itself, so that comparing says something; the digest of what was read."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as read, copy.open("wb") as write:
        while block := read.read(BLOCK):
            task.check()
            state.update(block)
            write.write(block)
        write.flush()
        os.fsync(write.fileno())
    return state.digest()


def _digest(path: Path, task: Task) -> bytes:
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            task.check()
            state.update(block)
    return state.digest()
