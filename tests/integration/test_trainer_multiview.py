# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportAttributeAccessIssue=false
"""Training of a denoiser of rows and columns from the embedded model's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.trainings import PLAIN
from trackshade.core.errors import UsageError
from trackshade.models.checkpoint import read_json
from trackshade.pipelines.multiview.matrix import MatrixModel
from trackshade_lab.training.__main__ import MULTIVIEW_DESCRIPTION, parse_generated
from trackshade_lab.training.config import MultiviewConfig
from trackshade_lab.training.multiview import initial_transformer
from trackshade_lab.training.run import export_run, train

TINY = {**PLAIN, "width": 24, "height": 24, "num_views": 2, "num_frames": 2, "repeats": 2, "warmup_steps": 1}


@pytest.mark.long
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    """Bit for bit, from a checkpoint in the middle of the steps that share their clips."""
    whole, parts = (MultiviewConfig(out=str(tmp_path / name), steps=3, **TINY) for name in ("whole", "parts"))
    folder = train(whole)

    def stop(entry: dict[str, Any]) -> None:
        if entry.get("step") == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(parts, stop)
    assert json.loads((tmp_path / "parts" / "checkpoint" / "progress.json").read_text())["step"] == 1
    resumed = train(parts)
    again = export_run(tmp_path / "parts", tmp_path / "again")
    expected, *others = (MatrixModel.load(path).transformer for path in (folder, resumed, again))
    assert expected.config.sample_frames == 2
    for name, value in expected.state_dict().items():
        for other in others:
            torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)

    # Training goes on from exported weights as well, all of them.
    weights = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    source = read_json(folder / "transformer" / "config.json")
    continued = initial_transformer(whole, MatrixModel.load(folder).vae, source, weights)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(continued.state_dict()[name], value, rtol=0, atol=0)


def test_the_command_line_has_the_settings(tmp_path: Path) -> None:
    config, as_json = parse_generated(
        "multiview",
        MultiviewConfig,
        MULTIVIEW_DESCRIPTION,
        ["--out", str(tmp_path), "--minutes", "5", "--columns", "3", "--json"],
    )
    assert as_json
    assert (config.minutes, config.columns, config.initialize_from) == (5.0, 3, "mini")
    with pytest.raises(UsageError, match="--out must be given"):
        parse_generated("multiview", MultiviewConfig, MULTIVIEW_DESCRIPTION, ["--minutes", "5"])
