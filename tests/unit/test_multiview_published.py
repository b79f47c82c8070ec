# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false
"""The published pair of a video and a multi-view model, with tiny random networks of the real classes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from tests.helpers import tiny_multiview
from trackshade.core.errors import ModelError, UsageError
from trackshade.pipelines.multiview import arms
from trackshade.pipelines.multiview.grid import Clip, columns, cross, rows
from trackshade.pipelines.multiview.published import (
    LICENSE_NOTICE,
    ImageConditioning,
    PublishedPair,
    VideoDenoiser,
    ViewDenoiser,
)
from trackshade.pipelines.multiview.sampling import Experts, karras_sigmas, sample_grid

V, F, SIZE = 3, 4, (8, 8)
AZIMUTHS, ELEVATIONS = (0.0, 2.0, 4.0), (0.1, 0.2, 0.3)


@pytest.fixture(scope="module")
def conditioning() -> ImageConditioning:
    return ImageConditioning(tiny_multiview.autoencoder(), tiny_multiview.image_encoder())


def _picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)


def _noisy(count: int, length: int, sigma: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return sigma * torch.randn(count, length, 4, *SIZE, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.01, 1.0, 300.0])
def test_rows_follow_the_equations_of_edm(conditioning: ImageConditioning, sigma: float) -> None:
    unet, clip = tiny_multiview.video_unet(), rows([1], range(F))
    denoiser, noisy = VideoDenoiser(unet, conditioning, SIZE, fps=7, motion_bucket=127), _noisy(1, F, sigma)
    condition = denoiser.condition(clip, [{(1, 0): _picture(0)}])
    found = denoiser.denoise(noisy, sigma, condition)

    embedding, latents = conditioning.encode(_picture(0), SIZE)
    inputs = torch.cat([noisy / math.sqrt(sigma**2 + 1), latents.expand(1, F, -1, -1, -1)], dim=2)
    with torch.no_grad():
        velocity = unet(
            inputs, torch.tensor(0.25 * math.log(sigma), dtype=torch.float64), embedding[None],
            added_time_ids=torch.tensor([[6.0, 127.0, 0.0]], dtype=torch.float64),
        ).sample  # fmt: skip
    expected = noisy / (sigma**2 + 1) - sigma / math.sqrt(sigma**2 + 1) * velocity
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_sampled_row_is_that_of_the_scheduler_of_diffusers(conditioning: ImageConditioning) -> None:
    unet = tiny_multiview.video_unet()
    denoiser = VideoDenoiser(unet, conditioning, SIZE)
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True, sigma_min=0.002,
        sigma_max=700.0, final_sigmas_type="zero",
    )  # fmt: skip
    scheduler.set_timesteps(5)
    noise = _noisy(1, F, 1.0)
    experts, known = Experts({"row": denoiser}), {(0, 0): _picture(0)}
    found = sample_grid(experts, noise, arms.rows_only, karras_sigmas(5, 0.002, 700.0), known)

    latents, (embedding, image) = noise * 700.0, conditioning.encode(_picture(0), SIZE)
    ids = torch.tensor([[6.0, 127.0, 0.0]], dtype=torch.float64)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(latents, t)
        inputs = torch.cat([scaled, image.expand(1, F, -1, -1, -1)], dim=2).double()
        with torch.no_grad():
            velocity = unet(inputs, t.double(), embedding[None], added_time_ids=ids).sample
        latents = scheduler.step(velocity, t, latents).prev_sample
    torch.testing.assert_close(found, latents.double(), rtol=1e-3, atol=2e-3)  # the scheduler computes in float32


def test_columns_have_their_reference_last_and_their_angles_from_it(conditioning: ImageConditioning) -> None:
    unet, sigma = tiny_multiview.view_unet(), 2.0
    denoiser = ViewDenoiser(unet, conditioning, SIZE, AZIMUTHS, ELEVATIONS, reference_view=1)
    noisy = _noisy(2, V, sigma)
    clips = columns(range(V), [0, 3])
    pictures = [{(1, 0): _picture(0)}, {(1, 3): _picture(1)}]
    found = denoiser.denoise(noisy, sigma, denoiser.condition(clips, pictures))

    embedding, latents = (
        torch.stack(parts) for parts in zip(*(conditioning.encode(_picture(n), SIZE) for n in (0, 1)), strict=True)
    )
    order = [2, 0, 1]
    scale = math.sqrt(sigma**2 + 1)
    inputs = torch.cat([noisy[:, order] / scale, latents[:, None].expand(-1, V, -1, -1, -1)], dim=2)

    def repeated(values: list[float]) -> torch.Tensor:
        return torch.tensor([values] * 2, dtype=torch.float64)

    with torch.no_grad():
        velocity = unet(
            inputs, torch.tensor(0.25 * math.log(sigma), dtype=torch.float64), embedding, repeated([1e-5] * V),
            repeated([math.pi / 2 - ELEVATIONS[view] for view in order]),
            repeated([2.0, (0.0 - 2.0) % (2 * math.pi), 0.0]),
        )  # fmt: skip
    expected = noisy[:, order] / scale**2 - sigma / scale * velocity
    torch.testing.assert_close(found[:, order], expected, rtol=1e-12, atol=1e-12)


def test_the_view_network_with_equal_angles_is_the_video_network(conditioning: ImageConditioning) -> None:
    """With the same weights and one set of numbers for all cells, both classes compute the same."""
    views, video = tiny_multiview.view_unet(), tiny_multiview.video_unet()
    values = {key: value for key, value in views.state_dict().items() if not key.startswith("add_embedding.linear_1")}
    video.load_state_dict(values, strict=False)
    weight = views.add_embedding.linear_1.weight.detach().clone()
    video.add_embedding.linear_1.weight.data.zero_()  # it then reads nothing but the bias
    views.add_embedding.linear_1.weight.data.zero_()
    video.add_embedding.linear_1.bias.data.copy_(views.add_embedding.linear_1.bias)
    sample = torch.randn(2, V, 8, *SIZE, dtype=torch.float64)
    time, context = torch.tensor(0.3, dtype=torch.float64), torch.randn(2, 1, 16, dtype=torch.float64)
    zeros = torch.zeros(2, V, dtype=torch.float64)
    with torch.no_grad():
        expected = video(sample, time, context, added_time_ids=torch.zeros(2, 3, dtype=torch.float64)).sample
        torch.testing.assert_close(views(sample, time, context, zeros, zeros, zeros), expected)
        views.add_embedding.linear_1.weight.data.copy_(weight)
        assert (views(sample, time, context, zeros, zeros, zeros + 1.0) - expected).abs().max() > 1e-6


def test_a_reference_elsewhere_is_refused(conditioning: ImageConditioning) -> None:
    denoiser = VideoDenoiser(tiny_multiview.video_unet(), conditioning, SIZE)
    with pytest.raises(UsageError, match="must be its cell 1, not 3"):
        denoiser.condition([Clip("row", ((0, 0), (0, 1), (0, 2)))], [{(0, 2): _picture(0)}])


def test_the_pair_loads_from_folders_shows_its_licence_and_samples_a_grid(tmp_path: Path) -> None:
    messages: list[str] = []
    pair = PublishedPair.load(*tiny_multiview.write_pair(tmp_path), messages.append)
    assert messages == [LICENSE_NOTICE]
    experts = Experts(pair.denoisers(SIZE, AZIMUTHS, ELEVATIONS))  # type: ignore[arg-type]
    known = {cell: _picture(n) for n, cell in enumerate(cross(0, 0, range(V), range(F)))}
    noise = torch.randn(V, F, 4, *SIZE, generator=torch.Generator().manual_seed(0))
    grids = [
        arms.sample_with_arm(arms.ARMS[name], experts, noise, [2.0, 0.5, 0.0], known, lambda latents, _: latents)
        for name in ("rows", "columns", "logistic")
    ]
    assert all(grid.isfinite().all() for grid in grids)
    assert (grids[0] - grids[1]).abs().max() > 1e-3
    assert pair.decode(grids[2]).shape == (V, F, 16, 16, 3)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    video, views = tiny_multiview.write_pair(tmp_path)
    with pytest.raises(ModelError, match="no multi-view network"):
        PublishedPair.load(video, video, lambda text: None)
    path = next((video / "image_encoder").glob("*.safetensors"))
    weights = load_file(path)
    weights.pop("visual_projection.weight")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"visual_projection.weight is missing"):
        PublishedPair.load(video, views, lambda text: None)
