# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads a job's result from the backend into a folder, whole or not at all."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from pathlib import Path

from trackshade.client.connection import Connection, wait
from trackshade.core.atomic_files import atomic_folder, is_occupied, writing
from trackshade.core.errors import OutputError, ProtocolError
from trackshade.ipc import CHUNK_BYTES, Message, digest_of
from trackshade.ipc.leftovers import FolderLock, delete_partial_results
from trackshade.ipc.protocol import CREDITS, require, require_count, require_file_name

MAX_FILES = 100_000


def download_result(connection: Connection, job: str, out: Path, force: bool) -> None:
    """Download the result of a finished job to the folder `out`; with `force`, replace what is there.

    Raises:
        OutputError: "output-exists" if `out` is not empty and `force` is not set, or it cannot be written.
        ProtocolError: A file name is unsafe, or a file is damaged.
        TrackshadeError: The job's error if it failed.
    """
    with writing("The result", out, "Choose another place, or free some space there."):
        if is_occupied(out) and not force:
            fix = "Choose another place, or force to replace it."
            raise OutputError("output-exists", f"{out} exists already.", fix)
        files = _list_files(wait(connection.request("result", {"job": job})))
        delete_partial_results(out)
        with atomic_folder(out, replace=force) as folder:
            with FolderLock(folder):
                _write(connection, job, files, folder)
            if force and out.is_file():
                out.unlink()


def _list_files(answer: Message) -> dict[str, int]:
    """Return the size of each file by its name; names are checked, as they could lead elsewhere."""
    files = {}
    for item in require(answer.body, "files", list):
        if not isinstance(item, dict):
            raise ProtocolError("malformed-message", "The backend sent an invalid list of files.")
        files[require_file_name(item)] = require_count(item, "size")
    if len(files) > MAX_FILES:
        raise ProtocolError("malformed-message", "The backend sent too many files.")
    return files


def _write(connection: Connection, job: str, files: dict[str, int], folder: Path) -> None:
    """Request a few pieces in advance and write them in order."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch(exist_ok=False)
    ahead: deque[tuple[str, int, Future[Message]]] = deque()
    for name, size in files.items():
        for offset in range(0, size, CHUNK_BYTES):
            request = connection.request("read", {"job": job, "name": name, "offset": offset})
            ahead.append((name, min(CHUNK_BYTES, size - offset), request))
            if len(ahead) >= CREDITS:
                _write_piece(folder, *ahead.popleft())
    while ahead:
        _write_piece(folder, *ahead.popleft())


def _write_piece(folder: Path, name: str, size: int, future: Future[Message]) -> None:
    message = wait(future)
    data = message.buffers[0] if message.buffers else b""
    if len(data) != size or digest_of(data) != message.entries[0].digest:
        raise ProtocolError("damaged-result", f"{name} was damaged on its way.", "Fetch the result again.")
    with open(folder / name, "ab") as file:
        file.write(data)
