# SPDX-License-Identifier: GPL-3.0-or-later
"""Jointed bodies: figures and animals whose skin follows an armature, vehicles, windmills, strings of beads."""

from __future__ import annotations

from dataclasses import dataclass

import bmesh
import bpy
import numpy as np
from mathutils import Matrix, Vector

from . import shapes
from .bodies import Body, Take, key, painted
from .paint import draw_paint, material


@dataclass(frozen=True)
class Bone:
    """One bone and the flesh around it; `swing` is keyed about X of the bone, radians [T]."""

    name: str
    parent: str | None
    head: tuple[float, float, float]
    tail: tuple[float, float, float]
    radius: float
    swing: np.ndarray | None = None


def figure(take: Take, scale: float) -> Body:
    """A mannequin that walks or waves, 1.7 of `scale` high, towards +X."""
    rng = take.rng
    pace = 2 * np.pi * rng.uniform(0.7, 1.3) * take.times + rng.uniform(0, 6)
    walking = rng.random() < 0.65
    stout = rng.uniform(0.85, 1.25)
    step = (0.55 if walking else 0.0) * np.sin(pace)
    wave = 0.7 * step if walking else 1.9 + 0.45 * np.sin(2 * pace)
    knee = 0.5 * np.clip(np.sin(pace + 1.2), 0, 1) * walking
    bones = [
        Bone("trunk", None, (0, 0, 0.05), (0, 0, 0.55), 0.16 * stout, 0.05 * np.sin(2 * pace)),
        Bone("neck", "trunk", (0, 0, 0.55), (0, 0, 0.85), 0.125, 0.15 * np.sin(0.5 * pace)),
    ]
    for name, side, swing, bend in (("left", 1, step, knee), ("right", -1, -step, knee[::-1])):
        x = 0.11 * side * stout
        bones += [
            Bone(f"{name} leg", "trunk", (0, x, 0.05), (0, 1.1 * x, -0.4), 0.085 * stout, swing),
            Bone(f"{name} shin", f"{name} leg", (0, 1.1 * x, -0.4), (0.02, 1.1 * x, -0.8), 0.07, -bend),
            Bone(
                f"{name} arm", "trunk", (0, 2.1 * x, 0.48), (0, 3.4 * x, 0.12), 0.06,
                wave if not walking and side > 0 else -0.7 * swing,
            ),
            Bone(f"{name} hand", f"{name} arm", (0, 3.4 * x, 0.12), (0.06, 3.7 * x, -0.2), 0.05),
        ]  # fmt: skip
    root, skin = _skinned("figure", bones, scale)
    paint = draw_paint(rng, take.flat)
    painted(skin, paint)
    action = str(rng.choice(["walking", "marching"] if walking else ["waving its arms", "waving"]))
    words = f"{rng.choice(['figure', 'person', 'mannequin'])} in {paint.words}"
    return Body(root, words, 0.86 * scale, 1.0 * scale, action, walks=walking, color=paint.color)


def animal(take: Take, scale: float) -> Body:
    """Something on four legs that trots towards +X."""
    rng = take.rng
    pace = 2 * np.pi * rng.uniform(0.8, 1.5) * take.times
    leg, fat = rng.uniform(0.3, 0.5), rng.uniform(0.14, 0.24)
    bones = [
        Bone("trunk", None, (-0.42, 0, 0), (0.35, 0, 0.03), fat),
        Bone("neck", "trunk", (0.35, 0, 0.03), (0.58, 0, 0.3), 0.1, 0.2 * np.sin(pace)),
        Bone("head", "neck", (0.58, 0, 0.3), (0.82, 0, 0.24), 0.11, 0.15 * np.sin(2 * pace)),
        Bone("tail", "trunk", (-0.42, 0, 0.03), (-0.75, 0, rng.uniform(-0.1, 0.3)), 0.05, 0.4 * np.sin(2 * pace)),
    ]
    for number, (x, y) in enumerate(((0.3, 0.13), (-0.36, -0.13), (0.3, -0.13), (-0.36, 0.13))):
        swing = 0.5 * np.sin(pace + (0 if number < 2 else np.pi))
        bones.append(Bone(f"leg {number}", "trunk", (x, y, -0.05), (x, y, -0.05 - leg), 0.065, swing))
    root, skin = _skinned("animal", bones, scale)
    paint = draw_paint(rng, take.flat)
    painted(skin, paint)
    words = f"{paint.words} {rng.choice(['animal', 'dog', 'horse'])}"
    action = str(rng.choice(["trotting", "walking"]))
    return Body(root, words, (0.1 + leg) * scale, 0.85 * scale, action, walks=True, color=paint.color)


def _skinned(name: str, bones: list[Bone], scale: float) -> tuple[bpy.types.Object, bpy.types.Object]:
    """An armature, keyed, and the one skin of flesh around its bones that follows it smoothly."""
    skin = _flesh(name, bones)
    armature = bpy.data.armatures.new(name)
    rig = shapes.link(armature, f"{name} rig")
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for bone in bones:
        made = armature.edit_bones.new(bone.name)
        made.head, made.tail = bone.head, bone.tail
        made.align_roll(Vector((1.0, 0.0, 0.0)) if abs(bone.tail[2] - bone.head[2]) > 0.1 else Vector((0.0, 0.0, 1.0)))
        if bone.parent:
            made.parent = armature.edit_bones[bone.parent]
    bpy.ops.object.mode_set(mode="OBJECT")
    _weigh(skin, bones)
    skin.parent = rig
    shapes.modify(skin, "ARMATURE", object=rig)
    for bone in bones:
        if bone.swing is not None:
            posed = rig.pose.bones[bone.name]
            posed.rotation_mode = "XYZ"
            key(posed, "rotation_euler", bone.swing, index=0)
    rig.scale = (scale,) * 3
    return rig, skin


def _flesh(name: str, bones: list[Bone]) -> bpy.types.Object:
    """Capsules around the bones, melted together."""
    build = bmesh.new()
    for bone in bones:
        head, tail = Vector(bone.head), Vector(bone.tail)
        along = tail - head
        turned = along.to_track_quat("Z", "Y").to_matrix().to_4x4()
        middle = Matrix.Translation((head + tail) / 2) @ turned
        long = along.length / 2 + 0.6 * bone.radius
        matrix = middle @ Matrix.Diagonal((bone.radius, bone.radius, long, 1.0))
        bmesh.ops.create_icosphere(build, subdivisions=3, radius=1.0, matrix=matrix)
        for end in (head, tail):
            ball = Matrix.Translation(end) @ Matrix.Diagonal((0.95 * bone.radius,) * 3 + (1.0,))
            bmesh.ops.create_icosphere(build, subdivisions=2, radius=1.0, matrix=ball)
    made = shapes.mesh_object(name, build)
    shapes.modify(made, "REMESH", mode="VOXEL", voxel_size=0.035)
    shapes.modify(made, "SMOOTH", factor=0.6, iterations=4)
    return shapes.baked(made)


def _weigh(skin: bpy.types.Object, bones: list[Bone]) -> None:
    """Vertex groups by the distance from each bone, measured by its thickness."""
    places = np.array([tuple(vertex.co) for vertex in skin.data.vertices])
    shares = []
    for bone in bones:
        head, tail = np.array(bone.head), np.array(bone.tail)
        along = tail - head
        at = np.clip((places - head) @ along / (along @ along), 0, 1)
        away = np.linalg.norm(places - head - at[:, None] * along, axis=1)
        shares.append(np.exp(-((away / (0.75 * bone.radius)) ** 2)) + 1e-9)
    table = np.stack(shares)
    table /= table.sum(axis=0)
    for bone, row in zip(bones, table, strict=True):
        group = skin.vertex_groups.new(name=bone.name)
        for index in np.flatnonzero(row > 0.02):
            group.add([int(index)], float(row[index]), "REPLACE")


def vehicle(take: Take, scale: float) -> Body:
    """A car or cart on four patterned wheels that roll, towards +X."""
    rng = take.rng
    paint = draw_paint(rng, take.flat)
    low, wide, wheel = rng.uniform(0.22, 0.34), rng.uniform(0.5, 0.65), rng.uniform(0.15, 0.22)
    body = shapes.box((1.2, wide, low), 0.25, 3)
    painted(body, paint)
    parts = [body]
    if rng.random() < 0.8:
        cabin = shapes.box((rng.uniform(0.4, 0.65), 0.85 * wide, rng.uniform(0.25, 0.4)), 0.3, 3)
        cabin.location = (float(rng.uniform(-0.25, 0.2)), 0.0, low)
        painted(cabin, draw_paint(rng, take.flat))
        parts.append(cabin)
    tyre = material(draw_paint(rng, take.flat, "lettered" if take.flat else "checked"))
    wheels = []
    for x in (-0.38, 0.38):
        for side in (-1, 1):
            made = shapes.lathe("wheel", [(0.0, -0.05), (wheel, -0.05), (wheel, 0.05), (0.0, 0.05)], 20, smooth=False)
            made.data.transform(Matrix.Rotation(np.pi / 2, 4, "X"))
            shapes.box_coordinates(made.data, 2.0)
            made.data.materials.append(tyre)
            made.location = (x, side * (wide / 2 + 0.04), -low / 2)
            wheels.append(made)
    root = shapes.link(None, "vehicle")
    for part in parts + wheels:
        part.parent = root
    root.scale = (scale,) * 3

    def roll(metres: np.ndarray) -> None:
        for made in wheels:
            key(made, "rotation_euler", metres / (wheel * scale), index=1)

    words = f"{paint.words} {rng.choice(['car', 'truck', 'cart', 'vehicle'])}"
    action = str(rng.choice(["driving", "rolling along"]))
    height = (low / 2 + wheel) * scale
    return Body(root, words, height, 0.75 * scale, action, walks=True, roll=roll, color=paint.color)


def windmill(take: Take, scale: float) -> Body:
    """A tower with sails that turn."""
    rng = take.rng
    paint = draw_paint(rng, take.flat)
    tower = shapes.lathe("tower", [(0.0, -0.8), (0.32, -0.8), (0.17, 0.5), (0.0, 0.65)])
    painted(tower, paint)
    hub = shapes.link(None, "hub")
    hub.location = (0.0, -0.26, 0.4)
    sails = material(draw_paint(rng, take.flat))
    for turn in 2 * np.pi * np.arange(int(rng.integers(3, 6))) / 5:
        sail = shapes.box((0.16, 0.03, 0.62), 0.0)
        sail.data.materials.append(sails)
        sail.parent = hub
        sail.matrix_local = Matrix.Rotation(turn, 4, "Y") @ Matrix.Translation((0.0, 0.0, 0.36))
    root = shapes.link(None, "windmill")
    tower.parent = hub.parent = root
    root.scale = (scale,) * 3
    rate = rng.uniform(0.7, 1.6) * rng.choice([-1, 1])
    key(hub, "rotation_euler", rate * take.times + rng.uniform(0, 6), index=1)
    words = f"{paint.words} {rng.choice(['windmill', 'fan'])}"
    return Body(root, words, 0.8 * scale, 1.0 * scale, str(rng.choice(["turning", "spinning"])), color=paint.color)


def beads(take: Take, scale: float) -> Body:
    """A hanging string of beads or links that swings, each of them by the one before."""
    rng = take.rng
    linked = rng.random() < 0.5
    paint = draw_paint(rng, take.flat)
    beads_of = [material(paint), material(draw_paint(rng, take.flat))]
    root = parent = shapes.link(None, "string")
    pace = rng.uniform(2.0, 4.0) * take.times + rng.uniform(0, 6)
    for number in range(int(rng.integers(4, 7))):
        joint = shapes.link(None, "joint")
        joint.parent = parent
        joint.location = (0.0, 0.0, 0.7 if number == 0 else -0.27)
        key(joint, "rotation_euler", 0.28 * np.sin(pace - 0.5 * number), index=1)
        thing = shapes.torus(0.16) if linked else shapes.ball()
        thing.scale = (0.26, 0.2, 0.26) if linked else (0.26,) * 3
        thing.rotation_euler = (np.pi / 2, 0.0, np.pi / 2 * (number % 2)) if linked else (0.0, 0.0, 0.0)
        thing.data.materials.append(beads_of[0 if linked else number % 2])
        thing.parent = joint
        thing.location = (0.0, 0.0, -0.13)
        parent = joint
    root.scale = (scale,) * 3
    words = f"{paint.words} {'chain' if linked else 'string of beads'}"
    action = str(rng.choice(["swinging", "swaying"]))
    return Body(root, words, 1.0 * scale, 0.8 * scale, action, color=paint.color if linked else None)
