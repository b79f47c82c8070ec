# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a job."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from trackshade.config import registry
from trackshade.config.memory_presets import MEMORY_CHOICES
from trackshade.config.model_spec import CONTROL_CLIPS, ModelSpec
from trackshade.core.errors import ModelError, UsageError
from trackshade.core.fitting import FRAME_RULES, SIZE_MODES

CONTROLS = ("mesh", "points")
GLASS = ("opaque", "through")
HAIR = ("none", "strands")
OUTPUTS = ("video", "tracking", "key", "stills", "motion")
AZIMUTHS_FROM = ("reference", "front")
KEY_PICTURES = ("auto", "first-frame", "video")
OUTPUT_SIZES = ("full", "model")
LIGHTS = ("clay", "none", "render")
IMAGE_FORMATS = ("png", "exr")
SHOWN_FRAMES = "frames_8bit"  # folder of the frames as they are shown, where a result's `frames` are OpenEXR files
TRACKING_RANGES = ("training", "demo")
CACHES = ("first-block", "taylorseer")
QUANTIZATIONS = ("none", "nf4")
CONTROL_CHOICES = ("auto", *CONTROL_CLIPS)


@dataclass(frozen=True)
class ShadeSettings:
    """Settings of a job; None stands for the model's default.

    Attributes:
        model: Name of a model in the registry.
        prompt: Prompt.
        negative_prompt: Negative prompt.
        steps: Number of denoising steps.
        guidance: Classifier-free guidance scale.
        seed: Seed of the CPU generator, so that it means the same on every device.
        control: "mesh" colors all surface points, "points" draws `points` sampled tracks.
        points: Number of sampled tracks.
        control_scale: Strength of the tracks: 1 as in training, 0 ignores them.
        control_start: Fraction of the steps at which the tracks begin to apply.
        control_end: Fraction of the steps at which they stop to apply.
        tracking_range: Value range in which the autoencoder gets the tracking video: "training" [-1, 1] or
            "demo" [0, 1] (as in the released demo).
        preview_every: Every n-th step comes with a preview; 0 for none.
        output: "video" for the shaded video; "tracking" for the tracking video only, which needs no model; "key" for
            what the given key pictures show of `key_frames`, which needs a model only where no picture is given;
            "stills" for stills of the first frame by an image model, to choose a look from; "motion" for the motion of
            driving footage, which a motion model reads, and its figure in that motion if there is a first frame: see
            `trackshade.motion.driving_shot`.
        key_frames: Scene frames that the output "key" shows.
        image_model: Name of an image model that paints the first frame, from the one that was sent if there is one, and
            the stills; of the output "key", what no key picture shows. Empty for none. See
            `trackshade.config.image_models.image_model`.
        stills: Number of stills.
        strength: How far the image model changes the picture that it starts from: 0 not at all, 1 as if there was none.
        loras: LoRA files of the image model, each with its strength, such as "style.safetensors:0.7".
        frame_rule: How the shot's frames are fitted to the model's frame counts; see `core.fitting.fit_frames`.
        size_mode: How the shot's image is fitted to the model's: "pad" or "crop"; see `core.fitting.SizeFit`.
        model_size: (width, height) of the model's image, pixels; None for the nearest in aspect.
        key_pictures: Pictures that are propagated to all frames of the shot, besides those sent with it:
            "first-frame" for the first frame alone, which needs no model where one was sent; "video" for the frames of
            the model's video, too; "auto" for what suits the model.
        output_size: "full" for every frame of the shot at its own size, or "model" for the model's frames as they are.
        light: What the light of propagated pictures changes with: "clay" for the clay renders sent with the shot,
            "render" for its input render, "none" to carry colors unchanged.
        image_format: "png" for frames of 8 bits, or "exr" for scene-linear half floats.
        control_clip: What the video model follows: "tracking" for the tracking video, "layout" for gray clay renders,
            "depth", "tracks" for points, "render" for the input render, "footage"; "auto" for the footage if there is
            some, else the model's default.
        quantize: How weights of the video model's transformers are stored: "none" for as they are, "nf4" for 4 bits.
        compile: Whether the blocks of the video model's transformers are compiled: the first step takes minutes, the
            others are faster.
        footage: Path on the backend's machine of a video that the video model follows; empty for none.
        video_loras: LoRA files of the video model on the backend's machine, each with its strength, such as
            "style.safetensors:0.7".
        cache: Relative change of what the video model's first block adds from step to step, below which its other
            blocks are skipped: faster and less exact; 0 skips none.
        cache_method: What skips parts of the video model's steps: "first-block" by `cache`, or "taylorseer", which
            runs every n-th step and continues the others from those before.
        cache_interval: n of "taylorseer".
        cache_order: Order of the Taylor series of "taylorseer"; 0 repeats the last step that was run.
        memory: How much memory of the device the video model may take: "auto" for what is free, "full" for all that
            it needs, or GiB; see `trackshade.config.memory_presets`.
        alpha: Whether propagated frames have an alpha channel: how much of a pixel tracked surfaces cover.
        multiview_model: Model that samples the frames of several cameras together, whose light and colors are followed:
            "mini-matrix" or a folder that `trackshade train multiview` has exported; empty for none.
        arm: How it combines rows and columns of the grid of cameras and frames; empty for the default.
        splats: Number of Gaussian splats that ride on the surfaces, written beside the frames; 0 for none.
        azimuths_from: What the azimuths of the camera count from in the output "motion": the "reference" view, or the
            "front" of the figure, which the model looks for in the reference.
    """

    model: str = "mini"
    prompt: str = ""
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    control: str = "mesh"
    points: int = 4900
    control_scale: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    tracking_range: str = "training"
    preview_every: int = 5
    output: str = "video"
    key_frames: tuple[float, ...] = ()
    image_model: str = ""
    stills: int = 4
    strength: float = 0.7
    loras: tuple[str, ...] = ()
    frame_rule: str = "auto"
    size_mode: str = "pad"
    model_size: tuple[int, int] | None = None
    key_pictures: str = "auto"
    output_size: str = "full"
    light: str = "clay"
    image_format: str = "png"
    alpha: bool = False
    splats: int = 0
    multiview_model: str = ""
    arm: str = ""
    memory: str = "auto"
    control_clip: str = "auto"
    video_loras: tuple[str, ...] = ()
    azimuths_from: str = "reference"
    cache: float = 0.0
    cache_method: str = "first-block"
    cache_interval: int = 3
    cache_order: int = 1
    quantize: str = "none"
    compile: bool = False
    footage: str = ""

    def __post_init__(self) -> None:
        def require(is_valid: bool, name: str, value: Any, allowed: str) -> None:
            if not is_valid:
                raise UsageError("bad-setting", f"The {name} cannot be {value!r}.", f"Give {allowed}.")

        negative, end = self.negative_prompt, self.control_end
        require(isinstance(self.model, str) and bool(self.model), "model", self.model, "a model's name")
        require(isinstance(self.prompt, str), "prompt", self.prompt, "text")
        require(negative is None or isinstance(negative, str), "negative prompt", negative, "text")
        require(self.steps is None or _is_integer(self.steps, 1, 1000), "steps", self.steps, "1 to 1000")
        require(self.guidance is None or _is_number(self.guidance, 0, 100), "guidance", self.guidance, "0 to 100")
        require(_is_integer(self.seed, 0, 2**63 - 1), "seed", self.seed, "0 or above")
        require(_is_integer(self.points, 1, 1_000_000), "points", self.points, "1 to 1000000")
        require(_is_number(self.control_scale, 0, 2), "control scale", self.control_scale, "0 to 2")
        require(_is_number(self.control_start, 0, 1), "control start", self.control_start, "0 to 1")
        is_after_start = _is_number(end, 0, 1) and end >= self.control_start
        require(is_after_start, "control end", end, "0 to 1, not before the start")
        require(_is_number(self.cache, 0, 1), "cache", self.cache, "0 to 1")
        require(_is_integer(self.cache_interval, 1, 100), "cache interval", self.cache_interval, "1 to 100")
        require(_is_integer(self.cache_order, 0, 4), "cache order", self.cache_order, "0 to 4")
        require(_is_integer(self.preview_every, 0, 1000), "preview", self.preview_every, "0 to 1000")
        for name, value, choices in (
            ("control", self.control, CONTROLS),
            ("tracking range", self.tracking_range, TRACKING_RANGES),
            ("output", self.output, OUTPUTS),
            ("frame rule", self.frame_rule, FRAME_RULES),
            ("size mode", self.size_mode, SIZE_MODES),
            ("key pictures", self.key_pictures, KEY_PICTURES),
            ("output size", self.output_size, OUTPUT_SIZES),
            ("light", self.light, LIGHTS),
            ("image format", self.image_format, IMAGE_FORMATS),
            ("memory", self.memory, MEMORY_CHOICES),
            ("cache method", self.cache_method, CACHES),
            ("quantization", self.quantize, QUANTIZATIONS),
            ("control clip", self.control_clip, CONTROL_CHOICES),
            ("azimuths' origin", self.azimuths_from, AZIMUTHS_FROM),
        ):
            require(value in choices, name, value, " or ".join(choices))
        size = self.model_size
        is_size = isinstance(size, (tuple, list)) and len(size) == 2 and all(_is_integer(n, 1, 65536) for n in size)
        require(size is None or is_size, "model size", size, "a width and a height, pixels")
        object.__setattr__(self, "model_size", None if size is None else tuple(size))  # a list once it was stored
        frames = self.key_frames
        is_list = isinstance(frames, (tuple, list)) and all(_is_number(n, -1e7, 1e7) for n in frames)
        require(is_list and bool(frames) == (self.output == "key"), "key frames", frames, "frames of the output key")
        object.__setattr__(self, "key_frames", tuple(frames))
        require(isinstance(self.multiview_model, str), "multiview model", self.multiview_model, "a name or a folder")
        require(isinstance(self.arm, str), "arm", self.arm, "a name")
        require(isinstance(self.compile, bool), "compilation", self.compile, "true or false")
        require(isinstance(self.footage, str), "footage", self.footage, "the path of a video")
        require(isinstance(self.alpha, bool), "alpha", self.alpha, "true or false")
        is_name = isinstance(self.image_model, str) and (bool(self.image_model) or self.output != "stills")
        require(is_name, "image model", self.image_model, "an image model's name")
        require(_is_integer(self.splats, 0, 2_000_000), "number of splats", self.splats, "0 to 2000000")
        require(_is_integer(self.stills, 1, 64), "number of stills", self.stills, "1 to 64")
        require(_is_number(self.strength, 0, 1), "strength", self.strength, "0 to 1")
        for name in ("loras", "video_loras"):
            files = getattr(self, name)
            are_texts = isinstance(files, (tuple, list)) and all(isinstance(item, str) for item in files)
            require(are_texts, "LoRA files", files, "a list of files")
            object.__setattr__(self, name, tuple(files))

    @property
    def needs(self) -> str | None:
        """The name of the model that is certainly needed, so that it may be loaded ahead, or None.

        A job that propagates the first frame alone needs one only if no first frame is given.
        """
        if self.output != "video":
            return None
        with contextlib.suppress(ModelError):  # the backend tells about a model that is not known
            key_pictures = registry.spec(self.model).key_pictures if self.key_pictures == "auto" else self.key_pictures
            if key_pictures == "first-frame" and self.output_size == "full":
                return None
        return self.model

    def control_of(self, spec: ModelSpec) -> str:
        """Return what a model follows, one of its controls. Raise UsageError if it does not follow what is chosen."""
        return spec.control_for("footage" if self.footage and self.control_clip == "auto" else self.control_clip)

    @property
    def follows(self) -> str:
        """What the video model follows, or "" if the model is not known or does not follow what is chosen."""
        with contextlib.suppress(ModelError, UsageError):  # the backend tells about these
            return self.control_of(registry.spec(self.model))
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the form that is sent and stored."""
        size = self.model_size
        lists = {"key_frames": list(self.key_frames), "loras": list(self.loras), "video_loras": list(self.video_loras)}
        return {**asdict(self), **lists, "model_size": None if size is None else list(size)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ShadeSettings:
        """Reads that form. Raises UsageError for unknown names and for values out of range."""
        unknown = set(data) - {item.name for item in fields(ShadeSettings)}
        if unknown:
            raise UsageError("unknown-setting", f"Unknown setting: {', '.join(sorted(map(str, unknown)))}.")
        return ShadeSettings(**data)


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any, low: float, high: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and low <= value <= high
