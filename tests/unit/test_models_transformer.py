# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracking transformer: the published forward pass, strict loading, initialisation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trackshade.errors import ModelError
from trackshade.models import TrackingTransformer3DModel, track_coordinates
from trackshade.models.track_lookup import TrackLookup, fill

FORWARD = Path(__file__).parent / "data" / "das_forward.safetensors"
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
            model(*given, image_rotary_emb=rotary, tracking_maps=maps, tracking_scale=scale).sample
            for scale in (0.0, 0.5, 1.0)
        )
    assert torch.equal(none, base)
    assert torch.equal(one, full)
    assert min((half - base).abs().max(), (half - full).abs().max()) > 1e-2


def test_from_base_predicts_what_the_base_predicts():
    torch.manual_seed(0)
    base = CogVideoXTransformer3DModel(**TINY).eval()
    model = TrackingTransformer3DModel.from_base(base, num_tracking_blocks=2, track_frequencies=0).eval()
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


def lookup_model() -> TrackingTransformer3DModel:
    torch.manual_seed(0)
    model = TrackingTransformer3DModel(
        **TINY, num_tracking_blocks=2, track_frequencies=4, track_lookup_channels=2, track_scale=4
    ).eval()
    return model


def test_lookup_shares_the_published_parameters():
    plain = set(TrackingTransformer3DModel(**TINY, num_tracking_blocks=2).state_dict())
    more = set(lookup_model().state_dict())
    assert plain < more
    assert all(key.startswith("track_lookup.") for key in more - plain)


def test_lookup_follows_tracks_and_ignores_what_was_hidden():
    """A point's token carries the first frame's features at its own first position, unless its depth says it was
    hidden there.
    """
    model = lookup_model()
    tracking = torch.zeros(1, 3, 3, 16, 16)
    columns, rows = torch.meshgrid((torch.arange(16) + 0.5) / 16, (torch.arange(16) + 0.5) / 16, indexing="xy")
    tracking[:, 0] = torch.stack([columns, rows, torch.full_like(rows, 0.5)])
    tracking[:, 1] = torch.stack(
        [columns.roll(4, 1), rows, torch.full_like(rows, 0.5)]
    )  # moved by 4 pixels to the right
    tracking[:, 2] = torch.stack(
        [columns, rows, torch.full_like(rows, 0.9)]
    )  # another surface, which was not seen there
    latents = torch.randn(1, 4, 4, 4)
    lookup = model.track_lookup
    assert lookup is not None
    with torch.no_grad():
        content = lookup.content(track_coordinates(tracking), latents)
    still, moved, hidden = content[0, :2], content[1, :2], content[2, :2]
    torch.testing.assert_close(moved[:, :, 4:], still[:, :, :-4], rtol=1e-3, atol=1e-4)
    assert still.abs().mean() > 1e3 * hidden.abs().mean()


def test_a_model_with_a_lookup_is_led_towards_a_still_scene():
    model = lookup_model()
    torch.nn.init.normal_(model.proj_out.weight, std=0.1)
    coordinates = track_coordinates(torch.rand(2, 3, 3, 16, 16))
    given = inputs()
    still = given | {"tracking_maps": torch.zeros_like(given["tracking_maps"])}
    with torch.no_grad():
        full = model(**given, track_coordinates=coordinates).sample
        none = model(**given, track_coordinates=coordinates, tracking_scale=0.0).sample
        untracked = model(**still, track_coordinates=torch.zeros_like(coordinates)).sample
    torch.testing.assert_close(none, untracked)
    assert (full - none).abs().max() > 1e-3


def test_without_tracks_the_first_frame_stands_still():
    model = lookup_model()
    lookup = model.track_lookup
    assert lookup is not None
    with torch.no_grad():
        content = lookup.content(track_coordinates(torch.zeros(1, 3, 3, 16, 16)), torch.randn(1, 4, 4, 4))
    torch.testing.assert_close(content[0], content[2], rtol=1e-3, atol=1e-4)
    assert content[0, :2].abs().mean() > 0.01


def test_lookup_starts_as_the_moved_first_frame():
    """After `initialise`, the moved latents are those of the picture moved by whole cells."""
    lookup = TrackLookup(dim=8, latent_channels=48, frequencies=2, channels=2, scale=4, patch=2, time_dim=4)
    lookup.initialise(torch.eye(48), torch.eye(48))
    columns, rows = torch.meshgrid((torch.arange(16) + 0.5) / 16, (torch.arange(16) + 0.5) / 16, indexing="xy")
    tracking = torch.stack(
        [torch.stack([columns, rows, 0 * rows + 0.5]), torch.stack([columns.roll(4, 1), rows, 0 * rows + 0.5])]
    )
    latents = torch.randn(1, 48, 4, 4)
    with torch.no_grad():
        lookup.gate[1] = 30.0
        moved = lookup(track_coordinates(tracking[None]), latents).moved
    assert moved is not None
    torch.testing.assert_close(moved[0, 0], latents[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved[0, 1, :, :, 1:], latents[0, :, :, :-1], rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.integers(0, 2**31))
def test_filling_keeps_what_is_known_and_invents_no_colours(height: int, width: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    known = (torch.rand(2, 1, height, width, generator=generator) < 0.4).float()
    known[:, :, 0, 0] = 1.0
    values = torch.randn(2, 3, height, width, generator=generator)
    filled = fill(values * known, known)
    torch.testing.assert_close(filled * known, values * known)
    for picture, original, mask in zip(filled, values, known, strict=True):
        seen = original[:, mask[0] > 0]  # [3, N]
        assert bool((picture.flatten(1) <= seen.amax(1, keepdim=True) + 1e-3).all())
        assert bool((picture.flatten(1) >= seen.amin(1, keepdim=True) - 1e-3).all())


def wiener_model() -> TrackLookup:
    return TrackLookup(
        dim=8, latent_channels=4, frequencies=2, channels=2, scale=4, patch=2, time_dim=4, fill=True, snr_shift=3.0
    )


def test_the_velocity_is_that_of_the_best_guess():
    """Against samples: clean latents about a mean with a known deviation, and the mean velocity of those whose noisy
    latents are near a value.
    """
    lookup = wiener_model()
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
    lookup = wiener_model()
    mean, noisy = torch.randn(1, 2, 4, 2, 2), torch.randn(1, 2, 4, 2, 2)
    local, seen = torch.full_like(mean, -9.0), torch.ones(1, 2, 1, 2, 2)
    last = lookup.denoise(torch.tensor([999]), local, noisy, mean, seen)
    torch.testing.assert_close(last, -mean, rtol=1e-3, atol=1e-3)
    middle = lookup.denoise(torch.tensor([600]), local, noisy, mean, seen)
    a = lookup.signal[600]
    torch.testing.assert_close(a * noisy - (1 - a * a).sqrt() * middle, mean, rtol=0.05, atol=0.05)


def test_without_a_first_frame_nothing_counts_as_seen():
    lookup = wiener_model()
    tracking = torch.rand(2, 3, 3, 16, 16)
    latents = torch.randn(2, 4, 4, 4)
    latents[1] = 0
    with torch.no_grad():
        seen = lookup(track_coordinates(tracking), latents).seen
    assert seen is not None
    assert seen[0].max() > 0
    assert seen[1].max() == 0


def test_the_uncertain_model_starts_from_the_moved_first_frame():
    torch.manual_seed(0)
    more = {"track_frequencies": 4, "track_lookup_channels": 2, "track_scale": 4, "track_fill": True}
    model = TrackingTransformer3DModel(**TINY, num_tracking_blocks=2, **more, track_snr_shift=3.0).eval()
    model.initialise_from_scratch(torch.randn(4, 48), torch.randn(48, 4))
    latents, coordinates = torch.randn(1, 3, 8, 4, 4), track_coordinates(torch.rand(1, 3, 3, 16, 16))
    with torch.no_grad():
        velocity = model(
            latents,
            torch.randn(1, 5, 12),
            torch.tensor([999]),
            tracking_maps=latents,
            track_coordinates=coordinates,
            return_dict=False,
        )[0]
        lookup = model.track_lookup
        assert lookup is not None
        moved = lookup(coordinates, latents[:, 0, 4:]).moved
    assert moved is not None
    scale = (velocity / -moved).mean(dim=(0, 1, 3, 4))
    assert torch.allclose(scale, torch.ones(4), atol=0.01)
