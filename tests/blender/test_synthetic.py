# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes from seeds: the same every time, moving as they say, and exported with all that a clip needs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import bpy
import numpy as np
import pytest

from trackshade.core.fitting import fit_frames, fit_size
from trackshade.core.geometry import project
from trackshade.shot import Shot
from trackshade_addon import commands
from trackshade_addon.capture import capture
from trackshade_addon.synthetic import bodies, build_scene, jointed
from trackshade_addon.synthetic.scene import Told

FRAMES, SIZE = 5, (48, 32)
MAKERS = (
    bodies.solid, bodies.deforming, bodies.rope, jointed.figure, jointed.animal, jointed.vehicle, jointed.windmill,
    jointed.beads,
)  # fmt: skip


def build(seed: int, split: str = "train", engine: str = "cycles") -> tuple[Told, Shot]:
    told = build_scene(seed, split, FRAMES, SIZE, engine=engine)
    frames, size = fit_frames(1, FRAMES, 1, 8, (FRAMES,)), fit_size(SIZE, (1.0, 1.0), (SIZE,))
    return told, capture(bpy.context.scene, frame_map=frames, size_fit=size)


def everything(shot: Shot) -> list[np.ndarray]:
    """[V, 3] world positions of every mesh in every frame, and the cameras."""
    meshes = [shot.world_positions(mesh, t) for mesh in range(len(shot.meshes)) for t in range(FRAMES)]
    return [*meshes, shot.camera.world_to_camera, shot.camera.intrinsics]


def moves(*arrays: np.ndarray) -> bool:
    """Whether any of [T, ...] changes."""
    return any(bool(np.ptp(array, axis=0).max() > 1e-4) for array in arrays)


@pytest.mark.parametrize("seed", range(6))
def test_a_seed_is_a_scene(seed: int) -> None:
    told, shot = build(seed)
    again, same = build(seed)
    assert again == told
    for before, after in zip(everything(shot), everything(same), strict=True):
        np.testing.assert_array_equal(after, before)
    assert all(np.isfinite(part).all() for part in everything(shot))
    paths = [track.matrix_world for track in shot.meshes]
    bodies_move = moves(*paths) or any(geometry.deforms for geometry in shot.geometries)
    assert bodies_move is (told.kind != "frozen-time")
    assert moves(shot.camera.world_to_camera, shot.camera.intrinsics) is told.moving
    assert bool(told.camera) is told.moving
    assert json.loads(json.dumps(asdict(told)))["bodies"]


def test_splits_and_engines_are_streams_of_their_own() -> None:
    assert build(3)[0] != build(3, "held-out")[0]
    told, shot = build(3)
    flat, other = build(3, engine="workbench")  # whose pictures show images, but no nodes
    assert bpy.context.scene.render.engine == "BLENDER_WORKBENCH"
    assert flat.kind == told.kind
    assert len(other.frame_numbers) == len(shot.frame_numbers)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_body_stands_on_the_ground_within_its_radius(maker, scene: bpy.types.Scene) -> None:
    for seed in range(3):
        bpy.ops.wm.read_factory_settings(use_empty=True)
        scene = bpy.context.scene
        body = maker(bodies.Take(np.random.default_rng(seed), FRAMES, 8.0, flat=bool(seed % 2)), 1.0)
        scene.frame_set(1)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        places = []
        for item in depsgraph.object_instances:
            if item.object.type in ("MESH", "CURVE"):
                mesh = item.object.to_mesh()
                places += [tuple(item.matrix_world @ vertex.co) for vertex in mesh.vertices]
                item.object.to_mesh_clear()
        reach = np.linalg.norm(places, axis=1).max()
        assert 0.5 * body.radius < reach < 1.6 * body.radius + 0.1, body.words
        assert np.array(places)[:, 2].min() > -body.height - 0.12, body.words
        assert body.words == body.words.strip()


def test_the_main_body_is_in_the_first_frame() -> None:
    inside = 0
    for seed in range(8):
        _, shot = build(seed)
        camera = shot.camera
        centers = []
        for number, track in enumerate(shot.meshes):
            if not track.name.startswith(("Floor", "Wall", "Backdrop")):
                place = shot.world_positions(number, 0).mean(axis=0)
                away = camera.world_to_camera[0] @ (*place, 1.0)
                centers.append(project(away[None, :3], camera.intrinsics[0], False)[0])
        inside += any((0 < x < SIZE[0]) and (0 < y < SIZE[1]) for x, y in centers)
    assert inside >= 7


def test_scenes_are_exported_with_renders_and_facts(tmp_path: Path, capfd) -> None:
    arguments = ["--count=2", "--first-seed=40", "--engine=cycles", "--width=24", "--height=16", "--length=2"]
    assert commands.main("trackshade", ["synthesise", f"--out={tmp_path / 'made'}", *arguments]) == 0
    for seed in (40, 41):
        shot = Shot.load(tmp_path / "made" / f"{seed:06d}.shot")
        assert (len(shot.frame_numbers), shot.size, shot.fps) == (2, (24, 16), 8.0)
        facts = json.loads((tmp_path / "made" / f"{seed:06d}.json").read_text())
        assert {"kind", "bodies", "surroundings", "camera", "moving", "color"} == set(facts)
        assert len(list((tmp_path / "made" / f"{seed:06d}.render").glob("*.png"))) == 2
    assert "scene of seed 41" in capfd.readouterr().err
