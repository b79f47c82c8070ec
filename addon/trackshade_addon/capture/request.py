# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a scene becomes a shot: the choices of the panel, of a command or of a script."""

from __future__ import annotations

from dataclasses import dataclass

import bpy

from trackshade.core.fitting import FrameMap, SizeFit

from .scene_settings import plan_scene


@dataclass(frozen=True)
class ShotRequest:
    """What of a scene becomes the shot: every frame of a range, at the size of the scene's renders.

    Attributes:
        camera: Name of a camera object, "auto" to add one, or None for the scene's camera.
        frames: First frame, last frame and step; None for the scene's own.
        view_layer: Name of the view layer, or None for the active one.
        first_frame: "render", "none", the path of an image file, or "image:" and the name of an image in Blender.
        input_render: Also render every frame, to compare the result with.
        light: What tells how the light changes: "clay" renders, "render" for every frame as the scene's engine renders
            it, or "none"; see `trackshade.config.settings.ShadeSettings`.
        strict: Refuse a scene with missing files or blocked scripts instead of warning about them.
        remarks: Sentences about how the scene was opened, for the shot's warnings.
        keep_played: Keep the frames of simulations that were played in memory; see `Capture`.
        glass: "opaque" or "through": whether surfaces that let more than half of the light through are captured.
        hair: "none" or "strands": whether hair is captured, as thin tubes.
    """

    camera: str | None = None
    frames: tuple[float | None, float | None, float | None] = (None, None, None)
    view_layer: str | None = None
    first_frame: str = "render"
    input_render: bool = False
    light: str = "none"
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
        """Return the frames and the image size of the shot, which are those of the scene's renders.

        Raises:
            ShotError: The frame range is empty or reversed, or the render has no pixels.
        """
        return plan_scene(scene, *self.frames)
