# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs of this Blender: advanced a little at each tick of a timer, on the main thread, without ever waiting.

One job captures at a time; the captured ones wait at the backend for their turn.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import bpy

from trackshade.client import Client
from trackshade.client.job_run import CANCEL_PATIENCE, wait_for_cancellations
from trackshade.client.output_folder import OutputFolder
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError, TrackshadeError, UsageError

from .. import backend
from ..capture.request import ShotRequest
from ..properties.placement_options import PlacementOptions
from ..properties.preferences import results_folder
from .job import Job

TICK = 0.05  # seconds between two ticks while the backend works
BUDGET = 0.01  # seconds of work in a tick whose steps are short
CLOSE_PATIENCE = 3.0  # seconds that Blender waits at its end until the backend has heard of cancelled jobs
MAX_FINISHED = 50  # jobs that are over and stay in the list


class Change(enum.Enum):
    """What has changed in a session, for those who show it."""

    ADDED = enum.auto()  # a job was added as the newest
    RESTORED = enum.auto()  # jobs of earlier were added
    REMOVED = enum.auto()  # jobs were removed
    ADVANCED = enum.auto()  # jobs have advanced
    FINISHED = enum.auto()  # no job is running any more


class Session:
    """The jobs of this Blender, oldest first.

    Attributes:
        jobs: The jobs, including those that are over.
        connect: Returns the connection to a backend that loads the given model, if any.
        listeners: Called with each `Change`, on the main thread and never while Blender draws.
    """

    def __init__(self, connect: Callable[[str | None], Future[Client]] = backend.manager.connect) -> None:
        self.jobs: list[Job] = []
        self.connect = connect
        self.listeners: list[Callable[[Change], None]] = []
        self._stepping: Generator[Any, None, Any] | None = None  # of an operator

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return any(job.runs for job in self.jobs)

    @property
    def capturing(self) -> Job | None:
        """The job that holds the scene, or None."""
        return next((job for job in self.jobs if job.holds_scene), None)

    @property
    def holds_scene(self) -> bool:
        """Whether the scene's frames are being stepped through, so that nothing may change the scene."""
        return self._stepping is not None or self.capturing is not None

    @property
    def latest(self) -> Job | None:
        """The newest job that was begun since Blender was started, or None."""
        return next((job for job in reversed(self.jobs) if not job.is_earlier), None)

    def find(self, uid: str) -> Job | None:
        """Return the job of that name, or None."""
        return next((job for job in self.jobs if job.uid == uid), None)

    def begin(
        self,
        scene: bpy.types.Scene,
        request: ShotRequest,
        settings: ShadeSettings,
        placement: PlacementOptions | None = None,
    ) -> Job:
        """Start a job that captures the scene; it goes on with each `advance`.

        Raises:
            UsageError: Another job is being captured.
            ModelError: The model is unknown.
            OutputError: The result cannot be written.
        """
        if self.holds_scene:
            raise UsageError("capturing", "Another job is being captured.", "Wait until it has its frames.")
        out = reserve_output(registry.spec(settings.model))
        return self.add(Job(scene, request, settings, placement or PlacementOptions(), out))

    def add(self, job: Job) -> Job:
        """Start a job."""
        self._list(job)
        if on_load_pre not in bpy.app.handlers.load_pre:
            bpy.app.handlers.load_pre.append(on_load_pre)
        job.begin(self.connect, lambda: self.holds_scene)
        return job

    def follow_pending(self, job: Job) -> None:
        """Start to follow a job of a Blender that has crashed, listed as the newest, or one that was not followed."""
        if job not in self.jobs:
            self._list(job)
        job.begin_following(self.connect, lambda: self.holds_scene)
        self.follow()

    def add_finished(self, jobs: Sequence[Job]) -> None:
        """List jobs that are over, before those that are listed."""
        if jobs:
            self.jobs[:0] = jobs
            self._notify(Change.RESTORED)

    def place(self, scene: bpy.types.Scene, folder: Path, placement: PlacementOptions, job: Job | None = None) -> Job:
        """Start to place an existing result; `job` is the job that made it, if it is in the list."""
        if job is None:
            job = Job(scene, ShotRequest(), ShadeSettings(), placement, OutputFolder(folder))
            self._list(job)
        job.begin_placing(placement, lambda: self.holds_scene)
        return job

    def advance(self, only: Job | None = None) -> None:
        """Do the next bit of work of one job, or of all that run.

        In a window, a modal operator advances the job that captures.
        """
        until = time.monotonic() + BUDGET
        running = [job for job in self.jobs if job.runs and (not job.holds_scene or bpy.app.background)]
        for job in [only] if only is not None else running:
            job.advance(until)
        self._remove_handler()

    def cancel(self, reason: TrackshadeError | None = None, only: Job | None = None) -> None:
        """Cancel one job, or all."""
        for job in [only] if only is not None else self.jobs:
            job.cancel(reason)
        if bpy.app.background:  # the process may be about to end
            wait_for_cancellations(CANCEL_PATIENCE)
        self._remove_handler()

    def begin_stepping(self, steps: Generator[Any, None, Any]) -> None:
        """Hold the scene for an operator that steps through its frames; closing `steps` restores the scene."""
        self._stepping = steps

    def end_stepping(self) -> None:
        """Stop the operator's stepping, wherever it is, and restore the scene."""
        steps, self._stepping = self._stepping, None
        if steps is not None:
            steps.close()

    def remove(self, *jobs: Job) -> None:
        """Remove jobs from the list, after cancelling them. Their results stay on disk."""
        for job in jobs:
            self.cancel(only=job)
            job.forget()
            self.jobs.remove(job)
        self._notify(Change.REMOVED)

    def close(self) -> None:
        """Cancel all jobs and forget them: Blender ends, or the add-on is disabled."""
        self.end_stepping()
        for job in self.jobs:
            job.cancel()
        wait_for_cancellations(CLOSE_PATIENCE)
        self.jobs.clear()
        self._remove_handler()
        if bpy.app.timers.is_registered(tick):
            bpy.app.timers.unregister(tick)

    def follow(self) -> None:
        """Advance the jobs by a timer, which goes on when another file is opened."""
        if not bpy.app.timers.is_registered(tick):
            bpy.app.timers.register(tick, first_interval=TICK, persistent=True)

    def tick(self) -> float | None:
        """Advance all jobs; return the seconds until the next call, or None if no job is running any more."""
        self.advance()
        self._notify(Change.ADVANCED if self.busy else Change.FINISHED)
        return TICK if self.busy else None

    def _list(self, job: Job) -> None:
        finished = [job for job in self.jobs if not job.runs]
        for old in finished[: max(0, len(finished) - MAX_FINISHED)]:
            self.jobs.remove(old)
        self.jobs.append(job)
        self._notify(Change.ADDED)

    def _notify(self, change: Change) -> None:
        for listener in list(self.listeners):
            listener(change)

    def _remove_handler(self) -> None:
        if not self.busy and on_load_pre in bpy.app.handlers.load_pre:
            bpy.app.handlers.load_pre.remove(on_load_pre)


def reserve_output(spec: registry.ModelSpec) -> OutputFolder:
    """Reserve a new folder for a result of a model, of the open file, where the preferences say. Main thread only.

    Raises:
        OutputError: The folder cannot be created, or the disk has too little space.
    """
    return OutputFolder.reserve(
        results_folder(),
        Path(bpy.data.filepath or "scene").stem,
        spec,
        numbered=True,
        fix="Choose another folder for the results in the add-on's preferences.",
    )


@bpy.app.handlers.persistent
def on_load_pre(*_: object) -> None:
    """End the capture before another file is opened, while its scene is still there to be restored."""
    job = _session.capturing
    if job is not None:
        _session.cancel(ShotError("scene-gone", "The file was closed while it was being captured."), job)


def tick() -> float | None:
    """Advance the jobs, as a timer of Blender."""
    return _session.tick()


def current() -> Session:
    """Return the session of this Blender."""
    return _session


_session = Session()
