# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
"""The tracking transformer: the published forward pass, strict loading, initialisation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import CogVideoXTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trackshade.core.errors import ModelError
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.models.track_warp import track_coordinates
from trackshade.models.warp_guided import TrackLookup, WarpGuidedTransformer3DModel

FORWARD = Path(__file__).parents[1] / "data" / "das_forward.safetensors"
TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 8,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 12,
    "num_layers": 3,
    "sample_width": 4,
    "sample_height": 4,
    "sample_frames": 3,
    "temporal_compression_ratio": 1,
    "max_text_seq_length": 5,
}


def published() -> tuple[TrackingTransformer3DModel, dict[str, torch.Tensor]]:
    with safe_open(FORWARD, framework="pt") as stored:
        config = json.loads(stored.metadata()["config"])
    tensors = load_file(FORWARD)
    model = TrackingTransformer3DModel(**config)
    weights = {key.removeprefix("w."): value for key, value in tensors.items() if key.startswith("w.")}
    model.load_state_dict(weights, strict=True)
    return model.eval(), tensors


def inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "hidden_states": torch.randn(batch, 3, 8, 4, 4, generator=generator),
        "encoder_hidden_states": torch.randn(batch, 5, 12, generator=generator),
        "timestep": torch.tensor([7] * batch),
        "tracking_maps": torch.randn(batch, 3, 8, 4, 4, generator=generator),
    }


def test_reproduces_the_published_forward_pass():
    model, tensors = published()
    with torch.no_grad():
        output = model(
            tensors["hidden_states"],
            tensors["encoder_hidden_states"],
            tensors["timestep"],
            image_rotary_emb=(tensors["rot_cos"], tensors["rot_sin"]),
            tracking_maps=tensors["tracking_maps"],
        ).sample
    assert tensors["output"].abs().max() > 0.1
    torch.testing.assert_close(output, tensors["output"], rtol=1e-4, atol=2e-5)


def test_the_tracking_branch_matters():
    model, tensors = published()
    with torch.no_grad():
        output = model(
            tensors["hidden_states"],
            tensors["encoder_hidden_states"],
            tensors["timestep"],
            image_rotary_emb=(tensors["rot_cos"], tensors["rot_sin"]),
            tracking_maps=tensors["tracking_maps"] * 0,
        ).sample
    assert (output - tensors["output"]).abs().max() > 1e-2


def test_the_tracks_strength_goes_from_the_base_alone_to_as_trained():
    model, tensors = published()
    given = [tensors["hidden_states"], tensors["encoder_hidden_states"], tensors["timestep"]]
    rotary, maps = (tensors["rot_cos"], tensors["rot_sin"]), tensors["tracking_maps"]
    with torch.no_grad():
        base = model(*given, image_rotary_emb=rotary).sample
        full = model(*given, image_rotary_emb=rotary, tracking_maps=maps).sample
        none, half, one = (
            model(*given, image_rotary_emb=rotary, tracking_maps=maps, control_scale=scale).sample
            for scale in (0.0, 0.5, 1.0)
        )
    assert torch.equal(none, base)
    assert torch.equal(one, full)
    assert min((half - base).abs().max(), (half - full).abs().max()) > 1e-2


def test_from_base_predicts_what_the_base_predicts():
    torch.manual_seed(0)
    base = CogVideoXTransformer3DModel(**TINY).eval()
    model = TrackingTransformer3DModel.from_base(base, num_tracking_blocks=2).eval()
    given = inputs()
    with torch.no_grad():
        expected = base(given["hidden_states"], given["encoder_hidden_states"], given["timestep"]).sample
        torch.testing.assert_close(model(**given).sample, expected)
    for copied, block in zip(model.transformer_blocks_copy, base.transformer_blocks, strict=False):
        for left, right in zip(copied.parameters(), block.parameters(), strict=False):
            torch.testing.assert_close(left, right)
            assert left.data_ptr() != right.data_ptr()
    assert all(not linear.weight.any() for linear in (model.initial_combine_linear, *model.combine_linears))


def test_saved_and_loaded_with_the_published_class_name(tmp_path: Path):
    torch.manual_seed(0)
    model = TrackingTransformer3DModel(**TINY, num_tracking_blocks=2).eval()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["_class_name"] = "CogVideoXTransformer3DModelTracking"
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = TrackingTransformer3DModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs()).sample, model(**inputs()).sample)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "damaged", "absent", "no config"])
def test_loading_is_strict(tmp_path: Path, change: str):
    TrackingTransformer3DModel(**TINY, num_tracking_blocks=2).save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    named = "combine_linears.1.weight"
    if change == "missing":
        del weights[named]
    elif change == "unexpected":
        weights[named := "combine_linears.9.weight"] = torch.zeros(1)
    elif change == "shape":
        weights[named] = torch.zeros(3, 3)
    save_file(weights, path)
    if change == "damaged":
        path.write_bytes(path.read_bytes()[:200])
        named = path.name
    elif change == "absent":
        path.unlink()
        named = "safetensors"
    elif change == "no config":
        (tmp_path / "config.json").unlink()
        named = "config.json"
    with pytest.raises(ModelError, match=named):
        TrackingTransformer3DModel.from_pretrained(tmp_path)


def test_too_many_tracking_blocks():
    with pytest.raises(ModelError, match="3 blocks"):
        TrackingTransformer3DModel(**TINY, num_tracking_blocks=4)


def lookup_model(**config: float) -> WarpGuidedTransformer3DModel:
    torch.manual_seed(0)
    options = {"num_tracking_blocks": 2, "track_frequencies": 4, "track_scale": 4}
    return WarpGuidedTransformer3DModel(**TINY, **options, **config).eval()


def test_lookup_shares_the_published_parameters():
    plain = set(TrackingTransformer3DModel(**TINY, num_tracking_blocks=2).state_dict())
    more = set(lookup_model().state_dict())
    assert plain < more
    assert all(key.startswith("track_lookup.") for key in more - plain)


def test_a_model_with_a_lookup_is_led_towards_a_still_scene():
    model = lookup_model()
    torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    coordinates = track_coordinates(torch.rand(2, 3, 3, 16, 16))
    given = inputs() | {"first_frame": torch.rand(2, 3, 16, 16)}
    still = given | {"tracking_maps": torch.zeros_like(given["tracking_maps"])}
    with torch.no_grad():
        full = model(**given, track_coordinates=coordinates).sample
        none = model(**given, track_coordinates=coordinates, control_scale=0.0).sample
        untracked = model(**still, track_coordinates=torch.zeros_like(coordinates)).sample
    torch.testing.assert_close(none, untracked)
    assert (full - none).abs().max() > 1e-3


def test_a_control_without_places_leaves_the_lookup_still():
    torch.manual_seed(0)
    model = lookup_model(track_places=False)
    for linear in (model.proj_out, model.initial_combine_linear, *model.combine_linears):
        torch.nn.init.normal_(linear.weight, std=0.1)
    given = inputs() | {"first_frame": torch.rand(2, 3, 16, 16)}
    grey = track_coordinates(torch.rand(2, 3, 1, 16, 16).expand(-1, -1, 3, -1, -1))
    with torch.no_grad():
        told = model(**given, track_coordinates=grey).sample
        still = model(**given, track_coordinates=torch.zeros_like(grey)).sample
        unled = model(**given | {"tracking_maps": given["tracking_maps"] * 0}, track_coordinates=grey).sample
    torch.testing.assert_close(told, still)
    assert (told - unled).abs().max() > 1e-3


def test_pooled_text_starts_as_the_model_without_and_then_modulates():
    base = CogVideoXTransformer3DModel(**TINY).eval()
    plain = TrackingTransformer3DModel.from_base(base, num_tracking_blocks=2).eval()
    model = WarpGuidedTransformer3DModel.from_base(base, 2, track_frequencies=0, pooled_text=True).eval()
    assert set(model.state_dict()) - set(plain.state_dict()) == {
        f"pooled_text_proj.linear_{layer}.{kind}" for layer in (1, 2) for kind in ("weight", "bias")
    }
    assert model.pooled_text_proj is not None
    with torch.no_grad():
        before = plain(**inputs()).sample
        torch.testing.assert_close(model(**inputs()).sample, before)
        torch.nn.init.normal_(model.pooled_text_proj.linear_2.weight, std=0.5)
        assert (model(**inputs()).sample - before).abs().max() > 1e-3


def test_lookup_starts_as_the_moved_first_frame():
    """After `initialize_encoder`, the moved latents are those of the picture moved by whole cells."""
    lookup = lookup_of(48)
    mean = torch.rand(48) - 0.5
    lookup.initialize_encoder(torch.eye(48), mean)
    columns, rows = torch.meshgrid((torch.arange(16) + 0.5) / 16, (torch.arange(16) + 0.5) / 16, indexing="xy")
    tracking = torch.stack(
        [torch.stack([columns, rows, 0 * rows + 0.5]), torch.stack([columns.roll(4, 1), rows, 0 * rows + 0.5])]
    )
    first = torch.rand(1, 3, 16, 16) * 2 - 1
    latents = F.pixel_unshuffle(first, 4) - mean[:, None, None]
    with torch.no_grad():
        moved = lookup(track_coordinates(tracking[None]), first).warped
    torch.testing.assert_close(moved[0, 0], latents[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moved[0, 1, :, :, 1:], latents[0, :, :, :-1], rtol=1e-3, atol=1e-3)


def lookup_of(latent_channels: int = 4) -> TrackLookup:
    return TrackLookup(8, latent_channels, frequencies=4, scale=4, patch_size=2, snr_shift=3.0)


def test_the_velocity_is_that_of_the_best_guess():
    """Against samples: clean latents about a mean with a known deviation, and the mean velocity of those whose noisy
    latents are near a value.
    """
    lookup = lookup_of()
    generator = torch.Generator().manual_seed(0)
    mean, deviation, timestep = 0.7, 0.5, 400
    a = float(lookup.signal[timestep])
    b = (1 - a * a) ** 0.5
    clean = mean + deviation * torch.randn(2_000_000, generator=generator)
    noise = torch.randn(2_000_000, generator=generator)
    noisy, velocity = a * clean + b * noise, a * noise - b * clean
    shape = (1, 1, 4, 1, 1)
    for at in (-1.0, 0.2, 1.5):
        near = (noisy - at).abs() < 0.02
        said = lookup.denoise(
            torch.tensor([timestep]),
            torch.full(shape, math.log(deviation)) - lookup.deviation.detach()[0],
            torch.full(shape, at),
            torch.full(shape, mean),
            torch.ones(1, 1, 1, 1, 1),
        )
        assert said.unique().item() == pytest.approx(velocity[near].mean().item(), abs=0.02)


def test_a_clean_guess_at_every_noise_level_leads_to_it():
    """With a small deviation the velocity points from the noisy latents to the mean, at the last timestep wholly."""
    lookup = lookup_of()
    mean, noisy = torch.randn(1, 2, 4, 2, 2), torch.randn(1, 2, 4, 2, 2)
    local, seen = torch.full_like(mean, -9.0), torch.ones(1, 2, 1, 2, 2)
    last = lookup.denoise(torch.tensor([999]), local, noisy, mean, seen)
    torch.testing.assert_close(last, -mean, rtol=1e-3, atol=1e-3)
    middle = lookup.denoise(torch.tensor([600]), local, noisy, mean, seen)
    a = lookup.signal[600]
    torch.testing.assert_close(a * noisy - (1 - a * a).sqrt() * middle, mean, rtol=0.05, atol=0.05)


def test_without_a_first_frame_nothing_is_known():
    tracking = torch.rand(2, 3, 3, 16, 16)
    first = torch.rand(2, 3, 16, 16)
    first[1] = 0
    with torch.no_grad():
        found = lookup_of()(track_coordinates(tracking), first)
    assert found.visibility[0].max() > 0
    assert found.visibility[1].max() == 0
    assert found.warped[1].abs().max() == 0


def test_a_model_with_a_lookup_starts_from_the_moved_first_frame():
    model = lookup_model()
    model.initialize_from_scratch(torch.randn(4, 48), torch.randn(48))
    latents, coordinates = torch.randn(1, 3, 8, 4, 4), track_coordinates(torch.rand(1, 3, 3, 16, 16))
    first = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        velocity = model(
            latents,
            torch.randn(1, 5, 12),
            torch.tensor([999]),
            tracking_maps=latents,
            track_coordinates=coordinates,
            first_frame=first,
            return_dict=False,
        )[0]
        lookup = model.track_lookup
        assert lookup is not None
        moved = lookup(coordinates, first).warped
    torch.testing.assert_close(velocity, -moved, rtol=1e-3, atol=1e-3)


def test_what_the_first_frame_shows_is_corrected_less():
    """At the last noise level the velocity is the estimate itself, so that a correction can be read off it."""
    whole, part = lookup_model(), lookup_model(track_correction=0.25)
    torch.nn.init.normal_(whole.proj_out.weight, std=0.1)
    part.load_state_dict(whole.state_dict())
    tracking, first = torch.rand(2, 3, 3, 16, 16), torch.rand(2, 3, 16, 16) * 2 - 1
    first[1] = 0  # none
    given = inputs() | {"timestep": torch.tensor([999, 999]), "first_frame": first}
    given["track_coordinates"] = track_coordinates(tracking)
    assert whole.track_lookup is not None
    with torch.no_grad():
        looked_up = whole.track_lookup(given["track_coordinates"], first)
        full, less = (-model(**given).sample - looked_up.warped for model in (whole, part))
    assert looked_up.visibility[1].max() == 0 < looked_up.visibility[0].min() < looked_up.visibility[0].max() == 1
    torch.testing.assert_close(less, full * (1 - 0.75 * looked_up.visibility), rtol=1e-2, atol=1e-2)
    assert full.abs().amax(dim=(1, 2, 3, 4)).min() > 0.1
