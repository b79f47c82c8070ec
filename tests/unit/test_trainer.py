# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer on real (tiny) data: every stage runs, a resumed run is the uninterrupted one, the export loads."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trackshade.errors import UsageError
from trackshade.pipelines import DiffusionShaderPipeline
from trackshade.training.config import TrainConfig
from trackshade.training.data import generate_shards, load_shards
from trackshade.training.optimisers import rate_factor
from trackshade.training.run import train
from trackshade.training.text import build_tokenizer, tokenize

TINY = {
    "steps": 4,
    "autoencoder_steps": 3,
    "batch": 2,
    "width_heads": 1,
    "head_dim": 16,
    "layers": 2,
    "tracking_layers": 1,
    "time_dim": 16,
    "text_dim": 16,
    "text_length": 12,
    "latent_channels": 4,
    "track_frequencies": 3,
    "track_lookup_channels": 2,
    "warmup": 2,
    "bf16": False,
    "log_seconds": 0.0,
    "threads": 1,
    "device": "cpu",
    "tensorboard": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    generate_shards(folder, 6, size=(32, 24), frames=3)
    return str(folder)


def averages(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint" / "average.safetensors")


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(TrainConfig(out=str(out), data=data, **TINY))
    return out


def test_a_resumed_run_is_the_uninterrupted_one(data: str, whole: Path, tmp_path: Path):
    def stop(entry: dict) -> None:
        if entry.get("step") == 2 and "loss" in entry and entry["stage"] == "joint":
            raise KeyboardInterrupt

    config = TrainConfig(out=str(tmp_path), data=data, **TINY)
    with pytest.raises(KeyboardInterrupt):
        train(config, stop)
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == 2
    train(config)
    resumed, uninterrupted = averages(tmp_path), averages(whole)
    assert resumed.keys() == uninterrupted.keys()
    for key, value in uninterrupted.items():
        assert torch.equal(resumed[key], value), key


def test_training_changes_base_and_branch(whole: Path):
    final = averages(whole)
    assert final["transformer.proj_out.weight"].any()
    assert final["transformer.combine_linears.0.weight"].any()


def test_logs_and_sheets(whole: Path):
    entries = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in entries if "loss" in entry and entry["stage"] == "joint"]
    assert [entry["step"] for entry in steps] == [1, 2, 3, 4]
    assert all(entry["samples_per_second"] > 0 and entry["minutes_left"] >= 0 for entry in steps)
    assert list((whole / "sheets").glob("*.png"))


def test_the_export_is_a_pipeline(data: str, whole: Path):
    pipeline = DiffusionShaderPipeline.from_pretrained(whole / "export")
    pipeline.set_progress_bar_config(disable=True)
    video, tracking, caption, _ = load_shards(data)[0]
    frames = pipeline(
        caption,
        video[0],
        tracking,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        output_type="uint8",
    ).frames
    assert frames.shape == (1, *video.shape)
    assert frames.dtype == np.uint8
    assert not list((whole / "export").rglob("*.bin"))
    assert not any(str(whole) in path.read_text() for path in (whole / "export").rglob("*.json"))


def test_base_then_branch(data: str, tmp_path: Path):
    base, branch = tmp_path / "base", tmp_path / "branch"
    train(TrainConfig(out=str(base), data=data, stage="base", **TINY))
    before = averages(base)
    assert not before["transformer.combine_linears.0.weight"].any()
    train(TrainConfig(out=str(branch), data=data, stage="branch", start=str(base), **TINY))
    after = averages(branch)
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert "transformer.combine_linears.0.weight" in moved
    own = (
        "transformer.transformer_blocks_copy.",
        "transformer.initial_combine",
        "transformer.combine_linears.",
        "transformer.track_lookup.",
    )
    assert all(key.startswith(own) for key in moved)


def test_a_folder_with_another_run_is_refused(data: str, whole: Path):
    with pytest.raises(UsageError, match="layers"):
        train(TrainConfig(out=str(whole), data=data, **(TINY | {"layers": 3})))


@pytest.mark.parametrize("wrong", [{"stage": "all"}, {"minutes": 3.0}, {"steps": None}, {"stage": "branch"}])
def test_settings_are_checked(wrong: dict):
    with pytest.raises(UsageError):
        TrainConfig(out="x", data="y", **(TINY | wrong))


def test_rate_rises_then_falls_to_zero():
    rates = [rate_factor(step, step / 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] == 0
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_unknown_words_are_one_word_and_text_is_cut_to_length():
    tokenizer = build_tokenizer(["a red box", "A red, red ball"], 6)
    ids = tokenize(tokenizer, ["a RED zebra", "a red a red a red a red"], 6)
    assert ids.shape == (2, 6)
    assert ids[0, 2] == tokenizer.unk_token_id
    assert ids[0, 3] == tokenizer.eos_token_id
    assert ids[0, 1] == ids[1, 1]
    assert ids[1, -1] == tokenizer.eos_token_id
