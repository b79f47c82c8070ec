# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine's jobs: the whole shot of an animation, and a control where there is no result yet.

The shot is captured from the render's own evaluation, which is stepped through the shot's frames. That evaluation does
not simulate: of rigid bodies, soft bodies and simulation zones it shows what the viewport's evaluation has simulated.
If something is simulated and not baked, the viewport's evaluation therefore goes to each sample first, with the
render's visibility as in every capture.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import bpy

from trackshade.client import Client
from trackshade.client.job_run import CapturedShot, run_job, shade_shot
from trackshade.client.output_folder import OutputFolder
from trackshade.client.progress import Progress
from trackshade.config import registry
from trackshade.core.errors import CancelledError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Shot
from trackshade.shot.cameras import first_cells

from ..capture.given_image import check_given_image
from ..capture.render_state import RenderState
from ..capture.request import ShotRequest
from ..capture.restore import preserve_scene, split_frame
from ..capture.shot_builder import ShotBuilder, require_visible
from ..capture.simulations import simulations
from ..capture.stepping import Stepper
from ..jobs import session
from ..jobs.composer import (
    StreamingUpload,
    stepping_progress,
    with_clay,
    with_keys,
    with_picture,
    with_references,
    with_rendered_keys,
)
from ..jobs.render_process import render_elsewhere
from .rendered_sequence import RenderedSequence

T = TypeVar("T")
POLL_INTERVAL = 0.02  # seconds between two checks whether the main thread is done


@dataclass(frozen=True)
class RenderContext:
    """A render of the engine.

    Attributes:
        frame_set: The engine's function that steps the render's evaluation.
        depsgraph: The render's evaluation of one view layer.
        is_cancelled: Returns whether the render was cancelled.
    """

    frame_set: Callable[[int, float], None]
    depsgraph: bpy.types.Depsgraph
    is_cancelled: Callable[[], bool]

    @property
    def scene(self) -> bpy.types.Scene:
        """The evaluated scene."""
        return self.depsgraph.scene

    @property
    def request(self) -> ShotRequest:
        """What is captured: the view layer that is rendered, through one camera, and otherwise what the panel says."""
        layer = self.depsgraph.view_layer.name
        return replace(self.scene.trackshade.shot_request(layer).through_one_camera(), view_layer=layer)

    def on_main(self, call: Callable[[], T]) -> T:
        """Run a call on Blender's main thread; see `run_on_main_thread`."""
        return run_on_main_thread(call, self.is_cancelled)


def run_on_main_thread(call: Callable[[], T], is_cancelled: Callable[[], bool]) -> T:
    """Run a call on Blender's main thread, from the thread of a render, and wait for it.

    Without a window, a render is on the main thread itself.

    Raises:
        CancelledError: The render was cancelled before the call was begun; it is not made any more.
        Exception: As raised by the call.
    """
    if threading.current_thread() is threading.main_thread():
        return call()
    future: Future[T] = Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread of the render
            future.set_exception(error)

    bpy.app.timers.register(run)
    while not future.done():
        if is_cancelled() and future.cancel():
            raise CancelledError
        time.sleep(POLL_INTERVAL)
    return future.result()


def shade_animation(
    render: RenderContext, with_control: bool
) -> Generator[Progress, None, tuple[RenderedSequence, RenderedSequence | None]]:
    """Shade the whole shot as one job.

    Returns:
        The result, and if `with_control` the tracking video with depths and object indices.

    Raises:
        TrackshadeError: As raised by `capture_render` and `run_job`.
    """
    settings = render.scene.trackshade.shade_settings()
    shots: list[Shot] = []

    def capture(client: Future[Client]) -> Generator[Progress, None, CapturedShot]:
        captured = yield from capture_render(render, client)
        shots.append(captured.shot)
        return captured

    client = render.on_main(lambda: session.current().connect(settings.needs))
    with render.on_main(lambda: session.reserve_output(registry.spec(settings.model))) as out:
        result = yield from run_job(capture, settings, client, out)
    sequence = RenderedSequence.load(result.out, render.scene)
    if not with_control:
        return sequence, None
    return sequence, (yield from _render_control(render, shots[0], client))


def make_control(render: RenderContext) -> Generator[Progress, None, RenderedSequence]:
    """Make the tracking video of the whole shot, with depths and object indices, without the model.

    Raises:
        TrackshadeError: As raised by `capture_render` and `shade_shot`.
    """
    client = render.on_main(lambda: session.current().connect(None))
    shot = yield from _capture_shot(render, client)
    return (yield from _render_control(render, shot, client))


def capture_render(render: RenderContext, client: Future[Client]) -> Generator[Progress, None, CapturedShot]:
    """Capture the shot of the view layer that is rendered, with its first frame.

    Raises:
        ShotError: What the scene shows cannot be captured, or the first frame cannot be rendered or read.
    """
    request = render.request
    request = request.with_first_key(request.plan(render.scene)[0])
    picture = request.given_picture
    for given in request.given_pictures:
        render.on_main(lambda given=given: check_given_image(given))  # a damaged one is reported before the capture
    shot = yield from _capture_shot(render, client)
    captured = CapturedShot(shot)
    if picture is not None:
        captured = render.on_main(lambda: with_picture(shot, picture))
    elif request.first_frame == "render":
        firsts = first_cells(shot)
        images = yield from render_elsewhere(shot, firsts, render.on_main)
        captured = with_rendered_keys(captured, dict(zip(firsts, images, strict=True)))
    captured = render.on_main(lambda: with_references(with_keys(captured, request), request))
    if request.needs_renders:
        frames = yield from render_elsewhere(shot, range(len(shot.frame_numbers)), render.on_main)
        captured = replace(captured, input_render=frames)
    if request.needs_clay:
        captured = yield from with_clay(captured, request, render.on_main)
    return captured


def _capture_shot(render: RenderContext, client: Future[Client]) -> Generator[Progress, None, Shot]:
    request, scene = render.request, render.scene
    frames, fit = request.plan(scene)
    yield Progress("planning", f"{frames.statement} {fit.statement}")
    camera = None if request.camera is None else scene.objects.get(request.camera)
    return (yield from capture_evaluation(render, frames, fit, camera, client, request.glass, request.hair))


def capture_evaluation(
    render: RenderContext,
    frames: FrameMap,
    fit: SizeFit,
    camera: bpy.types.Object | None,
    client: Future[Client],
    glass: str = "opaque",
    hair: str = "none",
) -> Generator[Progress, None, Shot]:
    """Capture the render's evaluation of its view layer.

    After the last step, an error, or `close()` of the generator the render is at its frame again.

    Args:
        render: The render.
        frames: Frames of the shot.
        fit: How the shot's image lies over the render's frame.
        camera: Camera of every frame; None for the scene's own, which markers may switch.
        client: Connection to which frames are uploaded while later ones are captured.
        glass: See `ShotRequest`.
        hair: See `ShotRequest`.

    Raises:
        ShotError: What the scene shows cannot be captured.
    """
    depsgraph, scene = render.depsgraph, render.scene
    before = scene.frame_current, scene.frame_subframe
    builder = ShotBuilder(depsgraph.view_layer, frames, fit, StreamingUpload(client).rows, glass=glass, hair=hair)
    yield Progress("capturing", step=0, steps=builder.total)
    stack = contextlib.ExitStack()
    arguments = scene.original, depsgraph.view_layer.name, frames.frame_numbers, builder.warnings.add, stack
    viewport: Stepper | None = None
    try:
        viewport = render.on_main(lambda: _viewport_stepper(*arguments))
        if viewport is not None:
            render.frame_set(*before)  # otherwise the render's evaluation would start anew for the changed visibility
        for frame in frames.frame_numbers:
            if viewport is not None:
                passing = viewport.to(frame)
                while (steps := render.on_main(lambda passing=passing: next(passing, None))) is not None:
                    yield stepping_progress(steps)
            if client.done():
                client.result()  # without a backend, there is no use in going on
            render.frame_set(*split_frame(frame))
            builder.add_sample(depsgraph, camera or scene.camera)
            if viewport is None:
                yield Progress("capturing", step=builder.done, steps=builder.total)
    finally:
        if viewport is not None:
            run_on_main_thread(stack.close, lambda: False)
        render.frame_set(*before)
    return require_visible(builder.shot(scene))


def _viewport_stepper(
    scene: bpy.types.Scene,
    layer: str,
    frames: tuple[float, ...],
    warn: Callable[[str], None],
    stack: contextlib.ExitStack,
) -> Stepper | None:
    """Switch the viewport to the render's visibility if something is simulated that is not baked. Main thread only.

    Returns:
        What steps the viewport's evaluation, or None. Closing the stack restores the scene.
    """
    view_layer = scene.view_layers[layer]
    if not simulations(scene, view_layer):
        return None
    changes = stack.enter_context(preserve_scene(scene))
    return Stepper(scene, view_layer, frames, changes, RenderState(changes, scene, view_layer, warn).follow)


def _render_control(
    render: RenderContext, shot: Shot, client: Future[Client]
) -> Generator[Progress, None, RenderedSequence]:
    """Make the control of a shot. Its temporary files are removed when the sequence is not used any more."""
    folder = tempfile.TemporaryDirectory(prefix="trackshade-")
    settings = replace(render.scene.trackshade.shade_settings(), output="tracking")
    out = OutputFolder(Path(folder.name) / "control")
    result = yield from shade_shot(CapturedShot(shot), settings, client, out)
    return RenderedSequence.load(result.out, render.scene, [mesh.pass_index for mesh in shot.meshes], folder)
