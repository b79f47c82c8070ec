# SPDX-License-Identifier: GPL-3.0-or-later
"""What the families on Wan have in common: text embeddings, and the call of a pipeline."""

from __future__ import annotations

import html
import re
from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device

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
