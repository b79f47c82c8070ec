# SPDX-License-Identifier: GPL-3.0-or-later
"""Training that starts from a model whose tokens have another size, and noise levels for few steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, conv2d, cosine_similarity, interpolate, linear

from trackshade.models.warp_guided import WarpGuidedTransformer3DModel
from trackshade_lab.training.checkpoint import adapt_weights
from trackshade_lab.training.diffusion import sample_timesteps

SCALE = 2


def model(token: int) -> WarpGuidedTransformer3DModel:
    torch.manual_seed(token)
    made = WarpGuidedTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=16,
        text_embed_dim=12,
        num_layers=2,
        sample_width=12,
        sample_height=12,
        sample_frames=2,
        patch_size=token,
        temporal_compression_ratio=1,
        max_text_seq_length=5,
        num_tracking_blocks=1,
        track_frequencies=2,
        track_scale=SCALE,
    ).eval()
    assert made.track_lookup is not None
    torch.nn.init.normal_(made.track_lookup.uncertainty.weight, std=0.1)
    return made


def named(transformer: WarpGuidedTransformer3DModel) -> dict[str, torch.Tensor]:
    return {f"transformer.{key}": value.detach() for key, value in transformer.named_parameters()}


def smooth(*shape: int, size: int) -> torch.Tensor:
    """A field that is the same at every resolution, but for its sampling."""
    generator = torch.Generator().manual_seed(5)
    return interpolate(torch.randn(*shape, 3, 3, generator=generator), size=(size, size), mode="bicubic")


@pytest.mark.parametrize("after", [1, 3, 4])
def test_adapted_weights_give_similar_features_and_outputs(after: int) -> None:
    """The same scene at another resolution, with as many tokens: features and outputs stay near, and far nearer than
    those of start values.
    """
    before = 2
    old, new = model(before), model(after)
    fresh = named(new)
    taken = adapt_weights(named(old), fresh, SCALE)
    assert taken.keys() == fresh.keys()
    assert all(taken[key].shape == fresh[key].shape for key in fresh)
    cells = {token: 6 * token for token in (before, after)}

    def patches(
        transformer: WarpGuidedTransformer3DModel, token: int, weights: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        field = smooth(1, 8, size=cells[token])
        return conv2d(field, weights["transformer.patch_embed.proj.weight"], stride=token)

    true = patches(old, before, named(old))
    error = (patches(new, after, taken) - true).square().mean()
    assert error < 0.1 * true.square().mean()
    assert error < 0.1 * (patches(new, after, fresh) - true).square().mean()

    hidden = torch.randn(1, 36, 32, generator=torch.Generator().manual_seed(1))

    def written(
        transformer: WarpGuidedTransformer3DModel, token: int, weights: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        rows = linear(hidden, weights["transformer.proj_out.weight"], weights["transformer.proj_out.bias"])
        picture = transformer.unpatchify(rows, torch.Size((1, 1, 4, cells[token], cells[token])))
        return adaptive_avg_pool2d(picture[0], 6)  # what a token says on the whole

    same = cosine_similarity(written(old, before, named(old)).flatten(), written(new, after, taken).flatten(), dim=0)
    assert same > 0.9


def test_weights_of_equal_shape_are_copied() -> None:
    old, other = named(model(2)), named(model(2))
    other["transformer.new"] = torch.ones(3)
    taken = adapt_weights(old, other, SCALE)
    assert all(torch.equal(taken[key], old[key]) for key in old)
    assert torch.equal(taken["transformer.new"], torch.ones(3))


def test_terminal_fraction_of_timesteps() -> None:
    for batch, terminal in ((10, 0.6), (6, 0.0), (4, 1.0), (1, 0.5)):
        levels = sample_timesteps(np.random.default_rng(0), batch, 1000, terminal)
        assert levels.shape == (batch,)
        assert levels.min() >= 0
        assert (levels == 999).sum() >= round(terminal * batch)
    drawn = np.concatenate([sample_timesteps(np.random.default_rng(n), 6, 1000, 0.5) for n in range(300)])
    free = drawn[drawn < 999]
    assert 0.45 < len(free) / len(drawn) < 0.55
    assert abs(free.mean() - 500) < 30
