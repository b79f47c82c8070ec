# SPDX-License-Identifier: GPL-3.0-or-later
"""The render engine "Trackshade": F12 shows what there is, an animation is shaded as one job and then delivered.

Blender makes a new engine for every render; what lasts over the frames of an animation is in `_animations`, and over
those of another scene that shows this one as a strip, in `_controls`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import bpy
import numpy as np

from trackshade.core.errors import CancelledError, TrackshadeError

from ..capture.render_guard import is_own_render
from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..jobs.composer import PAUSE, Progress
from ..jobs.job import defect
from ..messages import texts
from ..properties.chosen import results_folder
from . import delivery, shading
from .delivery import COMBINED, DEPTH, INDEX, TRACKING
from .latest_result import newest_result
from .main_thread import on_main
from .refusals import refuse_stereo
from .scene_linear import View
from .sequence import RenderedSequence

T = TypeVar("T")
Layers = dict[str, Callable[[], np.ndarray]]


@dataclass(frozen=True)
class _Reel:
    """What is shown of a view layer: its pictures, and where they are asked for its depths and indices."""

    film: RenderedSequence
    control: RenderedSequence | None
    view: View


_animations: dict[tuple[int, str], _Reel | TrackshadeError] = {}  # by scene and view layer; of this animation
_controls: dict[tuple[int, str], RenderedSequence] = {}  # the same; where a frame is rendered by itself


def forget(*_: object) -> None:
    """A render begins or ends: what an earlier one made is not for it."""
    _animations.clear()
    _controls.clear()


class TrackshadeEngine(bpy.types.RenderEngine):
    """Renders by the backend. Everything goes the way of every other job: capture, client, result."""

    bl_idname = TRACKSHADE_ENGINE
    bl_label = "Trackshade"
    bl_use_preview = False
    bl_use_postprocess = True  # compositor and sequencer follow
    bl_use_eevee_viewport = True  # in Material Preview; Rendered shows the control
    bl_use_shading_nodes_custom = False

    def update_render_passes(
        self, scene: bpy.types.Scene | None = None, renderlayer: bpy.types.ViewLayer | None = None
    ) -> None:
        if scene is not None and renderlayer is not None:
            delivery.register(self, scene, renderlayer)

    def render(self, depsgraph: bpy.types.Depsgraph) -> None:
        """One frame of one view layer. In a window this is not Blender's main thread, and may wait."""
        if is_own_render():  # which is of nothing
            return
        try:
            delivery.deliver(self, depsgraph.scene, depsgraph.view_layer, self._layers(depsgraph))
        except CancelledError:
            return
        except KeyboardInterrupt:  # Ctrl-C where Blender is a Python module
            self.report({"ERROR"}, texts.told(CancelledError()))
        except TrackshadeError as error:
            self.report({"ERROR"}, texts.told(error))  # which ends the render, and nothing of it is written
        except Exception as error:
            self.report({"ERROR"}, texts.told(defect(error)))
            raise  # for the console

    def view_update(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        """Nothing: the overlay follows the evaluated scene by itself."""

    def view_draw(self, context: bpy.types.Context, depsgraph: bpy.types.Depsgraph) -> None:
        """Black, on which the overlay draws the control: what is drawn here would go through the view transform."""
        import gpu  # which a Blender without a window has no use for

        gpu.state.active_framebuffer_get().clear(color=(0.0, 0.0, 0.0, 1.0))

    def _layers(self, depsgraph: bpy.types.Depsgraph) -> Layers:
        scene, layer = depsgraph.scene, depsgraph.view_layer
        refuse_stereo(scene.render)
        asked = delivery.wanted(layer)
        reel = self._animation(depsgraph, asked) if self.is_animation else self._still(depsgraph, asked)
        size = self.resolution_x, self.resolution_y
        frame = scene.frame_current
        if self.is_animation and frame not in reel.film.samples:
            first, last = min(reel.film.samples), max(reel.film.samples)
            self.report({"WARNING"}, f"Frame {frame} is not in the shot ({first} to {last}) and stays empty.")
        made: Layers = {COMBINED: lambda: reel.film.combined(frame, size, reel.view, self._on_main)}
        if TRACKING in asked:
            made[TRACKING] = lambda: (reel.control or reel.film).tracking(frame, size, self._on_main)
        control = reel.control
        if control is not None and DEPTH in asked:
            made[DEPTH] = lambda: control.depth(frame, size)
        if control is not None and INDEX in asked:
            made[INDEX] = lambda: control.object_index(frame, size)
        return made

    def _animation(self, depsgraph: bpy.types.Depsgraph, asked: set[str]) -> _Reel:
        """That of the animation, which its first frame makes. What went wrong then ends every other frame, too."""
        key = depsgraph.scene.session_uid, depsgraph.view_layer.name
        found = _animations.get(key)
        if found is None:
            try:
                if depsgraph.scene.render.use_motion_blur:
                    self.report({"INFO"}, "Motion blur is ignored: the model shows motion in its own way.")
                found = self._shaded(depsgraph, asked)
            except TrackshadeError as error:
                found = error
            _animations[key] = found
        if isinstance(found, TrackshadeError):
            raise found
        return found

    def _shaded(self, depsgraph: bpy.types.Depsgraph, asked: set[str]) -> _Reel:
        began = time.monotonic()
        film, control = self._follow(shading.shade(self._rendered(depsgraph), bool(asked & {DEPTH, INDEX})))
        self.report({"INFO"}, f"Shaded in {time.monotonic() - began:.0f} s: {film.result.folder}")
        return self._reel(depsgraph, film, control)

    def _still(self, depsgraph: bpy.types.Depsgraph, asked: set[str]) -> _Reel:
        """The newest result of this view layer, or where that does not show this frame, its control."""
        scene, layer = depsgraph.scene, depsgraph.view_layer
        folder = newest_result(self._on_main(results_folder), bpy.data.filepath, scene.name, layer.name)
        film = RenderedSequence.of(folder, scene) if folder is not None else None
        control = None
        if film is None or scene.frame_current not in film.samples or asked & {DEPTH, INDEX}:
            control = self._control(depsgraph)
        if film is not None and scene.frame_current in film.samples:
            self.report({"INFO"}, f"Frame {scene.frame_current} of {film.result.folder}")
        elif film is not None:
            self.report({"WARNING"}, f"{film.result.folder} has no frame {scene.frame_current}: this is the control.")
            film = None
        else:
            self.report({"WARNING"}, "There is no result yet: this is the control. Render the animation to shade it.")
        shown = film or control
        assert shown is not None
        return self._reel(depsgraph, shown, control)

    def _control(self, depsgraph: bpy.types.Depsgraph) -> RenderedSequence:
        """The whole shot's, which the first frame makes."""
        key = depsgraph.scene.session_uid, depsgraph.view_layer.name
        if key not in _controls:
            _controls[key] = self._follow(shading.control(self._rendered(depsgraph)))
        return _controls[key]

    def _reel(self, depsgraph: bpy.types.Depsgraph, film: RenderedSequence, control: RenderedSequence | None) -> _Reel:
        view = View.of(depsgraph.scene)
        for warning in view.warnings:
            self.report({"WARNING"}, warning)
        return _Reel(film, control, view)

    def _rendered(self, depsgraph: bpy.types.Depsgraph) -> shading.Rendered:
        return shading.Rendered(self.frame_set, depsgraph, self._on_main, self.test_break)

    def _on_main(self, call: Callable[[], Any]) -> Any:
        return on_main(call, self.test_break)

    def _follow(self, steps: Generator[Progress, None, T]) -> T:
        """Runs a path to its end and shows where it is. Raises Cancelled on Esc, and what the path raises."""
        shown = None
        with contextlib.closing(steps):
            while True:
                try:
                    progress = next(steps)
                except StopIteration as end:
                    return end.value
                line = texts.headline(progress)
                if line != shown:
                    shown = line
                    self.update_stats("", line)
                    self.update_progress((progress.step or 0) / progress.steps if progress.steps else 0.0)
                if self.test_break():
                    raise CancelledError
                if progress.waits:
                    time.sleep(PAUSE)


CLASSES = (TrackshadeEngine,)
