# SPDX-License-Identifier: GPL-3.0-or-later
"""Several processes train as one does, however late one of them comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.tiny_checkpoint import FRAMES, HEIGHT, WIDTH, write_checkpoint
from tests.helpers.trainings import PLAIN, SMALL
from trackshade_lab.scenes import generate_shards
from trackshade_lab.training.config import FromScratchConfig
from trackshade_lab.training.run import train
from trackshade_lab.video_dataset import DatasetWriter

pytestmark = pytest.mark.long

TINY = {"steps": 3, "batch_size": 4, "autoencoder_steps": 0, "ema_decay": 0.9, **SMALL}
# The second process is held up once it has been through a function.
LATE = """
import os, sys, time
from trackshade_lab.training import __main__, fine_tuning, run

def late(module, name):
    through = getattr(module, name)
    def held_up(*given, **named):
        made = through(*given, **named)
        if os.environ["RANK"] == "1" and name in waits:
            waits.discard(name)
            time.sleep(3)
        return made
    waits = {name}
    setattr(module, name, held_up)

late(run, "_copy_component")
late(fine_tuning, "EncodingCache")
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    generate_shards(folder, 6, size=(32, 24), num_frames=3)
    return str(folder)


def launch(program: list[str], **options: object) -> str:
    """What two processes said."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    accelerate = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    accelerate += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    command = [sys.executable, *accelerate, *program, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def gradients(run: Path) -> dict[str, torch.Tensor]:
    """What the optimizers remember of the gradients."""
    state = load_file(run / "checkpoint" / "optimizers.safetensors")
    return {key: value for key, value in state.items() if key.endswith(("exp_avg", "momentum_buffer"))}


def behind(run: Path) -> float:
    """How far the averaged weights are from the newest."""
    average, newest = (load_file(run / "checkpoint" / f"{name}.safetensors") for name in ("average", "weights"))
    return sum((average[key] - newest[key]).abs().sum().item() for key in newest)


def test_processes_and_accumulation_change_neither_gradients_nor_averages(data: str, tmp_path: Path):
    """Nor does a process that reads the autoencoder's files late."""
    train(FromScratchConfig(out=str(tmp_path / "one"), data=data, **TINY))
    train(FromScratchConfig(out=str(tmp_path / "pieces"), data=data, **TINY, gradient_accumulation_steps=2))
    late = tmp_path / "late.py"
    late.write_text(LATE)
    assert "processes 2" in launch([str(late)], out=tmp_path / "two", data=data, **TINY)
    one = gradients(tmp_path / "one")
    assert any(value.abs().max() > 1e-4 for value in one.values())
    for other in ("pieces", "two"):
        assert gradients(tmp_path / other).keys() == one.keys()
        for key, value in gradients(tmp_path / other).items():
            torch.testing.assert_close(value, one[key], rtol=1e-3, atol=1e-6, msg=f"{other}: {key}")
        assert behind(tmp_path / other) == pytest.approx(behind(tmp_path / "one"), rel=0.1)


def test_a_late_process_shares_the_same_list_of_clips(tmp_path: Path):
    late = tmp_path / "late.py"
    late.write_text(LATE)
    base, dataset = write_checkpoint(tmp_path / "base"), DatasetWriter(tmp_path / "data")
    rng = np.random.default_rng(0)
    for number in range(4):
        video, tracking = rng.integers(0, 256, (2, FRAMES, HEIGHT, WIDTH, 3), np.uint8)
        dataset.add(str(number), f"a box, number {number}", video, tracking, 8.0)
    options = {"steps": 1, "batch_size": 2, "warmup_steps": 1, "learning_rate": 1e-2, **PLAIN}
    said = launch([str(late)], out=tmp_path / "run", data=dataset.folder, base=base, **options)
    assert "processes 2" in said
