# SPDX-License-Identifier: GPL-3.0-or-later
"""The known image models, which paint a still of one frame from a prompt and the frame's exact depth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from trackshade.core import folders
from trackshade.core.errors import ModelError

DEFAULT_IMAGE_MODEL = "sdxl-depth"


@dataclass(frozen=True)
class ImageModelSpec:
    """Properties of an image model that are needed before it is loaded.

    Attributes:
        name: Identifier, such as "sdxl-depth".
        title: Name shown to the user.
        family: "sd15", "sdxl" or "flux": which pipelines of diffusers run it.
        area: Number of pixels of its training images.
        multiple: Width and height are multiples of this, pixels.
        steps: Default number of denoising steps.
        guidance: Default guidance scale.
        negative_prompt: Default negative prompt.
        memory_bytes: Device memory that a still needs with model offloading, an estimate from the size of the weights.
        license: License of the weights.
        license_url: Where the license can be read.
        repo: Hugging Face repository of the weights; empty if the user has to provide the folder.
        revision: Commit that is downloaded.
        controlnet: Repository and commit of its depth ControlNet.
        folder: Folder of the user's own checkpoint, otherwise empty.
    """

    name: str
    title: str
    family: str
    area: int
    multiple: int
    steps: int
    guidance: float
    negative_prompt: str
    memory_bytes: int
    license: str
    license_url: str
    repo: str = ""
    revision: str = ""
    controlnet: tuple[str, str] = ("", "")
    folder: str = ""

    def size_for(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the (width, height) at which a still of an image of `size` is painted: its aspect, about `area`."""
        scale = math.sqrt(self.area / (size[0] * size[1]))
        width, height = (max(self.multiple, self.multiple * round(n * scale / self.multiple)) for n in size)
        return width, height


_MODELS = (
    ImageModelSpec(
        name="sd15-depth",
        title="Stable Diffusion 1.5 with depth ControlNet",
        family="sd15",
        area=512 * 768,
        multiple=8,
        steps=30,
        guidance=7.5,
        negative_prompt="lowres, blurry, watermark, text, worst quality",
        memory_bytes=5 << 30,
        license="CreativeML Open RAIL-M",
        license_url="https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        repo="stable-diffusion-v1-5/stable-diffusion-v1-5",
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        controlnet=("lllyasviel/control_v11f1p_sd15_depth", "539f99181d33db39cf1af2e517cd8056785f0a87"),
    ),
    ImageModelSpec(
        name="sdxl-depth",
        title="Stable Diffusion XL with depth ControlNet",
        family="sdxl",
        area=1024 * 1024,
        multiple=8,
        steps=30,
        guidance=6.0,
        negative_prompt="lowres, blurry, watermark, text, worst quality",
        memory_bytes=8 << 30,
        license="CreativeML Open RAIL++-M",
        license_url="https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
        repo="stabilityai/stable-diffusion-xl-base-1.0",
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        controlnet=("diffusers/controlnet-depth-sdxl-1.0", "17bb97973f29801224cd66f192c5ffacf82648b4"),
    ),
    ImageModelSpec(
        name="flux-depth",
        title="FLUX.1 Depth [dev] (you download it after accepting its license)",
        family="flux",
        area=1024 * 1024,
        multiple=16,
        steps=30,
        guidance=10.0,
        negative_prompt="",
        memory_bytes=24 << 30,
        license="FLUX.1 [dev] Non-Commercial License",
        license_url="https://huggingface.co/black-forest-labs/FLUX.1-Depth-dev/blob/main/LICENSE.md",
    ),
)


def image_models() -> tuple[ImageModelSpec, ...]:
    """Return all known image models."""
    return _MODELS


def image_model(name: str) -> ImageModelSpec:
    """Return the image model with a name.

    Args:
        name: Name of a known model; or "FAMILY:PATH" for the user's own folder or .safetensors file, such as
            "sdxl:/models/painterly.safetensors".

    Raises:
        ModelError: There is none.
    """
    for item in _MODELS:
        if item.name == name:
            return item
    family, colon, path = name.partition(":")
    base = next((item for item in _MODELS if item.family == family), None)
    if colon and base is not None and path:
        location = Path(path).expanduser().absolute()
        return replace(
            base,
            name=f"{family}-{location.stem}".lower(),
            title=location.stem,
            license="That of your checkpoint",
            license_url="",
            repo="",
            folder=str(location),
        )
    known = ", ".join(item.name for item in _MODELS)
    raise ModelError(
        "unknown-model",
        f"There is no image model named '{name}'.",
        f"Known models: {known}; or sd15:, sdxl: or flux: and the path of your own.",
    )


def image_model_folder(model: ImageModelSpec) -> Path:
    """Return the folder or file of a model's weights, also if they are not downloaded yet."""
    return Path(model.folder) if model.folder else folders.models_dir() / model.name


def controlnet_folder(model: ImageModelSpec) -> Path:
    """Return the folder of the depth ControlNet: the user's own in `controlnet`, else that of the known model."""
    own = image_model_folder(model) / "controlnet"
    known = next(item for item in _MODELS if item.family == model.family)
    return own if own.is_dir() else folders.models_dir() / f"{known.name}-controlnet"


def is_image_model_present(model: ImageModelSpec) -> bool:
    """Return whether the weights are on this machine, completely downloaded."""
    if model.folder:
        return Path(model.folder).exists()
    parts = [image_model_folder(model) / "model_index.json"]
    if model.controlnet[0]:
        parts.append(controlnet_folder(model) / "config.json")
    return all(part.is_file() for part in parts)
