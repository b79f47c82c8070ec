# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a job's result over the wire into a folder, whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from trackshade.client.connection import Connection, wait
from trackshade.core.errors import OutputError, ProtocolError
from trackshade.ipc import CHUNK_BYTES, Message, digest_of
from trackshade.ipc.fields import is_file_name, take, take_count, take_file_name
from trackshade.ipc.protocol import CREDITS

MAX_FILES = 100_000


def check_output(out: Path, force: bool) -> None:
    """Raise OutputError("output-exists") where `out` has something in it that `force` does not give up."""
    try:
        taken = not out.is_dir() if out.exists() else False
        taken = taken or (out.is_dir() and any(out.iterdir()))
    except OSError as error:
        raise _unwritable(out, error) from error
    if taken and not force:
        raise OutputError("output-exists", f"{out} exists already.", "Choose another place, or force to replace it.")


def fetch(connection: Connection, job: str, out: Path, force: bool) -> None:
    """Copy the result of a finished job to the folder `out`.

    Raises OutputError for a place that is taken or cannot be written, ProtocolError for an unsafe file name or
    damaged bytes, and the job's own error where it failed.
    """
    check_output(out, force)
    files = _files(wait(connection.request("result", {"job": job})))
    partial = out.parent / f".{out.name}.partial-{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
        try:
            _write(connection, job, files, partial)
            _put_in_place(partial, out, force)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise _unwritable(out, error) from error


def _files(answer: Message) -> dict[str, int]:
    """Name and size of each file; no name is trusted."""
    files = {}
    for item in take(answer.body, "files", list):
        if not isinstance(item, dict):
            raise ProtocolError("malformed-message", "The backend sent a list of files that is none.")
        files[take_file_name(item)] = take_count(item, "size")
    if len(files) > MAX_FILES or any(not is_file_name(name) for name in files):
        raise ProtocolError("malformed-message", "The backend sent an impossible list of files.")
    return files


def _write(connection: Connection, job: str, files: dict[str, int], folder: Path) -> None:
    """Ask for a few pieces ahead, write them in order."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch(exist_ok=False)
    ahead: deque[tuple[str, int, Future[Message]]] = deque()
    for name, offset, size in _pieces(files):
        body = {"job": job, "name": name, "offset": offset}
        ahead.append((name, size, connection.request("read", body)))
        if len(ahead) >= CREDITS:
            _write_piece(folder, *ahead.popleft())
    while ahead:
        _write_piece(folder, *ahead.popleft())


def _pieces(files: dict[str, int]) -> Iterator[tuple[str, int, int]]:
    for name, size in files.items():
        for offset in range(0, size, CHUNK_BYTES):
            yield name, offset, min(CHUNK_BYTES, size - offset)


def _write_piece(folder: Path, name: str, size: int, future: Future[Message]) -> None:
    message = wait(future)
    data = message.buffers[0] if message.buffers else b""
    if len(data) != size or digest_of(data) != message.entries[0].digest:
        raise ProtocolError("damaged-result", f"{name} was damaged on its way.", "Fetch the result again.")
    with open(folder / name, "ab") as file:
        file.write(data)


def _put_in_place(partial: Path, out: Path, force: bool) -> None:
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if not (force and out.exists()):
        os.rename(partial, out)
        return
    old = out.parent / f".{out.name}.old-{secrets.token_hex(4)}"
    os.rename(out, old)
    try:
        os.rename(partial, out)
    except OSError:
        os.rename(old, out)
        raise
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink()


def _unwritable(out: Path, error: OSError) -> OutputError:
    return OutputError(
        "output-unwritable",
        f"The result cannot be written to {out}: {error.strerror or error}.",
        "Choose another place, or free some space there.",
    )
