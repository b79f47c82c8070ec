# SPDX-License-Identifier: GPL-3.0-or-later
"""The known models: their input sizes, requirements and licenses. `trackshade.models` loads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import trackshade
from trackshade.config import checkpoints
from trackshade.core import folders
from trackshade.core.errors import ModelError, UsageError
from trackshade.core.text import join_or

# Videos that a model follows: track colors, a gray clay render, inverse depth, or the tracks of points themselves.
CONTROL_CLIPS = ("tracking", "layout", "depth", "tracks")
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
    needs: tuple[str, ...] = ()  # those of its inputs without which it makes nothing
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
    def takes_loras(self) -> bool:
        """Whether LoRA files can be added to it."""
        return self.loader == _LAYOUT_LOADER

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


_LAYOUT_LOADER = "trackshade.pipelines.families.loading:load_layout"  # of folders in diffusers' layout
_WAN_480 = ((832, 480), (480, 832))
_WAN_720 = ((1280, 720), (720, 1280))
_APACHE: dict[str, Any] = {
    "license": "Apache-2.0",
    "license_url": "https://www.apache.org/licenses/LICENSE-2.0",
    "use": "Any use, also commercial.",
}
_USERS_OWN: dict[str, Any] = {  # weights that the user downloads
    "repo": "",
    "revision": "",
    "shipped": False,
    "loader": _LAYOUT_LOADER,
    "key_pictures": "video",
    "dynamic_guidance": False,
}
_WAN: dict[str, Any] = {
    **_APACHE,
    **_USERS_OWN,
    "fps": 16.0,
    "keeps_rate": True,
    "steps": 50,
    "guidance": 5.0,
    "negative_prompt": "overexposed, static, blurred details, worst quality, low quality, JPEG artifacts, subtitles, "
    "watermark, deformed limbs, still picture",
    "text_length": 512,
}


_COGVIDEOX_FUN: dict[str, Any] = {**_USERS_OWN, "dynamic_guidance": True}


def _wan_vace(**values: Any) -> ModelSpec:
    return ModelSpec(
        **_WAN,
        family="trackshade.pipelines.families.wan_vace:WanVace",
        allowed_frame_counts=tuple(range(5, 82, 4)),
        controls=("depth", "layout"),
        inputs=("first-frame", "key-pictures", "references", "masks", "prompt"),
        **values,
    )


_MODELS = (
    ModelSpec(
        name="mini",
        title="Trackshade mini (embedded, runs on a CPU)",
        allowed_frame_counts=(17,),
        sizes=((144, 96),),
        fps=8.0,
        steps=1,
        guidance=1.0,
        dynamic_guidance=False,
        negative_prompt="",
        text_length=32,
        memory_bytes=1 << 30,
        license="GPL-3.0-or-later",
        license_url="https://spdx.org/licenses/GPL-3.0-or-later.html",
        repo="",
        revision="",
        loader="trackshade.pipelines.loading:load_diffusers",
        shipped=True,
    ),
    ModelSpec(
        name="das-cogvideox-5b",
        title="Diffusion as Shader on CogVideoX-5B I2V",
        allowed_frame_counts=(49,),
        sizes=((720, 480),),
        fps=8.0,
        steps=50,
        guidance=6.0,
        dynamic_guidance=True,
        negative_prompt=(
            "The video is not of a high quality, it has a low resolution. Watermark present in each frame. "
            "The background is solid. Strange body and strange trajectory. Distortion."
        ),
        text_length=226,
        memory_bytes=40 << 30,
        license="CogVideoX License (research; commercial use after registration)",
        license_url="https://huggingface.co/THUDM/CogVideoX-5b-I2V/blob/main/LICENSE",
        repo="EXCAI/Diffusion-As-Shader",
        revision="53122de",
        loader="trackshade.pipelines.loading:load_diffusers",
        shipped=False,
        key_pictures="video",
        use="Research; commercial use needs a registration with the authors.",
    ),
    _wan_vace(
        name="wan-vace-1.3b",
        title="Wan 2.1 VACE 1.3B",
        sizes=_WAN_480,
        memory_bytes=20 << 30,
        preset_bytes=(("24", 14 << 30), ("16", 8 << 30), ("12", 7 << 30)),
        download_bytes=19 << 30,
        source="https://huggingface.co/Wan-AI/Wan2.1-VACE-1.3B-diffusers",
        recognized_by=(("num_attention_heads", 12),),
    ),
    _wan_vace(
        name="wan-vace-14b",
        title="Wan 2.1 VACE 14B",
        sizes=_WAN_480 + _WAN_720,
        memory_bytes=56 << 30,
        preset_bytes=(("24", 42 << 30), ("16", 18 << 30), ("12", 11 << 30)),
        download_bytes=75 << 30,
        source="https://huggingface.co/Wan-AI/Wan2.1-VACE-14B-diffusers",
        recognized_by=(("num_attention_heads", 40),),
    ),
    _wan_vace(
        name="wan2.2-vace-fun-14b",
        title="Wan 2.2 VACE Fun A14B",
        sizes=_WAN_480 + _WAN_720,
        memory_bytes=90 << 30,
        preset_bytes=(("24", 42 << 30), ("16", 18 << 30), ("12", 11 << 30)),
        download_bytes=80 << 30,
        source="https://huggingface.co/alibaba-pai/Wan2.2-VACE-Fun-A14B",
        recognized_by=(("num_attention_heads", 40), ("has_second_transformer", True)),
    ),
    ModelSpec(
        **_WAN,
        name="wan-move-14b",
        title="Wan-Move 14B 480p",
        family="trackshade.pipelines.families.wan_move:WanMove",
        allowed_frame_counts=(81,),
        sizes=_WAN_480,
        controls=("tracks",),
        inputs=("first-frame", "prompt"),
        needs=("first-frame",),
        memory_bytes=54 << 30,
        preset_bytes=(("24", 40 << 30), ("16", 16 << 30), ("12", 11 << 30)),
        download_bytes=82 << 30,
        source="https://huggingface.co/Ruihang/Wan-Move-14B-480P",
    ),
    ModelSpec(
        **_USERS_OWN,
        name="ltx-2.5-layout",
        title="LTX-2.5 Layout-To-Render",
        family="trackshade.pipelines.families.ltx:LtxLayoutToRender",
        allowed_frame_counts=tuple(range(9, 3402, 8)),
        sizes=((1024, 576), (576, 1024), (1920, 1088), (1088, 1920), (768, 512), (512, 768), (768, 768)),
        fps=24.0,
        keeps_rate=True,
        steps=8,
        has_fixed_steps=True,
        guidance=1.0,
        negative_prompt="",
        text_length=1024,
        controls=("layout",),
        inputs=("first-frame", "key-pictures", "prompt"),
        pass_frames=401,
        held_frames=25,
        memory_bytes=76 << 30,
        preset_bytes=(("24", 48 << 30), ("16", 20 << 30), ("12", 14 << 30)),
        download_bytes=72 << 30,
        license="LTX-2.x Community License of 11 August 2026",
        license_url="https://huggingface.co/Lightricks/LTX-2.5",
        use="Free for companies with a revenue below $10 million a year, under a use policy; others need a license.",
        source="https://huggingface.co/Lightricks/LTX-2.5-22b-IC-LoRA-Layout-To-Render",
    ),
    ModelSpec(
        **_COGVIDEOX_FUN,
        name="cogvideox-fun-5b-control",
        title="CogVideoX-Fun 5B Control",
        family="trackshade.pipelines.families.cogvideox_fun:CogVideoXFun",
        allowed_frame_counts=(49,),
        sizes=((720, 480), (480, 720)),
        fps=8.0,
        steps=50,
        guidance=6.0,
        negative_prompt="The video is not of a high quality, it has a low resolution. Watermark present in each frame. "
        "Strange motion trajectory.",
        text_length=226,
        controls=("tracking", "depth"),
        inputs=("prompt",),
        memory_bytes=30 << 30,
        download_bytes=20 << 30,
        license="CogVideoX License (research; commercial use after registration)",
        license_url="https://huggingface.co/THUDM/CogVideoX-5b-I2V/blob/main/LICENSE",
        use="Research; commercial use needs a registration with the authors.",
        source="https://huggingface.co/alibaba-pai/CogVideoX-Fun-V1.1-5b-Pose",
    ),
)


MINI_MOTION = "mini-motion"
_MOTION_MODEL = ModelSpec(
    name=MINI_MOTION,
    title="Trackshade mini-motion (embedded, runs on a CPU)",
    allowed_frame_counts=(8,),
    sizes=((48, 64),),
    fps=8.0,
    steps=2,
    guidance=1.0,
    dynamic_guidance=False,
    negative_prompt="",
    text_length=0,
    memory_bytes=1 << 30,
    license="GPL-3.0-or-later",
    license_url="https://spdx.org/licenses/GPL-3.0-or-later.html",
    repo="",
    revision="",
    loader="trackshade.pipelines.motion:MotionPipeline.from_pretrained",
    shipped=True,
)


def models() -> tuple[ModelSpec, ...]:
    """Return all models that shade, the embedded one first and registered checkpoints last."""
    return (*_MODELS, *_registered())


def motion_models() -> tuple[ModelSpec, ...]:
    """Return the models that read the motion of footage."""
    return (_MOTION_MODEL,)


def motion_spec(name: str) -> ModelSpec:
    """Return the motion model with a name, or that of a folder that `trackshade train motion` has exported.

    Raises:
        ModelError: There is none.
    """
    if name == MINI_MOTION:
        return _MOTION_MODEL
    folder = Path(name).expanduser().absolute()
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            "unknown-model",
            f"There is no motion model named '{name}'.",
            f"Use {MINI_MOTION}, or the folder of one that 'trackshade train motion' has exported.",
        )
    try:
        config = json.loads((folder / "encoder" / "config.json").read_text(encoding="utf-8"))
        size = int(config["frame_width"]), int(config["frame_height"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "wrong-weights",
            f"{folder} holds no motion model.",
            "Choose the folder of mini-motion or of a run of `trackshade train motion`.",
        ) from error
    license_name = "That of your checkpoint"
    return replace(
        _MOTION_MODEL,
        name=name,
        title=folder.name,
        sizes=(size,),
        folder=str(folder),
        shipped=False,
        license=license_name,
        license_url="",
    )


def _registered() -> Iterator[ModelSpec]:
    """Yield the registered checkpoints in order, each with the properties of its base model."""
    known = {item.name: item for item in _MODELS}
    for item in checkpoints.list_checkpoints():
        if item.like in known and item.name not in known and checkpoints.NAME.fullmatch(item.name):
            yield replace(
                known[item.like],
                name=item.name,
                title=item.title,
                folder=item.folder,
                base=item.like,
                shipped=False,
                license="That of your checkpoint",
                license_url="",
                repo="",
                revision="",
            )


def spec(name: str) -> ModelSpec:
    """Return the model with a name. Raise ModelError("unknown-model")."""
    for item in chain(_MODELS, _registered()):  # checkpoints.json is not read for a built-in model
        if item.name == name:
            return item
    known = ", ".join(item.name for item in models())
    raise ModelError("unknown-model", f"There is no model named '{name}'.", f"Known models: {known}.")


def model_folder(model: ModelSpec) -> Path:
    """Return the folder of a model's weights, also if they are not downloaded yet.

    Of a checkpoint that is a single file, it is the folder of the model that it is based on.
    """
    if model_file(model) is not None:
        return model_folder(spec(model.base))
    if model.folder:
        return Path(model.folder)
    return (Path(trackshade.__file__).parent / "models" if model.shipped else folders.models_dir()) / model.name


def model_file(model: ModelSpec) -> Path | None:
    """Return the file of a registered checkpoint that holds its transformer alone; None if there is none."""
    return Path(model.folder) if model.folder.endswith(checkpoints.FILE_SUFFIXES) else None


def is_present(model: ModelSpec) -> bool:
    """Return whether the weights are on this machine, completely downloaded."""
    file = model_file(model)
    return (model_folder(model) / "model_index.json").is_file() and (file is None or file.is_file())
