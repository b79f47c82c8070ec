# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth networks of transformers: Depth Anything (V1, V2, relative and metric), ZoeDepth, and DPT (MiDaS)."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackshade.core.errors import ModelError
from trackshade.lifting.depth_files import Depth, on_lattice
from trackshade.lifting.networks import IMAGENET, SMALLER, explain_failures, find_model, load_model, read_json
from trackshade.lifting.pictures import Photo

# model_type of the configuration -> class of transformers.
_CLASSES = {
    "depth_anything": "DepthAnythingForDepthEstimation",
    "zoedepth": "ZoeDepthForDepthEstimation",
    "dpt": "DPTForDepthEstimation",
}
_DEFAULT_SIZE = {"depth_anything": (518, 14), "zoedepth": (512, 32), "dpt": (384, 32)}  # pixels, multiple
_FARTHEST = 0.01  # of the nearest inverse depth: what a relative model calls farther is the sky
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

    folder = find_model(name, "depth model")
    config = read_json(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind not in _CLASSES:
        known = ", ".join(_CLASSES)
        raise ModelError("wrong-model", f"{name} is a model of the kind {kind!r}.", f"Depth models are {known}.")
    model = load_model(folder, _CLASSES[kind], "depth model", unused=_UNUSED)
    pixels = torch.from_numpy(_prepared(photo.colors, folder, kind))
    failures = explain_failures(f"The depth model {name}", "Use another one.", SMALLER)
    with failures, torch.inference_mode():
        values = model(pixel_values=pixels).predicted_depth
    depth = values.squeeze(0).float().numpy().astype(np.float64)
    is_metric = kind == "zoedepth" or config.get("depth_estimation_type") == "metric"
    inverse = _inverse(depth, is_metric)
    if not (inverse > 0).any():
        raise ModelError("no-depth", f"The depth model {name} returned no depth.", "Use another one.")
    x, y, inverse = on_lattice(inverse, photo.size, exact=False)
    return Depth(x, y, inverse, metric=is_metric, exact=False)


def _prepared(colors: NDArray[np.uint8], folder: Path, kind: str) -> NDArray[np.float32]:
    """Return the picture [1, 3, h, w] as a network takes it, by its preprocessor_config.json."""
    path = folder / "preprocessor_config.json"
    config = read_json(path) if path.is_file() else {}
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
                    for key, default in zip(("image_mean", "image_std"), IMAGENET, strict=True))  # fmt: skip
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
