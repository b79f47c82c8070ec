# SPDX-License-Identifier: GPL-3.0-or-later
"""Masks of what boxes hold, by SAM 2 (Ravi et al., Segment Anything in Images and Videos, 2024) of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ModelError
from trackshade.lifting.networks import IMAGENET, find_model, load_model, read_json
from trackshade.shot.lifted import Rectangle

_KINDS = ("sam2", "sam2_video")  # published checkpoints are those of video models, which hold the other one
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
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in _KINDS:
        raise ModelError("wrong-model", f"{name} is a model of the kind {kind!r}.", "Mask models are those of SAM 2.")
    model = load_model(folder, "Sam2Model", _WHAT)
    side = int(model.config.prompt_encoder_config.image_size)
    height, width = colors.shape[:2]
    mean, spread = (np.array(values, np.float32) for values in IMAGENET)
    small = cv2.resize(colors, (side, side), interpolation=cv2.INTER_AREA if side < width else cv2.INTER_LINEAR)
    pixels = ((small.astype(np.float32) / 255 - mean) / spread).transpose(2, 0, 1)[None]
    scaled = np.array(boxes, np.float32).reshape(-1, 4) * np.array([side / width, side / height] * 2, np.float32)
    with torch.inference_mode():
        found = model(
            pixel_values=torch.from_numpy(np.ascontiguousarray(pixels)),
            input_boxes=torch.from_numpy(scaled)[None],
            multimask_output=False,
        ).pred_masks
    logits = found[0, :, 0].float().numpy()
    masks = [cv2.resize(item, (width, height), interpolation=cv2.INTER_LINEAR) > 0 for item in logits]
    return [mask if mask.any() else None for mask in masks]
