# SPDX-License-Identifier: GPL-3.0-or-later
"""What is captured is what a render holds. The judge is a render: an engine that writes down what it was given."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import bpy
import pytest

from tests.blender.test_capture_instances import collection_instance, scatter
from tests.helpers import stage


class Witness(bpy.types.RenderEngine):
    """Renders nothing; remembers the surfaces of the render's own evaluation."""

    bl_idname = "TRACKSHADE_WITNESS"
    bl_label = "Witness"
    seen: ClassVar[Counter[tuple[str, int]]] = Counter()

    def render(self, depsgraph):
        Witness.seen = Counter()
        for item in depsgraph.object_instances:
            obj = item.object
            if item.show_self and obj.type == "MESH" and len(obj.data.polygons):
                parent = item.parent.original.name if item.is_instance else obj.name
                name = obj.name if parent == obj.original.name else f"{parent}/{obj.original.name}"
                Witness.seen[name, len(obj.data.vertices)] += 1


@pytest.fixture
def witness():
    bpy.utils.register_class(Witness)
    yield
    bpy.utils.unregister_class(Witness)


def rendered(scene: bpy.types.Scene, frame: int) -> Counter[tuple[str, int]]:
    engine = scene.render.engine
    scene.render.engine = Witness.bl_idname
    scene.render.resolution_x = scene.render.resolution_y = 8
    scene.frame_set(frame)
    bpy.ops.render.render(scene=scene.name)
    scene.render.engine = engine
    return Witness.seen


def captured(shot, t: int) -> Counter[tuple[str, int]]:
    return Counter(
        (item.name, shot.geometries[item.geometry].positions.shape[1]) for item in shot.meshes if item.visible[t]
    )


def things(scene: bpy.types.Scene) -> tuple[bpy.types.Object, bpy.types.Collection]:
    """One object in a collection of its own, beside one that is always visible."""
    stage.add(scene, "Witnessed", stage.triangle("Witnessed"))
    collection = bpy.data.collections.new("Home")
    scene.collection.children.link(collection)
    obj = bpy.data.objects.new("Thing", stage.grid())
    collection.objects.link(obj)
    return obj, collection


def layer_of(scene: bpy.types.Scene, collection: bpy.types.Collection) -> bpy.types.LayerCollection:
    return scene.view_layers[0].layer_collection.children[collection.name]


def case_plain(scene):
    things(scene)


def case_hide_render(scene):
    things(scene)[0].hide_render = True


def case_hide_viewport(scene):
    things(scene)[0].hide_viewport = True


def case_eye(scene):
    things(scene)[0].hide_set(True)


def case_animated_hide_render(scene):
    stage.key(things(scene)[0], "hide_render", {1: True, 2: False, 3: True})


def case_animated_hide_viewport(scene):
    stage.key(things(scene)[0], "hide_viewport", {1: True, 2: False, 3: True})


def case_both_animated(scene):
    obj, _ = things(scene)
    stage.key(obj, "hide_viewport", {1: True, 2: True, 3: True})
    stage.key(obj, "hide_render", {1: False, 2: True, 3: False})


def case_collection_hide_render(scene):
    things(scene)[1].hide_render = True


def case_collection_hide_viewport(scene):
    things(scene)[1].hide_viewport = True


def case_layer_hide_viewport(scene):
    layer_of(scene, things(scene)[1]).hide_viewport = True


def case_layer_exclude(scene):
    layer_of(scene, things(scene)[1]).exclude = True


def case_two_homes_one_hidden(scene):
    obj, collection = things(scene)
    other = bpy.data.collections.new("Other")
    scene.collection.children.link(other)
    other.objects.link(obj)
    collection.hide_render = True


def case_child_of_hidden_collection(scene):
    obj, collection = things(scene)
    inner = bpy.data.collections.new("Inner")
    collection.children.link(inner)
    inner.objects.link(obj)
    collection.objects.unlink(obj)
    collection.hide_render = True


def case_instance_of_hidden_objects(scene):
    obj, _ = things(scene)
    screened = stage.add(scene, "Screened", stage.grid("Screened", 2))
    screened.hide_viewport = True
    hidden = stage.add(scene, "Hidden", stage.grid("Hidden", 3))
    hidden.hide_render = True
    collection_instance(scene, obj, screened, hidden)


def case_nested_instancer_hidden(scene):
    obj, _ = things(scene)
    inner = collection_instance(scene, obj, name="Inner")
    inner.hide_render = True
    collection_instance(scene, inner, name="Outer")


def case_nested_collection_hidden(scene):
    obj, _ = things(scene)
    empty = collection_instance(scene, obj)
    inner = bpy.data.collections.new("Inner")
    empty.instance_collection.children.link(inner)
    inner.objects.link(bpy.data.objects.new("Deep", stage.grid("Deep", 2)))
    inner.hide_render = True


def case_instanced_collection_of_the_layer(scene):
    obj, collection = things(scene)
    inner = bpy.data.collections.new("Inner")
    collection.children.link(inner)
    inner.objects.link(bpy.data.objects.new("Deep", stage.grid("Deep", 2)))
    inner.hide_render = True
    obj.hide_render = True
    collection.objects.link(bpy.data.objects.new("Shown", stage.grid("Shown", 3)))
    empty = stage.add(scene, "Instance", None)
    empty.instance_type, empty.instance_collection = "COLLECTION", collection


def case_hidden_instancer(scene):
    collection_instance(scene, things(scene)[0]).hide_render = True


def case_nodes_instance_a_hidden_object(scene):
    obj, _ = things(scene)
    obj.hide_render = obj.hide_viewport = True
    scatter(scene, obj, 3)


def case_hidden_child_of_a_vertex_instancer(scene):
    obj, _ = things(scene)
    child = stage.add(scene, "Child", stage.grid("Child", 2))
    child.parent, obj.instance_type = obj, "VERTS"
    child.hide_render = True


def case_vertex_instancer_in_an_instanced_collection(scene):
    obj, _ = things(scene)
    child = stage.add(scene, "Child", stage.grid("Child", 2))
    child.parent, obj.instance_type = obj, "VERTS"
    collection_instance(scene, obj, child)


def case_instancers_shown_otherwise_in_the_viewport(scene):
    obj, _ = things(scene)
    child = stage.add(scene, "Child", stage.grid("Child", 2))
    child.parent, obj.instance_type = obj, "VERTS"
    obj.show_instancer_for_viewport = False
    other = scatter(scene, obj, 2)
    other.show_instancer_for_render = False


def case_modifier_switches(scene):
    obj, _ = things(scene)
    viewport = obj.modifiers.new("Viewport", "SOLIDIFY")
    viewport.show_render = False
    render = obj.modifiers.new("Render", "ARRAY")
    render.show_viewport = False


def case_modifier_levels(scene):
    modifier = things(scene)[0].modifiers.new("Subdivision", "SUBSURF")
    modifier.levels, modifier.render_levels = 0, 2


def case_simplified(scene):
    modifier = things(scene)[0].modifiers.new("Subdivision", "SUBSURF")
    modifier.levels, modifier.render_levels = 3, 3
    scene.render.use_simplify = True
    scene.render.simplify_subdivision, scene.render.simplify_subdivision_render = 0, 1


def case_curve_resolution(scene):
    things(scene)
    bpy.ops.curve.primitive_bezier_circle_add()
    obj = bpy.context.object
    obj.data.bevel_depth, obj.data.render_resolution_u = 0.1, 5
    obj.data.splines[0].resolution_u = 3


def case_text_resolution(scene):
    things(scene)
    bpy.ops.object.text_add()
    bpy.context.object.data.render_resolution_u = 3


def case_metaball_resolution(scene):
    things(scene)
    bpy.ops.object.metaball_add()
    bpy.context.object.data.render_resolution = 0.5


def case_background_set(scene):
    things(scene)
    other = bpy.data.scenes.new("Set")
    for name, hidden in (("Far", False), ("Gone", True)):
        obj = bpy.data.objects.new(name, stage.grid(name, 3))
        obj.hide_render = hidden
        other.collection.objects.link(obj)
    scene.background_set = other


def case_texts_and_metaballs_in_an_instanced_collection(scene):
    things(scene)
    bpy.ops.object.text_add()
    text = bpy.context.object
    bpy.ops.object.metaball_add()
    collection_instance(scene, text, bpy.context.object)


def case_nodes_make_a_mesh_of_a_curve(scene):
    things(scene)
    bpy.ops.curve.primitive_bezier_circle_add()
    with stage.node_group("Mesh") as group:
        make = group.nodes.new("GeometryNodeFillCurve")
        group.links.new(group.nodes["in"].outputs[0], make.inputs["Curve"])
        group.links.new(make.outputs["Mesh"], group.nodes["out"].inputs[0])
    bpy.context.object.modifiers.new("Mesh", "NODES").node_group = group


def case_hair_instances(scene):
    obj, _ = things(scene)
    emitter = stage.add(scene, "Emitter", stage.grid("Emitter", 2))
    emitter.modifiers.new("Hair", "PARTICLE_SYSTEM")
    settings = emitter.particle_systems[0].settings
    settings.type, settings.count, settings.display_percentage = "HAIR", 8, 50
    settings.render_type, settings.instance_object = "OBJECT", obj
    settings.child_type, settings.child_percent, settings.rendered_child_count = "SIMPLE", 1, 3


CASES = {name.removeprefix("case_"): case for name, case in list(globals().items()) if name.startswith("case_")}


@pytest.mark.parametrize("name", CASES)
def test_capture_holds_what_a_render_holds(scene, witness, name):
    stage.add_camera(scene)
    CASES[name](scene)
    expected = [rendered(scene, frame) for frame in (1, 2, 3)]
    shot = stage.shoot(scene)
    assert [captured(shot, t) for t in range(3)] == expected
    assert [rendered(scene, frame) for frame in (1, 2, 3)] == expected


def test_an_animated_modifier_switch_is_followed(scene, witness):
    """The modifier moves vertices and keeps the topology, so that each frame can be compared by positions."""
    stage.add_camera(scene)
    obj, _ = things(scene)
    modifier = obj.modifiers.new("Cast", "CAST")
    modifier.show_viewport = False
    obj.keyframe_insert('modifiers["Cast"].show_viewport', frame=1)
    for frame, shown in ((1, False), (2, True), (3, False)):
        modifier.show_render = shown
        obj.keyframe_insert('modifiers["Cast"].show_render', frame=frame)
    positions = stage.shoot(scene).geometries[stage.track(stage.shoot(scene), "Thing").geometry].positions
    assert (positions[0] == positions[2]).all()
    assert (positions[0] != positions[1]).any()


def test_another_view_layer_is_captured_by_its_own_rules(scene, witness):
    stage.add_camera(scene)
    _, collection = things(scene)
    second = scene.view_layers.new("Second")
    second.layer_collection.children[collection.name].exclude = True
    assert stage.names(stage.shoot(scene, view_layer=second)) == ["Witnessed"]
    assert stage.names(stage.shoot(scene, view_layer=scene.view_layers[0])) == ["Thing", "Witnessed"]
    assert stage.shoot(scene, view_layer=second).view_layer == "Second"


@pytest.mark.parametrize("how", ["object", "collection"])
def test_a_holdout_is_visible_and_marked(scene, how):
    stage.add_camera(scene)
    obj, collection = things(scene)
    if how == "object":
        obj.is_holdout = True
    else:
        layer_of(scene, collection).holdout = True
    shot = stage.shoot(scene)
    assert stage.track(shot, "Thing").holdout
    assert not stage.track(shot, "Witnessed").holdout


@pytest.mark.parametrize("how", ["indirect only", "camera rays", "plate"])
def test_what_the_camera_does_not_see_is_left_out(scene, how):
    stage.add_camera(scene)
    obj, collection = things(scene)
    if how == "indirect only":
        scene.render.engine = "CYCLES"  # EEVEE shows it
        layer_of(scene, collection).indirect_only = True
    elif how == "camera rays":
        obj.visible_camera = False
    else:
        obj["trackshade_plate"] = "job"
    assert stage.names(stage.shoot(scene)) == ["Witnessed"]


def test_what_has_no_surface_is_warned_of(scene):
    stage.add_camera(scene)
    things(scene)
    stage.add(scene, "Fog", bpy.data.volumes.new("Fog"))
    assert stage.shoot(scene).warnings == ("'Fog' is a volume and is not part of the shot.",)
