# SPDX-License-Identifier: GPL-3.0-or-later
"""Chooses what draws the frames of a propagation: the processor or a graphics card."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from ctypes import CDLL
from typing import Any

from trackshade.core.errors import UsageError
from trackshade.propagation.drawing import BandDrawer, Drawer
from trackshade.propagation.poses import PoseTable


def find_device(name: str) -> str | None:
    """Return the device of torch that draws frames; None for the processor, also if the device has no memory left.

    Args:
        name: "auto" for the first CUDA device if there is one, "cpu", "cuda", "cuda:N" or "mps"; "torch:cpu" draws with
            torch on the processor, to compare. Frames are drawn in float64, which "mps" does not have: the processor
            draws them there.

    Raises:
        UsageError: torch has no such device.
    """
    if name in ("cpu", "mps") or (name == "auto" and not _has_cuda_driver()):
        return None
    if importlib.util.find_spec("torch") is None:
        if name == "auto":
            return None
        raise UsageError("unknown-device", f"Frames cannot be drawn on {name}: torch is not installed.", "Use cpu.")
    import torch

    if name == "auto" and not torch.cuda.is_available():
        return None
    device = "cuda" if name == "auto" else name.removeprefix("torch:")
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except torch.OutOfMemoryError:
        return None
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UsageError("unknown-device", f"Frames cannot be drawn on {name}: {error}", "Use auto or cpu.") from error
    return device


def _has_cuda_driver() -> bool:
    """Return whether NVIDIA's driver is installed, without importing torch, which takes seconds."""
    try:
        CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def make_drawer(
    table: PoseTable,
    samples: int,
    each: Callable[[Callable[[int], Any], range], Iterator[Any]],
    device: str | None,
) -> Drawer:
    """Return what draws a shot's frames; see `BandDrawer` and `find_device`."""
    drawer = BandDrawer(table, samples, each)
    if device is None:
        return drawer
    from trackshade.propagation.gpu.drawing import TorchDrawer

    return TorchDrawer(table, samples, device, drawer)
