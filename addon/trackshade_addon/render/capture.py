# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot out of a render that goes on: the render's own evaluation is stepped through the shot's frames.

That evaluation does not simulate: of rigid bodies, soft bodies and simulation zones it shows what the viewport's has
simulated. So where something is simulated that is not baked, the viewport's evaluation goes to each sample first, with
the render's switches as in every capture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future

import bpy

from trackshade.client import Client
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Shot

from ..capture.render_state import RenderState
from ..capture.restore import preserve_scene, split_frame
from ..capture.shot_builder import ShotBuilder, require_visible
from ..capture.simulations import simulations
from ..capture.stepping import Stepper, Steps
from ..jobs.composer import Progress, StreamingUpload, stepped
from .main_thread import on_main


def gathered(
    frame_set: Callable[[int, float], None],
    depsgraph: bpy.types.Depsgraph,
    frames: FrameMap,
    fit: SizeFit,
    camera: bpy.types.Object | None,
    client: Future[Client],
    cancelled: Callable[[], bool],
    glass: str = "opaque",
    hair: str = "none",
) -> Generator[Progress, None, Shot]:
    """The shot of the view layer that is rendered. The render is at its frame again after the last step, an error, or
    `close()` of the generator.

    Args:
        frame_set: the engine's, which steps `depsgraph`.
        camera: seen through in every frame; None for the scene's own, as its markers switch it.
        client: rows go to it as they are gathered.
        cancelled: whether the render was; asked while something is done on Blender's main thread.
        glass, hair: as `ShotBuilder` has them.

    Raises:
        ShotError: what the scene shows cannot be part of a shot.
    """
    scene = depsgraph.scene
    before = scene.frame_current, scene.frame_subframe
    gathering = ShotBuilder(depsgraph.view_layer, frames, fit, StreamingUpload(client).rows, glass=glass, hair=hair)
    yield Progress("capturing", step=0, steps=gathering.total)
    viewport = _Viewport(scene.original, depsgraph.view_layer.name, frames.frame_numbers, gathering.warnings.add)
    try:
        if on_main(viewport.open, cancelled):
            frame_set(*before)  # or the render's evaluation would take the changed switches for a reason to start anew
        for frame in frames.frame_numbers:
            while viewport.simulates:
                steps = on_main(lambda frame=frame: viewport.step(frame), cancelled)
                if steps is None:
                    break
                yield stepped(steps)
            if client.done():
                client.result()  # no use in going on without a backend
            frame_set(*split_frame(frame))
            gathering.add_sample(depsgraph, camera or scene.camera)
            if viewport.simulates:
                continue
            yield Progress("capturing", step=gathering.done, steps=gathering.total)
    finally:
        if viewport.simulates:
            on_main(viewport.close, lambda: False)
        frame_set(*before)
    return require_visible(gathering.shot(scene))


class _Viewport:
    """Steps the viewport's evaluation of a view layer along with that of a render. On Blender's main thread only."""

    def __init__(
        self, scene: bpy.types.Scene, layer: str, frames: tuple[float, ...], warn: Callable[[str], None]
    ) -> None:
        self._scene, self._layer, self._frames, self._warn = scene, scene.view_layers[layer], frames, warn
        self._stack = contextlib.ExitStack()
        self._stepper: Stepper | None = None
        self._way: Iterator[Steps] | None = None

    @property
    def simulates(self) -> bool:
        return self._stepper is not None

    def open(self) -> bool:
        """Brings the viewport's switches to the render's if something is simulated; whether it is."""
        if simulations(self._scene, self._layer):
            changes = self._stack.enter_context(preserve_scene(self._scene))
            state = RenderState(changes, self._scene, self._layer, self._warn)
            self._stepper = Stepper(self._scene, self._layer, self._frames, changes, state.follow)
        return self.simulates

    def step(self, frame: float) -> Steps | None:
        """Goes on by one frame on the way to `frame`; None once the viewport's evaluation is there."""
        if self._stepper is None:
            return None
        if self._way is None:
            self._way = self._stepper.to(frame)
        steps = next(self._way, None)
        if steps is None:
            self._way = None
        return steps

    def close(self) -> None:
        self._stack.close()
