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
from torch import nn

from ..models import PatchAutoencoder, TrackingTransformer3DModel, track_coordinates
from .data import Clip, generate_clip
from .latents import encode, first_only, make_scheduler, to_unit
from .text import tokenize

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # sample [B, ...], timestep [B] -> velocity [B, ...]


def held_out(count: int, size: tuple[int, int] = (96, 64), frames: int = 9) -> list[Clip]:
    """The clips that sheets show: the first seeds of the held-out split."""
    return [generate_clip(seed, size, frames, split="held-out") for seed in range(count)]


def denoise(predict: Predict, scheduler: Any, shape: Sequence[int], steps: int, seed: int, device: Any) -> torch.Tensor:
    """Latents of `shape` out of noise by DDIM, without guidance."""
    scheduler.set_timesteps(steps)
    sample = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed)).to(device)
    for t in scheduler.timesteps:
        velocity = predict(sample, t.expand(len(sample)).to(device))
        sample = scheduler.step(velocity.float(), int(t), sample, return_dict=False)[0]
    return sample


@torch.no_grad()
def generate(
    transformer: TrackingTransformer3DModel,
    text_encoder: nn.Module,
    vae: PatchAutoencoder,
    tokenizer,
    clips: list[Clip],
    trackings: list[np.ndarray],
    steps: int = 8,
    seed: int = 0,
    bf16: bool = True,
) -> np.ndarray:
    """[N, T, H, W, 3] 8-bit: each clip's first frame moved by its entry of `trackings`, without guidance."""
    device = vae.device
    tracking = np.stack(trackings)
    latents = encode(vae, np.stack([clip.video for clip in clips]))
    tracks = encode(vae, tracking)
    image, maps = first_only(latents), torch.cat([tracks, first_only(tracks)], dim=2)
    coordinates = track_coordinates(torch.from_numpy(tracking).permute(0, 1, 4, 2, 3).to(device).float() / 255)
    tokens = tokenize(tokenizer, [clip.caption for clip in clips], transformer.config.max_text_seq_length).to(device)

    def predict(sample: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return transformer(
                torch.cat([sample, image], dim=2),
                text_encoder(tokens)[0],
                timesteps,
                tracking_maps=maps,
                track_coordinates=coordinates,
            ).sample

    sample = denoise(predict, make_scheduler(), latents.shape, steps, seed, device)
    return to_bytes(vae.decode(sample.transpose(1, 2) / vae.config.scaling_factor).sample)


def to_bytes(decoded: torch.Tensor) -> np.ndarray:
    """[B, 3, T, H, W] in -1..1 -> [B, T, H, W, 3] 8-bit."""
    return ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()


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
    errors = [
        ((to_unit(c.video[1:]) - to_unit(g[1:])) ** 2).mean().item() / 4 for c, g in zip(clips, generated, strict=False)
    ]
    return float(np.mean([-10 * np.log10(max(e, 1e-12)) for e in errors]))
