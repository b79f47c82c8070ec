# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes that are evaluated on: kinds of shots, built from seeds, none of which is trained on."""

from __future__ import annotations

import math
from collections.abc import Callable

import bpy
import numpy as np

from trackshade.core.errors import UsageError

from .places import build_corridor, build_room, build_street
from .scene_parts import (
    Random,
    add_body,
    add_camera,
    add_lamp,
    add_mesh,
    add_sun,
    animate,
    begin_scene,
    circle,
    leaf,
    link,
    new_material,
    patterned,
    poster,
    principled,
    printed,
    sample_color,
    set_world,
)

FRAMES = 33
_LONG = 250
_STRAIGHT = (0.0, 0.0, 0.0)


def build_held_out(kind: str, seed: int, frames: int | None = None, look: int = 0) -> bpy.types.Scene:
    """Replace what is open by a scene of a kind.

    Args:
        kind: One of `KINDS`.
        seed: 0 or more.
        frames: Number of frames, 2 or more; the kind's if None.
        look: Which materials the scene has: its own for 0. What moves is the same for all looks.

    Raises:
        UsageError: if there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError("unknown-scene", f"There is no kind of scene '{kind}'.", f"Kinds: {', '.join(KINDS)}.")
    rng = np.random.default_rng([seed, *kind.encode()])
    scene = begin_scene(frames or (_LONG if kind == "long" else FRAMES))
    KINDS[kind](rng)
    if look:
        _change_look(np.random.default_rng([seed, look, *kind.encode()]))
    scene.frame_set(1)
    return scene


def _change_look(rng: Random) -> None:
    """Give all surfaces but those that an image cuts out other patterns and colors, and the light another color."""
    for mesh in [data for data in bpy.data.meshes if data.users]:
        for index, material in enumerate(mesh.materials):
            if material is None or principled(material).inputs["Alpha"].is_linked:
                continue
            pattern = str(rng.choice(["checks", "bricks", "wood", "marble", "cells"]))
            mesh.materials[index] = patterned(
                rng, pattern, rng.uniform(1.0, 2.0), "Generated" if _deforms(mesh) else "Object"
            )
    for light in bpy.data.lights:
        light.color = sample_color(rng, 0.9, 1.0)


def _deforms(mesh: bpy.types.Mesh) -> bool:
    """Return whether an object of a mesh is deformed, by an armature or by shape keys."""
    users = [obj for obj in bpy.data.objects if obj.data == mesh]
    return mesh.shape_keys is not None or any(item.type == "ARMATURE" for obj in users for item in obj.modifiers)


def _add_floor(rng: Random, pattern: str | None = None) -> None:
    pattern = pattern or str(rng.choice(["checks", "bricks", "wood", "marble", "cells"]))
    scale = {"wood": 0.5, "bricks": 0.8, "checks": 1.0}.get(pattern, 1.3)
    add_body("grid", patterned(rng, pattern, scale), x_subdivisions=30, y_subdivisions=30, size=40)


def _add_bodies(rng: Random) -> list[bpy.types.Object]:
    """Add a ball, a bevelled cube, a head and a torus on the floor, around the origin."""
    ball = add_body("uv_sphere", patterned(rng, "marble", 3.0), True, segments=48, ring_count=24, radius=0.7)
    cube = add_body("cube", printed("Print", poster(rng)), size=1.2)
    bevel = cube.modifiers.new("Bevel", "BEVEL")
    bevel.width, bevel.segments = 0.06, 2
    head = add_body("monkey", patterned(rng, "cells", 4.0), True, size=1.6)
    subdivision = head.modifiers.new("Subdivision", "SUBSURF")
    subdivision.levels = subdivision.render_levels = 1
    torus = add_body("torus", patterned(rng, "checks", 3.0), True, major_radius=0.6, minor_radius=0.24)
    bodies, places = [ball, cube, head, torus], [(-1.5, -0.6), (1.5, -0.3), (0.2, 0.9), (-0.4, -1.6)]
    for body, (x, y), z in zip(bodies, places, (0.7, 0.6, 0.75, 0.24), strict=True):
        body.location = (x + rng.uniform(-0.2, 0.2), y + rng.uniform(-0.2, 0.2), z)
        body.rotation_euler = (0.0, 0.0, rng.uniform(-0.6, 0.6))
    return bodies


def _orbit(rng: Random) -> None:
    """The camera goes around bodies that do not move."""
    _add_floor(rng)
    _add_bodies(rng)
    add_sun(rng)
    start = rng.uniform(-130, -100)
    add_camera(circle((0.0, 0.0, 0.6), (7.0, 6.4), (2.0, 2.6), (start, start + rng.uniform(40, 60))))


def _motion(rng: Random) -> None:
    """Bodies slide and turn before a camera that hardly moves."""
    _add_floor(rng, "checks")
    for body in _add_bodies(rng):
        (x, y, z), turn = body.location, rng.uniform(-1.6, 1.6, 3)
        dx, dy, hop = rng.uniform(-1.3, 1.3), rng.uniform(-0.6, 0.9), rng.uniform(0.0, 0.5)

        def move(s, x=x, y=y, z=z, dx=dx, dy=dy, hop=hop, turn=turn):
            height = z + 0.25 + hop * abs(math.sin(2 * math.pi * s))
            return (x + dx * s, y + dy * s, height), tuple(turn * s)

        animate(body, move)
    add_sun(rng)
    add_camera(circle((0.0, 0.0, 0.7), (7.4, 7.4), (2.2, 2.2), (-95, -85)))


def _character(rng: Random) -> None:
    """A jointed figure walks on the spot and waves; the camera goes a quarter of the way around it."""
    _add_floor(rng)
    _add_figure(rng)
    add_sun(rng)
    add_camera(circle((0.0, 0.0, 1.0), (4.6, 4.2), (0.7, 0.9), (-110, -70)), lens=42)


def _add_figure(rng: Random) -> None:
    # Name, parent, head, tail (x, z) in metres, and thickness.
    bones = [
        ("spine", None, (0.0, 0.95), (0.0, 1.5), 0.24),
        ("head", "spine", (0.0, 1.55), (0.0, 1.95), 0.19),
        *((f"{name}.{side}", parent and f"{parent}.{side}" if parent != "spine" else "spine", (x * a[0], a[1]),
           (x * b[0], b[1]), thickness)
          for side, x in (("L", 1.0), ("R", -1.0))
          for name, parent, a, b, thickness in (
              ("arm", "spine", (0.24, 1.45), (0.55, 1.2), 0.09), ("hand", "arm", (0.55, 1.2), (0.85, 0.95), 0.075),
              ("thigh", "spine", (0.13, 0.95), (0.16, 0.5), 0.12), ("shin", "thigh", (0.16, 0.5), (0.17, 0.05), 0.1))),
    ]  # fmt: skip
    rig = link(bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig")))
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    for name, parent, head, tail, _ in bones:
        bone = rig.data.edit_bones.new(name)
        bone.head, bone.tail = (head[0], 0.0, head[1]), (tail[0], 0.0, tail[1])
        if parent:
            bone.parent = rig.data.edit_bones[parent]
    bpy.ops.object.mode_set(mode="OBJECT")
    for number, (name, _, head, tail, thickness) in enumerate(bones):
        pattern = ("checks", "marble", "cells")[number % 3]
        material = patterned(rng, pattern, 8.0 if pattern == "checks" else 3.0, "Generated")
        length = math.hypot(tail[0] - head[0], tail[1] - head[1])
        limb = add_body("uv_sphere", material, True, segments=24, ring_count=12, radius=1.0,
                        scale=(thickness, thickness, 0.5 * length + 0.6 * thickness))  # fmt: skip
        limb.name = name
        limb.location = ((head[0] + tail[0]) / 2, 0.0, (head[1] + tail[1]) / 2)
        limb.rotation_euler = (0.0, math.atan2(tail[0] - head[0], tail[1] - head[1]), 0.0)
        bpy.ops.object.transform_apply()
        limb.vertex_groups.new(name=name).add(range(len(limb.data.vertices)), 1.0, "REPLACE")
        limb.modifiers.new("Armature", "ARMATURE").object = rig
    last, speed = bpy.context.scene.frame_end, rng.uniform(1.0, 1.6)
    for frame in range(1, last + 1):
        phase = 2 * math.pi * speed * (frame - 1) / max(last - 1, 1)
        swing = {"thigh.L": 0.5, "thigh.R": -0.5, "arm.L": -0.5, "shin.L": 0.3, "shin.R": 0.3, "spine": 0.06}
        turns = {name: (amount * math.sin(phase), 0.0, 0.0) for name, amount in swing.items()}
        turns |= {"arm.R": (0.0, 0.0, -1.2), "hand.R": (0.0, 0.0, -0.9 + 0.5 * math.sin(2 * phase))}
        turns["head"] = (0.0, 0.5 * math.sin(0.7 * phase), 0.0)
        for name, turn in turns.items():
            bone = rig.pose.bones[name]
            bone.rotation_mode, bone.rotation_euler = "XYZ", turn
            bone.keyframe_insert("rotation_euler", frame=frame)


def _dolly(rng: Random) -> None:
    """The camera moves towards a printed wall until it shows what was a few pixels wide."""
    _add_floor(rng, "bricks")
    _add_bodies(rng)
    add_body("cube", printed("Wall", poster(rng)), size=1, location=(0, 2.6, 1.8), scale=(7.0, 0.2, 3.6))
    add_sun(rng)
    aim = (rng.uniform(-0.5, 0.5), 1.0, 0.9)
    add_camera(lambda s: ((0.6 * s, -9.0 + 5.6 * s, 1.7 - 0.3 * s), aim), lens=35)


def _long(rng: Random) -> None:
    """The camera travels past a row of different bodies, ten times as long as the others."""
    _add_floor(rng)
    for number in range(10):
        pattern = str(rng.choice(["checks", "marble", "cells", "bricks"]))
        shape, options = (("cube", {"size": 1.1}), ("uv_sphere", {"radius": 0.6}), ("cylinder", {"radius": 0.5}))[
            number % 3
        ]
        x = -9.0 + 2.0 * number
        add_body(shape, patterned(rng, pattern, 3.0), shape != "cube", location=(x, rng.uniform(-0.5, 1.0), 0.6),
                 rotation=(0.0, 0.0, rng.uniform(0, 1.5)), **options)  # fmt: skip
    mover = add_body("torus", patterned(rng, "checks", 4.0), True, major_radius=0.5, minor_radius=0.2)
    animate(mover, lambda s: ((-8.0 + 15.0 * s, -1.4, 0.72), (math.pi / 2, 20.0 * s, 0.0)))
    add_sun(rng)
    add_camera(lambda s: ((-7.0 + 14.0 * s, -6.5, 2.0), (-6.5 + 14.0 * s, 0.0, 0.6)))


def _growing(rng: Random) -> None:
    """A wall builds up stone by stone, and a stem grows along a curve: geometry that the first frame does not have."""
    scene = bpy.context.scene
    _add_floor(rng, "wood")
    rows, columns = np.mgrid[:5, :8]
    centers = np.stack([columns.ravel() * 0.62 + 0.31 * (rows.ravel() % 2) - 2.5, np.full(40, 0.8),
                        rows.ravel() * 0.32 + 0.16], axis=1)  # fmt: skip
    corners = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]) * (0.29, 0.16, 0.14)
    sides = np.array([[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]])
    vertices = (centers[:, None] + corners).reshape(-1, 3)
    faces = (np.arange(40)[:, None, None] * 8 + sides).reshape(-1, 4)
    wall = add_mesh("Stones", vertices, faces, patterned(rng, "marble", 2.0))
    build = wall.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = -scene.frame_end, 2.5 * scene.frame_end  # 40 % are there at first
    curve = bpy.data.curves.new("Stem", "CURVE")
    curve.dimensions, curve.bevel_depth, curve.bevel_resolution, curve.resolution_u = "3D", 0.12, 3, 10
    spline = curve.splines.new("BEZIER")
    spline.bezier_points.add(4)
    for number, point in enumerate(spline.bezier_points):
        point.co = (0.9 * math.sin(1.3 * number) + rng.uniform(-0.2, 0.2), -1.2, 0.5 * number)
        point.handle_left_type = point.handle_right_type = "AUTO"
    curve.materials.append(new_material("Stem", sample_color(rng)))
    link(bpy.data.objects.new("Stem", curve))
    for frame, end in ((1, 0.4), (scene.frame_end, 1.0)):
        curve.bevel_factor_end = end
        curve.keyframe_insert("bevel_factor_end", frame=frame)
    add_sun(rng)
    add_camera(circle((0.0, 0.0, 0.9), (6.4, 6.4), (1.6, 1.6), (-105, -80)))


def _leaves(rng: Random) -> None:
    """Leaves, cut out of squares by their image's alpha, sway on a twig before a wall."""
    _add_floor(rng)
    add_body("cube", patterned(rng, "bricks", 24.0, "UV"), size=1, location=(0, 2.4, 1.8), scale=(9.0, 0.2, 3.6))
    material = printed("Leaf", leaf(rng), has_alpha=True)
    square = np.array([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 1.0], [-0.5, 0.0, 1.0]])
    uv = np.array([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    twig = link(bpy.data.objects.new("Twig", None))
    for number in range(16):
        item = add_mesh(f"Leaf {number}", square * rng.uniform(0.6, 1.0), np.array([[0, 1, 2, 3]]), material, uv)
        item.parent = twig
        angle = 2.4 * number
        item.location = (0.5 * math.cos(angle), 0.5 * math.sin(angle), 0.3 + 0.1 * number)
        tilt, sway = rng.uniform(0.2, 1.1), rng.uniform(0.1, 0.3)

        def move(s, place=tuple(item.location), angle=angle, tilt=tilt, sway=sway):
            return place, (tilt + sway * math.sin(2 * math.pi * s), 0.0, angle + math.pi / 2)

        animate(item, move)
    stem = add_body("cylinder", new_material("Stem", (0.2, 0.1, 0.04)), True, radius=0.05, depth=2.2)
    stem.parent, stem.location = twig, (0.0, 0.0, 1.0)
    animate(twig, lambda s: ((0.0, 0.0, 0.0), (0.05 * math.sin(6.0 * s), 0.0, 0.5 * s)))
    add_sun(rng)
    add_camera(circle((0.0, 0.0, 1.2), (5.2, 5.2), (0.6, 0.9), (-100, -80)))


def _glass(rng: Random) -> None:
    """A glass ball and a glass block stand before bodies, and the camera moves past."""
    _add_floor(rng, "checks")
    _add_bodies(rng)
    glass = new_material("Glass", (0.95, 0.98, 1.0), Roughness=0.0, Transmission_Weight=1.0, IOR=1.45)
    add_body("uv_sphere", glass, True, segments=48, ring_count=24, radius=0.6, location=(0.7, -2.3, 0.6))
    add_body("cube", glass, size=1.0, location=(-1.0, -2.6, 0.6), scale=(0.9, 0.15, 1.2))
    add_sun(rng)
    add_camera(circle((0.0, -0.6, 0.7), (5.4, 5.4), (1.3, 1.5), (-108, -78)))


def _orthographic(rng: Random) -> None:
    """An orthographic camera goes around the bodies, as in isometric games."""
    _add_floor(rng)
    _add_bodies(rng)
    add_sun(rng)
    camera = add_camera(circle((0.0, 0.0, 0.5), (10.0, 10.0), (7.0, 7.0), (-125, -80)))
    camera.data.type, camera.data.ortho_scale = "ORTHO", 6.5


def _cut(rng: Random) -> None:
    """A marker switches to another camera halfway."""
    _motion(rng)
    scene = bpy.context.scene
    first, middle = scene.camera, (scene.frame_end + 1) // 2 + 1
    start = rng.uniform(-50, -30)
    second = add_camera(circle((0.0, 0.0, 0.7), (5.5, 5.0), (1.2, 1.2), (start, start + 15)), lens=32)
    scene.camera = first
    for name, frame, camera in (("first", 1, first), ("second", middle, second)):
        scene.timeline_markers.new(name, frame=frame).camera = camera


def _lamp(rng: Random) -> None:
    """A lamp moves through a closed room: light changes everywhere, and little else."""
    for location, scale, pattern in (
        ((0.0, 0.0, -0.1), (8.0, 8.0, 0.2), "wood"),
        ((0.0, 3.0, 1.5), (8.0, 0.2, 3.0), "bricks"),
        ((-3.2, 0.0, 1.5), (0.2, 8.0, 3.0), "marble"),
    ):
        material = patterned(rng, pattern, 24.0, "UV") if pattern == "bricks" else patterned(rng, pattern, 1.2)
        add_body("cube", material, size=1, location=location, scale=scale)
    _add_bodies(rng)
    lamp = add_lamp((0.0, 0.0, 3.0), 260.0)
    x, y = rng.uniform(1.2, 2.0), rng.uniform(-1.5, -0.5)
    animate(lamp, lambda s: ((x - 2.6 * x * s / 1.6, y + 1.2 * s, 2.8), _STRAIGHT))
    set_world((0.5, 0.6, 0.8), 0.15)
    add_camera(circle((-0.3, 0.6, 0.9), (6.4, 6.2), (1.4, 1.5), (-82, -70)), lens=32)


def _cloth(rng: Random) -> None:
    """A printed flag deforms in waves."""
    _add_floor(rng)
    count = 40
    v, u = np.mgrid[: count + 1, : count + 1] / count
    vertices = np.stack([3.2 * u - 1.6, 0 * u, 2.2 * v + 0.5], axis=-1).reshape(-1, 3)
    corner = (np.arange(count)[:, None] * (count + 1) + np.arange(count)).reshape(-1, 1)
    faces = corner + np.array([0, 1, count + 2, count + 1])
    uv = np.stack([u, v], axis=-1).reshape(-1, 2)[faces]
    flag = add_mesh("Flag", vertices, faces, printed("Flag", poster(rng)), uv)
    flag.data.shade_smooth()
    flag.shape_key_add(name="Basis")
    for number, (waves, shift) in enumerate(((1.2, 0.0), (1.2, 0.5 * math.pi))):
        key = flag.shape_key_add(name=f"Wave {number}")
        x = vertices[:, 0]
        offset = np.zeros_like(vertices)
        offset[:, 1] = 0.35 * (x / 3.2 + 0.5) * np.sin(2 * math.pi * waves * x / 3.2 + shift + 0.6 * vertices[:, 2])
        key.data.foreach_set("co", (vertices + offset).astype(np.float32).ravel())
        key.slider_min = -1.0
        last = bpy.context.scene.frame_end
        for frame in range(1, last + 1):
            phase = 3 * math.pi * (frame - 1) / max(last - 1, 1)
            key.value = math.cos(phase) if number == 0 else math.sin(phase)
            key.keyframe_insert("value", frame=frame)
    add_body("cylinder", new_material("Pole", (0.3, 0.3, 0.32), Metallic=1.0, Roughness=0.3), True, radius=0.06,
             depth=3.0, location=(-1.66, 0.0, 1.5))  # fmt: skip
    add_sun(rng)
    add_camera(circle((0.0, 0.0, 1.3), (6.0, 6.0), (0.4, 0.6), (-112, -78)))


def _glossy(rng: Random) -> None:
    """Metal and lacquer: highlights and reflections that do not move with the surface."""
    _add_floor(rng, "checks")
    bodies = _add_bodies(rng)
    for body, metal in zip(bodies, (1.0, 0.0, 1.0, 0.0), strict=True):
        body.data.materials[0] = new_material("Gloss", sample_color(rng, 0.5), Metallic=metal, Roughness=0.15)
    add_sun(rng)
    add_camera(circle((0.0, 0.0, 0.6), (6.8, 6.4), (1.8, 2.2), (-115, -75)))


def _instances(rng: Random) -> None:
    """The camera flies over a town: many instances of a few printed houses."""
    _add_floor(rng, "cells")
    houses = []
    for number in range(3):
        material = patterned(rng, "bricks", 4.0) if number else printed("House", poster(rng))
        house = add_body("cube", material, size=1, scale=(0.8, 0.8, 1.0 + 0.6 * number))
        houses.append(house.data)
        bpy.data.objects.remove(house)
    for x in range(-6, 7):
        for y in range(-3, 9):
            if rng.random() < 0.7:
                mesh = houses[rng.integers(3)]
                item = link(bpy.data.objects.new(f"House {x} {y}", mesh))
                item.location = (1.7 * x, 1.7 * y, max(corner[2] for corner in item.bound_box))
                item.rotation_euler = (0.0, 0.0, math.pi / 2 * rng.integers(4))
    add_sun(rng)
    add_camera(lambda s: ((-3.0 + 4.0 * s, -9.0 + 4.0 * s, 4.5 - 0.8 * s), (1.5 * s, 2.0 + 2.0 * s, 0.5)), lens=32)


KINDS: dict[str, Callable[[Random], None]] = {
    "orbit": _orbit,
    "motion": _motion,
    "character": _character,
    "dolly": _dolly,
    "long": _long,
    "growing": _growing,
    "leaves": _leaves,
    "glass": _glass,
    "orthographic": _orthographic,
    "cut": _cut,
    "lamp": _lamp,
    "cloth": _cloth,
    "glossy": _glossy,
    "instances": _instances,
    "room": build_room,
    "corridor": build_corridor,
    "street": build_street,
}
"""Functions that add the contents of a kind of scene to the empty one that is open."""
