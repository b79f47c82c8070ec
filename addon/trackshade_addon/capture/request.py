# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a scene becomes a shot: the choices of the panel, of a command or of a script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import bpy

from trackshade.config import registry
from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, SizeFit, fit_frames, fit_size
from trackshade.shot.input_image import find_sample

from .scene_settings import plan_scene

_KEPT = (  # of a request, in the record of its result
    *("camera", "more_cameras", "frames", "view_layer", "first_frame", "keys", "camera_keys", "input_render", "light"),
    *("glass", "hair", "references"),
)


@dataclass(frozen=True)
class ModelFit:
    """What a model takes, for shots that are captured for it, such as training data.

    Attributes:
        model: Name of the model in the registry.
        frame_rule: How the frame range is fitted to the model; see `trackshade.core.fitting`.
        size_mode: How the render's frame is fitted to the model's image; see `trackshade.core.fitting`.
        size: (width, height) in pixels, one of the model's sizes; None for the one with the nearest aspect.
    """

    model: str
    frame_rule: str = "auto"
    size_mode: str = "pad"
    size: tuple[int, int] | None = None

    def apply(self, frames: FrameMap, size: SizeFit) -> tuple[FrameMap, SizeFit]:
        """Return the frames and the image that the model takes of a render.

        Raises:
            ShotError: The frame range does not fit the model.
            UsageError: The model has no such size.
            ModelError: The model is unknown.
        """
        spec = registry.spec(self.model)
        if self.size is not None:
            spec.require_size(self.size)
        rate = frames.fps * frames.step
        taken = fit_frames(frames.start, frames.end, frames.step, rate, spec.allowed_frame_counts, self.frame_rule)
        sizes = spec.sizes if self.size is None else (self.size,)
        return taken, size.then(fit_size(size.size, size.pixel_aspect, sizes, self.size_mode))


@dataclass(frozen=True)
class ShotRequest:
    """What of a scene becomes the shot: every frame of a range, at the size of the scene's renders.

    Attributes:
        camera: Name of a camera object, "auto" to add one, or None for the scene's camera.
        more_cameras: Names of further camera objects through which the same frames are shaded. With them, `camera` is
            a name, and cameras of timeline markers are not used.
        frames: First frame, last frame and step; None for the scene's own.
        view_layer: Name of the view layer, or None for the active one.
        first_frame: "render", "none", the path of an image file, or "image:" and the name of an image in Blender.
        camera_keys: Pictures of further cameras: for each its camera's name, and its scene frame and picture as in
            `keys`.
        keys: Further pictures that are carried to all frames: for each its scene frame, and the path of an image file
            or "image:" and the name of an image in Blender. That of the first frame replaces its render.
        input_render: Also render every frame, to compare the result with, or for the video model to follow.
        light: What tells how the light changes: "clay" renders, "render" for every frame as the scene's engine renders
            it, or "none"; see `trackshade.config.settings.ShadeSettings`.
        strict: Refuse a scene with missing files or blocked scripts instead of warning about them.
        remarks: Sentences about how the scene was opened, for the shot's warnings.
        keep_played: Keep the frames of simulations that were played in memory; see `Capture`.
        glass: "opaque" or "through": whether surfaces that let more than half of the light through are captured.
        hair: "none" or "strands": whether hair is captured, as thin tubes.
        references: Paths of pictures of what is to be seen, or "image:" and the name of an image in Blender.
        has_layout: Whether the video model follows clay renders, which are made even if the light does not change.
        whole_first_frame: Of a part of a frame range, what `first_frame` is for the whole range; None if it is whole.
        fit: Model that the shot is captured for; None for every frame at the size of the scene's renders.
    """

    camera: str | None = None
    frames: tuple[float | None, float | None, float | None] = (None, None, None)
    view_layer: str | None = None
    first_frame: str = "render"
    keys: tuple[tuple[float, str], ...] = ()
    more_cameras: tuple[str, ...] = ()
    camera_keys: tuple[tuple[str, float, str], ...] = ()
    input_render: bool = False
    light: str = "none"
    strict: bool = False
    remarks: tuple[str, ...] = ()
    keep_played: bool = True
    glass: str = "opaque"
    hair: str = "none"
    references: tuple[str, ...] = ()
    has_layout: bool = False
    whole_first_frame: str | None = None
    fit: ModelFit | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the request as plain values, without what belongs to a single run."""
        return {name: getattr(self, name) for name in _KEPT}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ShotRequest:
        """Return the request of plain values, as JSON has them; unknown ones are ignored."""

        def tuples(value: Any) -> Any:
            return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value

        return ShotRequest(**{name: tuples(value) for name, value in values.items() if name in _KEPT})

    @property
    def given_picture(self) -> str | None:
        """The picture that the user gives as first frame, or None."""
        return None if self.first_frame in ("render", "none") else self.first_frame

    def through_one_camera(self) -> ShotRequest:
        """Return the request without its further cameras."""
        return replace(self, more_cameras=(), camera_keys=())

    @property
    def needs_first_frame(self) -> bool:
        """Whether a model has to make the first frame, because there is no picture at all."""
        return self.first_frame == "none" and not self.keys

    @property
    def given_pictures(self) -> tuple[str, ...]:
        """All pictures that the user gives."""
        first = self.given_picture
        others = (*(source for _, source in self.keys), *(source for _, _, source in self.camera_keys))
        return (*(() if first is None else (first,)), *others, *self.references)

    @property
    def key_sources(self) -> tuple[tuple[str | None, float, str], ...]:
        """Camera (None for the first one), scene frame and source of the key pictures."""
        return (*((None, frame, source) for frame, source in self.keys), *self.camera_keys)

    @property
    def needs_renders(self) -> bool:
        """Whether every frame is rendered by the scene's engine."""
        return self.input_render or self.light == "render"

    @property
    def needs_clay(self) -> bool:
        """Whether clay renders are made, if the scene has light."""
        return self.light == "clay" or self.has_layout

    def with_first_key(self, frames: FrameMap) -> ShotRequest:
        """Return the request whose key picture of the shot's first frame, if any, is its first frame.

        Raises:
            ShotError: A key picture shows no frame of the shot, or the first frame has two pictures.
        """
        samples = [find_sample(frames.frame_numbers, frame) for frame, _ in self.keys]
        first = [source for (_, source), sample in zip(self.keys, samples, strict=True) if sample == 0]
        given = [*([] if self.given_picture is None else [self.given_picture]), *first]
        if len(given) > 1:
            raise ShotError(
                "two-key-pictures",
                f"Two pictures show frame {frames.frame_numbers[0]:g}: {given[0]} and {given[1]}.",
                "Give one picture for each frame.",
            )
        if not first:
            return self
        others = tuple(key for key, sample in zip(self.keys, samples, strict=True) if sample)
        return replace(self, first_frame=first[0], keys=others)

    def plan(self, scene: bpy.types.Scene) -> tuple[FrameMap, SizeFit]:
        """Return the frames and the image size of the shot, which are those of the scene's renders.

        Raises:
            ShotError: The frame range is empty or reversed, or the render has no pixels.
            TrackshadeError: As raised by `ModelFit.apply`.
        """
        plan = plan_scene(scene, *self.frames)
        return plan if self.fit is None else self.fit.apply(*plan)
