# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""The networks of the motion model together: conditions of the generator, and its estimates."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from ..models.motion_encoder import MotionEncoder
from ..models.patch_autoencoder import PatchAutoencoder
from ..models.puppet_guided import PuppetGuidance, PuppetGuidedTransformer3DModel, fit_framing, make_guidance
from ..models.view_adapter import ViewAdapter


@dataclass(frozen=True)
class MotionCondition:
    """What the generator is conditioned on; frame 0 is the reference."""

    reference: torch.Tensor  # [B, C, h, w] latents
    estimates: torch.Tensor  # [B, T, C, h, w] latents of the puppets before the background
    guidance: PuppetGuidance
    motion_tokens: torch.Tensor  # [B, 1+T, K, dim] as the cameras see them


@dataclass(frozen=True)
class MotionNetworks:
    """The networks of a motion model.

    Attributes:
        encoder: encodes driving frames, and reads the layout of the figure in a reference.
        adapter: says the motion for a camera.
        transformer: estimates clean latents.
        vae: encodes and decodes each frame by itself.
    """

    encoder: MotionEncoder
    adapter: ViewAdapter
    transformer: PuppetGuidedTransformer3DModel
    vae: PatchAutoencoder

    def encode(
        self,
        pictures: torch.Tensor,  # [N, 3, H, W] in 0..1
    ) -> torch.Tensor:
        """Return latents, [N, C, h, w] float32."""
        with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
            return self.vae.encode(pictures[:, :, None] * 2 - 1).latent_dist.mode()[:, :, 0]

    @torch.no_grad()
    def decode(
        self,
        latents: torch.Tensor,  # [N, C, h, w]
    ) -> torch.Tensor:
        """Return pictures in 0..1, [N, 3, H, W]."""
        return (self.vae.decode(latents.float()[:, :, None]).sample[:, :, 0] / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def read_azimuth(
        self,
        pictures: torch.Tensor,  # [N, 3, H, W] in 0..1
    ) -> torch.Tensor:
        """Return the azimuth of the camera about the figure of each picture, [N] radians."""
        sine, cosine = self.encoder(pictures)[1].azimuth.unbind(-1)
        return torch.atan2(sine, cosine)

    def condition(
        self,
        reference: torch.Tensor,  # [B, 3, H, W] in 0..1
        tokens: torch.Tensor,  # [B, T, K, dim]
        reference_azimuth: torch.Tensor,  # [B] radians
        azimuth: torch.Tensor,  # [B, T] radians
        elevation: torch.Tensor,  # [B, T] radians
        reference_adapter: ViewAdapter | None = None,
        exact: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> MotionCondition:
        """Return what the generator is conditioned on.

        Args:
            reference: the pictures of the figures.
            tokens: motion tokens of the frames.
            reference_azimuth: azimuths of the references' cameras about the bodies.
            azimuth: those of the frames' cameras.
            elevation: their elevations; the references are taken to be seen at the first frame's.
            reference_adapter: says the pose of the references from the encoder's tokens; that of the frames by default.
            exact: places [B, T, L, 2] in pixels and depths [B, T, L] in metres of the frames' landmarks, if they are
                known. Those that the adapter says otherwise.
        """
        batch, count = azimuth.shape
        reference_adapter = reference_adapter or self.adapter
        with torch.no_grad():
            reference_tokens, layout = self.encoder(reference)
            unit, width, height = self.encoder.unit(), *reference.shape[:-3:-1]
            center = reference.new_tensor([width / 2, height / 2])
            seen = layout.places * unit + center
        pose = reference_adapter(reference_tokens, reference_azimuth, elevation[:, 0])
        frames = self.adapter(tokens.flatten(0, 1), azimuth.flatten(), elevation.flatten())
        scale, from_center, to_center = fit_framing(pose.landmarks.detach(), seen)
        places = frames.landmarks.unflatten(0, (batch, count))
        places = scale[:, None, None, None] * (places - from_center[:, None, None]) + to_center[:, None, None]
        depths = frames.depths.unflatten(0, (batch, count))
        if exact is not None:
            places, depths = exact
        places = torch.cat([seen[:, None], places], dim=1)
        depths = torch.cat([pose.depths[:, None], depths], dim=1)
        azimuths = torch.cat([reference_azimuth[:, None], azimuth], dim=1)
        elevations = torch.cat([elevation[:, :1], elevation], dim=1)
        guidance = make_guidance(reference, places, depths, azimuths, elevations, scale)
        motion = torch.cat([pose.tokens[:, None], frames.tokens.unflatten(0, (batch, count))], dim=1)
        estimates = self.encode(guidance.estimates().flatten(0, 1)).unflatten(0, (batch, count))
        return MotionCondition(self.encode(reference), estimates, guidance, motion)

    def estimate(
        self,
        noisy: torch.Tensor,  # [B, T, C, h, w]
        level: torch.Tensor,  # [B]
        condition: MotionCondition,
    ) -> torch.Tensor:
        """Return the estimate of the clean latents, [B, T, C, h, w] float32."""
        return self.transformer(
            noisy, level, condition.reference, condition.estimates, condition.guidance, condition.motion_tokens
        )

    def denoise(
        self,
        noise: torch.Tensor,  # [B, T, C, h, w]
        condition: MotionCondition,
        steps: int,
        on_step=lambda: None,
    ) -> torch.Tensor:
        """Return latents of the frames by Euler steps from noise, [B, T, C, h, w]; `on_step` is called after each."""
        latents = noise
        levels = torch.linspace(1, 0, steps + 1).tolist()
        for level, following in itertools.pairwise(levels):
            clean = self.estimate(latents, latents.new_full((len(latents),), level), condition)
            latents = clean + following / level * (latents - clean)
            on_step()
        return latents
