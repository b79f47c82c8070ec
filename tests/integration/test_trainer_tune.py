# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false, reportArgumentType=false
"""Fine-tuning on a tiny random base of the published classes, from a dataset folder to a pipeline that loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from safetensors.torch import load_file

from tests.helpers.tiny_checkpoint import FRAMES, HEIGHT, TRANSFORMER, WIDTH, write_checkpoint
from tests.helpers.trainings import PLAIN
from trackshade.core.errors import ModelError, UsageError
from trackshade.models.das import TrackingTransformer3DModel
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
from trackshade_lab.training.config import FineTuningConfig
from trackshade_lab.training.fine_tuning_task import EncodingCache, FineTuningTask
from trackshade_lab.training.run import export_run, train
from trackshade_lab.video_dataset import DatasetWriter, read_dataset, read_video

TINY = {
    "steps": 3,
    "batch_size": 2,
    "num_tracking_blocks": 2,
    "warmup_steps": 1,
    "learning_rate": 1e-2,
    "validation_inference_steps": 2,
    **PLAIN,
}
BRANCH = ("transformer_blocks_copy.", "initial_combine_linear.", "combine_linears.")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base without a branch, as the published one's base is written."""
    folder = write_checkpoint(tmp_path_factory.mktemp("base"))
    torch.manual_seed(3)
    keys = {key: value for key, value in TRANSFORMER.items() if key != "num_tracking_blocks"}
    shutil.rmtree(folder / "transformer")
    CogVideoXTransformer3DModel(**keys).save_pretrained(folder / "transformer")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "_class_name": "CogVideoXImageToVideoPipeline",
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = DatasetWriter(tmp_path_factory.mktemp("dataset") / "data")
    rng = np.random.default_rng(0)
    for name in ("one", "two", "three"):
        video, tracking = rng.integers(0, 256, (2, FRAMES, HEIGHT, WIDTH, 3), np.uint8)
        dataset.add(name, f"a {name} box", video, tracking, 8.0)
    return dataset.folder


@pytest.fixture(scope="module")
def tuned(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    train(FineTuningConfig(out=str(out), data=str(data), base=str(base), **TINY))
    return out


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")


def shade(pipeline: DiffusionShaderPipeline) -> torch.Tensor:
    rng = np.random.default_rng(5)
    image, tracking = (
        rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8),
        rng.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8),
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return pipeline("a box", image, tracking, num_inference_steps=2, generator=generator, output_type="latent").frames


def test_only_the_branch_changes_and_the_published_layout_is_exported(base: Path, tuned: Path):
    before, after = stored(base), stored(tuned / "export")
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert {key for key in after if key not in before} == {key for key in after if key.startswith(BRANCH)}
    assert after["combine_linears.1.weight"].any()
    copied = [key for key in after if key.startswith("transformer_blocks_copy.")]
    assert any(not torch.equal(after[key], before[key.replace("_copy", "", 1)]) for key in copied)
    index = json.loads((tuned / "export" / "model_index.json").read_text())
    assert index["transformer"][1] == "CogVideoXTransformer3DModelTracking"
    config = json.loads((tuned / "export" / "transformer" / "config.json").read_text())
    assert config["_class_name"] == "CogVideoXTransformer3DModelTracking"
    assert config["num_tracking_blocks"] == 2
    assert not any(key.startswith("track_") for key in config)
    assert not any(str(base) in path.read_text() for path in (tuned / "export").rglob("*.json"))
    for path in (tuned / "export").rglob("*.json"):  # nobody who edits the result edits the base
        assert path.stat().st_nlink == 1


def test_the_export_is_a_pipeline(tuned: Path):
    pipeline = DiffusionShaderPipeline.from_pretrained(tuned / "export")
    assert torch.isfinite(shade(pipeline)).all()


def test_validation_images_and_cache(base: Path, data: Path, tuned: Path, tmp_path: Path):
    assert list((tuned / "sheets").glob("*.png"))
    kept = {path: path.stat().st_mtime_ns for path in (data / "cache").iterdir()}
    assert len(kept) == 3 + 4  # clips, and captions with the empty one
    train(FineTuningConfig(out=str(tmp_path), data=str(data), base=str(base), **TINY))
    assert {path: path.stat().st_mtime_ns for path in (data / "cache").iterdir()} == kept
    assert not list(data.rglob("*.pt"))


def test_a_resumed_run_equals_the_uninterrupted_one(base: Path, data: Path, tuned: Path, tmp_path: Path):
    def stop(entry: dict) -> None:
        if entry.get("step") == 2 and "loss" in entry:
            raise KeyboardInterrupt

    config = FineTuningConfig(out=str(tmp_path), data=str(data), base=str(base), **TINY)
    with pytest.raises(KeyboardInterrupt):
        train(config, stop)
    train(config)
    ours, theirs = stored(tmp_path / "export"), stored(tuned / "export")
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    again = export_run(tmp_path, tmp_path / "again")
    assert all(torch.equal(value, theirs[key]) for key, value in stored(again).items())


def test_a_fused_lora_equals_the_separate_one(base: Path, data: Path, tmp_path: Path):
    fused, apart = tmp_path / "fused", tmp_path / "apart"
    lora = TINY | {"lora_rank": 2}
    config = FineTuningConfig(out=str(fused), data=str(data), base=str(base), **lora)
    train(config)
    run_again = FineTuningConfig(out=str(apart), data=str(data), base=str(base), lora_fuse=False, **lora)
    train(run_again)
    before = stored(base)
    assert all(torch.equal(stored(apart / "export")[key], value) for key, value in before.items())
    changed = {key for key, value in before.items() if not torch.equal(stored(fused / "export")[key], value)}
    assert changed
    assert all(".attn1.to_" in key and key.startswith("transformer_blocks.") for key in changed)
    transformer = TrackingTransformer3DModel.from_pretrained(apart / "export" / "transformer")
    folder = str(apart / "export" / "lora")
    transformer.load_lora_adapter(folder, prefix="transformer", use_safetensors=True, local_files_only=True)
    transformer.fuse_lora()
    transformer.unload_lora()
    theirs = stored(fused / "export")
    for key, value in transformer.state_dict().items():
        torch.testing.assert_close(value, theirs[key], msg=key)
    DiffusionShaderPipeline.from_pretrained(fused / "export")


class Fixed(torch.nn.Module):
    """Predicts what it was given."""

    def __init__(self, velocity: torch.Tensor) -> None:
        super().__init__()
        self.velocity = velocity

    def forward(self, *arguments) -> torch.Tensor:
        return self.velocity


@pytest.fixture
def task(base: Path, data: Path, tuned: Path) -> FineTuningTask:
    entries = read_dataset(data)
    pipeline = DiffusionShaderPipeline.from_pretrained(tuned / "export")
    cache = EncodingCache(
        data / "cache",
        vae=base / "vae",
        text_encoder=base / "text_encoder",
        tokenizer=base / "tokenizer",
        max_text_length=8,
        store_pixels=False,
    )
    settings = TINY | {"batch_size": 4, "image_dropout": 0.5}
    return FineTuningTask(
        entries, cache, pipeline, FineTuningConfig(out="x", data=str(data), base=str(base), **settings)
    )


def test_the_loss_is_the_published_recipe(task: FineTuningTask):
    """Squared error of the clean latents that the prediction means, weighted with 1 / (1 - alpha_bar)."""
    batch = task.get_batch(3)
    velocity = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(1))
    signal = task.scheduler.alphas_cumprod[batch.timesteps].float()[:, None, None, None, None]
    noisy = signal.sqrt() * batch.latents + (1 - signal).sqrt() * batch.noise
    clean = signal.sqrt() * noisy - (1 - signal).sqrt() * velocity
    wanted = ((clean - batch.latents).square() / (1 - signal)).mean()
    torch.testing.assert_close(task.compute_loss(Fixed(velocity), batch), wanted, rtol=1e-3, atol=0)


def test_every_epoch_shows_every_clip_once(task: FineTuningTask):
    shown = np.concatenate([task.pick_clips(step) for step in range(3)])  # 12 places, 4 epochs of 3 clips
    assert all(sorted(epoch) == [0, 1, 2] for epoch in shown.reshape(4, 3))


def test_batches_match_the_pipeline_and_are_split_among_processes(task: FineTuningTask):
    full, parts = task.get_batch(5), [task.get_batch(5, part, 2) for part in range(2)]
    for name in ("latents", "image_latents", "tracking_maps", "text", "noise", "timesteps"):
        value = getattr(full, name)
        shared = torch.empty_like(value)
        shared[0::2], shared[1::2] = (getattr(part, name) for part in parts)
        assert torch.equal(shared, value), name
    dropped = [not image.any() for image in full.image_latents]
    assert 0 < sum(dropped) < 4 or any(not task.get_batch(step).image_latents[0].any() for step in range(6, 12))
    assert not full.image_latents[:, 1:].any()
    # The mean over draws is what the pipeline would give: the tracking latents, then the first frame's alone.
    clip = task.pick_clips(5)[0]
    tracking = torch.from_numpy(read_video(task.entries[clip].tracking)).permute(0, 3, 1, 2)[None].float() / 255
    with torch.no_grad():
        drawn = [
            task.pipeline.encode_tracking_video(tracking, "training", torch.Generator().manual_seed(n))
            for n in range(40)
        ]
        mine = [task.load_sample(int(clip), n, 0).tracking_maps for n in range(40)]
    spread = torch.cat(drawn).std(0).mean()
    assert (torch.cat(drawn).mean(0) - torch.cat(mine).mean(0)).abs().mean() < 0.4 * spread


def test_a_base_with_a_branch_is_trained_on(data: Path, tmp_path: Path):
    folder = write_checkpoint(tmp_path / "base")
    train(FineTuningConfig(out=str(tmp_path / "run"), data=str(data), base=str(folder), **TINY | {"steps": 1}))
    before, after = stored(folder), stored(tmp_path / "run" / "export")
    assert before.keys() == after.keys()
    assert {key for key in before if not torch.equal(before[key], after[key])} <= {
        key for key in before if key.startswith(BRANCH)
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_tracking_blocks": 9}, "cannot have 9 tracking blocks"),
        ({"base": "/nowhere"}, "no model in /nowhere"),
        ({"data": "/nowhere"}, "prompt.txt cannot be read"),
        ({"batch_size": 3, "gradient_accumulation_steps": 2}, "does not divide evenly"),
    ],
)
def test_unusable_settings_raise_errors(base: Path, data: Path, tmp_path: Path, change: dict, words: str):
    settings = {"out": str(tmp_path), "data": str(data), "base": str(base), **TINY, **change}
    with pytest.raises((UsageError, ModelError), match=words):
        train(FineTuningConfig(**settings))
