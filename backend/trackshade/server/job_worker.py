# SPDX-License-Identifier: GPL-3.0-or-later
"""What every worker does: runs one job at a time, reports to the broker, and keeps the model between jobs.

How messages travel is up to the classes derived from it: a process beside the broker has a socket (`worker.py`), an
actor of a Ray cluster is asked for its messages (`ray_worker.py`).
"""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, JobError, TrackshadeError, is_out_of_memory
from trackshade.ipc import Manifest
from trackshade.server.parts import Packed, Parts, do_in_order

if TYPE_CHECKING:
    from trackshade.server.shade import JobRunner

log = logging.getLogger("trackshade.worker")


class JobWorker(ABC):
    """Runs jobs on one device. It is the host of the job that it runs (`trackshade.server.job.JobHost`)."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._runner: JobRunner | None = None
        self._job: str | None = None
        self._cancelled = False

    @abstractmethod
    def send(self, kind: str, body: dict[str, Any], *buffers: bytes) -> None:
        """Send a message to the broker."""

    @abstractmethod
    def take_cancels(self) -> None:
        """Note in `_cancelled` whether the broker has cancelled the job."""

    def spread(self, parts: Parts) -> Generator[Packed, None, None]:
        """Do all parts of some work here; yield their results in order."""
        return do_in_order(parts)

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
        self.send("event", body, *([preview] if preview else []))

    def check(self) -> None:
        """Raise CancelledError if the job was canceled."""
        self.take_cancels()
        if self._cancelled:
            raise CancelledError("cancelled", f"Job {self._job} was canceled.")

    def outcome(self, work: Callable[[], dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        """Do the work of a job; return the kind and the body of the message that tells its end."""
        try:
            return "finished", {"summary": work()}
        except CancelledError:
            return "cancelled", {}
        except TrackshadeError as error:
            return "failed", {"error": error.to_dict()}
        except MemoryError:
            return "failed", {"error": _out_of_memory("main memory").to_dict()}
        except Exception as error:  # a job may fail in any library, and the worker runs the next one
            log.exception("job %s failed", self._job)
            return "failed", {"error": _as_job_error(error).to_dict()}

    def write_result(self, manifest: Any, settings: Any, chunks: Path, folder: Path) -> dict[str, Any]:
        """Write the result of the job to a folder, and return its record. Raise as `JobRunner.run_job`."""
        if self._runner is None:
            self.report("loading", "Starting")
        summary = self._get_runner().run_job(
            Manifest.from_dict(manifest),
            ShadeSettings.from_dict(settings),
            chunks=chunks,
            folder=folder,
            reporter=self,
        )
        self.check()
        return summary

    def load_model(self, model: str) -> None:
        """Load a model before there is a job for it."""
        try:
            self._get_runner().load_model(model)
        except Exception:  # the job that needs it reports what is wrong
            log.exception("the model %s could not be loaded ahead", model)

    def _get_runner(self) -> JobRunner:
        if self._runner is None:
            from trackshade.server.shade import JobRunner  # late, so that the worker is ready soon

            self._runner = JobRunner(self._device)
        return self._runner


def _as_job_error(error: Exception) -> JobError:
    if is_out_of_memory(error):
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
