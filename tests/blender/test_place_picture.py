# SPDX-License-Identifier: GPL-3.0-or-later
"""A result over the picture that a scene renders: in the compositor, in the sequencer, and out of both again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from tests.helpers.place_results import SIZE, make_result, new_scene, numbered, pictures, render
from trackshade.core.fitting import fit_size
from trackshade_addon.capture.render_guard import compositor_trees, placed_nodes
from trackshade_addon.placement import place, remove
from trackshade_addon.placement.compositor import remove_from_compositor
from trackshade_addon.placement.sequencer import remove_strips, strips_of

GROUPS = bpy.app.version >= (5, 0)
EFFECTS = "compositor_effects" in bpy.types.Scene.bl_rna.properties


def own_tree(scene: bpy.types.Scene) -> Any:
    """A user's compositor: render layers, inverted, to the output."""
    if GROUPS:
        tree: Any = bpy.data.node_groups.new("Mine", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        if EFFECTS:
            scene.compositor_effects.new("Mine").node_group = tree
        else:
            scene.compositing_node_group = tree
        output = tree.nodes.new("NodeGroupOutput")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("CompositorNodeComposite")
    layers, inverted = tree.nodes.new("CompositorNodeRLayers"), tree.nodes.new("CompositorNodeInvert")
    tree.links.new(layers.outputs["Image"], next(item for item in inverted.inputs if item.type == "RGBA"))
    tree.links.new(inverted.outputs[0], output.inputs[0])
    return tree


def wiring(tree: Any) -> set[tuple[str, str, str, str]]:
    return {(k.from_node.name, k.from_socket.identifier, k.to_node.name, k.to_socket.identifier) for k in tree.links}


@pytest.mark.parametrize("view", ["Standard", "AgX"])
def test_the_compositor_shows_the_result_s_own_pixels_in_its_frames(tmp_path: Path, view: str) -> None:
    scene = new_scene()
    scene.view_settings.view_transform = view
    scene.view_settings.exposure = 1.0
    shown = pictures(3, vivid=False)
    placed = place(make_result(tmp_path / "r", shown, [2, 3, 4]), scene, mode="compositor")
    assert placed.frames == (2, 4)
    for frame in (2, 4):
        assert np.abs(render(scene, frame, tmp_path / "o.png") - shown[frame - 2]).max() <= 2
    before = render(scene, 1, tmp_path / "o.png")
    assert np.array_equal(render(scene, 5, tmp_path / "o.png"), before)  # the scene, before and after
    assert np.abs(before - shown[0]).mean() > 5


def test_a_user_s_nodes_are_only_added_to(tmp_path: Path) -> None:
    scene = new_scene()
    tree = own_tree(scene)
    before, nodes = wiring(tree), {node.name for node in tree.nodes}
    plain = render(scene, 2, tmp_path / "o.png")
    one = place(make_result(tmp_path / "a", numbered(3), [1, 2, 3]), scene, mode="compositor")
    two = place(make_result(tmp_path / "b", pictures(3), [1, 2, 3]), scene, mode="compositor")
    assert len(placed_nodes(scene)) == 2
    assert np.abs(render(scene, 2, tmp_path / "o.png") - pictures(3)[1]).max() <= 2  # the newer one is in front
    remove(two)
    assert np.abs(render(scene, 2, tmp_path / "o.png") - 20).max() <= 2
    # The artist goes on working: a node of theirs between ours and the output stays.
    output = next(link.to_node for link in placed_nodes(scene)[0].outputs[0].links)
    ours = placed_nodes(scene)[0].id_data
    gamma = ours.nodes.new("CompositorNodePixelate")
    ours.links.new(placed_nodes(scene)[0].outputs[0], gamma.inputs[0])
    ours.links.new(gamma.outputs[0], output.inputs[0])
    remove(one)
    fed = gamma.inputs[0].links[0].from_node
    if EFFECTS:  # theirs stays as it was, and what they added to ours stays, too
        assert fed.bl_idname == "NodeGroupInput"
        assert [item.name for item in scene.compositor_effects] == ["Mine", "Trackshade"]
        scene.compositor_effects.remove(scene.compositor_effects[1])
    else:
        assert {node.name for node in tree.nodes} == nodes | {gamma.name}
        assert fed.bl_idname == "CompositorNodeInvert"
        tree.links.new(fed.outputs[0], output.inputs[0])
        tree.nodes.remove(gamma)
    assert wiring(tree) == before
    assert np.array_equal(render(scene, 2, tmp_path / "o.png"), plain)
    assert not [image for image in bpy.data.images if image.name.startswith(("a", "b"))]


@pytest.mark.skipif(not GROUPS, reason="before 5.0 each scene has nodes of its own")
def test_scenes_that_share_nodes_are_named(tmp_path: Path) -> None:
    scene = new_scene()
    tree = own_tree(scene)
    other = bpy.data.scenes.new("Second Unit")
    if EFFECTS:
        other.compositor_effects.new("Mine").node_group = tree
    else:
        other.compositing_node_group = tree
    placed = place(make_result(tmp_path / "r", numbered(1), [1]), scene, mode="compositor")
    # As an effect of its own the result stays with its scene.
    assert any("'Second Unit'" in words for words in placed.warnings) != EFFECTS


def test_a_scene_without_a_compositor_gets_one_and_loses_it_again(tmp_path: Path) -> None:
    scene = new_scene()
    switched = None if GROUPS else scene.use_nodes
    place(make_result(tmp_path / "r", numbered(2), [1, 2]), scene, mode="compositor")
    assert np.abs(render(scene, 1, tmp_path / "o.png") - 10).max() <= 2
    assert remove_from_compositor(scene) == 1
    if GROUPS:
        assert compositor_trees(scene) == []
        assert not [group for group in bpy.data.node_groups if group.bl_idname == "CompositorNodeTree"]
    else:
        assert scene.use_nodes == switched


def test_it_survives_the_file_and_is_taken_out_of_the_opened_one(tmp_path: Path) -> None:
    scene = new_scene()
    tree = own_tree(scene)
    before = wiring(tree)
    place(make_result(tmp_path / "r", numbered(3), [1, 2, 3]), scene, mode="compositor")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "s.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "s.blend"))
    scene = bpy.context.scene
    assert np.abs(render(scene, 3, tmp_path / "o.png") - 30).max() <= 2
    assert remove_from_compositor(scene) == 1
    assert [wiring(tree) for tree in compositor_trees(scene)] == [before]


@pytest.mark.parametrize("mode", ["pad", "crop"])
def test_a_picture_of_another_shape_lies_as_it_was_fitted(tmp_path: Path, mode: str) -> None:
    """As the plate does: the middle of the picture is the middle of the frame, and half of the frame has its size."""
    scene = new_scene((72, 32))
    frames = np.zeros((1, 32, 48, 3), np.uint8)
    frames[:, :, 24:] = 200
    folder = make_result(tmp_path / "r", frames, [1], fit=fit_size((72, 32), (1.0, 1.0), [SIZE], mode))
    scene.world = bpy.data.worlds.new("Black")
    scene.world.color = (0, 0, 0)
    for percentage in (100, 50):
        scene.render.resolution_percentage = percentage
        place(folder, scene, mode="both")
        plate = render(scene, 1, tmp_path / "plate.png")
        place(folder, scene, mode="compositor")
        composited = render(scene, 1, tmp_path / "composited.png")
        assert np.mean(np.abs(plate - composited).max(axis=-1) > 12) < 0.07  # but for how its rims are filtered
        assert composited[5, composited.shape[1] // 2 + 3, 0] > 190
        assert composited[5, composited.shape[1] // 2 - 3, 0] < 10


@pytest.mark.parametrize("way", ["compositor", "plate"])
def test_a_first_frame_is_rendered_without_what_was_placed(tmp_path: Path, way: str) -> None:
    from tests.helpers.stage import shoot
    from trackshade_addon.capture.first_frame import render_sample

    scene = new_scene()
    bpy.ops.mesh.primitive_cube_add(size=1)
    scene.camera.location, scene.camera.rotation_euler = (0, -5, 0), (np.pi / 2, 0, 0)
    made = shoot(scene, 1)
    plain = render_sample(made, 0, scene)
    place(make_result(tmp_path / "r", numbered(1), [1]), scene, mode=way)
    assert np.array_equal(render_sample(made, 0, scene), plain)
    for plane in [obj for obj in scene.objects if "trackshade_plate" in obj]:  # keyed, as older versions placed it
        for path in ("hide_render", "hide_viewport"):
            plane.driver_remove(path)
            setattr(plane, path, False)
            plane.keyframe_insert(path, frame=1)
        assert np.array_equal(render_sample(made, 0, scene), plain)


@pytest.mark.parametrize("view", ["Standard", "AgX"])
def test_the_sequencer_plays_the_result_from_its_frame_on(tmp_path: Path, view: str) -> None:
    scene = new_scene()
    scene.view_settings.view_transform = view
    shown = pictures(3, vivid=False)
    folder = make_result(tmp_path / "r", shown, [2, 4, 6])  # every other frame was shaded
    placed = place(folder, scene, mode="sequencer")
    (strip,) = strips_of(scene)
    assert (strip.frame_final_start, strip.frame_final_end) == (2, 7)
    assert placed.frames == (2, 6)
    for frame, sample in ((2, 0), (3, 0), (4, 1), (6, 2)):
        assert np.abs(render(scene, frame, tmp_path / "o.png") - shown[sample]).max() <= 4, frame
    remove(placed)
    assert not len(strips_of(scene))


def test_a_strip_lies_above_the_user_s_and_leaves_them(tmp_path: Path) -> None:
    scene = new_scene()
    scene.sequence_editor_create()
    strips_of(scene).new_effect("Mine", "COLOR", 3, 1, **_end(20))
    place(make_result(tmp_path / "r", numbered(2), [5, 6]), scene, mode="sequencer")
    mine, own = sorted(strips_of(scene), key=lambda strip: strip.channel)
    assert (mine.name, own.channel) == ("Mine", 4)
    assert np.abs(render(scene, 6, tmp_path / "o.png") - 20).max() <= 2
    assert remove_strips(scene) == 1
    assert [strip.name for strip in strips_of(scene)] == ["Mine"]


def test_an_image_shows_the_newest_result_until_it_is_removed(tmp_path: Path) -> None:
    scene, frames = new_scene(), pictures(2, vivid=False)
    first = place(make_result(tmp_path / "one", frames[:1], [1]), scene, mode="image")
    image = bpy.data.images["Trackshade Result"]
    material = bpy.data.materials.new("Mine")
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    place(make_result(tmp_path / "two", frames[1:], [1]), scene, mode="plate")  # updates it, too
    assert node.image == image
    assert Path(bpy.path.abspath(image.filepath)).parent.parent == tmp_path / "two"
    remove(first)
    assert image.name in bpy.data.images
    second = place(tmp_path / "two", scene, mode="image")  # again: the plate goes, the image stays
    assert not [obj for obj in scene.objects if obj.type == "MESH"]
    material.node_tree.nodes.remove(node)
    remove(second)
    assert "Trackshade Result" not in bpy.data.images


def _end(frame: int) -> dict[str, int]:
    """Blender 5 takes a strip's length where earlier ones take its end."""
    return {"length": frame - 1} if bpy.app.version >= (5, 0) else {"frame_end": frame}


def test_the_command_line_knows_every_way() -> None:
    from trackshade.config import options
    from trackshade_addon.placement.placing import PLACEMENT_MODES

    # Motion is placed on an armature by a command of its own, `animate`.
    assert {*options.PLACEMENT.choices, "armature"} == set(PLACEMENT_MODES)


@pytest.mark.skipif(not EFFECTS, reason="only Blender 5.3 and later have several compositor effects")
def test_the_result_is_the_last_of_several_effects(tmp_path: Path) -> None:
    """Whichever of them is active; and none of them is changed."""
    scene: Any = new_scene()
    trees = [own_tree(scene), own_tree(scene)]
    scene.compositor_effects.active = scene.compositor_effects[0]
    before = [wiring(tree) for tree in trees]
    plain = render(scene, 1, tmp_path / "o.png")
    placed = place(make_result(tmp_path / "r", numbered(2), [1, 2]), scene, mode="compositor")
    assert [wiring(tree) for tree in trees] == before
    assert [item.is_active for item in scene.compositor_effects] == [True, False, False]
    assert np.abs(render(scene, 2, tmp_path / "o.png") - 20).max() <= 2
    remove(placed)
    assert [item.node_group for item in scene.compositor_effects] == trees
    assert np.array_equal(render(scene, 1, tmp_path / "o.png"), plain)
