# SPDX-License-Identifier: GPL-3.0-or-later
"""The known models: their input sizes, requirements and licences. `trackshade.models` loads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import trackshade
from trackshade.config import checkpoints
from trackshade.core import folders
from trackshade.core.errors import ModelError


@dataclass(frozen=True)
class ModelSpec:
    """Properties of a model that are needed before it is loaded.

    Attributes:
        name: Identifier, such as "mini".
        title: Name shown to the user.
        allowed_frame_counts: Numbers of frames that it accepts.
        sizes: Image sizes (width, height) that it accepts, pixels.
        fps: Frame rate of its training clips.
        steps: Default number of denoising steps.
        guidance: Default classifier-free guidance scale.
        dynamic_guidance: Whether the guidance scale increases over the steps by default.
        negative_prompt: Default negative prompt.
        text_length: Number of prompt tokens that it reads.
        memory_bytes: Device memory that a job needs, without offloading.
        licence: Licence of the weights.
        licence_url: Where the licence can be read.
        repo: Hugging Face repository; empty if `shipped`.
        revision: Commit that is downloaded (its hash, or at least the first seven digits); empty if `shipped`.
        loader: "module:function" in the backend that creates the pipeline.
        shipped: Whether the weights are part of this package.
        folder: Folder of a registered checkpoint (see `trackshade.config.checkpoints`), otherwise empty.
        key_pictures: Which pictures are propagated to all frames by default: "first-frame" or "video"; see
            `trackshade.config.settings.ShadeSettings`.
    """

    name: str
    title: str
    allowed_frame_counts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    fps: float
    steps: int
    guidance: float
    dynamic_guidance: bool
    negative_prompt: str
    text_length: int
    memory_bytes: int
    licence: str
    licence_url: str
    repo: str
    revision: str
    loader: str
    shipped: bool
    folder: str = ""
    key_pictures: str = "first-frame"

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, whose key "frames" holds `allowed_frame_counts`."""
        data = asdict(self)
        frames = list(data.pop("allowed_frame_counts"))
        return data | {"frames": frames, "sizes": [list(size) for size in self.sizes]}


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
        licence="GPL-3.0-or-later",
        licence_url="https://spdx.org/licenses/GPL-3.0-or-later.html",
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
        licence="CogVideoX License (research; commercial use after registration)",
        licence_url="https://huggingface.co/THUDM/CogVideoX-5b-I2V/blob/main/LICENSE",
        repo="EXCAI/Diffusion-As-Shader",
        revision="53122de",
        loader="trackshade.pipelines.loading:load_diffusers",
        shipped=False,
        key_pictures="video",
    ),
)


def models() -> tuple[ModelSpec, ...]:
    """Returns all models, the embedded one first and registered checkpoints last."""
    return (*_MODELS, *_registered())


def _registered() -> Iterator[ModelSpec]:
    """Yields the registered checkpoints in order, each with the properties of its base model."""
    known = {item.name: item for item in _MODELS}
    for item in checkpoints.list_checkpoints():
        if item.like in known and item.name not in known and checkpoints.NAME.fullmatch(item.name):
            yield replace(
                known[item.like],
                name=item.name,
                title=item.title,
                folder=item.folder,
                shipped=False,
                licence="That of your checkpoint",
                licence_url="",
                repo="",
                revision="",
            )


def spec(name: str) -> ModelSpec:
    """Returns the model with a name.

    Raises:
        ModelError: There is none.
    """
    for item in chain(_MODELS, _registered()):  # checkpoints.json is not read for a built-in model
        if item.name == name:
            return item
    known = ", ".join(item.name for item in models())
    raise ModelError("unknown-model", f"There is no model named '{name}'.", f"Known models: {known}.")


def model_folder(model: ModelSpec) -> Path:
    """Returns the folder of a model's weights, also if they are not downloaded yet."""
    if model.folder:
        return Path(model.folder)
    return (Path(trackshade.__file__).parent / "models" if model.shipped else folders.models_dir()) / model.name


def is_present(model: ModelSpec) -> bool:
    """Returns whether the weights are on this machine, completely downloaded."""
    return (model_folder(model) / "model_index.json").is_file()
