# SPDX-License-Identifier: GPL-3.0-or-later
"""What Cycles renders with a known texture, baked back through its tracks, is that texture; seen by another camera, it
is what that camera sees.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.results.cells.views import render_views
from trackshade.results.texture.bake import BakedTexture, bake_texture
from trackshade.shot import Shot

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parents[1] / "helpers" / "texture_scene.py"
FRAMES, SIZE = 8, "360x240"
TEXELS = 256


@dataclass(frozen=True, eq=False)
class Truth:
    shot: Shot
    second: Shot
    video: np.ndarray  # [T, H, W, 3] uint8, Cycles' renders of the shot
    seen: np.ndarray  # [H, W, 3] uint8, Cycles' render through the second camera, middle frame
    texture: np.ndarray  # [S, S, 3] uint8, what the scene is painted with
    baked: tuple[BakedTexture, ...]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    folder = tmp_path_factory.mktemp("truth")
    command = [sys.executable, str(SCRIPT), str(folder), str(FRAMES), SIZE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (folder / "texture.npy").is_file(), done.stdout[-2000:] + done.stderr[-2000:]
    shot, video = Shot.load(folder / "tracks.shot"), np.load(folder / "video.npy")
    views = render_views(shot, 2)
    baked = []
    for n, track in enumerate(shot.meshes):
        uv = shot.geometries[track.geometry].uv
        assert uv is not None
        baked.append(bake_texture(views, video, n, uv, TEXELS, 2))
    return Truth(
        shot, Shot.load(folder / "second.shot"), video, np.load(folder / "second.npy"),
        np.load(folder / "texture.npy"), tuple(baked),
    )  # fmt: skip


def psnr(error: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean(np.square(error, dtype=np.float64))))


def test_the_texture_comes_back_on_covered_texels(truth: Truth) -> None:
    for track, baked in zip(truth.shot.meshes, truth.baked, strict=True):
        error = (baked.color.astype(float) - truth.texture)[baked.covered]
        assert psnr(error) >= 30, track.name
        assert np.abs(error.mean(axis=0)).max() < 2, track.name  # neither lighter nor darker


def test_what_no_frame_shows_is_named(truth: Truth) -> None:
    cube = truth.baked[0]
    cells = cube.covered.reshape(2, TEXELS // 2, TEXELS)
    share = [cells[row, :, column * 85 + 8 : column * 85 + 76].mean() for row in (1, 0) for column in range(3)]
    assert sorted(round(value) for value in share) == [0, 0, 1, 1, 1, 1]  # two sides of the cube are never seen
    assert 0.2 < truth.baked[1].coverage < 0.6  # of the ball, the front


def test_another_camera_sees_what_it_would_have_rendered(truth: Truth) -> None:
    t = FRAMES // 2
    raster = ShotRaster(truth.second)
    buffers = raster.draw(t)
    made = np.zeros(truth.seen.shape)
    known = np.zeros(made.shape[:2], bool)
    for n, baked in enumerate(truth.baked):
        pixels = np.flatnonzero(buffers.label == n)
        geometry = truth.second.geometries[truth.second.meshes[n].geometry]
        _, weights = barycentric(buffers, pixels, raster.vertices(n, t), geometry.triangles)
        assert geometry.uv is not None
        uv = np.einsum("nc,ncx->nx", weights, geometry.uv[buffers.triangle.ravel()[pixels]])
        column, row = (uv * TEXELS).astype(int).T
        made.reshape(-1, 3)[pixels] = baked.color[TEXELS - 1 - row, column]
        known.ravel()[pixels] = baked.covered[TEXELS - 1 - row, column]
    inner = known & (render_views(truth.second, 1).clear_mesh[t] >= 0)  # a silhouette's pixels hold what is behind
    assert inner.sum() > 0.5 * (buffers.label >= 0).sum()
    assert psnr((made - truth.seen)[inner]) >= 30


def test_the_renders_themselves_hardly_vary_on_their_surfaces(truth: Truth) -> None:
    for baked in truth.baked:
        assert np.nanmedian(baked.variation) < 3
