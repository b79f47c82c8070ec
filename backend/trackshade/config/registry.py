# SPDX-License-Identifier: GPL-3.0-or-later
"""The models that Trackshade knows: what each takes, needs and may be used for. Loading them is `trackshade.models`."""

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
    """Facts about a model that are needed before it is loaded.

    Attributes:
        allowed_frame_counts: numbers of frames that it takes.
        sizes: image sizes (width, height) that it takes, pixels.
        fps: rate that its training clips play at.
        steps, guidance, dynamic_guidance: sampling defaults.
        negative_prompt: the default.
        text_length: tokens of prompt that it reads.
        memory_bytes: device memory that a job needs, without offloading.
        licence, licence_url: of the weights.
        repo, revision: hub repository and the commit that is fetched (its hash, or the first seven digits or more);
            empty where `shipped`.
        loader: "module:function" in the backend that makes the pipeline.
        shipped: the weights are in this package.
        folder: of a checkpoint of the user's own (see `trackshade.config.checkpoints`), else empty.
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

    def to_dict(self) -> dict[str, Any]:
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
    ),
)


def models() -> tuple[ModelSpec, ...]:
    """All known models, the embedded one first, the user's own checkpoints last."""
    return (*_MODELS, *_own())


def _own() -> Iterator[ModelSpec]:
    """The user's own checkpoints, in the order in which they were registered: each with the facts of the known model
    that it is like.
    """
    known = {item.name: item for item in _MODELS}
    for item in checkpoints.checkpoints():
        if item.like in known and item.name not in known and checkpoints.NAME.fullmatch(item.name):
            yield replace(
                known[item.like], name=item.name, title=item.title, folder=item.folder, shipped=False,
                licence="That of your checkpoint", licence_url="", repo="", revision="",
            )  # fmt: skip


def spec(name: str) -> ModelSpec:
    """The model of that name.

    Raises:
        ModelError: there is none.
    """
    for item in chain(_MODELS, _own()):  # no file is read for a model that is known
        if item.name == name:
            return item
    known = ", ".join(item.name for item in models())
    raise ModelError("unknown-model", f"There is no model named '{name}'.", f"Known models: {known}.")


def model_folder(model: ModelSpec) -> Path:
    """Where the weights of a model are, or will be once fetched."""
    if model.folder:
        return Path(model.folder)
    return (Path(trackshade.__file__).parent / "models" if model.shipped else folders.models_dir()) / model.name


def is_present(model: ModelSpec) -> bool:
    """Whether the weights are on this machine (fetched whole, not merely begun)."""
    return (model_folder(model) / "model_index.json").is_file()
