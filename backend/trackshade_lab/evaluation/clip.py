# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIP's measures of videos: how alike consecutive frames are, and how well frames fit a text.

Both stand in published tables (CCEdit, TokenFlow, Diffusion as Shader): Tem-Con is the mean cosine similarity of the
embeddings of consecutive frames, Text-Ali 100 times the mean cosine similarity of frames and text. CLIP (Radford et al.
2021) is used if it is installed; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from trackshade.core.errors import ModelError

DEFAULT = "openai/clip-vit-base-patch32"
_BATCH = 16

ClipMeasure = Callable[[np.ndarray, str | None], dict[str, float]]
"""Returns "tem_con" of a video [T, H, W, 3] uint8, and "text_ali" if there is a text."""


def find_clip(name: str | None) -> tuple[ClipMeasure | None, str]:
    """Load a CLIP that is on this machine.

    Args:
        name: its folder, or its name on the hub; None for `DEFAULT`, if it is in the hub's cache.

    Returns:
        The measure or None, and a sentence about it for reports.

    Raises:
        ModelError: the model that was named cannot be loaded.
    """
    from transformers import CLIPModel, CLIPProcessor

    try:
        model = CLIPModel.from_pretrained(name or DEFAULT, local_files_only=True, use_safetensors=True)
        processor = CLIPProcessor.from_pretrained(name or DEFAULT, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        if name is None:
            return None, f"Tem-Con and Text-Ali were not measured: {DEFAULT} is not installed."
        raise ModelError(
            "bad-clip",
            f"CLIP cannot be loaded from {name}: {str(error).splitlines()[0]}",
            "Give a folder that holds a CLIP model of transformers: config.json, model.safetensors, the tokenizer and "
            "preprocessor_config.json.",
        ) from error
    network = model.eval()

    @torch.no_grad()
    def measure(video: np.ndarray, text: str | None = None) -> dict[str, float]:
        parts = []
        for start in range(0, len(video), _BATCH):
            inputs = processor(images=list(video[start : start + _BATCH]), return_tensors="pt")
            parts.append(network.get_image_features(**inputs))
        frames = torch.nn.functional.normalize(torch.cat(parts).float(), dim=-1)
        figures = {"tem_con": float((frames[1:] * frames[:-1]).sum(dim=-1).mean())}
        if text:
            inputs = processor(text=[text], return_tensors="pt", padding=True, truncation=True)
            words = torch.nn.functional.normalize(network.get_text_features(**inputs).float(), dim=-1)
            figures["text_ali"] = 100 * float((frames @ words[0]).mean())
        return figures

    label = Path(name).name if name and Path(name).is_dir() else name or DEFAULT
    return measure, f"Tem-Con and Text-Ali by {label}."
