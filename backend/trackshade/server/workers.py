# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker processes of a broker: one for each device, started when there is work, watched, started again.

A worker gets its address and token on standard input, which then stays open: when the broker dies it closes, and
the worker ends. Ending a worker is how memory is given back.
"""

from __future__ import annotations

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

from trackshade.core.errors import JobError, ProtocolError
from trackshade.core.processes import this_python
from trackshade.ipc import Message, decode
from trackshade.server.memory import CARD_ORDER
from trackshade.server.router_socket import RouterSocket

log = logging.getLogger("trackshade.broker")

MAX_START_FAILURES = 3
"""Workers that die one after the other before they are ready; then the queued jobs fail with the reason."""
RESTART_DELAY = 0.5  # seconds, doubled with every death in a row
LOG_LIMIT = 1 << 20
MESSAGES_PER_TURN = 64


@dataclass
class Slot:
    """A device and its worker, if one runs."""

    number: int
    device: str
    process: subprocess.Popen[bytes] | None = None
    token: str = ""
    identity: bytes | None = None  # known once the worker has announced itself
    job: str | None = None
    warm: str | None = None  # a model to load as soon as it can
    kill_at: float | None = None  # set by a cancel: when an unanswered one ends the worker
    deaths: int = 0  # in a row
    start_after: float = 0.0
    idle_since: float = field(default_factory=time.monotonic)
    log_from: int = 0  # where what this worker says begins in the log, after what earlier ones said


@dataclass(frozen=True)
class Died:
    """A worker ended that should not have. `job` is what it was doing."""

    job: str | None
    cancelled: bool
    reason: JobError
    hopeless: bool  # it never came up, again and again


class Workers:
    """Starts and ends workers; jobs in, `on_message(job, message)` out."""

    def __init__(self, door: RouterSocket, devices: tuple[str, ...], logs: Path, cancel_grace: float) -> None:
        self.slots = [Slot(number, device) for number, device in enumerate(devices)]
        self._door = door
        self._logs = logs
        self._cancel_grace = cancel_grace

    # giving work

    def idle(self) -> Slot | None:
        """A worker that is ready and has nothing to do."""
        return next((s for s in self.slots if s.identity is not None and s.job is None), None)

    def start_for(self, waiting: int) -> None:
        """Start as many workers as there are jobs waiting, as far as there are devices."""
        now = time.monotonic()
        coming = sum(s.process is not None and s.job is None for s in self.slots)
        for slot in self.slots:
            if coming >= waiting:
                return
            if slot.process is None and slot.start_after <= now:
                self._start(slot)
                coming += 1

    def run(self, slot: Slot, job: str, body: Mapping[str, Any]) -> None:
        """Give a job to an idle worker."""
        assert slot.identity is not None
        slot.job, slot.kill_at = job, None
        self._door.send(slot.identity, Message("run", 0, {"job": job, **body}))

    def warm(self, model: str) -> None:
        """Have a worker load a model, so that the first job finds it there."""
        self.start_for(1)
        for slot in self.slots:
            if slot.process is not None and slot.job is None:
                slot.warm = model
                self._send_warm(slot)
                return

    def _send_warm(self, slot: Slot) -> None:
        if slot.identity is not None and slot.warm is not None:
            self._door.send(slot.identity, Message("warm", 0, {"model": slot.warm}))
            slot.warm = None

    def cancel(self, job: str) -> None:
        """Ask the worker that has this job to stop; unanswered, it is ended after the grace."""
        for slot in self.slots:
            if slot.job == job and slot.kill_at is None:
                slot.kill_at = time.monotonic() + self._cancel_grace
                if slot.identity is not None:
                    self._door.send(slot.identity, Message("cancel", 0, {"job": job}))

    def free(self) -> tuple[int, int]:
        """End the workers that do nothing: how many, and how many are busy."""
        idle = [s for s in self.slots if s.process is not None and s.job is None]
        for slot in idle:
            _end(slot)
        return len(idle), sum(s.job is not None for s in self.slots)

    # watching

    def receive(self, on_message: Callable[[str, Message], None]) -> None:
        """Take what workers have sent."""
        for identity, frames in self._door.receive(MESSAGES_PER_TURN):
            try:
                message = decode(frames)
            except ProtocolError as error:
                log.warning("from a worker: %s", error)
                continue
            if message.type == "ready":
                self._announce(identity, str(message.body.get("token")))
                continue
            slot = next((s for s in self.slots if s.identity == identity), None)
            if slot is None or slot.job is None or message.body.get("job") != slot.job:
                continue  # of a job that was taken away from it
            job = slot.job
            if message.type in ("finished", "failed", "cancelled"):
                slot.job, slot.kill_at, slot.deaths = None, None, 0
                slot.idle_since = time.monotonic()
            on_message(job, message)

    def watch(self, idle_limit: float) -> list[Died]:
        """Notice workers that ended, end those that do not answer a cancel or idle for long."""
        now, died = time.monotonic(), []
        for slot in self.slots:
            if slot.process is None:
                continue
            if slot.kill_at is not None and now > slot.kill_at:
                slot.process.kill()
                slot.process.wait()
            if slot.process.poll() is not None:
                died.append(self._bury(slot))
            elif slot.job is None and slot.identity is not None and now - slot.idle_since > idle_limit:
                _end(slot)
        return died

    def close(self) -> list[str]:
        """End all workers; the jobs that they were doing."""
        jobs = [slot.job for slot in self.slots if slot.job is not None]
        for slot in self.slots:
            _end(slot)
        return jobs

    def busy(self) -> bool:
        return any(slot.job is not None for slot in self.slots)

    def describe(self) -> list[dict[str, Any]]:
        """For `status`: device, pid and job of each."""
        return [
            {
                "device": s.device,
                "pid": s.process.pid if s.process else None,
                "job": s.job,
                "ready": s.identity is not None,
            }
            for s in self.slots
        ]

    def _start(self, slot: Slot) -> None:
        slot.token, slot.identity, slot.job = secrets.token_urlsafe(32), None, None
        slot.warm = slot.kill_at = None
        path = self._logs / f"worker-{slot.number}.log"
        too_long = path.exists() and path.stat().st_size > LOG_LIMIT
        start = this_python("-m", "trackshade.server.worker")
        with open(path, "wb" if too_long else "ab") as log:
            slot.log_from = log.tell()
            slot.process = subprocess.Popen(
                start.command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self._logs,
                env={"CUDA_DEVICE_ORDER": CARD_ORDER, "TQDM_DISABLE": "1", **start.variables},  # no bars in a log
            )  # fmt: skip
        hello = {
            "endpoint": self._door.endpoint,
            "token": slot.token,
            "device": slot.device,
            "parent": os.getpid(),
        }
        assert slot.process.stdin is not None
        try:
            slot.process.stdin.write(json.dumps(hello).encode() + b"\n")
            slot.process.stdin.flush()
        except BrokenPipeError:
            return  # it died at once; `watch` finds out

    def _announce(self, identity: bytes, token: str) -> None:
        for slot in self.slots:
            if slot.process is not None and secrets.compare_digest(slot.token, token):
                slot.identity = identity
                slot.idle_since = time.monotonic()
                self._send_warm(slot)

    def _bury(self, slot: Slot) -> Died:
        assert slot.process is not None
        code, came_up, job = slot.process.returncode, slot.identity is not None, slot.job
        cancelled = slot.kill_at is not None
        _end(slot)
        slot.deaths += 0 if cancelled else 1
        slot.start_after = time.monotonic() + (RESTART_DELAY * 2 ** min(slot.deaths - 1, 5) if slot.deaths > 1 else 0)
        hopeless = not came_up and slot.deaths >= MAX_START_FAILURES
        if hopeless:
            slot.deaths, slot.start_after = 0, 0.0  # the next job may try again
        return Died(job, cancelled, self._reason(slot, code), hopeless)

    def _reason(self, slot: Slot, code: int) -> JobError:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        log = self._logs / f"worker-{slot.number}.log"
        last = _last_line(log, slot.log_from)
        fix = (
            "It may have run out of memory: try a smaller size or another model, and see the log."
            if code == -9
            else None
        )
        return JobError("worker-died", f"The worker on {slot.device} {how}. {last}".strip(), fix or f"See {log}.")


def _end(slot: Slot) -> None:
    """End a worker: closing its standard input asks it to, and it is killed if it does not within moments."""
    process = slot.process
    if process is None:
        return
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(0.5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    slot.process, slot.identity, slot.job, slot.kill_at = None, None, None, None


def _last_line(log: Path, start: int) -> str:
    """The last line of a log from a byte on, which for a Python process that failed names the error."""
    with open(log, "rb") as file:
        file.seek(max(start, log.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
