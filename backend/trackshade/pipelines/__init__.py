# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline: prompt, first frame and tracking video in, a video out; and its loading by a registry entry.

The pipeline class is imported on first use: that weights are missing is found without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .diffusion_shader import DiffusionShaderOutput, DiffusionShaderPipeline

__all__ = ["DiffusionShaderOutput", "DiffusionShaderPipeline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import diffusion_shader

    return getattr(diffusion_shader, name)
