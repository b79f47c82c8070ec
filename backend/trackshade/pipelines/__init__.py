# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline: prompt, first frame and tracking video in, frames out."""

from .diffusion_shader import DiffusionShaderOutput, DiffusionShaderPipeline

__all__ = ["DiffusionShaderOutput", "DiffusionShaderPipeline"]
