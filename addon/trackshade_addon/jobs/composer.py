# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's pieces of a job: how its shot is captured, and how its result is placed.

`trackshade.client.job_run.run_job` puts them together. All pieces are generators that run on Blender's main thread, a
little at each `next`, and never wait for the backend.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import Client, Uploader, later
from trackshade.client.job_result import JobResult
from trackshade.client.job_run import CapturedShot
from trackshade.client.progress import Progress, wait_for
from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.core.text import join_and
from trackshade.shot import Shot
from trackshade.shot.cameras import find_cuts, first_cells, unroll_cameras
from trackshade.shot.input_image import KeyPlaces, attach_key_pictures, fit_image
from trackshade.shot.joining import join
from trackshade.shot.track_set import FIRST, TrackSet

from ..capture import Capture
from ..capture.auto_camera import add_auto_camera
from ..capture.camera import find_camera, find_more_cameras, find_view_layer, no_camera_error
from ..capture.completeness import find_gaps, require_complete
from ..capture.first_frame import SampleRenderer, read_picture
from ..capture.given_image import check_given_image, read_given_image
from ..capture.request import ShotRequest
from ..capture.scene_settings import first_frame_engine
from ..capture.simulations import simulations
from ..capture.stepping import Steps
from ..placement import (
    Prepared,
    TextureBake,
    place,
    prepare,
    save_copy,
)
from ..properties.placement_options import PlacementOptions
from .blender_process import SceneCopy
from .clay import follow_light
from .render_process import new_frames, render_elsewhere

_log = logging.getLogger(__name__)

BATCH = 8 << 20  # bytes that are uploaded together during the capture


class StreamingUpload:
    """Uploads the finished rows of a shot's arrays while the shot is being captured, as soon as there is a connection.

    Rows are uploaded in batches: each batch costs a request to the backend, and its threads slow the capture down.
    """

    def __init__(self, client: Future[Client]) -> None:
        self._client = client
        self._uploader: Uploader | None = None
        self._waiting: dict[int, tuple[np.ndarray, int]] = {}  # finished rows, by the array's address
        self._bytes = 0  # of the waiting rows, about

    def rows(self, array: np.ndarray, count: int) -> None:
        """Note that the first `count` rows of an array of the shot have their final values. Never blocks."""
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


def _do_nothing() -> None:
    pass


def capture_scene(
    request: ShotRequest,
    scene: bpy.types.Scene,
    client: Future[Client] | None = None,
    on_free: Callable[[], None] = lambda: None,
    in_process: bool | None = None,
) -> Generator[Progress, None, CapturedShot]:
    """Capture a scene, and render its first frame and its light.

    At the end, after an error and on `close()` of the generator the scene is as it was before; only `camera="auto"`
    adds a camera.

    Args:
        request: What is captured.
        scene: The scene.
        client: Connection to which frames are uploaded while later ones are captured.
        on_free: Called when the scene is not needed any more.
        in_process: Whether this Blender renders the first frame and the light, instead of another one. By default it
            does if it has no window, which a render would block.

    Raises:
        ShotError: The scene cannot be captured, or its light cannot be rendered.
        UsageError: There is no such view layer.
    """
    view_layer = find_view_layer(scene, request.view_layer)
    frames, size = request.plan(scene)
    asked, request = request, request.with_first_key(frames)
    yield Progress("planning", f"{frames.statement} {size.statement}")
    if request.strict:
        view_layer.update()  # so that Blender knows which drivers it blocks
        require_complete(find_gaps(scene, view_layer, frames.frame_numbers))
    camera = yield from _find_camera(scene, view_layer, request, frames)
    more_cameras = find_more_cameras(scene, view_layer, request.camera, request.more_cameras)
    picture = request.given_picture
    sizes = {}
    for given in request.given_pictures:
        yield Progress("planning", "looking at the picture")
        sizes[given] = check_given_image(given).size  # what is wrong is reported before the capture
    places = KeyPlaces(frames.frame_numbers, size.size, size)
    for named, frame, source in request.key_sources:
        places.take(named, frame, sizes[source], Path(source).name)
    shot = yield from _capture(scene, view_layer, frames, size, camera, more_cameras, client, request)
    if request.strict:  # by now, drivers that only renders evaluate have been evaluated
        require_complete(find_gaps(scene, view_layer, frames.frame_numbers))
    shot = replace(shot, source={**shot.source, "request": asked.to_dict()})
    if request.remarks:
        shot = replace(shot, source={**shot.source, "warnings": [*request.remarks, *shot.warnings]})
    captured = CapturedShot(shot)
    if picture is not None:
        yield Progress("rendering", "the picture at the shot's size")
        captured = with_picture(shot, picture)
        yield Progress("planning", captured.shot.source["first_frame"]["statement"])
    captured = with_references(with_keys(captured, request), request)
    with tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True) as folder:
        copy = SceneCopy(Path(folder) / "scene.blend")
        if _can_free_early(scene, view_layer, request, in_process):
            copy.save(scene)
            on_free()
        return (yield from _add_renders(captured, scene, view_layer, request, in_process, copy, on_free))


def _add_renders(
    captured: CapturedShot,
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    request: ShotRequest,
    in_process: bool | None,
    copy: SceneCopy,
    on_free: Callable[[], None],
) -> Generator[Progress, None, CapturedShot]:
    """Render the first frame and the light of a shot; of a scene whose copy is saved, the copy alone is used."""
    shot = captured.shot
    if copy.is_saved:
        on_free = _do_nothing
    firsts = first_cells(shot)
    cells = unroll_cameras(shot)
    samples = range(len(cells.frame_numbers)) if request.needs_renders else firsts
    images, warning = yield from _render(cells, samples, scene, view_layer, request, in_process, copy)
    if warning:
        source = {**captured.shot.source, "warnings": [*captured.shot.warnings, warning]}
        captured = replace(captured, shot=replace(captured.shot, source=source))
    if images is not None and request.first_frame == "render":
        captured = with_rendered_keys(captured, {cell: images[samples.index(cell)] for cell in firsts})
    if images is not None and request.needs_renders:
        captured = replace(captured, input_render=images)
    if request.needs_clay:
        return (yield from with_clay(captured, request, on_free=on_free, copy=copy))
    on_free()
    return captured


def with_rendered_keys(captured: CapturedShot, images: Mapping[int, np.ndarray]) -> CapturedShot:
    """Use renders as the first frame and, of further cameras and after cuts, as key pictures that were not given.

    Args:
        captured: What was captured.
        images: [H, W, 3] uint8 of each of `first_cells`.
    """
    shot, others = captured.shot, {cell: image for cell, image in images.items() if cell}
    if cuts := find_cuts(shot):
        frames = join_and(f"{shot.frame_numbers[t]:g}" for t in cuts)
        many = len(cuts) > 1
        switched = f"The camera is switched at frame{'s' * many} {frames}, "
        switched += "whose renders are key pictures, too." if many else "whose render is a key picture, too."
        statement = " ".join(filter(None, [shot.source.get("frame_map", {}).get("statement"), switched]))
        frame_map = {**shot.source.get("frame_map", {}), "statement": statement}
        shot = replace(shot, source={**shot.source, "frame_map": frame_map})
    return replace(captured, shot=shot, first_frame=images[0], keys={**others, **captured.keys})


def with_clay(
    captured: CapturedShot,
    request: ShotRequest,
    on_main: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    on_free: Callable[[], None] = _do_nothing,
    copy: SceneCopy | None = None,
) -> Generator[Progress, None, CapturedShot]:
    """Add the clay renders of a shot of the open file, if its light changes.

    Args:
        captured: What was captured.
        request: How.
        on_main: Runs a call on Blender's main thread.
        on_free: Called when the scene is not needed any more.
        copy: A copy of the file that may be saved already; None to save one.

    Raises:
        ShotError: They could not be rendered.
        OutputError: They could not be written.
    """
    shot = captured.shot
    clay = yield from follow_light(unroll_cameras(shot), request, on_main, on_free, copy)
    light = {**(shot.source.get("light") or {}), "statement": clay.statement}
    warnings = list(dict.fromkeys([*shot.warnings, *clay.warnings]))
    shot = replace(shot, source={**shot.source, "light": light, "warnings": warnings})
    return replace(captured, shot=shot, light=clay.images)


def join_tracks(tracks: TrackSet, request: ShotRequest) -> Generator[Progress, None, CapturedShot]:
    """Make a shot of the tracks that renders of the open file have kept, and render its light.

    Raises:
        ShotError: The set is incomplete or damaged, or its light cannot be rendered.
        OutputError: The light cannot be written.
    """
    shot = yield from wait_for(later(join, tracks), "planning", "joining the tracks")
    request = replace(request, first_frame="none").with_first_key(tracks.order.frames())
    captured = CapturedShot(shot)
    if request.given_picture is not None:
        captured = with_picture(shot, request.given_picture)
    elif tracks.order.picture:
        captured = with_picture(shot, str(tracks.folder / FIRST), shows="frame")
    captured = with_references(with_keys(captured, request), request)
    if request.needs_renders:
        renders = new_frames(shot, len(shot.frame_numbers))
        for t, frame in enumerate(shot.frame_numbers):
            yield Progress("rendering", "the input, from the export", t, len(renders))
            renders[t] = read_picture(tracks.picture(float(frame)))
        captured = replace(captured, input_render=renders)
    if not request.needs_clay:
        return captured
    return (yield from with_clay(captured, request))


def with_picture(shot: Shot, picture: str, shows: str = "any") -> CapturedShot:
    """Use a picture as a shot's first frame, and as a key picture with its own resolution. Main thread only.

    Args:
        shot: The shot.
        picture: Path of a file, or "image:" and the name of an image in Blender.
        shows: What the picture shows; see `attach_first_frame`.

    Raises:
        ShotError: The picture cannot be read, is damaged or of an unsupported kind.
    """
    return CapturedShot.with_picture(shot, read_given_image(picture, shot.source.get("color_management")), shows)


def with_keys(captured: CapturedShot, request: ShotRequest) -> CapturedShot:
    """Add the key pictures of a request. Main thread only.

    Raises:
        ShotError: A picture cannot be read, has another aspect, is black, or two show the same frame.
    """
    management = captured.shot.source.get("color_management")
    pictures = ((camera, frame, read_given_image(source, management)) for camera, frame, source in request.key_sources)
    shot, keys = attach_key_pictures(captured.shot, pictures)
    return replace(captured, shot=shot, keys={**captured.keys, **keys})


def with_references(captured: CapturedShot, request: ShotRequest) -> CapturedShot:
    """Add the reference pictures of a request. Main thread only. Raise ShotError if one cannot be read."""
    management = captured.shot.source.get("color_management")
    images = [read_given_image(source, management) for source in request.references]
    return replace(captured, references=tuple(fit_image(image, image.size, None).pixels for image in images))


def place_and_save(
    result: JobResult, scene: bpy.types.Scene, options: PlacementOptions
) -> Generator[Progress, None, JobResult]:
    """Place a result at once, and save a copy of the scene with it as `scene.blend`. For a Blender without a window.

    Raises:
        TrackshadeError: As raised by `place` and `save_copy`.
    """
    path = result.out / "scene.blend"
    yield Progress("placing", str(path))
    warnings = place(result.out, scene, **options.arguments()).warnings
    return result.placed(warnings, save_copy(path))


def prepare_placement(
    folder: Path, find_scene: Callable[[], bpy.types.Scene], options: PlacementOptions
) -> Generator[Progress, None, Prepared]:
    """Do the part of a placement that takes a while, so that `put` of what it returns is quick.

    Raises:
        TrackshadeError: As raised by `place`.
    """
    steps = prepare(folder, find_scene, **options.arguments())
    with contextlib.closing(steps):
        while True:
            try:
                future = next(steps)
            except StopIteration as done:
                return done.value
            # Each step is long enough to have a tick of the timer to itself.
            yield Progress("placing", waits=True)
            while future is not None and not future.done():
                if isinstance(future, TextureBake):
                    yield Progress("baking", step=round(100 * future.progress), steps=100, waits=True)
                else:
                    yield Progress("placing", waits=True)


def stepping_progress(steps: Steps) -> Progress:
    """Return how far the stepping of a simulation is."""
    return Progress("stepping", "the simulation", *steps)


def _capture(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    frames: FrameMap,
    size: SizeFit,
    camera: bpy.types.Object | None,
    more_cameras: Sequence[bpy.types.Object],
    client: Future[Client] | None,
    request: ShotRequest,
) -> Generator[Progress, None, Shot]:
    with Capture(
        scene,
        view_layer,
        frame_map=frames,
        size_fit=size,
        camera=camera,
        more_cameras=more_cameras,
        on_rows=None if client is None else StreamingUpload(client).rows,
        keep_played=request.keep_played,
        glass=request.glass,
        hair=request.hair,
    ) as capture:
        yield Progress("capturing", step=0, steps=capture.total)
        while capture.done < capture.total:
            if client is not None and client.done():
                client.result()  # without a backend, there is no use in going on
            capture.step()
            if capture.simulated is not None and capture.done < capture.total:
                yield stepping_progress(capture.simulated)
            else:
                yield Progress("capturing", step=capture.done, steps=capture.total)
    return capture.shot()


def _render(
    cells: Shot,
    samples: Sequence[int],
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    request: ShotRequest,
    in_process: bool | None,
    copy: SceneCopy,
) -> Generator[Progress, None, tuple[np.ndarray | None, str]]:
    """Render the first frame of each camera, or every frame where the request needs them, by the scene's own engine.

    Args:
        cells: The shot with a sample for each frame and camera.
        samples: Which of them are rendered, ascending.
        scene: The scene.
        view_layer: Its view layer.
        request: What is captured.
        in_process: See `capture_scene`.
        copy: A copy of the file, which may be saved already.

    Returns:
        [N, H, W, 3] uint8 of the samples, or None if the request needs no render; and a sentence that says why
        this Blender has rendered them although another one was asked to, or "".
    """
    needs_all = request.needs_renders
    if not needs_all and request.first_frame != "render":
        return None, ""
    is_free = copy.is_saved  # it may have been changed, so only the copy can be rendered
    count, warning = len(samples), ""
    if in_process is None:
        in_process = bpy.app.background
    # Frames that were simulated in this Blender are not in the file.
    if is_free or not (in_process or simulations(scene, view_layer)):
        try:
            return (yield from render_elsewhere(cells, samples, copy=copy)), ""
        except ShotError as error:  # such as EEVEE, which a Blender without a window may not have
            if is_free:
                raise
            warning = f"{error.message} This Blender has rendered it, and waited meanwhile."
            _log.warning("%s", warning)
    images = new_frames(cells, count)
    with SampleRenderer(cells, scene, view_layer, request.keep_played) as renderer:
        for index, t in enumerate(samples):
            if not needs_all:
                what = "the first frame" if count == 1 else f"the first frame of {cells.camera.sources[t]}"
                progress = Progress("rendering", what)
            else:
                progress = Progress("rendering", "every frame as the scene shows it", index, count)
            images[index] = yield from _render_sample(renderer, t, progress, reports_steps=not index)
    return images, warning


def _can_free_early(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, request: ShotRequest, in_process: bool | None
) -> bool:
    """Return whether a copy of the scene is enough for what its engine renders: the first frame, which may take long.

    Other engines than Cycles may be missing in the other Blender; then this one renders, and needs the scene.
    """
    renders = request.first_frame == "render" or request.input_render or request.light == "render"
    is_elsewhere = renders and not (bpy.app.background if in_process is None else in_process)
    return is_elsewhere and first_frame_engine(scene) == "CYCLES" and not simulations(scene, view_layer)


def _render_sample(
    renderer: SampleRenderer, t: int, progress: Progress, reports_steps: bool = True
) -> Generator[Progress, None, np.ndarray]:
    """Render one sample by the scene's own engine: [H, W, 3] uint8.

    `progress` is yielded right before the render, and while the scene is stepped to the sample unless
    `reports_steps`.
    """
    for steps in renderer.approach(t):
        yield stepping_progress(steps) if reports_steps else progress
    yield progress
    return renderer.picture(t)


def _find_camera(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, request: ShotRequest, frames: FrameMap
) -> Generator[Progress, None, bpy.types.Object | None]:
    """Return the camera of every frame, or None for the scene's own, which markers may switch."""
    name = request.camera
    if name is None:
        if scene.camera is None and not any(marker.camera for marker in scene.timeline_markers):
            raise no_camera_error(scene)
        return None
    if name == "auto" and "auto" not in scene.objects:
        steps = add_auto_camera(scene, view_layer, frames.frame_numbers, request.keep_played)
        while True:
            try:
                yield stepping_progress(next(steps))
            except StopIteration as end:
                return end.value
    return find_camera(scene, name)
