# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth networks of transformers: Depth Anything (V1, V2, relative and metric), ZoeDepth, and DPT (MiDaS).

A model is a folder or the identifier of one that is in the cache of Hugging Face; nothing is downloaded, no code comes
with a checkpoint, and weights are read from safetensors only.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ModelError
from trackshade.lifting.depth_files import Depth, on_lattice
from trackshade.lifting.pictures import Photo

# model_type of the configuration -> class of transformers.
_CLASSES = {
    "depth_anything": "DepthAnythingForDepthEstimation",
    "zoedepth": "ZoeDepthForDepthEstimation",
    "dpt": "DPTForDepthEstimation",
}
_DEFAULT_SIZE = {"depth_anything": (518, 14), "zoedepth": (512, 32), "dpt": (384, 32)}  # pixels, multiple
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FARTHEST = 0.01  # of the nearest inverse depth: what a relative model calls farther is the sky
_WEIGHTS = "model.safetensors"
_UNUSED = "fusion_stage.layers.0.residual_layer1"  # which published DPT checkpoints lack


def estimate_depth(photo: Photo, name: str) -> Depth:
    """Estimate the depth of a photo.

    Args:
        photo: the photo.
        name: folder of the model, or its identifier, such as "depth-anything/Depth-Anything-V2-Small-hf".

    Raises:
        ModelError: the model is not on this machine, is of another kind, or cannot be loaded.
    """
    import torch

    folder = find_model(name)
    config = _read_json(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind not in _CLASSES:
        known = ", ".join(_CLASSES)
        raise ModelError("wrong-model", f"{name} is a model of the kind {kind!r}.", f"Depth models are {known}.")
    model = _load(folder, _CLASSES[kind])
    pixels = torch.from_numpy(_prepared(photo.colors, folder, kind))
    with torch.inference_mode():
        values = model(pixel_values=pixels).predicted_depth
    depth = values.squeeze(0).float().numpy().astype(np.float64)
    is_metric = kind == "zoedepth" or config.get("depth_estimation_type") == "metric"
    inverse = _inverse(depth, is_metric)
    if not (inverse > 0).any():
        raise ModelError("no-depth", f"The depth model {name} returned no depth.", "Use another one.")
    x, y, inverse = on_lattice(inverse, photo.size, exact=False)
    return Depth(x, y, inverse, metric=is_metric, exact=False)


def _load(folder: Path, class_name: str) -> Any:
    """Load a model in evaluation mode. Raise ModelError if it is damaged or weights are missing."""
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, facts = getattr(transformers, class_name).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        missing = [key for key in facts["missing_keys"] if _UNUSED not in key]
        if missing:
            raise ValueError(f"its weights lack {missing[0]}")
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = f"The depth model {folder} cannot be loaded: " + str(error).partition("\n")[0]
        raise ModelError("damaged-model", reason, "Fetch it again.") from error
    return model.eval()


def find_model(name: str) -> Path:
    """Return the folder of a model. Raise ModelError if it is not on this machine or has no safetensors."""
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError) as error:
            raise ModelError(
                "missing-weights",
                f"The depth model {name} is not on this machine.",
                f"Fetch it with 'hf download {name}', or give the folder that holds it.",
            ) from error
    if not (folder / _WEIGHTS).is_file():
        raise ModelError("missing-weights", f"{folder} holds no {_WEIGHTS}.", "Only safetensors are loaded.")
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise ModelError("damaged-model", f"{path} cannot be read: {error}.", "Fetch the model again.") from error
    return values


def _prepared(colors: NDArray[np.uint8], folder: Path, kind: str) -> NDArray[np.float32]:
    """Return the picture [1, 3, h, w] as a network takes it, by its preprocessor_config.json."""
    path = folder / "preprocessor_config.json"
    config = _read_json(path) if path.is_file() else {}
    side, multiple = _DEFAULT_SIZE[kind]
    size = config.get("size")
    width, height = (
        (int(size.get(key, side)) for key in ("width", "height")) if isinstance(size, dict) else (side, side)
    )
    multiple = int(config.get("ensure_multiple_of") or multiple)
    rows, columns = colors.shape[:2]
    if config.get("keep_aspect_ratio", kind != "dpt"):
        # The side whose scale changes less decides, as in transformers.
        scale = min(width / columns, height / rows, key=lambda value: abs(1 - value))
        width, height = scale * columns, scale * rows
    width, height = (max(multiple, multiple * round(value / multiple)) for value in (width, height))
    mean, spread = (np.array(config.get(key) or default, np.float32)
                    for key, default in zip(("image_mean", "image_std"), _IMAGENET, strict=True))  # fmt: skip
    area = math.sqrt(width * height / (rows * columns))
    method = cv2.INTER_AREA if area < 1 else cv2.INTER_CUBIC
    small = cv2.resize(colors, (width, height), interpolation=method).astype(np.float32) / 255
    return np.ascontiguousarray(((small - mean) / spread).transpose(2, 0, 1)[None])


def _inverse(depth: NDArray[np.float64], is_metric: bool) -> NDArray[np.float64]:
    """Return 1 / z, or its multiple, of what a network returns: metres, or inverse depth of any scale."""
    depth = np.where(np.isfinite(depth), depth, 0.0)
    if is_metric:
        return np.where(depth > 0, 1 / np.where(depth > 0, depth, 1.0), 0.0)
    depth = depth - min(0.0, float(depth.min()))
    return np.where(depth > _FARTHEST * depth.max(), depth, 0.0)
