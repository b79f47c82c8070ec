# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders of our own write none of the user's files, run none of their scripts, and keep their pictures in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.helpers import stage
from tests.helpers.whole_file import differences, whole_file
from trackshade.client.job_run import run_to_end
from trackshade_addon.capture.first_frame import read_picture, render_sample
from trackshade_addon.capture.request import ShotRequest
from trackshade_addon.jobs.composer import capture_scene
from trackshade_addon.jobs.render_process import render_elsewhere
from trackshade_addon.placement import save_copy

pytestmark = pytest.mark.once

GROUPS = bpy.app.version >= (5, 0)
EFFECTS = "compositor_effects" in bpy.types.Scene.bl_rna.properties
RENDERS = ("render_init", "render_pre", "render_post", "render_write", "render_stats", "render_complete")
WHAT = ShotRequest(first_frame="render", input_render=True, frames=(1.0, 17.0, 1.0))


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    yield
    bpy.ops.wm.read_factory_settings(use_empty=True)  # which takes away the handlers of a test


def file_output(tree: Any, fed: Any, folder: Path, name: str) -> None:
    node = tree.nodes.new("CompositorNodeOutputFile")
    if GROUPS:
        node.directory, node.file_name = str(folder), name
        node.file_output_items.new("RGBA", "Image")
        node.format.media_type, node.format.file_format = "IMAGE", "PNG"
    else:
        node.base_path = str(folder)
        node.file_slots[0].path = name
    tree.links.new(fed, node.inputs[0])


def output_group(name: str, folder: Path, inner: Any = None) -> Any:
    """A group that writes what comes in, darkens it by a half, and has another group do the same."""
    tree: Any = bpy.data.node_groups.new(name, "CompositorNodeTree")
    tree.interface.new_socket("Image", in_out="INPUT", socket_type="NodeSocketColor")
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    source, target = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    darker = tree.nodes.new("CompositorNodeExposure")
    darker.inputs["Exposure"].default_value = -1.0
    tree.links.new(source.outputs[0], darker.inputs[0])
    fed = darker.outputs[0]
    file_output(tree, fed, folder, name)
    if inner is not None:
        for _ in range(2):  # a group may be used several times
            node = tree.nodes.new("CompositorNodeGroup")
            node.node_tree = inner
            tree.links.new(darker.outputs[0], node.inputs[0])
            fed = node.outputs[0]
    tree.links.new(fed, target.inputs[0])
    return tree


def composite(scene: Any, group: Any, folder: Path, other: Any = None) -> None:
    """Has the scene composited by a group, with File Outputs beside it."""
    if GROUPS:
        tree: Any = bpy.data.node_groups.new(f"{scene.name} Compositing", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        if EFFECTS:
            scene.compositor_effects.new("Compositing").node_group = tree
        else:
            scene.compositing_node_group = tree
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
    output = tree.nodes.new("NodeGroupOutput" if GROUPS else "CompositorNodeComposite")
    layers = tree.nodes.new("CompositorNodeRLayers")
    layers.scene = scene
    node = tree.nodes.new("CompositorNodeGroup")
    node.node_tree = group
    tree.links.new(layers.outputs[0], node.inputs[0])
    tree.links.new(node.outputs[0], output.inputs[0])
    file_output(tree, layers.outputs[0], folder, "beauty")
    if other is not None:  # what another scene renders is written, too
        second = tree.nodes.new("CompositorNodeRLayers")
        second.scene = other
        file_output(tree, second.outputs[0], folder, "other")


def light(scene: Any, name: str = "Square") -> bpy.types.Object:
    """A glowing square before the scene's camera, quick to render."""
    render = scene.render
    render.engine, render.resolution_x, render.resolution_y = "CYCLES", 96, 64
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    scene.view_settings.view_transform = "Standard"
    render.image_settings.file_format = "PNG"
    square = stage.add(scene, name, stage.grid(name))
    material: Any = bpy.data.materials.new(name)
    material.use_nodes = True
    material.node_tree.nodes.clear()
    emission = material.node_tree.nodes.new("ShaderNodeEmission")
    surface = material.node_tree.nodes.new("ShaderNodeOutputMaterial")
    material.node_tree.links.new(emission.outputs[0], surface.inputs[0])
    square.data.materials.append(material)
    return square


def production(folder: Path, layers: int = 1) -> Any:
    """A scene as it is in production, saved: outputs in groups of a library, another scene, a cut, stamps, caches."""
    outputs = folder / "outputs"
    outputs.mkdir(parents=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    inner = output_group("Inner", outputs)
    bpy.data.libraries.write(str(folder / "library.blend"), {output_group("Linked", outputs, inner)})
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene: Any = bpy.context.scene
    with bpy.data.libraries.load(str(folder / "library.blend"), link=True) as (_, wanted):
        wanted.node_groups = ["Linked"]
    linked = bpy.data.node_groups["Linked"]
    assert linked.library is not None
    stage.add_camera(scene)
    light(scene)
    other: Any = bpy.data.scenes.new("Other")
    other.camera = scene.camera
    light(other, "Far")
    composite(other, output_group("Other", outputs), outputs)
    composite(scene, output_group("Local", outputs, linked), outputs, other)
    for number in range(1, layers):
        scene.view_layers.new(f"Layer {number}")
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_scene("Cut", other, channel=1, frame_start=1)
    render = scene.render
    render.use_sequencer = False
    render.use_stamp = render.use_render_cache = other.render.use_render_cache = True
    render.filepath = "//outputs/shot_"
    scene.frame_end = 17
    bpy.context.preferences.filepaths.render_cache_directory = str(outputs)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"), compress=False)
    return scene


def scripts(folder: Path) -> dict[str, list[Any]]:
    """Adds a script that writes a file to each moment of a render, and to saving; all lists of handlers."""
    for name in (*RENDERS, "save_pre", "save_post"):

        def write(*_: object, name: str = name) -> None:
            with (folder / f"{name}.txt").open("a", encoding="utf-8") as log:
                log.write("called\n")

        getattr(bpy.app.handlers, name).append(write)
    return {
        name: list(value)
        for name in dir(bpy.app.handlers)
        if isinstance(value := getattr(bpy.app.handlers, name), list)
    }


def disk(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def slots(scene: Any, path: Path) -> list[bytes | None]:
    """The picture of each render slot."""
    image: Any = bpy.data.images["Render Result"]
    active, found = image.render_slots.active_index, []
    for index in range(len(image.render_slots)):
        image.render_slots.active_index = index
        path.unlink(missing_ok=True)
        try:
            image.save_render(str(path), scene=scene)
        except RuntimeError:
            found.append(None)
        else:
            found.append(path.read_bytes())
    image.render_slots.active_index = active
    return found


@pytest.mark.parametrize("layers", [1, 2])
def test_a_capture_with_its_renders_writes_none_of_the_users_files(tmp_path: Path, layers: int) -> None:
    folder = tmp_path / "production"
    scene = production(folder, layers)
    handlers = scripts(folder)
    bpy.ops.render.render(write_still=True)
    written = set(disk(folder / "outputs"))
    assert any(name.startswith("Inner") for name in written), written
    assert any(name.endswith(".exr") and name.startswith("cached_RR") for name in written), written
    assert (folder / "render_complete.txt").is_file()
    pictures = slots(scene, tmp_path / "slot.png")
    files, values = disk(folder), whole_file()
    for obj in bpy.data.objects:
        if obj.name == "Square":
            obj.location.x += 0.5  # the first frame is another picture than the latest render

    recorded = run_to_end(capture_scene(WHAT, scene), lambda progress: None)
    save_copy(tmp_path / "copy.blend")

    assert disk(folder) == files
    bpy.data.objects["Square"].location.x -= 0.5
    assert differences(values, whole_file()) == []
    assert {name: list(getattr(bpy.app.handlers, name)) for name in handlers} == handlers
    after = slots(scene, tmp_path / "slot.png")
    assert after[:-1] == pictures[:-1]
    assert pictures[0] is not None
    # Where there is one layer the compositor's darkening is in the picture: by a half in each of three groups.
    assert recorded.first_frame is not None
    assert recorded.input_render is not None
    level = 255 if layers == 2 else 99  # sRGB of 1/8
    assert abs(int(recorded.first_frame.max()) - level) <= 1
    np.testing.assert_array_equal(recorded.input_render[0], recorded.first_frame)

    bpy.ops.render.render(write_still=True)  # the user's own goes on writing everything
    new = disk(folder)
    assert new.keys() == files.keys()
    names = {f"outputs/{name}" for name in written} | {"render_complete.txt", "render_write.txt"}
    assert all(new[name][1] > files[name][1] for name in names)


def test_an_export_by_command_line_writes_none_of_the_users_files(tmp_path: Path) -> None:
    folder = tmp_path / "production"
    production(folder)
    outputs = folder / "outputs"
    for name in ("Image0001.png", "beauty0001.png", "shot_0001.png"):
        (outputs / name).write_bytes(b"final")
    files = disk(folder)
    command = [sys.executable, "-m", "trackshade_addon", "export", str(folder / "shot.blend"), "--input-render"]
    command += ["--out", str(tmp_path / "shot.shot"), "--frames", "1-17"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "shot.png").is_file()
    assert disk(folder) == files


def test_the_first_frame_in_another_blender_writes_none_of_the_users_files(tmp_path: Path) -> None:
    folder = tmp_path / "production"
    scene = production(folder)
    scripts(folder)
    files, values = disk(folder), whole_file()
    shot = stage.shoot(scene, 1)
    made = render_elsewhere(shot, [0], lambda call: call())
    picture = run_to_end(made, lambda progress: None)
    assert abs(int(picture.max()) - 99) <= 1
    assert disk(folder) == files
    assert differences(values, whole_file()) == []


def test_a_muted_output_stays_muted(tmp_path: Path) -> None:
    scene = production(tmp_path / "production")
    group = bpy.data.node_groups["Local"]
    node = next(node for node in group.nodes if node.type == "OUTPUT_FILE")
    node.mute = True
    render_sample(stage.shoot(scene, 1), 0, scene)
    assert node.mute
    assert not any(node.mute for node in bpy.data.node_groups["Linked"].nodes)


def test_slots_are_reused_and_never_one_of_the_users(scene: Any, tmp_path: Path) -> None:
    stage.add_camera(scene)
    square = light(scene)
    shot = stage.shoot(scene, 2)
    bpy.ops.render.render()
    image: Any = bpy.data.images["Render Result"]
    count = len(image.render_slots)
    image.render_slots.active_index = count - 1  # what the user renders there stays, too
    square.location.x = 1.0
    bpy.ops.render.render()
    image.render_slots.active_index = 0
    before = slots(scene, tmp_path / "slot.png")
    for t in (0, 1, 0):
        render_sample(shot, t, scene)
    after = slots(scene, tmp_path / "slot.png")
    assert image.render_slots.active_index == 0
    assert (after[0], after[-1]) == (before[0], before[-1])
    assert sum(picture is not None for picture in after) == 3
    scene.view_settings.exposure = 1.0  # the same slot again, however it is shown
    render_sample(shot, 1, scene)
    assert [picture is not None for picture in slots(scene, tmp_path / "slot.png")] == [
        picture is not None for picture in after
    ]


def test_a_scene_that_is_not_the_open_one_is_rendered_at_its_own_frame(scene: Any, tmp_path: Path) -> None:
    other: Any = bpy.data.scenes.new("Other")
    stage.add_camera(other)
    square = light(other)
    stage.key(square, "location", {1: (-1.0, 0.0, 0.0), 2: (1.0, 0.0, 0.0)})
    other.view_layers[0].update()  # Blender 5.3 has no layer collections of a new scene before
    shot = stage.shoot(other, 2, view_layer=other.view_layers[0])
    left, right = (render_sample(shot, t, other)[..., 0] > 127 for t in (0, 1))
    columns = np.arange(96)
    assert columns[left.any(axis=0)].mean() < 47 < columns[right.any(axis=0)].mean()
    assert scene.frame_current == 1


def test_a_failed_render_puts_scripts_and_slots_back(scene: Any) -> None:
    class Broken(bpy.types.RenderEngine):
        bl_idname, bl_label = "TRACKSHADE_BROKEN", "Broken"

        def render(self, depsgraph: bpy.types.Depsgraph) -> None:
            self.report({"ERROR"}, "no light")

    stage.add_camera(scene)
    light(scene)
    shot = stage.shoot(scene, 1)
    bpy.ops.render.render()
    called: list[str] = []
    bpy.app.handlers.render_pre.append(lambda *_: called.append("pre"))
    image: Any = bpy.data.images["Render Result"]
    image.render_slots.active_index = 2
    bpy.utils.register_class(Broken)
    try:
        scene.render.engine = Broken.bl_idname
        with pytest.raises(Exception, match="no light"):
            render_sample(shot, 0, scene)
    finally:
        scene.render.engine = "CYCLES"
        bpy.utils.unregister_class(Broken)
    assert image.render_slots.active_index == 2
    bpy.ops.render.render()
    assert called == ["pre"]


def test_pictures_that_are_read_leave_nothing(scene: Any, tmp_path: Path) -> None:
    stage.add_camera(scene)
    light(scene)
    render_sample(stage.shoot(scene, 1), 0, scene)
    assert [image.name for image in bpy.data.images] == []
    scene.render.filepath = str(tmp_path / "still.png")
    bpy.ops.render.render(write_still=True)
    assert read_picture(tmp_path / "still.png").shape == (64, 96, 3)


def test_an_engine_that_another_blender_lacks_renders_here_and_that_is_told(scene: Any) -> None:
    """Add-ons may have registered it in this Blender only."""

    class Studio(bpy.types.RenderEngine):
        bl_idname, bl_label = "TRACKSHADE_STUDIO", "Studio"

        def render(self, depsgraph: bpy.types.Depsgraph) -> None:
            render = depsgraph.scene.render
            width, height = render.resolution_x, render.resolution_y
            result = self.begin_result(0, 0, width, height)
            result.layers[0].passes["Combined"].rect = [[0.5, 0.5, 0.5, 1.0]] * (width * height)
            self.end_result(result)

    stage.add_camera(scene)
    light(scene)
    bpy.utils.register_class(Studio)
    try:
        scene.render.engine = Studio.bl_idname
        captured = run_to_end(
            capture_scene(ShotRequest(frames=(1.0, 2.0, 1.0)), scene, in_process=False), lambda progress: None
        )
    finally:
        scene.render.engine = "CYCLES"
        bpy.utils.unregister_class(Studio)
    assert captured.first_frame is not None
    assert np.ptp(captured.first_frame) == 0
    assert captured.first_frame.any()
    (said,) = [text for text in captured.shot.warnings if "separate Blender process" in text]
    assert "could not be rendered in a separate Blender process: it lacks the render engine TRACKSHADE_STUDIO" in said
    assert said.endswith("This Blender has rendered it, and waited meanwhile.")
