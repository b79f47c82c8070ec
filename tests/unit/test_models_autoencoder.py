# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
"""The patch autoencoder, and attention in plain products."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import CogVideoXAttnProcessor2_0
from hypothesis import given, settings
from hypothesis import strategies as st

from trackshade.core.errors import ModelError
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade_lab.training.attention import PlainAttention


def smooth(count: int, seed: int = 0) -> torch.Tensor:
    """[count, 3, 16, 24] in -1..1: smooth random pictures."""
    coarse = torch.rand(count, 3, 4, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")


@pytest.fixture(scope="module")
def fitted() -> PatchAutoencoder:
    model = PatchAutoencoder(latent_channels=12, refiner_width=8, refiner_layers=1)
    model.fit(smooth(200))
    return model.eval()


def test_latents_have_unit_rms_and_no_mean(fitted: PatchAutoencoder):
    latents = fitted.encode(smooth(200)[:, :, None]).latent_dist.mode()
    assert latents.shape == (200, 12, 1, 4, 6)
    assert latents.square().mean().sqrt().item() == pytest.approx(1, rel=1e-2)
    assert latents.mean(dim=(0, 2, 3, 4)).abs().max() < 1e-3


def test_pictures_come_back(fitted: PatchAutoencoder):
    pictures = smooth(20, seed=1)[:, :, None]
    with torch.no_grad():
        assert (fitted(pictures).sample - pictures).square().mean() < 0.05 * pictures.var()


def test_the_fit_is_the_best_linear_one(fitted: PatchAutoencoder):
    """No other linear code of as many channels has a smaller error on the fitted pictures: principal components."""
    pictures = smooth(200)
    patches = torch.nn.functional.pixel_unshuffle(pictures, 4).permute(0, 2, 3, 1).flatten(0, 2).double()
    values = torch.linalg.svdvals(patches - patches.mean(0))
    best = values[12:].square().sum() / patches.numel()
    with torch.no_grad():
        error = (fitted(pictures[:, :, None]).sample - pictures[:, :, None]).square().mean()
    assert error.item() == pytest.approx(best.item(), rel=0.05, abs=1e-7)


@settings(max_examples=15)
@given(frame=st.integers(0, 4), seed=st.integers(0, 1000))
def test_frames_do_not_mix(frame: int, seed: int):
    """Changing one frame changes the latents and the decoding of that frame alone."""
    model = PatchAutoencoder(latent_channels=6, refiner_width=8, refiner_layers=1)
    model.fit(smooth(20))
    torch.nn.init.normal_(model.refiner.conv_out.weight, std=0.1)
    video = smooth(5, seed).transpose(0, 1)[None]  # [1, 3, 5, 16, 24]
    changed = video.clone()
    changed[:, :, frame] += 0.3
    with torch.no_grad():
        latents, others = (model.encode(v).latent_dist.sample() for v in (video, changed))
        decoded, redecoded = model.decode(latents).sample, model.decode(others).sample
    for before, after in ((latents, others), (decoded, redecoded)):
        moved = (before - after).abs().amax(dim=(0, 1, 3, 4)) > 1e-5
        assert moved.nonzero().flatten().tolist() == [frame]


def test_saved_and_loaded_strictly(fitted: PatchAutoencoder, tmp_path: Path):
    fitted.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    pictures = smooth(2)[:, :, None]
    with torch.no_grad():
        torch.testing.assert_close(again(pictures).sample, fitted(pictures).sample)
    (tmp_path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        PatchAutoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("rotary", [False, True])
def test_plain_attention_has_the_fused_kernels_numbers(rotary: bool):
    torch.manual_seed(0)
    model = TrackingTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=12,
        num_layers=2,
        sample_width=4,
        sample_height=4,
        sample_frames=3,
        temporal_compression_ratio=1,
        max_text_seq_length=5,
        num_tracking_blocks=1,
        use_rotary_positional_embeddings=rotary,
    ).eval()
    angles = torch.rand(12, 16)
    given = {
        "hidden_states": torch.randn(2, 3, 8, 4, 4),
        "encoder_hidden_states": torch.randn(2, 5, 12),
        "timestep": torch.tensor([7, 900]),
        "tracking_maps": torch.randn(2, 3, 8, 4, 4),
        "image_rotary_emb": (angles.cos(), angles.sin()) if rotary else None,
    }
    outputs = []
    for processor in (CogVideoXAttnProcessor2_0(), PlainAttention()):
        model.set_attn_processor(processor)
        with torch.no_grad():
            outputs.append(model(**given).sample)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
