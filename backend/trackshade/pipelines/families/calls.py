# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false
"""Calls a pipeline of diffusers: seed, report of steps, 8-bit frames, and sentences for its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.hooks import FirstBlockCacheConfig

from ...core.errors import ModelError
from ..diffusion_shader import explain_out_of_memory


def set_block_cache(transformer: Any, threshold: float) -> None:
    """Let a transformer whose blocks alone change its tokens skip blocks after the first; see `ModelFamily.set_cache`.

    The hooks are made anew, since they compare the first step with the last one of an earlier video otherwise.
    """
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    if threshold:
        transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))


def call_pipeline(
    pipeline: Any, report: Callable[[int], None], seed: int, *, is_latent: bool = False, **arguments: Any
) -> Any:
    """Run a pipeline and return its frames, [T, H, W, 3] uint8 sRGB.

    Args:
        pipeline: The pipeline.
        report: Called with the steps that are done; may raise to cancel.
        seed: Seed of the CPU generator, so that it means the same on every device.
        is_latent: Whether latents [1, C, L, h, w] are returned instead.
        **arguments: Further arguments of the pipeline.

    Raises:
        ModelError: The pipeline does not take its arguments, or memory does not suffice.
    """

    def on_step_end(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        report(step + 1)
        return tensors

    with explain_out_of_memory():
        try:
            output = pipeline(
                generator=torch.Generator("cpu").manual_seed(seed),
                callback_on_step_end=on_step_end,
                output_type="latent" if is_latent else "np",
                return_dict=False,
                **arguments,
            )
        except ValueError as error:  # how the pipelines' own checks tell
            raise ModelError("bad-input", f"The model does not take the shot: {error}") from error
    if is_latent:
        return output[0]
    return np.rint(255.0 * np.clip(output[0][0], 0.0, 1.0)).astype(np.uint8)
