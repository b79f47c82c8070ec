# SPDX-License-Identifier: GPL-3.0-or-later
"""Clay renders: what they show, when they are made, and when they are found again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from trackshade.client.job_run import CapturedShot, run_to_end
from trackshade.client.progress import Progress
from trackshade.shot import Shot
from trackshade_addon.capture import capture, plan_scene
from trackshade_addon.capture.clay import clay_size, override_materials
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs import clay
from trackshade_addon.jobs.composer import capture_scene

REQUEST = ShotRequest(first_frame="none", light="clay")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def lit(scene: bpy.types.Scene) -> bpy.types.Scene:
    """A black wall, and before it a cube that moves, under a sun from the camera's side."""
    stage.add_camera(scene, (0, -6, 0))
    wall = stage.add(scene, "Wall", stage.grid(cells=1))
    wall.scale = (3, 1, 3)
    wall.data.materials.append(shader("Black", "ShaderNodeBsdfDiffuse", Color=(0, 0, 0, 1)))
    bpy.ops.mesh.primitive_cube_add(size=0.6, location=(0, -1, 0))
    bpy.context.object.name = "Cube"
    stage.key(bpy.context.object, "location", {1: (-1, -1, 0), 3: (1, -1, 0)})
    sun = stage.add(scene, "Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.data.energy, sun.rotation_euler = np.pi, (np.pi / 2, 0, 0)
    render = scene.render
    render.engine, render.resolution_x, render.resolution_y = "CYCLES", 61, 41
    scene.frame_end = 3
    return scene


def shader(name: str, kind: str, **inputs: object) -> bpy.types.Material:
    material = bpy.data.materials.new(name)
    if bpy.app.version < (6, 0):
        material.use_nodes = True
    tree = material.node_tree
    node = tree.nodes.new(kind)
    for key, value in inputs.items():
        node.inputs[key].default_value = value
    output = next(item for item in tree.nodes if item.type == "OUTPUT_MATERIAL")
    tree.links.new(node.outputs[0], output.inputs["Surface"])
    return material


def shoot(scene: bpy.types.Scene) -> Shot:
    frames, size = plan_scene(scene)
    return capture(scene, frame_map=frames, size_fit=size)


def follow(shot: Shot, request: ShotRequest = REQUEST, told: Callable[[Progress], None] = lambda _: None) -> clay.Clay:
    return run_to_end(clay.follow_light(shot, request, lambda call: call(), lambda: None), told)


def test_every_sample_is_rendered_in_gray_and_kept(lit: bpy.types.Scene) -> None:
    before = lit.frame_current, lit.render.engine, len(bpy.data.materials)
    told: list[Progress] = []
    made = run_to_end(capture_scene(REQUEST, lit), told.append)
    assert isinstance(made, CapturedShot)
    assert made.light is not None
    assert made.light.shape == (3, 21, 31, 3)
    assert made.light.dtype == np.float16
    assert (lit.frame_current, lit.render.engine, len(bpy.data.materials)) == before
    wall = np.asarray(made.light[0, 1:6, 1:6], np.float32)  # the sun's irradiance times the albedo, and some bounces
    assert 0.38 < np.median(wall) < 0.44
    shadow = np.asarray(made.light[0, 10], np.float32).min()
    assert shadow < 0.35
    assert [(item.step, item.steps) for item in told if item.state == "rendering"][-1] == (3, 3)
    assert "3 clay renders of 31×21" in made.shot.source["light"]["statement"]
    began = time.monotonic()
    told.clear()
    again = run_to_end(capture_scene(REQUEST, lit), told.append)
    assert again.light is not None
    assert np.array_equal(again.light, made.light)
    assert "rendering" not in {item.state for item in told}
    assert time.monotonic() >= began
    lit.objects["Sun"].data.color = (1, 0, 0)
    shot = shoot(lit)
    assert shot.source["light"]["digest"] != made.shot.source["light"]["digest"]


def test_light_that_does_not_change_is_not_rendered(lit: bpy.types.Scene) -> None:
    def reason(request: ShotRequest = REQUEST, engine: str = "CYCLES") -> str | None:
        return clay.reason_against(shoot(lit), request, engine)

    assert reason() is None
    assert reason(engine="BLENDER_WORKBENCH") is not None
    assert reason(ShotRequest(first_frame="painted.png"), "BLENDER_WORKBENCH") is None
    lit.objects["Cube"].animation_data_clear()
    assert "Nothing but the camera moves" in (reason() or "")
    assert reason(replace(REQUEST, has_layout=True)) is None  # a model follows them
    stage.key(lit.camera, "location", {1: (0, -6, 0), 3: (1, -6, 0)})
    assert reason() is not None
    sun = lit.objects["Sun"].data
    sun.driver_add("energy").driver.expression = "frame"
    assert reason() is None
    sun.driver_remove("energy")
    stage.key(lit.objects["Sun"], "rotation_euler", {1: (0, 0, 0), 3: (1, 0, 0)})
    assert reason() is None
    bpy.data.objects.remove(lit.objects["Sun"])
    stage.key(lit.objects["Wall"], "location", {1: (0, 0, 0), 3: (0, 1, 0)})
    assert reason() == "The scene has no lights."
    lit.objects["Wall"].data.materials[0] = shader("Lamp", "ShaderNodeEmission", Strength=2.0)
    assert reason() is None
    lit.frame_end = 1
    assert "single frame" in (reason() or "")


def test_the_digest_is_that_of_what_lights_the_scene(lit: bpy.types.Scene) -> None:
    def digest() -> str:
        return shoot(lit).source["light"]["digest"]

    found = {digest()}
    assert found == {digest()}
    lit.objects["Wall"].data.materials[0].node_tree.nodes[0].select = True
    lit.frame_set(2)
    assert found == {digest()}
    world = bpy.data.worlds.new("World")
    if bpy.app.version < (6, 0):
        world.use_nodes = True
    lit.world = world
    found.add(digest())
    next(node for node in world.node_tree.nodes if node.type == "BACKGROUND").inputs["Strength"].default_value = 0.3
    found.add(digest())
    lit.objects["Sun"].data.angle = 0.3
    found.add(digest())
    lit.objects["Cube"].visible_shadow = False
    found.add(digest())
    stage.key(lit.objects["Sun"].data, "energy", {1: 1.0, 3: 2.0})
    found.add(digest())
    assert len(found) == 6
    assert shoot(lit).source["light"]["complete"]
    lit.objects["Cube"].visible_camera = False  # it casts a shadow and is not in the shot
    assert not shoot(lit).source["light"]["complete"]


def test_materials_are_gray_and_what_is_kept_is_named(lit: bpy.types.Scene) -> None:
    wall = lit.objects["Wall"].data.materials
    glass = shader("Pane", "ShaderNodeBsdfGlass")
    lamp = shader("Lamp", "ShaderNodeEmission", Strength=2.0)
    wall.append(glass)
    wall.append(lamp)
    principled = bpy.data.materials.new("Gold")
    if bpy.app.version < (6, 0):
        principled.use_nodes = True
    node = next(item for item in principled.node_tree.nodes if item.type == "BSDF_PRINCIPLED")
    node.inputs["Metallic"].default_value, node.inputs["Alpha"].default_value = 1.0, 0.5
    image = principled.node_tree.nodes.new("ShaderNodeTexNoise")
    principled.node_tree.links.new(image.outputs["Color"], node.inputs["Base Color"])
    wall.append(principled)
    notes = override_materials(lit.view_layers[0], "opaque")
    assert notes == [
        "Clay renders keep the glow of materials that emit light: 'Lamp'.",
        "Clay renders let light through glass: 'Pane'.",
    ]
    assert list(node.inputs["Base Color"].default_value[:3]) == pytest.approx([0.4] * 3)
    assert not node.inputs["Base Color"].is_linked
    assert (node.inputs["Metallic"].default_value, node.inputs["Alpha"].default_value) == (0.0, 0.5)
    output = next(item for item in glass.node_tree.nodes if item.type == "OUTPUT_MATERIAL")
    assert output.inputs["Surface"].links[0].from_node.type == "MIX_SHADER"
    output = next(item for item in lamp.node_tree.nodes if item.type == "OUTPUT_MATERIAL")
    assert output.inputs["Surface"].links[0].from_node.type == "EMISSION"
    assert lit.objects["Cube"].data.materials[0] is not None


def test_cancelling_leaves_no_files_and_no_process(lit: bpy.types.Scene, home: Path) -> None:
    steps = clay.follow_light(shoot(lit), REQUEST, lambda call: call(), lambda: None)
    for progress in steps:
        if progress.state == "rendering":
            break
    steps.close()
    assert list((home / "cache" / "clay").iterdir()) == []


def test_the_oldest_renders_make_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = clay.cache_folder()
    for number in range(3):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "light.npy").write_bytes(bytes(100))
        import os

        os.utime(folder / str(number), (number, number))
    monkeypatch.setattr(clay, "LIMIT", 250)
    clay._remove_old(folder / "0")
    assert sorted(path.name for path in folder.iterdir()) == ["0", "2"]


def test_sizes_are_half_of_the_shots() -> None:
    assert clay_size((1920, 1080)) == (960, 540)
    assert clay_size((61, 1)) == (31, 1)
