# SPDX-License-Identifier: GPL-3.0-or-later
"""Rooms, corridors and streets, as photos show them: what lifting without depth is evaluated on."""

from __future__ import annotations

import math

import bpy

from .scene_parts import (
    Random,
    Vector3,
    add_body,
    add_camera,
    add_lamp,
    add_sun,
    new_material,
    patterned,
    sample_color,
    set_world,
)

_EYE = (1.45, 1.7)  # metres above the ground
_LENS = (20.0, 30.0)  # millimetres


def build_room(rng: Random) -> None:
    """A furnished room with a door, pictures or windows, and a table."""
    left, right, depth, height = -rng.uniform(1.8, 3.2), rng.uniform(1.8, 3.2), rng.uniform(4, 6.5), rng.uniform(2.4, 3)
    trim = _add_shell(rng, left, right, depth, height)
    _add_on_wall(rng, (left, right, depth), _plain(rng), trim, (rng.uniform(1.5, 3), 0.45), (0.0, 2.05))
    for _ in range(rng.integers(1, 4)):
        low = rng.uniform(0.9, 1.3)
        what = _glow() if rng.random() < 0.5 else patterned(rng, "marble", 3.0)
        place = rng.uniform(-0.8, 2.5), rng.uniform(0.3, 0.7)
        _add_on_wall(rng, (left, right, depth), what, trim, place, (low, low + rng.uniform(0.5, 1.0)))
    for _ in range(rng.integers(2, 5)):
        wide, deep, tall = rng.uniform(0.4, 1.4), rng.uniform(0.3, 0.6), rng.uniform(0.4, 1.9)
        wall = rng.integers(3)
        if wall == 2:
            at = rng.uniform(left + 0.7, right - 0.7)
            _add_box(_plain(rng), (at - wide / 2, depth - deep, 0), (at + wide / 2, depth, tall))
        else:
            at, x = rng.uniform(2, depth - 0.8), (left, right - deep)[wall]
            _add_box(_plain(rng), (x, at - wide / 2, 0), (x + deep, at + wide / 2, tall))
    if rng.random() < 0.7:
        _add_table(_plain(rng), (rng.uniform(-0.8, 0.8), rng.uniform(2.6, depth - 1.2)), rng.uniform(-0.4, 0.4))
    for share in (0.3, 0.75):
        add_lamp(((left + right) / 2, share * depth, height - 0.12), 90.0, 0.8)
    set_world((0.45, 0.6, 0.9), 0.15)
    _add_eye(rng, (0.3 * left, 0.3 * right), rng.uniform(-0.6, 0.2), 0.33, (-6, 3))


def build_corridor(rng: Random) -> None:
    """A long corridor with doors on both sides, and lamps in its ceiling."""
    left, right, depth, height = -rng.uniform(1.1, 1.6), rng.uniform(1.1, 1.6), rng.uniform(9, 16), rng.uniform(2.4, 3)
    trim = _add_shell(rng, left, right, depth, height)
    at = rng.uniform(1, 2)
    while at < depth - 1:
        for wall in (0, 1):
            if rng.random() < 0.75:
                _add_on_wall(rng, (left, right, depth), _plain(rng), trim, (at, 0.45), (0.0, 2.05), wall)
        at += rng.uniform(2, 3)
    if rng.random() < 0.6:
        _add_on_wall(rng, (left, right, depth), _glow(), trim, (0.0, 0.5), (1.0, 2.2), 2)
    middle = (left + right) / 2
    for place in range(1, int(depth), 3):
        _add_box(_glow(), (middle - 0.15, place, height - 0.05), (middle + 0.15, place + 0.8, height))
        add_lamp((middle, place + 0.4, height - 0.12), 60.0, 0.8)
    set_world((0.45, 0.6, 0.9), 0.15)
    _add_eye(rng, (0.3 * left, 0.3 * right), 0.0, 0.1, (-6, 3))


def build_street(rng: Random) -> None:
    """A street between rows of houses with windows and ledges, a marked lane, and parked cars."""
    _add_box(patterned(rng, "marble", 2.0), (-40, -10, -0.3), (40, 90, 0))
    sides = -rng.uniform(4, 7), rng.uniform(4, 7)
    for side in sides:
        sign = math.copysign(1, side)
        _add_box(patterned(rng, "checks", 1.0), (side - 1.8 * sign, -10, 0), (40 * sign, 60, 0.14))
        at = -8.0
        while at < 45:
            long = rng.uniform(6, 12)
            _add_house(rng, side + sign * rng.choice([0, 0, 0.4]), sign, at, long, rng.uniform(6, 14))
            at += long + rng.choice([0, 0, 1.5])
    mark = new_material("Mark", (0.9, 0.9, 0.85))
    for at in range(-8, 50, 5):
        _add_box(mark, (-0.08, at, 0), (0.08, at + 2, 0.006))
    if rng.random() < 0.5:
        _add_box(patterned(rng, "bricks", 2.0), (-20, 48, 0), (20, 56, rng.uniform(8, 15)))
    for _ in range(rng.integers(4)):
        side, at = sides[rng.integers(2)], rng.uniform(7, 25)
        x = side - math.copysign(3.0, side)
        _add_box(new_material("Car", sample_color(rng)), (x - 0.85, at - 2.1, 0.2), (x + 0.85, at + 2.1, 0.85))
        _add_box(new_material("Glass", (0.05, 0.06, 0.08)), (x - 0.75, at - 1, 0.85), (x + 0.75, at + 1.3, 1.45))
    add_sun(rng)
    _add_eye(rng, (0.4 * sides[0], 0.4 * sides[1]), -2.0, 0.17, (-2, 6))


def _add_eye(rng: Random, across: tuple[float, float], back: float, turn: float, pitch: tuple[float, float]) -> None:
    """Add a camera at the height of an eye that looks along y and moves a little; turn in radians, pitch in degrees."""
    place = rng.uniform(*across), back, rng.uniform(*_EYE)
    yaw, up = rng.uniform(-turn, turn), math.radians(rng.uniform(*pitch))

    def path(s: float) -> tuple[Vector3, Vector3]:
        here = place[0] + 0.1 * s, place[1], place[2]
        return here, (here[0] + math.sin(yaw), here[1] + math.cos(yaw), here[2] + math.tan(up))

    add_camera(path, rng.uniform(*_LENS))


def _add_shell(rng: Random, left: float, right: float, depth: float, height: float) -> bpy.types.Material:
    """Add floor, ceiling, walls and skirting boards, and return the boards' material."""
    gray = rng.uniform(0.5, 0.85)
    wall = new_material("Wall", (gray, gray * rng.uniform(0.92, 1.0), gray * rng.uniform(0.85, 1.0)), Roughness=0.8)
    floor = patterned(rng, str(rng.choice(["checks", "bricks"])), rng.uniform(1, 2.5))
    trim, thick, near = _plain(rng), 0.1, -3.0
    _add_box(floor, (left - thick, near, -thick), (right + thick, depth + thick, 0))
    _add_box(
        new_material("Ceiling", (0.8, 0.8, 0.8)),
        (left - thick, near, height),
        (right + thick, depth + thick, height + thick),
    )
    _add_box(wall, (left - thick, near, 0), (left, depth, height))
    _add_box(wall, (right, near, 0), (right + thick, depth, height))
    _add_box(wall, (left - thick, depth, 0), (right + thick, depth + thick, height))
    high = rng.uniform(0.06, 0.12)
    _add_box(trim, (left, near, 0), (left + 0.02, depth, high))
    _add_box(trim, (right - 0.02, near, 0), (right, depth, high))
    _add_box(trim, (left, depth - 0.02, 0), (right, depth, high))
    return trim


def _add_on_wall(
    rng: Random,
    walls: tuple[float, float, float],
    material: bpy.types.Material,
    frame: bpy.types.Material,
    place: tuple[float, float],
    rows: tuple[float, float],
    wall: int | None = None,
) -> None:
    """Add a framed door, picture or window to the left (0), right (1) or back wall (2).

    `place` is the middle along the wall and half of the width, `rows` the lower and the upper height.
    """
    wall = int(rng.integers(3)) if wall is None else wall
    at, half = place
    for item, margin, thick in ((frame, 0.06, 0.03), (material, 0.0, 0.05)):
        low, high = (at - half - margin, max(0.0, rows[0] - margin)), (at + half + margin, rows[1] + margin)
        if wall == 2:
            _add_box(item, (low[0], walls[2] - thick, low[1]), (high[0], walls[2], high[1]))
        else:
            x = (walls[0], walls[1] - thick)[wall]
            _add_box(item, (x, low[0], low[1]), (x + thick, high[0], high[1]))


def _add_table(material: bpy.types.Material, place: tuple[float, float], turn: float) -> None:
    def put(shape: Vector3, x: float, y: float, z: float) -> None:
        here = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
        location = place[0] + here[0], place[1] + here[1], z
        add_body("cube", material, size=1, scale=shape, location=location, rotation=(0, 0, turn))

    put((1.2, 0.8, 0.05), 0, 0, 0.725)
    for x in (-0.5, 0.5):
        for y in (-0.3, 0.3):
            put((0.06, 0.06, 0.7), x, y, 0.35)


def _add_house(rng: Random, front: float, sign: float, at: float, long: float, tall: float) -> None:
    """Add a house whose front is at x = front; the street is on the other side than `sign`."""
    wall = patterned(rng, "bricks", 1.5) if rng.random() < 0.5 else _plain(rng)
    pane, ledge = new_material("Pane", sample_color(rng, 0.05, 0.25), Roughness=0.2), _plain(rng)
    _add_box(wall, (front, at, 0), (front + 8 * sign, at + long, tall))
    for low, out in ((tall - 0.35, 0.12), (3.1, 0.08)):
        _add_box(ledge, (front - out * sign, at, low), (front, at + long, low + 0.25))
    count = max(2, int(long / 2.2))
    for number in range(count):
        middle, low = at + (number + 0.5) * long / count, 1.0
        while low + 1.5 < tall - 0.5:
            foot = 0.14 if low < 2 and number == 1 else low
            _add_box(ledge, (front - 0.05 * sign, middle - 0.65, low - 0.1), (front, middle + 0.65, low + 1.6))
            _add_box(pane, (front - 0.07 * sign, middle - 0.5, foot), (front, middle + 0.5, low + 1.45))
            low += 3.0


def _plain(rng: Random) -> bpy.types.Material:
    return new_material("Plain", sample_color(rng, 0.2, 0.8), Roughness=0.7)


def _glow() -> bpy.types.Material:
    return new_material("Glow", (0.9, 0.95, 1.0), **{"Emission Color": (0.8, 0.9, 1.0, 1.0), "Emission Strength": 3.0})


def _add_box(material: bpy.types.Material, one: Vector3, other: Vector3) -> None:
    middle = tuple((a + b) / 2 for a, b in zip(one, other, strict=True))
    add_body(
        "cube", material, size=1, scale=tuple(abs(b - a) for a, b in zip(one, other, strict=True)), location=middle
    )
