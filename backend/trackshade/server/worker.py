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
from typing import Any

import zmq

from trackshade.core.processes import call_when_input_closes, die_with_parent
from trackshade.ipc import decode, encode
from trackshade.ipc.messages import with_buffers
from trackshade.server.job_worker import JobWorker


class Worker(JobWorker):
    """Runs the jobs of the broker at `endpoint` on one device."""

    def __init__(self, endpoint: str, token: str, device: str) -> None:
        super().__init__(device)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 1000
        self._socket.connect(endpoint)
        self.send("ready", {"token": token})

    def run(self) -> None:
        """Run jobs until the process ends with the broker."""
        while True:
            message = decode(self._socket.recv_multipart())
            if message.type == "run":
                self._job, self._cancelled = str(message.body["job"]), False
                self._work(message.body)
                self._job = None
            elif message.type == "warm":
                self.load_model(str(message.body["model"]))

    def send(self, kind: str, body: dict[str, Any], *buffers: bytes) -> None:
        """Send a message to the broker."""
        self._socket.send_multipart(encode(with_buffers(kind, 0, body, *buffers)))

    def take_cancels(self) -> None:
        """Read what the broker has sent meanwhile."""
        while self._socket.poll(0):
            message = decode(self._socket.recv_multipart())
            if message.type == "cancel" and message.body.get("job") == self._job:
                self._cancelled = True

    def _work(self, body: Mapping[str, Any]) -> None:
        partial, result = Path(body["partial"]), Path(body["result"])

        def work() -> dict[str, Any]:
            summary = self.write_result(body["manifest"], body["settings"], Path(body["chunks"]), partial)
            if not result.exists():  # otherwise an earlier attempt was finished, but its end was not received
                os.rename(partial, result)
            return summary

        kind, more = self.outcome(work)
        shutil.rmtree(partial, ignore_errors=True)  # before the end is reported
        self.send(kind, {"job": self._job, **more})


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
