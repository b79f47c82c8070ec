# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of the three tasks on photos and footage: motions of the camera, flow between frames, CLIP."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.footage import noise
from trackshade.core.camera_motion import parse_camera_motion
from trackshade.core.errors import ModelError
from trackshade_lab.evaluation.clip import find_clip
from trackshade_lab.evaluation.lifting.control import AMOUNTS, FRAMES, control_table, motions
from trackshade_lab.evaluation.tracking.measures import flow_errors
from trackshade_lab.evaluation.tracking.transfer import transfer_table


def test_motions_go_where_their_names_say() -> None:
    """Centers of the camera in its first axes: x right, y down, z forward, 4 m before the subject."""
    for size, (share, degrees) in AMOUNTS.items():
        ends = {}
        for name, text in motions(4.0, size).items():
            matrices = parse_camera_motion(text, FRAMES)
            np.testing.assert_allclose(matrices[0], np.eye(4), atol=1e-12)
            ends[name] = -matrices[:, :3, :3].swapaxes(1, 2) @ matrices[:, :3, 3:]
        step = share * 4
        for name, place in {"forward": (0, 0, step), "left": (-step, 0, 0), "up": (0, -step, 0)}.items():
            np.testing.assert_allclose(ends[name][-1, :, 0], place, atol=1e-9)
        subject = np.array([0, 0, 4.0])
        assert np.linalg.norm(ends["orbit"][-1, :, 0] - subject) == pytest.approx(4, abs=1e-6)
        swing = 2 * 4 * math.sin(math.radians(degrees) / 2)
        assert np.linalg.norm(ends["orbit"][-1]) == pytest.approx(swing, abs=1e-6)
        assert np.linalg.norm(ends["spiral"][-1]) < 1e-9  # it returns
        assert np.linalg.norm(ends["spiral"][FRAMES // 2]) > 0.2 * step


def test_tables_hold_the_mean_and_the_worst_error() -> None:
    records = [
        {"scene": "room-0", "geometry": "depth", "size": size, "rotation": 0.1 * n, "direction": value}
        for size in AMOUNTS
        for n, value in enumerate((1.0, 2.0, math.nan))
    ]
    cells = "0.10 | 0.20 | 1.50 | 2.00 (1 not found)"
    assert f"| room-0, depth | {cells} | {cells} |" in control_table(records)
    rows = [
        {"scene": "orbit-0", "arm": "tracked", "psnr": 24.0, "flow": 1.0, "flow_median": 0.5},
        {"scene": "orbit-0", "arm": "truth"},
    ]
    text = transfer_table(rows)
    assert "| orbit-0 | tracked footage | 24.00 | 1.00 | 0.50 |" in text
    assert "render" not in text  # of the truth there is nothing without CLIP
    text = transfer_table([row | {"tem_con": 0.98765} for row in rows])
    assert "| orbit-0 | render | – | – | – | 0.988 |" in text


def test_flow_tells_motions_apart() -> None:
    picture = noise(1, (160, 120), finest=2.0)
    moved = np.stack([np.roll(picture, 2 * t, axis=1) for t in range(4)])[:, :, 20:-20]
    assert flow_errors(moved, moved)["flow"] == 0
    other = np.stack([np.roll(picture, 4 * t, axis=1) for t in range(4)])[:, :, 20:-20]
    assert flow_errors(moved, other)["flow_median"] == pytest.approx(2, abs=0.3)
    bright = cv2.convertScaleAbs(moved.reshape(-1, 120, 3), alpha=0.8, beta=20).reshape(moved.shape)
    assert flow_errors(moved, bright)["flow_median"] < 0.1


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    """A small CLIP with random weights."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    letters = ["a", "b", "c", "a</w>", "b</w>", "c</w>", "<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({text: number for number, text in enumerate(letters)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(letters), "max_position_embeddings": 16, "eos_token_id": 7, "bos_token_id": 6}
    vision = {**sizes, "image_size": 32, "patch_size": 16}
    out = tmp_path / "clip"
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(out)
    CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(out)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(out)
    return out


def test_clip_compares_frames_and_text(clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, sentence = find_clip(str(clip_folder))
    assert measure is not None
    assert sentence == "Tem-Con and Text-Ali by clip."
    still = np.repeat(noise(0, (48, 40))[None], 5, axis=0)
    assert measure(still, None) == {"tem_con": pytest.approx(1)}
    changing = np.stack([noise(seed, (48, 40)) for seed in range(5)])
    figures = measure(changing, "a b c")
    assert figures["tem_con"] < 1
    assert -100 <= figures["text_ali"] <= 100
    assert figures["text_ali"] != measure(changing, "c c")["text_ali"]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (clip_folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        find_clip(str(clip_folder))
