# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
"""The tracking transformer guided by the warped first frame: the variant for the embedded model `mini`.

A tracking video stores in red and green where a point was in the first frame. A small model needs many samples to
learn that from encoded colors. Here the coordinates enter as sines and cosines, and the first frame warped along them
(`track_warp`) is a first estimate of the video, which the transformer corrects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import nn

from ..core.errors import ModelError
from .das import TrackingTransformer3DModel
from .track_warp import warp_first_frame

_DEPTH_OCTAVES = 3


@dataclass(frozen=True)
class WarpGuidance:
    """What the tracks and the first frame tell about the video."""

    tokens: torch.Tensor  # [B, T*h*w/p^2, dim], to be added to the video tokens
    warped: torch.Tensor  # [B, T, C, h, w] latents of the first frame warped along the tracks
    visibility: torch.Tensor  # [B, T, 1, h, w] share of each cell that the first frame shows, 0 to 1

    def lerp(self, other: WarpGuidance, weight: float) -> WarpGuidance:
        """Interpolate linearly from this guidance (weight 0) to another one (1), or extrapolate beyond it."""

        def mix(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + weight * (b - a)

        return WarpGuidance(
            tokens=mix(self.tokens, other.tokens),
            warped=mix(self.warped, other.warped),
            visibility=mix(self.visibility, other.visibility).clamp(0, 1),
        )


class TrackLookup(nn.Module):
    """Turns track coordinates and the first frame into a vector per video token and an estimate of the video.

    Args:
        dim: Width of the video tokens.
        latent_channels: Channels of a latent cell.
        frequencies: Octaves of the sines and cosines of a coordinate.
        scale: Pixels per side of a latent cell.
        patch_size: Latent cells per side of a token.
        snr_shift: SNR shift of the CogVideoX noise schedule that `denoise` is for.
    """

    def __init__(
        self, dim: int, latent_channels: int, frequencies: int, scale: int, patch_size: int, snr_shift: float
    ) -> None:
        super().__init__()
        self.frequencies, self.scale, self.patch_size = frequencies, scale, patch_size
        features = 2 * (2 * frequencies) + 2 * min(_DEPTH_OCTAVES, frequencies) + 1  # u and v, inverse depth, covered
        self.coordinate_proj = nn.Linear(features * 4, dim)
        self.content_proj = nn.Linear(4 * (scale * patch_size) ** 2, dim)  # warped colors and their visibility
        # Encodes pixels as the autoencoder does; never trained.
        self.encoder = nn.Conv2d(3, latent_channels, scale, stride=scale).requires_grad_(False)
        self.signal = _signal_level(snr_shift)  # [1000]; no buffer, as those follow the weights to bfloat16
        self.uncertainty = nn.Linear(dim, latent_channels * patch_size * patch_size)  # log of a deviation, per latent
        # Log of the deviation where the first frame shows the surface, and what is added where it does not.
        self.deviation = nn.Parameter(torch.tensor([math.log(0.1), math.log(6.0)]))
        nn.init.zeros_(self.uncertainty.weight)
        nn.init.zeros_(self.uncertainty.bias)

    @torch.no_grad()
    def initialize_encoder(
        self,
        analysis: torch.Tensor,  # [C, 3*scale^2]
        mean: torch.Tensor,  # [3*scale^2]
    ) -> None:
        """Set the pixel encoder to that of a linear patch autoencoder: `analysis` of a patch less `mean`."""
        self.encoder.weight.copy_(analysis.unflatten(1, (3, self.scale, self.scale)))
        assert self.encoder.bias is not None
        self.encoder.bias.copy_(-analysis @ mean)

    def fourier_features(
        self,
        coordinates: torch.Tensor,  # [N, 4, h, w]
    ) -> torch.Tensor:
        """Return sines and cosines of the coordinates in octaves, [N, F, h, w], zero where there is no track."""
        octaves = 2.0 ** torch.arange(self.frequencies, device=coordinates.device, dtype=coordinates.dtype) * math.pi
        place = (coordinates[:, :2, None] * octaves[:, None, None]).flatten(1, 2)
        depth = (coordinates[:, 2:3, None] * octaves[:_DEPTH_OCTAVES, None, None]).flatten(1, 2)
        covered = coordinates[:, 3:4]
        return (
            torch.cat([place.sin(), place.cos(), depth.sin(), depth.cos(), torch.ones_like(covered)], dim=1) * covered
        )

    def forward(
        self,
        coordinates: torch.Tensor,  # [B, T, 4, H, W]
        first_frame: torch.Tensor,  # [B, 3, H, W] in -1..1
    ) -> WarpGuidance:
        """Return the guidance of tracks (`track_coordinates`) and first frame; a frame of zeros stands for none."""
        coordinates, first_frame = coordinates.float(), first_frame.float()
        has_frame = (first_frame != 0).flatten(1).any(1).float()[:, None, None, None, None]
        colors, visibility = (first_frame.new_zeros(*coordinates.shape[:2], n, *first_frame.shape[-2:]) for n in (3, 1))
        if has_frame.any():
            warped = warp_first_frame(first_frame, coordinates)
            colors, visibility = warped.colors * has_frame, warped.visibility * has_frame
        guidance = self.guide(coordinates, colors, visibility)
        return replace(guidance, warped=guidance.warped * has_frame)

    def guide(
        self,
        coordinates: torch.Tensor,  # [B, T, 4, H, W] float32
        colors: torch.Tensor,  # [B, T, 3, H, W] float32 in -1..1
        visibility: torch.Tensor,  # [B, T, 1, H, W] float32 in 0..1
    ) -> WarpGuidance:
        """Return the guidance of tracks and pictures that are warped along them already."""
        shape = coordinates.shape[:2]
        colors, visibility = colors.flatten(0, 1), visibility.flatten(0, 1)
        stride = self.scale * self.patch_size // 2  # two samples per side of a token
        samples = coordinates[..., stride // 2 :: stride, stride // 2 :: stride].flatten(0, 1)
        tokens = self.coordinate_proj(_to_tokens(self.fourier_features(samples), 2, self.coordinate_proj.weight.dtype))
        content = torch.cat([colors, visibility], dim=1)
        content_dtype = self.content_proj.weight.dtype
        tokens = tokens + self.content_proj(_to_tokens(content, self.scale * self.patch_size, content_dtype))
        with torch.autocast(content.device.type, enabled=False):  # an estimate of the video, not a feature
            latents = self.encoder(colors.to(self.encoder.weight.dtype)).unflatten(0, shape)
        cells = F.avg_pool2d(visibility, self.scale).unflatten(0, shape)
        return WarpGuidance(tokens=tokens.unflatten(0, shape).flatten(1, 2), warped=latents, visibility=cells)

    def denoise(
        self,
        timestep: torch.Tensor,  # [B]
        log_deviation: torch.Tensor,  # [B, T, C, h, w]
        noisy: torch.Tensor,  # [B, T, C, h, w]
        mean: torch.Tensor,  # [B, T, C, h, w]
        visibility: torch.Tensor,  # [B, T, 1, h, w]
    ) -> torch.Tensor:
        """Return the velocity that leads to the best estimate of the clean latents.

        Clean latents are taken to lie about `mean` with a deviation s = exp(`log_deviation` + `deviation`), per latent.
        With x = a x0 + b e the best estimate of x0 is the Wiener filter's, and the velocity a e - b x0 of that estimate
        is b (a (1 - s^2) x - mean) / (s^2 a^2 + b^2): near the mean it is trusted, far from it the noisy latents are,
        and nothing has to be learned for each noise level.

        Args:
            timestep: Timesteps of the noise schedule, 0 to 999.
            log_deviation: `uncertainty` of the last video tokens.
            noisy: Noisy latents.
            mean: Warped first frame with the transformer's correction.
            visibility: Share of each cell that the first frame shows.

        Returns:
            The velocity, [B, T, C, h, w] float32.
        """
        a = self.signal.to(timestep.device)[timestep].view(-1, 1, 1, 1, 1)
        b2 = 1 - a * a
        s2 = self.variance(log_deviation, visibility)
        return b2.sqrt() * (a * (1 - s2) * noisy.float() - mean.float()) / (s2 * a * a + b2)

    def variance(
        self,
        log_deviation: torch.Tensor,  # [B, T, C, h, w]
        visibility: torch.Tensor,  # [B, T, 1, h, w]
    ) -> torch.Tensor:
        """Return the variance of the clean latents about their mean, [B, T, C, h, w] float32."""
        s2 = torch.exp(2 * (log_deviation.float() + self.deviation[0] + self.deviation[1] * (1 - visibility.float())))
        return s2.clamp(0.0025, 4.0)


class WarpGuidedTransformer3DModel(TrackingTransformer3DModel):
    """The Diffusion as Shader transformer, guided by the first frame warped along the tracks.

    Args:
        track_frequencies: Octaves of the track coordinates' sines and cosines. 0 builds no `TrackLookup`, which leaves
            the published forward pass.
        track_scale: Pixels per side of a latent cell.
        track_snr_shift: SNR shift of the noise schedule that the model is trained and sampled with.
        track_places: Whether red and green of the control video are positions in the first frame. False for other
            control videos (depth, for instance): the guidance is then that of a still scene.
        track_correction: Factor of the transformer's correction where the first frame shows the surface; it is 1 where
            the surface was hidden. With 0.1 the transformer need not tell small corrections from none among large ones.
        still_guidance: Least guidance scale at which the model makes a first frame from text and tracks. 0: it was not
            trained on single frames and makes none.
        pooled_text: Whether the mean of the text's vectors is added to the time embedding, so that the text modulates
            every token of every block, as in Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206, section 4).
        das_config: Arguments of `TrackingTransformer3DModel`.
    """

    def __init__(
        self,
        track_frequencies: int = 6,
        track_scale: int = 8,
        track_snr_shift: float = 3.0,
        track_places: bool = True,
        track_correction: float = 1.0,
        still_guidance: float = 0.0,
        pooled_text: bool = False,
        **das_config: Any,
    ) -> None:
        super().__init__(**das_config)
        self.register_to_config(
            track_frequencies=track_frequencies,
            track_scale=track_scale,
            track_snr_shift=track_snr_shift,
            track_places=track_places,
            track_correction=track_correction,
            still_guidance=still_guidance,
            pooled_text=pooled_text,
        )
        config = self.config
        self.track_lookup = None
        if track_frequencies:
            self.track_lookup = TrackLookup(
                dim=config.num_attention_heads * config.attention_head_dim,
                latent_channels=config.in_channels // 2,
                frequencies=track_frequencies,
                scale=track_scale,
                patch_size=config.patch_size,
                snr_shift=track_snr_shift,
            )
        self.pooled_text_proj = None
        if pooled_text:
            self.pooled_text_proj = PixArtAlphaTextProjection(
                in_features=config.text_embed_dim, hidden_size=config.time_embed_dim
            )
            nn.init.zeros_(self.pooled_text_proj.linear_2.weight)
            nn.init.zeros_(self.pooled_text_proj.linear_2.bias)

    def initialize_from_scratch(
        self,
        analysis: torch.Tensor,  # [C, 3*s*s]
        mean: torch.Tensor,  # [3*s*s]
    ) -> None:
        """Set start values for joint training of base and branch: zero output, tracks reach the copies unchanged.

        `analysis` and `mean` are the encoder of the linear patch autoencoder, see `TrackLookup.initialize_encoder`.
        """
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        nn.init.eye_(self.initial_combine_linear.weight)
        if self.track_lookup is not None:
            self.track_lookup.initialize_encoder(analysis, mean)

    def check_scheduler(self, scheduler: Any) -> None:
        """Raise ModelError if `TrackLookup.denoise` is for another noise schedule than this scheduler's."""
        if self.track_lookup is None:
            return
        expected, found = self.track_lookup.signal, scheduler.alphas_cumprod.float().sqrt()
        if expected.shape != found.shape or (expected - found).abs().max() > 1e-3:
            raise ModelError(
                "bad-config",
                f"The transformer was made for the noise schedule of SNR shift {self.config.track_snr_shift:g} at "
                "zero terminal SNR, and the scheduler has another.",
                "Put snr_shift_scale and rescale_betas_zero_snr in scheduler_config.json right.",
            )

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, C, h, w]
        encoder_hidden_states: torch.Tensor,  # [B, L, E]
        timestep: torch.Tensor,  # [B]
        timestep_cond: torch.Tensor | None = None,
        ofs: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        tracking_maps: torch.Tensor | None = None,  # [B, T, C, h, w]
        track_coordinates: torch.Tensor | None = None,  # [B, T, 4, H, W] pixels
        first_frame: torch.Tensor | None = None,  # [B, 3, H, W] in -1..1
        control_scale: float = 1.0,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> tuple[torch.Tensor] | Transformer2DModelOutput:
        """Predict the velocity, [B, T, out_channels, h, w], guided by the warped first frame.

        The arguments are those of `TrackingTransformer3DModel.forward` and two more: `track_coordinates` as
        `track_warp.track_coordinates` returns them (None: no guidance), and `first_frame`, zeros or None if there is
        none. The model has also learned from clips without tracks. `control_scale` therefore multiplies the tracking
        maps, and interpolates the guidance between that of a still scene (0) and that of the tracks (1).
        """
        temb = self.embed_timestep(timestep, timestep_cond, ofs, hidden_states.dtype)
        if self.pooled_text_proj is not None:
            temb = temb + self.pooled_text_proj(encoder_hidden_states.mean(dim=1))

        video, text = self.embed_patches(hidden_states, encoder_hidden_states)
        guidance = self._warp_guidance(track_coordinates, first_frame, control_scale)
        if guidance is not None:
            video = video + guidance.tokens
        control = None
        if tracking_maps is not None:
            if self.track_lookup is not None and control_scale != 1:
                tracking_maps, control_scale = tracking_maps * control_scale, 1.0
            control = self.embed_control(video, tracking_maps, encoder_hidden_states)

        video = self.run_blocks(video, text, control, temb, image_rotary_emb, control_scale, attention_kwargs)

        output = self.unpatchify(self.proj_out(video), hidden_states.shape)
        if self.track_lookup is not None and guidance is not None:
            log_deviation = self.unpatchify(self.track_lookup.uncertainty(video), hidden_states.shape)
            noisy = hidden_states[:, :, : self.config.in_channels // 2]
            correction = output * (1 - (1 - self.config.track_correction) * guidance.visibility)
            mean = guidance.warped + correction
            output = self.track_lookup.denoise(timestep, log_deviation, noisy, mean, guidance.visibility)
            output = output.to(hidden_states.dtype)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _warp_guidance(
        self,
        coordinates: torch.Tensor | None,  # [B, T, 4, H, W]
        first_frame: torch.Tensor | None,  # [B, 3, H, W]
        control_scale: float,
    ) -> WarpGuidance | None:
        if self.track_lookup is None or coordinates is None:
            return None
        still_coordinates = torch.zeros_like(coordinates)
        if not self.config.track_places:
            coordinates = still_coordinates
        if first_frame is None:
            first_frame = coordinates.new_zeros(len(coordinates), 3, *coordinates.shape[-2:])
        guidance = self.track_lookup(coordinates, first_frame)
        if control_scale == 1:
            return guidance
        return self.track_lookup(still_coordinates, first_frame).lerp(guidance, control_scale)


def _signal_level(snr_shift: float) -> torch.Tensor:
    """Return the factor of the clean latents in the noisy ones at each timestep, [1000].

    It is the root of alpha-bar of CogVideoX's noise schedule, zero at the last timestep.
    """
    schedule = CogVideoXDDIMScheduler(snr_shift_scale=snr_shift, rescale_betas_zero_snr=True)
    return schedule.alphas_cumprod.float().sqrt()


def _to_tokens(
    images: torch.Tensor,  # [N, C, H, W]
    side: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Return squares of side x side pixels as tokens, [N, H*W/side^2, C*side^2]."""
    return F.pixel_unshuffle(images, side).flatten(2).transpose(1, 2).to(dtype)
