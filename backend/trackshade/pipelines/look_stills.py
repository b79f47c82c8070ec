# SPDX-License-Identifier: GPL-3.0-or-later
"""Stills of one frame by image models that read its exact depth: the look of a shot, before anything long is rendered.

`LookPipeline` wraps diffusers' depth ControlNet pipelines (Stable Diffusion 1.5 and XL) and FLUX.1 Depth. One set of
weights serves three uses: from the prompt alone; from an image, such as the scene's own render, changed by `strength`;
and within a mask, such as what propagation has left unseen.

Only the classes named here are built, so a checkpoint never brings code, and only safetensors files are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..config.image_models import ImageModelSpec, controlnet_folder, image_model_folder, image_models
from ..control.scene import ShotRaster
from ..core.errors import ModelError
from ..models.checkpoint import INDEX, check_strictly, read_json
from ..shot import Shot
from ..shot.fitting import resize_shot, sample_shot

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Family:
    """Names of diffusers' classes for a family of models, and of the components that a checkpoint has to have."""

    base: str
    from_prompt: str
    from_image: str
    within_mask: str
    components: tuple[str, ...]
    networks: tuple[str, ...]  # components whose weights are compared with their class before loading


_SD_CLASSES = {"StableDiffusion": "sd15", "StableDiffusionXL": "sdxl"}
_FAMILIES = {
    family: _Family(
        f"{name}Pipeline",
        f"{name}ControlNetPipeline",
        f"{name}ControlNetImg2ImgPipeline",
        f"{name}ControlNetInpaintPipeline",
        ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
        + (("text_encoder_2", "tokenizer_2") if family == "sdxl" else ()),
        ("vae", "unet"),
    )
    for name, family in _SD_CLASSES.items()
} | {
    "flux": _Family(
        "FluxControlPipeline",
        "FluxControlPipeline",
        "FluxControlImg2ImgPipeline",
        "FluxControlInpaintPipeline",
        ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer", "scheduler"),
        ("vae", "transformer"),
    )
}
_CLASSES = {
    *("AutoencoderKL", "UNet2DConditionModel", "FluxTransformer2DModel", "CLIPTextModel", "T5EncoderModel"),
    *("CLIPTextModelWithProjection", "CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast"),
    *("PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
    *("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "LMSDiscreteScheduler"),
    *("FlowMatchEulerDiscreteScheduler", "PreTrainedTokenizerFast", "TokenizersBackend"),
}


def depth_image(shot: Shot, t: int, size: tuple[int, int]) -> np.ndarray:
    """Return the depth of a frame as the image models expect it.

    Args:
        shot: The shot.
        t: The sample.
        size: (width, height) of the image, pixels.

    Returns:
        [h, w, 3] uint8 gray: inverse depth, white at the nearest surface and black at the farthest and where nothing
        is.
    """
    depth = ShotRaster(resize_shot(sample_shot(shot, [t]), size)).draw(0).depth
    with np.errstate(divide="ignore"):
        inverse = np.where(np.isfinite(depth), 1.0 / depth, 0.0)
    seen = inverse > 0
    if not seen.any():
        return np.zeros((*depth.shape, 3), np.uint8)
    low, high = inverse[seen].min(), inverse[seen].max()
    low = 0.0 if not seen.all() else low  # black is kept for what is infinitely far
    gray = np.rint(255.0 * np.clip((inverse - low) / max(high - low, 1e-12), 0.0, 1.0))
    return np.repeat(np.where(seen, gray, 0.0).astype(np.uint8)[..., None], 3, axis=-1)


class LookPipeline:
    """Paints stills of a frame.

    Attributes:
        spec: The model.
        pipe: diffusers' pipeline from a prompt and a depth image.
    """

    def __init__(self, spec: ImageModelSpec, pipe: Any) -> None:
        self.spec = spec
        self.pipe = pipe
        pipe.set_progress_bar_config(disable=True)

    @classmethod
    def load(
        cls,
        spec: ImageModelSpec,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        offload: bool = True,
        loras: Sequence[tuple[Path, float]] = (),
        progress: Callable[[float, str], None] = lambda share, what: None,
    ) -> LookPipeline:
        """Load a model from its folder, or from a single .safetensors file.

        Args:
            spec: The model.
            device: Device of torch. None: the best one of this machine.
            dtype: Precision. None: float32 on a CPU, else bfloat16 for FLUX and float16 for the others.
            offload: Keep only the component at work on the device. Without effect on a CPU.
            loras: LoRA files (.safetensors) and their strengths.
            progress: Called with the share that is done and what is being done.

        Raises:
            ModelError: The weights are missing, damaged, of another family or not safetensors.
        """
        progress(0.0, "starting torch")
        import torch

        from .diffusion_shader import explain_out_of_memory
        from .loading import default_device

        device = device or default_device()
        on_cpu = torch.device(device).type == "cpu"
        if dtype is None:
            dtype = torch.float32 if on_cpu else torch.bfloat16 if spec.family == "flux" else torch.float16
        progress(0.1, f"loading {spec.name}")
        with explain_out_of_memory():
            pipe = _load(spec, dtype)
            for number, (path, _) in enumerate(loras):
                _load_lora(pipe, path, f"lora{number}")
            if loras:
                pipe.set_adapters([f"lora{n}" for n in range(len(loras))], [strength for _, strength in loras])
            progress(0.8, f"moving {spec.name} to {device}")
            if on_cpu or not offload:
                pipe.to(device)
            else:
                pipe.enable_model_cpu_offload(device=device)
        progress(1.0, "ready")
        return cls(spec, pipe)

    def paint(
        self,
        prompt: str,
        depth: np.ndarray,  # [h, w, 3] uint8, see `depth_image`
        seeds: Sequence[int],
        *,
        image: np.ndarray | None = None,  # [h, w, 3] uint8 sRGB
        mask: np.ndarray | None = None,  # [h, w] bool
        strength: float = 0.8,
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        control_scale: float = 1.0,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[np.ndarray]:
        """Paint a still for each seed.

        Args:
            prompt: What the frame looks like.
            depth: Depth of the frame at the size that is painted.
            seeds: Random seeds; each still depends on its own seed alone.
            image: Image to start from; None to start from noise.
            mask: Which pixels of `image` are painted anew; None for all.
            strength: How far an image is changed: 0 not at all, 1 as if it were not there.
            negative_prompt: What it does not look like; None for the model's own. FLUX reads none.
            steps: Number of denoising steps; None for the model's own.
            guidance: Guidance scale; None for the model's own.
            control_scale: Strength of the depth: 1 as in training. FLUX has none.
            on_step: Called after each step with the steps done and the steps of all stills; may raise to cancel.

        Yields:
            [h, w, 3] uint8 sRGB. Pixels outside of `mask` are those of `image`.

        Raises:
            ModelError: The sizes do not agree, or there is a mask without an image.
        """
        import torch

        height, width = depth.shape[:2]
        for name, given in (("image", image), ("mask", mask)):
            if given is not None and given.shape[:2] != (height, width):
                raise ModelError(
                    "bad-input", f"The {name} is {given.shape[1]} × {given.shape[0]}, the depth {width} × {height}."
                )
        if mask is not None and image is None:
            raise ModelError("bad-input", "A mask needs the image that it belongs to.")
        family = _FAMILIES[self.spec.family]
        steps = self.spec.steps if steps is None else steps
        control = Image.fromarray(depth)
        options: dict[str, Any] = {
            "height": height,
            "width": width,
            "num_inference_steps": steps,
            "guidance_scale": self.spec.guidance if guidance is None else guidance,
            "output_type": "np",
        }
        if self.spec.family != "flux":
            negative = self.spec.negative_prompt if negative_prompt is None else negative_prompt
            options |= {"negative_prompt": negative, "controlnet_conditioning_scale": float(control_scale)}
        if image is None:
            pipe = self.pipe
            options["control_image" if self.spec.family == "flux" else "image"] = control
        else:
            pipe = _variant(self.pipe, family.from_image if mask is None else family.within_mask)
            options |= {"image": Image.fromarray(image), "control_image": control, "strength": strength}
            if mask is not None:
                options["mask_image"] = Image.fromarray(mask.astype(np.uint8) * 255)
        for number, seed in enumerate(seeds):

            def report(at: Any, step: int, _: Any, tensors: dict[str, Any], number: int = number) -> dict[str, Any]:
                on_step(number * at.num_timesteps + step + 1, len(seeds) * at.num_timesteps)
                return tensors

            generator = torch.Generator("cpu").manual_seed(seed)
            painted = pipe(prompt, generator=generator, callback_on_step_end=report, **options).images[0]
            still = np.rint(255.0 * np.clip(painted, 0.0, 1.0)).astype(np.uint8)
            yield still if mask is None or image is None else np.where(mask[..., None], still, image)


def _variant(pipe: Any, class_name: str) -> Any:
    """Return another pipeline of the same components, which shares the weights."""
    import diffusers

    variant = getattr(diffusers, class_name).from_pipe(pipe)
    variant.set_progress_bar_config(disable=True)
    return variant


def _load(spec: ImageModelSpec, dtype: torch.dtype) -> Any:
    import diffusers

    family, location = _FAMILIES[spec.family], image_model_folder(spec)
    if not location.exists():
        raise ModelError(
            "missing-weights", f"The weights of {spec.name} are not on this machine: {location}.", _how_to_get(spec)
        )
    options: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True}
    if spec.family != "flux":
        options["controlnet"] = _load_controlnet(spec, dtype)
        if spec.family == "sd15":
            options |= {"safety_checker": None, "requires_safety_checker": False}
    cls = getattr(diffusers, family.from_prompt)
    try:
        if location.is_file():
            _require_safetensors(location)
            return cls.from_single_file(str(location), config=str(_layout_folder(spec)), **options)
        _check_index(location, family)
        if any(location.glob("*/*.fp16.safetensors")):
            options["variant"] = "fp16"
        for name in family.networks:
            check_strictly(getattr(diffusers, read_json(location / INDEX)[name][1]), location / name)
        return cls.from_pretrained(location, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            "damaged-weights", f"{spec.title} in {location} cannot be loaded: {error}", "Download the model again."
        ) from error


def _how_to_get(spec: ImageModelSpec) -> str:
    """Return how the user gets the weights of a model."""
    if spec.repo:
        return f"Download it with `trackshade models fetch {spec.name}`."
    if spec.folder:
        return "Choose another folder."
    return f"Accept its license on {spec.license_url}, and download it to that folder."


def _load_controlnet(spec: ImageModelSpec, dtype: torch.dtype) -> Any:
    from diffusers.models.controlnets.controlnet import ControlNetModel

    folder = controlnet_folder(spec)
    if not folder.is_dir():
        known = next(item for item in image_models() if item.family == spec.family)
        fix = f"Download it with `trackshade models fetch {known.name}`."
        raise ModelError("missing-weights", f"The depth ControlNet is not on this machine: {folder}.", fix)
    check_strictly(ControlNetModel, folder)
    variant = "fp16" if any(folder.glob("*.fp16.safetensors")) else None
    return ControlNetModel.from_pretrained(
        folder, torch_dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True
    )


def _layout_folder(spec: ImageModelSpec) -> Path:
    """Return the folder of the known model of a family, whose configurations a single file is loaded with."""
    folder = image_model_folder(next(item for item in image_models() if item.family == spec.family))
    if not (folder / INDEX).is_file():
        raise ModelError(
            "missing-weights",
            f"A single file of the family {spec.family} needs the configurations of the downloaded model: {folder}.",
            "Download the model of this family, or choose a folder in diffusers' layout.",
        )
    return folder


def _check_index(folder: Path, family: _Family) -> None:
    if not (folder / INDEX).is_file():
        raise ModelError(
            "not-a-checkpoint",
            f"{folder} has no {INDEX}.",
            "Choose a folder in diffusers' layout, or a single .safetensors file.",
        )
    index = read_json(folder / INDEX)
    for name in family.components:
        entry = index.get(name)
        class_name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        if class_name not in _CLASSES:
            raise ModelError(
                "wrong-weights",
                f"The {name} in {folder / INDEX} is {class_name}, which a {family.base} does not have.",
                "Choose a checkpoint of the right family.",
            )


def _load_lora(pipe: Any, path: Path, adapter: str) -> None:
    _require_safetensors(path)
    try:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=adapter, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            "damaged-weights", f"The LoRA {path} cannot be loaded: {error}", "Choose one made for this model."
        ) from error


def _require_safetensors(path: Path) -> None:
    if not path.is_file() or path.suffix != ".safetensors":
        raise ModelError("wrong-weights", f"{path} is not a .safetensors file.", "Other formats can carry code.")
