# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of a model with tokens of one size for a model with tokens of another: the same picture, finer or coarser.

Where the weights of a token are a little picture (what is read from a patch, what is written to it), that is resized;
sums over a patch stay what they were.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

_READ = "transformer.patch_embed.proj.weight"  # [dim, C, p, p]
_LOOKED_UP = "transformer.track_lookup.content_proj.weight"  # [dim, C * (p * scale)^2]
_WRITTEN = ("transformer.proj_out.", "transformer.track_lookup.uncertainty.")  # [C * p^2, dim] and [C * p^2]


def adapted(known: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], scale: int) -> dict[str, torch.Tensor]:
    """`own` start values, replaced by the `known` ones of the same name where they fit or can be resized to fit.

    scale: pixels per latent cell of both models.
    """
    sides = (known[_READ].shape[-1], own[_READ].shape[-1]) if _READ in known else (1, 1)
    return {key: _fitted(key, known[key], value, sides, scale) if key in known else value for key, value in own.items()}


def _fitted(key: str, known: torch.Tensor, own: torch.Tensor, sides: tuple[int, int], scale: int) -> torch.Tensor:
    if known.shape == own.shape:
        return known.to(own.dtype)
    before, after = sides
    if key == _READ:
        return _resized(known, after).to(own.dtype) * (before / after) ** 2
    if key == _LOOKED_UP:
        pictures = known.reshape(len(known), -1, before * scale, before * scale)
        return _resized(pictures, after * scale).flatten(1).to(own.dtype) * (before / after) ** 2
    if key.startswith(_WRITTEN):
        pictures = known.reshape(-1, before, before, known[0].numel()).permute(0, 3, 1, 2)  # [C, dim or 1, p, p]
        return _resized(pictures, after).permute(0, 2, 3, 1).reshape(own.shape).to(own.dtype)
    return own


def _resized(pictures: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(pictures.float(), size=(side, side), mode="bilinear", align_corners=False)
