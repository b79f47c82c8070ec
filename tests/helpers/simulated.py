# SPDX-License-Identifier: GPL-3.0-or-later
"""Small scenes with a simulation of each kind, and what playing them shows."""

from __future__ import annotations

import bpy
import numpy as np
from numpy.typing import NDArray

from tests.helpers import stage

KINDS = ("rigid", "constraint", "cloth", "soft", "emitter", "hair", "nodes")
LAST = 15  # frame up to which scenes are played
Seen = NDArray[np.float64]


def build(kind: str, above: bool = False) -> bpy.types.Object:
    """The open scene gets a camera and an object 'Thing' that moves by a simulation; the scene is at frame 1.

    Args:
        above: 'Thing' has a subdivision before its simulation (for those that may), 1 level in the viewport and 2 in
            renders.
    """
    scene = bpy.context.scene
    stage.add_camera(scene, (0, -30, -4))
    thing = _grid("Thing", 4)
    thing.rotation_euler.x += 0.3
    if above:
        add_levels(thing)
    _KINDS[kind](scene, thing)
    scene.frame_set(1)
    return thing


def add_levels(thing: bpy.types.Object, levels: int = 1, render_levels: int = 2) -> None:
    modifier = thing.modifiers.new("Subdivision", "SUBSURF")
    modifier.levels, modifier.render_levels = levels, render_levels


def _grid(name: str, cells: int, size: float = 1.0) -> bpy.types.Object:
    obj = stage.add(bpy.context.scene, name, stage.grid(name, cells))
    obj.scale = (size, size, size)
    return obj


def _activate(obj: bpy.types.Object) -> None:
    bpy.context.view_layer.objects.active = obj


def _rigid(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    bpy.ops.rigidbody.world_add()
    _activate(thing)
    bpy.ops.rigidbody.object_add()
    scene.rigidbody_world.point_cache.frame_end = 60


def _constraint(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    """A pendulum."""
    _rigid(scene, thing)
    held = _grid("Held", 2)
    held.location = (3, 0, 0)
    _activate(held)
    bpy.ops.rigidbody.object_add(type="PASSIVE")
    joint = stage.add(scene, "Joint", None)
    joint.location = (3, 0, 0)
    _activate(joint)
    bpy.ops.rigidbody.constraint_add(type="POINT")
    joint.rigid_body_constraint.object1, joint.rigid_body_constraint.object2 = held, thing


def _cloth(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    thing.modifiers.new("Cloth", "CLOTH").point_cache.frame_end = 60


def _soft(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    modifier = thing.modifiers.new("Softbody", "SOFT_BODY")
    modifier.settings.use_goal = False
    modifier.point_cache.frame_end = 60


def _emitter(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    # All are born at once: what appears later is another matter.
    settings = thing.modifiers.new("Particles", "PARTICLE_SYSTEM").particle_system.settings
    settings.count, settings.frame_start, settings.frame_end, settings.lifetime = 6, 1, 1, 60
    settings.drag_factor = 0.5
    settings.render_type, settings.instance_object = "OBJECT", _away(_grid("Bit", 1, 0.3))


def _hair(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    system = thing.modifiers.new("Hair", "PARTICLE_SYSTEM").particle_system
    system.settings.type = "HAIR"
    system.settings.count, system.settings.hair_length = 4, 2
    system.settings.render_type, system.settings.instance_object = "OBJECT", _away(_grid("Bit", 1, 0.3))
    system.use_hair_dynamics = True
    stage.key(thing, "location", {1: (0, 0, 0), LAST: (4, 0, 0)})


def _away(obj: bpy.types.Object) -> bpy.types.Object:
    obj.location = (0, 30, 0)
    return obj


def _nodes(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    """A simulation zone in a group of a group: 0.1 down in each frame."""
    with stage.node_group("Falls") as inner:
        new, link = inner.nodes.new, inner.links.new
        enter, leave = new("GeometryNodeSimulationInput"), new("GeometryNodeSimulationOutput")
        enter.pair_with_output(leave)
        move, offset, speed = new("GeometryNodeTransform"), new("ShaderNodeCombineXYZ"), new("ShaderNodeMath")
        speed.operation = "MULTIPLY"
        speed.inputs[1].default_value = -2.4
        link(enter.outputs["Delta Time"], speed.inputs[0])
        link(speed.outputs[0], offset.inputs["Z"])
        link(offset.outputs[0], move.inputs["Translation"])
        link(inner.nodes["in"].outputs[0], enter.inputs["Geometry"])
        link(enter.outputs["Geometry"], move.inputs["Geometry"])
        link(move.outputs["Geometry"], leave.inputs["Geometry"])
        link(leave.outputs["Geometry"], inner.nodes["out"].inputs[0])
    with stage.node_group("Nested") as outer:
        node = outer.nodes.new("GeometryNodeGroup")
        node.node_tree = inner
        outer.links.new(outer.nodes["in"].outputs[0], node.inputs[0])
        outer.links.new(node.outputs[0], outer.nodes["out"].inputs[0])
    thing.modifiers.new("Nodes", "NODES").node_group = outer


def _paint(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    """A ball that presses into the surface as it goes along it."""
    _activate(thing)
    thing.modifiers.new("Paint", "DYNAMIC_PAINT").ui_type = "CANVAS"
    bpy.ops.dpaint.type_toggle(type="CANVAS")
    thing.modifiers["Paint"].canvas_settings.canvas_surfaces[0].surface_type = "DISPLACE"
    bpy.ops.mesh.primitive_uv_sphere_add(segments=8, ring_count=6, radius=0.6)
    ball = bpy.context.object
    stage.key(ball, "location", {1: (-1, 0, 0), LAST: (1, 0, 0)})
    ball.modifiers.new("Paint", "DYNAMIC_PAINT").ui_type = "BRUSH"
    bpy.ops.dpaint.type_toggle(type="BRUSH")


def _itasc(scene: bpy.types.Scene, thing: bpy.types.Object) -> None:
    """The last bone of a chain, with 'Thing' on it, follows a target as the iTaSC solver simulates it."""
    rig = stage.add(scene, "Rig", bpy.data.armatures.new("Rig"))
    _activate(rig)
    bpy.ops.object.mode_set(mode="EDIT")
    before = None
    for number, lean in enumerate((0, 0.05, 0.04, 0.02)):
        bone = rig.data.edit_bones.new(f"Bone{number}")
        bone.head, bone.tail = (0, lean, number), (0, lean + 0.02, number + 1)
        if before is not None:
            bone.parent, bone.use_connect = before, True
        before = bone
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.pose.ik_solver = "ITASC"
    rig.pose.ik_param.mode = "SIMULATION"
    target = stage.add(scene, "Target", None)
    stage.key(target, "location", {1: (0, 0, 4), 8: (2, 0, 2)})
    rig.pose.bones["Bone3"].constraints.new("IK").target = target
    thing.parent, thing.parent_type, thing.parent_bone = rig, "BONE", "Bone3"


_KINDS = {
    "paint": _paint,
    "itasc": _itasc,
    "rigid": _rigid,
    "constraint": _constraint,
    "cloth": _cloth,
    "soft": _soft,
    "emitter": _emitter,
    "hair": _hair,
    "nodes": _nodes,
}


def seen(depsgraph: bpy.types.Depsgraph | None = None) -> Seen:
    """[N, 3] world positions of all meshes in an evaluation, by default the viewport's."""
    found = []
    for item in (depsgraph or bpy.context.evaluated_depsgraph_get()).object_instances:
        if item.object.type == "MESH" and item.show_self:
            mesh = item.object.data
            points = np.empty((len(mesh.vertices), 3), np.float32)
            mesh.vertices.foreach_get("co", points.reshape(-1))
            matrix = np.array(item.matrix_world)
            found.append(points @ matrix[:3, :3].T + matrix[:3, 3])
    return np.concatenate(found)


def play(last: int = LAST, first: int = 1) -> dict[int, Seen]:
    """Plays the scene, and what each frame shows."""
    shown = {}
    for frame in range(first, last + 1):
        bpy.context.scene.frame_set(frame)
        shown[frame] = seen()
    return shown


def jumped(*frames: int) -> list[Seen]:
    """What is shown where frames are jumped to."""
    shown = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        shown.append(seen())
    return shown
