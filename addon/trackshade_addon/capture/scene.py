# SPDX-License-Identifier: GPL-3.0-or-later
"""Captures a view layer by stepping the viewport's evaluation through the frames of a shot."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import bpy

from trackshade.core.errors import CancelledError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Shot

from .geometry_builder import RowsCallback
from .render_state import RenderState
from .restore import fix_camera, preserve_scene
from .shot_builder import ShotBuilder, require_visible
from .simulations import kept_on_disk
from .stepping import Stepper, Steps

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)


class Capture:
    """Captures a view layer frame by frame; `capture` captures all frames at once.

    The scene is changed from the first `step` on, and restored by `close`, which the last step, an error and the end of
    a `with` block call.

        with Capture(scene, view_layer, frame_map=frames, size_fit=size) as capture:
            while capture.done < capture.total:
                capture.step()
        shot = capture.shot()

    Args:
        scene: the scene; None for the context's.
        view_layer: the view layer; None for the context's, or the first of another scene.
        frame_map: the scene frames that become the shot's samples.
        size_fit: fits the render's frame to the image of the shot.
        camera: the camera of every frame; None for the scene's, as its markers switch it.
        more_cameras: further cameras that see all frames.
        on_rows: called as on_rows(array, n) when the first n rows of an array of the shot are final; or None.
        keep_played: whether simulated frames that the user has played are kept, even if something is then captured as
            the viewport shows it, with a warning.
        glass: "opaque" or "through": whether what transmits more than half of the light is part of the shot.
        hair: "none" or "strands": whether hair is part of the shot, as thin tubes.
    """

    def __init__(
        self,
        scene: bpy.types.Scene | None = None,
        view_layer: bpy.types.ViewLayer | None = None,
        *,
        frame_map: FrameMap,
        size_fit: SizeFit,
        camera: bpy.types.Object | None = None,
        more_cameras: Sequence[bpy.types.Object] = (),
        on_rows: RowsCallback | None = None,
        keep_played: bool = True,
        glass: str = "opaque",
        hair: str = "none",
    ) -> None:
        self._scene = scene or bpy.context.scene
        if view_layer is None:
            is_current = self._scene == bpy.context.scene
            view_layer = bpy.context.view_layer if is_current else self._scene.view_layers[0]
        self._view_layer: bpy.types.ViewLayer = view_layer
        self._builder = ShotBuilder(view_layer, frame_map, size_fit, on_rows, glass=glass, hair=hair)
        self._camera, self._more_cameras = camera, tuple(more_cameras)
        self._keep_played = keep_played
        self._hair = hair
        self._stack = contextlib.ExitStack()
        self._stepper: Stepper | None = None
        self._steps: Iterator[Steps] | None = None
        self._shot: Shot | None = None
        self._started = 0.0

    @property
    def done(self) -> int:
        """Number of frames captured so far."""
        return self._builder.done

    @property
    def total(self) -> int:
        """Number of frames of the shot."""
        return self._builder.total

    @property
    def simulated(self) -> Steps | None:
        """Numbers of whole frames that were stepped through, and in all, for simulations.

        None if nothing is simulated, or before the first step.
        """
        if self._stepper is None or not self._stepper.total:
            return None
        return self._stepper.done, self._stepper.total

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def step(self) -> int:
        """Captures the next frame, or steps a simulation by one frame on the way to it.

        Returns:
            The number of frames captured so far.

        Raises:
            ShotError: this frame cannot be part of a shot. The scene is restored.
        """
        if self.done >= self.total:
            return self.done
        try:
            if self._stepper is None:
                self._stepper = self._open()
            if self._steps is None:
                self._steps = self._stepper.to(self._builder.frames.frame_numbers[self.done])
            if next(self._steps, None) is not None:
                return self.done
            self._steps = None
            self._builder.add_sample(self._view_layer.depsgraph, self._scene.camera, self._more_cameras)
            if self.done == self.total:
                self._shot = require_visible(self._builder.shot(self._scene))
                self.close()
                self._log_result(self._shot)
        except BaseException:
            self.close()
            raise
        return self.done

    def shot(self) -> Shot:
        """The shot, after all frames were captured.

        Raises:
            CancelledError: the capture ended before.
        """
        if self._shot is None:
            raise CancelledError("cancelled", f"The capture ended after {self.done} of {self.total} frames.")
        return self._shot

    def close(self) -> None:
        """Restores the scene, if it was changed."""
        self._stack.close()

    cancel = close

    def _open(self) -> Stepper:
        self._started = time.perf_counter()
        changes = self._stack.enter_context(preserve_scene(self._scene))
        if self._camera is not None:
            fix_camera(changes, self._scene, self._camera)
        warn = self._builder.warnings.add
        for name in kept_on_disk(self._scene, self._view_layer):
            warn(
                f"The simulation of {name} is not baked and keeps its frames on the disk: capturing it writes there "
                "what playing it would write. Bake it to leave its files as they are."
            )
        strands = self._hair == "strands"
        state = RenderState(changes, self._scene, self._view_layer, warn, self._keep_played, strands)
        return Stepper(self._scene, self._view_layer, self._builder.frames.frame_numbers, changes, state.follow)

    def _log_result(self, shot: Shot) -> None:
        seconds = time.perf_counter() - self._started
        _log.info("Captured %d frames and %d meshes in %.1f s", self.total, len(shot.meshes), seconds)
        for warning in shot.warnings:
            _log.info("%s", warning)


def capture(
    scene: bpy.types.Scene | None = None,
    view_layer: bpy.types.ViewLayer | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Shot:
    """Captures the evaluated view layer as a shot; the scene is restored.

    Args:
        scene: as for `Capture`.
        view_layer: as for `Capture`.
        progress: called as progress(done, total) after each frame that is captured or stepped through; an exception
            from it ends the capture.
        options: the other arguments of `Capture`.

    Raises:
        ShotError: there is no camera or a panoramic one, nothing is visible, or positions are not finite.
    """
    with Capture(scene, view_layer, **options) as running:
        while running.done < running.total:
            running.step()
            if progress is not None:
                progress(running.done, running.total)
    return running.shot()
