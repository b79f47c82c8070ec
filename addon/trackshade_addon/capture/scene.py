# SPDX-License-Identifier: GPL-3.0-or-later
"""The pass over the frames: the viewport's evaluation is stepped, and each sample gathered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import bpy

from trackshade.core.errors import CancelledError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Shot

from .gathering import Gathering, seen_or_raise
from .recording import Rows
from .render_state import RenderState
from .restore import fix_camera, undisturbed
from .simulations import kept_on_disk
from .stepping import Stepper, Steps

Progress = Callable[[int, int], None]


class Capture:
    """Captures a view layer frame by frame; `capture` does all at once.

    The scene is changed from the first `step` on, and is as it was after `close`, which the last step, an error and
    the end of a `with` block bring about by themselves.

        with Capture(scene, view_layer, frame_map=frames, size_fit=size) as capture:
            while capture.done < capture.total:
                capture.step()
        shot = capture.shot()

    Args:
        scene, view_layer: what to capture; by default those of the context.
        frame_map: the scene frames that become the shot's samples.
        size_fit: how the model's image lies over the render's frame.
        camera: seen through in every frame; by default the scene's own, as its markers switch it.
        rows: called as rows(array, n) when the first n rows of an array of the shot have got their final values.
        keep_played: whether simulated frames that were played stay in memory, also where that means that something is
            captured as the viewport has it; a warning says so.
        glass: "opaque" or "through": whether what lets more than half of the light through is part of the shot.
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
        rows: Rows | None = None,
        keep_played: bool = True,
        glass: str = "opaque",
        hair: str = "none",
    ) -> None:
        self._scene = scene or bpy.context.scene
        if view_layer is None:
            own = self._scene == bpy.context.scene
            view_layer = bpy.context.view_layer if own else self._scene.view_layers[0]
        self._view_layer: bpy.types.ViewLayer = view_layer
        self._gathering = Gathering(view_layer, frame_map, size_fit, rows, glass=glass, hair=hair)
        self._camera = camera
        self._keep_played = keep_played
        self._hair = hair
        self._stack = contextlib.ExitStack()
        self._stepper: Stepper | None = None
        self._way: Iterator[Steps] | None = None
        self._shot: Shot | None = None

    @property
    def done(self) -> int:
        """How many frames are captured."""
        return self._gathering.done

    @property
    def total(self) -> int:
        return self._gathering.total

    @property
    def simulated(self) -> Steps | None:
        """(done, total) of the whole frames through which a simulation is stepped; None where none is, or before the
        first step.
        """
        if self._stepper is None or not self._stepper.total:
            return None
        return self._stepper.done, self._stepper.total

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def step(self) -> int:
        """Captures the next frame, or goes on by one frame of a simulation on the way there; how many are captured.

        Raises:
            ShotError: what the scene shows in this frame cannot be part of a shot; the scene is as it was.
        """
        if self.done >= self.total:
            return self.done
        try:
            if self._stepper is None:
                self._stepper = self._open()
            if self._way is None:
                self._way = self._stepper.to(self._gathering.frames.frame_numbers[self.done])
            if next(self._way, None) is not None:
                return self.done
            self._way = None
            self._gathering.put(self._view_layer.depsgraph, self._scene.camera)
            if self.done == self.total:
                self._shot = seen_or_raise(self._gathering.shot(self._scene))
                self.close()
        except BaseException:
            self.close()
            raise
        return self.done

    def shot(self) -> Shot:
        """The shot, once all frames are done.

        Raises:
            Cancelled: the capture was ended before.
        """
        if self._shot is None:
            raise CancelledError("cancelled", f"The capture ended after {self.done} of {self.total} frames.")
        return self._shot

    def close(self) -> None:
        """Leaves the scene as it was; again, or before any step: does nothing."""
        self._stack.close()

    cancel = close

    def _open(self) -> Stepper:
        changes = self._stack.enter_context(undisturbed(self._scene))
        if self._camera is not None:
            fix_camera(changes, self._scene, self._camera)
        warn = self._gathering.warnings.add
        for name in kept_on_disk(self._scene, self._view_layer):
            warn(
                f"The simulation of {name} is not baked and keeps its frames on the disk: capturing it writes there "
                "what playing it would write. Bake it to leave its files as they are."
            )
        strands = self._hair == "strands"
        state = RenderState(changes, self._scene, self._view_layer, warn, self._keep_played, strands)
        return Stepper(self._scene, self._view_layer, self._gathering.frames.frame_numbers, changes, state.follow)


def capture(
    scene: bpy.types.Scene | None = None,
    view_layer: bpy.types.ViewLayer | None = None,
    *,
    frame_map: FrameMap,
    size_fit: SizeFit,
    camera: bpy.types.Object | None = None,
    rows: Rows | None = None,
    keep_played: bool = True,
    progress: Progress | None = None,
    glass: str = "opaque",
    hair: str = "none",
) -> Shot:
    """The evaluated view layer as a shot, in one pass over the frames; the scene is left as it was.

    Args:
        progress: called as progress(done, total) after each frame that is captured, or stepped through on the way to
            one; what it raises ends the capture.
        others: see `Capture`.

    Raises:
        ShotError: no camera, a panoramic one, nothing visible, or vertices that are not finite.
    """
    with Capture(
        scene,
        view_layer,
        frame_map=frame_map,
        size_fit=size_fit,
        camera=camera,
        rows=rows,
        keep_played=keep_played,
        glass=glass,
        hair=hair,
    ) as running:
        while running.done < running.total:
            running.step()
            if progress is not None:
                progress(running.done, running.total)
    return running.shot()
