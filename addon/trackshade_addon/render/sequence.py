# SPDX-License-Identifier: GPL-3.0-or-later
"""What a render shows: a result's pictures by scene frame, brought to the render's size and light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import OutputError
from trackshade.core.resampling import crop_to_frame, crop_to_frame_nearest, frame_coverage

from ..placement.cameras import active_camera
from ..placement.color import read_levels
from ..placement.record import Result, read_result
from ..placement.sequence import choose_frames
from .scene_linear import View

Float32 = NDArray[np.float32]
OnMain = Callable[[Callable[[], NDArray[np.generic]]], NDArray[np.generic]]
FAR = 1e10  # what Blender's engines give as the depth of nothing, metres


@dataclass(frozen=True, eq=False)
class RenderedSequence:
    """A result, and which of its samples each scene frame shows.

    Attributes:
        samples: by whole scene frame, index of the sample that is nearest in time; frames without one are missing.
        passes: [M] pass index of the shot's meshes, where the result is a control video with depths and indices.
        keep: what must live as long as this.
    """

    result: Result
    samples: dict[int, int]
    passes: tuple[int, ...] = ()
    keep: object = None

    @staticmethod
    def of(folder: Path, scene: bpy.types.Scene, passes: Sequence[int] = (), keep: object = None) -> RenderedSequence:
        """That of a result's folder, by the rule that plates follow. Raises OutputError as `read_result`."""
        result = read_result(folder)
        choices = choose_frames(result, active_camera(scene))
        shown = {item.frame: item.sample for item in choices if item.camera is not None}
        return RenderedSequence(result, shown, tuple(passes), keep)

    def combined(self, frame: int, size: tuple[int, int], view: View, on_main: OnMain) -> Float32:
        """[H, W, 4] float32 scene-linear, premultiplied; clear where the model did not see, and in other frames."""
        made = np.zeros((size[1], size[0], 4), np.float32)
        t = self.samples.get(frame)
        if t is not None:
            levels = on_main(lambda: read_levels(self.result.pictures[t])).astype(np.uint8)
            light = view.undo(levels, on_main)  # type: ignore[arg-type]
            made[..., :3] = crop_to_frame(light, self.result.fit, size)
            made[..., 3] = 1
            made[~frame_coverage(self.result.fit, size)] = 0
        return made

    def tracking(self, frame: int, size: tuple[int, int], on_main: OnMain) -> Float32:
        """[H, W, 3] float32: the tracking colors 0..1 as they are, data that no view transform is meant for."""
        t = self.samples.get(frame)
        if t is None:
            return np.zeros((size[1], size[0], 3), np.float32)
        path = self.result.folder / "tracking" / f"{t + 1:04d}.png"
        if not path.is_file():
            raise OutputError(
                "damaged-result",
                f"The result in {self.result.folder} is damaged: tracking/{path.name} is missing.",
                "Shade the shot again.",
            )
        levels = on_main(lambda: read_levels(path))
        return self._nearest(levels, size, 0).astype(np.float32) / 255

    def depth(self, frame: int, size: tuple[int, int]) -> Float32:
        """[H, W] float32 metres along the camera's axis."""
        values = self._stored("depth.npy", frame, size, np.inf)
        return np.where(np.isfinite(values), values, FAR).astype(np.float32)

    def object_index(self, frame: int, size: tuple[int, int]) -> Float32:
        """[H, W] float32 pass index of the object that is seen, 0 where nothing is."""
        values = self._stored("object_index.npy", frame, size, -1).astype(np.int64)
        return np.array([*self.passes, 0], np.float32)[values]  # -1 is the last

    def _stored(self, name: str, frame: int, size: tuple[int, int], nothing: float) -> NDArray[np.generic]:
        t = self.samples.get(frame)
        if t is None:
            return np.full((size[1], size[0]), nothing)
        try:
            whole = np.load(self.result.folder / name, mmap_mode="r", allow_pickle=False)
            return self._nearest(np.asarray(whole[t]), size, nothing)
        except (OSError, ValueError, IndexError) as error:
            raise OutputError(
                "damaged-result", f"{self.result.folder / name} cannot be read: {error}.", "Shade the shot again."
            ) from error

    def _nearest(self, values: NDArray[np.generic], size: tuple[int, int], nothing: float) -> NDArray[np.generic]:
        fit = self.result.fit
        made = crop_to_frame_nearest(values, fit, size)
        made[~frame_coverage(fit, size)] = nothing
        return made
