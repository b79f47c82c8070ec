# SPDX-License-Identifier: GPL-3.0-or-later
"""What a broker needs of its workers, wherever they run: `WorkerPool` on this machine, `RayPool` on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from trackshade.ipc import Message
from trackshade.server.worker_pool import WorkerDeath


class Workers(Protocol):
    """Starts and ends workers, gives them jobs and receives their messages. A slot is a worker with its job."""

    @property
    def source(self) -> Any:
        """What the broker polls for messages of workers."""
        ...

    def find_idle(self) -> Any | None:
        """Return the slot of a worker that is ready and has no job."""
        ...

    def start_for(self, waiting: int) -> None:
        """Start as many workers as there are waiting jobs, if there is room for them."""
        ...

    def run(self, slot: Any, job: str, body: Mapping[str, Any]) -> None:
        """Give a job to an idle worker."""
        ...

    def load_model(self, model: str) -> None:
        """Make an idle worker load a model before there is a job for it."""
        ...

    def cancel(self, job: str) -> None:
        """Ask the worker that runs a job to stop."""
        ...

    def end_idle(self) -> tuple[int, int]:
        """End the workers without a job; return how many, and how many are busy."""
        ...

    def receive(self, on_message: Callable[[str, Message], None]) -> None:
        """Pass the messages of workers about their jobs to `on_message(job, message)`."""
        ...

    def check(self, idle_limit: float) -> list[WorkerDeath]:
        """Kill workers that do not answer a cancel, end idle ones, and return dead ones."""
        ...

    def close(self) -> list[str]:
        """End all workers; return the jobs that they were running."""
        ...

    def is_busy(self) -> bool:
        """Return whether a worker has a job."""
        ...

    def describe(self) -> list[dict[str, Any]]:
        """Return the device, process id and job of each worker."""
        ...
