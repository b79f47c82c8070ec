# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""Sample sheets: for held-out clips the truth, what the averaged weights generate, and the tracking video, frame by
frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from trackshade.core.images import psnr
from trackshade.pipelines import DiffusionShaderPipeline

from ..scenes import Clip, generate_clip

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # sample [B, ...], timestep [B] -> velocity [B, ...]


def held_out(count: int, size: tuple[int, int] = (96, 64), frames: int = 9, control: str = "mesh") -> list[Clip]:
    """The clips that sheets show: the first seeds of the held-out split."""
    return [generate_clip(seed, size, frames, split="held-out", control=control) for seed in range(count)]


def denoise(predict: Predict, scheduler: Any, shape: Sequence[int], steps: int, seed: int, device: Any) -> torch.Tensor:
    """Latents of `shape` out of noise by DDIM, without guidance."""
    scheduler.set_timesteps(steps)
    sample = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)).to(device)
    for t in scheduler.timesteps:
        velocity = predict(sample, t.expand(len(sample)).to(device))
        sample = scheduler.step(velocity.float(), int(t), sample, return_dict=False)[0]
    return sample


def generate(
    pipeline: DiffusionShaderPipeline, clips: list[Clip], trackings: list[np.ndarray], seed: int = 0, bf16: bool = True
) -> np.ndarray:
    """[N, T, H, W, 3] 8-bit: each clip's first frame moved by its entry of `trackings`, in one step."""
    with torch.autocast(pipeline.vae.device.type, torch.bfloat16, enabled=bf16):
        made = pipeline(
            [clip.caption for clip in clips],
            image=np.stack([clip.video[0] for clip in clips]),
            tracking_video=np.stack(trackings),
            num_inference_steps=1,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(seed),
            output_type="uint8",
        )
    return made.frames


def sheet_picture(clips: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """[H, W, 3] 8-bit: the videos of each clip (truth, generated, tracking) one below the other, frames from left to
    right.
    """
    return np.concatenate([np.concatenate(list(video), axis=1) for videos in clips for video in videos])


def write_picture(path: Path, picture: np.ndarray) -> None:
    """PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def mean_psnr(clips: list[Clip], generated: np.ndarray) -> float:
    """Mean over clips, of the frames after the first."""
    return float(np.mean([psnr(c.video[1:], g[1:]) for c, g in zip(clips, generated, strict=False)]))
