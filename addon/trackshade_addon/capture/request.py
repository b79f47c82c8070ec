# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a scene becomes a shot: the choices of the panel, of a command or of a script."""

from __future__ import annotations

from dataclasses import dataclass, replace

import bpy

from trackshade.config import registry
from trackshade.config.registry import ModelSpec
from trackshade.core.errors import UsageError
from trackshade.core.fitting import FrameMap, SizeFit

from .scene_settings import fit_scene


@dataclass(frozen=True)
class ShotRequest:
    """What of a scene becomes the shot.

    Attributes:
        model: Name of the model in the registry.
        camera: Name of a camera object, "auto" to add one, or None for the scene's camera.
        frames: First frame, last frame and step; None for the scene's own.
        frame_rule: How the frame range is fitted to the model; see `trackshade.core.fitting`.
        size_mode: How the render's frame is fitted to the model's image; see `trackshade.core.fitting`.
        size: (width, height) in pixels, one of the model's sizes; None for the one with the nearest aspect.
        view_layer: Name of the view layer, or None for the active one.
        first_frame: "render", "none", the path of an image file, or "image:" and the name of an image in Blender.
        input_render: Also render every frame, to compare the result with.
        strict: Refuse a scene with missing files or blocked scripts instead of warning about them.
        remarks: Sentences about how the scene was opened, for the shot's warnings.
        keep_played: Keep the frames of simulations that were played in memory; see `Capture`.
        glass: "opaque" or "through": whether surfaces that let more than half of the light through are captured.
        hair: "none" or "strands": whether hair is captured, as thin tubes.
    """

    model: str = "mini"
    camera: str | None = None
    frames: tuple[float | None, float | None, float | None] = (None, None, None)
    frame_rule: str = "auto"
    size_mode: str = "pad"
    size: tuple[int, int] | None = None
    view_layer: str | None = None
    first_frame: str = "render"
    input_render: bool = False
    strict: bool = False
    remarks: tuple[str, ...] = ()
    keep_played: bool = True
    glass: str = "opaque"
    hair: str = "none"

    @property
    def given_picture(self) -> str | None:
        """The picture that the user gives as first frame, or None."""
        return None if self.first_frame in ("render", "none") else self.first_frame

    def plan(self, scene: bpy.types.Scene) -> tuple[FrameMap, SizeFit]:
        """Return the frames and the image size of the shot.

        Raises:
            ShotError: The frame range does not fit the model.
            UsageError: The model has no such size.
            ModelError: The model is unknown.
        """
        spec = with_size(registry.spec(self.model), self.size)
        return fit_scene(scene, spec, *self.frames, frame_rule=self.frame_rule, size_mode=self.size_mode)


def with_size(spec: ModelSpec, size: tuple[int, int] | None) -> ModelSpec:
    """Return the model restricted to one of its sizes.

    Raises:
        UsageError: The model has no such size.
    """
    if size is None:
        return spec
    if size not in spec.sizes:
        known = ", ".join(f"{width}x{height}" for width, height in spec.sizes)
        raise UsageError("unknown-size", f"Model '{spec.name}' has no size {size[0]}x{size[1]}.", f"It has: {known}.")
    return replace(spec, sizes=(size,))
