# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel's one job at a time: advanced a little at each tick, on Blender's main thread, without ever waiting."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path

import bpy

from trackshade.client import Client, connect, later
from trackshade.errors import Cancelled, ShotError, TrackshadeError
from trackshade.outcome import Outcome, check_output
from trackshade.settings import ShadeSettings

from ..job import Progress, What, record, settle, shade
from ..place import place
from .preferences import backend_address, backend_python, results_folder

TICK = 0.05  # seconds between two ticks while the backend works
BUDGET = 0.01  # seconds that a tick may take where steps are short
SETTLE = 3.0  # seconds that the end of Blender waits for the backend to hear of it


class _Home:
    """The scene that a job was begun in. References to it do not outlive an undo; its session number does."""

    def __init__(self, scene: bpy.types.Scene) -> None:
        self.name = scene.name
        self._number = scene.session_uid
        self._file = bpy.data.filepath

    def scene(self) -> bpy.types.Scene | None:
        """The scene under whatever name, also where its file was opened once more; None if it is gone."""
        for scene in bpy.data.scenes:
            if scene.session_uid == self._number:
                return scene
        same = bool(self._file) and bpy.data.filepath == self._file
        return bpy.data.scenes.get(self.name) if same else None

    def scene_or_raise(self) -> bpy.types.Scene:
        scene = self.scene()
        if scene is None:
            raise ShotError("scene-gone", f"Scene '{self.name}' is not open any more.")
        return scene


class Session:
    """State of the panel.

    Attributes:
        progress: where the running job is, or None.
        holds_scene: the running job is stepping through the scene's frames, which nobody may change meanwhile.
        error: of the latest job, or None.
        outcome: of the latest job, or None.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.holds_scene = False
        self.error: TrackshadeError | None = None
        self.outcome: Outcome | None = None
        self._steps: Generator[Progress, None, Outcome] | None = None
        self._client: Future[Client] | None = None

    @property
    def busy(self) -> bool:
        return self._steps is not None

    def begin(self, scene: bpy.types.Scene, what: What, settings: ShadeSettings) -> None:
        """Starts a job; it goes on with each `advance`.

        Raises:
            OutputError: there is no place for the result.
        """
        out = _free(results_folder(), Path(bpy.data.filepath or "scene").stem)
        check_output(out, force=False)
        self.error = self.outcome = None
        self.holds_scene = True
        self.progress = Progress("starting")
        self._steps = self._path(_Home(scene), what, settings, out)
        bpy.app.handlers.load_pre.append(closing)

    def advance(self) -> None:
        """Does the next bit of work. What goes wrong ends the job and is in `error`."""
        if self._steps is None:
            return
        end = time.monotonic() + BUDGET
        try:
            while time.monotonic() < end:
                self.progress = next(self._steps)
                if self.progress.waits or self.holds_scene:
                    break
        except StopIteration as done:
            self._ended(outcome=done.value)
        except TrackshadeError as error:
            self._ended(error=error)
        except ReferenceError:  # Blender's word for data that is gone
            self._ended(error=ShotError("scene-gone", "The scene was closed or undone while it was being captured."))
        except BaseException as error:
            self._ended(error=_defect(error))
            raise

    def cancel(self, reason: TrackshadeError | None = None) -> None:
        """Ends the running job: the scene is as it was, and the backend is told."""
        if self._steps is None:
            return
        try:
            with contextlib.suppress(ReferenceError):  # what is gone needs no putting back
                self._steps.close()
        finally:
            self._ended(error=reason or Cancelled())

    def close(self) -> None:
        """Ends the job, the connection and a backend of our own."""
        self.cancel()
        settle(SETTLE)
        client, self._client = self._client, None
        if bpy.app.timers.is_registered(tick):
            bpy.app.timers.unregister(tick)
        if client is not None:
            client.add_done_callback(_close)

    def follow(self) -> None:
        """Goes on by a timer, from where the scene is free again; also while another file is open."""
        if not bpy.app.timers.is_registered(tick):
            bpy.app.timers.register(tick, first_interval=TICK, persistent=True)

    def _path(self, home: _Home, what: What, settings: ShadeSettings, out: Path) -> Generator[Progress, None, Outcome]:
        began = time.monotonic()
        client = self._connect(what.model)
        recorded = yield from record(what, home.scene_or_raise(), client)
        self.holds_scene = False
        job, folder = yield from shade(recorded, settings, client, out)
        while bpy.app.is_job_running("RENDER"):  # which reads the scene in a thread of its own
            yield Progress("placing", "after the render", waits=True)
        scene = home.scene()
        if scene is None:
            raise ShotError("scene-gone", f"Scene '{home.name}' is not open any more.", f"Its result is in {folder}.")
        placed = place(folder, scene, as_="both")
        if not bpy.app.background:
            bpy.ops.ed.undo_push(message="Place shaded result")
        return Outcome.of(job, folder, time.monotonic() - began, placing=placed.warnings)

    def _connect(self, model: str) -> Future[Client]:
        """The connection; a new one where there is none or it failed. The backend stays for the next job."""
        if self._client is None or (self._client.done() and self._client.exception() is not None):
            self._client = later(_connected, backend_address(), backend_python(), model)
        return self._client

    def _ended(self, outcome: Outcome | None = None, error: TrackshadeError | None = None) -> None:
        self._steps = None
        self.progress = None
        self.holds_scene = False
        self.outcome = outcome
        self.error = error
        if closing in bpy.app.handlers.load_pre:
            bpy.app.handlers.load_pre.remove(closing)
        if error is not None and error.code in ("backend-unreachable", "backend-ended", "closed"):
            client, self._client = self._client, None
            if client is not None and client.done() and client.exception() is None:
                later(client.result().close)


def _connected(address: str | None, python: str | None, model: str) -> Client:
    """A backend that loads the model already, while the scene is captured."""
    client = connect(address, python=python)
    client.warm(model)
    return client


def _close(connecting: Future[Client]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


def _defect(error: BaseException) -> TrackshadeError:
    """Words for what should not happen."""
    said = f"{type(error).__name__}: {error}".rstrip(": ")
    return TrackshadeError(
        "defect", f"Trackshade has failed ({said}).", "Save what Blender's system console shows for a report."
    )


@bpy.app.handlers.persistent
def closing(*_: object) -> None:
    """Before another file is opened: a capture ends while its scene is still there to be put back."""
    if _current.holds_scene:
        _current.cancel(ShotError("scene-gone", "The file was closed while it was being captured."))


def tick() -> float | None:
    """A timer of Blender's: seconds until the next call, or None for no more."""
    _current.advance()
    redraw()
    return TICK if _current.busy else None


def current() -> Session:
    return _current


def redraw() -> None:
    """Shows the state in every 3D view."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def _free(folder: Path, stem: str) -> Path:
    return next(path for n in itertools.count(1) if not (path := folder / f"{stem}-{n:03d}").exists())


_current = Session()
