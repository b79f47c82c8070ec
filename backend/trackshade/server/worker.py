# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker: the process that has torch and a device. `python -m trackshade.server.worker`, started by the broker.

It reports to the broker before it imports anything large, runs one job at a time, and keeps the model between jobs.
Standard input provides the broker's address; when it closes, the broker is gone and the worker ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, JobError, TrackshadeError
from trackshade.core.processes import call_when_input_closes, die_with_parent
from trackshade.ipc import Manifest, decode, encode
from trackshade.ipc.messages import with_buffers

if TYPE_CHECKING:
    from trackshade.server.shade import JobRunner

log = logging.getLogger("trackshade.worker")


class Worker:
    """Runs the jobs of the broker at `endpoint` on one device."""

    def __init__(self, endpoint: str, token: str, device: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 1000
        self._socket.connect(endpoint)
        self._device = device
        self._runner: JobRunner | None = None
        self._job: str | None = None
        self._cancelled = False
        self._send("ready", {"token": token})

    def run(self) -> None:
        """Run jobs until the process ends with the broker."""
        while True:
            message = decode(self._socket.recv_multipart())
            if message.type == "run":
                self._job, self._cancelled = str(message.body["job"]), False
                self._work(message.body)
                self._job = None
            elif message.type == "warm":
                self._load_model(str(message.body["model"]))

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        """Report the state of the job to the broker; raise CancelledError if it was cancelled.

        Args:
            state: One of the states in `trackshade.ipc.protocol`.
            message: A detail for the user.
            preview: A small encoded image.
            **details: Further fields of the event, such as `step` and `steps`.
        """
        self.check()
        body = {"job": self._job, "state": state, "message": message, **details}
        self._send("event", body, *([preview] if preview else []))

    def check(self) -> None:
        """Raise CancelledError if the job was cancelled."""
        while self._socket.poll(0):
            message = decode(self._socket.recv_multipart())
            if message.type == "cancel" and message.body.get("job") == self._job:
                self._cancelled = True
        if self._cancelled:
            raise CancelledError("cancelled", f"Job {self._job} was cancelled.")

    def _work(self, body: Mapping[str, Any]) -> None:
        partial, result = Path(body["partial"]), Path(body["result"])
        try:
            kind, more = "finished", {"summary": self._run_job(body, partial, result)}
        except CancelledError:
            kind, more = "cancelled", {}
        except TrackshadeError as error:
            kind, more = "failed", {"error": error.to_dict()}
        except MemoryError:
            kind, more = "failed", {"error": _out_of_memory("main memory").to_dict()}
        except Exception as error:  # a job may fail in any library, and the worker runs the next one
            log.exception("job %s failed", self._job)
            kind, more = "failed", {"error": _as_job_error(error).to_dict()}
        shutil.rmtree(partial, ignore_errors=True)  # before the end is reported
        self._send(kind, {"job": self._job, **more})

    def _run_job(self, body: Mapping[str, Any], partial: Path, result: Path) -> dict[str, Any]:
        if self._runner is None:
            self.report("loading", "Starting")
        summary = self._get_runner().run_job(
            Manifest.from_dict(body["manifest"]),
            ShadeSettings.from_dict(body["settings"]),
            chunks=Path(body["chunks"]),
            folder=partial,
            reporter=self,
        )
        self.check()
        if not result.exists():  # otherwise an earlier attempt was finished, but its end was not received
            os.rename(partial, result)
        return summary

    def _get_runner(self) -> JobRunner:
        if self._runner is None:
            from trackshade.server.shade import JobRunner  # late, so that the worker is ready soon

            self._runner = JobRunner(self._device)
        return self._runner

    def _load_model(self, model: str) -> None:
        """Load a model before there is a job for it."""
        try:
            self._get_runner().load_model(model)
        except Exception:  # the job that needs it reports what is wrong
            log.exception("the model %s could not be loaded ahead", model)

    def _send(self, kind: str, body: Mapping[str, Any], *buffers: bytes) -> None:
        self._socket.send_multipart(encode(with_buffers(kind, 0, body, *buffers)))


def _as_job_error(error: Exception) -> JobError:
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower():
        return _out_of_memory("the device's memory")
    if isinstance(error, ModuleNotFoundError):
        return JobError(
            "backend-incomplete",
            f"The backend's Python, {sys.executable}, has no package {error.name}.",
            "Install trackshade[backend] there, or choose a Python that has it (--backend-python).",
        )
    kind, fix = type(error).__name__, "See the worker's log."
    return JobError("job-failed", f"The job failed in the backend: {kind}: {error}"[:500], fix)


def _out_of_memory(which: str) -> JobError:
    fix = "Choose a smaller model, or end other programs that use the device."
    return JobError("out-of-memory", f"There is not enough of {which} for this job.", fix)


def main() -> None:
    """Read the broker's address from standard input and run its jobs."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the broker
    with open(0, "rb", buffering=0, closefd=False) as file:  # unbuffered: the rest is for `call_when_input_closes`
        line = file.readline()
    if not line.endswith(b"\n"):
        return
    start = json.loads(line)
    with contextlib.suppress(OSError):  # Linux: out of memory, end this process before the broker and before Blender
        Path("/proc/self/oom_score_adj").write_text("500")
    die_with_parent(start["parent"])
    call_when_input_closes(lambda: os._exit(0))
    Worker(start["endpoint"], start["token"], start["device"]).run()


if __name__ == "__main__":
    sys.exit(main())
