# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows results in renders: finds the latest one, and brings its images to the render's size and light by scene frame.

A render result is scene-linear: display, file and compositor take it through the view transform. The images of a result
went through one already, so its inverse comes first. The inverse of exposure and gamma is exact, and for most view
transforms Blender has one as a color space; looks, curves and white balance are warned about (see `placement.color`).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.core.colors import srgb_to_linear
from trackshade.core.errors import OutputError
from trackshade.core.images import write_png
from trackshade.core.json_files import read_object
from trackshade.core.resampling import crop_to_frame, crop_to_frame_nearest, frame_coverage

from ..placement.cameras import active_camera
from ..placement.color import inverse_space, linear_pixels, read_levels
from ..placement.result_folder import ResultFolder, read_result
from ..placement.sequence import choose_frames

Float32 = NDArray[np.float32]
OnMain = Callable[[Callable[[], Any]], Any]
FAR = 1e10  # metres: what Blender's engines return as the depth of the background
_SRGB_PRIMARIES = "Linear Rec.709"  # working space in which the sRGB curve alone gives scene-linear values
_BLENDER_STARTED = time.time()  # a scene without a file is known by its name only while this Blender runs


def find_latest_result(folder: Path, file: str, scene: str, layer: str) -> Path | None:
    """Return the folder of the result that was finished last of a view layer of a scene of a file, or None.

    Args:
        folder: Folder of results.
        file: Path of the .blend file, "" for a scene that was never saved.
        scene: Name of the scene.
        layer: Name of the view layer.
    """
    found = []
    try:
        records = list(folder.glob("*/job.json"))
    except OSError:
        return None
    for path in records:
        try:
            finished = path.stat().st_mtime
            record = read_object(path)
            if _is_of(record, file, scene, layer) and (file or finished >= _BLENDER_STARTED):
                found.append((finished, path.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # it is being written, or is not a result
    return max(found)[1] if found else None


def _is_of(record: dict[str, Any], file: str, scene: str, layer: str) -> bool:
    shot, source = record["shot"], record["shot"]["source"]
    shaded = record["settings"].get("output", "video") == "video"
    return shaded and (source.get("file"), source.get("scene"), shot["view_layer"]) == (file, scene, layer)


@dataclass(frozen=True)
class InverseView:
    """The inverse of a scene's view.

    Attributes:
        space: Color space that undoes the view transform.
        exposure: Exposure of the view, in stops.
        gamma: Gamma of the view.
        is_simple: The inverse needs no color space of Blender's, so that it can be computed in any thread.
        warnings: Sentences about what cannot be undone.
    """

    space: str
    exposure: float
    gamma: float
    is_simple: bool
    warnings: tuple[str, ...]

    @staticmethod
    def of_scene(scene: bpy.types.Scene) -> InverseView:
        """Return the inverse of a scene's view as it is set now."""
        space, warnings = inverse_space(scene, "the render", undoes_gamma=True)
        view = scene.view_settings
        simple = space == "Non-Color" or (space == "sRGB" and _working_space() == _SRGB_PRIMARIES)
        return InverseView(space, view.exposure, view.gamma, simple, tuple(warnings))

    def to_scene_linear(
        self,
        levels: NDArray[np.uint8],  # [H, W, 3] sRGB
        on_main: OnMain,
    ) -> Float32:
        """Return the light that the view shows as these levels: [H, W, 3] scene-linear.

        `on_main` runs on the main thread what only Blender can compute.
        """
        display = levels.astype(np.float64) / 255
        if self.gamma != 1:
            display = display**self.gamma
        if self.is_simple:
            light = display if self.space == "Non-Color" else srgb_to_linear(display)
        else:
            light = on_main(lambda: _linear_by_blender(display, self.space))
        return (light / 2.0**self.exposure).astype(np.float32)


def _linear_by_blender(display: NDArray[np.float64], space: str) -> Float32:
    """Convert levels by a color space. Main thread only: Blender converts images when it reads them."""
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        path = Path(folder) / "shown.png"
        write_png(path, np.rint(display * 255).astype(np.uint8))
        return linear_pixels(path, space)


def _working_space() -> str:
    """Return the name of the scene-linear color space; Blender before 5.0 has only one."""
    return getattr(getattr(bpy.data, "colorspace", None), "working_space", _SRGB_PRIMARIES)


@dataclass(frozen=True, eq=False)
class RenderedSequence:
    """A result, and which of its samples each scene frame shows.

    Attributes:
        result: The result.
        samples: Index of the sample that is nearest in time, by whole scene frame; frames without one are missing.
        pass_indices: [M] pass index of each mesh of the shot, if the result is a control with depths and indices.
        keep: Something that must live as long as this, such as a temporary folder.
    """

    result: ResultFolder
    samples: dict[int, int]
    pass_indices: tuple[int, ...] = ()
    keep: object = None

    @staticmethod
    def load(
        folder: Path, scene: bpy.types.Scene, pass_indices: Sequence[int] = (), keep: object = None
    ) -> RenderedSequence:
        """Read a result; scene frames show its samples by the same rule as plates.

        Raises:
            OutputError: The folder holds no result, or a damaged one.
        """
        result = read_result(folder)
        choices = choose_frames(result, active_camera(scene))
        shown = {item.frame: item.sample for item in choices if item.camera is not None}
        return RenderedSequence(result, shown, tuple(pass_indices), keep)

    def combined(self, frame: int, size: tuple[int, int], view: InverseView, on_main: OnMain) -> Float32:
        """Return the image of a scene frame: [H, W, 4] scene-linear, premultiplied.

        It is transparent outside the model's image, and in frames without a sample.
        """
        image = np.zeros((size[1], size[0], 4), np.float32)
        t = self.samples.get(frame)
        if t is not None:
            levels = on_main(lambda: read_levels(self.result.images[t])).astype(np.uint8)
            light = view.to_scene_linear(levels, on_main)
            image[..., :3] = crop_to_frame(light, self.result.fit, size)
            image[..., 3] = 1
            image[~frame_coverage(self.result.fit, size)] = 0
        return image

    def tracking(self, frame: int, size: tuple[int, int], on_main: OnMain) -> Float32:
        """Return the tracking colors of a scene frame: [H, W, 3] data 0..1, not meant for a view transform."""
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
        return self._resize_nearest(levels, size, 0).astype(np.float32) / 255

    def depth(self, frame: int, size: tuple[int, int]) -> Float32:
        """Return the depth of a scene frame: [H, W] metres along the camera's axis."""
        values = self._load_array("depth.npy", frame, size, np.inf)
        return np.where(np.isfinite(values), values, FAR).astype(np.float32)

    def object_index(self, frame: int, size: tuple[int, int]) -> Float32:
        """Return the pass index of the object in each pixel of a scene frame: [H, W], 0 for the background."""
        values = self._load_array("object_index.npy", frame, size, -1).astype(np.int64)
        return np.array([*self.pass_indices, 0], np.float32)[values]  # -1 is the last

    def _load_array(self, name: str, frame: int, size: tuple[int, int], background: float) -> NDArray[np.generic]:
        t = self.samples.get(frame)
        if t is None:
            return np.full((size[1], size[0]), background)
        try:
            whole = np.load(self.result.folder / name, mmap_mode="r", allow_pickle=False)
            return self._resize_nearest(np.asarray(whole[t]), size, background)
        except (OSError, ValueError, IndexError) as error:
            raise OutputError(
                "damaged-result", f"{self.result.folder / name} cannot be read: {error}.", "Shade the shot again."
            ) from error

    def _resize_nearest(
        self, values: NDArray[np.generic], size: tuple[int, int], background: float
    ) -> NDArray[np.generic]:
        fit = self.result.fit
        image = crop_to_frame_nearest(values, fit, size)
        image[~frame_coverage(fit, size)] = background
        return image
