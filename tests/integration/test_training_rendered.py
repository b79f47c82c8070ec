# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes for Blender: their descriptions, and the shards of what Blender renders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree

from trackshade_lab.scenes import load_shards
from trackshade_lab.scenes.blender import ENGINES, render_shards, sample_description, write_description
from trackshade_lab.scenes.build import build_scene
from trackshade_lab.scenes.captions import MAX_WORDS, count_words
from trackshade_lab.scenes.clip import KINDS
from trackshade_lab.scenes.jointed import animal, figure
from trackshade_lab.scenes.sculpted import fuse_parts

SIZE, FRAMES = (32, 24), 2


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


@pytest.fixture(scope="module")
def vocabulary() -> set[str]:
    """Of captions of clips that the numpy renderer draws."""
    kinds = list(KINDS)
    rng = np.random.default_rng(0)
    return set().union(*(words(build_scene(rng, kinds[n % len(kinds)], (16, 16), 2).caption) for n in range(250)))


def write(path: Path, *arguments) -> tuple[dict, dict]:
    """The header and the arrays of a scene's file."""
    scene, look = sample_description(*arguments)
    write_description(path, scene, look, SIZE)
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(arrays.pop("header").tobytes()), arrays


@pytest.mark.long
def test_a_seed_is_a_description(tmp_path: Path, vocabulary: set[str]) -> None:
    captions = set()
    for seed in range(12):
        header, arrays = write(tmp_path / "one.npz", seed, "train", SIZE, FRAMES)
        again, same = write(tmp_path / "same.npz", seed, "train", SIZE, FRAMES)
        assert header == again
        assert arrays.keys() == same.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, same[name])
            assert np.isfinite(array).all()
        for n, part in enumerate(header["parts"]):
            assert arrays[f"{n}.triangles"].max() < len(arrays[f"{n}.vertices"])
            assert arrays[f"{n}.uv"].shape == (*arrays[f"{n}.triangles"].shape, 2)
            assert header["materials"][part["material"]]["printed"] == (f"{n}.image" in arrays)
        caption = sample_description(seed, "train", SIZE, FRAMES)[0].caption
        assert words(caption) <= vocabulary
        captions.add(caption)
    assert len(captions) == 12


def test_splits_and_engines() -> None:
    """A seed is another scene in the other split, and the same scene with every engine."""
    for seed in range(3):
        train, held = (sample_description(seed, split, SIZE, FRAMES)[0] for split in ("train", "held-out"))
        assert train.world.shape != held.world.shape or not np.array_equal(train.world, held.world)
    scenes = [sample_description(5, "train", SIZE, FRAMES, engine) for engine in ENGINES]
    assert [look["settings"]["render.engine"] for _, look in scenes] == list(ENGINES)
    assert len({scene.caption for scene, _ in scenes}) == 1


def test_patterns_are_images_for_workbench(tmp_path: Path) -> None:
    shown = set()
    for seed in range(30):
        header, arrays = write(tmp_path / "a.npz", seed, "train", SIZE, 1, "workbench")
        for n, material in enumerate(header["materials"]):
            assert material["printed"] == (material["pattern"] != "plain")
            shown.add(material["pattern"])
            contrast = np.abs(np.subtract(material["first"], material["second"])).max()
            if material["printed"] and contrast > 0.3 and material["pattern"] not in ("shaded", "mottled", "marbled"):
                image = arrays[f"{n}.image"].reshape(-1, 3).astype(int)
                assert np.ptp(image, axis=0).max() > 60, material  # both colors are there
    assert len(shown) >= 10


@pytest.mark.parametrize("make", [figure, animal])
def test_a_smooth_skin_follows_its_limbs(make) -> None:
    times = np.arange(7) / 8.0
    for seed in range(4):
        limbs = make(np.random.default_rng(seed), times, 1.0)
        skin = fuse_parts(limbs, 1.0)
        assert (skin.words, skin.radius, skin.action) == (limbs.words, limbs.radius, limbs.action)
        steps = np.linspace(0, 1, 7)[:, None, None]
        for t in (0, 3, 6):
            # Points along the edges of the limbs' triangles, and the skin's vertices.
            ends = [p.rest[p.triangles] @ p.matrices[t, :3, :3].T + p.matrices[t, :3, 3] for p in limbs.parts]
            limb = np.concatenate([(e[:, 0] + steps * (e[:, 1] - e[:, 0])).reshape(-1, 3) for e in ends])
            surface = np.concatenate([part.deformed[t] for part in skin.parts if part.deformed is not None])[::5]
            assert np.quantile(KDTree(limb).query(surface)[0], 0.95) < 0.1
            assert KDTree(surface).query(limb[::7])[0].max() < 0.3
        # The parts together are closed: every edge, by place, belongs to two triangles.
        places = np.concatenate([part.rest[part.triangles] for part in skin.parts])
        _, same = np.unique(np.round(places.reshape(-1, 3), 5), axis=0, return_inverse=True)
        faces = same.reshape(-1, 3)
        edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        assert set(np.unique(edges, axis=0, return_counts=True)[1]) <= {2, 4}


def test_rendered_clips_are_shards(vocabulary: set[str], tmp_path: Path) -> None:
    pytest.importorskip("bpy", reason="Blender renders the clips")
    told = []
    made = render_shards(
        tmp_path, 3, first_seed=7, size=SIZE, num_frames=FRAMES, engine="cycles", shard=2,
        progress=lambda done, count: told.append((done, count)),
    )  # fmt: skip
    assert [folder.name for folder in made] == ["shard-rendered-000007", "shard-rendered-000009"]
    assert told[-1] == (3, 3)
    shards = load_shards(tmp_path)
    assert len(shards) == 3
    for video, tracking, caption, kind in (shards[n] for n in range(3)):
        assert video.shape == tracking.shape == (FRAMES, SIZE[1], SIZE[0], 3)
        assert kind.startswith("rendered ")
        assert np.std(video) > 4
        assert count_words(caption) <= MAX_WORDS
        assert words(caption) <= vocabulary
        # In the first frame a track's color is its place.
        rows, columns = np.nonzero(tracking[0].any(axis=-1))
        place = np.stack([(columns + 0.5) / SIZE[0], (rows + 0.5) / SIZE[1]], axis=1)
        np.testing.assert_allclose(tracking[0][rows, columns, :2], 255 * place, atol=0.51)
    before = (made[0] / "video.npy").stat().st_mtime_ns
    render_shards(tmp_path, 2, first_seed=7, size=SIZE, num_frames=FRAMES, engine="cycles", shard=2)  # is there already
    assert (made[0] / "video.npy").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="holds other clips"):
        render_shards(tmp_path, 2, first_seed=7, size=SIZE, num_frames=FRAMES, engine="workbench", shard=2)
