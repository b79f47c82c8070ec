# SPDX-License-Identifier: GPL-3.0-or-later
# The package may be missing, and has no types.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""LPIPS (Zhang et al. 2018) where the package and its weights are on this machine; nothing is fetched."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], float]  # of two videos [T, H, W, 3] uint8
_WEIGHTS = "alexnet-owt-*.pth"


def find_lpips(device: str = "cpu") -> tuple[Distance | None, str]:
    """The measure, or None, and a sentence that says which, for reports."""
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return None, f"LPIPS was not measured: the package {package} is not installed."
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not list(folder.glob(_WEIGHTS)):
        return None, f"LPIPS was not measured: AlexNet's weights ({_WEIGHTS}) are not in {folder}."
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False).eval().to(device)
    return _distance(network, device), "LPIPS: AlexNet, mean over the frames after the first; lower is nearer."


def _distance(network, device: str) -> Distance:
    import torch

    def unit(video: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2).float().to(device) / 127.5 - 1

    @torch.no_grad()
    def distance(truth: np.ndarray, made: np.ndarray) -> float:
        return float(network(unit(truth), unit(made)).mean())

    return distance
