# SPDX-License-Identifier: GPL-3.0-or-later
"""Depth and field of view of a photo by MoGe-2, where its package is installed.

Wang et al., MoGe-2: Accurate Monocular Geometry with Metric Scale and Sharp Details, 2025. Nothing is downloaded.
Weights are a file of the user's own and are read as plain tensors: a file that holds code is refused, and so is one
that lacks a weight or has others.
"""

from __future__ import annotations

import importlib
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import ModelError
from trackshade.lifting.depth_files import Depth, on_lattice
from trackshade.lifting.networks import SMALLER, explain_failures, read_tensors
from trackshade.lifting.pictures import Photo

_CONSTANTS = {"encoder.image_mean", "encoder.image_std"}  # of the colors: the network has them itself
_INSTALL = "Install it in the backend's Python: pip install git+https://github.com/microsoft/MoGe"
_WEIGHTS = "Give model.pt of https://huggingface.co/Ruicheng/moge-2-vits-normal, or of a larger one."


def estimate_metric_depth(photo: Photo, path: Path, fov: float | None) -> tuple[Depth, float]:
    """Estimate the depth of a photo in meters, and its field of view.

    Args:
        photo: the photo.
        path: file of the weights.
        fov: horizontal field of view, degrees; None to estimate it.

    Returns:
        The depth, and the horizontal field of view in degrees.

    Raises:
        ModelError: the package is not installed, or the weights cannot be used.
    """
    import torch

    model = _load(path)
    image = torch.from_numpy(photo.colors).permute(2, 0, 1).float() / 255
    with explain_failures("MoGe-2", _INSTALL, SMALLER):
        with warnings.catch_warnings(action="ignore"):  # that its autocast to float32 does nothing on a processor
            found = model.infer(image, fov_x=fov, use_fp16=False)
        depth = found["depth"].float().cpu().numpy().astype(np.float64)
        focal = float(found["intrinsics"][0, 0])  # relative to the width
    is_known = np.isfinite(depth) & (depth > 0)
    if not is_known.any() or not (math.isfinite(focal) and focal > 0):
        raise ModelError("no-depth", f"The depth model {path} returned no depth.", "Use another one.")
    inverse = np.where(is_known, 1 / np.where(is_known, depth, 1.0), 0.0)
    x, y, inverse = on_lattice(inverse, photo.size, exact=False)
    return Depth(x, y, inverse, metric=True, exact=False), 2 * math.degrees(math.atan(0.5 / focal))


def _load(path: Path) -> Any:
    """Load the network in evaluation mode, on the graphics card if there is one. Raise ModelError."""
    import torch

    state = read_tensors(path, _WEIGHTS)
    try:
        module = importlib.import_module("moge.model.v2")
    except ImportError as error:
        sentence = f"MoGe-2 needs the package moge, which cannot be imported: {error}."
        raise ModelError("no-depth-package", sentence, _INSTALL) from error
    try:
        model = module.MoGeModel(**state["model_config"])
        missing, unknown = model.load_state_dict(state["model"], strict=False)
        if set(missing) - _CONSTANTS or unknown:
            raise ValueError(f"its weights do not fit, such as {(sorted(set(missing) - _CONSTANTS) or unknown)[0]}")
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ModelError("damaged-weights", f"{path} cannot be read: {reason}.", _WEIGHTS) from error
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
