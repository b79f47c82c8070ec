# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false
"""The published pair of Diffusion²: Stable Video Diffusion for rows, and SV3D_p for columns.

Both are loaded from the user's own folders in diffusers' layout. Neither may be used commercially without a licence of
its maker, so neither is part of this package, nor fetched by it. They see cells of one autoencoder (that of the rows),
which encodes each picture by itself, and one reference picture for each clip; they know nothing of tracks.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection

from ...core.errors import ModelError, UsageError
from ...models.checkpoint import check_strictly, raise_problems
from ...models.view_unet import ViewUNetModel
from .grid import Clip, Guided, References

LICENSE_NOTICE = (
    "Stable Video Diffusion and SV3D are under licences of Stability AI: research and non-commercial use, or a "
    "membership. See https://stability.ai/license and the LICENSE files beside the weights."
)
_CLIP_SIZE = 224  # pixels, of the image encoder's input
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_VIEW_NOISE = 1e-5  # deviation of the noise on SV3D's reference


@dataclass(frozen=True, eq=False)
class ImageConditioning:
    """What both models read of a reference picture."""

    vae: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection

    @torch.no_grad()
    def encode(self, picture: np.ndarray | None, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embedding [1, E] and latents [C, h, w] (not scaled) of a picture; zeros without one.

        Args:
            picture: [H, W, 3] uint8, or None.
            size: (h, w) of the latents.
        """
        like = next(self.vae.parameters())
        if picture is None:
            width = self.image_encoder.config.projection_dim
            return like.new_zeros(1, width), like.new_zeros(self.vae.config.latent_channels, *size)
        pixels = torch.from_numpy(np.ascontiguousarray(picture)).to(like).permute(2, 0, 1)[None] / 127.5 - 1
        small = functional.interpolate(pixels, (_CLIP_SIZE, _CLIP_SIZE), mode="bicubic", antialias=True)
        mean, std = (like.new_tensor(values).view(3, 1, 1) for values in (_CLIP_MEAN, _CLIP_STD))
        embedding = self.image_encoder((small / 2 + 0.5 - mean) / std).image_embeds
        return embedding, self.vae.encode(pixels).latent_dist.mode()[0]


@dataclass(frozen=True, eq=False)
class _Condition:
    embedding: torch.Tensor  # [N, 1, E]
    latents: torch.Tensor  # [N, C, h, w]
    clips: Sequence[Clip]


class _ReferenceDenoiser(ABC):
    """What both denoisers share: a network with EDM's preconditioning that predicts velocities."""

    def __init__(self, conditioning: ImageConditioning, size: tuple[int, int]) -> None:
        """Create the denoiser of cells whose latents have the size (h, w)."""
        self._conditioning, self._size = conditioning, size

    def condition(self, clips: Sequence[Clip], references: Sequence[References]) -> _Condition:
        """See `grid.Denoiser`. Raise UsageError for references that the model cannot read."""
        encoded = []
        for clip, known in zip(clips, references, strict=True):
            place = self._place(clip)
            others = [cell for cell in known if cell in clip.cells and cell != clip.cells[place]]
            picture = known.get(clip.cells[place])
            if picture is None and others:
                raise UsageError(
                    "bad-reference",
                    f"The reference of a {clip.kind} must be its cell {place + 1}, not "
                    f"{clip.cells.index(others[0]) + 1}.",
                    "Give the first frame, and the reference view.",
                )
            encoded.append(self._conditioning.encode(picture, self._size))
        embedding, latents = (torch.stack(parts) for parts in zip(*encoded, strict=True))
        return _Condition(embedding, latents, clips)

    def _place(self, clip: Clip) -> int:
        """Return which cell of a clip is its reference."""
        return 0

    @abstractmethod
    def _predict(self, scaled: torch.Tensor, noise: torch.Tensor, condition: _Condition) -> torch.Tensor:
        """Return the network's output [N, L, C, h, w] for scaled cells and references, joined along C."""

    @torch.no_grad()
    def denoise(
        self,
        cells: torch.Tensor,  # [N, L, C, h, w]
        sigma: float,
        condition: _Condition,
    ) -> torch.Tensor:
        """See `grid.Denoiser`: c_skip x + c_out F(c_in x; ln(sigma) / 4), for velocities (EDM, section 5)."""
        like, scale = condition.latents, math.sqrt(sigma**2 + 1)
        latents = condition.latents[:, None].expand(-1, cells.shape[1], -1, -1, -1)
        scaled = torch.cat([(cells / scale).to(like), latents], dim=2)
        velocity = self._predict(scaled, like.new_tensor(math.log(sigma) / 4), condition)
        return cells / scale**2 - sigma / scale * velocity.to(cells)


class VideoDenoiser(_ReferenceDenoiser):
    """Stable Video Diffusion as a denoiser of rows, whose first cell is the reference.

    Args:
        unet: the network.
        conditioning: encodes references.
        size: (h, w) of the cells' latents.
        fps: frames per second.
        motion_bucket: how much moves, 1 to 255.
    """

    def __init__(
        self,
        unet: UNetSpatioTemporalConditionModel,
        conditioning: ImageConditioning,
        size: tuple[int, int],
        fps: int = 7,
        motion_bucket: int = 127,
    ) -> None:
        super().__init__(conditioning, size)
        self._unet, self._ids = unet, (fps - 1, motion_bucket, 0.0)  # the model was told fps - 1, and no noise is added

    def _predict(self, scaled: torch.Tensor, noise: torch.Tensor, condition: _Condition) -> torch.Tensor:
        ids = scaled.new_tensor(self._ids).expand(len(scaled), 3)
        return self._unet(scaled, noise, encoder_hidden_states=condition.embedding, added_time_ids=ids).sample


class ViewDenoiser(_ReferenceDenoiser):
    """SV3D_p as a denoiser of columns. The model has its reference last, so the cells are turned around to that.

    Args:
        unet: the network.
        conditioning: encodes references.
        size: (h, w) of the cells' latents.
        azimuths: angles of the views around the vertical, radians.
        elevations: angles of the views above the horizon, radians.
        reference_view: the view of every column's reference.
    """

    def __init__(
        self,
        unet: ViewUNetModel,
        conditioning: ImageConditioning,
        size: tuple[int, int],
        azimuths: Sequence[float],
        elevations: Sequence[float],
        reference_view: int = 0,
    ) -> None:
        super().__init__(conditioning, size)
        self._unet, self._azimuths, self._elevations = unet, azimuths, elevations
        self._reference_view = reference_view

    def _place(self, clip: Clip) -> int:
        return [view for view, _ in clip.cells].index(self._reference_view)

    def _predict(self, scaled: torch.Tensor, noise: torch.Tensor, condition: _Condition) -> torch.Tensor:
        count, length = scaled.shape[:2]
        views = [view for view, _ in condition.clips[0].cells]  # the same in all columns
        place = self._place(condition.clips[0])
        turned = views[place + 1 :] + views[: place + 1]
        polar = scaled.new_tensor([math.pi / 2 - self._elevations[view] for view in turned])
        reference = self._azimuths[self._reference_view]
        azimuth = scaled.new_tensor([(self._azimuths[view] - reference) % (2 * math.pi) for view in turned])
        found = self._unet(
            scaled.roll(-place - 1, dims=1), noise, condition.embedding,
            scaled.new_full((count, length), _VIEW_NOISE), polar.expand(count, -1), azimuth.expand(count, -1),
        )  # fmt: skip
        return found.roll(place + 1, dims=1)


@dataclass(frozen=True, eq=False)
class PublishedPair:
    """The networks of both models."""

    video: UNetSpatioTemporalConditionModel
    views: ViewUNetModel
    conditioning: ImageConditioning

    @classmethod
    def load(
        cls,
        video_folder: str | Path,
        view_folder: str | Path,
        on_message: Callable[[str], None],
        dtype: torch.dtype = torch.float32,
    ) -> PublishedPair:
        """Load both models, strictly.

        Args:
            video_folder: Stable Video Diffusion: unet, vae and image_encoder.
            view_folder: SV3D_p: unet; its autoencoder and image encoder are those of the other.
            on_message: gets the notice of the licences.
            dtype: precision of the weights.

        Raises:
            ModelError: weights are missing, of another model, or of networks that do not share their latents.
        """
        on_message(LICENSE_NOTICE)
        video_folder, view_folder = Path(video_folder), Path(view_folder)
        check_strictly(UNetSpatioTemporalConditionModel, video_folder, "unet")
        check_strictly(AutoencoderKLTemporalDecoder, video_folder, "vae")
        options = {"torch_dtype": dtype, "use_safetensors": True, "local_files_only": True}
        video = UNetSpatioTemporalConditionModel.from_pretrained(video_folder, subfolder="unet", **options)
        vae = AutoencoderKLTemporalDecoder.from_pretrained(video_folder, subfolder="vae", **options)
        encoder, found = CLIPVisionModelWithProjection.from_pretrained(
            video_folder / "image_encoder", output_loading_info=True, **options
        )
        problems = [f"{key} is {how}" for how in ("missing", "unexpected") for key in sorted(found[f"{how}_keys"])]
        raise_problems(problems, video_folder / "image_encoder", "CLIPVisionModelWithProjection")
        views = ViewUNetModel.from_pretrained(view_folder, subfolder="unet", **options)
        if views.config.in_channels != video.config.in_channels:
            raise ModelError(
                "wrong-weights",
                f"The networks in {video_folder} and {view_folder} read {video.config.in_channels} and "
                f"{views.config.in_channels} channels, so they do not share their latents.",
                "Choose models of one autoencoder.",
            )
        return cls(video.eval(), views.eval(), ImageConditioning(vae.eval(), encoder.eval()))

    def denoisers(
        self, size: tuple[int, int], azimuths: Sequence[float], elevations: Sequence[float]
    ) -> dict[str, Guided]:
        """Return the denoisers of rows and columns, guided as in the published method.

        Args:
            size: (h, w) of the cells' latents.
            azimuths: angles of the views around the vertical, radians.
            elevations: angles of the views above the horizon, radians.
        """
        return {
            "row": Guided(VideoDenoiser(self.video, self.conditioning, size), 1.5, 3.0),
            "column": Guided(ViewDenoiser(self.views, self.conditioning, size, azimuths, elevations), 2.5),
        }

    @torch.no_grad()
    def decode(
        self,
        cells: torch.Tensor,  # [V, F, C, h, w]
    ) -> np.ndarray:
        """Return the pictures of cells, [V, F, H, W, 3] uint8, each row decoded as a video."""
        like = next(self.conditioning.vae.parameters())
        rows = [
            self.conditioning.vae.decode(row.to(like) / self.conditioning.vae.config.scaling_factor, len(row)).sample
            for row in cells
        ]
        pixels = (torch.stack(rows).float() / 2 + 0.5).clamp(0, 1)
        return (pixels * 255).round().byte().movedim(2, -1).cpu().numpy()
