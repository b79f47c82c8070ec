# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""Memory presets: which is chosen, what it does to a checkpoint of the published classes, and a second attempt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks.hooks import HookRegistry

from tests.helpers.result_shots import at
from tests.helpers.result_shots import shot as moving_shot
from tests.helpers.tiny_checkpoint import FRAMES, HEIGHT, WIDTH, write_checkpoint
from trackshade.config import registry
from trackshade.config.memory_presets import GIB, MEMORY_CHOICES, PRESETS, choose_preset, memory_sentence, next_preset
from trackshade.config.model_spec import ModelSpec
from trackshade.config.options import SAMPLING_OPTIONS
from trackshade.config.settings import ShadeSettings
from trackshade.control import tracking_video
from trackshade.core.errors import ModelError, UsageError
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
from trackshade.pipelines.loading import load_pipeline
from trackshade.server.job import JobRun
from trackshade.server.job_inputs import JobInputs
from trackshade.server.models import Models
from trackshade.server.propagate import KeptWork
from trackshade.shot.fitting import plan_fit

pytestmark = pytest.mark.slow

PUBLISHED = registry.spec("das-cogvideox-5b")


@pytest.mark.parametrize(
    ("memory", "free", "chosen"),
    [
        ("auto", None, "full"),  # unknown, or a CPU
        ("auto", 80 * GIB, "full"),
        ("auto", 40 * GIB, "full"),
        ("auto", 40 * GIB - 1, "24"),
        ("auto", 23 * GIB, "24"),  # a card of 24 GB, with a desktop on it
        ("auto", 20 * GIB, "16"),
        ("auto", 15 * GIB, "16"),
        ("auto", 11 * GIB, "12"),
        ("auto", 7 * GIB, "8"),
        ("auto", 0, "8"),
        ("full", 7 * GIB, "full"),
        ("12", 80 * GIB, "12"),
        ("8", None, "8"),
    ],
)
def test_the_preset_goes_by_the_free_memory_or_the_setting(memory: str, free: int | None, chosen: str) -> None:
    assert choose_preset(memory, PUBLISHED.memory_bytes, free).name == chosen


def test_a_small_model_is_never_offloaded_where_it_fits() -> None:
    assert {choose_preset(memory, GIB, 2 * GIB).name for memory in MEMORY_CHOICES} == {"full"}
    assert next_preset(PRESETS["full"], GIB) is None


def test_the_next_preset_takes_less_until_there_is_none() -> None:
    chain = [PRESETS["full"]]
    while (following := next_preset(chain[-1], PUBLISHED.memory_bytes)) is not None:
        chain.append(following)
    assert [preset.name for preset in chain] == ["full", "24", "16", "12", "8"]
    assert [preset.duration for preset in chain] == sorted(preset.duration for preset in chain)
    assert all(f"{preset.duration:g} times" in memory_sentence(preset) for preset in chain[1:])
    assert next_preset(PRESETS["full"], 20 * GIB) == PRESETS["16"]  # which fits in 24 GB as a whole


def test_the_setting_is_checked_and_is_an_option() -> None:
    assert ShadeSettings(memory="12").to_dict()["memory"] == "12"
    with pytest.raises(UsageError, match="memory"):
        ShadeSettings(memory="13")
    option = next(option for option in SAMPLING_OPTIONS if option.key == "memory")
    assert (option.default, option.choices) == ("auto", MEMORY_CHOICES)


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_checkpoint(folder / PUBLISHED.name)
    return folder


@pytest.fixture(autouse=True)
def use_folder(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_MODELS", str(models_folder))


def with_large_tiles(pipeline: DiffusionShaderPipeline) -> DiffusionShaderPipeline:
    """The same pipeline, with tiles of the autoencoder that are larger than the tiny image."""
    pipeline.vae.tile_sample_min_height, pipeline.vae.tile_sample_min_width = 2 * HEIGHT, 2 * WIDTH
    pipeline.vae.tile_latent_min_height, pipeline.vae.tile_latent_min_width = HEIGHT // 4, WIDTH // 4
    return pipeline


def shaded(pipeline: DiffusionShaderPipeline) -> np.ndarray:
    with_large_tiles(pipeline)
    tracking = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    generator = torch.Generator().manual_seed(0)
    output: Any = pipeline("a box", tracking[0], tracking, num_inference_steps=2, output_type="np", generator=generator)
    return output.frames[0]


@pytest.fixture(scope="module")
def whole(models_folder: Path) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKSHADE_MODELS", str(models_folder))
        return shaded(load_pipeline(PUBLISHED, "cpu", memory="full"))


@pytest.mark.parametrize("memory", ["24", "16", "12"])
def test_offloading_gives_the_same_pictures(memory: str, whole: np.ndarray) -> None:
    pipeline = load_pipeline(PUBLISHED, "cpu", memory=memory)
    assert pipeline.memory_preset == PRESETS[memory]
    np.testing.assert_array_equal(shaded(pipeline), whole)


def offloaded(module: torch.nn.Module) -> int:
    """The number of modules that a group offloading hook loads before they run."""
    found = [getattr(part, "_diffusers_hook", None) for part in module.modules()]
    return sum(isinstance(hook, HookRegistry) and hook.get_hook("group_offloading") is not None for hook in found)


def test_groups_are_smaller_where_there_is_less_memory() -> None:
    counts = []
    for memory in ("full", "16", "12", "8"):
        pipeline = load_pipeline(PUBLISHED, "cpu", memory=memory)
        counts.append(offloaded(pipeline.transformer))
        assert (offloaded(pipeline.text_encoder) > 0) == (memory != "full")
        assert pipeline.vae.use_tiling == pipeline.vae.use_slicing == (memory != "full")
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[-1] > counts[1] > 0


def test_weights_in_8_bits_take_less_and_change_little(whole: np.ndarray) -> None:
    pipeline = load_pipeline(PUBLISHED, "cpu", memory="8")
    blocks = [*pipeline.transformer.transformer_blocks, *pipeline.transformer.transformer_blocks_copy]
    stored = {block.ff.net[2].weight.dtype for block in blocks}
    assert stored == {torch.float8_e4m3fn}
    assert pipeline.transformer.dtype == torch.float32  # what it computes with
    difference = np.abs(shaded(pipeline) - whole)
    assert 0 < difference.mean() < 0.02
    assert difference.max() < 0.2


def hungry(spec: ModelSpec, memory: str = "auto", **options: Any) -> DiffusionShaderPipeline:
    """Loads the tiny checkpoint, which asks for more memory than any machine has unless its layers are offloaded."""
    pipeline = with_large_tiles(load_pipeline(PUBLISHED, memory=memory, **options))
    if pipeline.memory_preset.offload != "group":
        pipeline.transformer.register_forward_pre_hook(lambda *_: torch.empty(1 << 50))
    return pipeline


class Recorder:
    """Keeps what a job reports."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        self.messages.append(message)

    def check(self) -> None:
        pass


def job(spec: ModelSpec, folder: Path, reporter: Recorder, memory: str = "auto") -> JobRun:
    """A job for a model, up to where its frames are made."""
    settings = ShadeSettings(model=spec.name, steps=1, output_size="model", memory=memory)
    shot = moving_shot([("Square", [at(0.05 * t, 0, 0) for t in range(FRAMES)])], size=(WIDTH, HEIGHT))
    fit = plan_fit(shot, spec)
    tracking = tracking_video(fit.apply(shot))
    work = KeptWork(folder, b"test")
    return JobRun(shot, spec, settings, JobInputs(None, None, None, {}), fit, tracking, work, folder, reporter, {})


TINY = dataclasses.replace(
    PUBLISHED, allowed_frame_counts=(FRAMES,), sizes=((WIDTH, HEIGHT),), loader=f"{__name__}:hungry"
)


def test_out_of_memory_is_retried_once_with_the_next_preset_and_said(tmp_path: Path) -> None:
    reporter = Recorder()
    run = job(TINY, tmp_path, reporter, memory="24")
    images, digests = Models("cpu").make_images(run, None, still=False)
    assert images.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert set(digests) == {TINY.name}
    assert run.memory["preset"] == "16"
    assert "ran out of memory with the memory preset 24" in run.memory["warning"]
    assert "Out of memory with the preset 24, trying again with 16" in reporter.messages
    record = run.write(images, run.tracking.shot, None, None, digests)
    assert record["model_fit"]["memory"] == run.memory
    assert run.memory["warning"] in record["warnings"]


def test_out_of_memory_is_retried_once_only(tmp_path: Path) -> None:
    run = job(TINY, tmp_path, Recorder(), memory="full")
    with pytest.raises(ModelError) as caught:
        Models("cpu").make_images(run, None, still=False)
    assert caught.value.code == "out-of-memory"
    assert run.memory["preset"] == "24"


def test_a_loaded_model_is_kept_unless_another_preset_is_asked_for(tmp_path: Path) -> None:
    models = Models("cpu")
    first = models.load(PUBLISHED, Recorder().report, "12")
    assert models.load(PUBLISHED, Recorder().report) is first
    assert models.load(PUBLISHED, Recorder().report, "12") is first
    assert models.load(PUBLISHED, Recorder().report, "full").preset == PRESETS["full"]


def test_tiles_of_the_autoencoder_change_little() -> None:
    vae = load_pipeline(PUBLISHED, "cpu", memory="full").vae
    latents = torch.randn(1, 4, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = vae.decode(latents).sample
        vae.enable_tiling(tile_sample_min_height=48, tile_sample_min_width=80)
        tiled = vae.decode(latents).sample
    assert tiled.shape == whole.shape
    assert 0 < (tiled - whole).abs().mean() < 0.05
