# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls a pipeline of diffusers: seed, steps and their previews, 8-bit frames, and sentences for its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import torch

from ...core.errors import ModelError
from ..diffusion_shader import explain_out_of_memory
from .family import OnStep

Report = Callable[[int, Callable[[], np.ndarray]], None]
"""Receives the steps that are done, and a function that makes a preview, [H, W, 3] uint8; may raise to cancel."""
Decode = Callable[[torch.Tensor], np.ndarray]
"""Decodes one frame of denoised latents, [H, W, 3] uint8."""


def call_pipeline(
    pipeline: Any, report: Report, decode: Decode, seed: int, *, is_latent: bool = False, **arguments: Any
) -> Any:
    """Run a pipeline and return its frames, [T, H, W, 3] uint8 sRGB.

    Args:
        pipeline: The pipeline.
        report: Called after each step.
        decode: Decodes a preview.
        seed: Seed of the CPU generator, so that it means the same on every device.
        is_latent: Whether latents [1, C, L, h, w] are returned instead.
        **arguments: Further arguments of the pipeline.

    Raises:
        ModelError: The pipeline does not take its arguments, or memory does not suffice.
    """
    with explain_errors(), report_steps(pipeline.scheduler, report, decode):
        output = pipeline(
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="latent" if is_latent else "np",
            return_dict=False,
            **arguments,
        )
    return output[0] if is_latent else to_bytes(output[0][0])


def to_bytes(
    frames: np.ndarray,  # [..., 3] 0..1
) -> np.ndarray:
    """Return frames as uint8."""
    return np.rint(255.0 * np.clip(frames, 0.0, 1.0)).astype(np.uint8)


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turn the errors of a pipeline's own checks, and those about memory, into ModelError."""
    with explain_out_of_memory():
        try:
            yield
        except ValueError as error:
            raise ModelError("bad-input", f"The model does not take the shot: {error}") from error


@contextmanager
def report_steps(scheduler: Any, report: Report, decode: Decode) -> Iterator[None]:
    """Call a function after each step that a scheduler does in a block.

    Args:
        scheduler: Scheduler of diffusers; of several components, the one of the video alone.
        report: See `Report`.
        decode: Decodes the estimate of the denoised latents for a preview.
    """
    step, done = scheduler.step, 0

    @wraps(step)
    def reported_step(output: torch.Tensor, timestep: Any, sample: torch.Tensor, *others: Any, **options: Any) -> Any:
        nonlocal done
        result = step(output, timestep, sample, *others, **options)
        done += 1
        report(done, lambda: decode(denoised_estimate(scheduler, output, timestep, sample)))
        return result

    scheduler.step = reported_step
    try:
        yield
    finally:
        del scheduler.step


def report_to(on_step: OnStep, total: int, done: int, preview: Callable[[], np.ndarray]) -> None:
    """Report a step of a video that is made in one pass of `total` steps."""
    on_step(done, total, "", preview)


@torch.no_grad()
def denoised_estimate(scheduler: Any, output: torch.Tensor, timestep: Any, sample: torch.Tensor) -> torch.Tensor:
    """Return the denoised latents that a model's output means at a timestep.

    Args:
        scheduler: Scheduler of diffusers, of flow matching, or with velocities or noise as output.
        output: What the model has predicted.
        timestep: The timestep.
        sample: The noisy latents.
    """
    kind = scheduler.config.get("prediction_type", "flow_prediction")  # flow matching has no name for its own
    output, sample = output.float(), sample.float()
    if kind == "flow_prediction":
        return sample - float(timestep) / scheduler.config.num_train_timesteps * output
    signal = scheduler.alphas_cumprod[int(timestep)].to(sample)
    if kind == "v_prediction":
        return signal.sqrt() * sample - (1 - signal).sqrt() * output
    return (sample - (1 - signal).sqrt() * output) / signal.sqrt()
