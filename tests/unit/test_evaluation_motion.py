# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of the motion model's evaluation: what they say of the truth, and of known faults."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from tests.helpers.characters import box_character
from tests.helpers.motion import TINY_TRAINING, tiny_motion_modules
from trackshade_lab.evaluation.motion import ablations, pictures, said
from trackshade_lab.evaluation.motion.__main__ import main
from trackshade_lab.evaluation.motion.detector import JointDetector, detector_errors, prepare_detector
from trackshade_lab.evaluation.motion.sources import load_model, source_names
from trackshade_lab.motion.characters import CharacterLibrary
from trackshade_lab.motion.generator_task import GeneratorModel
from trackshade_lab.training.checkpoint import export_motion
from trackshade_lab.training.config import MotionConfig, lock_run_directory
from trackshade_lab.training.run import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny run with baselines, and return its folder."""
    folder = tmp_path_factory.mktemp("runs")
    train(MotionConfig(out=str(folder / "baselines"), steps=1, sources="baselines", **TINY_TRAINING))
    baselines = str(folder / "baselines")
    train(MotionConfig(out=str(folder / "run"), steps=1, generator_steps=1, baselines=baselines, **TINY_TRAINING))
    return folder / "run"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_motion(tmp_path_factory.mktemp("motion") / "model", tiny_motion_modules())


@pytest.fixture(scope="module")
def model(exported: Path) -> GeneratorModel:
    return load_model(exported, None)


def test_copied_joints_are_right_at_the_same_angle_only() -> None:
    same, side = (said.sample(1, 8, azimuth_difference=d, targets=False, drivers=False) for d in (0, 90))
    near, far = said.copied_errors(same), said.copied_errors(side)
    assert near.shape == (8,)
    assert near.mean() < 0.35 * far.mean()


def test_every_measure_of_the_truth_is_perfect(model: GeneratorModel) -> None:
    detector = JointDetector().eval()
    (batch,) = said.sample(2, 2, azimuth_difference=0, apart=0.0, drivers=False)
    truth = pictures._observe(model, detector, batch)
    measured = pictures._measure(detector, truth, batch.target)
    np.testing.assert_allclose(measured["joints"], 0, atol=1e-5)
    np.testing.assert_array_equal(measured["silhouette"], 1)
    assert (measured["psnr"] > 50).all()
    still = pictures._measure(detector, truth, batch.background.repeat_interleave(8, 0))
    np.testing.assert_array_equal(still["silhouette"], 0)
    assert (still["psnr"] < 25).all()
    blurred = torch.nn.functional.avg_pool2d(batch.target, 5, stride=1, padding=2, count_include_pad=False)
    smeared = pictures._measure(detector, truth, blurred)
    assert (smeared["sharpness"] < 0.75 * measured["sharpness"]).all()


def test_angles_between_rotations() -> None:
    turned = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    angles = said._angles(torch.stack([turned, torch.eye(3)]), torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(angles, torch.tensor([90.0, 0.0]))
    assert torch.linalg.det(said._nearest_rotation(torch.diag(torch.tensor([1.0, 1.0, -0.2])))) == pytest.approx(1)


def test_retrieval_counts_first_places() -> None:
    similarity = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]])
    assert said._hits(similarity) == [1.0, 0.0, 1.0]


def test_the_detector_starts_from_what_the_encoder_has_learned() -> None:
    """It finds joints before it is trained on true frames, and all of it is trained."""
    detector = JointDetector().eval()
    errors = detector_errors(detector, 150)
    assert errors["visible"] < errors["all"] < 2.4
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_errors_are_split_by_what_the_driving_frames_show(model: GeneratorModel) -> None:
    batches = said.sample(3, 4, azimuth_difference=90, targets=False)
    shown, hidden = (row["limbs"]["mean"] for row in said._by_visibility(model, batches))
    every = said.joint_errors(model, "tokens", batches).mean()
    assert min(shown, hidden) < every < max(shown, hidden)


def test_a_stopped_detector_goes_on(tmp_path: Path) -> None:
    """Stopped after two steps, it is in the end the one that was not stopped; a finished one is loaded."""

    class StoppedError(Exception):
        pass

    def stop(message: str) -> None:
        raise StoppedError(message)

    def ignore(message: str) -> None:
        pass

    short = {"steps": 3, "batch": 1, "save_steps": 2}
    whole = prepare_detector(tmp_path / "whole.safetensors", ignore, **short)
    with pytest.raises(StoppedError):
        prepare_detector(tmp_path / "parts.safetensors", stop, **short)
    parts = prepare_detector(tmp_path / "parts.safetensors", ignore, **short)
    loaded = prepare_detector(tmp_path / "whole.safetensors", stop, **short)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=0, atol=0)
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.long
def test_a_report_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report"
    box_character().save(tmp_path / "boxes.npz")
    arguments = ["--out", str(out), "--folder", str(run / "export"), "--run", str(run), "--clips", "2"]
    arguments += ["--characters", str(tmp_path / "boxes.npz")]
    assert main([*arguments, "--picture-clips", "2", "--steps", "1", "--detector-steps", "1"]) == 0
    text = (out / "report.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    for title in (
        "no motion",
        "true rotations",
        "exact 2D joints, single view",
        "tokens",
        "time reversed",
        "rigged characters as drivers",
    ):
        assert f"| {title} |" in text
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["pictures"]["rows"]) == {"0", "30", "60", "90", "180"}
    assert summary["retrieval"]["joints"]["clips"] == 64
    with Image.open(out / "sheet-90.png") as sheet:
        assert sheet.size == (9 * 48 * 3, 2 * 7 * 64 * 3)


@pytest.mark.long
def test_ablations_are_trained_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: ablations.VARIANTS[name] for name in ("full", "channels", "skeletons")}
    tiny = {k: (title, TINY_TRAINING | more) for k, (title, more) in chosen.items()}
    monkeypatch.setattr(ablations, "VARIANTS", tiny)
    arguments = ["--out", str(tmp_path), "--ablations", "3", "--clips", "2"]
    assert main([*arguments, "--picture-clips", "2", "--detector-steps", "2"]) == 0
    text = (tmp_path / "ablations.md").read_text(encoding="utf-8")
    assert text.count("| full recipe |") == 2
    assert text.count("| pictures of exact 2D skeletons as driving frames |") == 2
    assert text.count("| tokens along the channels, no cross-attention |") == 1
    rows = json.loads((tmp_path / "ablations.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == ["full", "channels", "skeletons"]
    assert rows[2]["more"]["mean"] == pytest.approx(rows[2]["d90"]["mean"] - rows[0]["d90"]["mean"])
    assert rows[1]["more"]["mean"] == 0  # the same tokens
    assert rows[1]["pictures"]["psnr"]["mean"] != rows[0]["pictures"]["psnr"]["mean"]
    more = rows[2]["pictures"]["joints"]["mean"] - rows[0]["pictures"]["joints"]["mean"]
    assert rows[2]["pictures"]["more_joints"]["mean"] == pytest.approx(more)
    assert main([*arguments, "--without-pictures", "--out", str(tmp_path / "tokens")]) == 0
    rows = json.loads((tmp_path / "tokens" / "ablations.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == ["full", "skeletons"]


def test_a_model_alone_has_tokens_alone(model: GeneratorModel) -> None:
    assert source_names(model) == ["tokens"]
    library = CharacterLibrary((box_character(),), 0.5)
    measured = said.measure_joints(model, 2, library)
    assert measured["ratios"] == {}
    errors = {row["id"]: row.get("limbs") for row in measured["held_out"]}
    assert errors["rigged characters as drivers"] != errors["as in training"]


def test_bad_arguments_are_explained(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--clips", "0"]) == 2
    assert "--clips is 0" in capsys.readouterr().err
    run = tmp_path / "run"
    run.mkdir()
    lock_run_directory(run, MotionConfig(out=str(run), steps=1, **TINY_TRAINING), Accelerator(cpu=True))
    assert main(["--out", str(tmp_path), "--folder", str(exported), "--run", str(run)]) == 2
    assert "not trained with baselines" in capsys.readouterr().err
