# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel's jobs: advanced a little at each tick, on Blender's main thread, without ever waiting.

One job captures at a time; those that were captured wait at the backend for their turn.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import bpy

from trackshade.client import Client
from trackshade.client.job_result import check_output
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError, TrackshadeError, UsageError

from .. import backend
from ..properties.chosen import results_folder
from ..ui.drawing import redraw, redraw_settled
from .composer import ShotRequest, settle
from .job import Job, Placing

TICK = 0.05  # seconds between two ticks while the backend works
BUDGET = 0.01  # seconds that a tick may take where steps are short
SETTLE = 3.0  # seconds that the end of Blender waits for the backend to hear of it
KEPT = 50  # jobs that are over and stay in the list


def _connect(model: str | None) -> Future[Client]:
    return backend.connect(model)


class Session:
    """The jobs of this Blender, oldest first."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._look: Generator[Any, None, Any] | None = None  # of an operator that steps through the scene's frames

    @property
    def busy(self) -> bool:
        return any(job.runs for job in self.jobs)

    @property
    def capturing(self) -> Job | None:
        """The job that holds the scene."""
        return next((job for job in self.jobs if job.holds_scene), None)

    @property
    def looks(self) -> bool:
        """Whether an operator that is no job steps through the scene's frames."""
        return self._look is not None

    @property
    def holds_scene(self) -> bool:
        """Whether somebody steps through the scene's frames, which must not change meanwhile."""
        return self.looks or self.capturing is not None

    @property
    def latest(self) -> Job | None:
        return self.jobs[-1] if self.jobs else None

    def find(self, uid: str) -> Job | None:
        return next((job for job in self.jobs if job.uid == uid), None)

    def begin(
        self, scene: bpy.types.Scene, what: ShotRequest, settings: ShadeSettings, placing: Placing | None = None
    ) -> Job:
        """Starts a job; it goes on with each `advance`.

        Raises:
            UsageError: another one is being captured. OutputError: there is no place for the result.
        """
        if self.holds_scene:
            raise UsageError("capturing", "Another job is being captured.", "Wait until it has its frames.")
        free = functools.partial(self._free, results_folder(), Path(bpy.data.filepath or "scene").stem)
        out = free()
        check_output(out, force=False)
        return self.add(Job(scene, what, settings, placing or Placing(), out, another=free))

    def add(self, job: Job) -> Job:
        """Starts a job that was made elsewhere."""
        self.jobs.append(job)
        self._forget_old()
        if closing not in bpy.app.handlers.load_pre:
            bpy.app.handlers.load_pre.append(closing)
        job.begin(_connect, lambda: self.holds_scene)
        return job

    def place(self, scene: bpy.types.Scene, folder: Path, placing: Placing, job: Job | None = None) -> Job:
        """Starts to place a result that is there; `job` is the one that it is of, where that is in the list."""
        if job is None:
            job = Job(scene, ShotRequest(), ShadeSettings(), placing, folder)
            self.jobs.append(job)
            self._forget_old()
        job.begin_placing(placing, lambda: self.holds_scene)
        return job

    def advance(self, only: Job | None = None) -> None:
        """Does the next bit of work of one job, or of all that hold no scene and, without a window, the one that does.

        A modal operator advances the job that captures.
        """
        until = time.monotonic() + BUDGET
        for job in [only] if only is not None else self._to_advance():
            job.advance(until)
        self._settle_handlers()

    def cancel(self, reason: TrackshadeError | None = None) -> None:
        """Ends all jobs."""
        for job in self.jobs:
            job.cancel(reason)
        self._settle_handlers()

    def end(self, job: Job, reason: TrackshadeError | None = None) -> None:
        """Cancels one job."""
        job.cancel(reason)
        self._settle_handlers()

    def begin_look(self, steps: Generator[Any, None, Any]) -> None:
        """An operator steps through the scene's frames from now on; closing `steps` puts the scene back."""
        self._look = steps

    def end_look(self) -> None:
        """Ends that, wherever it is; the scene is as it was before."""
        look, self._look = self._look, None
        if look is not None:
            look.close()

    def remove(self, job: Job) -> None:
        """Takes a job out of the list; cancels it first. Its result stays."""
        job.cancel()
        self.jobs.remove(job)
        self._settle_handlers()

    def close(self) -> None:
        """Ends the jobs and forgets them."""
        self.end_look()
        self.cancel()
        settle(SETTLE)
        self.jobs.clear()
        if bpy.app.timers.is_registered(tick):
            bpy.app.timers.unregister(tick)

    def follow(self) -> None:
        """Goes on by a timer, from where the scene is free again; also while another file is open."""
        if not bpy.app.timers.is_registered(tick):
            bpy.app.timers.register(tick, first_interval=TICK, persistent=True)

    def _to_advance(self) -> list[Job]:
        """All that run. One that captures is its operator's to advance, where there is a window."""
        return [job for job in self.jobs if job.runs and (not job.holds_scene or bpy.app.background)]

    def _free(self, folder: Path, stem: str) -> Path:
        taken = {job.out for job in self.jobs if job.runs}
        paths = (folder / f"{stem}-{n:03d}" for n in itertools.count(1))
        return next(path for path in paths if path not in taken and not path.exists())

    def _forget_old(self) -> None:
        over = [job for job in self.jobs if not job.runs]
        for job in over[: max(0, len(over) - KEPT)]:
            self.jobs.remove(job)

    def _settle_handlers(self) -> None:
        if not self.busy and closing in bpy.app.handlers.load_pre:
            bpy.app.handlers.load_pre.remove(closing)


@bpy.app.handlers.persistent
def closing(*_: object) -> None:
    """Before another file is opened: a capture ends while its scene is still there to be put back."""
    job = _current.capturing
    if job is not None:
        _current.end(job, ShotError("scene-gone", "The file was closed while it was being captured."))


def tick() -> float | None:
    """A timer of Blender's: seconds until the next call, or None for no more."""
    _current.advance()
    if _current.busy:
        redraw()
        return TICK
    redraw_settled()
    return None


def current() -> Session:
    return _current


_current = Session()
