# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""Training of the motion model: the stages of a tiny run, and going on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.motion import TINY_TRAINING, motion_batch
from trackshade.core.errors import UsageError
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.pipelines.motion import MotionPipeline
from trackshade_lab.motion.generator_task import GeneratorModel, GeneratorTask
from trackshade_lab.motion.stated import BASELINES
from trackshade_lab.motion.token_task import TokenTask, build_token_model
from trackshade_lab.motion.training import build_transformer, load_token_model
from trackshade_lab.training.__main__ import MOTION_DESCRIPTION, parse_generated
from trackshade_lab.training.config import MotionConfig
from trackshade_lab.training.run import export_run, train

STAGES = {"steps": 3, "generator_steps": 2}


def fitted_autoencoder(channels: int) -> PatchAutoencoder:
    vae = PatchAutoencoder(4, channels, refiner_width=8, refiner_layers=0)
    target = motion_batch(drivers=False).target
    vae.fit(target * 2 - 1)
    return vae.requires_grad_(False)


@pytest.fixture(scope="module")
def baselines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("baselines")
    train(MotionConfig(out=str(out), steps=2, sources="baselines", **TINY_TRAINING))
    return out


@pytest.mark.long
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, baselines: Path) -> None:
    """Bit for bit, stopped once in each stage."""
    settings = {**TINY_TRAINING, **STAGES, "baselines": str(baselines)}
    whole, parts = (MotionConfig(out=str(tmp_path / name), **settings) for name in ("whole", "parts"))
    folder = train(whole)
    for stage, step in (("tokens", 2), ("generator", 1)):

        def stop(entry: dict[str, Any], stage: str = stage, step: int = step) -> None:
            if entry["stage"] == stage and entry.get("step") == step and "loss" in entry:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(parts, stop)
        assert json.loads((tmp_path / "parts" / stage / "progress.json").read_text())["step"] == step
    resumed = train(parts)
    again = export_run(tmp_path / "parts", tmp_path / "again")
    expected, *others = (MotionPipeline.from_pretrained(path).networks for path in (folder, resumed, again))
    for name in ("encoder", "adapter", "transformer", "vae"):
        for key, value in getattr(expected, name).state_dict().items():
            for other in others:
                torch.testing.assert_close(getattr(other, name).state_dict()[key], value, rtol=0, atol=0)


def test_each_stage_trains_its_own_part(tmp_path: Path) -> None:
    """The generator's stage changes neither the encoder nor what the adapter says about landmarks."""
    settings = {**TINY_TRAINING, "steps": 2}
    alone, full = (MotionConfig(out=str(tmp_path / name), **settings) for name in ("alone", "full"))
    train(alone)
    stages = MotionConfig(out=str(tmp_path / "full"), **settings, generator_steps=2)
    exported = MotionPipeline.from_pretrained(train(stages)).networks
    model = load_token_model(tmp_path / "alone", full)
    encoder, adapter = model.sources["tokens"], model.adapters["tokens"]
    for key, value in encoder.state_dict().items():
        torch.testing.assert_close(exported.encoder.state_dict()[key], value.bfloat16().float(), rtol=0, atol=0)
    for key, value in adapter.state_dict().items():
        if not key.startswith("view."):
            torch.testing.assert_close(exported.adapter.state_dict()[key], value.bfloat16().float(), rtol=0, atol=0)
    moved = exported.transformer.state_dict()["proj_out.weight"]
    assert moved.abs().max() > 0


def test_motion_tokens_come_along_the_channels_instead() -> None:
    config = MotionConfig(out="", steps=1, motion_channels=True, **TINY_TRAINING)
    transformer = build_transformer(config)
    names = {name.split(".")[0] for name, _ in transformer.named_parameters()}
    assert "motion_proj" in names
    assert "motion_blocks" not in names
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    model = GeneratorModel(transformer, build_token_model(config), fitted_autoencoder(8), bf16=False)
    task = GeneratorTask(model.vae, {"tokens": 1.0}, config)
    task.compute_loss(model, task.get_batch(0)).backward()
    gradient = transformer.get_parameter("motion_proj.weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_gradients_reach_only_what_a_stage_trains() -> None:
    config = MotionConfig(out="", steps=1, **TINY_TRAINING)
    tokens = build_token_model(config, ("tokens",))
    task = TokenTask(config)
    task.compute_loss(tokens, task.get_batch(5)).backward()
    without = {name for name, value in tokens.named_parameters() if value.grad is None}
    assert all("view." in name or "rest" in name for name in without)
    tokens.zero_grad(set_to_none=True)
    tokens.requires_grad_(False)
    tokens.adapters["tokens"].view.requires_grad_(True)
    vae = fitted_autoencoder(config.latent_channels)
    transformer = build_transformer(config)
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    torch.nn.init.normal_(transformer.get_parameter("motion_blocks.0.to_out.weight"), std=0.1)
    model = GeneratorModel(transformer, tokens, vae, bf16=False)
    generator_task = GeneratorTask(vae, {"tokens": 1.0}, config)
    generator_task.compute_loss(model, generator_task.get_batch(0)).backward()
    trained = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert trained == {"transformer", "tokens"}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tokens.adapters["tokens"].view.parameters())
    assert all(p.grad is None for p in model.encoder.parameters())


def test_tokens_learn_in_a_few_steps() -> None:
    """The joints said for unseen clips come nearer within 60 steps than the standing figure's are."""
    config = MotionConfig(out="", steps=60, **{**TINY_TRAINING, "batch_size": 16, "single_view_steps": 0})
    model, task = build_token_model(config, ("rotations",)), TokenTask(config, ("rotations",))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = task.compute_loss(model, task.get_batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.87 * np.mean(losses[:5])


def test_a_batch_depends_on_the_step_alone() -> None:
    task = TokenTask(MotionConfig(out="", steps=1, **TINY_TRAINING))
    first, again, next_one = (task.get_batch(step)["across"] for step in (4, 4, 5))
    torch.testing.assert_close(first.driving, again.driving, rtol=0, atol=0)
    assert (first.local - next_one.local).abs().max() > 0.1


def test_the_first_steps_have_no_pair_of_views() -> None:
    settings = {**TINY_TRAINING, "batch_size": 16}
    task = TokenTask(MotionConfig(out="", steps=9, **settings))
    single, across = (task.get_batch(step)["across"] for step in (0, 1))
    torch.testing.assert_close(single.driving_azimuth, single.azimuth)
    assert (across.driving_azimuth - across.azimuth).abs().max() > 0.5
    never = TokenTask(MotionConfig(out="", steps=9, cross_view=False, **settings)).get_batch(8)["across"]
    torch.testing.assert_close(never.driving_azimuth, never.azimuth)


def test_baselines_say_the_truth_in_their_own_way(baselines: Path) -> None:
    model = load_token_model(baselines, MotionConfig(out="", steps=2, sources="baselines", **TINY_TRAINING))
    assert set(model.sources) == set(BASELINES)
    batch, other = motion_batch(1, drivers=False, frames=1), motion_batch(2, drivers=False, frames=1)
    with torch.no_grad():
        for source in BASELINES:
            differs = bool((model(batch, source)[0] - model(other, source)[0]).abs().max() > 1e-6)
            assert differs == (source != "none")


def test_the_command_line_has_the_settings(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--minutes", "5", "--body-tokens", "3", "--json"]
    config, as_json = parse_generated("motion", MotionConfig, MOTION_DESCRIPTION, arguments)
    assert as_json
    assert isinstance(config, MotionConfig)
    assert (config.minutes, config.body_tokens, config.generator_minutes) == (5.0, 3, None)
    with pytest.raises(UsageError, match="no checkpoint of the tokens"):
        load_token_model(tmp_path, config)
