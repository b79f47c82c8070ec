# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker processes of a broker: one for each device, started when there is work, monitored and restarted.

A worker gets the broker's address and a token on standard input, which then stays open: it closes when the broker
dies, and the worker ends. Ending a worker frees the device's memory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from trackshade.core.errors import JobError, ProtocolError
from trackshade.core.processes import end_process, last_log_line, open_log, this_python
from trackshade.ipc import Message, decode
from trackshade.ipc.protocol import MAX_HELLO_BYTES
from trackshade.server.memory import CUDA_DEVICE_ORDER
from trackshade.server.router_socket import RouterSocket

log = logging.getLogger("trackshade.broker")

MAX_START_FAILURES = 3
"""After so many workers that died before they were ready, the queued jobs fail with the reason."""
RESTART_DELAY = 0.5  # seconds, doubled with every death in succession
END_TIME = 0.5  # seconds that a worker may take to end
MESSAGES_PER_TURN = 64


@dataclass
class WorkerSlot:
    """A device, and its worker process if one runs."""

    number: int
    device: str
    process: subprocess.Popen[bytes] | None = None
    token: str = ""
    identity: bytes | None = None  # known once the worker is ready
    job: str | None = None
    model_to_load: str | None = None  # sent as soon as the worker is ready
    kill_at: float | None = None  # when the worker is killed unless it answers a cancel
    deaths: int = 0  # in succession
    start_after: float = 0.0
    idle_since: float = field(default_factory=time.monotonic)
    start_error: str = ""  # why the process could not be started
    log_start: int = 0  # where the log of this worker begins, after those of earlier ones


@dataclass(frozen=True)
class WorkerDeath:
    """A worker that ended unexpectedly."""

    job: str | None  # the job that it was running, or None
    was_cancelled: bool  # whether it was killed because it did not answer a cancel
    error: JobError  # why it ended
    gave_up: bool  # whether workers have died so often before they were ready that queued jobs should fail
    is_lost: bool = False  # whether the machine is to blame and not the job, which then starts again


class WorkerPool:
    """Starts and ends workers, gives them jobs and receives their messages."""

    def __init__(self, socket: RouterSocket, devices: tuple[str, ...], logs: Path, cancel_grace: float) -> None:
        self._slots = [WorkerSlot(number, device) for number, device in enumerate(devices)]
        self._socket = socket
        self._logs = logs
        self._cancel_grace = cancel_grace
        self._failed: list[WorkerSlot] = []  # those whose process could not be started

    @property
    def source(self) -> zmq.Socket[bytes]:
        """What the broker polls for messages of workers."""
        return self._socket.socket

    @property
    def endpoint(self) -> str:
        """The address to which workers connect."""
        return self._socket.endpoint

    def find_idle(self) -> WorkerSlot | None:
        """Return a worker that is ready and has no job."""
        return next((s for s in self._slots if s.identity is not None and s.job is None), None)

    def start_for(self, waiting: int) -> None:
        """Start as many workers as there are waiting jobs, if there are devices for them."""
        now = time.monotonic()
        available = sum(s.process is not None and s.job is None for s in self._slots)
        for slot in self._slots:
            if available >= waiting:
                return
            if slot.process is None and slot.start_after <= now:
                self._start(slot)
                available += 1

    def run(self, slot: WorkerSlot, job: str, body: Mapping[str, Any]) -> None:
        """Give a job to an idle worker."""
        assert slot.identity is not None
        slot.job, slot.kill_at = job, None
        self._socket.send(slot.identity, Message("run", 0, {"job": job, **body}))

    def load_model(self, model: str) -> None:
        """Make an idle worker load a model before there is a job for it."""
        self.start_for(1)
        for slot in self._slots:
            if slot.process is not None and slot.job is None:
                slot.model_to_load = model
                self._send_model(slot)
                return

    def _send_model(self, slot: WorkerSlot) -> None:
        if slot.identity is not None and slot.model_to_load is not None:
            self._socket.send(slot.identity, Message("warm", 0, {"model": slot.model_to_load}))
            slot.model_to_load = None

    def cancel(self, job: str) -> None:
        """Ask the worker that runs a job to stop; it is killed if it does not within the grace period."""
        for slot in self._slots:
            if slot.job == job and slot.kill_at is None:
                slot.kill_at = time.monotonic() + self._cancel_grace
                if slot.identity is not None:
                    self._socket.send(slot.identity, Message("cancel", 0, {"job": job}))

    def end_idle(self) -> tuple[int, int]:
        """End the workers without a job; return how many, and how many are busy."""
        idle = [s for s in self._slots if s.process is not None and s.job is None]
        for slot in idle:
            _end(slot)
        return len(idle), sum(s.job is not None for s in self._slots)

    def receive(self, on_message: Callable[[str, Message], None]) -> None:
        """Pass the messages of workers about their jobs to `on_message(job, message)`."""
        for identity, frames in self._socket.receive(MESSAGES_PER_TURN):
            is_known = any(slot.identity == identity for slot in self._slots)
            if not is_known and (len(frames) != 1 or len(frames[0]) > MAX_HELLO_BYTES):
                continue  # of a worker that was ended, or of a stranger
            try:
                message = decode(frames)
            except ProtocolError as error:
                log.warning("from a worker: %s", error)
                continue
            if message.type == "ready":
                self._announce(identity, str(message.body.get("token")))
                continue
            slot = next((s for s in self._slots if s.identity == identity), None)
            if slot is None or slot.job is None or message.body.get("job") != slot.job:
                continue  # about a job that it no longer has
            job = slot.job
            if message.type in ("finished", "failed", "cancelled"):
                slot.job, slot.kill_at, slot.deaths = None, None, 0
                slot.idle_since = time.monotonic()
            on_message(job, message)

    def check(self, idle_limit: float) -> list[WorkerDeath]:
        """Kill workers that do not answer a cancel, end those idle for `idle_limit` seconds, and return dead ones."""
        now = time.monotonic()
        failed, self._failed = self._failed, []
        deaths = [self._take_death(slot) for slot in failed]
        for slot in self._slots:
            if slot.process is None:
                continue
            if slot.kill_at is not None and now > slot.kill_at:
                slot.process.kill()
                slot.process.wait()
            if slot.process.poll() is not None:
                deaths.append(self._take_death(slot))
            elif slot.job is None and slot.identity is not None and now - slot.idle_since > idle_limit:
                _end(slot)
        return deaths

    def close(self) -> list[str]:
        """End all workers; return the jobs that they were running."""
        jobs = [slot.job for slot in self._slots if slot.job is not None]
        for slot in self._slots:
            _end(slot)
        return jobs

    def is_busy(self) -> bool:
        """Return whether a worker has a job."""
        return any(slot.job is not None for slot in self._slots)

    def describe(self) -> list[dict[str, Any]]:
        """Return the device, process id and job of each worker."""
        return [
            {"device": s.device, "pid": s.process and s.process.pid, "job": s.job, "ready": s.identity is not None}
            for s in self._slots
        ]

    def _start(self, slot: WorkerSlot) -> None:
        slot.token, slot.identity, slot.job = secrets.token_urlsafe(32), None, None
        slot.model_to_load = slot.kill_at = None
        try:
            slot.process = self._start_process(slot)
        except OSError as error:  # such as no memory or file descriptor being left
            self._failed.append(slot)
            slot.start_error = f"cannot be started: {error.strerror or error}"
            return
        hello = {"endpoint": self._socket.endpoint, "token": slot.token, "device": slot.device, "parent": os.getpid()}
        assert slot.process.stdin is not None
        with contextlib.suppress(OSError):  # it died at once, which `check` notices
            slot.process.stdin.write(json.dumps(hello).encode() + b"\n")
            slot.process.stdin.flush()

    def _start_process(self, slot: WorkerSlot) -> subprocess.Popen[bytes]:
        """Start a worker with its log, or without one where none can be written. Raise OSError."""
        start = this_python("-m", "trackshade.server.worker")
        with contextlib.ExitStack() as stack:
            output, folder = stack.enter_context(open(os.devnull, "r+b")), os.path.abspath(os.sep)
            with contextlib.suppress(OSError):
                self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder = os.fspath(self._logs)
                output = stack.enter_context(open_log(self._logs / f"worker-{slot.number}.log"))
            slot.log_start = output.tell()
            return subprocess.Popen(
                start.command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=folder,
                env={"CUDA_DEVICE_ORDER": CUDA_DEVICE_ORDER, "TQDM_DISABLE": "1", **start.variables},
            )

    def _announce(self, identity: bytes, token: str) -> None:
        for slot in self._slots:
            if slot.process is not None and secrets.compare_digest(slot.token.encode(), token.encode()):
                slot.identity = identity
                slot.idle_since = time.monotonic()
                self._send_model(slot)

    def _take_death(self, slot: WorkerSlot) -> WorkerDeath:
        code, came_up, job = slot.process and slot.process.returncode, slot.identity is not None, slot.job
        cancelled = slot.kill_at is not None
        _end(slot)
        slot.deaths += 0 if cancelled else 1
        slot.start_after = time.monotonic() + (RESTART_DELAY * 2 ** min(slot.deaths - 1, 5) if slot.deaths > 1 else 0)
        gave_up = not came_up and slot.deaths >= MAX_START_FAILURES
        if gave_up:
            slot.deaths, slot.start_after = 0, 0.0  # the next job may try again
        return WorkerDeath(job, cancelled, self._death_error(slot, code), gave_up)

    def _death_error(self, slot: WorkerSlot, code: int | None) -> JobError:
        if code is None:
            fix = "End other programs, and try again."
            return JobError("worker-died", f"The worker on {slot.device} {slot.start_error}.", fix)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        log = self._logs / f"worker-{slot.number}.log"
        last = last_log_line(log, slot.log_start)
        by_memory = "It may have run out of memory: try a smaller size or another model, and see the log."
        fix = by_memory if code == -9 else f"See {log}."
        return JobError("worker-died", f"The worker on {slot.device} {how}. {last}".strip(), fix)


def _end(slot: WorkerSlot) -> None:
    if slot.process is not None:
        end_process(slot.process, END_TIME)
        slot.process, slot.identity, slot.job, slot.kill_at = None, None, None, None
