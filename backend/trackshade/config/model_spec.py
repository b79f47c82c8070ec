# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a model before it is loaded: input sizes, requirements and license."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from trackshade.core.errors import UsageError
from trackshade.core.text import join_or

LAYOUT_LOADER = "trackshade.pipelines.families.loading:load_layout"  # of folders in diffusers' layout
# What a model follows: the video of track colors, a gray clay render, inverse depth, the tracks of points themselves,
# the scene's own render of all frames, or footage.
CONTROL_CLIPS = ("tracking", "layout", "depth", "tracks", "render", "footage")
# What a model uses besides.
INPUTS = ("first-frame", "key-pictures", "references", "masks", "prompt")


@dataclass(frozen=True)
class ModelSpec:
    """Properties of a model that are needed before it is loaded."""

    name: str  # identifier, such as "mini"
    title: str  # name shown to the user
    allowed_frame_counts: tuple[int, ...]  # numbers of frames that it accepts
    sizes: tuple[tuple[int, int], ...]  # image sizes (width, height) that it accepts, pixels
    fps: float  # frame rate of its training clips
    steps: int  # default number of denoising steps
    guidance: float  # default classifier-free guidance scale
    dynamic_guidance: bool  # whether the guidance scale increases over the steps by default
    negative_prompt: str  # default negative prompt
    text_length: int  # number of prompt tokens that it reads
    memory_bytes: int  # device memory that a job needs, without offloading
    license: str  # license of the weights
    license_url: str  # where the license can be read
    repo: str  # Hugging Face repository; empty if `shipped`
    revision: str  # commit that is downloaded (its hash, or at least the first seven digits); empty if `shipped`
    loader: str  # "module:function" in the backend that creates the pipeline
    shipped: bool  # whether the weights are part of this package
    folder: str = ""  # folder or file of a registered checkpoint (see `trackshade.config.checkpoints`), otherwise empty
    base: str = ""  # built-in model that a registered checkpoint is based on, otherwise empty
    # pictures that are propagated by default, "first-frame" or "video"; see `ShadeSettings.key_pictures`
    key_pictures: str = "first-frame"
    # "module:class" in the backend that runs it, a `trackshade.pipelines.families.family.ModelFamily`
    family: str = "trackshade.pipelines.families.diffusion_shader:DiffusionShader"
    controls: tuple[str, ...] = ("tracking",)  # those of `CONTROL_CLIPS` that it follows; the first one is the default
    inputs: tuple[str, ...] = ("first-frame", "prompt")  # those of `INPUTS` that it uses
    # those of its inputs without which it makes nothing; a reference may stand for the first frame if it uses both
    needs: tuple[str, ...] = ()
    keeps_rate: bool = False  # whether its frames are taken at `fps`, so that motion has the speed it knows
    has_fixed_steps: bool = False  # whether its noise schedule has exactly `steps` steps
    use: str = ""  # what the license allows, in a sentence
    download_bytes: int = 0  # size of the weights; 0 if the hub tells it
    source: str = ""  # where the user downloads the weights, if no revision of a repository is known
    # free memory from which a memory preset suffices: (preset, bytes), from the largest; empty for the presets' own
    preset_bytes: tuple[tuple[str, int], ...] = ()
    # values of the transformer's configuration by which a checkpoint of the user is recognized as one of this model
    recognized_by: tuple[tuple[str, Any], ...] = ()
    pass_frames: int = 0  # most frames that are made at a time, if it makes longer videos in several passes; else 0
    held_frames: int = 0  # last frames of a pass with which the next one begins

    @property
    def shows_surfaces(self) -> bool:
        """Whether its frames may show surfaces that no other picture does; those of a rough model only give light."""
        return self.key_pictures == "video"

    @property
    def takes_loras(self) -> bool:
        """Whether LoRA files can be added to it."""
        return self.loader == LAYOUT_LOADER

    @property
    def reads_prompt(self) -> bool:
        """Whether the prompt changes what it makes."""
        return "prompt" in self.inputs

    @property
    def frame_rule(self) -> str:
        """Describe the numbers of frames that it accepts, such as "17" or "4k+1, 5 to 81"."""
        counts = self.allowed_frame_counts
        if len(counts) < 4:
            return join_or(counts)
        return f"{counts[1] - counts[0]}k+1, {counts[0]} to {counts[-1]}"

    def control_for(self, choice: str) -> str:
        """Return the kind of clip that it follows.

        Args:
            choice: One of `CONTROL_CLIPS`, or "auto" for the default.

        Raises:
            UsageError: It does not follow the clip that is chosen.
        """
        if choice == "auto":
            return self.controls[0]
        if choice not in self.controls:
            raise UsageError(
                "control-not-taken",
                f"The model {self.name} does not follow '{choice}': it follows {join_or(self.controls)}.",
                "Choose one of these, or auto.",
            )
        return choice

    def frame_counts_for(self, count: int, fps: float, rule: str = "auto") -> tuple[int, ...]:
        """Return the numbers of frames to which a range may be fitted.

        Args:
            count: Number of frames of the range.
            fps: Rate at which they play, frames per second.
            rule: How the range is fitted, one of `trackshade.core.fitting.FRAME_RULES`.

        Returns:
            All that it accepts; of a model that keeps its rate, the one that is nearest to it, unless the rule chooses
            among the range's own frames.
        """
        if not self.keeps_rate or rule in ("choose", "step") or count < 2:
            return self.allowed_frame_counts
        wanted = 1 + (count - 1) * self.fps / fps
        return (min(self.allowed_frame_counts, key=lambda number: (abs(number - wanted), number)),)

    def require_size(self, size: tuple[int, int]) -> None:
        """Raise UsageError("unknown-size") unless the model has this image size."""
        if size not in self.sizes:
            known = ", ".join(f"{width}x{height}" for width, height in self.sizes)
            message = f"Model '{self.name}' has no size {size[0]}x{size[1]}."
            raise UsageError("unknown-size", message, f"It has: {known}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, in which three fields keep their names of earlier versions."""
        data = asdict(self)
        older = {"allowed_frame_counts": "frames", "license": "licence", "license_url": "licence_url"}
        data = {older.get(name, name): value for name, value in data.items()}
        return data | {"frames": list(self.allowed_frame_counts), "sizes": [list(size) for size in self.sizes]}
