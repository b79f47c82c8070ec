# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
"""The trainer on real (tiny) data: every stage runs, a resumed run is the uninterrupted one, the export loads."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.helpers.trainings import SMALL
from trackshade.core.errors import UsageError
from trackshade.models.patch_autoencoder import PatchAutoencoder
from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
from trackshade_lab.scenes import generate_shards, load_shards
from trackshade_lab.training.__main__ import build_parser, main, parse
from trackshade_lab.training.checkpoint import Progress, find_checkpoint, load_checkpoint, save_checkpoint
from trackshade_lab.training.config import FineTuningConfig, FromScratchConfig
from trackshade_lab.training.diffusion import Batch, DiffusionTask
from trackshade_lab.training.logging import RunLog
from trackshade_lab.training.loop import TrainingRun, linear_schedule
from trackshade_lab.training.run import export_run, train
from trackshade_lab.training.text import build_text_encoder, build_tokenizer, pretrain_text_encoder, tokenize

TINY: dict[str, Any] = {"steps": 4, "autoencoder_steps": 3, "batch_size": 2, "pooled_text": True, **SMALL}
PARTIAL = ".checkpoint.partial-0"  # what a killed write leaves behind
AUGMENTED = {"mirror": True, "sparse_tracks_fraction": 0.5, "one_frame_fraction": 0.5}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    generate_shards(folder, 6, size=(32, 24), num_frames=3)
    return str(folder)


def averages(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint" / "average.safetensors")


@pytest.fixture(scope="module")
def whole(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(FromScratchConfig(out=str(out), data=data, **TINY))
    return out


def test_a_resumed_run_equals_the_uninterrupted_one(data: str, whole: Path, tmp_path: Path):
    def stop(entry: dict) -> None:
        if entry.get("step") == 2 and "loss" in entry and entry["stage"] == "joint":
            raise KeyboardInterrupt

    config = FromScratchConfig(out=str(tmp_path), data=data, **TINY)
    with pytest.raises(KeyboardInterrupt):
        train(config, stop)
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == 2
    train(config)
    resumed, uninterrupted = averages(tmp_path), averages(whole)
    assert resumed.keys() == uninterrupted.keys()
    for key, value in uninterrupted.items():
        assert torch.equal(resumed[key], value), key


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_deferred_to_the_end_of_a_step(number: signal.Signals, data: str, whole: Path, tmp_path: Path):
    """It comes between the two optimizers of the third step; what is saved then is the whole of that step."""
    steps = []

    def interrupt(optimizer: torch.optim.Optimizer, *_) -> None:
        if isinstance(optimizer, torch.optim.Muon):
            steps.append(optimizer)
            if len(steps) == 3:
                os.kill(os.getpid(), number)

    config = FromScratchConfig(out=str(tmp_path), data=data, **TINY)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command has it
    hook = register_optimizer_step_post_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(config)
    finally:
        hook.remove()
        signal.signal(signal.SIGTERM, before)
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == 3
    train(config)
    resumed, uninterrupted = averages(tmp_path), averages(whole)
    assert all(torch.equal(resumed[key], value) for key, value in uninterrupted.items())


KILLED = """
import json, os, signal, sys
from trackshade_lab.training.config import FromScratchConfig
from trackshade_lab.training.run import train

def end(entry):
    if entry.get("step") == 3 and entry["stage"] == "joint":
        os.kill(os.getpid(), signal.SIGKILL)

train(FromScratchConfig(**json.loads(sys.argv[1])), end)
"""


@pytest.mark.long
def test_a_killed_run_resumes_from_its_last_checkpoint(data: str, whole: Path, tmp_path: Path):
    settings = {"out": str(tmp_path), "data": data, "checkpoint_steps": 2, **TINY}
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(settings)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] == 2
    train(FromScratchConfig(**settings))
    resumed, uninterrupted = averages(tmp_path), averages(whole)
    assert all(torch.equal(resumed[key], value) for key, value in uninterrupted.items())
    exported = load_file(tmp_path / "export" / "transformer" / "diffusion_pytorch_model.safetensors")
    theirs = load_file(whole / "export" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(exported[key], value) for key, value in theirs.items())


@pytest.mark.parametrize(
    "left", [(".checkpoint.partial-0",), ("checkpoint.old",), ("checkpoint.old", ".checkpoint.partial-0")]
)
def test_a_kill_while_saving_leaves_a_complete_checkpoint(left: tuple[str, ...], tmp_path: Path):
    """The states between the steps of a write: each has a whole checkpoint, and the next write keeps one."""
    own, progress = {"a.b": torch.ones(2)}, Progress(step=1)
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, own, {}, {}, progress)
    if "checkpoint.old" in left:
        folder.rename(tmp_path / "checkpoint.old")
    if PARTIAL in left:
        (tmp_path / PARTIAL).mkdir()
        (tmp_path / PARTIAL / "weights.safetensors").write_bytes(b"half")
    found = find_checkpoint(folder)
    assert found is not None
    assert load_checkpoint(found, own, {}, {}).step == 1
    progress.step = 2
    save_checkpoint(folder, own, {}, {}, progress)
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint"]
    assert load_checkpoint(folder, own, {}, {}).step == 2


def test_a_run_of_an_earlier_version_is_resumed(data: str, whole: Path, tmp_path: Path):
    """Its settings and the optimizers' file have other names, and its progress holds the settings, too."""

    def stop(entry: dict) -> None:
        if entry.get("step") == 2 and "loss" in entry and entry["stage"] == "joint":
            raise KeyboardInterrupt

    config = FromScratchConfig(out=str(tmp_path), data=data, **TINY)
    with pytest.raises(KeyboardInterrupt):
        train(config, stop)
    old_names = {entry.name: entry.metadata["old"] or entry.name for entry in dataclasses.fields(config)}
    stored = {old_names[name]: value for name, value in dataclasses.asdict(config).items()}
    assert {"average", "batch", "terminal", "named", "one_frame", "matrix_rate"} <= stored.keys()
    (tmp_path / "config.json").write_text(json.dumps(stored))
    checkpoint = tmp_path / "checkpoint"
    progress = json.loads((checkpoint / "progress.json").read_text())
    (checkpoint / "progress.json").write_text(json.dumps(progress | {"config": stored}))
    (checkpoint / "optimizers.safetensors").rename(checkpoint / "optimisers.safetensors")
    exported = export_run(tmp_path, tmp_path / "early")
    assert DiffusionShaderPipeline.from_pretrained(exported).transformer.config.pooled_text
    train(config)
    assert (checkpoint / "optimizers.safetensors").exists()
    resumed, uninterrupted = averages(tmp_path), averages(whole)
    assert all(torch.equal(resumed[key], value) for key, value in uninterrupted.items())


@pytest.mark.parametrize("decay", [0.998, 0.3])
def test_the_ema_warms_up_as_in_earlier_versions(decay: float, tmp_path: Path):
    """Its decay in step n = 1, 2, ... is n / (n + 9), at most `decay`."""
    model = torch.nn.Linear(5, 4)
    log = RunLog(tmp_path, None, tensorboard=False)
    run = TrainingRun("joint", tmp_path, tmp_path / "checkpoint", Accelerator(cpu=True), {"m": model}, model, {}, log)
    run.resume(decay)
    assert run.ema is not None
    expected = {name: value.detach().double() for name, value in run.parameters().items()}
    for step in range(1, 60):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        run.ema.step(model.parameters())
        weight = 1 - min(decay, step / (step + 9))
        for name, value in run.parameters().items():
            expected[name] = expected[name].lerp(value.detach().double(), weight)
    for name, value in run.ema_weights().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    trained = {name: value.detach().clone() for name, value in run.parameters().items()}
    with run.swap_ema_weights():
        assert all(torch.equal(value, run.ema_weights()[name]) for name, value in run.parameters().items())
    assert all(torch.equal(value, trained[name]) for name, value in run.parameters().items())


def test_gradient_checkpointing_changes_no_results(data: str, whole: Path, tmp_path: Path):
    train(FromScratchConfig(out=str(tmp_path), data=data, **TINY, gradient_checkpointing=True))
    for key, value in averages(tmp_path).items():
        torch.testing.assert_close(value, averages(whole)[key], msg=key)


def test_training_with_all_augmentations(data: str, tmp_path: Path):
    changes = {
        "mirror": True,
        "sparse_tracks_fraction": 0.5,
        "one_frame_fraction": 0.5,
        "token_size": 1,
        "tensorboard": True,
        "ema_decay": 0.0,
    }
    train(FromScratchConfig(out=str(tmp_path), data=data, **(TINY | changes)))
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(entry["loss"]) for entry in entries if "loss" in entry)
    assert any("psnr" in entry for entry in entries)
    pipeline = DiffusionShaderPipeline.from_pretrained(tmp_path / "export")
    assert pipeline.transformer.config.patch_size == 1
    curves = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"joint/loss" in curves
    assert b"joint/samples_per_second" in curves
    assert b"sheet" in curves


def test_batches_depend_on_the_step_and_are_split_among_processes(data: str, whole: Path):
    config = FromScratchConfig(
        out="x",
        data=data,
        **(TINY | {"mirror": True, "sparse_tracks_fraction": 0.5, "one_frame_fraction": 0.5, "batch_size": 4}),
    )
    shards = load_shards(data)
    vae = PatchAutoencoder.from_pretrained(whole / "autoencoder")
    tokens = torch.arange(6 * 12).reshape(6, 12)
    task = DiffusionTask(shards, vae, torch.cat([tokens, torch.zeros(1, 12, dtype=torch.int64)]), config)
    lengths = set()
    for step in range(8):
        full, parts = task.get_batch(step), [task.get_batch(step, part, 2) for part in range(2)]
        lengths.add(full.latents.shape[1])
        for name, value in vars(full).items():
            shared = torch.empty_like(value)
            shared[0::2], shared[1::2] = (getattr(part, name) for part in parts)
            assert torch.equal(shared, value), name
        if full.latents.shape[1] == 1:
            assert len(full.latents) == 4 * shards.videos[0].shape[1]
            assert not full.image_latents.any()
    assert lengths == {1, 3}


def test_single_image_shards_are_used_in_single_frame_steps_only(whole: Path, tmp_path: Path):
    generate_shards(tmp_path / "clips", 3, size=(32, 24), num_frames=3)
    generate_shards(tmp_path / "pictures", 9, first_seed=100, size=(32, 24), num_frames=1)
    shards = load_shards(tmp_path)
    assert shards.frames == 3
    assert shards.whole.tolist() == [0, 1, 2]
    vae = PatchAutoencoder.from_pretrained(whole / "autoencoder")
    tokens = torch.arange(13)[:, None].expand(13, 12)
    settings = TINY | {"one_frame_fraction": 0.5, "batch_size": 4, "text_dropout": 0.0}
    for named in (0.0, 1.0):
        config = FromScratchConfig(out="x", data=str(tmp_path), named_color_fraction=named, **settings)
        task = DiffusionTask(shards, vae, tokens, config)
        seen: dict[int, set[int]] = {1: set(), 3: set()}
        for step in range(24):
            batch = task.get_batch(step)
            seen[batch.latents.shape[1]] |= set(batch.text[:, 0].tolist())
        assert seen[3] == {0, 1, 2}
        named_ones = {n for n, color in enumerate(shards.colors) if color}
        assert 0 < len(named_ones) < 12
        assert seen[1] == (named_ones if named else set(range(12)))


def test_clips_of_different_lengths_are_refused(tmp_path: Path):
    for frames in (2, 3):
        generate_shards(tmp_path / str(frames), 1, size=(32, 24), num_frames=frames)
    with pytest.raises(UsageError, match="different sizes or lengths"):
        load_shards(tmp_path)


@pytest.mark.long
def test_the_text_encoder_learns_the_order_of_colors():
    colors = ("red", "green", "blue", "yellow")
    texts = [f"a {a} {shape} on a {b} floor" for a in colors for b in colors for shape in ("box", "ball", "ring")]
    tokenizer = build_tokenizer(texts, 10)
    encoder = build_text_encoder(len(tokenizer), 32, 0)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    untaught = pretrain_text_encoder(encoder, tokenizer, texts, 10, 10, 0)
    encoder.load_state_dict(before)
    taught = pretrain_text_encoder(encoder, tokenizer, texts, 10, 250, 0)
    assert untaught < 0.6
    assert taught > 0.95
    assert encoder.state_dict().keys() == before.keys()


def test_the_autoencoder_stage(data: str, tmp_path: Path):
    made = train(FromScratchConfig(out=str(tmp_path), data=data, **(TINY | {"stage": "autoencoder"})))
    assert made == tmp_path / "autoencoder"
    PatchAutoencoder.from_pretrained(made)
    assert not (tmp_path / "checkpoint").exists()


def test_a_run_is_exported_without_its_data(data: str, whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": "/nowhere"}))
    made = export_run(run, tmp_path / "again")
    name = Path("transformer") / "diffusion_pytorch_model.safetensors"
    ours, theirs = load_file(made / name), load_file(whole / "export" / name)
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


def test_help_has_every_setting_under_a_heading():
    shown = build_parser().format_help()
    for cls in (FromScratchConfig, FineTuningConfig):
        for entry in dataclasses.fields(cls):
            assert f"--{entry.name.replace('_', '-')} " in shown
            assert entry.metadata["help"]
    assert "model (from scratch):" in shown
    assert "optimization (with --base):" in shown


def test_earlier_option_names_are_accepted():
    """Those that the Makefile and the guides use are among the earlier ones."""
    common = ["--out", "a", "--data", "b", "--minutes", "1"]
    names = {
        "token": "token_size", "text-length": "max_text_length", "terminal": "terminal_fraction",
        "one-frame": "one_frame_fraction", "named": "named_color_fraction", "text-steps": "text_pretraining_steps",
        "batch": "batch_size", "sparse-tracks": "sparse_tracks_fraction", "clip-norm": "max_grad_norm",
        "average": "ema_decay", "matrix-rate": "muon_learning_rate", "other-rate": "adamw_learning_rate",
        "warmup": "warmup_steps", "accumulate": "gradient_accumulation_steps", "clips": "num_clips",
    }  # fmt: skip
    for old, new in names.items():
        for flag in (f"--{old}", f"--{new.replace('_', '-')}"):
            assert getattr(parse([*common, flag, "1"])[0], new) == 1
    assert vars(parse([*common, "--base", "c", "--rate", "1"])[0])["learning_rate"] == 1
    assert vars(parse([*common, "--base", "c", "--tracking-blocks", "1"])[0])["num_tracking_blocks"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a"], "--data must be given"),
        (["--out", "a", "--data", "b"], "needs a budget"),
        (
            ["--out", "a", "--data", "b", "--base", "c", "--layers", "3"],
            "--num-layers does not apply to fine-tuning",
        ),
        (["--out", "a", "--data", "b", "--lora-rank", "3"], "--lora-rank does not apply to training from scratch"),
        (["--out", "a", "--data", "b", "--steps", "x"], "argument --steps"),
        (["--out", "a", "--data", "b", "--steps", "1", "--bf16", "maybe"], "neither true nor false"),
        (["--out", "a", "--data", "b", "--steps", "1", "--image-dropout", "5"], "number between 0 and 1"),
        (["--out", "a", "--data", "b", "--steps", "0"], "--steps is 0"),
    ],
)
def test_invalid_arguments_raise_usage_errors(arguments: list[str], words: str):
    with pytest.raises(UsageError, match=words):
        parse(arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "{}", "--data", "b", "--steps", "1", "--device", "abacus"], "no device 'abacus'"),
        (["export", "{}/nowhere"], "There is no run in"),
        (["export"], "takes a run"),
    ],
)
def test_the_command_prints_errors(arguments: list[str], words: str, tmp_path: Path, capfd):
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main([argument.replace("{}", str(tmp_path)) for argument in arguments]) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
    assert words in capfd.readouterr().err


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
def test_sigterm_saves_a_checkpoint(data: str, tmp_path: Path):
    settings = TINY | {"steps": 1_000_000}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    arguments = ["-m", "trackshade.cli", "train", f"--out={tmp_path}", f"--data={data}", *flags]
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("joint step 3:" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "to resume" in said
    assert json.loads((tmp_path / "checkpoint" / "progress.json").read_text())["step"] >= 3


def test_training_changes_base_and_branch(whole: Path):
    final = averages(whole)
    assert final["transformer.proj_out.weight"].any()
    assert final["transformer.combine_linears.0.weight"].any()


def test_log_entries_and_validation_images(whole: Path):
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
    train(FromScratchConfig(out=str(base), data=data, stage="base", **TINY))
    before = averages(base)
    assert not before["transformer.combine_linears.0.weight"].any()
    train(FromScratchConfig(out=str(branch), data=data, stage="branch", initialize_from=str(base), **TINY))
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


def test_the_base_stage_gets_no_tracks(data: str, tmp_path: Path):
    """Nothing of the branch, and the lookup of a still scene, which a pipeline gives it too."""

    class Listener(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, batch: Batch, *_) -> torch.Tensor:
            self.tracks, self.coordinates = batch.tracking_maps, batch.track_coordinates
            return torch.zeros_like(noisy)

    made = train(FromScratchConfig(out=str(tmp_path), data=data, stage="autoencoder", **TINY))
    shards, tokens = load_shards(data), torch.zeros(7, 12, dtype=torch.int64)
    config = FromScratchConfig(out="x", data=data, stage="base", **TINY)
    task = DiffusionTask(shards, PatchAutoencoder.from_pretrained(made), tokens, config)
    listener = Listener()
    task.compute_loss(listener, task.get_batch(0))
    assert listener.tracks is None
    assert listener.coordinates is not None
    assert not listener.coordinates.any()


def test_a_branch_of_another_control_signal(whole: Path, tmp_path: Path):
    """A base made of a whole model forgets its branch; the branch of a signal is then learned from that signal."""
    clips, base = tmp_path / "depth", tmp_path / "base"
    generate_shards(clips, 3, size=(32, 24), num_frames=3, control="depth")
    assert averages(whole)["transformer.combine_linears.0.weight"].any()
    train(FromScratchConfig(out=str(base), data=str(clips), stage="base", initialize_from=str(whole), **TINY))
    before = averages(base)
    assert not before["transformer.combine_linears.0.weight"].any()
    made = train(
        FromScratchConfig(
            out=str(tmp_path / "branch"), data=str(clips), stage="branch", initialize_from=str(base), **TINY
        )
    )
    kept = json.loads((made / "transformer" / "config.json").read_text())
    assert not kept["track_places"]
    after = averages(tmp_path / "branch")
    assert after["transformer.combine_linears.0.weight"].any()
    assert torch.equal(after["transformer.proj_out.weight"], before["transformer.proj_out.weight"])
    with pytest.raises(UsageError, match="no tracks to mirror"):
        train(FromScratchConfig(out=str(tmp_path / "mirrored"), data=str(clips), **(TINY | {"mirror": True})))


def test_a_folder_with_another_run_is_refused(data: str, whole: Path):
    with pytest.raises(UsageError, match="num_layers"):
        train(FromScratchConfig(out=str(whole), data=data, **(TINY | {"num_layers": 3})))


@pytest.mark.parametrize("wrong", [{"stage": "all"}, {"minutes": 3.0}, {"steps": None}, {"stage": "branch"}])
def test_settings_are_checked(wrong: dict):
    with pytest.raises(UsageError):
        FromScratchConfig(out="x", data="y", **(TINY | wrong))


def test_linear_schedule_warms_up_and_decays_to_zero():
    rates = [linear_schedule(step, step / 100, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] == 0
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_unknown_words_and_truncation():
    tokenizer = build_tokenizer(["a red box", "A red, red ball"], 6)
    ids = tokenize(tokenizer, ["a RED zebra", "a red a red a red a red"], 6)
    assert ids.shape == (2, 6)
    assert ids[0, 2] == tokenizer.unk_token_id
    assert ids[0, 3] == tokenizer.eos_token_id
    assert ids[0, 1] == ids[1, 1]
    assert ids[1, -1] == tokenizer.eos_token_id
