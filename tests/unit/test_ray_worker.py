# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker of a Ray cluster without the cluster: the messages by which it gets a shot and sends a result."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trackshade.config.settings import ShadeSettings
from trackshade.ipc import CHUNK_BYTES, ArrayEntry, Manifest, Message, decode, digest_of, encode
from trackshade.ipc.chunks import raw_bytes
from trackshade.server import ray_worker
from trackshade.server.ray_worker import RayWorker


class CopyingWorker(RayWorker):
    """Its result is the shot's first array in two files, one of them empty."""

    def write_result(self, manifest: Any, settings: Any, chunks: Path, folder: Path) -> dict[str, Any]:
        array = self._chunks.arrays(Manifest.from_dict(manifest))[0]
        (folder / "frames").mkdir()
        (folder / "frames" / "0001.bin").write_bytes(array.tobytes())
        (folder / "empty").touch()
        return {"size": array.nbytes}


@pytest.fixture
def worker() -> Iterator[CopyingWorker]:
    made = CopyingWorker("cpu")
    yield made
    made._folder_lock.release()
    shutil.rmtree(made._folder)


def shot_of(count: int, seed: int = 0) -> tuple[Manifest, dict[bytes, bytes], bytes]:
    """A manifest with one array of `count` values, its chunks, and its bytes."""
    array = np.random.default_rng(seed).random(count)
    raw = raw_bytes(array)
    parts = [bytes(raw[start : start + CHUNK_BYTES]) for start in range(0, len(raw), CHUNK_BYTES)]
    entry = ArrayEntry(array.dtype.str, array.shape, tuple(digest_of(part) for part in parts))
    return Manifest({"version": 1}, (entry,)), {digest_of(part): part for part in parts}, array.tobytes()


def start(worker: RayWorker, manifest: Manifest) -> threading.Thread:
    body = {"job": "a", "manifest": manifest.to_dict(), "settings": ShadeSettings().to_dict()}
    thread = threading.Thread(target=worker.run, args=(bytes(encode(Message("run", 0, body))[0]),))
    thread.start()
    return thread


def follow(worker: RayWorker, chunks: dict[bytes, bytes]) -> tuple[Message, dict[str, bytes], list[bytes]]:
    """Answer a worker until its job ends: the last message, the files, and the digests that it wanted."""
    files: dict[str, bytes] = {}
    wanted: list[bytes] = []
    while True:
        for frames in worker.take(5.0):
            message = decode(frames)
            if message.type == "need":
                wanted += message.body["digests"]
                worker.put_chunks({digest: chunks.get(digest) for digest in message.body["digests"]})
            elif message.type == "file":
                name = message.body["path"]
                assert message.body["offset"] == len(files.get(name, b""))
                files[name] = files.get(name, b"") + bytes(message.buffers[0])
            elif message.type != "event":
                return message, files, wanted


def test_a_worker_asks_for_what_it_lacks_and_sends_its_result_in_pieces(worker: CopyingWorker) -> None:
    manifest, chunks, data = shot_of(900_000)  # seven chunks, and four pieces of a file
    assert len(data) > 3 * ray_worker.PIECE
    thread = start(worker, manifest)
    last, files, wanted = follow(worker, chunks)
    thread.join()
    assert (last.type, last.body["summary"]) == ("finished", {"size": len(data)})
    assert files == {"empty": b"", "frames/0001.bin": data}
    assert set(wanted) == set(chunks)
    start(worker, manifest)  # the next look at the same shot
    last, files, wanted = follow(worker, chunks)
    assert (last.type, wanted) == ("finished", [])
    other, more, _ = shot_of(10, seed=1)
    start(worker, other)
    assert follow(worker, more)[0].type == "finished"
    assert len(list(worker._chunks.folder.glob("??/*"))) == 1  # those of the other shot were deleted


def test_a_chunk_that_is_gone_and_a_cancel_end_the_job(worker: CopyingWorker) -> None:
    manifest, _, _ = shot_of(10)
    start(worker, manifest)
    last, files, _ = follow(worker, {})
    assert (last.type, last.body["error"]["code"], files) == ("failed", "missing-chunk", {})
    thread = start(worker, manifest)
    assert decode(worker.take(5.0)[0]).type == "need"
    worker.cancel("another")
    worker.cancel("a")
    last, files, _ = follow(worker, {})
    thread.join()
    assert (last.type, files) == ("cancelled", {})


def test_a_result_that_nobody_takes_waits(worker: CopyingWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "ROOM", 1 << 20)
    manifest, chunks, data = shot_of(900_000)
    thread = start(worker, manifest)
    last, files, _ = follow(worker, chunks)
    thread.join()
    assert (last.type, files["frames/0001.bin"] == data) == ("finished", True)
    assert worker._waiting == 0
