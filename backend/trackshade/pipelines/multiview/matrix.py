# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
"""`mini-matrix` as a denoiser of the cells of a shot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from ...core.colors import to_uint8
from ...core.errors import ModelError
from ...models.checkpoint import read_json
from ...models.patch_autoencoder import PatchAutoencoder
from ...models.reference_guided import CLIP_KINDS, ReferenceGuidedTransformer3DModel
from .grid import Cell, Clip, References
from .warping import ReferenceWarp, WarpedCells

TEMPERATURE = 0.25
# Relit references are right where they show a surface, so that samples about them only add noise.
RELIT_TEMPERATURE = 0.0


@dataclass(frozen=True, eq=False)
class MatrixModel:
    """The networks of a multiview denoiser.

    Attributes:
        transformer: estimates clean latents of clips.
        vae: encodes and decodes each cell by itself.
    """

    transformer: ReferenceGuidedTransformer3DModel
    vae: PatchAutoencoder

    @classmethod
    def load(cls, folder: str | Path) -> MatrixModel:
        """Load a folder that training has exported, strictly. Raise ModelError if it is no multiview denoiser."""
        path = Path(folder)
        index = read_json(path / "model_index.json")
        if index.get("_class_name") != "MultiviewDenoiser":
            raise ModelError(
                "wrong-weights",
                f"{path} holds a {index.get('_class_name')}, not a denoiser of several cameras.",
                "Choose the folder of mini-matrix or of a run of `trackshade train multiview`.",
            )
        transformer = ReferenceGuidedTransformer3DModel.from_pretrained(path, subfolder="transformer").float().eval()
        return cls(transformer, PatchAutoencoder.from_pretrained(path, subfolder="vae").eval())

    @torch.no_grad()
    def encode(
        self,
        pictures: np.ndarray,  # [N, H, W, 3] uint8
    ) -> torch.Tensor:
        """Return the latents of pictures, [N, C, h, w]."""
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.vae.device).float() / 127.5 - 1
        latents = self.vae.encode(pixels.permute(0, 3, 1, 2)[:, :, None]).latent_dist.mode()
        return latents[:, :, 0] * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(
        self,
        latents: torch.Tensor,  # [N, C, h, w]
    ) -> np.ndarray:
        """Return the pictures of latents, [N, H, W, 3] uint8."""
        scaled = latents.float()[:, :, None] / self.vae.config.scaling_factor
        pixels = (self.vae.decode(scaled).sample[:, :, 0] / 2 + 0.5).clamp(0, 1)
        return (pixels * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True, eq=False)
class _Condition:
    kind: torch.Tensor  # [N]
    coordinates: torch.Tensor  # [N, L, 4, H, W]
    colors: torch.Tensor  # [N, L, 3, H, W]
    visibility: torch.Tensor  # [N, L, 1, H, W]


class MatrixDenoiser:
    """Denoises clips of a shot's cells; references are pictures [H, W, 3], which are warped along the shot's tracks.

    What was warped is kept, as a cell is seen in its row, in its column and in windows of both.

    Args:
        model: the networks.
        warp: warps pictures of the unrolled shot, at the size of the cells.
        bf16: whether products are computed in bfloat16.
        temperature: how far samples deviate from the mean, see `ReferenceGuidedTransformer3DModel.forward`. If None, it
            is `RELIT_TEMPERATURE` where references are relit, and `TEMPERATURE` where they are not.
    """

    def __init__(
        self, model: MatrixModel, warp: ReferenceWarp, bf16: bool = False, temperature: float | None = None
    ) -> None:
        self.model, self._warp, self._bf16 = model, warp, bf16
        usual = RELIT_TEMPERATURE if warp.is_relit else TEMPERATURE
        self._temperature = usual if temperature is None else temperature
        self._warped: dict[tuple[frozenset, Cell], tuple[Mapping[int, np.ndarray], WarpedCells]] = {}

    def condition(self, clips: Sequence[Clip], references: Sequence[References]) -> _Condition:
        """See `grid.Denoiser`."""
        device = self.model.transformer.device
        parts = [
            [condition_tensors(self.warp_cell(cell, known)) for cell in clip.cells]
            for clip, known in zip(clips, references, strict=True)
        ]
        coordinates, colors, visibility = (
            torch.stack([torch.cat([cell[n] for cell in clip]) for clip in parts]).to(device) for n in range(3)
        )
        kind = torch.tensor([CLIP_KINDS.index(clip.kind) for clip in clips], device=device)
        return _Condition(kind, coordinates, colors, visibility)

    def warp_cell(self, cell: Cell, references: References) -> WarpedCells:
        """Return what references show of one cell."""
        key = frozenset((known, id(picture)) for known, picture in references.items()), cell
        if key not in self._warped:  # the pictures are kept, so that their identities stay theirs
            given = {self._sample(known): picture for known, picture in references.items()}
            self._warped[key] = given, self._warp.warp(given, [self._sample(cell)])
        return self._warped[key][1]

    @torch.no_grad()
    def denoise(
        self,
        cells: torch.Tensor,  # [N, L, C, h, w]
        sigma: float,
        condition: _Condition,
    ) -> torch.Tensor:
        """See `grid.Denoiser`."""
        device = self.model.transformer.device
        noise = torch.full((len(cells),), sigma, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bf16):
            return self.model.transformer(
                cells.to(device).float(), noise, condition.kind, condition.coordinates, condition.colors,
                condition.visibility, self._temperature,
            ).to(cells)  # fmt: skip

    def picture(
        self,
        cell: Cell,
        latents: torch.Tensor,  # [C, h, w]
        references: References = MappingProxyType({}),
    ) -> np.ndarray:
        """Return the picture of a cell, [H, W, 3] uint8.

        The autoencoder loses a part of what is fine. What it loses of the references, as they are warped into the cell,
        is added where they show its surface.

        Args:
            cell: the cell.
            latents: its clean latents.
            references: known pictures by cell.
        """
        decoded = self.model.decode(latents[None])[0]
        if not references:
            return decoded
        warped = self.warp_cell(cell, references)
        colors = to_uint8(warped.colors)
        lost = colors.astype(np.float32) - self.model.decode(self.model.encode(colors))
        restored = decoded + warped.visibility[..., None] * lost
        return np.clip(np.round(restored[0]), 0, 255).astype(np.uint8)

    def _sample(self, cell: Cell) -> int:
        return cell[1] * self._warp.shot.views + cell[0]


def condition_tensors(warped: WarpedCells) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what the transformer reads of L warped cells.

    Returns:
        Track coordinates [L, 4, H, W] (see `track_warp.track_coordinates`), colors [L, 3, H, W] in -1..1, 0 without
        references, and visibility [L, 1, H, W].
    """
    tracking = torch.from_numpy(warped.tracking).permute(0, 3, 1, 2).float() / 255
    covered = (tracking.amax(dim=1, keepdim=True) > 0).float()
    colors = torch.from_numpy(warped.colors).permute(0, 3, 1, 2) * 2 - 1
    if not warped.has_references:
        colors = torch.zeros_like(colors)
    return torch.cat([tracking, covered], dim=1), colors, torch.from_numpy(warped.visibility)[:, None]
