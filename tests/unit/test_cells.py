# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of cells: reading, leveling, colors of surface points over cells and frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import propagation_reference as reference
from tests.helpers.matrices import box_matrix, levels_of, painted_cells, seen_by
from tests.helpers.shots import changing_shot
from trackshade.control.locate import SurfacePoints
from trackshade.control.scene import ShotRaster
from trackshade.core.colors import linear_to_srgb, srgb_to_linear
from trackshade.core.errors import ShotError, UsageError
from trackshade.results.cells.images import CellImages
from trackshade.results.cells.leveling import fit_levels
from trackshade.results.cells.looking import look
from trackshade.results.cells.points import PointSet, points_of_pixels
from trackshade.results.cells.series import ColorSeries, finish_colors, frame_noise, gather_series
from trackshade.shot import Shot
from trackshade.shot.cameras import camera_file_names, through_camera, unroll_cameras


def all_points(cells: CellImages, sample: int = 0) -> tuple[PointSet, np.ndarray]:
    """The surface points of a cell's pixels, and the colors that they are painted with."""
    points, _ = points_of_pixels(ShotRaster(cells.shot), sample)
    return PointSet(cells.shot, points), painted_at(cells.shot, points)


def painted_at(shot: Shot, points: SurfacePoints) -> np.ndarray:
    colors = np.zeros((len(points.mesh), 3))
    for n, (mesh, geometry) in enumerate(zip(points.mesh.tolist(), points.geometry.tolist(), strict=True)):
        place = points.weights[n] @ shot.geometries[geometry].first[points.corners[n]].astype(np.float64)
        colors[n] = levels_of(reference.smooth_texture, mesh, place[None])[0]
    return colors


@pytest.fixture(scope="module")
def painted() -> tuple[Shot, list[np.ndarray]]:
    shot = box_matrix()
    return shot, painted_cells(shot)


@pytest.mark.parametrize("inside", ["", "frames"], ids=["folder", "result"])
def test_a_folder_of_cameras(inside: str, tmp_path: Path, painted) -> None:
    shot, pictures = painted
    for view, name in enumerate(camera_file_names(shot.cameras)):
        (tmp_path / name / inside).mkdir(parents=True)
        for t in range(2):
            if (view, t) != (1, 1):
                Image.fromarray(pictures[t * 3 + view]).save(tmp_path / name / inside / f"{t + 1:04d}.png")
    cells = CellImages.from_folder(shot, tmp_path)
    assert (cells.cameras, cells.frames, cells.size) == (3, 2, shot.size)
    assert cells.samples(1) == [3, 5]
    for frame in range(2):
        column = cells.column(frame)
        for n, t in enumerate(cells.samples(frame)):
            np.testing.assert_array_equal(column.images[n], pictures[t])


def test_pictures_that_do_not_fit(tmp_path: Path, painted) -> None:
    shot, pictures = painted
    with pytest.raises(ShotError, match="5 pictures for 6 cells"):
        CellImages(shot, pictures[:5])
    with pytest.raises(ShotError, match="None of the shot's cells"):
        CellImages(shot, [None] * 6)
    with pytest.raises(ShotError, match="has no pictures"):
        CellImages.from_folder(shot, tmp_path)
    with pytest.raises(UsageError, match="aspect"):
        CellImages(shot, [picture[:, :40] for picture in pictures])
    with pytest.raises(ShotError, match="not of 72×48"):
        CellImages(shot, [*pictures[:5], pictures[5][::2, ::2]]).column(1)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ShotError, match="cannot be read"):
        CellImages(shot, [*pictures[:5], tmp_path / "broken.png"]).column(1)


@pytest.mark.parametrize("orthographic", [False, True])
def test_points_have_the_color_they_are_painted_with(orthographic: bool) -> None:
    shot = box_matrix(orthographic=orthographic)
    cells = CellImages(shot, painted_cells(shot))
    points, truth = all_points(cells)
    for frame in range(2):
        found = points.gather(cells, frame)
        seen = found.count > 0
        assert seen.mean() > 0.7
        assert np.abs(found.color - truth)[seen].mean() < 1.0
        assert np.abs(found.color - truth)[seen].max() < 12
        assert np.isnan(found.color[~seen]).all()
        assert found.count.max() == 3


def test_one_camera_and_a_cell_that_is_missing(painted) -> None:
    shot, pictures = painted
    cells = CellImages(through_camera(shot, 0), pictures[::3])
    points, truth = all_points(cells)
    found = points.gather(cells, 1)
    seen = found.count == 1
    assert seen.mean() > 0.6
    assert np.abs(found.color - truth)[seen].mean() < 1.0
    empty = CellImages(shot, [*pictures[:3], None, None, None])
    assert (all_points(empty)[0].gather(empty, 1).count == 0).all()


def test_a_point_is_followed_where_the_topology_changes() -> None:
    shot = changing_shot()
    still = np.tile(np.eye(4), (4, 1, 1))
    shot = seen_by(replace(shot, meshes=(replace(shot.meshes[0], matrix_world=still),)), (0.3, 0, 0))
    unrolled = unroll_cameras(shot)
    pictures = []
    for t in range(len(unrolled.frame_numbers)):
        shown = ShotRaster(unrolled).draw(t).label >= 0
        pictures.append(np.where(shown[..., None], np.uint8(60 + 20 * (t // 2)), np.uint8(0)) * np.ones(3, np.uint8))
    cells = CellImages(shot, pictures)
    points, _ = points_of_pixels(ShotRaster(cells.shot), 0)
    for frame in range(4):
        found = PointSet(cells.shot, points).gather(cells, frame)
        seen = found.count > 0
        assert seen.any()
        np.testing.assert_allclose(found.color[seen], 60 + 20 * frame, atol=1e-3)


def test_gain_and_offset_are_found(painted) -> None:
    """Cells of other exposures are brought together, and a cell of noise is trusted least."""
    shot, pictures = painted
    rng = np.random.default_rng(0)
    gain, offset = rng.uniform(0.85, 1.1, (6, 1, 1, 3)), rng.uniform(-12, 12, (6, 1, 1, 3))
    changed = [np.clip(picture * g + o, 0, 255) for picture, g, o in zip(pictures, gain, offset, strict=True)]
    changed[1] = changed[1] + 30 * rng.normal(size=changed[1].shape)
    cells = CellImages(shot, [picture.astype(np.float32) for picture in changed])
    levels = fit_levels(cells)
    points, _ = all_points(cells)
    plain, level = (np.nanmean(points.gather(cells, 1, fitted).variation) for fitted in (None, levels))
    assert level < 0.25 * plain
    for frame in range(2):
        here = slice(3 * frame, 3 * frame + 3)
        np.testing.assert_allclose(levels.gain[here].mean(axis=0), 1, atol=1e-9)
        np.testing.assert_allclose(levels.offset[here].mean(axis=0), 0, atol=1e-9)
    assert levels.spread[1] > 1.5 * levels.spread[[0, 2]].max()


def test_one_wrong_cell_does_not_move_the_color(painted) -> None:
    shot, _ = painted
    shot = seen_by(through_camera(shot, 0), (0.5, 0, 0), (-0.4, -0.3, 0), (0.2, 0.2, 0), (-0.2, 0.1, 0))
    pictures = painted_cells(shot)
    pictures[1] = 255 - pictures[1]
    cells = CellImages(shot, pictures)
    points, truth = all_points(cells)
    found = points.gather(cells, 0)
    often = found.count == 5
    assert often.any()
    assert np.abs(found.color - truth)[often].mean() < 8  # a mean would be wrong by a fifth of the difference
    assert found.variation[often].mean() > 20


def test_noise_between_frames_goes_and_changes_stay() -> None:
    """Colors under a light that changes: noise is averaged over time, the light and a lasting change are kept."""
    rng = np.random.default_rng(1)
    frames, count = 8, 500
    light = np.broadcast_to(np.linspace(60, 220, frames)[:, None, None], (frames, count, 3)).astype(np.float32)
    albedo = rng.uniform(0.3, 1.0, (1, count, 3))
    truth = 255 * linear_to_srgb(albedo * srgb_to_linear(light / 255))
    highlight = np.zeros((frames, count, 1))
    highlight[3, :50] = 60
    truth = truth + highlight
    noisy = truth + rng.normal(0, 6, truth.shape)
    counts, variation = np.full((frames, count), 4), np.full((frames, count), 12.0)  # of the mean: 6
    series = ColorSeries(noisy.astype(np.float32), counts, variation, light)
    np.testing.assert_allclose(frame_noise(series), 36)
    steady = finish_colors(series)
    assert np.abs(steady - truth)[:, 50:].mean() < 0.6 * np.abs(noisy - truth)[:, 50:].mean()
    assert np.abs(steady - truth)[3, :50].mean() < 15
    np.testing.assert_allclose(finish_colors(series, steady=0), noisy, atol=1e-3)
    quiet = replace(series, variation=np.zeros_like(variation))
    np.testing.assert_allclose(finish_colors(quiet), noisy, atol=1e-3)
    dark = replace(series, light=None)
    np.testing.assert_array_equal(finish_colors(dark), series.color)


def test_other_frames_fill_what_no_cell_shows() -> None:
    color = np.full((5, 3, 3), np.nan, np.float32)
    color[1, 0], color[3, 0] = 100, 140  # between
    color[4, 1] = 50  # before the first
    counts = np.isfinite(color[..., 0]).astype(int)
    series = ColorSeries(color, counts, np.full((5, 3), np.nan))
    filled = finish_colors(series)
    np.testing.assert_allclose(filled[:, 0, 0], [100, 100, 120, 140, 140])
    np.testing.assert_allclose(filled[:, 1, 0], 50)
    assert np.isnan(filled[:, 2]).all()
    light = np.full((5, 3, 3), 128, np.float32)
    light[2] = 64
    lit = finish_colors(replace(series, light=light))
    assert lit[2, 0, 0] < 75  # about half of the light
    np.testing.assert_allclose(lit[0, 1], 50, atol=0.1)


def test_clay_that_is_gathered_relights_a_cell_without_a_picture() -> None:
    """The light doubles from one frame to the next, whose cells have no pictures."""
    shot = box_matrix()

    def lit(t: int) -> float:
        return 0.5 if t < 3 else 1.0

    unrolled = unroll_cameras(shot)
    pictures = painted_cells(shot, lambda mesh, points: 0.4 * reference.smooth_texture(mesh, points))
    clay = CellImages.from_light(
        shot,
        lambda t: np.where((ShotRaster(unrolled).draw(t).label >= 0)[..., None], lit(t), 1) * np.ones(3, np.float32),
        shot.size,
    )
    cells = CellImages(shot, [*pictures[:3], None, None, None])
    points, _ = all_points(cells)
    series = gather_series(points, cells, range(2), clay=clay)
    found = finish_colors(series)
    both = np.isfinite(series.color[0, :, 0]) & np.isfinite(series.light).all(axis=(0, 2))
    ratio = ((found[1] / 255) ** 2.2 / (found[0] / 255) ** 2.2)[both]
    np.testing.assert_allclose(np.median(ratio), 2.0, rtol=0.03)


def test_a_camera_that_has_no_picture_sees_the_surfaces(painted) -> None:
    shot, pictures = painted
    other = unroll_cameras(seen_by(through_camera(shot, 0), (0.15, -0.1, 0)))
    truth = painted_cells(seen_by(through_camera(shot, 0), (0.15, -0.1, 0)))
    cells = CellImages(shot, pictures)
    found = look(cells, other, 1, samples=2)
    assert found.known.mean() > 0.6
    assert np.abs(found.image - truth[1])[found.known].mean() < 2
    assert (found.image[~found.surface & (ShotRaster(other).draw(1).label < 0)] < 256).all()
    assert np.nanmax(found.disagreement) < 12


def test_cameras_that_see_nothing_together(painted) -> None:
    """One looks away: the cells stay as they are, and its picture of nothing is no color of any surface."""
    shot, pictures = painted
    turned = np.diag([-1.0, 1, -1, 1])
    away = [replace(camera, world_to_camera=turned @ camera.world_to_camera) for camera in shot.more_cameras]
    for blind in (away[:1], away):
        cameras = 1 + len(blind)
        alone = replace(shot, more_cameras=tuple(blind))
        cells = CellImages(alone, [pictures[0] if t % cameras == 0 else 0 * pictures[0] for t in range(2 * cameras)])
        levels = fit_levels(cells)
        np.testing.assert_array_equal(levels.gain, 1)
        assert np.isnan(levels.spread).all()
        points, truth = all_points(cells)
        found = points.gather(cells, 0, levels)
        assert found.count.max() == 1
        assert np.nanmean(np.abs(found.color - truth)) < 1.0
        nothing = look(cells, cells.shot, 1, levels=levels)
        assert not nothing.known.any()
        assert not nothing.surface.any()
    only_away = replace(shot, camera=away[0], more_cameras=(away[1],))
    empty = CellImages(only_away, [pictures[0]] * 4)
    assert np.isnan(fit_levels(empty).spread).all()
