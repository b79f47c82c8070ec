# SPDX-License-Identifier: GPL-3.0-or-later
"""The motion pipeline with tiny random components."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import trackshade
from tests.helpers.motion import motion_batch, tiny_motion_modules
from trackshade.core.errors import CancelledError, ModelError
from trackshade.motion.framing import LIMBS
from trackshade.motion.skeleton import NUM_JOINTS
from trackshade.pipelines.motion import MotionPipeline
from trackshade_lab.training.checkpoint import export_motion


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_motion(tmp_path_factory.mktemp("motion") / "model", tiny_motion_modules())


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> MotionPipeline:
    return MotionPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def footage() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return driving frames [8, 64, 48, 3], crops of hands and a reference as uint8."""
    batch = motion_batch(count=1)
    still = (batch.reference[0] * 255).byte().permute(1, 2, 0)
    return batch.driving.permute(0, 2, 3, 1).numpy(), batch.hands.permute(0, 1, 3, 4, 2).numpy(), still.numpy()


def test_it_says_what_it_takes(pipeline: MotionPipeline) -> None:
    assert pipeline.frame_size == (48, 64)
    assert (pipeline.hand_size, pipeline.frame_count, pipeline.fps) == (24, 3, 8.0)


def test_frames_become_tokens_and_rotations(pipeline: MotionPipeline, footage) -> None:
    frames, hands, _ = footage
    tokens = pipeline.encode_motion(frames, hands)
    assert tokens.shape == (8, 4, 16)
    assert tokens.dtype == np.float32
    np.testing.assert_allclose(pipeline.encode_motion(frames[2:3], hands[2:3]), tokens[2:3], atol=1e-3)
    rotations = pipeline.joint_rotations(tokens)
    assert rotations.shape == (8, NUM_JOINTS, 3, 3)
    np.testing.assert_allclose(
        rotations @ rotations.swapaxes(-1, -2), np.tile(np.eye(3), (8, NUM_JOINTS, 1, 1)), atol=1e-5
    )
    np.testing.assert_array_equal(rotations[:, 0], np.tile(np.eye(3, dtype=np.float32), (8, 1, 1)))


def test_hands_are_optional(pipeline: MotionPipeline, footage) -> None:
    frames, hands, _ = footage
    without = pipeline.encode_motion(frames)
    hidden = pipeline.encode_motion(frames, hands, np.zeros((8, 2), bool))
    np.testing.assert_array_equal(without, hidden)
    assert np.abs(pipeline.encode_motion(frames, hands) - without).max() > 0.01


def test_crops_of_another_size_are_resampled(pipeline: MotionPipeline, footage) -> None:
    frames, _, _ = footage
    large = frames.repeat(2, axis=1).repeat(2, axis=2)
    expected, found = pipeline.encode_motion(frames), pipeline.encode_motion(large)
    assert np.abs(found - expected).mean() < 0.2 * np.abs(expected - expected.mean(0)).mean() + 0.1


def test_a_motion_longer_than_a_window_is_generated(pipeline: MotionPipeline, footage) -> None:
    frames, _, still = footage
    tokens, calls = pipeline.encode_motion(frames), []
    angles = np.linspace(0, 60, 8)
    result = pipeline(still, tokens, angles, 0 * angles, steps=2, on_progress=lambda *step: calls.append(step))
    assert result.shape == (8, 64, 48, 3)
    assert result.dtype == np.uint8
    assert calls == [(n, 6) for n in range(1, 7)]
    again = pipeline(still, tokens, angles, 0 * angles, steps=2)
    np.testing.assert_array_equal(result, again)
    turned = pipeline(still, tokens, angles + 90, 0 * angles, steps=2)
    assert (turned != result).mean() > 0.01


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_motions_need_no_padding(pipeline: MotionPipeline, footage, count: int) -> None:
    frames, _, still = footage
    tokens = pipeline.encode_motion(frames[:count])
    assert pipeline(still, tokens, np.zeros(count), np.zeros(count), steps=1).shape == (count, 64, 48, 3)


def test_generation_can_be_cancelled(pipeline: MotionPipeline, footage) -> None:
    frames, _, still = footage

    def cancel(done: int, total: int) -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        pipeline(still, pipeline.encode_motion(frames), np.zeros(8), np.zeros(8), on_progress=cancel)


def test_facing_is_an_angle(pipeline: MotionPipeline, footage) -> None:
    _, _, still = footage
    assert -180 <= pipeline.facing(still) <= 180
    assert pipeline.facing(still) == pytest.approx(pipeline.facing(still / np.float32(255)))


def test_bad_input_is_explained(pipeline: MotionPipeline, footage) -> None:
    frames, hands, still = footage
    tokens = pipeline.encode_motion(frames)
    zeros = np.zeros(8)
    for call, message in (
        (lambda: pipeline.encode_motion(frames[0]), "Driving frames have the shape"),
        (lambda: pipeline.encode_motion(frames[:0]), "Driving frames have the shape"),
        (lambda: pipeline.encode_motion(frames, hands[:3]), "Crops of hands have the shape"),
        (lambda: pipeline.joint_rotations(tokens[:, :2]), "Motion tokens have the shape"),
        (lambda: pipeline(still, tokens, zeros[:5], zeros), "8 frames of motion have 5 azimuths"),
        (lambda: pipeline(still, tokens, zeros, zeros, steps=0), "number of denoising steps is 0"),
        (lambda: pipeline(still[..., :2], tokens, zeros, zeros), "References have the shape"),
        (lambda: pipeline(np.full_like(still, 90), tokens, zeros, zeros), "picture of one color"),
    ):
        with pytest.raises(ModelError, match=message):
            call()


def test_only_folders_of_motion_models_are_loaded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index\.json is missing"):
        MotionPipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "MultiviewDenoiser"}))
    with pytest.raises(ModelError, match="holds a MultiviewDenoiser, not a motion model"):
        MotionPipeline.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_bytes((folder / "model_index.json").read_bytes())
    with pytest.raises(ModelError, match="no model folder"):
        MotionPipeline.from_pretrained(tmp_path)


def test_stored_weights_are_the_trained_ones(pipeline: MotionPipeline) -> None:
    for name, module in tiny_motion_modules().items():
        loaded = getattr(pipeline.networks, name).state_dict()
        for key, value in module.state_dict().items():
            expected = value if name == "vae" else value.to(torch.bfloat16).float()
            torch.testing.assert_close(loaded[key], expected, rtol=0, atol=0)


@pytest.fixture(scope="module")
def embedded() -> MotionPipeline:
    return MotionPipeline.from_pretrained()


def test_the_embedded_model_is_small(embedded: MotionPipeline) -> None:
    files = (Path(trackshade.__file__).parent / "models" / "mini-motion").rglob("*")
    assert sum(path.stat().st_size for path in files if path.is_file()) < 40 << 20
    assert embedded.frame_size == (48, 64)
    assert embedded.frame_count == 8


def test_the_embedded_model_reads_motion_from_the_side(embedded: MotionPipeline) -> None:
    """Joints in a view at 90 degrees from the driving one are nearer than those of the mean pose, in unseen clips."""
    batch = motion_batch(seed=77, count=16, azimuth_difference=90, other_figure=1.0, hands=1.0, frames=2, targets=False)
    frames, hands = batch.driving.permute(0, 2, 3, 1).numpy(), batch.hands.permute(0, 1, 3, 4, 2).numpy()
    tokens = torch.from_numpy(embedded.encode_motion(frames, hands))
    adapter = embedded.networks.adapter
    with torch.no_grad():
        said = adapter.project(adapter.body_landmarks(tokens), batch.azimuth, batch.elevation)[0]
        mean = adapter.project(adapter.rest.expand(len(tokens), -1, -1), batch.azimuth, batch.elevation)[0]
    errors = [(places - batch.landmarks).norm(dim=-1)[:, list(LIMBS)].mean() for places in (said, mean)]
    assert errors[0] < 0.75 * errors[1]


def test_the_embedded_model_draws_the_reference_figure(embedded: MotionPipeline) -> None:
    """The result is nearer to the true frames than the reference repeated is, where the figure is."""
    batch = motion_batch(seed=78, count=4, azimuth_difference=0, apart=0.0, same_pose=0.0, hands=1.0)
    frames, hands = batch.driving.permute(0, 2, 3, 1).numpy(), batch.hands.permute(0, 1, 3, 4, 2).numpy()
    stills = batch.reference.permute(0, 2, 3, 1).numpy()
    truth, figure = batch.target.permute(0, 2, 3, 1).numpy(), batch.coverage.numpy() > 0.5
    elevation = np.degrees(batch.elevation.numpy())
    errors = []
    for clip, still in enumerate(stills):
        part = slice(8 * clip, 8 * clip + 8)
        tokens = embedded.encode_motion(frames[part], hands[part])
        made = embedded((still * 255).astype(np.uint8), tokens, np.zeros(8), elevation[part]) / 255
        errors.append([np.square(video - truth[part])[figure[part]].mean() for video in (made, still[None])])
    generated, repeated = np.mean(errors, axis=0)
    assert generated < 0.92 * repeated
