# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural clips: deterministic, split, true to their tracks; shards whole or not there."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackshade.control import tracking_video
from trackshade.core.caption_colors import COLORS
from trackshade.core.errors import UsageError
from trackshade_lab.scenes import (
    clip_kinds,
    contact_sheet,
    generate_clip,
    generate_shards,
    generate_views,
    load_shards,
    scene_shot,
)
from trackshade_lab.scenes.cameras import MOVES, UNSEEN_MOVES
from trackshade_lab.scenes.captions import length
from trackshade_lab.scenes.materials import TEXTURES, UNSEEN_TEXTURES
from trackshade_lab.scenes.scene import UNSEEN_KINDS
from trackshade_lab.scenes.shading import TEXTURE
from trackshade_lab.scenes.shapes import SHAPES, UNSEEN

KINDS = list(clip_kinds("train"))
SMALL = {"size": (72, 48), "frames": 9}
WIDTH, HEIGHT, FRAMES = 144, 96, 17


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_seed_is_a_clip(seed):
    one, again, other = (generate_clip(n, **SMALL) for n in (seed, seed, seed + 1))
    assert one.caption == again.caption
    np.testing.assert_array_equal(one.video, again.video)
    np.testing.assert_array_equal(one.tracking, again.tracking)
    assert not np.array_equal(one.video, other.video)
    assert one.scene is None


def test_splits_draw_from_different_streams():
    """The same seed gives another clip in the other split, and kinds kept back are refused."""
    for seed in range(4):
        train, held = (generate_clip(seed, kind="spin", split=split, **SMALL) for split in ("train", "held-out"))
        assert not np.array_equal(train.video, held.video)
    assert set(clip_kinds("held-out")) - set(KINDS) == {"unseen-shape", "unseen-texture", "unseen-camera"}
    assert sum(clip_kinds("held-out").values()) == pytest.approx(sum(clip_kinds("train").values()), abs=0.01)
    for kind in UNSEEN_KINDS:
        with pytest.raises(ValueError, match="unseen"):
            generate_clip(0, kind=kind)
    with pytest.raises(ValueError, match="split"):
        generate_clip(0, split="test")  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_what_is_kept_back_is_never_trained_on():
    """No training clip has a shape, a texture or a camera path of the unseen kinds, and the unseen kinds have them."""
    assert not set(UNSEEN_MOVES) & set(MOVES)
    assert not set(UNSEEN_TEXTURES) & set(TEXTURES)
    numbers = {row[0] for row in UNSEEN_TEXTURES.values()}
    hidden = re.compile("|".join([*UNSEEN, *UNSEEN_TEXTURES, "spirals"]))
    for seed in range(120):
        clip = generate_clip(seed, (24, 16), 3, keep_scene=True)
        assert clip.scene
        assert not hidden.search(clip.caption + " ".join(words for words, _ in clip.scene.told.bodies))
        assert "spirals" not in clip.scene.told.camera
        assert not numbers & set(clip.scene.materials[:, TEXTURE].astype(int))
    for seed in range(4):
        made = {kind: _told(seed, kind) for kind in UNSEEN_KINDS}
        assert any(shape in made["unseen-shape"].bodies[0][0] for shape in UNSEEN)
        assert "zigzag" in made["unseen-texture"].bodies[0][0]
        assert "spirals" in made["unseen-camera"].camera


def _told(seed, kind):
    scene = generate_clip(seed, (24, 16), 3, kind, split="held-out", keep_scene=True).scene
    assert scene
    return scene.told


@pytest.mark.parametrize("kind", [*KINDS, *UNSEEN_KINDS])
def test_clips_are_plausible(kind):
    clip = generate_clip(3, kind=kind, split="held-out", points=60)
    assert clip.kind == kind
    assert clip.video.shape == clip.tracking.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert clip.object_index.shape == (FRAMES, HEIGHT, WIDTH)
    # Background is black; in the first frame everything else has the color of its place.
    assert not clip.tracking[clip.object_index == -1].any()
    rows, columns = np.nonzero(clip.object_index[0] >= 0)
    place = np.stack([(columns + 0.5) / WIDTH, (rows + 0.5) / HEIGHT], 1)
    np.testing.assert_allclose(clip.tracking[0][rows, columns, :2], 255 * place, atol=0.51)
    if kind in ("static-camera", "spin"):
        still = (clip.object_index == 0).all(axis=0)
        np.testing.assert_array_equal(clip.tracking[0][still], clip.tracking[-1][still])


@pytest.mark.slow
def test_no_clip_is_degenerate():
    """Over 200 seeds: the main body is seen, something is lit, something moves, and captions fit their limits."""
    words = set()
    for seed in range(200):
        clip = generate_clip(seed, **SMALL, split="held-out" if seed % 2 else "train", keep_scene=True)
        assert clip.scene
        assert np.isfinite(clip.scene.world).all()
        main = (clip.object_index == 1).mean(axis=(1, 2))
        assert 0.005 < main[0] < 0.75, seed
        assert main[4] > 0, seed
        assert clip.video.std() > 6, seed
        assert 8 < clip.video[0].mean() < 245, seed
        assert np.abs(clip.video.astype(int) - clip.video[0]).max() > 20, seed
        assert length(clip.caption) < 30, clip.caption
        words.update(re.findall(r"\w+|[^\w\s]+", clip.caption))
    assert 100 < len(words) < 250


def test_a_followed_point_keeps_its_color():
    """Where a followed point is seen, the tracking video shows the color that the point has in the first frame."""
    errors = []
    for seed in range(8):
        clip = generate_clip(seed, points=80)
        assert clip.visible[0].mean() > 0.95
        start = np.floor(clip.points[0]).astype(int)
        first = clip.tracking[0][start[:, 1], start[:, 0]].astype(int)
        for t in range(1, FRAMES):
            seen = clip.visible[t] & clip.visible[0]
            at = np.floor(clip.points[t][seen]).astype(int)
            errors.append(np.abs(clip.tracking[t][at[:, 1], at[:, 0]] - first[seen])[:, :2].max(axis=1))
    errors = np.concatenate(errors)
    # One pixel of a frame 96 high is 2.7 levels; beside silhouettes the nearest pixel may show something else.
    assert np.median(errors) <= 3
    assert (errors <= 8).mean() > 0.9


def hue(rgb):
    """Direction of a color in the plane across the greys."""
    rgb = np.asarray(rgb, float)
    return rgb / np.linalg.norm(rgb, axis=-1, keepdims=True)


def test_captions_tell_the_color_that_is_seen():
    """Where a scene names its main body's color, of the eight that is the nearest to what is seen of the body."""
    names, directions = list(COLORS), hue(list(COLORS.values()))
    told = right = 0
    for seed in range(100):
        clip = generate_clip(seed, **SMALL, keep_scene=True)
        assert clip.scene
        if clip.scene.color is None:
            continue
        assert clip.scene.color in clip.caption.split()
        seen = np.median(clip.video[0][clip.object_index[0] == 1], axis=0)
        told += 1
        right += names[int(np.argmax(directions @ hue(seen)))] == clip.scene.color
    assert told > 25
    assert right / told > 0.93


@pytest.mark.parametrize("seed", [1, 2, 3, 11])
def test_a_scene_is_a_shot(seed):
    """The control signal that is made from the scene's shot is the clip's own tracking video."""
    clip = generate_clip(seed, **SMALL, keep_scene=True)
    assert clip.scene
    shot = scene_shot(clip.scene, SMALL["size"], 8.0)
    shot.check_values()
    video = tracking_video(shot, threads=1)
    apart = np.abs(video.frames.astype(int) - clip.tracking).max(axis=-1)
    assert (apart > 1).mean() < 1e-3
    bodies = np.array([mesh.pass_index for mesh in shot.meshes] + [-1])
    assert (bodies[video.object_index] == clip.object_index).mean() > 0.999
    dots = tracking_video(shot, "points", 400, threads=1)
    assert dots.points is not None
    assert dots.frames.any()


def test_views_of_one_scene():
    """The first view is the seed's clip; a surface point has one canonical color in all views."""
    size, frames = SMALL["size"], SMALL["frames"]
    compared = 0
    for seed in range(4):
        views = generate_views(seed, 3, size, frames, canonical=True)
        clip = generate_clip(seed, size, frames)
        np.testing.assert_array_equal(views[0].video, clip.video)
        np.testing.assert_array_equal(views[0].tracking, clip.tracking)
        assert not np.array_equal(views[1].video, views[2].video)
        for t in (0, frames - 1):
            for view in views[1:]:
                compared += compare_canonical(views[0], view, t)
    assert compared > 400
    own = generate_views(0, 2, size, frames)[1]
    rows, columns = np.nonzero(own.object_index[0] >= 0)
    place = (np.stack([columns, rows], 1) + 0.5) / size
    np.testing.assert_allclose(own.tracking[0][rows, columns, :2], 255 * place, atol=0.51)
    with pytest.raises(ValueError, match="one or more"):
        generate_views(0, 0)


def compare_canonical(one, other, t):
    """How many vertices of bodies both views see at frame `t`; their colors there are the same."""
    scene = one.scene
    np.testing.assert_array_equal(scene.world, other.scene.world)
    bodies = np.unique(scene.triangles[scene.body[scene.part] > 0])
    colors, seen = [], np.ones(len(bodies), bool)
    for view in (one, other):
        video = tracking_video(scene_shot(view.scene, SMALL["size"]), threads=1)
        m, k = view.scene.world_to_camera[t], view.scene.intrinsics[t]
        x = scene.world[t, bodies] @ m[:3, :3].T + m[:3, 3]
        uv = np.floor(x[:, :2] / x[:, 2:] * k[0, 0] + k[:2, 2]).astype(int)
        inside = (x[:, 2] > 0) & np.all((uv >= 0) & (uv < SMALL["size"]), axis=1)
        column, row = np.where(inside, uv.T, 0)
        seen &= inside & (np.abs(video.depth[t, row, column] - x[:, 2]) < 0.02)
        colors.append(view.tracking[t, row, column].astype(int))
    near = np.abs(colors[0] - colors[1])[seen][:, :2].max(axis=1, initial=0)
    assert near.size == 0 or np.median(near) <= 8
    return int((near <= 12).sum())


def test_other_sizes():
    clip = generate_clip(5, size=(48, 32), frames=5)
    assert clip.video.shape == (5, 32, 48, 3)
    assert generate_clip(5, frames=1).video.shape[0] == 1
    assert generate_clip(5, size=(48, 32), frames=49).video.shape[0] == 49


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
    assert len(shards.colors) == 5
    assert set(shards.colors) <= {None, *COLORS}
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


def test_clips_of_another_control_signal(tmp_path):
    """The same videos, with depth in the place of the tracks; shards say which, and are not mixed."""
    generate_shards(tmp_path, 2, size=(32, 24), frames=3, shard=2)
    made = generate_clip(1, (32, 24), 3, control="depth")
    np.testing.assert_array_equal(made.video, load_shards(tmp_path)[1][0])
    assert made.tracking.any()
    assert (made.tracking == made.tracking[..., :1]).all()
    with pytest.raises(FileExistsError):
        generate_shards(tmp_path, 2, size=(32, 24), frames=3, shard=2, control="depth")
    generate_shards(tmp_path / "depth", 2, size=(32, 24), frames=3, control="depth")
    shards = load_shards(tmp_path / "depth")
    assert shards.control == "depth"
    np.testing.assert_array_equal(shards[1][1], made.tracking)
    (tmp_path / "depth" / "shard-000000").rename(tmp_path / "shard-000001")
    with pytest.raises(UsageError, match="shards of depth and of mesh"):
        load_shards(tmp_path)
