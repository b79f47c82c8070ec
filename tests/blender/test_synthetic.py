# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes from descriptions: Blender builds what the file says, and renders all that a clip needs."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from trackshade.core.errors import ShotError
from trackshade.core.fitting import fit_frames, fit_size
from trackshade.shot import Shot
from trackshade_addon import commands
from trackshade_addon.capture import capture
from trackshade_addon.synthetic import build_scene
from trackshade_addon.synthetic.materials import build_material
from trackshade_lab.scenes import Scene
from trackshade_lab.scenes.blender import sample_description, write_description

pytestmark = pytest.mark.once

FRAMES, SIZE = 5, (48, 32)
PATTERNS = ("plain", "striped", "checked", "mottled", "two-tone", "spotted", "shaded", "tiled", "marbled", "ringed")


def describe(path: Path, seed: int, engine: str = "cycles", bevels: bool = False) -> Scene:
    scene, look = sample_description(seed, "train", SIZE, FRAMES, engine)
    if not bevels:
        look["bevels"] = [0.0] * len(scene.parts)
    write_description(path, scene, look, SIZE)
    return scene


@pytest.mark.parametrize("seed", range(8))
def test_the_scene_that_is_built_is_the_one_described(seed: int, tmp_path: Path) -> None:
    """Blender's evaluated vertices and camera are those of the description, in every frame."""
    described = describe(tmp_path / "a.npz", seed)
    build_scene(tmp_path / "a.npz")
    frames, size = fit_frames(1, FRAMES, 1, 8, (FRAMES,)), fit_size(SIZE, (1.0, 1.0), (SIZE,))
    shot = capture(bpy.context.scene, frame_map=frames, size_fit=size)
    np.testing.assert_allclose(shot.camera.world_to_camera, described.world_to_camera, atol=1e-4)
    np.testing.assert_allclose(shot.camera.intrinsics, described.intrinsics, atol=1e-3)
    first = np.cumsum([0, *(len(part.rest) for part in described.parts)])
    found = {track.name: number for number, track in enumerate(shot.meshes)}
    assert len(found) == len(described.parts)
    for number, (part, body) in enumerate(zip(described.parts, described.body, strict=True)):
        name = f"Stage {number}" if body == 0 else f"Body {body} part {number}"
        assert shot.meshes[found[name]].pass_index == body
        _, kept = np.unique(np.round(part.rest, 4), axis=0, return_index=True)
        for t in range(FRAMES):
            there = described.world[t, first[number] : first[number + 1]][kept]
            np.testing.assert_allclose(shot.world_positions(found[name], t), there, atol=2e-4)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("printed", [False, True])
def test_materials(pattern: str, printed: bool, scene: bpy.types.Scene) -> None:
    """A pattern is an image or nodes; a plain material is neither."""
    facts = {"first": [1, 0, 0], "second": [0, 0, 1], "pattern": pattern, "scale": 2.0, "direction": [0, 0.6, 0.8],
             "shift": 0.3, "roughness": 0.5, "metallic": 0.0}  # fmt: skip
    image = np.full((8, 8, 3), 128, np.uint8) if printed else None
    nodes = build_material(facts, image).node_tree.nodes
    kinds = {node.type for node in nodes}
    assert ("TEX_IMAGE" in kinds) == printed
    assert ("MAPPING" in kinds) == (not printed and pattern != "plain")
    if printed:
        assert nodes.active.image.size[:] == (8, 8)


def test_scenes_are_rendered_and_captured(tmp_path: Path, capfd) -> None:
    for seed, engine in ((40, "cycles"), (41, "workbench")):
        describe(tmp_path / f"{seed:06d}.npz", seed, engine, bevels=True)
    assert commands.main("trackshade", ["synthesise", f"--out={tmp_path / 'made'}", "--", str(tmp_path)]) == 0
    assert "scene 000041" in capfd.readouterr().err
    assert bpy.context.scene.render.engine == "BLENDER_WORKBENCH"
    for seed in (40, 41):
        shot = Shot.load(tmp_path / "made" / f"{seed:06d}.shot")
        assert (len(shot.frame_numbers), shot.size, shot.fps) == (FRAMES, SIZE, 8.0)
        assert len(list((tmp_path / "made" / f"{seed:06d}.render").glob("*.png"))) == FRAMES


def test_what_is_no_description_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ShotError, match="not a scene description"):
        build_scene(path)
    np.savez(path, header=np.array([{"an": "object"}], object))
    with pytest.raises(ShotError, match="not a scene description"):
        build_scene(path)
