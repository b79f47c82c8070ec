# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural clips: deterministic, split, true to their tracks; shards whole or not there."""

import hashlib
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackshade.control import tracking_video
from trackshade.core.errors import UsageError
from trackshade_lab.scenes import (
    clip_kinds,
    contact_sheet,
    generate_clip,
    generate_shards,
    load_shards,
    scene_shot,
)
from trackshade_lab.scenes.build import UNSEEN_KINDS
from trackshade_lab.scenes.cameras import MOVES, UNSEEN_MOVES
from trackshade_lab.scenes.captions import COLORS, count_words
from trackshade_lab.scenes.clip import Clip
from trackshade_lab.scenes.materials import TEXTURES, UNSEEN_TEXTURES
from trackshade_lab.scenes.shading import TEXTURE
from trackshade_lab.scenes.shapes import SHAPES, UNSEEN_SHAPES

pytestmark = pytest.mark.slow

KINDS = list(clip_kinds("train"))
SMALL = {"size": (72, 48), "num_frames": 9}
WIDTH, HEIGHT, FRAMES = 144, 96, 17
KNOWN_CLIPS = [  # split, seed, frames, start of the caption's SHA-256, means of video and tracking video
    ("train", 0, 9, "e9ddfc89", 110.25, 135.84),
    ("train", 1, 9, "6e83c549", 163.36, 27.24),
    ("train", 2, 9, "8a92ba25", 136.20, 18.31),
    ("train", 3, 9, "8c1823ac", 152.55, 69.45),
    ("train", 999, 9, "c96bcd5f", 122.73, 111.45),
    ("train", 3999, 9, "5aab6251", 114.66, 121.94),
    ("train", 500000, 1, "7c6e64bc", 102.00, 141.37),
    ("held-out", 0, 9, "e6b1c1e5", 142.27, 154.33),
    ("held-out", 1, 9, "0cfa6e88", 104.41, 112.38),
    ("held-out", 2, 9, "c74b95a0", 78.46, 137.77),
    ("held-out", 3, 9, "9114019c", 83.56, 120.26),
    ("held-out", 999, 9, "bbaa5ecd", 153.28, 99.60),
    ("held-out", 3999, 9, "ea368f40", 112.39, 77.06),
    ("held-out", 500000, 1, "1e3e3423", 110.20, 102.82),
]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Small clips of the first seeds, alternately to train on and held out."""
    options = {"size": (48, 32), "num_frames": 5}
    return [generate_clip(seed, **options, split="held-out" if seed % 2 else "train") for seed in range(160)]


@settings(max_examples=5)
@given(seed=st.integers(0, 2**40))
def test_a_seed_is_a_clip(seed):
    one, again, other = (generate_clip(n, **SMALL) for n in (seed, seed, seed + 1))
    assert one.caption == again.caption
    np.testing.assert_array_equal(one.video, again.video)
    np.testing.assert_array_equal(one.tracking, again.tracking)
    assert not np.array_equal(one.video, other.video)


@pytest.mark.parametrize(("split", "seed", "num_frames", "caption", "video", "tracking"), KNOWN_CLIPS)
def test_a_seed_is_the_clip_that_it_was(split, seed, num_frames, caption, video, tracking):
    """Training data and the held-out clips of evaluations are known by their seeds alone.

    Captions are compared exactly. Frames are compared by their means, because the last bit of a sine, and so a pixel,
    may differ between processors.
    """
    clip = generate_clip(seed, SMALL["size"], num_frames, split=split)
    assert hashlib.sha256(clip.caption.encode()).hexdigest()[:8] == caption
    assert clip.video.mean() == pytest.approx(video, abs=0.02)
    assert clip.tracking.mean() == pytest.approx(tracking, abs=0.02)


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


def test_what_is_kept_back_is_never_trained_on(clips):
    """No training clip has a shape, a texture or a camera path of the unseen kinds, and the unseen kinds have them."""
    assert not set(UNSEEN_MOVES) & set(MOVES)
    assert not set(UNSEEN_TEXTURES) & set(TEXTURES)
    numbers = {row[0] for row in UNSEEN_TEXTURES.values()}
    hidden = re.compile("|".join([*UNSEEN_SHAPES, *UNSEEN_TEXTURES, "spirals"]))
    for clip in clips[::2]:
        assert not hidden.search(clip.caption + " ".join(words for words, _ in clip.scene.facts.bodies))
        assert "spirals" not in clip.scene.facts.camera
        assert not numbers & set(clip.scene.materials[:, TEXTURE].astype(int))
    for seed in range(4):
        made = {kind: _facts(seed, kind) for kind in UNSEEN_KINDS}
        assert any(shape in made["unseen-shape"].bodies[0][0] for shape in UNSEEN_SHAPES)
        assert "zigzag" in made["unseen-texture"].bodies[0][0]
        assert "spirals" in made["unseen-camera"].camera


def _facts(seed, kind):
    return generate_clip(seed, (24, 16), 3, kind, split="held-out").scene.facts


@pytest.mark.parametrize("kind", [*KINDS, *UNSEEN_KINDS])
def test_clips_are_plausible(kind):
    clip = generate_clip(3, kind=kind, split="held-out")
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


def test_no_clip_is_degenerate(clips):
    """Over many seeds: the main body is seen, something is lit, something moves, and captions fit their limits."""
    words = set()
    for seed, clip in enumerate(clips):
        assert np.isfinite(clip.scene.world).all()
        main = (clip.object_index == 1).mean(axis=(1, 2))
        assert 0.005 < main[0] < 0.75, seed
        assert main[4] > 0, seed
        assert clip.video.std() > 6, seed
        assert 8 < clip.video[0].mean() < 245, seed
        assert np.abs(clip.video.astype(int) - clip.video[0]).max() > 20, seed
        assert count_words(clip.caption) < 30, clip.caption
        words.update(re.findall(r"\w+|[^\w\s]+", clip.caption))
    assert 100 < len(words) < 250


def test_a_surface_point_keeps_its_color():
    """Where a vertex is seen, the tracking video shows the color that it has in the first frame."""
    compared = 0
    for seed in range(8):
        view = generate_clip(seed, **SMALL)
        for t in range(1, SMALL["num_frames"]):
            compared += compare_colors((view, 0), (view, t))
    assert compared > 1000


def hue(rgb):
    """Direction of a color in the plane across the greys."""
    rgb = np.asarray(rgb, float)
    return rgb / np.linalg.norm(rgb, axis=-1, keepdims=True)


def test_captions_tell_the_color_that_is_seen(clips):
    """Where a scene names its main body's color, of the eight that is the nearest to what is seen of the body."""
    names, directions = list(COLORS), hue(list(COLORS.values()))
    told = right = 0
    for clip in clips:
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
    clip = generate_clip(seed, **SMALL)
    shot = scene_shot(clip.scene, SMALL["size"])
    shot.check_values()
    video = tracking_video(shot, threads=1)
    apart = np.abs(video.frames.astype(int) - clip.tracking).max(axis=-1)
    assert (apart > 1).mean() < 1e-3
    bodies = np.array([mesh.pass_index for mesh in shot.meshes] + [-1])
    assert (bodies[video.object_index] == clip.object_index).mean() > 0.999
    dots = tracking_video(shot, "points", 400, threads=1)
    assert dots.points is not None
    assert dots.frames.any()


def compare_colors(*seen_in):
    """How many vertices of bodies are seen in both (view, frame); their colors there are the same."""
    scene = seen_in[0][0].scene
    bodies = np.unique(scene.triangles[scene.body[scene.part] > 0])
    colors, seen = [], np.ones(len(bodies), bool)
    for view, t in seen_in:
        np.testing.assert_array_equal(scene.world, view.scene.world)
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
    clip = generate_clip(5, size=(48, 32), num_frames=5)
    assert clip.video.shape == (5, 32, 48, 3)
    assert generate_clip(5, num_frames=1).video.shape[0] == 1
    assert generate_clip(5, size=(48, 32), num_frames=49).video.shape[0] == 49


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
        tmp_path, 5, first_seed=7, shard=2, progress=lambda *a: told.append(a), size=(48, 32), num_frames=3
    )
    assert [f.name for f in folders] == ["shard-000000", "shard-000001", "shard-000002"]
    assert told[-1] == (5, 5)
    assert sorted(p.name for p in folders[0].iterdir()) == ["captions.json", "tracking.npy", "video.npy"]
    shards = load_shards(tmp_path)
    assert len(shards) == 5
    video, tracking, caption, kind = shards[4]
    clip = generate_clip(11, size=(48, 32), num_frames=3)
    np.testing.assert_array_equal(video, clip.video)
    np.testing.assert_array_equal(tracking, clip.tracking)
    assert (caption, kind) == (clip.caption, clip.kind)
    assert len(shards.colors) == 5
    assert set(shards.colors) <= {None, *COLORS}
    with pytest.raises(IndexError):
        shards[5]


def test_shards_resume_and_refuse_to_mix(tmp_path):
    options = {"shard": 2, "size": (48, 32), "num_frames": 2}
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
    clips = [generate_clip(seed, size=(48, 32), num_frames=3) for seed in range(3)]
    sheet = np.asarray(contact_sheet(clips, columns=2, step=1))
    assert sheet.shape == (2 * (2 * 32 + 18), 2 * (3 * 48 + 8), 3)
    np.testing.assert_array_equal(sheet[15:47, 48:96], clips[0].video[1])
    np.testing.assert_array_equal(sheet[47:79, :48], clips[0].tracking[0])


def test_clips_of_another_control_signal(tmp_path):
    """The same videos, with depth in the place of the tracks; shards say which, and are not mixed."""
    generate_shards(tmp_path, 2, size=(32, 24), num_frames=3, shard=2)
    made = generate_clip(1, (32, 24), 3, control="depth")
    np.testing.assert_array_equal(made.video, load_shards(tmp_path)[1][0])
    assert made.tracking.any()
    assert (made.tracking == made.tracking[..., :1]).all()
    with pytest.raises(FileExistsError):
        generate_shards(tmp_path, 2, size=(32, 24), num_frames=3, shard=2, control="depth")
    generate_shards(tmp_path / "depth", 2, size=(32, 24), num_frames=3, control="depth")
    shards = load_shards(tmp_path / "depth")
    assert shards.control == "depth"
    np.testing.assert_array_equal(shards[1][1], made.tracking)
    (tmp_path / "depth" / "shard-000000").rename(tmp_path / "shard-000001")
    with pytest.raises(UsageError, match="shards of depth and of mesh"):
        load_shards(tmp_path)
