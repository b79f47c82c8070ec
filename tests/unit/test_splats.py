# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats: where they are chosen, how they move with the surface, and the files that they are written to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tests.helpers import propagation_reference as reference
from tests.helpers.matrices import box_matrix, levels_of, painted_cells, seen_by
from tests.helpers.shots import changing_shot
from trackshade.control.locate import SurfacePoints
from trackshade.core.errors import OutputError, UsageError
from trackshade.results.cells.images import CellImages
from trackshade.results.cells.points import PointSet
from trackshade.shot import Geometry, Shot
from trackshade.shot.cameras import unroll_cameras
from trackshade.splats.frame import SplatFrame
from trackshade.splats.motion import SplatMotion
from trackshade.splats.ply import COLUMNS, HARMONIC, write_splat_ply
from trackshade.splats.sampling import choose_points
from trackshade.splats.sequence import SplatSequence, build_splats
from trackshade.splats.spreading import choose_evenly
from trackshade.splats.usd import write_splat_usd


@pytest.fixture(scope="module")
def cells() -> CellImages:
    shot = box_matrix(3)
    return CellImages(shot, painted_cells(shot))


@pytest.fixture(scope="module")
def sequence(cells: CellImages) -> SplatSequence:
    return build_splats(cells, 3000)


def turned(q: np.ndarray) -> np.ndarray:
    """Matrices [N, 3, 3] of quaternions (w, x, y, z)."""
    w, x, y, z = q.T.astype(np.float64)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def test_points_are_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    flat = np.column_stack([rng.random((3000, 2)), np.zeros(3000)])
    kept = choose_evenly(flat, np.full(3000, 1 / np.sqrt(1000)), 1000)
    assert len(kept) == 1000
    nearest = cKDTree(flat[kept]).query(flat[kept], 2)[0][:, 1] * np.sqrt(1000)
    by_chance = cKDTree(flat[:1000]).query(flat[:1000], 2)[0][:, 1] * np.sqrt(1000)
    assert np.percentile(nearest, 2) > 0.6
    assert np.percentile(by_chance, 2) < 0.15
    assert len(choose_evenly(flat[:5], np.ones(5), 9)) == 5


def test_points_are_where_the_cameras_look(cells: CellImages) -> None:
    """The number is that asked for; the seen top of the box has many more than its hidden bottom, which has some."""
    chosen = choose_points(cells, 4000)
    assert abs(len(chosen.spacing) - 4000) <= 4
    points = chosen.surface
    on_box = points.mesh == 1
    height = np.einsum(
        "nc,nc->n", points.weights[on_box], cells.shot.geometries[1].first[points.corners[on_box]][..., 2]
    )
    top, bottom = (height > 0.69).sum(), (height < -0.69).sum()
    assert top > 4 * bottom > 0
    assert len(np.unique(choose_points(cells, 500, seed=1).surface.weights)) > 400
    with pytest.raises(UsageError, match="0 splats"):
        choose_points(cells, 0)


def test_colors_are_those_of_the_surface(cells: CellImages, sequence: SplatSequence) -> None:
    """Also of what no cell shows: it is near that of what is beside it."""
    points = sequence.points
    assert 0.7 < sequence.seen.mean() < 1
    for frame in sequence.frames():
        truth = np.zeros((len(sequence), 3))
        for mesh, numbers, located in points.groups(0):
            places = located.interpolate(cells.shot.geometry_of(mesh, 0).first.astype(np.float64))
            truth[numbers] = levels_of(reference.smooth_texture, mesh, places)
        difference = np.abs(255 * frame.color - truth).mean(axis=1)
        assert difference[sequence.seen].mean() < 1.5
        assert difference[~sequence.seen].mean() < 40
        assert frame.exists.all()


def test_splats_stay_on_the_same_point_of_the_surface(cells: CellImages, sequence: SplatSequence) -> None:
    shot, frames = cells.shot, list(sequence.frames())
    for t, frame in enumerate(frames):
        for mesh in range(len(shot.meshes)):
            own = sequence.points.mesh == mesh
            matrix = shot.meshes[mesh].matrix_world[t * 3]
            first = shot.meshes[mesh].matrix_world[0]
            local = (frames[0].position[own] - first[:3, 3]) @ np.linalg.inv(first[:3, :3]).T
            np.testing.assert_allclose(frame.position[own], local @ matrix[:3, :3].T + matrix[:3, 3], atol=1e-4)


def square(positions: np.ndarray, matrices: np.ndarray) -> Shot:
    """A square with these positions [T, 4, 3], seen by two cameras."""
    geometry = Geometry(positions.astype(np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    eye = [reference.look_at((0.5, -4, 3), (0.5, 0.5, 0))] * len(matrices)
    shot = reference.make_shot([geometry], [reference.mesh(0, matrices)], reference.camera(eye))
    return seen_by(shot, (0.5, 0, 0))


def motion_of(shot: Shot, spacing: float = 0.1) -> SplatMotion:
    unrolled = unroll_cameras(shot)
    surface = SurfacePoints(
        np.zeros(2, int), np.zeros(2, int), np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.full((2, 3), 1 / 3), np.ones(2, bool),
    )  # fmt: skip
    return SplatMotion(PointSet(unrolled, surface), np.full(2, spacing), unrolled.views)


CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float64)


def test_a_surface_that_turns_turns_its_splats() -> None:
    angles = np.linspace(0, 3 * np.pi, 25)
    matrices = np.tile(np.eye(4), (len(angles), 1, 1))
    for matrix, angle in zip(matrices, angles, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        matrix[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    motion = motion_of(square(CORNERS[None], matrices))
    before, start = None, None
    for t in range(len(angles)):
        _, rotation, size, exists = motion.frame(t)
        assert exists.all()
        np.testing.assert_allclose(size[:, :2], 0.1, rtol=1e-5)
        start = turned(rotation) if start is None else start
        np.testing.assert_allclose(turned(rotation), matrices[t, :3, :3] @ start, atol=1e-5)
        if before is not None:
            assert ((rotation * before).sum(axis=1) > 0.9).all()  # the same sign, so that they can be interpolated
        before = rotation


def test_a_surface_that_is_stretched_and_sheared_deforms_its_splats() -> None:
    """The covariance of a splat is that of its disc under the deformation."""
    rng = np.random.default_rng(0)
    shapes = [np.eye(3)] + [np.eye(3) + 0.5 * rng.normal(size=(3, 3)) for _ in range(6)]
    positions = np.stack([CORNERS @ shape.T for shape in shapes])
    motion = motion_of(square(positions, np.tile(np.diag([2.0, 1, 1, 1]), (len(shapes), 1, 1))))
    for t, shape in enumerate(shapes):
        _, rotation, size, _ = motion.frame(t)
        axes = turned(rotation)[..., :2] * size[:, None, :2]
        full = np.diag([2.0, 1, 1]) @ shape[:, :2] * 0.1
        np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.tile(full @ full.T, (2, 1, 1)), atol=1e-6)


def test_points_that_vanish_are_hidden_and_new_surface_has_splats() -> None:
    still = np.tile(np.eye(4), (4, 1, 1))
    shot = changing_shot()
    shot = seen_by(replace(shot, meshes=(replace(shot.meshes[0], matrix_world=still),)), (0.3, 0, 0))
    pictures = [np.full((64, 96, 3), 90, np.uint8)] * 8
    built = build_splats(CellImages(shot, pictures), 400)
    frames = list(built.frames())
    new = ~frames[0].exists
    assert new.any()
    assert frames[1].exists[new].all()
    assert frames[0].exists[~new].all()
    assert (frames[0].size[new] < 1e-6).all()


def test_a_ply_file_has_the_published_layout(tmp_path: Path, sequence: SplatSequence) -> None:
    frame = next(sequence.frames())
    path = tmp_path / "splats.ply"
    write_splat_ply(path, frame, width=0.5, opacity=0.9)
    head, _, body = path.read_bytes().partition(b"end_header\n")
    rows = np.frombuffer(body, "<f4").reshape(-1, len(COLUMNS))
    names = [line.split()[2] for line in head.decode().splitlines() if line.startswith("property float")]
    assert names == list(COLUMNS)
    assert f"element vertex {len(sequence)}" in head.decode()
    np.testing.assert_allclose(rows[:, :3], frame.position)
    np.testing.assert_allclose(rows[:, 6:9] * HARMONIC + 0.5, frame.color, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-rows[:, 9])), 0.9, rtol=1e-5)
    np.testing.assert_allclose(np.exp(rows[:, 10:13]), 0.5 * frame.size, rtol=1e-5)
    np.testing.assert_allclose(rows[:, 13:], frame.rotation)
    np.testing.assert_allclose(turned(frame.rotation)[..., 2], rows[:, 3:6], atol=1e-5)


def test_plyfile_reads_it(tmp_path: Path, sequence: SplatSequence) -> None:
    plyfile = pytest.importorskip("plyfile")
    write_splat_ply(tmp_path / "splats.ply", next(sequence.frames()))
    vertices = plyfile.PlyData.read(tmp_path / "splats.ply")["vertex"]
    assert tuple(item.name for item in vertices.properties) == COLUMNS
    assert len(vertices.data) == len(sequence)


def broken(frame: SplatFrame) -> SplatFrame:
    color = frame.color.copy()
    color[3, 1] = np.nan
    return replace(frame, color=color)


def test_values_that_are_not_numbers_are_not_written(tmp_path: Path, sequence: SplatSequence) -> None:
    frame = broken(next(sequence.frames()))
    with pytest.raises(OutputError, match="1 splats of frame 1"):
        write_splat_ply(tmp_path / "splats.ply", frame)
    assert not (tmp_path / "splats.ply").exists()
    pytest.importorskip("pxr")
    with pytest.raises(OutputError, match="1 splats of frame 1"):
        write_splat_usd(tmp_path / "splats.usdc", [frame], 24)


def test_usd_has_time_samples_of_what_changes(tmp_path: Path, sequence: SplatSequence) -> None:
    usd = pytest.importorskip("pxr.Usd")
    frames = list(sequence.frames())
    write_splat_usd(tmp_path / "splats.usdc", frames, 24.0, width=0.5, opacity=3.0)
    stage = usd.Stage.Open(str(tmp_path / "splats.usdc"))
    prim = stage.GetDefaultPrim()
    assert prim.GetTypeName() == "ParticleField3DGaussianSplat"
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (1, 3, 24)

    def values(name: str, time: float) -> np.ndarray:
        return np.array(prim.GetAttribute(name).Get(time))

    for frame in frames:
        np.testing.assert_allclose(values("positions", frame.number), frame.position)
        np.testing.assert_allclose(values("scales", frame.number), 0.5 * frame.size, rtol=1e-6)
        np.testing.assert_allclose(values("opacities", frame.number), 3.0)
        colors = values("radiance:sphericalHarmonicsCoefficients", frame.number) * HARMONIC + 0.5
        np.testing.assert_allclose(colors, frame.color, atol=1e-6)
        quaternions = [(q.real, *q.imaginary) for q in prim.GetAttribute("orientations").Get(frame.number)]
        np.testing.assert_allclose(quaternions, frame.rotation, atol=1e-6)
    assert prim.GetAttribute("positions").GetNumTimeSamples() == 3
    assert prim.GetAttribute("scales").GetNumTimeSamples() == 0  # nothing deforms


def test_cameras_that_see_nothing_get_gray_splats_by_area() -> None:
    shot = box_matrix(2)
    turned = np.diag([-1.0, 1, -1, 1])
    away = [replace(camera, world_to_camera=turned @ camera.world_to_camera) for camera in shot.cameras]
    shot = replace(shot, camera=away[0], more_cameras=tuple(away[1:]))
    built = build_splats(CellImages(shot, [np.zeros((48, 72, 3), np.uint8)] * 6), 300)
    assert abs(len(built) - 300) <= 4
    assert not built.seen.any()
    assert np.ptp(next(built.frames()).color) == 0
