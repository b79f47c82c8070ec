# SPDX-License-Identifier: GPL-3.0-or-later
"""One job of this Blender: what was asked for, how far it is, and its result."""

from __future__ import annotations

import contextlib
import functools
import logging
import secrets
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from pathlib import Path

import bpy

from trackshade.client import Client
from trackshade.client.job_result import JobResult
from trackshade.client.job_run import CapturedShot, CaptureStep, PlacementStep, resume_job, run_job
from trackshade.client.output_folder import OutputFolder
from trackshade.client.progress import Progress, TimeLeft
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, OutputError, ProtocolError, ShotError, TrackshadeError

from ..backend.prefs import current_prefs
from ..capture.request import ShotRequest
from ..placement.color import warm_up
from ..properties.placement_options import PlacementOptions
from .composer import capture_scene, prepare_placement
from .durations import WAITING, Duration, job_kind, keep_duration
from .pending import PendingJob, PendingRecord

# Modal operators that edit the scene: moving, sculpting, painting. Navigation is not among them.
_EDITS = ("TRANSFORM_OT", "GIZMOGROUP_OT", "OBJECT_OT", "MESH_OT", "POSE_OT", "ANIM_OT", "GRAPH_OT", "CURVE_OT",
          "SCULPT_OT", "SCULPT_CURVES_OT", "PAINT_OT", "GREASE_PENCIL_OT")  # fmt: skip

_AT_BACKEND = ("queued", "loading", "running", "decoding", "fetching")  # states of a job that the backend has

_log = logging.getLogger(__name__)


class SceneReference:
    """Finds the scene that a job was started in. Python references do not outlive an undo; session numbers do."""

    def __init__(self, scene: bpy.types.Scene) -> None:
        self.name = scene.name
        self._session_uid: int | None = scene.session_uid
        self.file = bpy.data.filepath

    @classmethod
    def of(cls, name: str, file: str) -> SceneReference:
        """Return a reference to the scene of that name in a file."""
        reference = cls.__new__(cls)
        reference.name, reference._session_uid, reference.file = name, None, file
        return reference

    @property
    def is_elsewhere(self) -> bool:
        """Whether another file than the scene's is open."""
        return self.find() is None and self.file != bpy.data.filepath

    def is_scene(self, scene: bpy.types.Scene) -> bool:
        """Return whether this is the very scene, whose file was not opened again."""
        return scene.session_uid == self._session_uid

    def find(self) -> bpy.types.Scene | None:
        """Return the scene, also if it was renamed or its file was opened again; None if it is gone."""
        for scene in bpy.data.scenes:
            if self.is_scene(scene):
                return scene
        is_same_file = bool(self.file) and bpy.data.filepath == self.file
        return bpy.data.scenes.get(self.name) if is_same_file else None

    def find_or_raise(self, fix: str | None = None) -> bpy.types.Scene:
        """Return the scene.

        Raises:
            ShotError: It is gone; `fix` says what can be done.
        """
        scene = self.find()
        if scene is None and self.is_elsewhere and self.file:
            raise ShotError(
                "scene-gone", f"The job is of {Path(self.file).name}, and another file is open.", fix or "Open it."
            )
        if scene is None:
            raise ShotError("scene-gone", f"Scene '{self.name}' is not open any more.", fix)
        return scene


class Job:
    """A job from its capture to its placed result, advanced a little at a time.

    Attributes:
        uid: Its name in the panel's list.
        title: What the list shows.
        scene: The scene that it was started in.
        progress: How far it is, or None once it is over.
        holds_scene: It is stepping through the scene's frames, and nothing may change the scene meanwhile.
        error: Why it failed or was cancelled, or None.
        result: Its result, or None.
        preview: Bytes of the newest preview image, or None.
        is_earlier: It was over before Blender was started or the file opened.
    """

    def __init__(
        self,
        scene: bpy.types.Scene | SceneReference,
        request: ShotRequest,
        settings: ShadeSettings,
        placement: PlacementOptions,
        out: OutputFolder,
        capture: CaptureStep | None = None,
        on_failure: Callable[[], None] | None = None,
    ) -> None:
        """Create a job that is not running yet.

        Args:
            scene: The scene that is captured, and in which the result is placed.
            request: What is captured.
            settings: How it is shaded.
            placement: How the result is placed.
            out: Where the result goes.
            capture: Obtains the shot without stepping through the scene; None to capture the scene.
            on_failure: Called if the job ends without a result.
        """
        self.uid = secrets.token_hex(4)
        self.scene = scene if isinstance(scene, SceneReference) else SceneReference(scene)
        self.request, self.settings, self.placement = request, settings, placement
        kinds = {"tracking": ", control", "stills": ", stills", "key": ", key picture", "motion": ", motion"}
        kind = kinds.get(settings.output, "")
        self.title = settings.prompt.strip() or f"{out.path.name}{kind}"
        self.progress: Progress | None = Progress("starting")
        self.holds_scene = capture is None
        self.error: TrackshadeError | None = None
        self.result: JobResult | None = None
        self.preview: bytes | None = None
        self.is_earlier = False
        self._out, self._capture_step, self._on_failure = out, capture, on_failure
        self._backend_job = secrets.token_hex(8)  # its id there
        self._is_accepted = False  # whether the backend has the whole shot
        self._record: PendingRecord | None = None  # while a Blender that crashes can find it again
        self._time_left = TimeLeft()
        self._worked = 0.0  # seconds in which it did not wait for others
        self._updated = time.monotonic()
        self._pixels = 0  # of all frames and cameras, once it is captured
        self._steps: Generator[Progress, None, JobResult] | None = None

    @staticmethod
    def finished(scene: SceneReference, request: ShotRequest, settings: ShadeSettings, result: JobResult) -> Job:
        """Return the job of a result that was made before Blender was started or the file opened."""
        job = Job(scene, request, settings, PlacementOptions(), OutputFolder(result.out))
        job.progress, job.holds_scene, job.result, job.is_earlier = None, False, result, True
        return job

    @staticmethod
    def pending(pending: PendingJob, record: PendingRecord) -> Job:
        """Return the job of a Blender that has crashed, which is not followed yet.

        Results of files that were never saved are not placed: which scene they belong to is not known.
        """
        placement = pending.placement if pending.file else PlacementOptions(None)
        scene = SceneReference.of(pending.scene, pending.file)
        job = Job(scene, pending.request, pending.settings, placement, OutputFolder.reserved(pending.out))
        job.holds_scene, job.progress = False, None
        job._backend_job, job._record, job._is_accepted = pending.job, record, True
        return job

    @property
    def is_pending(self) -> bool:
        """Whether the backend may still have it although it is not followed, because the backend was away."""
        return self._record is not None and not self.runs

    @property
    def out(self) -> Path:
        """Folder of the result."""
        return self._out.path

    @property
    def runs(self) -> bool:
        """Whether it is running."""
        return self._steps is not None

    @property
    def state(self) -> str:
        """A state of `Progress`, or "done", "failed" or "cancelled"."""
        if self.progress is not None:
            return self.progress.state
        if self.error is None:
            return "done"
        return "cancelled" if isinstance(self.error, CancelledError) else "failed"

    @property
    def has_result(self) -> bool:
        """Whether its folder holds a result, also if placing it failed."""
        return self.result is not None or (not self.runs and (self.out / "job.json").is_file())

    @property
    def factor(self) -> float:
        """How much of its present state is done, 0 to 1."""
        now = self.progress
        return (now.step or 0) / now.steps if now is not None and now.steps else 0.0

    def seconds_left(self) -> float | None:
        """Return the estimated seconds until the end of its present state, or None."""
        return self._time_left.seconds(time.monotonic()) if self.progress is not None else None

    def begin(self, connect: Callable[[str | None], Future[Client]], scene_is_held: Callable[[], bool]) -> None:
        """Start the job; it goes on with each `advance`.

        Args:
            connect: Returns the connection to a backend that loads the given model, if any.
            scene_is_held: Returns whether frames of the scene are being stepped through, so that nothing can be placed.
        """

        def run() -> Generator[Progress, None, JobResult]:
            self._updated = time.monotonic()
            client, place = connect(self.settings.needs), self._placement_step(scene_is_held)
            done = yield from run_job(self._capture, self.settings, client, self._out, place, self._backend_job)
            self._keep_duration()
            return done

        self._steps = run()

    def begin_following(
        self, connect: Callable[[str | None], Future[Client]], scene_is_held: Callable[[], bool]
    ) -> None:
        """Start to follow a pending job; it goes on with each `advance`. The arguments are those of `begin`."""
        self.progress, self.error = Progress("starting"), None
        place = self._placement_step(scene_is_held)
        self._steps = resume_job(self._backend_job, connect(self.settings.needs), self._out, place)

    def begin_placing(self, placement: PlacementOptions, scene_is_held: Callable[[], bool]) -> None:
        """Start to place the result that its folder holds; it goes on with each `advance`."""

        def run() -> Generator[Progress, None, JobResult]:
            start = time.monotonic()
            warnings = yield from self._place(self.out, scene_is_held)
            return JobResult.load(self.uid, self.out, time.monotonic() - start).placed(warnings)

        self.placement, self.error, self.holds_scene = placement, None, False
        self.progress = Progress("placing")
        self._steps = run()

    def advance(self, until: float) -> None:
        """Do the next bit of work, up to the time `until` (monotonic seconds). An error ends the job."""
        if self._steps is None:
            return
        try:
            while True:
                self._update(next(self._steps))
                waits = self.progress is not None and self.progress.waits
                if waits or self.holds_scene or time.monotonic() >= until:
                    break
        except StopIteration as done:
            self._end(result=done.value)
        except TrackshadeError as error:
            self._end(error=error)
        except ReferenceError:  # raised by Blender for data that is gone
            self._end(error=ShotError("scene-gone", "The scene was closed or undone while it was being captured."))
        except BaseException as error:
            _log.exception("Unexpected error")
            self._end(error=unexpected_error(error))
            raise

    def cancel(self, reason: TrackshadeError | None = None) -> None:
        """End the job: the scene is restored, and the backend is asked to cancel."""
        if self._steps is None:
            return
        try:
            with contextlib.suppress(ReferenceError):  # data that is gone needs no restoring
                self._steps.close()
        finally:
            self._end(error=reason or CancelledError())

    def forget(self) -> None:
        """Do not let it be found again after a restart."""
        if self._record is not None:
            self._record.remove()
            self._record = None
        self._out.release()

    def follow_file(self, file: str) -> None:
        """Follow the scene's file to the name under which it was saved."""
        self.scene.file = file
        if self._record is not None:
            self._record.update(self._as_pending())

    def _capture(self, client: Future[Client]) -> Generator[Progress, None, CapturedShot]:
        if self._capture_step is not None:
            captured = yield from self._capture_step(client)
        else:
            captured = yield from capture_scene(self.request, self.scene.find_or_raise(), client, self._free_scene)
            width, height = captured.shot.size
            self._pixels = len(captured.shot.frame_numbers) * len(captured.shot.cameras) * width * height
        self._record = PendingRecord.write(self._as_pending())
        return captured

    def _as_pending(self) -> PendingJob:
        parts = self.request, self.settings, self.placement
        return PendingJob(self._backend_job, self.out, self.scene.file, self.scene.name, *parts)

    def _placement_step(self, scene_is_held: Callable[[], bool]) -> PlacementStep | None:
        """Return what places the result of the job; None if it is not placed."""

        def place(result: JobResult) -> Generator[Progress, None, JobResult]:
            return result.placed((yield from self._place(result.out, scene_is_held)))

        return None if self.placement.mode is None else place

    def _free_scene(self) -> None:
        """Note that the capture does not need the scene any more."""
        if self.placement.has_plate:
            warm_up(self.scene.find_or_raise())  # while Blender is held anyway
        self.holds_scene = False

    def _place(self, folder: Path, scene_is_held: Callable[[], bool]) -> Generator[Progress, None, tuple[str, ...]]:
        """Place the result of a folder; return warnings."""
        find_scene = functools.partial(self.scene.find_or_raise, f"Its result is in {folder}.")
        if self.placement.bakes:  # which looks at a frame of the scene first
            yield from _wait_for_scene(scene_is_held)
        ready = yield from prepare_placement(folder, find_scene, self.placement)
        yield from _wait_for_scene(scene_is_held)
        scene = find_scene()
        warnings = ready.place(scene).warnings
        self.scene = SceneReference(scene)  # another one if the file was opened again
        if not bpy.app.background:
            bpy.ops.ed.undo_push(message="Place Shaded Result")
        return warnings

    def _keep_duration(self) -> None:
        """Keep how long the job took, if it captured the scene itself."""
        if self._pixels:
            kind = job_kind(self.request, self.settings, current_prefs().address)
            keep_duration(Duration(kind, (self.scene.file, self.scene.name), self._pixels, self._worked))

    def _update(self, progress: Progress) -> None:
        now = time.monotonic()
        if self.progress is not None and self.progress.state not in WAITING:
            self._worked += now - self._updated
        self._updated = now
        self._is_accepted = self._is_accepted or progress.state in _AT_BACKEND
        self.progress = progress
        self.preview = progress.preview or self.preview
        if not progress.waits:
            self._time_left.update(progress, time.monotonic())

    def _end(self, result: JobResult | None = None, error: TrackshadeError | None = None) -> None:
        self._steps = None
        self.progress = None
        self.holds_scene = False
        self.result = result
        self.error = error
        can_be_followed = self._is_accepted and isinstance(error, ProtocolError | OutputError) and not self.has_result
        if not can_be_followed:
            self.forget()
        if error is None:
            _log.info("Job done: %s", self.out)
        else:
            _log.log(logging.INFO if isinstance(error, CancelledError) else logging.ERROR, "Job ended: %s", error)
        if error is not None and self._on_failure is not None and not self.has_result:
            self._on_failure()


def is_edited() -> bool:
    """Return whether an edit of the scene is going on, which ends with a click or Esc."""
    windows = bpy.context.window_manager.windows
    return any(item.bl_idname.startswith(_EDITS) for window in windows for item in window.modal_operators)


def unexpected_error(error: BaseException) -> TrackshadeError:
    """Return the error that is shown for an exception that should not happen."""
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return TrackshadeError(
        "defect", f"Trackshade has failed ({reason}).", "Save what Blender's system console shows for a report."
    )


def _wait_for_scene(scene_is_held: Callable[[], bool]) -> Generator[Progress, None, None]:
    """Wait until the scene may be changed.

    A render reads the scene in a thread of its own, a capture steps through its frames, and an undo step in the middle
    of an edit would keep half of that edit.
    """
    while bpy.app.is_job_running("RENDER") or scene_is_held() or is_edited():
        yield Progress("placing", "when the scene is free", waits=True)
