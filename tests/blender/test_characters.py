# SPDX-License-Identifier: GPL-3.0-or-later
"""Rigged characters as files: they move as Blender moves them, in the colors of their materials."""

from __future__ import annotations

import json
from pathlib import Path

import bmesh
import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from tests.blender.test_motion_armature import FPS, PARTS, gesture, make_rig
from trackshade.core.errors import ShotError
from trackshade.motion.characters import HEIGHT, POINTS, load_character
from trackshade.motion.skeleton import JOINTS
from trackshade_addon import commands
from trackshade_addon.motion import character as reading
from trackshade_addon.motion.armature import animate_armature, rest_bones
from trackshade_addon.motion.character import read_character
from trackshade_addon.placement import save_copy

RED, TEXTURE, STORED = (0.8, 0.05, 0.05), ((0.0, 0.5, 0.0), (0.0, 0.0, 1.0)), (0.9, 0.8, 0.1)
SRGB = {"red": (231, 63, 63), "green": (0, 188, 0), "blue": (0, 0, 255), "yellow": (244, 231, 89)}


def make_character(scene: bpy.types.Scene, turn: Matrix | None = None) -> bpy.types.Object:
    """Build a rig with a red skin of a box for each bone, a textured head on its bone, and a yellow hand."""
    turn = turn or Matrix.Identity(3)
    rig = make_rig(scene, turn=turn)
    build = bmesh.new()
    layer = build.verts.layers.deform.verify()
    skin = bpy.data.objects.new("Skin", bpy.data.meshes.new("Skin"))
    for bone in rig.data.bones:
        skin.vertex_groups.new(name=bone.name)
    for bone in rig.data.bones:
        if bone.name == "head":
            continue
        made = add_box(build, bone, 0.06)
        own, above = (skin.vertex_groups[name].index for name in (bone.name, (bone.parent or bone).name))
        for vert in made:
            vert[layer][own] = 1.0
        for vert in made[:4]:  # the beginning follows the bone above as well
            vert[layer][above] = 0.5
    build.to_mesh(skin.data)
    build.free()
    scene.collection.objects.link(skin)
    skin.parent = rig
    skin.modifiers.new("Armature", "ARMATURE").object = rig
    skin.data.materials.append(material("Red", RED))
    skin.data.materials.append(stored_material(skin.data))
    hand = skin.vertex_groups["hand_l"].index
    for face in skin.data.polygons:
        weights = [{item.group: item.weight for item in skin.data.vertices[v].groups} for v in face.vertices]
        face.material_index = int(all(item.get(hand, 0) > 0 for item in weights))

    head = bpy.data.objects.new("Head", bpy.data.meshes.new("Head"))
    build = bmesh.new()
    add_box(build, rig.data.bones["head"], 0.09)
    uv = build.loops.layers.uv.new("UV")
    middle = turn @ Vector((0, 0, 1.775))
    for face in build.faces:
        for loop in face.loops:  # the lower half of the head is green, the upper one blue
            loop[uv].uv = (0.5, 0.0 if (loop.vert.co - middle).dot(turn @ Vector((0, 0, 1))) < 0 else 1.0)
    build.to_mesh(head.data)
    build.free()
    scene.collection.objects.link(head)
    head.parent, head.parent_type, head.parent_bone = rig, "BONE", "head"
    bone = rig.data.bones["head"]
    head.matrix_parent_inverse = (bone.matrix_local @ Matrix.Translation((0, bone.length, 0))).inverted()
    head.data.materials.append(textured_material())
    return rig


def add_box(build: bmesh.types.BMesh, bone: bpy.types.Bone, radius: float) -> list[bmesh.types.BMVert]:
    """Add a box about a bone; the vertices at its head come first."""
    made = []
    for end in (0.0, bone.length):
        for x, z in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            made.append(build.verts.new(bone.matrix_local @ Vector((radius * x, end, radius * z))))
    for face in ((0, 1, 2, 3), (7, 6, 5, 4), *((i, (i + 1) % 4, (i + 1) % 4 + 4, i + 4) for i in range(4))):
        build.faces.new([made[index] for index in face])
    return made


def material(name: str, color: tuple[float, float, float]) -> bpy.types.Material:
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    made.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (*color, 1)
    return made


def stored_material(mesh: bpy.types.Mesh) -> bpy.types.Material:
    """A material with the color that is stored in a mesh."""
    attribute = mesh.color_attributes.new("Tone", "FLOAT_COLOR", "POINT")
    attribute.data.foreach_set("color", np.tile((*STORED, 1), len(mesh.vertices)))
    made = material("Stored", (0, 0, 0))
    node = made.node_tree.nodes.new("ShaderNodeVertexColor")
    node.layer_name = "Tone"
    made.node_tree.links.new(node.outputs["Color"], made.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
    return made


def textured_material() -> bpy.types.Material:
    """A material with an image, of half its brightness: its lower half is green, its upper half blue."""
    image = bpy.data.images.new("Halves", 4, 4, float_buffer=True)
    pixels = np.ones((4, 4, 4), np.float32)
    pixels[:2, :, :3], pixels[2:, :, :3] = TEXTURE
    pixels[:2, :, :3] *= 2
    image.pixels.foreach_set(pixels.ravel())
    image.pack()
    made = material("Halves", (1, 1, 1))
    tree = made.node_tree
    node, mix = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeMix")
    node.image, mix.data_type, mix.blend_type = image, "RGBA", "MULTIPLY"
    colors = [socket for socket in mix.inputs if socket.type == "RGBA"]
    mix.inputs["Factor"].default_value = 1.0
    colors[1].default_value = (0.5, 0.5, 1, 1)
    tree.links.new(node.outputs["Color"], colors[0])
    result = next(socket for socket in mix.outputs if socket.type == "RGBA")
    tree.links.new(result, tree.nodes["Principled BSDF"].inputs["Base Color"])
    return made


def evaluated_vertices(scene: bpy.types.Scene, frame: float) -> np.ndarray:
    """Where all vertices of the meshes are in a frame, [V, 3]; the head comes before the skin."""
    scene.frame_set(int(frame), subframe=frame % 1)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    places = []
    for name in ("Head", "Skin"):
        obj = bpy.data.objects[name].evaluated_get(depsgraph)
        places += [tuple(obj.matrix_world @ vertex.co) for vertex in obj.data.vertices]
    return np.array(places)


@pytest.mark.parametrize(
    "turn", [Matrix.Identity(3), Matrix.Rotation(np.pi / 2, 3, "X"), Matrix.Rotation(np.pi, 3, "Z")]
)
def test_a_character_moves_as_its_rig_does(
    scene: bpy.types.Scene, turn: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_LONGEST_EDGE", 10.0)  # the vertices of the file are those of the meshes
    rig = make_character(scene, turn)
    made, warnings = read_character(rig, scene)
    assert warnings == []
    motion = gesture()
    transforms = made.transforms(motion.rotations)
    posed = made.place_vertices(transforms)
    animate_armature(rig, motion, scene)
    back = np.array(turn.inverted())
    for t in (0, 2, 4):
        true = evaluated_vertices(scene, scene.frame_start + t * scene.render.fps / FPS) @ back.T
        scale = np.ptp(posed[t], axis=0).max() / np.ptp(true, axis=0).max()
        away = posed[t] - scale * true
        np.testing.assert_allclose(away - away.mean(axis=0), 0, atol=2e-3)
    points = made.place_points(transforms)
    np.testing.assert_allclose(
        points[:, [POINTS.index(f"thigh_{side}") for side in "lr"], :2].sum(axis=1), 0, atol=1e-5
    )


def test_a_character_stands_on_the_floor_at_one_height(scene: bpy.types.Scene) -> None:
    made, _ = read_character(make_character(scene), scene)
    transforms = made.transforms(np.tile(np.eye(3), (len(JOINTS), 1, 1)))
    vertices = made.place_vertices(transforms)
    points: dict[str, np.ndarray] = dict(zip(POINTS, made.place_points(transforms), strict=True))
    assert vertices[:, 2].min() == pytest.approx(0, abs=1e-4)
    assert vertices[:, 2].max() == pytest.approx(HEIGHT, abs=1e-4)
    assert points["hand_l"][2] < points["forearm_l"][2] < points["upper_arm_l"][2] < points["head_top"][2] < HEIGHT
    assert points["fingertip_l"][2] < points["fingers_l"][2] < points["hand_l"][2]
    assert points["hand_l"][0] == pytest.approx(points["upper_arm_l"][0], abs=1e-4)  # a T-pose hangs its arms
    assert points["toe_l"][1] < points["foot_l"][1] - 0.1
    for name in ("hand_l", "foot_l", "toe_l"):
        np.testing.assert_allclose(points[name] * (-1, 1, 1), points[name[:-1] + "r"], atol=0.02)


def test_colors_are_those_of_materials(scene: bpy.types.Scene) -> None:
    made, _ = read_character(make_character(scene), scene)
    middle = made.vertices[made.triangles].mean(axis=1)
    owner = made.triangle_joints

    def colors(joint: str) -> np.ndarray:
        return made.colors[owner == JOINTS.index(joint)].astype(int)

    np.testing.assert_allclose(np.median(colors("thigh_l"), axis=0), SRGB["red"], atol=2)
    assert np.abs(colors("hand_l") - SRGB["yellow"]).max(axis=1).min() <= 2
    head = middle[owner == JOINTS.index("head"), 2]
    for part, name in ((head < np.quantile(head, 0.3), "green"), (head > np.quantile(head, 0.7), "blue")):
        np.testing.assert_allclose(np.median(colors("head")[part], axis=0), SRGB[name], atol=2)
    assert len(np.unique(made.materials)) == 3


def test_dense_meshes_are_reduced(scene: bpy.types.Scene) -> None:
    rig = make_character(scene)
    skin = bpy.data.objects["Skin"]
    build = bmesh.new()
    build.from_mesh(skin.data)
    bmesh.ops.subdivide_edges(build, edges=build.edges, cuts=3, use_grid_fill=True)
    build.to_mesh(skin.data)
    build.free()
    smooth = skin.modifiers.new("Smooth", "SUBSURF")
    smooth.levels, smooth.render_levels = 0, 6  # more than fits in memory
    made, _ = read_character(rig, scene)
    assert 1000 < len(made.triangles) <= 1200
    np.testing.assert_allclose(made.weights.sum(axis=1), 1, atol=1e-3)
    assert bpy.data.meshes.get("Character") is None
    assert smooth.levels == 0
    assert rig.data.pose_position == "POSE"
    upper = made.vertices[made.weights[:, JOINTS.index("forearm_l")] > 0.9]
    assert upper[:, 0].min() > made.heads[JOINTS.index("forearm_l"), 0] - 0.1


def test_a_character_is_written_from_the_command_line(
    scene: bpy.types.Scene, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_character(scene)
    bpy.ops.export_scene.gltf(filepath=str(tmp_path / "hero.glb"))
    save_copy(tmp_path / "hero.blend")
    capfd.readouterr()
    written = []
    for source in ("hero.blend", "hero.glb"):
        out = tmp_path / f"{source}.npz"
        assert commands.main("trackshade", ["character", str(tmp_path / source), "--out", str(out), "--json"]) == 0
        written.append(load_character(out))
        if source == "hero.blend":
            result = json.loads(capfd.readouterr().out)
            assert result["bones"]["shin_r"] == "calf_r"
            assert result["triangles"] == len(written[0].triangles)
    one, other = (item.place_points(item.transforms(gesture().rotations)) for item in written)
    known = [index for index, name in enumerate(POINTS) if not name.startswith("finger")]  # GLB files have no tails
    np.testing.assert_allclose(one[:, known], other[:, known], atol=0.01)
    assert commands.main("trackshade", ["character", str(tmp_path / "hero.blend"), "--out", str(out)]) == 3
    assert "--force" in capfd.readouterr().err


def test_what_is_no_character_is_a_sentence(scene: bpy.types.Scene) -> None:
    rig = make_rig(scene)
    with pytest.raises(ShotError, match="moves no mesh"):
        read_character(rig, scene)
    bpy.data.objects.remove(rig)
    rig = make_character(scene)
    rig.data.bones["calf_l"].name = rig.data.bones["lowerarm_r"].name = "Unknown"
    with pytest.raises(ShotError, match="forearm_r, shin_l"):
        read_character(rig, scene)
    assert len(PARTS) * 2 - 5 == len(rest_bones(rig).names)


def test_what_cannot_be_reduced_is_told(scene: bpy.types.Scene) -> None:
    """Hundreds of pages that are bound at one edge stay, since a mesh is only simplified where two faces meet."""
    rig = make_character(scene)
    count = 2600
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    edge = np.array([(0, 0, 1.2), (0, 0, 1.3)])
    pages = np.stack([0.2 * np.cos(angles), 0.2 * np.sin(angles), np.full(count, 1.25)], axis=1)
    mesh = bpy.data.meshes.new("Pages")
    mesh.from_pydata(np.concatenate([edge, pages]).tolist(), [], [(0, 1, 2 + page) for page in range(count)])
    book = bpy.data.objects.new("Pages", mesh)
    scene.collection.objects.link(book)
    book.parent, book.parent_type, book.parent_bone = rig, "BONE", "spine_01"
    made, warnings = read_character(rig, scene)
    assert len(made.triangles) > 2400
    assert warnings == [
        f"Rig could not be reduced to fewer than {len(made.triangles)} triangles: its clips take longer."
    ]
