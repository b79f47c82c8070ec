# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker as an actor of a Ray cluster. It does not import Ray: `ray_cluster.py` makes an actor of it.

The broker's machine and the actor's need share no folder. The actor keeps the chunks of its latest shot in a temporary
folder of its machine, asks for those that it lacks, and sends the files of a result in pieces. Ray calls its methods in
threads of their own, `run` for a whole job.

Messages: those of a worker process, and

    need    {digests}            chunks that the job needs, to be given to `put_chunks`
    parts   {count, per_node}    work of the job now has so many parts that others can do (`parts.py`); 0: none any more
    file    {path, offset} data  a piece of a file of the result; the message that tells of the end follows them

The worker of the job deals out the parts itself (`offer`, `take_part`, `put_part`): they go from node to node, and the
broker only says who helps whom (`help`, `recall`).
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trackshade import __version__
from trackshade.core.errors import CancelledError, OutputError
from trackshade.ipc import Manifest, decode, encode
from trackshade.ipc.leftovers import make_temporary_folder
from trackshade.ipc.messages import with_buffers
from trackshade.server.chunk_store import ChunkStore
from trackshade.server.job_worker import JobWorker
from trackshade.server.parts import WAIT as PART_WAIT
from trackshade.server.parts import Packed, PartQueue, Parts, do_in_order

PIECE = 2 << 20  # bytes of a file in one message
ROOM = 64 << 20  # bytes of messages that wait to be taken; above that the job waits
CHUNKS_AT_ONCE = 64  # digests in one `need`
WAIT = 1.0  # seconds between two checks for a cancel while the job waits

Frames = list[bytes]  # an encoded message


@dataclass(frozen=True)
class Offer:
    """Parts of a job that other workers can do.

    Attributes:
        number: Number of the offer, since a job may have several, one after the other.
        job: The job.
        kind: The kind of the parts.
        header: Plain values that they share.
        arrays: Arrays that they share.
    """

    number: int
    job: str
    kind: str
    header: dict[str, Any]
    arrays: Sequence[np.ndarray]


class _HelpReporter:
    """The reporter of parts of another worker's job: that worker reports them."""

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        """Check for a cancel."""
        self.check()


class RayWorker(JobWorker):
    """Runs jobs on a node of a Ray cluster."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._folder, self._folder_lock = make_temporary_folder()
        self._chunks = ChunkStore(self._folder / "chunks")
        self._messages: deque[Frames] = deque()
        self._waiting = 0  # bytes of `_messages`
        self._answered: set[bytes] = set()  # digests of `need` messages that the broker has answered
        self._fault: OutputError | None = None  # why they could not be kept
        self._changed = threading.Condition()
        self._busy = threading.Lock()  # while a job runs, a model is loaded, or parts of another job are done
        self._parts: tuple[int, Parts, PartQueue] | None = None  # what is offered, and its number
        self._offers = 0
        self._recalled = 0  # the number of the latest help that was called back

    def describe(self) -> dict[str, Any]:
        """Return the process id, and the version of the package on this node."""
        return {"pid": os.getpid(), "version": __version__}

    def run(self, request: bytes) -> None:
        """Run a job to its end, which a message tells."""
        with self._busy:
            self._run(decode([memoryview(request)]).body)

    def load(self, model: str) -> None:
        """Load a model before there is a job for it."""
        with self._busy:
            self.load_model(model)

    def _run(self, body: Mapping[str, Any]) -> None:
        with self._changed:
            self._job, self._cancelled = str(body["job"]), False
        folder = self._folder / "result"
        shutil.rmtree(folder, ignore_errors=True)

        def work() -> dict[str, Any]:
            self._get_chunks(Manifest.from_dict(body["manifest"]))
            folder.mkdir()
            summary = self.write_result(body["manifest"], body["settings"], self._chunks.folder, folder)
            self._send_files(folder)
            return summary

        kind, more = self.outcome(work)
        shutil.rmtree(folder, ignore_errors=True)
        self.send(kind, {"job": self._job, **more})

    def cancel(self, job: str) -> None:
        """Cancel the job if it is the one that runs."""
        with self._changed:
            if job == self._job:
                self._cancelled = True
                self._changed.notify_all()

    def put_chunks(self, chunks: dict[bytes, bytes | None]) -> None:
        """Take chunks by their digests, None for those that the broker does not have any more."""
        fault = None
        try:
            for digest, data in chunks.items():
                if data is not None:
                    self._chunks.write(digest, data)
                    self._chunks.verify(digest)
        except OutputError as error:
            fault = error
        with self._changed:
            self._fault = fault
            self._answered.update(chunks)
            self._changed.notify_all()

    def take(self, seconds: float) -> list[Frames]:
        """Return the messages so far; wait some seconds for the first one."""
        with self._changed:
            if not self._messages:
                self._changed.wait(seconds)
            taken = list(self._messages)
            self._messages.clear()
            self._waiting = 0
            self._changed.notify_all()
        return taken

    def send(self, kind: str, body: dict[str, Any], *buffers: bytes) -> None:
        """Add a message to those that the broker takes; wait while there are too many."""
        frames = [bytes(frame) for frame in encode(with_buffers(kind, 0, body, *buffers))]
        size = sum(map(len, frames))
        with self._changed:
            while self._waiting and self._waiting + size > ROOM and not self._cancelled:
                self._changed.wait(WAIT)
            self._messages.append(frames)
            self._waiting += size
            self._changed.notify_all()

    def take_cancels(self) -> None:
        """Nothing to do: `cancel` notes it."""

    def spread(self, parts: Parts) -> Generator[Packed, None, None]:
        """Do all parts of some work, also by other workers that are idle; yield their results in order."""
        if parts.count < 2:
            yield from do_in_order(parts)
            return
        queue = PartQueue(parts.count)
        self._offers += 1
        self._parts = self._offers, parts, queue
        self.send("parts", {"job": self._job, "count": parts.count, "per_node": parts.per_node})
        try:
            yield from queue.results(parts.do, self.check)
        finally:
            self._parts = None
            queue.close()
            self.send("parts", {"job": self._job, "count": 0, "per_node": False})

    def offer(self) -> Offer | None:
        """Return the parts that other workers can do now, or None."""
        offered = self._parts
        if offered is None or self._job is None:
            return None
        number, parts, _ = offered
        header, arrays = parts.pack()
        return Offer(number, self._job, parts.kind, header, arrays)

    def take_part(self, offer: int, worker: str) -> tuple[int, Packed] | bool:
        """Return a part of an offer and its number, or whether there may be another one later."""
        offered = self._parts
        if offered is None or offered[0] != offer or self._cancelled:
            return False
        _, parts, queue = offered
        index = queue.take(worker)
        return queue.is_open if index is None else (index, parts.pack_part(index))

    def put_part(self, offer: int, index: int, result: Packed) -> None:
        """Take the result of a part."""
        offered = self._parts
        if offered is not None and offered[0] == offer:
            offered[2].put(index, result)

    def help(
        self,
        number: int,
        offer: Offer,
        take: Callable[[], tuple[int, Packed] | bool],
        put: Callable[[int, Packed], None],
    ) -> None:
        """Do parts of another worker's job until there are no more or `recall` is called.

        Args:
            number: Number of this help, by which it can be called back.
            offer: What the other worker offers.
            take: Calls `take_part` of the other worker.
            put: Calls `put_part` of the other worker.
        """
        with self._busy:
            with self._changed:
                self._job, self._cancelled = offer.job, False
            reporter = _HelpReporter(self.check)
            try:
                do = self._get_runner().make_part_doer(offer.kind, (offer.header, offer.arrays), reporter)
                while self._recalled < number:
                    self.check()
                    part = take()
                    if part is False:
                        break
                    if part is True:
                        time.sleep(PART_WAIT)
                        continue
                    put(part[0], do(part[1]))
            except CancelledError:
                pass
            finally:
                self._job = None

    def recall(self, number: int) -> None:
        """End a help after the part that is being done."""
        self._recalled = max(self._recalled, number)

    def _get_chunks(self, manifest: Manifest) -> None:
        """Get the chunks of a shot that are not here, and delete those of other shots."""
        wanted = manifest.chunk_sizes().keys()
        for path in self._chunks.folder.glob("??/*"):
            if path.name not in {digest.hex() for digest in wanted}:
                path.unlink(missing_ok=True)
        missing = self._chunks.missing(wanted)
        self._answered.clear()
        for start in range(0, len(missing), CHUNKS_AT_ONCE):
            part = missing[start : start + CHUNKS_AT_ONCE]
            self.send("need", {"job": self._job, "digests": part})
            with self._changed:
                while not self._answered.issuperset(part) and not self._cancelled:
                    self._changed.wait(WAIT)
                fault = self._fault
            self.check()
            if fault is not None:
                raise fault

    def _send_files(self, folder: Path) -> None:
        """Send all files of a result."""
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            name, offset = path.relative_to(folder).as_posix(), 0
            with path.open("rb") as file:
                while (data := file.read(PIECE)) or offset == 0:
                    self.check()
                    self.send("file", {"job": self._job, "path": name, "offset": offset}, data)
                    offset += max(len(data), 1)
