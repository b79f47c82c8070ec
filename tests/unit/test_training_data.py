# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural clips: deterministic, split, true to their tracks; shards whole or not there."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackshade.training.data import clip_kinds, contact_sheet, generate_clip, generate_shards, load_shards
from trackshade.training.data.shapes import SHAPES, UNSEEN

KINDS = list(clip_kinds("train"))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_seed_is_a_clip(seed):
    one, again, other = generate_clip(seed), generate_clip(seed), generate_clip(seed + 1)
    assert one.caption == again.caption
    np.testing.assert_array_equal(one.video, again.video)
    np.testing.assert_array_equal(one.tracking, again.tracking)
    assert not np.array_equal(one.video, other.video)


def test_splits_never_meet():
    """The same seed gives another clip in the other split; shapes kept back appear in held-out clips only."""
    for seed in range(4):
        train, held = generate_clip(seed, kind="spin"), generate_clip(seed, kind="spin", split="held-out")
        assert not np.array_equal(train.video, held.video)
    assert set(clip_kinds("held-out")) - set(KINDS) == {"unseen"}
    with pytest.raises(ValueError, match="unseen"):
        generate_clip(0, kind="unseen")
    captions = " ".join(generate_clip(seed).caption for seed in range(60))
    assert not any(shape in captions for shape in UNSEEN)
    assert any(shape in generate_clip(3, kind="unseen", split="held-out").caption for shape in UNSEEN)


@pytest.mark.parametrize("kind", [*KINDS, "unseen"])
@pytest.mark.parametrize("seed", [1, 2])
def test_clips_are_plausible(kind, seed):
    clip = generate_clip(seed, kind=kind, split="held-out", points=60)
    assert clip.kind == kind
    assert clip.video.shape == clip.tracking.shape == (9, 64, 96, 3)
    assert clip.object_index.shape == (9, 64, 96)
    assert clip.video.std() > 8
    assert len(clip.caption) > 10
    main = (clip.object_index == 1).mean(axis=(1, 2))
    assert 0.002 < main[0] < 0.6
    assert main[len(main) // 2] > 0
    # Background is black; in the first frame everything else has the colour of its place.
    assert not clip.tracking[clip.object_index == -1].any()
    rows, columns = np.nonzero(clip.object_index[0] >= 0)
    place = np.stack([(columns + 0.5) / 96, (rows + 0.5) / 64], 1)
    np.testing.assert_allclose(clip.tracking[0][rows, columns, :2], 255 * place, atol=0.51)
    assert np.abs(clip.video[-1].astype(int) - clip.video[0]).mean() > 0.3
    if kind in ("static-camera", "spin"):
        still = (clip.object_index == 0).all(axis=0)
        np.testing.assert_array_equal(clip.tracking[0][still], clip.tracking[-1][still])


def test_tracks_are_true():
    """Where a followed point is seen, the tracking video shows the colour that the point has in the first frame."""
    errors = []
    for seed in range(8):
        clip = generate_clip(seed, points=80)
        assert clip.visible[0].mean() > 0.95
        start = np.floor(clip.points[0]).astype(int)
        first = clip.tracking[0][start[:, 1], start[:, 0]].astype(int)
        for t in range(1, 9):
            seen = clip.visible[t] & clip.visible[0]
            at = np.floor(clip.points[t][seen]).astype(int)
            errors.append(np.abs(clip.tracking[t][at[:, 1], at[:, 0]] - first[seen])[:, :2].max(axis=1))
    errors = np.concatenate(errors)
    # One pixel of a frame 64 high is 4 levels; beside silhouettes the nearest pixel may show something else.
    assert np.median(errors) <= 4
    assert (errors <= 8).mean() > 0.9


def test_other_sizes():
    clip = generate_clip(5, size=(48, 32), frames=5)
    assert clip.video.shape == (5, 32, 48, 3)
    assert generate_clip(5, frames=1).video.shape[0] == 1


@pytest.mark.parametrize("name", list(SHAPES))
def test_shapes_are_closed_and_sized(name):
    """Every edge, by place, is shared by two triangles; about a metre across."""
    positions, triangles = SHAPES[name](np.random.default_rng(0))
    assert triangles.max() < len(positions)
    assert 0.5 < np.ptp(positions, axis=0).max() < 1.7
    _, same = np.unique(np.round(positions, 4), axis=0, return_inverse=True)
    faces = same.ravel()[triangles]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    assert set(count) == {2}


def test_shards(tmp_path):
    told = []
    folders = generate_shards(
        tmp_path, 5, first_seed=7, shard=2, progress=lambda *a: told.append(a), size=(48, 32), frames=3
    )
    assert [f.name for f in folders] == ["shard-000000", "shard-000001", "shard-000002"]
    assert told[-1] == (5, 5)
    assert sorted(p.name for p in folders[0].iterdir()) == ["captions.json", "tracking.npy", "video.npy"]
    shards = load_shards(tmp_path)
    assert len(shards) == 5
    video, tracking, caption, kind = shards[4]
    clip = generate_clip(11, size=(48, 32), frames=3)
    np.testing.assert_array_equal(video, clip.video)
    np.testing.assert_array_equal(tracking, clip.tracking)
    assert (caption, kind) == (clip.caption, clip.kind)
    with pytest.raises(IndexError):
        shards[5]


def test_shards_resume_and_refuse_to_mix(tmp_path):
    options = {"shard": 2, "size": (48, 32), "frames": 2}
    folders = generate_shards(tmp_path, 4, **options)
    stamp = (folders[0] / "video.npy").stat().st_mtime_ns
    for file in folders[1].iterdir():
        file.unlink()
    folders[1].rmdir()
    (tmp_path / ".shard-000001.1.part").mkdir()  # what a killed process leaves behind
    generate_shards(tmp_path, 4, **options)
    assert (folders[0] / "video.npy").stat().st_mtime_ns == stamp
    assert len(load_shards(tmp_path)) == 4
    with pytest.raises(FileExistsError, match="other clips"):
        generate_shards(tmp_path, 4, first_seed=9, **options)
    assert json.loads((folders[1] / "captions.json").read_text())["plan"]["first_seed"] == 2
    with pytest.raises(FileNotFoundError):
        load_shards(tmp_path / "nowhere")


def test_sheet():
    clips = [generate_clip(seed, size=(48, 32), frames=3) for seed in range(3)]
    sheet = np.asarray(contact_sheet(clips, columns=2, step=1))
    assert sheet.shape == (2 * (2 * 32 + 18), 2 * (3 * 48 + 8), 3)
    np.testing.assert_array_equal(sheet[15:47, 48:96], clips[0].video[1])
    np.testing.assert_array_equal(sheet[47:79, :48], clips[0].tracking[0])
