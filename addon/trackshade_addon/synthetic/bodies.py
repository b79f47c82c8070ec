# SPDX-License-Identifier: GPL-3.0-or-later
"""The things that move in synthetic scenes: solids, and bodies that bend, wave or breathe by modifiers and keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import bpy
import numpy as np

from . import shapes
from .paint import Paint, draw_paint, material


@dataclass
class Body:
    """Something that moves as one.

    Attributes:
        root: the object whose place moves all of it.
        words: such as "large red striped box".
        height: of the origin above the ground, where it stands.
        radius: of a ball about the origin that holds it, nearly.
        action: what it does by itself, or "".
        walks: it goes forwards along its own X.
        roll: turns wheels after `metres` gone.
        color: the color word of most of it, or None.
    """

    root: bpy.types.Object
    words: str
    height: float
    radius: float
    action: str = ""
    walks: bool = False
    roll: Callable[[np.ndarray], None] | None = field(default=None, repr=False)
    color: str | None = None


@dataclass(frozen=True)
class Take:
    """What all makers share.

    Attributes:
        frames: how many; the scene's are 1..frames.
        fps: rate.
        flat: the engine shows images but no nodes.
    """

    rng: np.random.Generator
    frames: int
    fps: float
    flat: bool

    @property
    def times(self) -> np.ndarray:
        """[T] seconds."""
        return np.arange(self.frames) / self.fps


def key(holder: object, path: str, values: np.ndarray, index: int = -1) -> None:
    """Keys a property on every frame: `values` [T] or [T, n], `index` where only one part of a vector."""
    for frame, value in enumerate(values, start=1):
        if index >= 0:
            getattr(holder, path)[index] = float(value)
        else:
            setattr(holder, path, value.tolist() if np.ndim(value) else float(value))
        holder.keyframe_insert(path, index=index, frame=frame)  # type: ignore[attr-defined]


def painted(thing: bpy.types.Object, paint: Paint) -> None:
    thing.data.materials.clear()
    thing.data.materials.append(material(paint))


def solid(take: Take, scale: float, pattern: str | None = None) -> Body:
    """One of the plain shapes."""
    rng = take.rng
    name = str(rng.choice(list(_SOLIDS)))
    thing = _SOLIDS[name](rng)
    size = scale * rng.uniform(0.85, 1.2) * (1.0 if name != "lettered bar" else 0.9)
    stretch = rng.uniform(0.75, 1.25, 3) if name in ("box", "block", "rock", "boulder", "blob") else np.ones(3)
    thing.scale = tuple(float(part) for part in size * stretch)
    if rng.random() < 0.25 and name in ("box", "block", "wedge"):
        shapes.modify(thing, "SUBSURF", levels=2, render_levels=2)
    paint = draw_paint(rng, take.flat, pattern)
    painted(thing, paint)
    word = "small " if scale < 0.7 else "large " if scale > 1.12 else ""
    low, reach = _extent(thing)
    return Body(thing, f"{word if rng.random() < 0.5 else ''}{paint.words} {name}", low, reach, color=paint.color)


def _extent(thing: bpy.types.Object) -> tuple[float, float]:
    """How far the thing reaches below its origin, and around it, as it is scaled."""
    bpy.context.view_layer.update()
    evaluated = thing.evaluated_get(bpy.context.evaluated_depsgraph_get())
    corners = np.array([tuple(corner) for corner in evaluated.bound_box]) * np.array(thing.scale)
    return float(-corners[:, 2].min()), float(np.linalg.norm(corners, axis=1).max()) * 0.85


_SOLIDS: dict[str, Callable[[np.random.Generator], bpy.types.Object]] = {
    "ball": lambda rng: shapes.ball(),
    "sphere": lambda rng: shapes.ball(),
    "egg": lambda rng: shapes.ball(1.35),
    "capsule": lambda rng: shapes.capsule(),
    "cylinder": lambda rng: shapes.cylinder(0.45),
    "cone": lambda rng: shapes.cylinder(0.0),
    "torus": lambda rng: shapes.torus(float(rng.uniform(0.15, 0.25))),
    "ring": lambda rng: shapes.torus(float(rng.uniform(0.08, 0.13))),
    "cube": lambda rng: shapes.box((0.8, 0.8, 0.8)),
    "box": lambda rng: shapes.box((0.8, 0.8, 0.8), float(rng.uniform(0.0, 0.2)), 3),
    "block": lambda rng: shapes.box((1.0, 0.6, 0.5), float(rng.uniform(0.0, 0.2)), 3),
    "wedge": lambda rng: shapes.wedge(),
    "column": lambda rng: _column(rng),
    "rock": shapes.rock,
    "boulder": shapes.rock,
    "blob": shapes.blob,
    "lettered bar": shapes.letters,
    "animal": shapes.head,
}


def _column(rng: np.random.Generator) -> bpy.types.Object:
    """A stack of equal pieces."""
    count = int(rng.integers(3, 6))
    piece = shapes.torus(0.2) if rng.random() < 0.5 else shapes.box((0.6, 0.6, 0.8 / count), 0.1)
    shapes.modify(piece, "ARRAY", count=count, use_relative_offset=True, relative_offset_displace=(0.0, 0.0, 1.02))
    made = shapes.baked(piece)
    high = max(vertex.co.z for vertex in made.data.vertices) + min(vertex.co.z for vertex in made.data.vertices)
    for vertex in made.data.vertices:
        vertex.co.z -= high / 2
    return made


def deforming(take: Take, scale: float) -> Body:
    """Cloths in the wind, and solids that bend, twist or stretch."""
    rng = take.rng
    kind = str(rng.choice(["cloth", "flag", "bend", "twist", "stretch", "ripple"]))
    wave = np.sin(take.times * rng.uniform(1.2, 2.6) + rng.choice([0.0, rng.uniform(-0.5, 0.5)])) * rng.choice([-1, 1])
    paint = draw_paint(rng, take.flat)
    if kind in ("cloth", "flag"):
        upright = kind == "flag"
        thing = shapes.sheet(1.5 * scale, float(rng.uniform(0.8, 1.3)) * scale, 28, upright)
        for along in ((True, False), (False, True)):
            shapes.modify(
                thing, "WAVE", use_x=along[0], use_y=along[1], height=float(rng.uniform(0.05, 0.13)), time_offset=-200,
                width=float(rng.uniform(0.35, 0.7)), narrowness=float(rng.uniform(1.5, 2.5)),
                speed=float(rng.uniform(0.03, 0.07)), use_normal=upright, use_normal_x=upright, use_normal_y=upright,
                use_normal_z=upright,
            )  # fmt: skip
        shapes.modify(thing, "SUBSURF", levels=1, render_levels=1)
        painted(thing, paint)
        names = ["flag", "banner"] if upright else ["cloth", "sheet", "carpet"]
        action = str(rng.choice(["waving", "rippling", "fluttering"]))
        height = 0.75 * scale if upright else 0.35
        return Body(thing, f"{paint.words} {rng.choice(names)}", height, 0.85 * scale, action, color=paint.color)
    name = str(rng.choice(["box", "cylinder", "capsule", "column"]))
    thing = {"cylinder": shapes.cylinder, "capsule": lambda _: shapes.capsule(), "column": lambda _: _column(rng)}.get(
        name, lambda _: shapes.box((0.55, 0.55, 1.0), 0.0)
    )(0.45)
    thing = shapes.baked(thing)
    shapes.modify(thing, "SUBSURF", subdivision_type="SIMPLE", levels=3, render_levels=3)
    if kind == "ripple":
        build = shapes.modify(thing, "WAVE", height=0.12, width=0.4, narrowness=3.0, speed=0.05, time_offset=-200)
        build.use_normal = True
    else:
        method = {"bend": "BEND", "twist": "TWIST", "stretch": "STRETCH"}[kind]
        bent = shapes.modify(thing, "SIMPLE_DEFORM", deform_method=method, deform_axis="X" if kind == "bend" else "Z")
        if kind == "stretch":
            key(bent, "factor", 0.35 * wave)
        else:
            key(bent, "angle", wave * rng.uniform(0.6, 1.3) * (1.0 if kind == "bend" else 1.6))
    thing.scale = (scale,) * 3
    painted(thing, paint)
    action = {"bend": "bending", "twist": "twisting", "stretch": "stretching", "ripple": "rippling"}[kind]
    return Body(thing, f"{paint.words} {name}", _extent(thing)[0], 0.7 * scale, action, color=paint.color)


def rope(take: Take, scale: float) -> Body:
    """A curve that swings: its points are keyed."""
    rng = take.rng
    count, phase, rate = 8, rng.uniform(0, 6), rng.uniform(2.0, 4.0)
    along = np.linspace(-0.8, 0.8, count)
    reach = rng.uniform(0.15, 0.3)
    flat = rng.random() < 0.6
    thing = shapes.tube([(x, 0.0, 0.0) for x in along], float(rng.uniform(0.07, 0.14)))
    for number, point in enumerate(thing.data.splines[0].points):
        swing = reach * np.sin(rate * take.times + 1.1 * number + phase)
        places = np.stack([np.full(take.frames, along[number]), swing, 0 * swing, 1 + 0 * swing], axis=1)
        if not flat:
            places[:, [1, 2]] = places[:, [2, 1]]
        key(point, "co", places)
    thing.scale = (scale,) * 3
    paint = draw_paint(rng, take.flat, "plain" if take.flat else None)
    painted(thing, paint)
    words, action = ("snake", str(rng.choice(["winding", "wriggling"]))) if flat else ("rope", "swinging")
    height = 0.15 * scale if flat else 0.6 * scale
    return Body(thing, f"{paint.words} {words}", height, 0.85 * scale, action, color=paint.color)
