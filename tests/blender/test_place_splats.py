# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussian splats in a scene: of a PLY and a USD file, as splats or as colored points, and out of it again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.core.colors import srgb_to_linear
from trackshade.core.errors import UsageError
from trackshade.splats.frame import SplatFrame
from trackshade.splats.ply import write_splat_ply
from trackshade_addon.placement.splat_sequence import can_play, find_sequence
from trackshade_addon.placement.splats import has_splats, place_splats, remove_splats

COUNT = 50
splats_only = pytest.mark.skipif(not has_splats(), reason="this Blender has no Gaussian splats")
WRITE_USD = """
import bpy
bpy.utils.expose_bundled_modules()
import os, sys
from pathlib import Path
from tests.blender.test_place_splats import frame
from trackshade.splats.usd import write_splat_usd
write_splat_usd(Path(sys.argv[1]), [frame(number) for number in (1, 5, 9)], 24.0)
os._exit(0)
"""


def frame(number: float = 1.0) -> SplatFrame:
    """Splats on the plane y = 0 that move up by a metre in each frame."""
    rng = np.random.default_rng(0)
    position = rng.uniform(-1, 1, (COUNT, 3)).astype(np.float32) * np.array([1, 0, 1], np.float32)
    position[:, 2] += np.float32(number - 1)
    rotation = np.tile(np.array([1, 0, 0, 0], np.float32), (COUNT, 1))
    size = rng.uniform(0.01, 0.1, (COUNT, 3)).astype(np.float32)
    color = rng.random((COUNT, 3)).astype(np.float32)
    return SplatFrame(number, position, rotation, size, color, np.ones(COUNT, bool))


@pytest.fixture
def ply(tmp_path: Path) -> Path:
    path = tmp_path / "shot.ply"
    write_splat_ply(path, frame())
    return path


@pytest.fixture(scope="module")
def usd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written in a process of its own, since two versions of USD do not live in one."""
    if not has_splats():
        pytest.skip("Blender's own USD has no Gaussian splats here")
    path = tmp_path_factory.mktemp("usd") / "shot.usdc"
    subprocess.run([sys.executable, "-c", WRITE_USD, str(path)], check=True, cwd=Path(__file__).parents[2])
    assert path.is_file()
    return path


def state(scene: bpy.types.Scene) -> tuple:
    """What placing must leave as it is."""
    layer = bpy.context.view_layer
    layer.update()
    kinds = ("meshes", "materials", "node_groups", "objects", "collections", "pointclouds", "cache_files")
    return (
        (scene.frame_start, scene.frame_end, scene.frame_current, scene.render.fps),
        [obj.name for obj in layer.objects if obj.select_get()],
        layer.objects.active,
        scene.unit_settings.scale_length,
        {kind: [item.name for item in getattr(bpy.data, kind)] for kind in kinds[:4]},
    )


def positions(placed: str) -> np.ndarray:
    """Evaluated positions [N, 3] of a placed point cloud or mesh."""
    obj = bpy.data.objects[placed].evaluated_get(bpy.context.evaluated_depsgraph_get())
    if isinstance(obj.data, bpy.types.PointCloud):
        points = obj.data.attributes["position"].data
    else:
        geometry = obj.evaluated_geometry()  # which owns the point cloud
        cloud = geometry.pointcloud
        points = cloud.attributes["position"].data
    found = np.empty(len(points) * 3, np.float32)
    points.foreach_get("vector", found)
    return found.reshape(-1, 3)


@pytest.fixture
def furnished(scene: bpy.types.Scene) -> bpy.types.Scene:
    cube = stage.add(scene, "Cube", stage.grid(cells=1))
    cube.select_set(True)
    bpy.context.view_layer.objects.active = cube
    return scene


def test_a_ply_file_is_placed_and_removed(furnished: bpy.types.Scene, ply: Path) -> None:
    before = state(furnished)
    placed = place_splats(ply, furnished)
    assert placed.count == COUNT
    np.testing.assert_allclose(positions(placed.object), frame().position, atol=1e-6)
    data = bpy.data.objects[placed.object].data
    if has_splats():
        assert data.type == "GAUSSIAN_SPLAT"
        base = np.empty(COUNT * 4, np.float32)
        data.attributes["radiance:base"].data.foreach_get("vector", base)
        np.testing.assert_allclose(base[3::4], 0.999, atol=1e-4)
        assert "one frame" in placed.warnings[0]
    else:
        color = np.empty(COUNT * 4, np.float32)
        data.attributes["Color"].data.foreach_get("color", color)
        np.testing.assert_allclose(color.reshape(-1, 4)[:, :3], srgb_to_linear(frame().color), atol=1e-5)
        assert "does not draw Gaussian splats" in placed.warnings[0]
    assert state(furnished)[:4] == before[:4]
    place_splats(ply, furnished)
    assert len([obj for obj in furnished.objects if obj.name.startswith("shot")]) == 1
    remove_splats(furnished, ply)
    assert state(furnished) == before
    assert [item.name for item in furnished.collection.children] == []


@splats_only
def test_a_usd_file_is_played(furnished: bpy.types.Scene, usd: Path) -> None:
    """At the scene's frames, also of another rate, and between those that the file holds."""
    furnished.render.fps = 30
    before = state(furnished)
    placed = place_splats(usd, furnished)
    assert placed.count == COUNT
    assert state(furnished)[:4] == before[:4]
    for number in (1, 5, 7, 9):
        furnished.frame_set(number)
        np.testing.assert_allclose(positions(placed.object)[:, 2], frame(number).position[:, 2], atol=1e-4)
    data = bpy.data.objects[placed.object].evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    assert data.type == "GAUSSIAN_SPLAT"
    furnished.frame_set(1)
    remove_splats(furnished, usd)
    assert state(furnished) == before


@splats_only
def test_splats_are_rendered_in_their_colors(scene: bpy.types.Scene, tmp_path: Path) -> None:
    color = np.array([0.2, 0.5, 0.9], np.float32)
    wall = SplatFrame(
        1.0,
        np.array([[0, 0, 0]], np.float32),
        np.array([[1, 0, 0, 0]], np.float32),
        np.array([[9, 0.01, 9]], np.float32),
        color[None],
        np.ones(1, bool),
    )
    write_splat_ply(tmp_path / "wall.ply", wall)
    place_splats(tmp_path / "wall.ply", scene)
    stage.add_camera(scene, (0, -6, 0))
    render = scene.render
    render.engine, render.resolution_x, render.resolution_y = "CYCLES", 16, 16
    scene.cycles.samples, scene.view_settings.view_transform = 16, "Standard"
    render.image_settings.file_format, render.filepath = "PNG", str(tmp_path / "render.png")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(render.filepath)
    pixels = np.empty(16 * 16 * 4, np.float32)
    image.pixels.foreach_get(pixels)
    np.testing.assert_allclose(np.median(pixels.reshape(-1, 4)[:, :3], axis=0), color, atol=0.02)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The splats of frames 10, 12 and 14, in files that are numbered from 1."""
    folder = tmp_path / "shot"
    folder.mkdir()
    for number in (1, 2, 3):
        write_splat_ply(folder / f"{number:04d}.ply", frame(8.0 + 2 * number))
    (folder / "0007.ply").write_text("of something else")
    return folder


@pytest.mark.skipif(not can_play(), reason="this Blender has no node that reads PLY files")
def test_numbered_ply_files_are_played(furnished: bpy.types.Scene, files: Path) -> None:
    before = state(furnished)
    placed = place_splats(files / "0002.ply", furnished)
    assert placed.object == "shot"
    assert "one frame" not in " ".join(placed.warnings)
    for now, shown in ((1, 10), (10, 10), (12, 12), (13.4, 14), (14, 14), (30, 14)):
        furnished.frame_set(int(now), subframe=now % 1)
        np.testing.assert_allclose(positions("shot"), frame(shown).position, atol=1e-5)
    furnished.frame_set(1)
    evaluated = bpy.data.objects["shot"].evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()
    cloud = evaluated.pointcloud
    if has_splats():
        assert cloud.type == "GAUSSIAN_SPLAT"
    else:
        color, radius = np.empty(COUNT * 4, np.float32), np.empty(COUNT, np.float32)
        cloud.attributes["Color"].data.foreach_get("color", color)
        cloud.attributes["radius"].data.foreach_get("value", radius)
        np.testing.assert_allclose(color.reshape(-1, 4)[:, :3], srgb_to_linear(frame().color), atol=1e-5)
        np.testing.assert_allclose(radius, 0.6 * frame().size[:, :2].max(axis=1), rtol=1e-4)
    place_splats(files / "0003.ply", furnished)
    assert len([obj for obj in furnished.objects if obj.name.startswith("shot")]) == 1
    remove_splats(furnished, files / "0001.ply")
    assert state(furnished) == before


def test_a_sequence_is_found_by_any_of_its_files(tmp_path: Path, files: Path) -> None:
    found = find_sequence(files / "0003.ply")
    assert found is not None
    assert [path.name for path in found.files] == ["0001.ply", "0002.ply", "0003.ply"]
    assert (found.digits, found.number, found.start, found.step) == (4, 1, 10.0, 2.0)
    assert find_sequence(files / "0007.ply") is None  # alone
    assert find_sequence(files / "0004.ply") is None  # missing
    assert find_sequence(tmp_path / "shot.ply") is None
    for number in (24, 25):  # of another program, whose files do not name frames
        path = tmp_path / f"scan-{number}.ply"
        path.write_bytes(re.sub(rb"comment frame [0-9]+\n", b"", (files / "0001.ply").read_bytes(), count=1))
    found = find_sequence(tmp_path / "scan-25.ply")
    assert found is not None
    assert (found.digits, found.number, found.start, found.step) == (2, 24, 24.0, 1.0)


def test_another_view_transform_is_named(scene: bpy.types.Scene, ply: Path) -> None:
    scene.view_settings.view_transform = "AgX"
    assert any("AgX" in warning for warning in place_splats(ply, scene).warnings)


def test_files_that_are_no_splats(scene: bpy.types.Scene, tmp_path: Path, ply: Path) -> None:
    before = state(scene)
    cut, text, points = tmp_path / "cut.ply", tmp_path / "text.ply", tmp_path / "points.ply"
    cut.write_bytes(ply.read_bytes()[:-10])
    text.write_text("hello")
    points.write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\nend_header\n" + bytes(4)
    )
    wrong = frame()
    nan = tmp_path / "nan.ply"
    write_splat_ply(nan, wrong)
    nan.write_bytes(nan.read_bytes()[:-4] + np.float32(np.nan).tobytes())
    for path, message in (
        (tmp_path / "missing.ply", "cannot be read"), (tmp_path / "missing.usdc", "cannot be read"),
        (cut, "cut short"), (text, "no PLY file"), (points, "no PLY file"), (nan, "not finite"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            place_splats(path, scene)
    assert state(scene) == before


def test_the_operator(registered: None, scene: bpy.types.Scene, ply: Path, tmp_path: Path) -> None:
    assert bpy.ops.trackshade.place_splats(filepath=str(ply)) == {"FINISHED"}
    with pytest.raises(RuntimeError, match="cannot be read"):
        bpy.ops.trackshade.place_splats(filepath=str(tmp_path / "missing.ply"))
