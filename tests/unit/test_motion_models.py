# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of diffusers are typed too loosely for these rules.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportPrivateImportUsage=false
# pyright: reportCallIssue=false
"""The networks of the motion model, tiny and with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from safetensors.torch import load_file, save_file

from tests.helpers.motion import motion_batch, tiny_motion_modules
from trackshade.core.errors import ModelError
from trackshade.models.landmark_network import cell_places, layout_loss
from trackshade.models.motion_encoder import MotionEncoder, rotation_columns, rotation_matrices
from trackshade.models.motion_transformer import MotionTransformer3DModel, group_frames
from trackshade.models.puppet import NUM_BONES, STOPS, erase_figures, paint_puppets, sample_colors
from trackshade.models.puppet_guided import fit_framing, make_guidance
from trackshade.motion.framing import LANDMARKS, NUM_LANDMARKS, focal_length, project
from trackshade.motion.skeleton import NUM_JOINTS
from trackshade_lab.motion.figures import POINTS, average_figure

# CogVideoX image-to-video, tiny: latents of the first frame along the channels, rotary positions, four frames in one.
COGVIDEOX = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 8,
    "out_channels": 4,
    "time_embed_dim": 16,
    "text_embed_dim": 12,
    "num_layers": 3,
    "sample_width": 4,
    "sample_height": 4,
    "sample_frames": 9,
    "temporal_compression_ratio": 4,
    "max_text_seq_length": 5,
    "use_rotary_positional_embeddings": True,
}


def cogvideox() -> CogVideoXTransformer3DModel:
    torch.manual_seed(1)
    return CogVideoXTransformer3DModel(**COGVIDEOX).eval()


def video_inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    angles = torch.rand(3 * 4, 16, generator=generator)
    return {
        "hidden_states": torch.randn(2, 3, 8, 4, 4, generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 12, generator=generator),
        "timestep": torch.tensor([7, 300]),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }


def motion_tokens(frames: int = 9) -> torch.Tensor:
    return torch.randn(2, frames, 4, 16, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("frames", [None, 9, 3])
@torch.no_grad()
def test_a_published_base_is_unchanged_until_it_is_trained(frames: int | None) -> None:
    base = cogvideox()
    model = MotionTransformer3DModel.from_base(base, motion_dim=16).eval()
    tokens = None if frames is None else motion_tokens(frames)
    expected, found = base(**video_inputs()).sample, model(**video_inputs(), motion_tokens=tokens).sample
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_only_cross_attention_is_trained_on_a_frozen_base() -> None:
    model = MotionTransformer3DModel.from_base(cogvideox(), motion_dim=16)
    model.train_motion_only()
    torch.nn.init.normal_(model.motion_blocks[0].to_out.weight)
    model(**video_inputs(), motion_tokens=motion_tokens()).sample.square().sum().backward()
    trained = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum()}
    assert trained
    assert all(name.startswith("motion_blocks.") for name in trained)
    assert {name.split(".")[2] for name in trained if ".0." in name} == {"norm", "to_q", "to_k", "to_v", "to_out"}


@torch.no_grad()
def test_gradient_checkpointing_changes_nothing() -> None:
    model = MotionTransformer3DModel.from_base(cogvideox(), motion_dim=16)
    torch.nn.init.normal_(model.motion_blocks[1].to_out.weight)
    expected = model(**video_inputs(), motion_tokens=motion_tokens()).sample
    model.enable_gradient_checkpointing()
    with torch.enable_grad():
        found = model(**video_inputs(), motion_tokens=motion_tokens()).sample
    torch.testing.assert_close(found.detach(), expected)


def test_a_latent_frame_attends_to_the_motion_of_its_frames() -> None:
    tokens = motion_tokens(9)
    grouped = group_frames(tokens, 3)
    assert grouped.shape == (2, 3, 16, 16)
    torch.testing.assert_close(grouped[:, 0], tokens[:, :1].expand(-1, 4, -1, -1).flatten(1, 2))
    torch.testing.assert_close(grouped[:, 2], tokens[:, 5:9].flatten(1, 2))
    torch.testing.assert_close(group_frames(tokens, 9), tokens)
    with pytest.raises(ModelError, match="9 frames do not fit 4 latent frames"):
        group_frames(tokens, 4)


def test_loading_is_strict(tmp_path: Path) -> None:
    modules = tiny_motion_modules()
    for name, module in modules.items():
        module.save_pretrained(tmp_path / name)
        loaded = type(module).from_pretrained(tmp_path / name)
        for key, value in module.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    for name, missing in (("encoder", "body.start.weight"), ("transformer", "motion_blocks.0.to_out.bias")):
        path = tmp_path / name / "diffusion_pytorch_model.safetensors"
        tensors = load_file(path)
        del tensors[missing]
        save_file(tensors, path, {"format": "pt"})
        with pytest.raises(ModelError, match=f"{missing} is missing"):
            type(modules[name]).from_pretrained(tmp_path / name)


def test_the_encoder_learns_from_tokens_and_layout() -> None:
    encoder = MotionEncoder(dim=16, body_tokens=2, layers=1, heads=2, channels=16)
    batch = motion_batch(targets=False, frames=2)
    tokens, layout = encoder(batch.driving, batch.hands, batch.hands_visible)
    assert tokens.shape == (4, 4, 16)
    assert layout.places.shape == (4, NUM_LANDMARKS, 2)
    loss = layout_loss(layout, torch.zeros_like(layout.places), torch.zeros(4), (48, 64), torch.ones(4, NUM_LANDMARKS))
    (encoder.rotations(tokens).square().sum() + loss).backward()
    silent = [n for n, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not [name for name in silent if "unseen" not in name and "hand" not in name]


def test_the_mean_of_a_heat_map_is_in_pixels_of_the_frame() -> None:
    places = cell_places((48, 64)) * 16 + torch.tensor([24.0, 32.0])
    assert places[0].tolist() == [2, 2]
    assert places[1].tolist() == [6, 2]  # rows of 12 cells
    assert places[-1].tolist() == [46, 62]
    torch.testing.assert_close(places.mean(0), torch.tensor([24.0, 32.0]))


@torch.no_grad()
def test_hands_that_are_not_visible_are_not_looked_at() -> None:
    encoder = MotionEncoder(dim=16, body_tokens=2, layers=1, heads=2, channels=16)
    batch = motion_batch(targets=False, frames=2)
    without, _ = encoder(batch.driving)
    hidden, _ = encoder(batch.driving, batch.hands, torch.zeros_like(batch.hands_visible))
    shown, _ = encoder(batch.driving, batch.hands)
    torch.testing.assert_close(without, hidden, rtol=0, atol=0)
    torch.testing.assert_close(without[:, :2], shown[:, :2], rtol=0, atol=0)
    assert (without[:, 2:] - shown[:, 2:]).abs().max() > 0.1


def test_six_numbers_are_a_rotation() -> None:
    matrices = rotation_matrices(torch.randn(7, 5, 6))
    identity = torch.eye(3).expand(7, 5, 3, 3)
    torch.testing.assert_close(matrices @ matrices.mT, identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrices), torch.ones(7, 5))
    torch.testing.assert_close(rotation_matrices(rotation_columns(matrices)), matrices, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_adapter_projects_as_the_data_does() -> None:
    adapter = tiny_motion_modules()["adapter"]
    batch = motion_batch(targets=False, drivers=False)
    places, depths = adapter.project(batch.body_landmarks, batch.azimuth, batch.elevation)
    plane, depth = project(batch.body_landmarks.numpy(), batch.azimuth.numpy(), batch.elevation.numpy())
    np.testing.assert_allclose(places, plane * focal_length(64) + np.array([24, 32]), atol=1e-3)
    np.testing.assert_allclose(depths, depth - 4.2, atol=1e-5)


@torch.no_grad()
def test_an_untrained_generator_gives_the_puppet() -> None:
    modules = tiny_motion_modules()
    batch = motion_batch(drivers=False)
    places = torch.cat([batch.reference_landmarks[:, None], batch.landmarks.unflatten(0, (2, 8))], dim=1)
    angles = torch.zeros(2, 9)
    guidance = make_guidance(batch.reference, places, torch.zeros(2, 9, NUM_LANDMARKS), angles, angles)
    assert guidance.estimates().shape == (2, 8, 3, 64, 48)
    latents = torch.randn(2, 8, 8, 16, 12)
    found = modules["transformer"](
        torch.randn_like(latents), torch.tensor([1.0, 0.4]), latents[:, 0], latents, guidance, torch.randn(2, 9, 4, 16)
    )
    torch.testing.assert_close(found, latents, rtol=0, atol=0)


def test_a_puppet_has_the_colors_of_the_figure() -> None:
    """The puppet of a reference, painted at the same place, looks like the figure and covers most of it."""
    batch = motion_batch(seed=2, count=8, drivers=False, same_pose=1.0, apart=0.0, moving=0.0)
    pictures = batch.target.permute(0, 2, 3, 1).numpy()
    places, points = batch.landmarks.numpy(), batch.body_landmarks.numpy()
    _, depth = project(points, batch.azimuth.numpy(), batch.elevation.numpy())
    painted = paint_puppets(places, depth - 4.2, sample_colors(pictures, places, depth - 4.2), (48, 64))
    inside = (painted[..., 3] == 1) & (batch.coverage.numpy() == 1)
    assert inside.sum() > 0.55 * (batch.coverage.numpy() == 1).sum()
    background = batch.background.repeat_interleave(8, 0).permute(0, 2, 3, 1).numpy()
    error = np.abs(painted[..., :3] - pictures)[inside].mean()
    assert error < 0.4 * np.abs(background - pictures)[inside].mean()


def test_the_head_of_a_puppet_shows_where_it_looks() -> None:
    """Hair is seen from behind, and the nose is before the head."""
    points = average_figure().pose(np.broadcast_to(np.eye(3), (1, 4, NUM_JOINTS, 3, 3)))[0]
    points = points[:, [POINTS.index(name) for name in LANDMARKS]]
    plane, depths = project(points, np.radians([0, 90, 180, 270]), np.zeros(4))
    places = plane * focal_length(64) + np.array([24, 32])
    colors = np.zeros((4, NUM_BONES, STOPS, 3), np.float32)
    colors[:, 3], colors[:, 4], colors[:, 5] = (1, 0, 0), (0, 1, 0), (0, 0, 1)  # face, hair and nose
    painted = paint_puppets(places, depths, colors, (48, 64))[..., :3]
    face, hair, nose = painted.sum((1, 2)).T
    assert hair[2] > 4 * hair[0]
    assert face[0] > 1.2 * face[2]
    assert nose[2] == 0 < nose[1]
    columns = np.arange(48) + 0.5
    for view, side in ((1, -1), (3, 1)):  # from its left it looks to the left
        weights = painted[view].sum(0)  # [W, 3]
        where = (weights * columns[:, None]).sum(0) / weights.sum(0)
        assert side * (where[2] - where[0]) > 1
        assert side * (where[0] - where[1]) > 0.5


def test_a_hidden_bone_takes_the_color_of_the_other_side() -> None:
    picture = np.zeros((1, 64, 48, 3), np.float32)
    picture[0, :, :24], picture[0, :, 24:] = (1, 0, 0), (0, 0, 1)
    places = np.full((1, NUM_LANDMARKS, 2), 8.0, np.float32)
    depths = np.zeros((1, NUM_LANDMARKS), np.float32)
    for name, x in (("thigh_l", 34), ("shin_l", 34), ("thigh_r", 12), ("shin_r", 12)):
        places[0, LANDMARKS.index(name)] = (x, 20 if name.startswith("thigh") else 40)
    shown = sample_colors(picture, places, depths)[0]
    places[0, LANDMARKS.index("thigh_l")], places[0, LANDMARKS.index("shin_l")] = (12, 20), (12, 40)
    depths[0, [LANDMARKS.index("thigh_l"), LANDMARKS.index("shin_l")]] = 1.0
    hidden = sample_colors(picture, places, depths)[0]
    left = 6 + 3  # of the bones: central ones, three of the left arm, the left thigh
    np.testing.assert_allclose(shown[left], np.broadcast_to((0, 0, 1), (3, 3)), atol=1e-6)
    np.testing.assert_allclose(hidden[left], np.broadcast_to((1, 0, 0), (3, 3)), atol=1e-6)


def test_erasing_a_figure_leaves_the_gradient_behind_it() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 48, dtype=np.float32)[None, None, :, None], (1, 64, 48, 3)).copy()
    coverage = np.zeros((1, 64, 48), np.float32)
    coverage[0, 20:40, 18:30] = 1
    picture = np.where(coverage[..., None] > 0, 0.0, ramp).astype(np.float32)
    np.testing.assert_allclose(erase_figures(picture, coverage), ramp, atol=1e-5)


def test_framing_is_found_from_two_poses() -> None:
    places = torch.randn(3, NUM_LANDMARKS, 2) * 10 + 30
    scale, center, seen = fit_framing(places, places * 1.1 + torch.tensor([2.0, -3.0]))
    torch.testing.assert_close(scale, torch.full((3,), 1.1))
    moved = scale[:, None, None] * (places - center[:, None]) + seen[:, None]
    torch.testing.assert_close(moved, places * 1.1 + torch.tensor([2.0, -3.0]), atol=1e-3, rtol=0)
