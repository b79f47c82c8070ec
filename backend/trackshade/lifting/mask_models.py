# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of what boxes hold, by networks of transformers.

SAM 2 (Ravi et al., Segment Anything in Images and Videos, 2024) and EdgeTAM (Zhou et al., On-Device Track Anything
Model, 2025), whose published checkpoints need the package timm besides.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ModelError
from trackshade.lifting.networks import IMAGENET, SMALLER, explain_failures, find_model, load_model, read_json
from trackshade.shot.lifted import Rectangle

# model_type of the configuration -> class of transformers. Published checkpoints are those of video models, which hold
# the model for pictures.
_CLASSES = {
    "sam2": "Sam2Model",
    "sam2_video": "Sam2Model",
    "edgetam": "EdgeTamModel",
    "edgetam_video": "EdgeTamModel",
}
_WHAT = "mask model"


def segment(colors: NDArray[np.uint8], boxes: Sequence[Rectangle], name: str) -> list[NDArray[np.bool_] | None]:
    """Find what boxes of a picture hold.

    Args:
        colors: [h, w, 3] sRGB.
        boxes: left, top, right and bottom, pixels of `colors`.
        name: folder of the model, or its identifier, such as "facebook/sam2.1-hiera-tiny".

    Returns:
        [h, w] where the thing in each box is seen; None if there is none.

    Raises:
        ModelError: the model is not on this machine, is of another kind, or cannot be loaded.
    """
    import torch

    folder = find_model(name, _WHAT)
    config = read_json(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind not in _CLASSES:
        fix = "Mask models are those of SAM 2 and EdgeTAM."
        raise ModelError("wrong-model", f"{name} is a model of the kind {kind!r}.", fix)
    if _needs_timm(config) and importlib.util.find_spec("timm") is None:
        fix = "Install it in the backend's Python (pip install timm), or use SAM 2."
        raise ModelError("no-timm", f"{name} needs the package timm.", fix)
    model = load_model(folder, _CLASSES[kind], _WHAT)
    side = int(model.config.prompt_encoder_config.image_size)
    height, width = colors.shape[:2]
    mean, spread = (np.array(values, np.float32) for values in IMAGENET)
    small = cv2.resize(colors, (side, side), interpolation=cv2.INTER_AREA if side < width else cv2.INTER_LINEAR)
    pixels = ((small.astype(np.float32) / 255 - mean) / spread).transpose(2, 0, 1)[None]
    scaled = np.array(boxes, np.float32).reshape(-1, 4) * np.array([side / width, side / height] * 2, np.float32)
    failures = explain_failures(f"The mask model {name}", "Use another one.", SMALLER)
    with failures, torch.inference_mode():
        found = model(
            pixel_values=torch.from_numpy(np.ascontiguousarray(pixels)),
            input_boxes=torch.from_numpy(scaled)[None],
            multimask_output=False,
        ).pred_masks
    logits = found[0, :, 0].float().numpy()
    masks = [cv2.resize(item, (width, height), interpolation=cv2.INTER_LINEAR) > 0 for item in logits]
    return [mask if mask.any() else None for mask in masks]


def _needs_timm(config: dict[str, Any]) -> bool:
    """Return whether a network's vision part comes from timm, as that of EdgeTAM does where nothing else is said."""
    vision = config.get("vision_config") or {}
    backbone = vision.get("backbone_config") or {}
    default = "timm_wrapper" if "edgetam" in str(config.get("model_type")) else ""
    return str(backbone.get("model_type", default)).startswith("timm")
