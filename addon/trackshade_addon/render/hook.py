# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook on exports of any render engine: keeps tracks with every frame, and submits a complete set.

A state machine over Blender's render handlers:

    init -> [pre -> a layer's frame is evaluated (for each layer) -> post, write]... -> complete | cancel

Between `pre` and the next one, the first evaluation of each view layer for a render is the frame that is exported;
later ones are motion blur's. The frame counts when it was written. In a window the handlers run in the thread of the
render, so nothing here touches the scene before `complete` hands over to the main thread. An error of the tracks never
stops the render.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import bpy

from trackshade.client.job_run import run_job, run_to_end
from trackshade.client.output_folder import OutputFolder
from trackshade.config import registry
from trackshade.core.errors import TrackshadeError
from trackshade.shot.track_set import FIRST, TrackSet

from ..capture.animation import READS_ONLY
from ..capture.request import ShotRequest
from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..jobs import session
from ..jobs.composer import join_tracks, place_and_save
from ..jobs.job import Job, SceneReference
from ..messages import texts
from ..properties.placement_options import PlacementOptions
from ..report import interruptible
from .export import LayerExport
from .exported_frame import ensure_render_result

_log = logging.getLogger(__name__)
POLL_INTERVAL = 0.2  # seconds between two checks whether the render's thread has ended
messages: dict[str, str] = {}  # by view layer: the latest message, for its panel


class Hook:
    """The state of the render that is exported; one for each Blender."""

    def __init__(self) -> None:
        self._exports: dict[str, LayerExport] = {}  # by view layer
        self._scene = 0  # session number of the scene that is rendered
        self._frame: int | None = None  # the frame that is rendered now

    def init(self, scene: bpy.types.Scene, *_: object) -> None:
        """Start to export the tracks of the view layers that ask for it, because a render begins."""
        self._end()
        if scene.render.engine == TRACKSHADE_ENGINE:
            return
        self._scene = scene.session_uid
        for layer in scene.view_layers:
            if layer.use and layer.trackshade.use_hook:
                self._guarded(layer.name, lambda layer=layer: self._begin(scene, layer))
        if self._exports and self.evaluated not in bpy.app.handlers.frame_change_post:
            bpy.app.handlers.frame_change_post.append(self.evaluated)

    def pre(self, scene: bpy.types.Scene, *_: object) -> None:
        """Note which frame begins."""
        self._frame = scene.frame_current if self._is_ours(scene) else None

    def evaluated(self, scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph | None = None) -> None:
        """Gather the tracks of the frame if this evaluation is the one that is rendered."""
        if depsgraph is None or depsgraph.mode != "RENDER" or not self._is_ours(scene):
            return
        export = self._exports.get(depsgraph.view_layer.name)
        if export is None or scene.frame_current != self._frame or scene.frame_subframe:
            return
        if any(not hasattr(other, READS_ONLY) for other in bpy.app.handlers.frame_change_post):
            depsgraph.update()  # what other scripts have changed in this frame
        self._guarded(export.layer, lambda: export.gather(depsgraph, scene))

    def write(self, scene: bpy.types.Scene, *_: object) -> None:
        """Keep the tracks of the frame, because it was written."""
        if self._is_ours(scene) and self._frame == scene.frame_current:
            for layer, export in list(self._exports.items()):
                self._guarded(layer, lambda export=export: export.keep(scene))

    def complete(self, scene: bpy.types.Scene, *_: object) -> None:
        """Complete the track sets and submit them, because all frames were written."""
        exports, self._exports = self._exports, {}
        self._end()
        if not exports:
            return
        if bpy.app.background:
            _finish(exports, scene)
            return
        reference = SceneReference(scene)

        def finish_after_render() -> float | None:
            if bpy.app.is_job_running("RENDER"):
                return POLL_INTERVAL
            found = next(filter(reference.is_scene, bpy.data.scenes), None)
            if found is None:
                for export in exports.values():
                    export.drop()
            else:
                _finish(exports, found)
            return None

        bpy.app.timers.register(finish_after_render, first_interval=POLL_INTERVAL, persistent=True)

    def cancel(self, *_: object) -> None:
        """Drop the tracks of a render that was cancelled or failed."""
        for layer in self._exports:
            messages[layer] = "The render was cancelled: none of its tracks were kept."
        self._end()

    def _begin(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
        messages.pop(layer.name, None)
        self._exports[layer.name] = LayerExport(scene, layer)
        ensure_render_result()

    def _guarded(self, layer: str, call: Callable[[], None]) -> None:
        """Do something for a layer's export; an error ends the export and is reported, and the render goes on."""
        try:
            call()
        except TrackshadeError as error:
            show_message(layer, f"{texts.error_text(error)} The render goes on without its tracks.", is_error=True)
            export = self._exports.pop(layer, None)
            if export is not None:
                export.drop()

    def _is_ours(self, scene: bpy.types.Scene) -> bool:
        return bool(self._exports) and scene.session_uid == self._scene

    def _end(self) -> None:
        for export in self._exports.values():
            export.drop()
        self._exports = {}
        self._frame = None
        if self.evaluated in bpy.app.handlers.frame_change_post:
            bpy.app.handlers.frame_change_post.remove(self.evaluated)


setattr(Hook.evaluated, READS_ONLY, True)


def show_message(layer: str, sentence: str, is_error: bool = False) -> None:
    """Show what became of a layer's export: in the console and the layer's panel, and an error also as a popup."""
    messages[layer] = sentence
    _log.log(logging.ERROR if is_error else logging.INFO, "%s: %s", layer, sentence)
    print(f"\nTrackshade, {layer}: {sentence}", flush=True)
    if is_error and not bpy.app.background:
        bpy.app.timers.register(lambda: _show_popup(f"{layer}: {sentence}"))


def _show_popup(sentence: str) -> None:
    manager = bpy.context.window_manager
    if manager is not None and manager.windows:
        with bpy.context.temp_override(window=manager.windows[0]):
            manager.popup_menu(lambda menu, context: menu.layout.label(text=sentence), title="Trackshade", icon="ERROR")


def _finish(exports: dict[str, LayerExport], scene: bpy.types.Scene) -> None:
    """Complete the track sets of a render, and submit them. Main thread only."""
    for layer, export in exports.items():
        try:
            tracks = export.complete(scene)
            if tracks is not None:
                _submit(tracks, layer, scene)
        except TrackshadeError as error:
            show_message(layer, texts.error_text(error), is_error=True)


def _submit(tracks: TrackSet, layer: str, scene: bpy.types.Scene) -> None:
    """Have a track set shaded if it is complete, or show what is missing.

    Raises:
        ShotError: The set cannot be shaded.
        ModelError: The model is unknown.
        OutputError: The result cannot be written.
    """
    options = scene.view_layers[layer].trackshade
    spec = registry.spec(tracks.order.settings.model)
    missing = " and ".join(tracks.missing())
    command = f"trackshade shade {tracks.folder}"
    if missing:
        text = f"Tracks are kept in {tracks.folder}. For the shot, {missing} are missing. Then: {command}"
        show_message(layer, text)
        return
    if not options.hook_start:
        show_message(layer, f"All tracks are in {tracks.folder}. To shade them: {command}")
        return
    if not tracks.claim():
        show_message(layer, f"Another machine shades the tracks in {tracks.folder}.")
        return
    try:
        out = OutputFolder.reserve(tracks.folder.parent, tracks.order.result, spec)
        placement = scene.trackshade.placement_options() if options.hook_place else PlacementOptions(mode=None)
        (_shade_now if bpy.app.background else _shade_in_session)(tracks, layer, scene, placement, out)
    except TrackshadeError:
        tracks.release()
        raise


def _shade_in_session(
    tracks: TrackSet, layer: str, scene: bpy.types.Scene, placement: PlacementOptions, out: OutputFolder
) -> None:
    """Add a job to those of the panel."""
    request = _request(tracks, layer, scene)
    settings = tracks.order.settings
    running = session.current()
    job = Job(scene, request, settings, placement, out, lambda client: join_tracks(tracks, request), tracks.release)
    running.add(job)
    running.follow()
    show_message(layer, f"All frames are exported; {job.title} is being shaded to {job.out}.")


def _request(tracks: TrackSet, layer: str, scene: bpy.types.Scene) -> ShotRequest:
    """Return what would capture the same shot."""
    order = tracks.order
    return ShotRequest(
        frames=(float(order.start), float(order.end), float(order.step)),
        view_layer=layer,
        first_frame=str(tracks.folder / FIRST) if order.picture else "none",
        keys=tuple((float(frame), str(tracks.key_picture(frame))) for frame in order.keys),
        light=order.settings.light,
        has_layout=order.settings.follows == "layout",
        input_render=order.settings.follows == "render",
        glass=scene.trackshade.glass,
    )


def _shade_now(
    tracks: TrackSet, layer: str, scene: bpy.types.Scene, placement: PlacementOptions, out: OutputFolder
) -> None:
    """Run a job to its end, in a Blender without a window."""
    settings = tracks.order.settings
    client = session.current().connect(settings.needs)
    place = None if placement.mode is None else lambda result: place_and_save(result, scene, placement)
    with interruptible(), out:
        request = _request(tracks, layer, scene)
        steps = run_job(lambda client: join_tracks(tracks, request), settings, client, out, place)
        result = run_to_end(steps, lambda progress: print(f"Trackshade, {layer}: {progress}", flush=True))
    for warning in result.warnings:
        show_message(layer, warning)
    show_message(layer, f"Shaded: {result.out}")
