# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks before a job: their rules, the facts of real scenes, and the buttons that mend."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.stage import add, add_camera, grid, key
from trackshade.config import registry
from trackshade.core.images import write_png
from trackshade_addon.capture.completeness import Gap
from trackshade_addon.capture.stepping import finish
from trackshade_addon.checks import facts as facts_module
from trackshade_addon.checks.facts import Facts
from trackshade_addon.checks.findings import ERROR, MEMORY_FRACTION, NOTE, WARNING, findings
from trackshade_addon.checks.watch import watcher

FINE = Facts(frames=(1.0,), first=True, camera="Camera", camera_kind="PERSP", plan="All.", objects=2, vertices=8,
             sent=1000, seen=2, seen_first=2, memory_free=1 << 33, model="Mini", model_memory=1 << 30)  # fmt: skip


def codes(facts: Facts) -> list[tuple[str, str]]:
    return [(item.code, item.level) for item in findings(facts)]


def test_nothing_is_said_of_what_is_fine() -> None:
    assert findings(FINE) == ()


@pytest.mark.parametrize(
    ("change", "code", "level"),
    [
        ({"camera": None, "camera_kind": ""}, "no-camera", ERROR),
        ({"camera_kind": "PANO"}, "camera-kind", ERROR),
        ({"plan_error": "Too short."}, "range", ERROR),
        ({"rule": "resample"}, "range", NOTE),
        ({"rule": "choose"}, "range", WARNING),
        ({"objects": 0, "seen": 0}, "nothing-visible", ERROR),
        ({"objects": 0, "seen": 0, "unrendered": ("A",)}, "nothing-visible", ERROR),
        ({"seen": 0, "seen_first": 0}, "off-screen", WARNING),
        ({"seen": 0, "seen_first": 0, "frames": (1.0, 5.0)}, "off-screen", ERROR),
        ({"seen_first": 0, "frames": (1.0, 5.0)}, "no-tracks", WARNING),
        ({"seen": 1, "unseen": ("A",)}, "off-screen", NOTE),
        ({"changing": ("A",)}, "topology", WARNING),
        ({"left_out": ("A",)}, "left-out", WARNING),
        ({"displaced": ("A",)}, "displaced", WARNING),
        ({"diced": ("A",)}, "diced", NOTE),
        ({"unclear": ("A",)}, "unclear", WARNING),
        ({"glass": ("A",)}, "glass", NOTE),
        ({"glass": ("A",), "through": True}, "glass", NOTE),
        ({"sent": 9 << 30}, "memory", ERROR),
        ({"sent": 7 << 30}, "memory", WARNING),
        ({"device_free": 1 << 29}, "device-memory", WARNING),
        ({"model_here": False}, "model-absent", ERROR),
        ({"saved": False, "relative": True}, "unsaved", NOTE),
        ({"picture": "/no.png", "picture_error": "It is no picture."}, "picture", ERROR),
        ({"color": ("AgX changes it.",)}, "color", WARNING),
        ({"gaps": (Gap("image", "a.png"),)}, "incomplete", WARNING),
        ({"gaps": tuple(Gap("library", f"{n}.blend") for n in range(9))}, "incomplete", WARNING),
        ({"gaps": (Gap("driver", "location[0] of 'A'"),)}, "incomplete", WARNING),
        ({"gaps": (Gap("script", "rig.py"),)}, "incomplete", WARNING),
    ],
)
def test_each_finding_has_its_level_and_its_button(change: dict, code: str, level: str) -> None:
    facts = replace(FINE, **change)
    assert (code, level) in codes(facts)
    found = next(item for item in findings(facts) if item.code == code)
    assert found.button
    assert found.button.operator
    assert found.button.label
    assert "{" not in found.text.format(**found.values)


def test_the_buttons_for_what_is_missing_are_blender_s_own() -> None:
    gaps = (Gap("image", "a.png"), Gap("driver", "location[0] of 'A'"), Gap("engine", "STUDIO"))
    found = {item.values["names"]: item for item in findings(replace(FINE, gaps=gaps))}
    assert found["STUDIO"].button is None
    for name in ("a.png", "location[0] of 'A'"):
        button = found[name].button
        assert button is not None
        module, operator = button.operator.split(".")
        known = getattr(getattr(bpy.ops, module), operator).get_rna_type().properties
        assert all(argument in known for argument in button.arguments)


@given(st.integers(0, 1 << 40), st.none() | st.integers(1, 1 << 40), st.none() | st.integers(0, 1 << 40))
def test_memory_is_spoken_of_only_where_it_is_short(sent: int, free: int | None, device: int | None) -> None:
    said = {code for code, _ in codes(replace(FINE, sent=sent, memory_free=free, device_free=device))}
    assert ("memory" in said) == (free is not None and sent > MEMORY_FRACTION * free)
    assert ("device-memory" in said) == (device is not None and device < FINE.model_memory)


def test_what_stops_the_job_comes_first() -> None:
    found = findings(replace(FINE, camera=None, camera_kind="", rule="resample", color=("x",)))
    assert [item.level for item in found] == [ERROR, WARNING, NOTE]


# on real scenes


@pytest.fixture
def stage(scene: bpy.types.Scene, registered: None, monkeypatch: pytest.MonkeyPatch) -> bpy.types.Scene:
    """A grid before a camera, over as many frames as the model takes; there is time enough to look at it."""
    monkeypatch.setattr(facts_module, "TIME_LIMIT", 60.0)
    add_camera(scene)
    add(scene, "Grid", grid())
    scene.view_settings.view_transform = "Standard"
    scene.frame_end = registry.spec("mini").allowed_frame_counts[0]
    return scene


def looked(scene: bpy.types.Scene) -> Facts:
    return watcher.update(scene, scene.view_layers[0]).facts


def said(scene: bpy.types.Scene) -> set[str]:
    return {item.code for item in findings(looked(scene))} - {"unsaved"}


def state(scene: bpy.types.Scene) -> tuple:
    return (
        scene.frame_current,
        scene.camera,
        [
            (obj.name, tuple(obj.location), obj.hide_render, obj.hide_viewport, obj.select_get())
            for obj in scene.objects
        ],
        len(bpy.data.objects),
        scene.view_settings.view_transform,
    )


def test_a_plain_scene_is_fine_and_counted(stage: bpy.types.Scene) -> None:
    facts = looked(stage)
    assert (facts.objects, facts.vertices, facts.seen, facts.first) == (1, 25, 1, True)
    assert 25 * 12 < facts.sent < 10_000
    assert said(stage) == set()


def test_a_missing_camera_is_added_by_the_button_and_gone_after_undo(stage: bpy.types.Scene) -> None:
    bpy.data.objects.remove(stage.camera)
    assert said(stage) == {"no-camera"}
    assert bpy.ops.trackshade.add_camera() == {"FINISHED"}
    assert said(stage) == set()


def test_what_the_scene_lacks_is_told_and_not_looked_for_all_the_time(stage: bpy.types.Scene, tmp_path: Path) -> None:
    grid = stage.objects["Grid"]
    grid.modifiers.new("Displace", "DISPLACE").texture = bpy.data.textures.new("Bumps", "IMAGE")
    assert said(stage) == set()
    image = bpy.data.images.new("bumps", 4, 4)
    image.source, image.filepath = "FILE", str(tmp_path / "bumps.png")
    grid.modifiers["Displace"].texture.image = image
    assert said(stage) == {"incomplete"}
    write_png(tmp_path / "bumps.png", np.zeros((4, 4, 3), np.uint8))
    assert said(stage) == {"incomplete"}  # the disk is not asked again at once
    assert "incomplete" not in {item.code for item in finish(watcher.check_steps(stage, stage.view_layers[0])).findings}
    assert said(stage) == set()


def test_what_is_in_edit_mode_is_counted(stage: bpy.types.Scene) -> None:
    stage.view_layers[0].objects.active = stage.objects["Grid"]
    bpy.ops.object.mode_set(mode="EDIT")
    assert (looked(stage).objects, looked(stage).vertices) == (1, 25)
    assert said(stage) == set()


def test_what_renders_leave_out_is_shown_by_the_button(stage: bpy.types.Scene) -> None:
    stage.objects["Grid"].hide_render = True
    assert said(stage) == {"nothing-visible"}
    assert looked(stage).unrendered == ("Grid",)
    assert bpy.ops.trackshade.show_in_renders() == {"FINISHED"}
    assert said(stage) == set()


def test_what_is_out_of_the_picture_is_named(stage: bpy.types.Scene) -> None:
    add(stage, "Far", grid("Far")).location = (500, 0, 0)
    assert said(stage) == {"off-screen"}
    assert looked(stage).unseen == ("Far",)
    assert bpy.ops.trackshade.select(names="Far") == {"FINISHED"}
    assert [obj.name for obj in stage.objects if obj.select_get()] == ["Far"]
    stage.objects["Grid"].location = (500, 0, 0)
    assert looked(stage).seen == 0


def test_the_check_steps_through_the_shot_and_leaves_the_scene_alone(stage: bpy.types.Scene) -> None:
    late = stage.objects["Grid"]
    key(late, "location", {1: (500, 0, 0), stage.frame_end: (0, 0, 0)})
    stage.frame_set(4)
    before = state(stage)
    facts = finish(watcher.check_steps(stage, stage.view_layers[0])).facts
    assert facts.frames == (1.0, 1.0 + (stage.frame_end - 1) // 2, float(stage.frame_end))
    assert (facts.seen, facts.seen_first) == (1, 0)
    assert "no-tracks" in {item.code for item in findings(facts)}
    assert state(stage) == before
    assert bpy.ops.trackshade.check() == {"FINISHED"}


def test_vertices_that_change_are_found(stage: bpy.types.Scene) -> None:
    stage.objects["Grid"].modifiers.new("Remesh", "REMESH")
    assert "topology" in {item.code for item in finish(watcher.check_steps(stage, stage.view_layers[0])).findings}


def material(scene: bpy.types.Scene, name: str, kind: str, socket: str = "Surface") -> bpy.types.Material:
    """A material of one shader node, on the object `name`."""
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    made.node_tree.nodes.clear()
    out = made.node_tree.nodes.new("ShaderNodeOutputMaterial")
    made.node_tree.links.new(made.node_tree.nodes.new(kind).outputs[0], out.inputs[socket])
    scene.objects[name].data.materials.append(made)
    return made


def test_what_the_render_shows_through_does_not_count(stage: bpy.types.Scene) -> None:
    add(stage, "Fog", grid("Fog"))
    assert looked(stage).objects == 2
    material(stage, "Fog", "ShaderNodeVolumeScatter", "Volume")
    assert looked(stage).objects == 1
    bpy.data.objects.remove(stage.objects["Grid"])
    assert said(stage) == {"nothing-visible"}


def test_glass_is_named_and_its_button_chooses(stage: bpy.types.Scene) -> None:
    add(stage, "Pane", grid("Pane"))
    material(stage, "Pane", "ShaderNodeBsdfGlass")
    assert looked(stage).glass == ("Pane",)
    assert (looked(stage).objects, looked(stage).through) == (2, False)
    assert bpy.ops.trackshade.toggle_glass() == {"FINISHED"}
    assert stage.trackshade.shot_request("").glass == "through"
    assert (looked(stage).objects, looked(stage).through) == (1, True)
    assert said(stage) == {"glass"}
    assert bpy.ops.trackshade.toggle_glass() == {"FINISHED"}
    assert looked(stage).objects == 2


def test_what_differs_from_the_render_is_named(stage: bpy.types.Scene) -> None:
    stage.render.engine = "CYCLES"
    moved = material(stage, "Grid", "ShaderNodeBsdfDiffuse")
    moved.displacement_method = "DISPLACEMENT"
    out = next(node for node in moved.node_tree.nodes if node.type == "OUTPUT_MATERIAL")
    moved.node_tree.links.new(moved.node_tree.nodes.new("ShaderNodeDisplacement").outputs[0], out.inputs[2])
    moved.node_tree.nodes["Displacement"].inputs["Height"].default_value = 1
    add(stage, "Cloudy", grid("Cloudy"))
    cloudy = material(stage, "Cloudy", "ShaderNodeBsdfPrincipled")
    shader = next(node for node in cloudy.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    cloudy.node_tree.links.new(cloudy.node_tree.nodes.new("ShaderNodeTexNoise").outputs[0], shader.inputs["Alpha"])
    add(stage, "Fog", bpy.data.volumes.new("Fog"))
    add(stage, "Hair", bpy.data.hair_curves.new("Hair"))
    facts = looked(stage)
    assert (facts.displaced, facts.unclear, facts.left_out) == (("Grid",), ("Cloudy",), ("Fog", "Hair"))
    assert said(stage) == {"displaced", "unclear", "left-out"}
    stage.trackshade.hair = "strands"
    assert looked(stage).left_out == ("Fog",)
    facts = finish(watcher.check_steps(stage, stage.view_layers[0])).facts
    assert (facts.displaced, facts.unclear, facts.left_out) == (("Grid",), ("Cloudy",), ("Fog",))


def test_what_a_script_has_removed_is_not_looked_at(stage: bpy.types.Scene) -> None:
    assert looked(stage).objects == 1
    for obj in [obj for obj in stage.objects if obj.type == "MESH"]:
        bpy.data.objects.remove(obj)  # Blender evaluates the scene again only when the script is over
    assert looked(stage).objects == 0


def test_the_range_is_set_to_what_the_model_takes(stage: bpy.types.Scene) -> None:
    stage.frame_start, stage.frame_end, stage.frame_step = 5, 200, 2
    assert said(stage) == set()  # all frames follow the first one
    stage.trackshade.key_pictures = "video"
    assert said(stage) == {"range"}
    assert bpy.ops.trackshade.fit_range() == {"FINISHED"}
    assert said(stage) == set()
    own = stage.trackshade
    assert (own.first, own.step) == (5, 2)
    assert (stage.frame_start, stage.frame_end) == (5, 200)


def test_the_plan_says_what_will_be_made(stage: bpy.types.Scene) -> None:
    own = stage.trackshade
    stage.frame_end, stage.render.resolution_x, stage.render.resolution_y = 100, 1920, 1080
    assert looked(stage).plan == (
        "100 images of 1920 × 1080 at 24 fps. All follow the first frame. No model is used, and the prompt is not read."
    )
    own.first_frame = "none"
    assert "paints the first frame from the prompt" in looked(stage).plan
    bpy.ops.trackshade.key_add(source="file", filepath="/tmp/painted.png")
    own.keys[0].frame = 100
    assert "All follow the picture of frame 100." in looked(stage).plan
    own.first_frame = "render"
    assert "All follow 2 pictures." in looked(stage).plan
    own.keys[0].frame = 101
    assert "no frame 101" in looked(stage).plan_error
    own.keys.clear()
    own.first_frame = "none"
    own.key_pictures = "video"
    assert "paints 17 frames of 144 × 96 and reads the prompt" in looked(stage).plan
    assert "17 frames, spread evenly over frames 1 to 100" in looked(stage).model_frames
    own.output_size = "model"
    assert looked(stage).plan.startswith("17 images of 144 × 96 at 3.879 fps.")
    own.frame_rule, stage.frame_end = "choose", 10
    assert "has 10 frames" in looked(stage).plan_error


@pytest.mark.parametrize("kind", ["PERSP", "PANO"])
def test_a_camera_without_a_picture_plane_is_mended(stage: bpy.types.Scene, kind: str) -> None:
    stage.camera.data.type = kind
    assert said(stage) == (set() if kind == "PERSP" else {"camera-kind"})
    assert bpy.ops.trackshade.use_perspective() == {"FINISHED"}
    assert said(stage) == set()


def test_color_management_is_mended_only_by_the_button(stage: bpy.types.Scene) -> None:
    stage.view_settings.gamma = 1.5
    assert said(stage) == {"color"}
    assert math.isclose(stage.view_settings.gamma, 1.5)
    assert bpy.ops.trackshade.use_standard_colours() == {"FINISHED"}
    assert said(stage) == set()


STUDIO = """ocio_profile_version: 2
roles:
  {default: linear, scene_linear: linear, data: raw, color_picking: linear, texture_paint: linear, matte_paint: linear,
   default_byte: linear, default_float: linear, default_sequencer: linear, aces_interchange: linear,
   cie_xyz_d65_interchange: linear}
displays:
  Projector:
    - !<View> {name: Film, colorspace: linear}
active_displays: [Projector]
active_views: [Film]
colorspaces:
  - !<ColorSpace> {name: linear, family: linear, bitdepth: 32f, isdata: false}
  - !<ColorSpace> {name: raw, family: raw, bitdepth: 32f, isdata: true}
"""
IN_STUDIO = """
import bpy, trackshade_addon
trackshade_addon.register()
from trackshade_addon.checks.watch import watcher
scene = bpy.context.scene
print("view", scene.view_settings.view_transform)
print("found", [item.code for item in watcher.update(scene, scene.view_layers[0]).findings])
try:
    bpy.ops.trackshade.use_standard_colours()
except RuntimeError as error:
    print("said", error)
import os, sys
sys.stdout.flush()
os._exit(0)
"""


def test_a_studios_color_configuration_without_standard_colors_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.ocio").write_text(STUDIO)
    done = subprocess.run(
        [sys.executable, "-c", IN_STUDIO],
        capture_output=True, text=True, env={**os.environ, "OCIO": str(tmp_path / "config.ocio")},
    )  # fmt: skip
    assert "view Film" in done.stdout, done.stdout + done.stderr
    assert "'color'" in done.stdout
    assert "said Error: Blender's color configuration has no standard colors" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_missing_image_is_told_before(stage: bpy.types.Scene, tmp_path: Path) -> None:
    own = stage.trackshade
    own.first_frame, own.picture = "file", str(tmp_path / "none.png")
    assert said(stage) == {"picture"}
    assert bpy.ops.trackshade.use_render() == {"FINISHED"}
    assert said(stage) == set()


def test_a_crowd_is_counted_for_a_moment_only(stage: bpy.types.Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_module, "TIME_LIMIT", 0.0)
    facts = looked(stage)
    assert not facts.whole
    assert said(stage) == set()  # nobody looked at all of them
