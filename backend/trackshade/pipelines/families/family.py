# SPDX-License-Identifier: GPL-3.0-or-later
"""What all families of video models have in common: their inputs, their options, and how they are run.

A model is an entry of `trackshade.config.registry`, whose `family` names a subclass of `ModelFamily`. The entry tells
which inputs are prepared; the class passes them to a pipeline and returns the frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from ...config.memory_presets import MemoryPreset
from ...config.model_spec import ModelSpec
from ...config.settings import ShadeSettings
from ...control.tracks import Tracks
from ...core.errors import ModelError
from ...core.text import join_or
from .caches import StepCache, set_hooks

if TYPE_CHECKING:
    from ..parallel.ranks import Ranks
    from .layout import Layout


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """What a model is given of a shot, at the model's size and frames.

    Attributes:
        size: (width, height), pixels.
        num_frames: Number of frames T.
        fps: Rate at which they play, frames per second.
        clip: [T, H, W, 3] uint8, the clip of the kind `control`; None for "tracks". Footage keeps its own aspect.
        control: Kind of the clip, one of the entry's `controls`.
        tracks: Tracks of points, for the control "tracks".
        pictures: Given pictures [H, W, 3] uint8 by the frame that they show; 0 is the first frame.
        references: Pictures [h, w, 3] uint8 of what is to be seen, of any size.
    """

    size: tuple[int, int]
    num_frames: int
    fps: float
    clip: np.ndarray | None = None
    control: str = "tracking"
    tracks: Tracks | None = None
    pictures: dict[int, np.ndarray] | None = None
    references: tuple[np.ndarray, ...] = ()

    @property
    def first_frame(self) -> np.ndarray | None:
        """The picture of the first frame, or None."""
        return (self.pictures or {}).get(0)


@dataclass(frozen=True)
class SamplingOptions:
    """How a model is sampled; see `trackshade.config.settings.ShadeSettings`."""

    prompt: str
    negative_prompt: str
    steps: int
    guidance: float
    dynamic_guidance: bool
    seed: int
    control_scale: float
    control_start: float
    control_end: float
    tracking_range: str
    is_still: bool = False  # whether only the first frame is used

    @staticmethod
    def of(spec: ModelSpec, settings: ShadeSettings, is_still: bool = False) -> SamplingOptions:
        """Return the settings of a job, with the model's defaults where they are None."""
        given = settings.negative_prompt
        return SamplingOptions(
            prompt=settings.prompt,
            negative_prompt=spec.negative_prompt if given is None else given,
            steps=spec.steps if settings.steps is None else settings.steps,
            guidance=spec.guidance if settings.guidance is None else settings.guidance,
            dynamic_guidance=spec.dynamic_guidance and settings.guidance is None,
            seed=settings.seed,
            control_scale=settings.control_scale,
            control_start=settings.control_start,
            control_end=settings.control_end,
            tracking_range=settings.tracking_range,
            is_still=is_still,
        )


class OnStep(Protocol):
    """Report a step of a model."""

    def __call__(
        self, done: int, total: int, message: str = "", preview: Callable[[], np.ndarray] | None = None
    ) -> None:
        """Report steps done of all steps; raise to end the job.

        Args:
            done: Steps that are done; 0 before the first one.
            total: Steps of the whole call.
            message: What is being made, if it is not the video.
            preview: Makes an image [H, W, 3] uint8 of the present state, if the family can.
        """
        ...


Keep = Callable[[str, Callable[[], np.ndarray]], np.ndarray]
"""Returns an array by its name, made by the function unless an earlier attempt at the same job has kept it."""


class ModelFamily(ABC):
    """A loaded model.

    Attributes:
        layout: Components of its checkpoints, of families that `loading.load_layout` loads.
        caches: Those of `trackshade.config.settings.CACHES` that are right for its transformer.
        spec: Registry entry.
        pipeline: The loaded pipeline.
        ranks: What runs its transformers on several devices together; None if one device does.
    """

    layout: ClassVar[Layout | None] = None
    caches: ClassVar[tuple[str, ...]] = ()

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        self.spec = spec
        self.pipeline = pipeline
        self.ranks: Ranks | None = None

    @property
    def memory_preset(self) -> MemoryPreset:
        """How it uses the device's memory."""
        return self.pipeline.memory_preset

    def set_cache(self, cache: StepCache) -> None:
        """Skip most of the transformer in steps that change little, or nothing.

        Args:
            cache: How.

        Raises:
            ModelError: The family cannot, and the cache may skip something.
        """
        if cache.is_on and cache.method not in self.caches:
            others = f"Leave out the cache{f', or use {join_or(self.caches)}' if self.caches else ''}."
            raise ModelError(
                "not-cached", f"The model {self.spec.name} cannot skip parts of its steps by {cache.method}.", others
            )
        if cache.is_on and self.ranks is not None and cache.method != "taylorseer":
            raise ModelError(
                "not-cached",
                f"The model {self.spec.name} is shared by several devices, each of which has a part of the tokens: "
                f"they would skip different steps by {cache.method}.",
                "Leave out the cache, use taylorseer, or run the backend with one device for each worker.",
            )
        self.apply_cache(cache)
        if self.ranks is not None:
            self.ranks.set_cache(cache)

    def apply_cache(self, cache: StepCache) -> None:
        """Set a cache that the family has, or none."""
        from ..memory import transformers_of  # here, because checking a folder imports this module

        if self.caches:
            set_hooks(transformers_of(self.pipeline).values(), cache)

    def compile_blocks(self, **options: Any) -> None:
        """Have torch compile the repeated blocks of the transformers when they are first run.

        Args:
            **options: Options of `torch.compile`.

        Raises:
            ModelError: diffusers does not know which blocks of the transformer repeat.
        """
        from ..memory import transformers_of  # here, because checking a folder imports this module

        for transformer in transformers_of(self.pipeline).values():
            try:
                transformer.compile_repeated_blocks(**options)
            except ValueError as error:
                raise ModelError(
                    "not-compiled", f"The model {self.spec.name} cannot be compiled: {error}", "Do not compile it."
                ) from error

    @abstractmethod
    def sample(self, inputs: ModelInputs, options: SamplingOptions, on_step: OnStep, keep: Keep) -> np.ndarray:
        """Make the frames of a video.

        Args:
            inputs: What the model is given.
            options: How it is sampled.
            on_step: Called before the first step and after each one; may raise to cancel.
            keep: Keeps parts that take long, for another attempt at the same job.

        Returns:
            [T, H, W, 3] uint8 sRGB; some of the first frames are enough if `options.is_still`.

        Raises:
            ModelError: The model cannot take the inputs, or memory does not suffice.
        """
