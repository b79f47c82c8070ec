# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes for evaluation: they are built from seeds, captured whole, and rendered with their light."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.core.errors import UsageError
from trackshade.core.fitting import fit_frames, fit_size
from trackshade.shot import Shot
from trackshade_addon import commands
from trackshade_addon.capture import capture
from trackshade_addon.capture.first_frame import read_picture
from trackshade_addon.synthetic import build_held_out
from trackshade_addon.synthetic.held_out import KINDS
from trackshade_addon.synthetic.reference import true_samples

pytestmark = pytest.mark.once

SIZE, FRAMES = (48, 32), 5


def captured(kind: str, seed: int, look: int = 0) -> Shot:
    scene = build_held_out(kind, seed, FRAMES, look)
    frames, size = fit_frames(1, FRAMES, 1, 24, (FRAMES,)), fit_size(SIZE, (1.0, 1.0), (SIZE,))
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    return capture(scene, frame_map=frames, size_fit=size)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_captured_and_moves(kind: str) -> None:
    shot = captured(kind, 0)
    assert len(shot.frame_numbers) == FRAMES
    camera = shot.camera
    moves = not np.allclose(camera.world_to_camera[0], camera.world_to_camera[-1])
    assert moves or any(not np.allclose(mesh.matrix_world[0], mesh.matrix_world[-1]) for mesh in shot.meshes)
    assert bpy.context.scene.camera.type == "CAMERA"


def test_a_seed_is_one_scene() -> None:
    """The same seed gives the same scene; another one, or another kind, gives another."""
    first, again, other = captured("orbit", 0), captured("orbit", 0), captured("orbit", 1)
    np.testing.assert_array_equal(first.camera.world_to_camera, again.camera.world_to_camera)
    assert not np.allclose(first.camera.world_to_camera, other.camera.world_to_camera)
    assert len(KINDS) >= 10


def test_another_look_moves_alike() -> None:
    build_held_out("character", 0, FRAMES)
    before = captured("character", 0)
    materials = {slot.material.name for obj in bpy.data.objects for slot in obj.material_slots}
    build_held_out("character", 0, FRAMES, look=1)
    after = {slot.material.name for obj in bpy.data.objects for slot in obj.material_slots}
    shot = captured("character", 0, 1)
    assert materials.isdisjoint(after)
    np.testing.assert_array_equal(shot.camera.world_to_camera, before.camera.world_to_camera)
    for one, other in zip(shot.geometries, before.geometries, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_kinds_have_what_they_are_named_for() -> None:
    assert captured("orthographic", 0).camera.orthographic.all()
    assert len(set(captured("cut", 0).camera.sources)) == 2
    assert any(mesh.changes for mesh in captured("growing", 0).meshes)
    assert captured("leaves", 0).cutouts
    assert any(geometry.deforms for geometry in captured("character", 0).geometries)
    assert any(geometry.deforms for geometry in captured("cloth", 0).geometries)
    town = captured("instances", 0)
    assert len(town.meshes) > 5 * len(town.geometries)
    assert build_held_out("long", 0).frame_end == 250
    with pytest.raises(UsageError, match="no kind of scene 'spiral'"):
        build_held_out("spiral", 0)


def test_the_kinds_that_the_lab_knows() -> None:
    dataset = pytest.importorskip("trackshade_lab.evaluation.propagation.dataset")
    assert tuple(KINDS) == dataset.KINDS


@pytest.mark.parametrize(("count", "every", "expected"), [
    (33, 8, [0, 8, 16, 24, 32]), (5, 3, [0, 3, 4]), (65, 8, [0, 16, 32, 48, 64]), (2, 8, [0, 1]),
])  # fmt: skip
def test_true_samples(count: int, every: int, expected: list[int]) -> None:
    assert true_samples(count, every) == expected


def reference(folder: Path, *options: str) -> int:
    return commands.main("trackshade", ["reference", "--size=48x40", "--samples=1", f"--out={folder}", *options])


@pytest.mark.long
def test_a_scene_is_rendered_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Files that are there are kept, missing ones are rendered, and other settings are refused."""
    folder = tmp_path / "cut"
    assert reference(folder, "--kind=cut", "--every=16", "--json") == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["samples"] == [0, 16, 32]
    shot = Shot.load(folder / "scene.shot")
    assert (len(shot.frame_numbers), shot.size) == (33, (48, 32))  # the aspect is the scene's
    assert [path.stem for path in sorted((folder / "truth").iterdir())] == ["0000", "0016", "0032"]
    assert len(list((folder / "video").iterdir())) == 11
    first, later = (read_picture(folder / "truth" / f"00{t}.png").astype(int) for t in ("00", "32"))
    assert first.shape == (32, 48, 3)
    assert abs(first - later).mean() > 4  # another camera
    light = np.load(folder / "clay" / "0016.npy")
    assert light.dtype == np.float16
    assert light.shape == (16, 24, 3)
    assert np.isfinite(light).all()
    assert light.mean() > 0.2
    kept, lost = folder / "truth" / "0016.png", folder / "clay" / "0032.npy"
    before = kept.stat().st_mtime_ns
    lost.unlink()
    assert reference(folder, "--kind=cut", "--every=16") == 0
    assert "0 of 1, cut-0/clay/0032.npy" in capfd.readouterr().err
    assert kept.stat().st_mtime_ns == before
    assert lost.exists()
    assert reference(folder, "--kind=cut", "--every=16", "--seed=1") == 3
    assert "holds another scene" in capfd.readouterr().err


def test_a_file_is_rendered(tmp_path: Path) -> None:
    build_held_out("orbit", 3, 3)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "own.blend"))
    assert reference(tmp_path / "own", "--every=2", "--", str(tmp_path / "own.blend")) == 0
    assert len(Shot.load(tmp_path / "own" / "scene.shot").frame_numbers) == 3
    assert [path.stem for path in sorted((tmp_path / "own" / "truth").iterdir())] == ["0000", "0002"]


def test_noise_of_footage_does_not_stand_still(tmp_path: Path, scene: bpy.types.Scene) -> None:
    """Trackers take noise that is alike in all frames for points that do not move."""
    stage.add_camera(scene, (0, -4, 0))
    stage.add(scene, "Plane", stage.grid("Plane", 1)).rotation_euler.x = 1.0
    light = stage.add(scene, "Light", bpy.data.lights.new("Light", "AREA"))
    light.location, light.data.energy, light.data.size = (1, -3, 2), 200, 3
    scene.frame_start, scene.frame_end = 1, 2
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "still.blend"))
    frames = {}
    for options in ((), ("--all-frames",)):
        folder = tmp_path / f"still{len(options)}"
        assert reference(folder, *options, "--every=1", "--", str(tmp_path / "still.blend")) == 0
        frames[options] = [read_picture(path).astype(int) for path in sorted((folder / "truth").iterdir())]
    assert np.array_equal(*frames[()])
    first, second = frames["--all-frames",]
    assert first.std() > 4  # there is something to see
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("options", [(), ("--kind=orbit", "--size=pad"), ("--kind=orbit", "--every=0")])
def test_usage(options: tuple[str, ...], tmp_path: Path) -> None:
    assert reference(tmp_path / "none", *options) == 2
