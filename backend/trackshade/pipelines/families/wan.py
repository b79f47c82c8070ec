# SPDX-License-Identifier: GPL-3.0-or-later
"""What the families on Wan have in common: text embeddings, and decoding."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import get_module_execution_device

from .calls import to_bytes

TEXT_ENCODERS = ("UMT5EncoderModel", "T5EncoderModel")


@torch.no_grad()
def encode_text(pipeline: Any, text: str, length: int) -> torch.Tensor:
    """Return embeddings [1, length, E] of a text; those of the padding are zero.

    Wan's pipelines in diffusers clean texts by a package that is not needed otherwise. Here, entities of HTML are
    decoded and white space is joined.
    """
    cleaned = re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()
    tokens = pipeline.tokenizer(
        [cleaned],
        padding="max_length",
        max_length=length,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    encoder = pipeline.text_encoder
    device = get_module_execution_device(encoder)
    mask = tokens.attention_mask.to(device)
    embeds = encoder(tokens.input_ids.to(device), mask).last_hidden_state
    return embeds * mask[..., None].to(embeds.dtype)


def text_arguments(pipeline: Any, prompt: str, negative_prompt: str, guidance: float, length: int) -> dict[str, Any]:
    """Return the text arguments of a call: embeddings of the prompt and, with guidance, of the negative prompt."""
    arguments = {"prompt_embeds": encode_text(pipeline, prompt, length)}
    if guidance > 1:
        arguments["negative_prompt_embeds"] = encode_text(pipeline, negative_prompt, length)
    return arguments


@torch.no_grad()
def decode_latents(
    pipeline: Any,
    latents: torch.Tensor,  # [1, C, L, h, w]
) -> torch.Tensor:
    """Return decoded latents, [1, 3, T, H, W] in -1..1."""
    config = pipeline.vae.config
    shape = (1, config.z_dim, 1, 1, 1)
    mean, std = (torch.tensor(value).view(shape).to(latents) for value in (config.latents_mean, config.latents_std))
    return pipeline.vae.decode((latents * std + mean).to(pipeline.vae.dtype), return_dict=False)[0]


def preview_frame(
    pipeline: Any,
    latents: torch.Tensor,  # [1, C, L, h, w]
    skipped: int = 0,
) -> np.ndarray:
    """Return the middle frame of latents, decoded alone (which is approximate), [H, W, 3] uint8.

    Args:
        pipeline: The pipeline, whose autoencoder is Wan's.
        latents: Denoised latents.
        skipped: Latent frames at the beginning that are no frames of the video, such as those of references.
    """
    middle = skipped + (latents.shape[2] - skipped) // 2
    frame = decode_latents(pipeline, latents[:, :, middle : middle + 1])[0, :, 0]
    return to_bytes((frame.permute(1, 2, 0).float().cpu().numpy() + 1.0) / 2.0)
