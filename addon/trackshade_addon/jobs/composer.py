# SPDX-License-Identifier: GPL-3.0-or-later
"""The one path of a job: scene, shot, backend, result, plate. The panel, the command and Python all go through it.

The path is a generator that does a little at each `next`, always on Blender's main thread, and never waits for the
backend: a modal operator or a timer may drive it as well as a loop that sleeps.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import bpy
import numpy as np

from trackshade.client import Client, JobEvent, Uploader, later
from trackshade.client.job_result import JobResult, check_output
from trackshade.config import registry
from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, OutputError, ShotError, UsageError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Shot
from trackshade.shot.input_image import attach_first_frame

from ..capture import Capture, plan
from ..capture.auto_camera import auto_camera
from ..capture.completeness import find_gaps, require_complete
from ..capture.first_frame import SampleRenderer
from ..capture.given_image import check_given, read_given_picture
from ..capture.stepping import Steps
from ..placement import place, save_copy

T = TypeVar("T")
PAUSE = 0.02  # seconds that a loop sleeps where the path has to wait
BATCH = 8 << 20  # bytes that are passed on together during the capture
_withdrawing: set[Future[None]] = set()  # jobs that the backend is still to hear the end of


@dataclass(frozen=True)
class Progress:
    """Where a job is.

    Attributes:
        state: "planning", "capturing", "stepping" (a simulation), "rendering", "starting", "sending", then the
            backend's own ("queued", "loading", "running", "decoding"), "fetching", "placing".
        message: a detail in words, or "".
        step, steps: `step` of `steps` are done; None where that does not apply.
        waits: nothing is to be done here for now.
        preview: bytes of a small picture, or None.
    """

    state: str
    message: str = ""
    step: int | None = None
    steps: int | None = None
    waits: bool = False
    preview: bytes | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"state": self.state, "message": self.message, "step": self.step, "steps": self.steps}

    def __str__(self) -> str:
        if self.state == "stepping":
            return f"stepping the simulation, frame {self.step} of {self.steps}"
        words = [self.state]
        if self.step is not None and self.steps is not None:
            words.append(f"{self.step} of {self.steps}")
        return ", ".join([*words, self.message] if self.message else words)


@dataclass(frozen=True)
class ShotRequest:
    """What of a scene becomes the shot.

    Attributes:
        model: name in the registry.
        camera: an object's name, "auto", or None for the scene's own.
        frames: first, last and step; None for the scene's own.
        size: (width, height) of the model's, where it has several; None for the nearest in aspect.
        view_layer: name, or None for the active one.
        first_frame: "render", "none", the path of a picture, or "image:" and the name of an image in Blender.
        input_render: renders every frame too, to measure the result against.
        strict: refuses a scene with missing files or blocked scripts, which otherwise is warned about.
        remarks: sentences about how the scene was opened, for the shot's warnings.
        keep_played: whether frames of simulations that were played stay in memory; see `Capture`.
        glass: "opaque" or "through": whether what lets more than half of the light through is part of the shot.
        hair: "none" or "strands": whether hair is, as thin tubes.
    """

    model: str = "mini"
    camera: str | None = None
    frames: tuple[float | None, float | None, float | None] = (None, None, None)
    frame_rule: str = "auto"
    size_mode: str = "pad"
    size: tuple[int, int] | None = None
    view_layer: str | None = None
    first_frame: str = "render"
    input_render: bool = False
    strict: bool = False
    remarks: tuple[str, ...] = ()
    keep_played: bool = True
    glass: str = "opaque"
    hair: str = "none"


@dataclass(frozen=True)
class CapturedShot:
    """A scene's side of a job. Pictures are uint8 sRGB of the model's size: [H, W, 3] and [T, H, W, 3]."""

    shot: Shot
    first_frame: np.ndarray | None
    input_render: np.ndarray | None


class StreamingUpload:
    """Passes finished rows on to the backend during the capture, from when there is a connection.

    Rows are passed on in batches: each batch costs a question to the backend, and other threads the capture's time.
    """

    def __init__(self, client: Future[Client]) -> None:
        self._client = client
        self._uploader: Uploader | None = None
        self._waiting: dict[int, tuple[np.ndarray, int]] = {}  # by address: rows that are final
        self._bytes = 0  # about, of what waits

    def rows(self, array: np.ndarray, count: int) -> None:
        """Says that the first `count` rows of an array of the shot are final. Never waits."""
        key = array.__array_interface__["data"][0]
        _, before = self._waiting.get(key, (array, count - 1))
        self._waiting[key] = array, count
        self._bytes += (count - before) * (array.nbytes // max(1, len(array)))
        if self._bytes >= BATCH and self._client.done():
            if self._uploader is None:
                self._uploader = self._client.result().uploader()
            for waiting in self._waiting.values():
                self._uploader.rows(*waiting)
            self._waiting.clear()
            self._bytes = 0


@dataclass
class _Submitted:
    """What has to be taken back where a job ends early."""

    job: str = field(default_factory=lambda: secrets.token_hex(8))
    accepted: Future[str] | None = None
    ended: bool = False


def record(
    what: ShotRequest, scene: bpy.types.Scene, client: Future[Client] | None = None
) -> Generator[Progress, None, CapturedShot]:
    """Captures a scene and renders its first frame; frames are sent to `client` as they are captured.

    The scene is as it was after the last step, an error, or `close()` of the generator; `camera="auto"` alone adds
    a camera.

    Raises:
        ShotError: the scene cannot be shot. UsageError: no such view layer or size. ModelError: unknown model.
    """
    view_layer = _view_layer(scene, what.view_layer)
    frames, size = planned(what, scene)
    yield Progress("planning", f"{frames.statement} {size.statement}")
    if what.strict:
        view_layer.update()  # so that Blender knows which drivers it blocks
        require_complete(find_gaps(scene, view_layer, frames.frame_numbers))
    camera = yield from _camera(scene, view_layer, what, frames)
    given = None if what.first_frame in ("render", "none") else what.first_frame
    if given is not None:
        yield Progress("planning", "looking at the picture")
        check_given(given)  # so that a damaged picture is told before the capture
    shot = yield from _capture(scene, view_layer, frames, size, camera, client, what)
    if what.strict:  # drivers of what only renders show have been evaluated by now
        require_complete(find_gaps(scene, view_layer, frames.frame_numbers))
    if what.remarks:
        shot = replace(shot, source={**shot.source, "warnings": [*what.remarks, *shot.warnings]})
    first, extra = None, None
    if given is not None:
        yield Progress("rendering", "the picture at the model's size")
        shot, first = with_given(shot, given)
        yield Progress("planning", shot.source["first_frame"]["statement"])
    with SampleRenderer(shot, scene, view_layer, what.keep_played) as renderer:
        if what.first_frame == "render":
            first = yield from _rendered(renderer, 0, Progress("rendering", "the first frame"))
        if what.input_render:
            extra = yield from _render_all(shot, renderer, first if what.first_frame == "render" else None)
    return CapturedShot(shot, first, extra)


def with_given(shot: Shot, chosen: str, shows: str = "any") -> tuple[Shot, np.ndarray]:
    """A chosen picture as a shot's first frame; see `input_image.attach_first_frame`. Main thread only.

    Args:
        chosen: path of a file, or "image:" and the name of an image that is open in Blender.

    Raises:
        ShotError: it cannot be read, is damaged or of a kind that is not taken.
    """
    return attach_first_frame(shot, read_given_picture(chosen, shot.source.get("color_management")), shows)


def planned(what: ShotRequest, scene: bpy.types.Scene) -> tuple[FrameMap, SizeFit]:
    """The samples and the image of a shot.

    Raises:
        ShotError: the range does not fit. UsageError: the model has no such size. ModelError: unknown model.
    """
    spec = sized(registry.spec(what.model), what.size)
    return plan(scene, spec, *what.frames, frame_rule=what.frame_rule, size_mode=what.size_mode)


def shade(
    recorded: CapturedShot,
    settings: ShadeSettings,
    client: Future[Client],
    out: Path,
    force: bool = False,
    another: Callable[[], Path] | None = None,
) -> Generator[Progress, None, tuple[str, Path]]:
    """Has the backend shade what was recorded and fetches the result; the job's id and its folder.

    `another` names a folder that is free where somebody else took `out` meanwhile.

    A job that was begun is cancelled by `close()` of the generator or an error on this side.

    Raises:
        ProtocolError: no backend. ModelError, JobError: from the backend. OutputError: `out` is taken or unwritable.
        Cancelled: somebody else cancelled the job.
    """
    begun = _Submitted()
    backend = yield from wait_until(client, "starting", "the backend")
    try:
        remaining = [0]

        def left() -> str:
            return f"{remaining[0]} MB to go" if remaining[0] else "the shot"

        begun.accepted = later(
            backend.submit, recorded.shot, settings, recorded.first_frame, recorded.input_render, begun.job,
            lambda count: remaining.__setitem__(0, count),
        )  # fmt: skip
        yield from wait_until(begun.accepted, "sending", left)
        yield from _follow(backend, begun)
        fetched = yield from _fetched(backend, begun.job, out, force, another)
    finally:
        if not begun.ended:
            withdrawn = later(_withdraw, backend, begun)
            _withdrawing.add(withdrawn)
            withdrawn.add_done_callback(_withdrawing.discard)
            if bpy.app.background:  # the process is about to end; in a window nobody waits
                settle(5)
    return begun.job, fetched


def settle(seconds: float) -> None:
    """Waits until the backend knows which jobs were given up; else it takes them up again with the next one."""
    wait_for(list(_withdrawing), seconds)


def run(
    scene: bpy.types.Scene,
    what: ShotRequest,
    settings: ShadeSettings,
    client: Future[Client],
    out: Path,
    force: bool = False,
) -> Generator[Progress, None, JobResult]:
    """The whole path, ending with a copy of the scene in the result that shows it as plate and background.

    Raises: as `record`, `shade` and `place`.
    """
    began = time.monotonic()
    check_output(out, force, registry.spec(what.model))
    recorded = yield from record(what, scene, client)
    job, folder = yield from shade(recorded, replace(settings, model=what.model), client, out, force)
    yield Progress("placing", str(folder / "scene.blend"))
    placed = place(folder, scene, as_="both")
    copy = save_copy(folder / "scene.blend")
    return JobResult.of(job, folder, time.monotonic() - began, copy, placed.warnings)


def drain(steps: Generator[Progress, None, T], report: Callable[[Progress], None]) -> T:
    """Runs a path to its end, for a process that has nothing else to do.

    Raises:
        Cancelled: on Ctrl-C, once the path has put everything back. And what the path raises.
    """
    try:
        while True:
            try:
                progress = next(steps)
            except StopIteration as end:
                return end.value
            report(progress)
            if progress.waits:
                time.sleep(PAUSE)
    except KeyboardInterrupt:
        steps.close()
        raise CancelledError from None


def wait_until(future: Future[T], state: str, message: str | Callable[[], str]) -> Generator[Progress, None, T]:
    """What becomes of a future, for a path: it says meanwhile what it waits for."""
    while not future.done():
        yield Progress(state, message if isinstance(message, str) else message(), waits=True)
    return future.result()


def _follow(client: Client, begun: _Submitted) -> Generator[Progress, None, None]:
    """Tells the job's events as they come, until it is done."""
    latest = Progress("queued", waits=True)
    while True:
        for event in client.poll(begun.job):
            latest = _told(event)
            yield latest
            if event.final:
                begun.ended = True
                if event.error is not None:
                    raise event.error
                if event.state == "cancelled":
                    raise CancelledError("cancelled", "The job was cancelled.")
                return
        yield replace(latest, waits=True, preview=None)


def _fetched(
    client: Client, job: str, out: Path, force: bool, another: Callable[[], Path] | None
) -> Generator[Progress, None, Path]:
    while True:
        try:
            return (yield from wait_until(later(client.fetch, job, out, force), "fetching", str(out)))
        except OutputError as error:
            if another is None or error.code != "output-exists":
                raise
            out = another()


def _told(event: JobEvent) -> Progress:
    return Progress(event.state, event.message, event.step, event.steps, preview=event.preview)


def _withdraw(client: Client, begun: _Submitted) -> None:
    """Cancels a job that may still be on its way to the backend."""
    if begun.accepted is not None:
        begun.accepted.result()
        client.cancel(begun.job)


def _capture(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    frames: FrameMap,
    size: SizeFit,
    camera: bpy.types.Object | None,
    client: Future[Client] | None,
    what: ShotRequest,
) -> Generator[Progress, None, Shot]:
    rows = None if client is None else StreamingUpload(client).rows
    options = {"keep_played": what.keep_played, "glass": what.glass, "hair": what.hair}
    with Capture(scene, view_layer, frame_map=frames, size_fit=size, camera=camera, rows=rows, **options) as capture:
        yield Progress("capturing", step=0, steps=capture.total)
        while capture.done < capture.total:
            if client is not None and client.done():
                client.result()  # no use in going on without a backend
            capture.step()
            if capture.simulated is not None and capture.done < capture.total:
                yield stepped(capture.simulated)
            else:
                yield Progress("capturing", step=capture.done, steps=capture.total)
    return capture.shot()


def _render_all(
    shot: Shot, renderer: SampleRenderer, first: np.ndarray | None
) -> Generator[Progress, None, np.ndarray]:
    """[T, H, W, 3] every sample by the scene's own engine."""
    pictures = [] if first is None else [first]
    while len(pictures) < len(shot.frame_numbers):
        progress = Progress("rendering", "the input, to compare with", len(pictures), len(shot.frame_numbers))
        pictures.append((yield from _rendered(renderer, len(pictures), progress, len(pictures) == 0)))
    return np.stack(pictures)


def _rendered(
    renderer: SampleRenderer, t: int, progress: Progress, tell_steps: bool = True
) -> Generator[Progress, None, np.ndarray]:
    """[H, W, 3] one sample by the scene's own engine; `progress` is told right before it renders, and on the way to the
    sample unless `tell_steps`.
    """
    for steps in renderer.approach(t):
        yield stepped(steps) if tell_steps else progress
    yield progress
    return renderer.picture(t)


def stepped(steps: Steps) -> Progress:
    """Where the stepping of a simulation is."""
    return Progress("stepping", "the simulation", *steps)


def sized(spec: ModelSpec, size: tuple[int, int] | None) -> ModelSpec:
    """The model with the one size that is wanted of it. Raises UsageError where it has no such size."""
    if size is None:
        return spec
    if size not in spec.sizes:
        known = ", ".join(f"{width}x{height}" for width, height in spec.sizes)
        raise UsageError("unknown-size", f"Model '{spec.name}' has no size {size[0]}x{size[1]}.", f"It has: {known}.")
    return replace(spec, sizes=(size,))


def _view_layer(scene: bpy.types.Scene, name: str | None) -> bpy.types.ViewLayer:
    if name is None:
        return bpy.context.view_layer if scene == bpy.context.scene else scene.view_layers[0]
    if name not in scene.view_layers:
        known = ", ".join(layer.name for layer in scene.view_layers)
        raise UsageError("unknown-view-layer", f"The scene has no view layer '{name}'.", f"It has: {known}.")
    return scene.view_layers[name]


def _camera(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, what: ShotRequest, frames: FrameMap
) -> Generator[Progress, None, bpy.types.Object | None]:
    """The camera to see every frame through, or None for the scene's own."""
    name = what.camera
    if name is None:
        if scene.camera is None and not any(marker.camera for marker in scene.timeline_markers):
            raise ShotError(
                "no-camera", f"Scene '{scene.name}' has no camera.", "Add one, or let --camera auto make one."
            )
        return None
    if name == "auto" and "auto" not in scene.objects:
        steps = auto_camera(scene, view_layer, frames.frame_numbers, what.keep_played)
        while True:
            try:
                yield stepped(next(steps))
            except StopIteration as end:
                return end.value
    camera = scene.objects.get(name)
    if camera is None or not isinstance(camera.data, bpy.types.Camera):
        known = ", ".join(sorted(item.name for item in scene.objects if item.type == "CAMERA")) or "none"
        raise ShotError("no-camera", f"The scene has no camera named '{name}'.", f"It has: {known}.")
    return camera
