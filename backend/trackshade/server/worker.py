# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker: the process that has torch and a device. `python -m trackshade.server.worker`, started by the broker.

It announces itself before it imports anything large, takes one job at a time, and keeps the model between jobs.
Its standard input tells where the broker is; when that closes, the broker is gone and so is the worker.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, JobError, TrackshadeError
from trackshade.ipc import Manifest, Message, decode, digest_of, encode
from trackshade.ipc.messages import BufferEntry
from trackshade.server.parent_watchdog import die_with_parent

if TYPE_CHECKING:
    from trackshade.server.shade import Shader

log = logging.getLogger("trackshade.worker")


class Worker:
    """Does what the broker at `endpoint` asks for, on one device."""

    def __init__(self, endpoint: str, token: str, device: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 1000
        self._socket.connect(endpoint)
        self._device = device
        self._shader: Shader | None = None
        self._job: str | None = None
        self._cancelled = False
        self._send("ready", {"token": token})

    def run(self) -> None:
        """Take jobs for ever; the process ends when the broker does."""
        while True:
            message = decode(self._socket.recv_multipart())
            if message.type == "run":
                self._job, self._cancelled = str(message.body["job"]), False
                self._work(message.body)
                self._job = None
            elif message.type == "warm":
                self._warm(str(message.body["model"]))

    # what a job calls

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        """Tell what the job does now; `preview` is a small encoded image. Raises Cancelled where it should end."""
        self.check()
        body = {"job": self._job, "state": state, "message": message, **details}
        self._send("event", body, *([preview] if preview else []))

    def check(self) -> None:
        """Raise Cancelled where the job should end."""
        while self._socket.poll(0):
            message = decode(self._socket.recv_multipart())
            if message.type == "cancel" and message.body.get("job") == self._job:
                self._cancelled = True
        if self._cancelled:
            raise CancelledError("cancelled", f"Job {self._job} was cancelled.")

    def _work(self, body: Mapping[str, Any]) -> None:
        partial, result = Path(body["partial"]), Path(body["result"])
        try:
            kind, more = "finished", {"summary": self._make(body, partial, result)}
        except CancelledError:
            kind, more = "cancelled", {}
        except TrackshadeError as error:
            kind, more = "failed", {"error": error.to_dict()}
        except MemoryError:
            kind, more = "failed", {"error": _out_of_memory("main memory").to_dict()}
        except Exception as error:  # a job may fail in any library, and the worker takes the next
            log.exception("job %s failed", self._job)
            kind, more = "failed", {"error": _as_job_error(error).to_dict()}
        shutil.rmtree(partial, ignore_errors=True)  # before anybody hears of the end
        self._send(kind, {"job": self._job, **more})

    def _make(self, body: Mapping[str, Any], partial: Path, result: Path) -> dict[str, Any]:
        summary = self._shade(body, partial)
        self.check()
        if not result.exists():  # else an earlier attempt was finished and not heard of any more
            os.rename(partial, result)
        return summary

    def _shade(self, body: Mapping[str, Any], partial: Path) -> dict[str, Any]:
        if self._shader is None:
            self.report("loading", "Starting")
        return self._get_shader().run_job(
            Manifest.from_dict(body["manifest"]),
            ShadeSettings.from_dict(body["settings"]),
            chunks=Path(body["chunks"]),
            folder=partial,
            reporter=self,
        )

    def _get_shader(self) -> Shader:
        if self._shader is None:
            from trackshade.server.shade import Shader  # here: the broker should hear of the worker and the job first

            self._shader = Shader(self._device)
        return self._shader

    def _warm(self, model: str) -> None:
        """Load a model before there is a job for it."""
        try:
            self._get_shader().warm(model)
        except Exception:  # the job that wants it says what is wrong
            log.exception("the model %s could not be loaded ahead", model)

    def _send(self, kind: str, body: Mapping[str, Any], *buffers: bytes) -> None:
        entries = tuple(BufferEntry.of_bytes(len(b), digest_of(b)) for b in buffers)
        self._socket.send_multipart(encode(Message(kind, 0, body, entries, buffers)))


def _as_job_error(error: Exception) -> JobError:
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower():
        return _out_of_memory("the device's memory")
    if isinstance(error, ModuleNotFoundError):
        return JobError(
            "backend-incomplete",
            f"The backend's Python, {sys.executable}, has no package {error.name}.",
            "Install trackshade[backend] there, or choose a Python that has it (--backend-python).",
        )
    return JobError(
        "job-failed",
        f"The job failed in the backend: {type(error).__name__}: {error}"[:500],
        "See the worker's log.",
    )


def _out_of_memory(which: str) -> JobError:
    return JobError(
        "out-of-memory",
        f"There is not enough of {which} for this job.",
        "Choose a smaller model, or end other programs that use the device.",
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches all: the broker ends its workers
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return
        line += piece
    start = json.loads(line)
    die_with_parent(start["parent"])
    threading.Thread(target=_end_with_input, name="orphan", daemon=True).start()
    Worker(start["endpoint"], start["token"], start["device"]).run()


def _end_with_input() -> None:
    """The broker holds the other end of standard input: when that closes, nobody wants this process any more."""
    while os.read(0, 4096):
        continue
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
