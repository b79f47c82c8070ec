# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of Blender's module are typed too loosely for these rules.
# pyright: reportOptionalMemberAccess=false, reportAttributeAccessIssue=false
"""What a picture lacks is found and named: files, linked data, caches, drivers and scripts; and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import bpy
import pytest

from tests.helpers import stage
from trackshade.core.errors import ShotError
from trackshade_addon.capture.completeness import (
    PATTERNS,
    Gap,
    find_gaps,
    gap_warnings,
    require_complete,
    scripts_allowed,
)
from trackshade_addon.importers import read_scene
from trackshade_addon.messages.translations import tables

FRAMES = tuple(float(frame) for frame in range(1, 6))


def gaps(scene: bpy.types.Scene) -> list[tuple[str, str]]:
    view_layer = scene.view_layers[0]
    view_layer.update()
    return [(gap.kind, gap.name) for gap in find_gaps(scene, view_layer, FRAMES)]


def shown(scene: bpy.types.Scene, name: str = "Thing") -> bpy.types.Object:
    """A square with a material whose color comes from an image node, "image"."""
    obj = stage.add(scene, name, stage.grid(name))
    material = bpy.data.materials.new(name)
    if material.node_tree is None:
        material.use_nodes = True
    tree = material.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.name = "image"
    tree.links.new(node.outputs[0], tree.nodes["Principled BSDF"].inputs[0])
    obj.data.materials.append(material)
    return obj


def image_node(obj: bpy.types.Object) -> bpy.types.ShaderNodeTexImage:
    return obj.data.materials[0].node_tree.nodes["image"]


def image(path: str | Path, source: str = "FILE") -> bpy.types.Image:
    made = bpy.data.images.new(Path(path).name, 4, 4, tiled=source == "TILED")
    made.source = source
    made.filepath = str(path)
    return made


def saved(path: Path) -> Path:
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=False)
    return path


def real_picture(path: Path) -> Path:
    made = bpy.data.images.new("real", 4, 4)
    made.file_format, made.filepath_raw = "PNG", str(path)
    made.save()
    bpy.data.images.remove(made)
    return path


def fresh() -> bpy.types.Scene:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


# images


def test_a_texture_is_missed_only_where_it_is_used_and_seen(scene, tmp_path):
    obj = shown(scene)
    image_node(obj).image = image("//gone.png")
    assert gaps(scene) == [("image", "gone.png")]
    obj.hide_render = True
    assert gaps(scene) == []
    obj.hide_render = False
    scene.view_layers[0].layer_collection.collection.hide_render = False
    image_node(obj).image = image(real_picture(tmp_path / "there.png"))
    assert gaps(scene) == []  # the first image has no user now
    image_node(obj).image = bpy.data.images.new("generated", 4, 4)
    assert gaps(scene) == []
    packed = image(tmp_path / "there.png")
    packed.pack()
    (tmp_path / "there.png").unlink()
    image_node(obj).image = packed
    assert gaps(scene) == []
    image_node(obj).image = image("C:\\work\\bricks.png")
    assert gaps(scene) == [("image", "bricks.png")]


def test_what_no_picture_shows_is_not_missed(scene):
    camera = stage.add_camera(scene)
    camera.data.background_images.new().image = image("//background.png")
    empty = stage.add(scene, "Reference", None)
    empty.empty_display_type, empty.data = "IMAGE", image("//reference.png")
    hidden = bpy.data.collections.new("Hidden")
    scene.collection.children.link(hidden)
    obj = shown(scene)
    image_node(obj).image = image("//gone.png")
    hidden.objects.link(obj)
    scene.collection.objects.unlink(obj)
    hidden.hide_render = True
    assert gaps(scene) == []
    hidden.hide_render = False
    assert gaps(scene) == [("image", "gone.png")]
    scene.view_layers[0].layer_collection.children[0].exclude = True
    assert gaps(scene) == []


def test_of_an_instanced_collection_what_is_hidden_is_not_missed(scene):
    collection = bpy.data.collections.new("Character")
    for name in ("body", "spare"):
        obj = shown(bpy.context.scene, name)
        image_node(obj).image = image(f"//{name}.png")
        collection.objects.link(obj)
        scene.collection.objects.unlink(obj)
    collection.objects["spare"].hide_render = True
    empty = stage.add(scene, "Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", collection
    assert gaps(scene) == [("image", "body.png")]


def test_of_a_sequence_the_frames_that_are_missing_are_named(scene, tmp_path):
    node = image_node(shown(scene))
    for number in (11, 12, 15):
        real_picture(tmp_path / f"smoke.{number:04d}.png")
    node.image = image(tmp_path / "smoke.0011.png", "SEQUENCE")
    user = node.image_user
    user.frame_start, user.frame_duration, user.frame_offset, user.use_auto_refresh = 1, 5, 10, True
    assert gaps(scene) == [("image", "smoke.####.png (frames 13 to 14)")]
    user.frame_duration = 2  # the rest of the shot shows none
    assert gaps(scene) == []
    user.use_cyclic = True
    assert gaps(scene) == []


def test_of_tiles_the_ones_that_are_missing_are_named(scene, tmp_path):
    node = image_node(shown(scene))
    real_picture(tmp_path / "skin.1001.png")
    tiled = image(tmp_path / "skin.<UDIM>.png", "TILED")
    tiled.tiles.new(1002)
    node.image = tiled
    assert gaps(scene) == [("image", "skin.1002.png")]


def test_pictures_of_the_world_of_lights_and_of_displacement_count(scene):
    world = scene.world = bpy.data.worlds.new("World")
    if world.node_tree is None:
        world.use_nodes = True
    sky = world.node_tree.nodes.new("ShaderNodeTexEnvironment")
    sky.image = image("//sky.exr")
    background = next(node for node in world.node_tree.nodes if node.type == "BACKGROUND")
    world.node_tree.links.new(sky.outputs[0], background.inputs[0])
    texture = bpy.data.textures.new("Waves", "IMAGE")
    texture.image = image("//waves.png")
    stage.add(scene, "Sea", stage.grid()).modifiers.new("Displace", "DISPLACE").texture = texture
    light = bpy.data.lights.new("Lamp", "POINT")
    if light.node_tree is None:
        light.use_nodes = True
    ies = light.node_tree.nodes.new("ShaderNodeTexIES")
    ies.mode, ies.filepath = "EXTERNAL", "//lamp.ies"
    stage.add(scene, "Lamp", light)
    assert gaps(scene) == [("image", "sky.exr"), ("image", "waves.png"), ("node_file", "lamp.ies")]


def test_a_picture_that_geometry_nodes_take_counts(scene):
    obj = stage.add(scene, "Ground", stage.grid())
    modifier = obj.modifiers.new("Scatter", "NODES")
    with stage.node_group("Scatter") as group:
        group.links.new(group.nodes["in"].outputs[0], group.nodes["out"].inputs[0])
        socket = group.interface.new_socket("Mask", in_out="INPUT", socket_type="NodeSocketImage")
        modifier.node_group = group
    if hasattr(modifier, "properties"):  # Blender 5.2 and newer
        getattr(modifier.properties.inputs, socket.identifier).value = image("//mask.png")
    else:
        modifier[socket.identifier] = image("//mask.png")
    assert gaps(scene) == [("image", "mask.png")]


def test_the_compositor_s_clips_and_pictures_count(scene):
    tree = composited(scene)
    clip_node = tree.nodes.new("CompositorNodeMovieClip")
    clip_node.clip = missing_clip("footage.mp4")
    picture = tree.nodes.new("CompositorNodeImage")
    picture.image = image("//grade.png")
    assert gaps(scene) == [("image", "grade.png"), ("clip", "footage.mp4")]
    picture.mute = clip_node.mute = True
    assert gaps(scene) == []
    picture.mute = clip_node.mute = False
    scene.render.use_compositing = False
    assert gaps(scene) == []


def composited(scene: bpy.types.Scene) -> bpy.types.NodeTree:
    """A compositor tree of this scene, as its version of Blender keeps it."""
    if "compositor_effects" in bpy.types.Scene.bl_rna.properties:
        tree = bpy.data.node_groups.new("Grade", "CompositorNodeTree")
        scene.compositor_effects.new("Grade").node_group = tree
    elif bpy.app.version >= (5, 0):
        tree = scene.compositing_node_group = bpy.data.node_groups.new("Grade", "CompositorNodeTree")
    else:
        scene.use_nodes = True
        tree = scene.node_tree
    return tree


def missing_clip(name: str) -> bpy.types.MovieClip:
    path = Path(bpy.app.tempdir) / name
    real_picture(path.with_suffix(".png"))
    clip = bpy.data.movieclips.load(str(path.with_suffix(".png")))
    path.with_suffix(".png").unlink()
    clip.filepath = str(path)
    return clip


# libraries


@pytest.fixture
def libraries(tmp_path) -> Path:
    """top.blend instances a collection of mid.blend, which has an object of deep.blend; all in one folder."""
    stage.add(fresh(), "Deep", stage.grid("Deep"))
    saved(tmp_path / "deep.blend")
    scene = fresh()
    with bpy.data.libraries.load(str(tmp_path / "deep.blend"), link=True) as (_, wanted):
        wanted.objects = ["Deep"]
    collection = bpy.data.collections.new("Mid")
    scene.collection.children.link(collection)
    collection.objects.link(wanted.objects[0])
    collection.objects.link(bpy.data.objects.new("Own", stage.grid("Own")))
    saved(tmp_path / "mid.blend")
    scene = fresh()
    with bpy.data.libraries.load(str(tmp_path / "mid.blend"), link=True) as (_, wanted):
        wanted.collections = ["Mid"]
    empty = stage.add(scene, "Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", wanted.collections[0]
    saved(tmp_path / "top.blend")
    return tmp_path


def test_missing_libraries_are_named_those_inside_libraries_too(libraries):
    assert gaps(read_scene(libraries / "top.blend").scene) == []
    (libraries / "deep.blend").rename(libraries / "deep.away")
    scene = read_scene(libraries / "top.blend").scene
    assert gaps(scene) == [("library", "deep.blend")]
    scene.objects["Instance"].hide_render = True
    assert gaps(scene) == []
    (libraries / "mid.blend").rename(libraries / "mid.away")
    assert gaps(read_scene(libraries / "top.blend").scene) == [("library", "mid.blend")]


@pytest.mark.parametrize("override", [False, True])
def test_linked_objects_and_overrides_whose_data_is_gone(libraries, override):
    scene = fresh()
    with bpy.data.libraries.load(str(libraries / "mid.blend"), link=True) as (_, wanted):
        wanted.objects = ["Own"]
    scene.collection.objects.link(wanted.objects[0])
    if override:
        wanted.objects[0].override_create(remap_local_usages=True)
    path = saved(libraries / "own.blend")
    assert gaps(read_scene(path).scene) == []
    read_scene(libraries / "mid.blend")
    bpy.data.objects.remove(bpy.data.objects["Own"])
    saved(libraries / "mid.blend")
    assert ("linked", "object 'Own' of mid.blend") in gaps(read_scene(path).scene)
    (libraries / "mid.blend").unlink()
    assert gaps(read_scene(path).scene) == [("library", "mid.blend")]


def test_an_overridden_character_whose_library_is_gone(libraries):
    scene = read_scene(libraries / "top.blend").scene
    collection = scene.objects["Instance"].instance_collection
    collection.override_hierarchy_create(scene, scene.view_layers[0], reference=scene.objects["Instance"])
    path = saved(libraries / "over.blend")
    assert gaps(read_scene(path).scene) == []
    (libraries / "mid.blend").unlink()
    assert gaps(read_scene(path).scene) == [("library", "mid.blend")]


def test_a_texture_of_a_library_is_looked_for_beside_the_library(scene, tmp_path):
    (tmp_path / "props").mkdir()
    obj = shown(scene)
    image_node(obj).image = image(real_picture(tmp_path / "props" / "wood.png"))
    image_node(obj).image.filepath = "//wood.png"
    saved(tmp_path / "props" / "prop.blend")
    scene = fresh()
    with bpy.data.libraries.load(str(tmp_path / "props" / "prop.blend"), link=True, relative=True) as (_, wanted):
        wanted.objects = ["Thing"]
    scene.collection.objects.link(wanted.objects[0])
    path = saved(tmp_path / "shot.blend")
    assert gaps(read_scene(path).scene) == []
    (tmp_path / "props" / "wood.png").unlink()
    assert gaps(read_scene(path).scene) == [("image", "wood.png")]


# fonts, volumes, caches, simulations


def test_the_image_of_a_node_that_leads_nowhere_is_not_missing(scene):
    stage.add_camera(scene)
    node = image_node(shown(scene))
    node.image = image("/nowhere/gone.png")
    assert gaps(scene) == [("image", "gone.png")]
    scene.render.engine = "CYCLES"
    node.id_data.links.remove(node.outputs[0].links[0])
    assert gaps(scene) == []


def test_a_volume_without_a_file_is_not_missing(scene, tmp_path):
    """Blender saves the path of such a volume as one that leads two folders up."""
    stage.add(scene, "Smoke", bpy.data.volumes.new("Smoke"))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    assert gaps(bpy.context.scene) == []


def test_fonts_and_volumes(scene, tmp_path):
    system = Path(bpy.utils.resource_path("LOCAL")) / "datafiles" / "fonts"
    font_file = tmp_path / "brand.ttf"
    font_file.write_bytes(next(item for item in system.iterdir() if item.suffix in (".ttf", ".woff2")).read_bytes())
    text = bpy.data.curves.new("Title", "FONT")
    stage.add(scene, "Title", text)
    assert gaps(scene) == []
    text.font = bpy.data.fonts.load(str(font_file))
    assert gaps(scene) == []
    font_file.unlink()
    volume = bpy.data.volumes.new("Smoke")
    volume.filepath = str(tmp_path / "smoke_0003.vdb")
    stage.add(scene, "Smoke", volume)
    assert gaps(scene) == [("font", "brand.ttf"), ("volume", "smoke_0003.vdb")]
    for number in (1, 2, 4):
        (tmp_path / f"smoke_{number:04d}.vdb").write_bytes(b"x")
    volume.is_sequence, volume.frame_start, volume.frame_duration, volume.frame_offset = True, 1, 5, 0
    assert gaps(scene)[1:] == [("volume", "smoke_####.vdb (frames 3, 5)")]
    volume.sequence_mode, volume.frame_duration = "REPEAT", 2
    assert gaps(scene)[1:] == []


def test_files_of_modifiers(scene):
    obj = stage.add(scene, "Cloth", stage.grid())
    cache = obj.modifiers.new("Cache", "MESH_CACHE")
    cache.filepath = "//cloth.mdd"
    assert gaps(scene) == [("cache", "cloth.mdd")]
    cache.show_render = False
    assert gaps(scene) == []


def test_an_alembic_file_that_is_gone(scene, tmp_path):
    obj = stage.add(scene, "Flag", stage.grid())
    obj.shape_key_add(name="Basis")
    stage.key(obj.shape_key_add(name="Wave"), "value", {1: 0.0, 5: 1.0})
    bpy.ops.wm.alembic_export(filepath=str(tmp_path / "flag.abc"), as_background_job=False, end=5)
    scene = fresh()
    path = str(tmp_path / "flag.abc")
    bpy.ops.wm.alembic_import(filepath=path, as_background_job=False, always_add_cache_reader=True)
    assert gaps(scene) == []
    (tmp_path / "flag.abc").unlink()
    assert gaps(scene) == [("cache", "flag.abc")]


def test_a_baked_simulation_whose_files_are_gone(scene, tmp_path):
    cloth = stage.add(scene, "Sheet", stage.grid()).modifiers.new("Cloth", "CLOTH")
    saved(tmp_path / "sheet.blend")
    cache = cloth.point_cache
    cache.frame_start, cache.frame_end, cache.use_disk_cache = 1, 5, True
    with bpy.context.temp_override(scene=scene, active_object=scene.objects["Sheet"], point_cache=cache):
        bpy.ops.ptcache.bake(bake=True)
    assert cache.is_baked
    files = sorted((tmp_path / "blendcache_sheet").iterdir())
    assert len(files) >= 4, files
    assert gaps(scene) == []
    next(file for file in files if "_000003_" in file.name).unlink()
    assert gaps(scene) == [("simulation", "Cloth of 'Sheet' (frame 3)")]
    for file in (tmp_path / "blendcache_sheet").iterdir():
        file.unlink()
    (tmp_path / "blendcache_sheet").rmdir()
    assert gaps(scene) == [("simulation", "Cloth of 'Sheet' (folder blendcache_sheet)")]


def test_a_bake_of_geometry_nodes_that_is_gone(scene, tmp_path):
    obj = stage.add(scene, "Grass", stage.grid())
    saved(tmp_path / "grass.blend")
    modifier = obj.modifiers.new("Grow", "NODES")
    with stage.node_group("Grow") as group:
        bake = group.nodes.new("GeometryNodeBake")
        group.links.new(group.nodes["in"].outputs[0], bake.inputs[0])
        group.links.new(bake.outputs[0], group.nodes["out"].inputs[0])
        modifier.node_group = group
    scene.view_layers[0].update()
    scene.view_layers[0].objects.active = obj
    modifier.bakes[0].bake_mode, modifier.bakes[0].bake_target = "STILL", "DISK"
    assert gaps(scene) == []
    bpy.ops.object.geometry_node_bake_single(
        session_uid=obj.session_uid, modifier_name="Grow", bake_id=modifier.bakes[0].bake_id
    )
    folder = tmp_path / "blendcache_grass"
    assert folder.is_dir()
    assert gaps(scene) == []
    shutil.rmtree(folder)
    assert gaps(scene) == [("simulation", "Grow of 'Grass' (folder Grass_Grow)")]


# nodes, engines, drivers, scripts


def test_nodes_and_an_engine_of_an_add_on_that_is_not_there(scene, tmp_path):
    obj = shown(scene)
    engine = type("Engine", (bpy.types.RenderEngine,), {"bl_idname": "STUDIO", "bl_label": "Studio"})
    node = type("Node", (bpy.types.ShaderNode,), {"bl_idname": "StudioNode", "bl_label": "Studio"})
    for kind in (engine, node):
        bpy.utils.register_class(kind)
    scene.render.engine = "STUDIO"
    obj.data.materials[0].node_tree.nodes.new("StudioNode")
    path = saved(tmp_path / "studio.blend")
    for kind in (node, engine):
        bpy.utils.unregister_class(kind)
    found = read_scene(path).scene
    assert gaps(found) == [("node", "'Studio' in 'Thing'"), ("engine", "STUDIO")]
    assert gaps(fresh()) == []


PYTHON = "[x for x in [frame / 10]][0]"


def drive(holder: object, path: str, expression: str = PYTHON, index: int = -1) -> bpy.types.Driver:
    driver = holder.driver_add(path, index)  # type: ignore[attr-defined]
    driver.driver.expression = expression
    return driver.driver


def driven_object(scene: bpy.types.Scene) -> str:
    drive(scene.objects["Thing"], "location", index=2)
    return "location[2] of 'Thing'"


def driven_shape_key(scene: bpy.types.Scene) -> str:
    scene.objects["Thing"].shape_key_add(name="Basis")
    drive(scene.objects["Thing"].shape_key_add(name="Up"), "value")
    return "key_blocks[\"Up\"].value of 'Thing'"


def driven_material(scene: bpy.types.Scene) -> str:
    node = scene.objects["Thing"].data.materials[0].node_tree.nodes["Principled BSDF"]
    drive(node.inputs["Roughness"], "default_value")
    index = list(node.inputs).index(node.inputs["Roughness"])
    return f"nodes[\"Principled BSDF\"].inputs[{index}].default_value of 'Thing'"


def driven_bone(scene: bpy.types.Scene) -> str:
    armature = bpy.data.armatures.new("Rig")
    rig = stage.add(scene, "Rig", armature)
    scene.objects["Thing"].modifiers.new("Armature", "ARMATURE").object = rig
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.edit_bones.new("Arm")
    bone.tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    drive(rig.pose.bones["Arm"], "location", index=0)
    return "pose.bones[\"Arm\"].location[0] of 'Rig'"


@pytest.mark.parametrize("make", [driven_object, driven_shape_key, driven_material, driven_bone])
def test_a_driver_that_blender_blocks_is_named_until_it_is_trusted(scene, tmp_path, make: Callable):
    shown(scene)
    name = make(scene)
    drive(scene.objects["Thing"], "scale", "frame / 10", 0)  # simple: it always runs
    path = saved(tmp_path / "driven.blend")
    assert gaps(read_scene(path).scene) == [("driver", name)]
    assert gaps(read_scene(path, trust_scripts=True).scene) == []


def test_drivers_of_linked_data_and_of_functions(scene, tmp_path):
    drive(shown(scene), "location", "lift(frame)", 0)
    saved(tmp_path / "rig.blend")
    scene = fresh()
    with bpy.data.libraries.load(str(tmp_path / "rig.blend"), link=True) as (_, wanted):
        wanted.objects = ["Thing"]
    scene.collection.objects.link(wanted.objects[0])
    path = saved(tmp_path / "shot.blend")
    assert gaps(read_scene(path).scene) == [("driver", "location[0] of 'Thing'")]
    assert gaps(read_scene(path, trust_scripts=True).scene) == [("broken_driver", "location[0] of 'Thing'")]
    text = bpy.data.texts.new("rig.py")
    text.write("import bpy\nbpy.app.driver_namespace['lift'] = lambda frame: frame / 10\n")
    text.use_module = True
    saved(path)
    assert gaps(read_scene(path).scene) == [("driver", "location[0] of 'Thing'"), ("script", "rig.py")]
    assert gaps(read_scene(path, trust_scripts=True).scene) == []


def test_a_driver_that_fails_is_no_matter_of_trust(scene, tmp_path):
    obj = shown(scene)
    drive(obj, "location", "frame +", 0)
    lost = drive(obj, "location", "size", 1)
    lost.variables.new().name = "size"
    lost.variables[0].targets[0].data_path = "location.x"
    drive(obj, "location", PYTHON, 2)
    path = saved(tmp_path / "driven.blend")
    drivers = [("broken_driver", "location[0] of 'Thing'"), ("broken_driver", "location[1] of 'Thing'")]
    assert gaps(read_scene(path, trust_scripts=True).scene) == drivers
    assert gaps(read_scene(path).scene) == [("driver", "location[2] of 'Thing'"), *drivers]
    muted = bpy.context.scene.objects["Thing"].animation_data.drivers
    for curve in muted:
        curve.mute = True
    assert gaps(bpy.context.scene) == []


def test_a_script_that_is_blocked_is_named(scene, tmp_path):
    shown(scene)
    text = bpy.data.texts.new("rig_ui.py")
    text.write("import bpy\n")
    text.use_module = True
    path = saved(tmp_path / "rig.blend")
    assert gaps(read_scene(path).scene) == [("script", "rig_ui.py")]
    assert gaps(read_scene(path, trust_scripts=True).scene) == []


def test_another_blender_runs_scripts_only_where_this_one_has(scene, tmp_path):
    assert not scripts_allowed(scene)  # nothing is known, and nothing is there to run
    drive(shown(scene), "location", PYTHON, 0)
    path = saved(tmp_path / "driven.blend")
    for trusted in (False, True):
        opened = read_scene(path, trust_scripts=trusted).scene
        opened.view_layers[0].update()
        assert scripts_allowed(opened) == trusted
    # A driver that was never evaluated, and so was not blocked, says nothing of what is allowed.
    opened.objects["Thing"].hide_viewport = True
    saved(path)
    opened = read_scene(path).scene
    assert not bpy.app.autoexec_fail
    assert not scripts_allowed(opened)


# in words


def test_many_are_counted_and_the_first_are_named():
    found = [Gap("image", f"{letter}.png") for letter in "abcdefghijkl"]
    assert gap_warnings(found) == ["12 textures are missing: a.png, b.png, c.png and 9 more."]
    assert gap_warnings(found[:2]) == ["2 textures are missing: a.png and b.png."]
    assert gap_warnings(found[:1]) == ["A texture is missing: a.png."]
    require_complete([])
    with pytest.raises(ShotError, match="incomplete") as caught:
        require_complete([*found, Gap("driver", "location[0] of 'Thing'")])
    assert all(gap.name in caught.value.message for gap in found)
    assert "--trust-scripts" in str(caught.value.fix)
    assert caught.value.exit_code == 3


def test_every_sentence_is_there_in_german():
    assert {pattern for both in PATTERNS.values() for pattern in both} <= {english for _, english in tables()["de_DE"]}


def test_the_shot_says_what_it_lacks(scene):
    stage.add_camera(scene)
    image_node(shown(scene)).image = image("//gone.png")
    assert "A texture is missing: gone.png." in stage.shoot(scene).warnings
