# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged characters in generated clips: posed, drawn and stated as figures are, and read from files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.characters import box_character
from trackshade.core.errors import ShotError, UsageError
from trackshade.motion.characters import POINTS, Character, load_character
from trackshade.motion.framing import LANDMARKS
from trackshade.motion.skeleton import JOINTS, NUM_JOINTS, positions
from trackshade_lab.motion.characters import CharacterLibrary, load_characters
from trackshade_lab.motion.clips import ClipOptions, Clips, sample_clips
from trackshade_lab.motion.motions import sample_motions
from trackshade_lab.motion.token_task import TokenTask
from trackshade_lab.training.__main__ import parse_generated
from trackshade_lab.training.config import MotionConfig, read_config


def clips(count: int = 6, fraction: float = 1.0, seed: int = 1, **options) -> Clips:
    library = CharacterLibrary((box_character(),), fraction)
    return sample_clips(np.random.default_rng(seed), count, ClipOptions(characters=library, **options))


def test_a_character_moves_by_the_skeletons_rotations() -> None:
    """Of the skeleton's own rest pose and proportions, its joints are where the skeleton's are."""
    made = box_character()
    local = sample_motions(np.random.default_rng(3), 2)
    points = made.place_points(made.transforms(local))
    scale = np.linalg.norm(made.heads[JOINTS.index("shin_l")] - made.heads[JOINTS.index("thigh_l")]) / 0.43
    joints = scale * positions(local)
    known = [name for name in POINTS if name in JOINTS]
    away = points[:, :, [POINTS.index(name) for name in known]] - joints[:, :, [JOINTS.index(name) for name in known]]
    np.testing.assert_allclose(away - away.mean(axis=2, keepdims=True), 0, atol=1e-5)


def test_vertices_are_blended_linearly() -> None:
    made = box_character()
    weights = np.zeros((len(made.vertices), NUM_JOINTS), np.float32)
    pair = [JOINTS.index(name) for name in ("forearm_l", "hand_l")]
    weights[:, pair] = 0.25, 0.75
    made = dataclasses.replace(made, weights=weights)
    transforms = made.transforms(sample_motions(np.random.default_rng(4), 1)[0])
    points = np.concatenate([made.vertices, np.ones((len(made.vertices), 1))], axis=1)
    one, other = (np.einsum("tik,vk->tvi", transforms[:, joint], points) for joint in pair)
    np.testing.assert_allclose(made.place_vertices(transforms), 0.25 * one + 0.75 * other, atol=1e-5)


def test_a_joint_without_a_bone_follows_the_next_one_above() -> None:
    table = {name: name for name in JOINTS if name not in ("chest", "neck", "fingers_l")}
    made, whole = box_character(table=table), box_character()
    local = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    rest, full = (item.place_points(item.transforms(local)) for item in (made, whole))
    np.testing.assert_allclose(rest[POINTS.index("fingertip_l")], full[POINTS.index("fingertip_l")], atol=0.02)
    assert np.abs(rest[POINTS.index("neck")] - full[POINTS.index("neck")]).max() < 0.1
    local[JOINTS.index("chest")] = ((0, -1, 0), (1, 0, 0), (0, 0, 1))  # a quarter turn to the left
    for item, angle in ((made, 0.0), (whole, 90.0)):
        points = item.place_points(item.transforms(local))
        across = points[POINTS.index("upper_arm_l")] - points[POINTS.index("upper_arm_r")]
        assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(angle, abs=1e-3)


def test_a_character_without_the_bones_of_limbs_is_a_sentence() -> None:
    with pytest.raises(ShotError, match="hand_r, shin_l"):
        box_character(table={name: name for name in JOINTS if name not in ("shin_l", "hand_r")})
    with pytest.raises(ShotError, match="no bone 'Arm'"):
        box_character(table={name: name for name in JOINTS} | {"chest": "Arm"})


def test_files_keep_a_character(tmp_path: Path) -> None:
    made = box_character()
    made.save(tmp_path / "a" / "boxes.npz")
    (read,) = load_characters([tmp_path]).characters
    assert read.name == "Boxes"
    for name, value in vars(made).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(getattr(read, name), value, atol=1e-6)
    assert (tmp_path / "a" / "boxes.npz").stat().st_size < 20_000


def test_damaged_files_are_a_sentence(tmp_path: Path) -> None:
    made = box_character()
    path = tmp_path / "boxes.npz"
    cases: dict[str, Character] = {
        "'triangles' names": dataclasses.replace(made, triangles=made.triangles + np.int32(9000)),
        "'vertices' is not finite": dataclasses.replace(made, vertices=made.vertices * np.float32("inf")),
        "'colors' has another shape": dataclasses.replace(made, colors=made.colors[:-1]),
        "'materials' names": dataclasses.replace(made, materials=made.materials - np.int16(1)),
        "'parents' has no order": dataclasses.replace(made, parents=np.abs(made.parents)),
    }
    for problem, damaged in cases.items():
        damaged.save(path)
        with pytest.raises(ShotError, match=problem):
            load_character(path)
    np.savez(path, vertices=np.zeros((3, 3)))
    with pytest.raises(ShotError, match="is missing"):
        load_character(path)
    made.save(path)
    packed = bytearray(path.read_bytes())
    packed[2000:2100] = bytes(100)
    for content in (b"no archive", bytes(packed)):
        path.write_bytes(content)
        with pytest.raises(ShotError, match=r"boxes\.npz cannot be read"):
            load_character(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ShotError, match="no archive"):
        load_character(path)
    with pytest.raises(ShotError, match="There is no file"):
        load_characters([tmp_path / "none.npz"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no characters"):
        load_characters([tmp_path / "empty"])


def test_clips_follow_from_their_seed() -> None:
    one, same, other = clips(), clips(), clips(seed=2)
    for entry in dataclasses.fields(Clips):
        np.testing.assert_array_equal(getattr(one, entry.name), getattr(same, entry.name))
    assert one.driving is not None
    assert other.driving is not None
    assert np.abs(one.driving - other.driving).mean() > 0.05


def test_a_character_is_drawn_where_its_landmarks_are() -> None:
    made = clips()
    assert made.target is not None
    assert made.coverage is not None
    assert made.background is not None
    outside = made.coverage == 0
    np.testing.assert_array_equal(
        made.target[outside], np.repeat(made.background[:, None], made.target.shape[1], axis=1)[outside]
    )
    assert 0.05 < made.coverage.mean() < 0.25
    places = made.landmarks.astype(int)
    inside = np.all((places >= 0) & (places < (48, 64)), axis=-1)
    clip, frame, landmark = np.nonzero(inside)
    x, y = places[clip, frame, landmark].T
    assert (made.coverage[clip, frame, y, x] > 0.4).mean() > 0.97
    assert inside.mean() > 0.97


def test_what_is_behind_the_body_is_not_visible() -> None:
    """From the left, the right arm of somebody who stands still is behind the body and the left arm."""
    library = CharacterLibrary((box_character(0.1),), 1.0)
    options = ClipOptions(characters=library, motion="idle", moving=0.0, cross_view=0.0, other_figure=0.0)
    made = sample_clips(np.random.default_rng(2), 40, options)
    side = np.abs(np.degrees(made.azimuth[:, 0]) - 90) < 12
    assert side.sum() > 0
    visible = made.visible[side].mean(axis=(0, 1))
    assert visible[LANDMARKS.index("forearm_l")] > 0.9
    assert visible[LANDMARKS.index("upper_arm_r")] < 0.3
    assert made.visible[:, :, LANDMARKS.index("head_top")].mean() > 0.9


def test_where_targets_are_not_rendered_characters_drive_only() -> None:
    """A motion does not say the proportions of a character that somebody else drives."""
    figures = sample_clips(np.random.default_rng(1), 4, ClipOptions(targets=False, other_figure=1.0))
    made = clips(4, targets=False, other_figure=1.0)
    thigh, shin = (LANDMARKS.index(name) for name in ("thigh_l", "shin_l"))
    lengths = [
        np.linalg.norm(item.body_landmarks[:, 0, thigh] - item.body_landmarks[:, 0, shin], axis=-1)
        for item in (figures, made, clips(4, targets=False, other_figure=0.0))
    ]
    own = np.linalg.norm(np.subtract(*box_character().heads[[JOINTS.index("thigh_l"), JOINTS.index("shin_l")]]))
    np.testing.assert_allclose(lengths[1], lengths[0])
    assert np.abs(lengths[2] / own - 1).max() < 0.06


def test_training_takes_characters_from_files(tmp_path: Path) -> None:
    box_character().save(tmp_path / "boxes.npz")
    arguments = ["--out", str(tmp_path), "--steps", "1", "--batch-size", "4", "--characters-fraction", "1"]
    config, _ = parse_generated("motion", MotionConfig, "", [*arguments, "--characters", str(tmp_path / "boxes.npz")])
    assert isinstance(config, MotionConfig)
    (tmp_path / "config.json").write_text(json.dumps(dataclasses.asdict(config)))
    assert read_config(tmp_path) == config
    plain = MotionConfig(out="", steps=1, batch_size=4)
    with_characters, without = (TokenTask(item).get_batch(0)["across"] for item in (config, plain))
    assert with_characters.driving.shape == without.driving.shape
    assert (with_characters.driving - without.driving).abs().mean() > 0.02
