# SPDX-License-Identifier: GPL-3.0-or-later
"""Skipping of blocks between steps: exact where nothing changes, and with the tracking branch inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.tiny_checkpoint import FRAMES, HEIGHT, WIDTH, write_checkpoint
from tests.helpers.tiny_families import write_family
from trackshade.config import registry
from trackshade.core.errors import ModelError
from trackshade.models.block_cache import BlockCache
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
from trackshade.pipelines.families.caches import StepCache
from trackshade.pipelines.families.diffusion_shader import DiffusionShader
from trackshade.pipelines.families.loading import load_model
from trackshade.pipelines.families.wan import text_arguments

pytestmark = pytest.mark.slow

STEPS = 10


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> DiffusionShaderPipeline:
    made = DiffusionShaderPipeline.from_pretrained(write_checkpoint(tmp_path_factory.mktemp("tiny")))
    made.set_progress_bar_config(disable=True)
    return made


def shaded(pipeline: DiffusionShaderPipeline, threshold: float | None, **options: Any) -> tuple[np.ndarray, Any]:
    """Frames in 0..1, and the cache with which they were made."""
    cache = None if threshold is None else BlockCache(threshold)
    pipeline.transformer.block_cache = cache
    tracking = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    generator = torch.Generator().manual_seed(0)
    output: Any = pipeline("a box", tracking[0], tracking, num_inference_steps=STEPS, generator=generator, **options)
    pipeline.transformer.block_cache = None
    return output.frames[0], cache


def test_a_threshold_of_0_changes_nothing(pipeline: DiffusionShaderPipeline) -> None:
    plain, _ = shaded(pipeline, None)
    cached, cache = shaded(pipeline, 0.0)
    assert np.array_equal(plain, cached)
    assert (cache.computed, cache.skipped) == (STEPS, 0)


def test_a_higher_threshold_skips_more_and_errs_more(pipeline: DiffusionShaderPipeline) -> None:
    plain, _ = shaded(pipeline, None)
    found = []
    for threshold in (0.02, 0.1, 0.4, 1.0):
        frames, cache = shaded(pipeline, threshold)
        assert cache.computed + cache.skipped == STEPS
        found.append((cache.skipped, float(np.abs(frames - plain).mean())))
    assert [skipped for skipped, _ in found] == sorted(skipped for skipped, _ in found)
    assert found[-1][0] > STEPS // 2
    assert 0 < found[-1][1] < 0.2
    assert found[0][1] < found[-1][1]


def test_the_same_input_again_gives_the_same_output_without_running_the_blocks(
    pipeline: DiffusionShaderPipeline,
) -> None:
    """The tracking branch is part of what is cached: its contributions are there once, and its blocks do not run."""
    transformer = pipeline.transformer
    runs: list[str] = []
    hooks = [
        block.register_forward_hook(lambda *_, name=f"{kind}{index}": runs.append(name))
        for kind, blocks in (("main", transformer.transformer_blocks), ("copy", transformer.transformer_blocks_copy))
        for index, block in enumerate(blocks)
    ]
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, 8, HEIGHT // 8, WIDTH // 8)
    inputs = {
        "hidden_states": torch.randn(shape, generator=generator),
        "encoder_hidden_states": torch.randn(1, 8, 16, generator=generator),
        "timestep": torch.tensor([500]),
        "tracking_maps": torch.randn(shape, generator=generator),
        "image_rotary_emb": pipeline.rotary_embeddings(3, HEIGHT // 8, WIDTH // 8),
        "return_dict": False,
    }
    with torch.no_grad():
        plain = transformer(**inputs)[0]
        transformer.block_cache = BlockCache(1e-3)
        first = transformer(**inputs)[0]
        runs.clear()
        second = transformer(**inputs)[0]
        other = transformer(**inputs, control_scale=0.5)[0]
    transformer.block_cache = None
    for hook in hooks:
        hook.remove()
    assert torch.equal(first, plain)
    torch.testing.assert_close(second, plain, rtol=1e-5, atol=1e-5)
    assert runs[:2] == ["main0", "copy0"]
    assert len(runs) == 2 + 3 + 2  # the third call, with another strength of the tracks, runs all blocks
    assert not torch.allclose(other, plain, atol=1e-4)


@pytest.mark.long  # tracing takes seconds
def test_compiled_blocks_are_those_of_both_streams(pipeline: DiffusionShaderPipeline) -> None:
    """Regional compilation (by torch's tracing alone, without a compiler) gives the same frames."""
    plain, _ = shaded(pipeline, None)
    transformer = pipeline.transformer
    transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
    blocks = [*transformer.transformer_blocks, *transformer.transformer_blocks_copy]
    assert all(block._compiled_call_impl is not None for block in blocks)
    compiled, _ = shaded(pipeline, None)
    for block in blocks:
        block._compiled_call_impl = None
    np.testing.assert_allclose(compiled, plain, atol=1e-4)


@pytest.mark.long
def test_taylorseer_continues_steps_with_the_tracking_branch_inside(pipeline: DiffusionShaderPipeline) -> None:
    family = DiffusionShader(registry.spec("das-cogvideox-5b"), pipeline)
    tracking = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)

    def made(cache: StepCache, **options: Any) -> np.ndarray:
        family.set_cache(cache)
        generator = torch.Generator().manual_seed(0)
        output: Any = pipeline(
            "a box", tracking[0], tracking, num_inference_steps=STEPS, generator=generator, **options
        )
        return output.frames[0]

    plain = made(StepCache())
    assert np.array_equal(made(StepCache("taylorseer", interval=1)), plain)
    assert np.array_equal(made(StepCache("taylorseer", interval=4, warm_up=STEPS)), plain)
    errors = []
    for interval, order in ((2, 1), (5, 1), (5, 0)):
        frames = made(StepCache("taylorseer", interval=interval, order=order))
        errors.append(float(np.abs(frames - plain).mean()))
        assert np.array_equal(made(StepCache("taylorseer", interval=interval, order=order)), frames)
    assert 0 < errors[0] < errors[1] < 0.2
    assert errors[2] != errors[1]
    half = made(StepCache(), control_end=0.5)
    continued = made(StepCache("taylorseer", interval=2, warm_up=1), control_end=0.5)
    assert np.abs(continued - half).mean() < np.abs(continued - plain).mean()  # the tracks end where they should
    assert np.array_equal(made(StepCache()), plain)


def test_wans_blocks_are_skipped_by_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path))
    write_family(tmp_path / "wan-move-14b", "wan-move")
    model: Any = load_model(registry.spec("wan-move-14b"), "cpu")
    from PIL import Image

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8))
    cells = torch.tensor([[[1, 1], [2, 3], [3, 5]]])
    text = text_arguments(model.pipeline, "a red box", "", 5.0, 8)

    def latents(*cache: Any) -> torch.Tensor:
        model.set_cache(StepCache(*cache))
        generator = torch.Generator().manual_seed(0)
        options = {"num_frames": 9, "num_inference_steps": 6, "generator": generator, "output_type": "latent"}
        return model.pipeline(image, cells, **options, **text)[0]

    plain = latents()
    assert torch.equal(latents("first-block", 1e-9), plain)
    assert torch.equal(latents("taylorseer", 0.0, 1), plain)
    for cache in (("first-block", 0.9), ("taylorseer", 0.0, 3, 0)):
        skipping = latents(*cache)
        assert not torch.equal(skipping, plain)
        assert torch.equal(latents(*cache), skipping)  # nothing is left over from the video before
    assert torch.equal(latents(), plain)


def test_a_control_between_the_blocks_rules_the_first_block_cache_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path))
    write_family(tmp_path / "wan-vace-1.3b", "wan-vace")
    model = load_model(registry.spec("wan-vace-1.3b"), "cpu")
    model.set_cache(StepCache())
    with pytest.raises(ModelError, match="cannot skip"):
        model.set_cache(StepCache("first-block", 0.1))
    model.set_cache(StepCache("taylorseer", interval=2))  # which runs nothing between the blocks either
    assert model.pipeline.transformer.is_cache_enabled
