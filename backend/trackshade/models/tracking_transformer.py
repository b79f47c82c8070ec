# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers and transformers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportOptionalCall=false
"""The Diffusion-as-Shader transformer (Gu et al. 2025, arXiv 2501.03847): CogVideoX plus a branch that reads the
tracking video.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import nn

from ..core.errors import ModelError
from .checkpoint import check_strictly
from .track_lookup import Lookup, TrackLookup, towards


class TrackingTransformer3DModel(CogVideoXTransformer3DModel):
    """CogVideoX with copies of its first blocks that read the tracking video's latents.

    Parameter names are the published checkpoint's: `transformer_blocks_copy`, `initial_combine_linear`,
    `combine_linears`.
    `track_frequencies` > 0 adds a `TrackLookup` (see there, also for `track_snr_shift`), which needs
    `track_coordinates` and `first_frame` in `forward`; `track_scale` is then the number of pixels per latent cell.
    Without it (the published checkpoint) there are no further parameters. `track_places` False: red and green of the
    control video are not places in the first frame (of a depth video, say), so that the lookup is a still scene's.
    `track_correction`: a unit of output corrects the moved first frame by so much where that shows the surface, and by
    one where it does not; with 0.1 the transformer need not tell a small correction from none among large ones.
    `still_guidance` > 0: the model was trained on single frames as well, so that it can make a first frame from text
    and tracks, at least so guided by the text.
    `pooled_text`: the mean of the text's vectors is added to the noise level's embedding, so that what the text says
    of the whole modulates every token of every block, as in Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206,
    section 4).
    """

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 30,
        attention_head_dim: int = 64,
        in_channels: int = 16,
        out_channels: int | None = 16,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        ofs_embed_dim: int | None = None,
        text_embed_dim: int = 4096,
        num_layers: int = 30,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        patch_size_t: int | None = None,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        use_rotary_positional_embeddings: bool = False,
        use_learned_positional_embeddings: bool = False,
        patch_bias: bool = True,
        num_tracking_blocks: int = 18,
        track_frequencies: int = 0,
        track_scale: int = 8,
        track_snr_shift: float = 3.0,
        track_places: bool = True,
        track_correction: float = 1.0,
        still_guidance: float = 0.0,
        pooled_text: bool = False,
    ):
        super().__init__(
            num_attention_heads,
            attention_head_dim,
            in_channels,
            out_channels,
            flip_sin_to_cos,
            freq_shift,
            time_embed_dim,
            ofs_embed_dim,
            text_embed_dim,
            num_layers,
            dropout,
            attention_bias,
            sample_width,
            sample_height,
            sample_frames,
            patch_size,
            patch_size_t,
            temporal_compression_ratio,
            max_text_seq_length,
            activation_fn,
            timestep_activation_fn,
            norm_elementwise_affine,
            norm_eps,
            spatial_interpolation_scale,
            temporal_interpolation_scale,
            use_rotary_positional_embeddings,
            use_learned_positional_embeddings,
            patch_bias,
        )
        if not 0 < num_tracking_blocks <= num_layers:
            raise ModelError(
                "bad-config",
                f"The transformer has {num_layers} blocks, so it cannot have {num_tracking_blocks} tracking blocks.",
            )
        dim = num_attention_heads * attention_head_dim
        self.transformer_blocks_copy = nn.ModuleList(
            copy.deepcopy(self.transformer_blocks[index]) for index in range(num_tracking_blocks)
        )
        self.initial_combine_linear = nn.Linear(dim, dim)
        self.combine_linears = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_tracking_blocks))
        for linear in (self.initial_combine_linear, *self.combine_linears):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.track_lookup = None
        if track_frequencies:
            self.track_lookup = TrackLookup(
                dim, in_channels // 2, track_frequencies, track_scale, patch_size, track_snr_shift
            )
        self.pooled_text_proj = None
        if pooled_text:
            self.pooled_text_proj = PixArtAlphaTextProjection(text_embed_dim, time_embed_dim)
            nn.init.zeros_(self.pooled_text_proj.linear_2.weight)
            nn.init.zeros_(self.pooled_text_proj.linear_2.bias)

    def initialise_from_scratch(self, analysis: torch.Tensor | None = None, mean: torch.Tensor | None = None) -> None:
        """Start values for joint training of base and branch: zero output, and tracks that reach the copies unchanged.

        analysis [C, 3*s*s], mean [3*s*s]: of a linear patch autoencoder, for the lookup (`TrackLookup.initialise`).
        """
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        nn.init.eye_(self.initial_combine_linear.weight)
        if self.track_lookup is not None and analysis is not None and mean is not None:
            self.track_lookup.initialise(analysis, mean)

    @classmethod
    def from_base(cls, base: CogVideoXTransformer3DModel, num_tracking_blocks: int = 18, **config: Any):
        """A tracking transformer around a base transformer: copies of its first blocks, combine linears at zero.

        `config`: further configuration keys (`track_frequencies`, ...). The result shares no tensor with `base`.
        """
        known = {key: value for key, value in base.config.items() if not key.startswith("_")}
        model = cls(**known, num_tracking_blocks=num_tracking_blocks, **config).to(base.dtype)
        missing, unexpected = model.load_state_dict(base.state_dict(), strict=False)
        own = (
            "transformer_blocks_copy.",
            "initial_combine_linear.",
            "combine_linears.",
            "track_lookup.",
            "pooled_text_proj.",
        )
        foreign = [*unexpected, *(key for key in missing if not key.startswith(own))]
        if foreign:
            raise ModelError("wrong-weights", f"The base transformer does not fit: {', '.join(foreign[:5])}.")
        for target, source in zip(model.transformer_blocks_copy, base.transformer_blocks, strict=False):
            target.load_state_dict(source.state_dict())
        return model

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs: Any):
        """Load from a local folder, strictly: a missing, unexpected or misshapen tensor is a ModelError that names
        it.
        """
        kwargs.setdefault("use_safetensors", True)
        check_strictly(cls, pretrained_model_name_or_path, kwargs.get("subfolder"))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
        ofs: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        tracking_maps: torch.Tensor | None = None,
        track_coordinates: torch.Tensor | None = None,
        first_frame: torch.Tensor | None = None,
        tracking_scale: float = 1.0,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> tuple[torch.Tensor] | Transformer2DModelOutput:
        """One prediction (arXiv 2501.03847, section 3.2).

        hidden_states: [B, T, C, h, w] noisy latents and first-frame image latents, joined along C.
        encoder_hidden_states: [B, L, E] text. timestep: [B]. image_rotary_emb: cosines and sines, each [T*h*w/p^2,
        head dim].
        tracking_maps: [B, T, C, h, w] tracking latents and first tracking frame latents; None runs the base
        transformer alone.
        track_coordinates: [B, T, 4, H, W] pixels (`track_coordinates`), and first_frame: [B, 3, H, W] in -1..1, zeros
        for none; only for models with `track_frequencies`; None: no tracks.
        tracking_scale: how strongly the tracks lead, 1 as trained. The branch's contributions are multiplied by it (0:
        the base transformer alone). A model with a lookup has also learned from clips without tracks, and is led
        towards those instead: its tracking maps are multiplied, and its lookup is mixed with that of a still scene.
        Returns [B, T, out_channels, h, w].
        """
        text_length = encoder_hidden_states.shape[1]
        temb = self._time(timestep, timestep_cond, ofs, hidden_states.dtype)
        if self.pooled_text_proj is not None:
            temb = temb + self.pooled_text_proj(encoder_hidden_states.mean(dim=1))
        latents = hidden_states

        embedded = self.embedding_dropout(self.patch_embed(encoder_hidden_states, latents))
        text, hidden = embedded[:, :text_length], embedded[:, text_length:]
        lookup = self._looked_up(track_coordinates, first_frame, tracking_scale)
        if lookup is not None:
            hidden = hidden + lookup.tokens

        track = None
        if tracking_maps is not None:
            if self.track_lookup is not None and tracking_scale != 1:
                tracking_maps, tracking_scale = tracking_maps * tracking_scale, 1.0
            track = self.embedding_dropout(self.patch_embed(encoder_hidden_states, tracking_maps))[:, text_length:]
            track = self.initial_combine_linear(hidden + track)

        for index, block in enumerate(self.transformer_blocks):
            hidden, text = self._run(block, hidden, text, temb, image_rotary_emb, attention_kwargs)
            if track is not None and index < len(self.transformer_blocks_copy):
                copied = self.transformer_blocks_copy[index]
                track, _ = self._run(copied, track, text, temb, image_rotary_emb, attention_kwargs)
                track = self.combine_linears[index](track)  # the next copy reads the value after the linear
                hidden = hidden + (track if tracking_scale == 1 else track * tracking_scale)

        hidden = self.norm_out(self.norm_final(hidden), temb=temb)
        output = self._unpatchify(self.proj_out(hidden), latents.shape)
        if self.track_lookup is not None and lookup is not None:
            local = self._unpatchify(self.track_lookup.uncertainty(hidden), latents.shape)
            noisy = latents[:, :, : self.config.in_channels // 2]
            mean = lookup.moved + output * self._corrected(lookup.known)
            output = self.track_lookup.denoise(timestep, local, noisy, mean, lookup.known).to(latents.dtype)
        return Transformer2DModelOutput(sample=output) if return_dict else (output,)

    def _corrected(self, known: torch.Tensor) -> torch.Tensor:
        """By how much the output is to be multiplied, by place, so that it is about as large everywhere."""
        return 1 - (1 - self.config.track_correction) * known

    def _looked_up(
        self, coordinates: torch.Tensor | None, first: torch.Tensor | None, tracking_scale: float
    ) -> Lookup | None:
        """What the tracks say, mixed with what a still scene would where they lead more or less than as trained."""
        if self.track_lookup is None or coordinates is None:
            return None
        if not self.config.track_places:
            coordinates = torch.zeros_like(coordinates)
        if first is None:
            first = coordinates.new_zeros(len(coordinates), 3, *coordinates.shape[-2:])
        lookup = self.track_lookup(coordinates, first)
        if tracking_scale == 1:
            return lookup
        return towards(self.track_lookup(torch.zeros_like(coordinates), first), lookup, tracking_scale)

    def _time(self, timestep, timestep_cond, ofs, dtype: torch.dtype) -> torch.Tensor:
        temb = self.time_embedding(self.time_proj(timestep).to(dtype), timestep_cond)
        if self.ofs_embedding is not None:
            temb = temb + self.ofs_embedding(self.ofs_proj(ofs).to(dtype))
        return temb

    def _run(self, block, hidden, text, temb, rotary, attention_kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, hidden, text, temb, rotary, attention_kwargs)
        return block(hidden, text, temb, rotary, attention_kwargs)

    def _unpatchify(self, hidden: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        batch, frames, _, height, width = shape
        p, p_t = self.config.patch_size, self.config.patch_size_t
        if p_t is None:  # CogVideoX 1.0
            cells = hidden.reshape(batch, frames, height // p, width // p, -1, p, p)
            return cells.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        cells = hidden.reshape(batch, (frames + p_t - 1) // p_t, height // p, width // p, -1, p_t, p, p)
        return cells.permute(0, 1, 5, 4, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(1, 2)
