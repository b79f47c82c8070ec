# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook on exports, as one state machine over Blender's render handlers.

    init -> [pre -> a layer's frame is evaluated (for each layer) -> post, write]... -> complete | cancel

Between `pre` and the next one, the first evaluation for a render of each view layer is the frame that is exported;
later ones are motion blur's. The frame counts when it was written. In a window all this is in the thread of the render:
nothing here touches the scene, but for what `complete` leaves to the main thread. What goes wrong with the tracks never
stops the render.
"""

from __future__ import annotations

from collections.abc import Callable

import bpy

from trackshade.core.errors import TrackshadeError

from ..capture.animation import READS_ONLY
from ..capture.scene_settings import TRACKSHADE_ENGINE
from ..messages import texts
from .export import LayerExport
from .snapshot import make_savable

LOOK_EVERY = 0.2  # seconds between two looks at whether the render's thread has ended
said: dict[str, str] = {}  # by view layer: the latest sentence, for its panel


class Hook:
    """One for each Blender.

    Args:
        start: has a complete set shaded; called on the main thread as start(tracks, export, scene).
    """

    def __init__(self, start: Callable[..., None]) -> None:
        self._start = start
        self._exports: dict[str, LayerExport] = {}
        self._scene = 0  # session number of the scene that is rendered
        self._frame: int | None = None  # the one that is rendered now

    def init(self, scene: bpy.types.Scene, *_: object) -> None:
        """A render begins."""
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
        """A frame begins."""
        self._frame = scene.frame_current if self._is_ours(scene) else None

    def evaluated(self, scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph | None = None) -> None:
        """Something is evaluated for some frame."""
        if depsgraph is None or depsgraph.mode != "RENDER" or not self._is_ours(scene):
            return
        export = self._exports.get(depsgraph.view_layer.name)
        if export is None or scene.frame_current != self._frame or scene.frame_subframe:
            return
        if any(not hasattr(other, READS_ONLY) for other in bpy.app.handlers.frame_change_post):
            depsgraph.update()  # what other scripts have changed in this frame
        self._guarded(export.layer, lambda: export.gather(depsgraph, scene))

    def write(self, scene: bpy.types.Scene, *_: object) -> None:
        """The frame was exported."""
        if self._is_ours(scene) and self._frame == scene.frame_current:
            for layer, export in list(self._exports.items()):
                self._guarded(layer, lambda export=export: export.keep(scene))

    def complete(self, scene: bpy.types.Scene, *_: object) -> None:
        """All frames were exported."""
        exports, self._exports = self._exports, {}
        self._end()
        if not exports:
            return
        if bpy.app.background:
            self._finish(exports, scene)
            return
        number = scene.session_uid

        def later() -> float | None:
            if bpy.app.is_job_running("RENDER"):
                return LOOK_EVERY
            found = next((item for item in bpy.data.scenes if item.session_uid == number), None)
            if found is None:
                for export in exports.values():
                    export.drop()
            else:
                self._finish(exports, found)
            return None

        bpy.app.timers.register(later, first_interval=LOOK_EVERY, persistent=True)

    def cancel(self, *_: object) -> None:
        """The render was cancelled, or failed."""
        for layer in self._exports:
            said[layer] = "The render was cancelled: none of its tracks were kept."
        self._end()

    def _begin(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
        said.pop(layer.name, None)
        self._exports[layer.name] = LayerExport(scene, layer)
        make_savable()

    def _finish(self, exports: dict[str, LayerExport], scene: bpy.types.Scene) -> None:
        for layer, export in exports.items():
            try:
                tracks = export.complete(scene)
                if tracks is not None:
                    self._start(tracks, export, scene)
            except TrackshadeError as error:
                tell(layer, texts.told(error), error=True)

    def _guarded(self, layer: str, call: Callable[[], None]) -> None:
        """Does something for a layer's export; what goes wrong ends that and is said, and the render goes on."""
        try:
            call()
        except TrackshadeError as error:
            tell(layer, f"{texts.told(error)} The render goes on without its tracks.", error=True)
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


def tell(layer: str, sentence: str, error: bool = False) -> None:
    """Says what became of a layer's export: in the console, in its panel, and what went wrong in the window, too."""
    said[layer] = sentence
    print(f"\nTrackshade, {layer}: {sentence}", flush=True)
    if error and not bpy.app.background:
        bpy.app.timers.register(lambda: _show(f"{layer}: {sentence}"))


def _show(sentence: str) -> None:
    manager = bpy.context.window_manager
    if manager is not None and manager.windows:
        with bpy.context.temp_override(window=manager.windows[0]):
            manager.popup_menu(lambda menu, context: menu.layout.label(text=sentence), title="Trackshade", icon="ERROR")


setattr(Hook.evaluated, READS_ONLY, True)
