# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine "Trackshade": F12 shows the latest result, an animation is shaded as one job and then delivered.

Blender creates a new engine object for every render. What lasts over the frames of an animation is in `_animations`,
and over the frames of another scene that shows this one as a strip, in `_controls`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import bpy
import numpy as np

from trackshade.client.job_run import CANCEL_PATIENCE, run_to_end
from trackshade.client.progress import Progress
from trackshade.core.errors import CancelledError, TrackshadeError

from ..capture.render_guard import is_own_render
from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..jobs.job import unexpected_error
from ..messages import texts
from ..properties.preferences import results_folder
from . import delivery
from .delivery import COMBINED, DEPTH, INDEX, TRACKING
from .engine_jobs import RenderContext, make_control, shade_animation
from .export import refuse_stereo
from .rendered_sequence import InverseView, RenderedSequence, find_latest_result

T = TypeVar("T")
_log = logging.getLogger(__name__)
Passes = dict[str, Callable[[], np.ndarray]]

_OF_CONTROL = {DEPTH, INDEX, TRACKING}  # passes that a control has
_ANY_ENGINE = "BLENDER_RENDER"  # in COMPAT_ENGINES of the panels that any engine may show
_EXCLUDED_PANELS = {  # among those, with settings that only Blender's own engines obey
    "DATA_PT_light", "DATA_PT_preview", "DATA_PT_spot", "NODE_DATA_PT_light", "RENDER_PT_gpencil",
    "RENDER_PT_grease_pencil_render", "RENDER_PT_simplify_greasepencil", "RENDER_PT_stereoscopy",
}  # fmt: skip
_LOOK_PANELS = {  # EEVEE's, for materials, lights and the world, which the first frame is rendered with
    "EEVEE_MATERIAL_PT_context_material", "EEVEE_MATERIAL_PT_surface", "EEVEE_MATERIAL_PT_displacement",
    "EEVEE_WORLD_PT_surface", "DATA_PT_EEVEE_light", "DATA_PT_EEVEE_light_distance",
}  # fmt: skip


@dataclass(frozen=True)
class _LayerOutput:
    """What is shown of a view layer.

    Attributes:
        sequence: Its images.
        control: Its tracking video with depths and object indices, or None.
        view: Inverse of the scene's view.
    """

    sequence: RenderedSequence
    control: RenderedSequence | None
    view: InverseView


_animations: dict[tuple[int, str], _LayerOutput | TrackshadeError] = {}  # of this animation, by scene and view layer
_controls: dict[tuple[int, str], RenderedSequence] = {}  # of single frames, by scene and view layer


def forget(*_: object) -> None:
    """Drop what the engine keeps for a render, because a render begins or ends."""
    _animations.clear()
    _controls.clear()


class TrackshadeEngine(bpy.types.RenderEngine):
    """Renders by the backend, by the same path as every other job."""

    bl_idname = TRACKSHADE_ENGINE
    bl_label = "Trackshade"
    bl_use_preview = False
    bl_use_postprocess = True  # compositor and sequencer follow
    bl_use_eevee_viewport = True  # in Material Preview; Rendered shows the control
    bl_use_shading_nodes_custom = False

    def update_render_passes(
        self, scene: bpy.types.Scene | None = None, renderlayer: bpy.types.ViewLayer | None = None
    ) -> None:
        """Tell Blender which passes the engine renders."""
        if scene is not None and renderlayer is not None:
            delivery.register(self, scene, renderlayer)

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        """Render one frame of one view layer. In a window this runs in a thread of the render, and may wait."""
        if is_own_render():  # which shows nothing
            return
        try:
            delivery.deliver(self, depsgraph.scene, depsgraph.view_layer, self._passes(depsgraph))
        except (CancelledError, KeyboardInterrupt):
            if not self.test_break():  # Ctrl-C where Blender is a Python module, or another client cancelled the job
                self.report({"ERROR"}, texts.error_text(CancelledError()))
        except TrackshadeError as error:
            _log.error("Render ended: %s", error)
            self.report({"ERROR"}, texts.error_text(error))  # which ends the render, and nothing is written
        except Exception as error:
            _log.exception("Unexpected error")
            self.report({"ERROR"}, texts.error_text(unexpected_error(error)))
            raise  # for the console

    def view_update(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        """Do nothing: the overlay follows the evaluated scene by itself."""

    def view_draw(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        """Draw black, over which the overlay draws the control: this drawing goes through the view transform."""
        import gpu  # cannot be imported without a window

        gpu.state.active_framebuffer_get().clear(color=(0.0, 0.0, 0.0, 1.0))

    def _passes(self, depsgraph: bpy.types.Depsgraph) -> Passes:
        """Return functions that make the arrays of the requested passes of this frame."""
        scene, layer = depsgraph.scene, depsgraph.view_layer
        refuse_stereo(scene.render)
        requested = delivery.requested_passes(layer)
        shown = self._animation(depsgraph, requested) if self.is_animation else self._still(depsgraph, requested)
        size = self.resolution_x, self.resolution_y
        frame, sequence, control = scene.frame_current, shown.sequence, shown.control
        if self.is_animation and frame not in sequence.samples:
            first, last = min(sequence.samples), max(sequence.samples)
            self.report({"WARNING"}, f"Frame {frame} is not in the shot ({first} to {last}) and stays empty.")
        on_main = self._context(depsgraph).on_main
        passes: Passes = {COMBINED: lambda: sequence.combined(frame, size, shown.view, on_main)}
        if control is not None and TRACKING in requested:
            passes[TRACKING] = lambda: control.tracking(frame, size, on_main)
        if control is not None and DEPTH in requested:
            passes[DEPTH] = lambda: control.depth(frame, size)
        if control is not None and INDEX in requested:
            passes[INDEX] = lambda: control.object_index(frame, size)
        return passes

    def _animation(self, depsgraph: bpy.types.Depsgraph, requested: list[str]) -> _LayerOutput:
        """Return the output of the animation, which its first frame makes. An error then ends all frames."""
        key = depsgraph.scene.session_uid, depsgraph.view_layer.name
        found = _animations.get(key)
        if found is None:
            try:
                if depsgraph.scene.render.use_motion_blur:
                    self.report({"INFO"}, "Motion blur is ignored: the model shows motion in its own way.")
                start = time.monotonic()
                steps = shade_animation(self._context(depsgraph), not _OF_CONTROL.isdisjoint(requested))
                sequence, control = self._follow(steps)
                self.report({"INFO"}, f"Shaded in {time.monotonic() - start:.0f} s: {sequence.result.folder}")
                found = self._output(depsgraph, sequence, control)
            except TrackshadeError as error:
                found = error
            _animations[key] = found
        if isinstance(found, TrackshadeError):
            raise found
        return found

    def _still(self, depsgraph: bpy.types.Depsgraph, requested: list[str]) -> _LayerOutput:
        """Return the latest result of this view layer, or its control if that does not show this frame."""
        scene, layer = depsgraph.scene, depsgraph.view_layer
        frame = scene.frame_current
        results = self._context(depsgraph).on_main(results_folder)
        folder = find_latest_result(results, bpy.data.filepath, scene.name, layer.name)
        sequence = RenderedSequence.load(folder, scene) if folder is not None else None
        is_shown = sequence is not None and frame in sequence.samples
        needs_control = not is_shown or not _OF_CONTROL.isdisjoint(requested)
        control = self._control(depsgraph) if needs_control else None
        if is_shown:
            self.report({"INFO"}, f"Frame {frame} of {folder}")
        elif sequence is not None:
            self.report({"WARNING"}, f"{folder} has no frame {frame}: this is the control.")
        else:
            self.report({"WARNING"}, "There is no result yet: this is the control. Render the animation to shade it.")
        shown = sequence if is_shown else control
        assert shown is not None
        return self._output(depsgraph, shown, control)

    def _control(self, depsgraph: bpy.types.Depsgraph) -> RenderedSequence:
        """Return the control of the whole shot, which the first frame makes."""
        key = depsgraph.scene.session_uid, depsgraph.view_layer.name
        if key not in _controls:
            _controls[key] = self._follow(make_control(self._context(depsgraph)))
        return _controls[key]

    def _output(
        self, depsgraph: bpy.types.Depsgraph, sequence: RenderedSequence, control: RenderedSequence | None
    ) -> _LayerOutput:
        view = InverseView.of_scene(depsgraph.scene)
        for warning in view.warnings:
            self.report({"WARNING"}, warning)
        return _LayerOutput(sequence, control, view)

    def _context(self, depsgraph: bpy.types.Depsgraph) -> RenderContext:
        return RenderContext(self.frame_set, depsgraph, self.test_break)

    def _follow(self, steps: Generator[Progress, None, T]) -> T:
        """Run the path of a job to its end, and show its progress.

        Raises:
            CancelledError: The user pressed Esc.
            TrackshadeError: As raised by the path.
        """

        def show(progress: Progress) -> None:
            self.update_stats("", texts.progress_text(progress))
            self.update_progress(progress.step / progress.steps if progress.step and progress.steps else 0.0)

        def check() -> None:
            if self.test_break():
                raise CancelledError

        return run_to_end(steps, show, check, CANCEL_PATIENCE if bpy.app.background else 0.0)


def _panels() -> Iterator[type[bpy.types.Panel]]:
    for panel in bpy.types.Panel.__subclasses__():
        name = panel.__name__
        is_general = _ANY_ENGINE in getattr(panel, "COMPAT_ENGINES", ()) and "freestyle" not in name
        if (is_general and name not in _EXCLUDED_PANELS) or name in _LOOK_PANELS:
            yield panel


def show_panels() -> None:
    """Show Blender's panels that make sense with the engine: output, passes, compositor, camera, world and so on."""
    for panel in _panels():
        panel.COMPAT_ENGINES.add(TRACKSHADE_ENGINE)  # type: ignore[attr-defined]


def hide_panels() -> None:
    """Hide them again."""
    for panel in _panels():
        panel.COMPAT_ENGINES.discard(TRACKSHADE_ENGINE)  # type: ignore[attr-defined]


CLASSES = (TrackshadeEngine,)
