# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes files and folders in one step: under a temporary name beside the target, renamed once they are complete.

Whoever reads the target finds the old version or the new one, never a part of it, also where the writer is killed.
The data is left to the operating system's cache unless `sync` is set: a power cut may lose the last moments.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trackshade.core.errors import OutputError, UsageError
from trackshade.core.text import join_or

# Names that `atomic_file` and `atomic_folder` give.
_TEMPORARY_FILE = re.compile(r"\..*\.[0-9a-f]{8}(\.[^.]*)?")
_TEMPORARY_FOLDER = re.compile(r"\..*\.(partial|old)-[0-9a-f]{8}")
FIX_FOLDER = "Choose a folder that can be written and has space."


@contextmanager
def writing(what: str, path: Path, fix: str = FIX_FOLDER) -> Iterator[None]:
    """Turn an OSError of the block into OutputError("output-unwritable").

    Args:
        what: What the block writes, such as "The shot".
        path: Where it writes it.
        fix: What the user can do about it.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError("output-unwritable", f"{what} cannot be written to {path}: {reason}.", fix) from error


def require_suffix(path: Path, *suffixes: str) -> Path:
    """Return the path of a file that will be written. Raise UsageError unless it ends in one of the suffixes."""
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            "file-suffix",
            f"The name of {path} does not end in {join_or(suffixes)}, as that of the file that is written does.",
            f"Name it {path.with_suffix(suffixes[0]).name}.",
        )
    return path


def is_occupied(path: Path) -> bool:
    """Return whether something is at a path, other than an empty folder. Raise OSError."""
    return path.exists() and (not path.is_dir() or any(path.iterdir()))


@contextmanager
def atomic_file(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a path beside `path` to write to; what is written there becomes `path` when the block ends.

    The folder is created where it is missing. The yielded name has the suffix of `path`, because libraries choose a
    format by it. After an error in the block, the temporary file is deleted and `path` is as before. With `sync`, the
    data is on the disk before the file appears.

    Raises:
        OSError: The file cannot be written or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(
    path: Path, *, replace: bool = True, previous: Path | None = None, single_writer: bool = False
) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; it becomes `path` when the block ends.

    A folder that is at `path` then is set aside, and deleted once the new one has its place; a file there is an error.
    After an error, the new folder is deleted and `path` is as before.

    Args:
        path: The folder to write.
        replace: Whether to replace a folder with contents. Otherwise only an empty one is replaced.
        previous: Where the old version is while the two are exchanged; a hidden name beside it by default. A process
            that is killed in that moment leaves it there, and no folder at `path`.
        single_writer: Whether no other process writes the same folder now. What killed ones left is deleted then.

    Raises:
        OSError: The folder cannot be created, renamed or replaced.
    """
    for left in path.parent.glob(f".{path.name}.partial-*") if single_writer else ():
        shutil.rmtree(left, ignore_errors=True)
    token = secrets.token_hex(4)
    temporary = path.with_name(f".{path.name}.partial-{token}")
    previous = previous or path.with_name(f".{path.name}.old-{token}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        if replace and path.is_dir():
            shutil.rmtree(previous, ignore_errors=True)
            os.rename(path, previous)
            try:
                os.rename(temporary, path)
            except OSError:
                os.rename(previous, path)
                raise
        else:
            os.rename(temporary, path)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def delete_temporaries(folder: Path) -> None:
    """Delete what killed processes have begun to write in a folder and below. Nobody may write there. Raise OSError."""
    for parent, folders, files in os.walk(folder):
        for name in files:
            if _TEMPORARY_FILE.fullmatch(name):
                Path(parent, name).unlink(missing_ok=True)
        for name in [name for name in folders if _TEMPORARY_FOLDER.fullmatch(name)]:
            shutil.rmtree(os.path.join(parent, name))
            folders.remove(name)


def write_bytes(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file in one step; with `private`, only this user may read it (mode 0600). Raise OSError."""
    with atomic_file(path) as temporary:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(temporary, flags, 0o600 if private else 0o666), "wb") as file:
            file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write a small JSON file in one step. Raise OutputError("unwritable")."""
    try:
        write_bytes(path, json.dumps(value, indent=1).encode())
    except OSError as error:
        fix = f"Make {path.parent} a folder that you can write to."
        raise OutputError("unwritable", f"{path} cannot be written: {error.strerror}.", fix) from error
