# SPDX-License-Identifier: GPL-3.0-or-later
"""Finished sRGB pictures as the scene-linear light that the scene's view transform shows as just these pictures.

A render result is scene-linear: display, file and compositor take it through the view transform. The pictures of a
result went through one already, so its inverse comes first. Of exposure and gamma that is exact; of most transforms
Blender has it as a color space; looks, curves and white balance are warned of (see `place.color`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from numpy.typing import NDArray

from trackshade.core.colors import srgb_to_linear
from trackshade.core.images import write_png

from ..placement.color import inverse_space, linear_pixels

Float32 = NDArray[np.float32]
_OWN_PRIMARIES = "Linear Rec.709"  # in which sRGB's curve alone leads to scene-linear


@dataclass(frozen=True)
class View:
    """A scene's view, turned round.

    Attributes:
        space: color space that undoes the view transform.
        exposure, gamma: the view's.
        simple: our own arithmetic does it, in any thread.
        warnings: sentences about what it cannot undo.
    """

    space: str
    exposure: float
    gamma: float
    simple: bool
    warnings: tuple[str, ...]

    @staticmethod
    def of(scene: bpy.types.Scene) -> View:
        """That of a scene, as it is set now."""
        space, warnings = inverse_space(scene, "the render", undoes_gamma=True)
        view = scene.view_settings
        simple = space == "Non-Color" or (space == "sRGB" and _working_space() == _OWN_PRIMARIES)
        return View(space, view.exposure, view.gamma, simple, tuple(warnings))

    def undo(self, levels: NDArray[np.uint8], on_main: Callable[[Callable[[], Float32]], Float32]) -> Float32:
        """[H, W, 3] float32 scene-linear of [H, W, 3] uint8 sRGB; `on_main` runs what only Blender can compute."""
        display = levels.astype(np.float64) / 255
        if self.gamma != 1:
            display = display**self.gamma
        if self.simple:
            light = display if self.space == "Non-Color" else srgb_to_linear(display)
        else:
            light = on_main(lambda: _by_blender(display, self.space))
        return (light / 2.0**self.exposure).astype(np.float32)


def _by_blender(display: NDArray[np.float64], space: str) -> Float32:
    """Main thread only. Blender converts pictures where it reads them."""
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        path = Path(folder) / "shown.png"
        write_png(path, np.rint(display * 255).astype(np.uint8))
        return linear_pixels(path, space)


def _working_space() -> str:
    """Blender before 5.0 has no other one."""
    return getattr(getattr(bpy.data, "colorspace", None), "working_space", _OWN_PRIMARIES)
