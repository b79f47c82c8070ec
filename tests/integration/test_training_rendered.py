# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips that Blender renders become shards like any others, told in the words of the procedural ones."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from trackshade_lab.scenes import load_shards
from trackshade_lab.scenes.captions import LIMIT, length
from trackshade_lab.scenes.clip import KINDS
from trackshade_lab.scenes.rendered import render_shards
from trackshade_lab.scenes.scene import build_scene

pytest.importorskip("bpy", reason="Blender renders the clips")
SIZE, FRAMES = (32, 24), 2


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


@pytest.fixture(scope="module")
def vocabulary() -> set[str]:
    """Of procedural captions."""
    kinds = list(KINDS)
    rng = np.random.default_rng(0)
    return set().union(*(words(build_scene(rng, kinds[n % len(kinds)], (16, 16), 2).caption) for n in range(250)))


def test_rendered_clips_are_shards(vocabulary: set[str], tmp_path: Path) -> None:
    told = []
    made = render_shards(
        tmp_path, 3, first_seed=7, size=SIZE, frames=FRAMES, engine="cycles", shard=2,
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
        assert length(caption) <= LIMIT
        assert words(caption) <= vocabulary
        # In the first frame a track's color is its place.
        rows, columns = np.nonzero(tracking[0].any(axis=-1))
        place = np.stack([(columns + 0.5) / SIZE[0], (rows + 0.5) / SIZE[1]], axis=1)
        np.testing.assert_allclose(tracking[0][rows, columns, :2], 255 * place, atol=0.51)
    before = (made[0] / "video.npy").stat().st_mtime_ns
    render_shards(tmp_path, 2, first_seed=7, size=SIZE, frames=FRAMES, engine="cycles", shard=2)  # is there already
    assert (made[0] / "video.npy").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="holds other clips"):
        render_shards(tmp_path, 2, first_seed=7, size=SIZE, frames=FRAMES, engine="workbench", shard=2)
