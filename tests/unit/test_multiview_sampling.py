# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampler against closed forms: EDM's equations, and cells with a joint normal distribution."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pytest
import torch

from tests.helpers.gaussian_denoiser import GaussianDenoiser, along
from trackshade.pipelines.multiview import arms
from trackshade.pipelines.multiview.grid import Clip, Guided, cross, rows, windows
from trackshade.pipelines.multiview.prompts import complete_references
from trackshade.pipelines.multiview.sampling import (
    Experts,
    all_references,
    karras_sigmas,
    own_references,
    sample_grid,
)

V, F = 3, 4


def _experts(covariance: torch.Tensor, clips_per_batch: int = 16) -> Experts:
    denoiser = GaussianDenoiser(covariance, F)
    return Experts({"row": denoiser, "column": denoiser, "frame": denoiser}, clips_per_batch)


def _noise(channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(V, F, channels, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _joint(covariance: torch.Tensor, noise: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Sample all cells together by the same Euler steps, in the eigenvectors of each channel's covariance."""
    out = torch.empty_like(noise)
    for channel, matrix in enumerate(covariance):
        values, vectors = torch.linalg.eigh(matrix)
        x = vectors.T @ (noise[:, :, channel, 0, 0].flatten() * sigmas[0])
        for sigma, following in itertools.pairwise(sigmas):
            x = x * (1 + (following - sigma) * sigma / (values + sigma**2))
        out[:, :, channel, 0, 0] = (vectors @ x).reshape(V, F)
    return out


def test_noise_levels_are_those_of_edm() -> None:
    sigmas = karras_sigmas(50, 0.002, 700.0, 7.0)
    assert len(sigmas) == 51
    assert sigmas[-1] == 0.0
    assert sigmas[0] == pytest.approx(700.0)
    assert sigmas[49] == pytest.approx(0.002)
    middle = (700 ** (1 / 7) + 20 / 49 * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7
    assert sigmas[20] == pytest.approx(middle, rel=1e-12)


@pytest.mark.parametrize("clips_per_batch", [1, 2, 16])
def test_rows_are_the_joint_sampler_where_nothing_couples_the_rows(clips_per_batch: int) -> None:
    covariance, sigmas, noise = along(F, V, 0.8, "row")[None], karras_sigmas(12, 0.01, 80.0), _noise(1)
    found = sample_grid(_experts(covariance, clips_per_batch), noise, arms.rows_only, sigmas, {})
    torch.testing.assert_close(found, _joint(covariance, noise, sigmas), rtol=1e-10, atol=1e-12)
    other = sample_grid(_experts(covariance), noise, arms.columns_only, sigmas, {})
    assert (other - found).abs().max() > 0.1


def test_row_and_column_less_single_is_the_joint_score_of_separate_couplings() -> None:
    """One channel is coupled along rows, the other along columns: then the formula is exact at every noise level."""
    covariance = torch.stack([along(F, V, 0.8, "row"), along(V, F, 0.9, "column")])
    sigmas, noise = karras_sigmas(12, 0.01, 80.0), _noise(2)
    expected = _joint(covariance, noise, sigmas)
    found = sample_grid(_experts(covariance), noise, arms.rows_and_columns_less_single, sigmas, {})
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    half = sample_grid(_experts(covariance), noise, arms.convex(lambda step, steps: 0.5), sigmas, {})
    assert (half - expected).abs().max() > 0.05


def test_row_and_column_less_single_is_exact_for_a_tree_without_noise() -> None:
    """Theorem 3.1: cells that only their row and column couple, without a cycle, at a noise level near 0."""
    chain = torch.eye(V * F, dtype=torch.float64)
    # (2, 0) - (0, 0) - (0, 3): a column and a row through one cell; a chain's covariances are products.
    a, b, c, p, q = 2 * F, 0, 3, 0.7, 0.6
    for one, other, value in ((a, b, p), (b, c, q), (a, c, p * q)):
        chain[one, other] = chain[other, one] = value
    sigma, noise = 1e-3, _noise(1)
    found: list[torch.Tensor] = []

    def mix(step: object) -> torch.Tensor:
        found.append(arms.rows_and_columns_less_single(step))  # type: ignore[arg-type]
        return found[-1]

    sample_grid(_experts(chain[None]), noise / sigma, mix, [sigma, 0.0], {})
    score = (found[0] - noise)[:, :, 0, 0, 0].flatten() / sigma**2
    exact = -torch.linalg.solve(chain, noise[:, :, 0, 0, 0].flatten())
    torch.testing.assert_close(score, exact, rtol=1e-4, atol=1e-4)


def test_samples_have_the_covariance_of_the_distribution() -> None:
    """The steps are linear in the noise, so the covariance of the samples is that of the images of unit vectors."""
    covariance, sigmas = along(F, V, 0.8, "row"), karras_sigmas(300, 0.002, 80.0)
    images = []
    for n in range(F):  # the first row
        noise = torch.zeros(V, F, 1, 1, 1, dtype=torch.float64)
        noise[0, n] = 1.0
        images.append(sample_grid(_experts(covariance[None]), noise, arms.rows_only, sigmas, {})[0, :, 0, 0, 0])
    mapped = torch.stack(images, dim=1)
    torch.testing.assert_close(mapped @ mapped.T, covariance[:F, :F], rtol=0.03, atol=0.03)


def test_a_known_row_and_column_leave_less_disagreement_if_all_clips_know_them() -> None:
    """References of all cells make rows and columns agree: what a row estimates is nearer to what a column does."""
    line = lambda n: 0.9 ** (torch.arange(n)[:, None] - torch.arange(n)).abs().double()  # noqa: E731
    covariance = torch.kron(line(V), line(F))[None]
    truth = torch.linalg.cholesky(covariance[0]) @ torch.randn(V * F, dtype=torch.float64)
    known = {cell: truth.reshape(V, F)[cell].view(1, 1, 1) for cell in cross(0, 0, range(V), range(F))}
    experts, noise, sigmas = _experts(covariance), _noise(1), karras_sigmas(20, 0.01, 80.0)

    def off_cross_difference(choose: object) -> float:
        samples = [
            sample_grid(experts, noise, mix, sigmas, known, choose=choose)[1:, 1:]  # type: ignore[arg-type]
            for mix in (arms.rows_only, arms.columns_only)
        ]
        return float((samples[0] - samples[1]).abs().mean())

    assert off_cross_difference(all_references) < 0.5 * off_cross_difference(own_references)


def test_weights_of_columns_fall_and_side_views_lean_on_their_row() -> None:
    weights = [arms.falling_weight(n, 51) for n in range(51)]
    assert weights == sorted(weights, reverse=True)
    assert weights[25] == pytest.approx(0.5)
    assert weights[0] == pytest.approx(1 - 1 / (1 + math.exp(10)), rel=1e-12)
    assert arms.falling_weight(0, 2, 0.25, 5) == pytest.approx(1 - 1 / (1 + math.exp(1.25)))
    assert arms.view_weights([0.0, math.pi / 2, math.pi]) == pytest.approx([1.0, 0.25, 1.0])


def test_a_convex_mix_is_the_mean_of_its_estimates() -> None:
    covariance, noise = along(F, V, 0.8, "row")[None], _noise(1)
    experts, one_step = _experts(covariance), [2.0, 0.0]
    row, column = (sample_grid(experts, noise, mix, one_step, {}) for mix in (arms.rows_only, arms.columns_only))
    mixed = sample_grid(
        experts, noise, arms.convex(lambda step, steps: 0.75), one_step, {}, view_weights=[1.0, 0.5, 0.0]
    )
    share = 0.75 * torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(mixed, share * column + (1 - share) * row)


def test_repeated_steps_add_the_published_noise() -> None:
    covariance, noise, sigmas = along(F, V, 0.8, "row")[None], _noise(1), [2.0, 1.0, 0.0]
    experts = _experts(covariance)
    found = sample_grid(
        experts, noise, arms.rows_only, sigmas, {}, repeated_steps=1, generator=torch.Generator().manual_seed(7)
    )
    once = sample_grid(experts, noise, arms.rows_only, [2.0, 1.0], {})
    added = torch.randn(noise.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    again = (once + (2.0 - 1.0) * added) / 2.0  # as the noise that the sampler begins with
    torch.testing.assert_close(found, sample_grid(experts, again, arms.rows_only, sigmas, {}))


def test_guidance_is_applied_before_mixing_and_rises_over_a_clip() -> None:
    covariance, noise = along(F, V, 0.8, "row")[None], _noise(1)
    denoiser = GaussianDenoiser(covariance, F)
    guided = Guided(denoiser, 1.5, 3.0)
    known = {(v, 0): torch.full((1, 1, 1), 2.0, dtype=torch.float64) for v in range(V)}
    experts = Experts({"row": guided, "column": denoiser})
    found = sample_grid(experts, noise, arms.rows_only, [2.0, 0.0], known)
    plain = Experts({"row": denoiser, "column": denoiser})
    with_references = sample_grid(plain, noise, arms.rows_only, [2.0, 0.0], known)
    without = sample_grid(plain, noise, arms.rows_only, [2.0, 0.0], {})
    scale = torch.linspace(1.5, 3.0, F, dtype=torch.float64).view(1, -1, 1, 1, 1)
    torch.testing.assert_close(found, without + scale * (with_references - without))


def test_windows_cover_a_clip_and_end_with_it() -> None:
    found = windows(rows([1], range(7)), 4, 2)
    assert [[frame for _, frame in clip.cells] for clip in found] == [[0, 1, 2, 3], [2, 3, 4, 5], [3, 4, 5, 6]]
    assert windows(rows([1], range(3)), 4, 2) == rows([1], range(3))


def test_a_clip_of_references_gets_their_crossing_alone() -> None:
    known = dict.fromkeys(cross(0, 0, range(V), range(F)), "picture")
    row = [Clip("row", tuple((view, frame) for frame in range(F))) for view in range(V)]
    assert list(own_references(row[0], known)) == [(0, 0)]
    assert list(own_references(row[2], known)) == [(2, 0)]
    assert own_references(Clip("frame", ((2, 2),)), known) == {}
    assert list(own_references(Clip("frame", ((0, 2),)), known)) == [(0, 2)]
    assert list(own_references(Clip("row", ((1, 2), (1, 3))), known)) == [(1, 0)]  # a window of its row
    assert list(own_references(Clip("column", ((1, 2), (2, 2))), known)) == [(0, 2)]


@pytest.mark.parametrize("name", arms.ARMS)
def test_every_arm_samples_all_cells(name: str) -> None:
    """With one channel that nothing couples and no references, every arm is the sampler of a single cell."""
    covariance, sigmas, noise = torch.eye(V * F, dtype=torch.float64)[None], karras_sigmas(6, 0.01, 10.0), _noise(1)
    calls: list[tuple[int, int]] = []
    found = arms.sample_with_arm(
        arms.ARMS[name], _experts(covariance), noise, sigmas, {}, lambda cell, latents: latents,
        generator=torch.Generator().manual_seed(1), progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    if arms.ARMS[name].repeated_steps:
        assert found.isfinite().all()
    elif arms.ARMS[name].order == "whole":
        torch.testing.assert_close(found, _joint(covariance, noise, sigmas))
    assert calls[-1][0] == calls[-1][1] == len(calls)


def test_anchors_and_earlier_columns_become_references() -> None:
    seen: list[tuple[Clip, frozenset]] = []

    class Recording(GaussianDenoiser):
        def condition(self, clips, references):  # type: ignore[no-untyped-def]
            seen.extend((clip, frozenset(known)) for clip, known in zip(clips, references, strict=True))
            return super().condition(clips, [{}] * len(clips))

    denoiser = Recording(torch.eye(V * F, dtype=torch.float64)[None], F)
    experts = Experts({"row": denoiser, "column": denoiser})
    given: Mapping = {(0, 0): torch.zeros(1, 1, 1, dtype=torch.float64)}
    arms.sample_with_arm(
        arms.ARMS["anchors"], experts, _noise(1), [1.0, 0.5, 0.0], given, lambda cell, latents: latents
    )
    anchors = {(view, frame) for view in (0, 2) for frame in (0, 2, 3)}
    assert {known for clip, known in seen if len(clip.cells) == F} == {frozenset(anchors)}
    seen.clear()
    arms.sample_with_arm(
        arms.ARMS["frame-by-frame"], experts, _noise(1), [1.0, 0.0], given, lambda cell, latents: latents
    )
    assert [sorted(known) for _, known in seen] == [
        [(0, 0)],
        [(0, 0), (1, 0), (2, 0)],
        [(0, 0), (0, 1), (1, 1), (2, 1)],
        [(0, 0), (0, 2), (1, 2), (2, 2)],
    ]


@pytest.mark.parametrize(("prompt", "made"), [("image", 5), ("video", 2), ("static", 3), ("cross", 0)])
def test_prompts_are_completed_to_a_row_and_a_column(prompt: str, made: int) -> None:
    line = lambda n: 0.9 ** (torch.arange(n)[:, None] - torch.arange(n)).abs().double()  # noqa: E731
    experts = _experts(torch.kron(line(V), line(F))[None])
    given = {cell: torch.full((1, 1, 1), 3.0, dtype=torch.float64) for cell in arms.known_cells(prompt, V, F)}  # type: ignore[arg-type]
    found = complete_references(experts, _noise(1), karras_sigmas(20, 0.01, 80.0), given, lambda cell, latents: latents)
    assert next(iter(found)) == (0, 0)
    assert set(found) == set(cross(0, 0, range(V), range(F)))
    others = [picture for cell, picture in found.items() if cell not in given]
    assert len(others) == made
    assert all(found[cell] is picture for cell, picture in given.items())
    if others:  # they follow the reference
        assert float(torch.stack(others).mean()) > 1.5
