# SPDX-License-Identifier: GPL-3.0-or-later
"""One job of the panel: what was asked for, where it is, and what came of it."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.client import Client
from trackshade.client.job_result import JobResult
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, ShotError, TrackshadeError

from ..placement import TEXTURE_WAYS, Baking, Ready, ReadyTexture, place, prepare
from ..placement.color import warm_up
from ..ui.estimate import TimeLeft
from .composer import CapturedShot, Progress, ShotRequest, record, shade

# What somebody holds the mouse for: moving, sculpting, painting. Looking around is none of it.
_EDITS = ("TRANSFORM_OT", "GIZMOGROUP_OT", "OBJECT_OT", "MESH_OT", "POSE_OT", "ANIM_OT", "GRAPH_OT", "CURVE_OT",
          "SCULPT_OT", "SCULPT_CURVES_OT", "PAINT_OT", "GREASE_PENCIL_OT")  # fmt: skip

Recorder = Callable[[Future[Client]], Generator[Progress, None, CapturedShot]]


@dataclass(frozen=True)
class Placing:
    """How the result comes into the scene; None for what `place` chooses, `way` None for not at all."""

    way: str | None = "both"
    distance: float | None = None
    interpolation: str | None = None
    texture_size: int | None = None

    @property
    def bakes(self) -> bool:
        """Whether it takes a while, in the backend's environment."""
        return self.way in TEXTURE_WAYS

    @property
    def before_camera(self) -> bool:
        """Whether it is to be seen through the camera, in the 3D view."""
        return self.way in ("both", "plate", "background")

    def options(self) -> dict[str, Any]:
        """As `place` takes them."""
        return {
            "as_": self.way or "both",
            "distance": self.distance,
            "interpolation": self.interpolation,
            "texture_size": self.texture_size,
        }


class Home:
    """The scene that a job was begun in. References to it do not outlive an undo; its session number does."""

    def __init__(self, scene: bpy.types.Scene) -> None:
        self.name = scene.name
        self._number = scene.session_uid
        self._file = bpy.data.filepath

    def is_scene(self, scene: bpy.types.Scene) -> bool:
        """Whether this is the very scene, and what was put into it may still be there: its file was not opened anew."""
        return scene.session_uid == self._number

    def scene(self) -> bpy.types.Scene | None:
        """The scene under whatever name, also where its file was opened once more; None if it is gone."""
        for scene in bpy.data.scenes:
            if self.is_scene(scene):
                return scene
        same = bool(self._file) and bpy.data.filepath == self._file
        return bpy.data.scenes.get(self.name) if same else None

    def scene_or_raise(self, fix: str | None = None) -> bpy.types.Scene:
        """Raises ShotError where it is gone, with what to do about that."""
        scene = self.scene()
        if scene is None:
            raise ShotError("scene-gone", f"Scene '{self.name}' is not open any more.", fix)
        return scene


class Job:
    """A job from its capture to its plate.

    Attributes:
        uid: its name in the panel's list.
        title: what the list shows.
        out: folder of the result.
        progress: where it is, or None once it is over.
        holds_scene: it is stepping through the scene's frames, which nobody may change meanwhile.
        error, outcome: how it ended; both None before.
        preview: bytes of the newest picture of what it makes, or None.
    """

    def __init__(
        self,
        scene: bpy.types.Scene,
        what: ShotRequest,
        settings: ShadeSettings,
        placing: Placing,
        out: Path,
        recorder: Recorder | None = None,
        failed: Callable[[], None] | None = None,
        another: Callable[[], Path] | None = None,
    ) -> None:
        """`recorder` gives the scene's side of the job where nothing is to be captured any more; `failed` is called
        where it ends without a result; `another` names a free folder where somebody else took `out` meanwhile.
        """
        self.uid = secrets.token_hex(4)
        self.home = Home(scene)
        self.what, self.settings, self.placing, self.out = what, settings, placing, out
        self.title = settings.prompt.strip() or (out.name if settings.needs else f"{out.name}, control")
        self.progress: Progress | None = Progress("starting")
        self.holds_scene = recorder is None
        self._recorder, self._failed, self._another = recorder, failed, another
        self.error: TrackshadeError | None = None
        self.outcome: JobResult | None = None
        self.preview: bytes | None = None
        self.left = TimeLeft()
        self._steps: Generator[Progress, None, JobResult] | None = None

    @property
    def runs(self) -> bool:
        return self._steps is not None

    @property
    def state(self) -> str:
        """A state of `Progress`, or "done", "failed", "cancelled"."""
        if self.progress is not None:
            return self.progress.state
        if self.error is None:
            return "done"
        return "cancelled" if isinstance(self.error, CancelledError) else "failed"

    @property
    def has_result(self) -> bool:
        """Whether its folder holds a result, also where placing it failed."""
        return self.outcome is not None or (not self.runs and (self.out / "job.json").is_file())

    @property
    def factor(self) -> float:
        """How much of its present state is done, 0 to 1."""
        now = self.progress
        return (now.step or 0) / now.steps if now is not None and now.steps else 0.0

    def seconds_left(self) -> float | None:
        return self.left.seconds(time.monotonic()) if self.progress is not None else None

    def begin(self, connect: Callable[[str | None], Future[Client]], scene_is_held: Callable[[], bool]) -> None:
        """Starts it; it goes on with each `advance`.

        Args:
            connect: the connection to a backend that loads this model, if any.
            scene_is_held: whether a job captures, so that nothing may be placed.
        """
        self._steps = self._path(connect, scene_is_held)

    def begin_placing(self, placing: Placing, scene_is_held: Callable[[], bool]) -> None:
        """Starts to place its result, which it has; it goes on with each `advance`."""
        self.placing, self.error, self.holds_scene = placing, None, False
        self.progress = Progress("placing")
        self._steps = self._place_again(scene_is_held)

    def advance(self, until: float) -> None:
        """Does the next bit of work, up to `until` (monotonic seconds). What goes wrong ends it and is in `error`."""
        if self._steps is None:
            return
        try:
            while True:
                self._note(next(self._steps))
                waits = self.progress is not None and self.progress.waits
                if waits or self.holds_scene or time.monotonic() >= until:
                    break
        except StopIteration as done:
            self._ended(outcome=done.value)
        except TrackshadeError as error:
            self._ended(error=error)
        except ReferenceError:  # Blender's word for data that is gone
            self._ended(error=ShotError("scene-gone", "The scene was closed or undone while it was being captured."))
        except BaseException as error:
            self._ended(error=defect(error))
            raise

    def cancel(self, reason: TrackshadeError | None = None) -> None:
        """Ends it: the scene is as it was, and the backend is told."""
        if self._steps is None:
            return
        try:
            with contextlib.suppress(ReferenceError):  # what is gone needs no putting back
                self._steps.close()
        finally:
            self._ended(error=reason or CancelledError())

    def _path(
        self, connect: Callable[[str | None], Future[Client]], scene_is_held: Callable[[], bool]
    ) -> Generator[Progress, None, JobResult]:
        began = time.monotonic()
        client = connect(self.settings.needs)
        if self._recorder is None:
            recorded = yield from record(self.what, self.home.scene_or_raise(), client)
        else:
            recorded = yield from self._recorder(client)
        if self.placing.way in ("both", "plate") and self.holds_scene:
            warm_up(self.home.scene_or_raise())  # while Blender is held anyway
        self.holds_scene = False
        job, self.out = yield from shade(recorded, self.settings, client, self.out, another=self._another)
        if self.placing.way is None:
            return JobResult.of(job, self.out, time.monotonic() - began)
        warnings = yield from self._place(scene_is_held)
        return JobResult.of(job, self.out, time.monotonic() - began, placing=warnings)

    def _place(self, scene_is_held: Callable[[], bool]) -> Generator[Progress, None, tuple[str, ...]]:
        """Places its result; sentences about what will not look as it was made."""
        home = functools.partial(self.home.scene_or_raise, f"Its result is in {self.out}.")
        if self.placing.bakes:  # which looks at a frame of the scene first
            yield from _until_free(scene_is_held)
        ready = yield from _prepared(self.out, home, self.placing)
        yield from _until_free(scene_is_held)
        scene = home()
        warnings = ready.put(scene).warnings
        self.home = Home(scene)  # which is another where the file was opened once more
        if not bpy.app.background:
            bpy.ops.ed.undo_push(message="Place Shaded Result")
        return warnings

    def _place_again(self, scene_is_held: Callable[[], bool]) -> Generator[Progress, None, JobResult]:
        began = time.monotonic()
        warnings = yield from self._place(scene_is_held)
        return JobResult.of(self.uid, self.out, time.monotonic() - began, placing=warnings)

    def _note(self, progress: Progress) -> None:
        self.progress = progress
        self.preview = progress.preview or self.preview
        if not progress.waits:
            self.left.note(progress.state, progress.step, progress.steps, time.monotonic())

    def _ended(self, outcome: JobResult | None = None, error: TrackshadeError | None = None) -> None:
        self._steps = None
        self.progress = None
        self.holds_scene = False
        self.outcome = outcome
        self.error = error
        if error is not None and self._failed is not None and not self.has_result:
            self._failed()


def put(folder: Path, scene: bpy.types.Scene, placing: Placing) -> tuple[str, ...]:
    """Places a result at once; sentences about what will not look as it was made. Raises as `place`."""
    return place(folder, scene, **placing.options()).warnings


def _until_free(scene_is_held: Callable[[], bool]) -> Generator[Progress, None, None]:
    """A render reads the scene in a thread of its own, a capture steps through its frames, and a step of undo in the
    middle of an edit would keep half of that.
    """
    while bpy.app.is_job_running("RENDER") or scene_is_held() or is_edited():
        yield Progress("placing", "when the scene is free", waits=True)


def is_edited() -> bool:
    """Whether an edit is going on that ends with a click or Esc."""
    windows = bpy.context.window_manager.windows
    return any(item.bl_idname.startswith(_EDITS) for window in windows for item in window.modal_operators)


def _prepared(
    folder: Path, find_scene: Callable[[], bpy.types.Scene], placing: Placing
) -> Generator[Progress, None, Ready | ReadyTexture]:
    steps = prepare(folder, find_scene, **placing.options())
    with contextlib.closing(steps):
        while True:
            try:
                waits = next(steps)
            except StopIteration as done:
                return done.value
            # Each of them is long enough for a tick of its own.
            yield Progress("placing", waits=True)
            while waits is not None and not waits.done():
                if isinstance(waits, Baking):
                    yield Progress("baking", step=round(100 * waits.share), steps=100, waits=True)
                else:
                    yield Progress("placing", waits=True)


def defect(error: BaseException) -> TrackshadeError:
    """Words for what should not happen."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return TrackshadeError(
        "defect", f"Trackshade has failed ({said}).", "Save what Blender's system console shows for a report."
    )
