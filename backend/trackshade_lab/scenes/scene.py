# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural scenes: which bodies, where, how they and the camera move, under which light, and the words for
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade_lab.scenes import articulated, cameras, shapes
from trackshade_lab.scenes.bodies import Body, Part, deforming_body, rotations, solid_body
from trackshade_lab.scenes.captions import Told, caption
from trackshade_lab.scenes.materials import UNSEEN_TEXTURES, pattern
from trackshade_lab.scenes.motion import drive, move, place, rest, spin
from trackshade_lab.scenes.stage import build_sky, build_stage

FPS = 8.0  # what a body does by itself has a rate in seconds
KINDS = {  # name and how often
    "static-camera": 0.21,
    "moving-camera": 0.19,
    "frozen-time": 0.12,
    "spin": 0.14,
    "figure": 0.09,
    "vehicle": 0.07,
    "chain": 0.05,
    "deform": 0.08,
    "crowd": 0.05,
}
# Kinds of held-out clips only: shapes, textures and camera paths that no training clip has.
UNSEEN_KINDS = {"unseen-shape": 0.08, "unseen-texture": 0.08, "unseen-camera": 0.08}
ROUND = ("ball", "egg", "cylinder", "cone", "ring", "capsule")
SOLIDS = tuple(name for name in shapes.SHAPES if name not in shapes.UNSEEN)
_ALWAYS_MOVING = ("moving-camera", "frozen-time", "unseen-camera")
_NEVER_MOVING = ("static-camera", "spin")
_COUNTS = {  # how many bodies, and how often
    "crowd": ((4, 5, 6), (0.3, 0.4, 0.3)),
    "spin": ((1, 2, 3), (0.6, 0.3, 0.1)),
    "": ((1, 2, 3, 4), (0.35, 0.35, 0.2, 0.1)),
}


@dataclass(frozen=True)
class Scene:
    kind: str
    caption: str
    color: str | None  # the caption's color word of the main body, where most of that body shows it
    world: np.ndarray  # [T, V, 3] f32 world, metres
    rest: np.ndarray  # [V, 3] f32 texture space
    triangles: np.ndarray  # [F, 3] i32
    part: np.ndarray  # [F] i32, row of materials
    materials: np.ndarray  # [P, MATERIAL_SIZE] f32
    body: np.ndarray  # [P] i32: 0 is ground and walls, 1.. the moving bodies, the most important first
    world_to_camera: np.ndarray  # [T, 4, 4] f64
    intrinsics: np.ndarray  # [T, 3, 3] f64 px
    sun: np.ndarray  # [3] unit, towards the light
    sun_color: np.ndarray  # [3] linear
    ambient: float
    softness: float  # of shadows' edges, texels
    sky: np.ndarray  # [2, 3] linear, low and high
    told: Told  # what the caption is made from


@dataclass
class _Placed:
    body: Body
    matrices: np.ndarray  # [T, 4, 4] to the world
    action: str


@dataclass
class _View:
    azimuth: float  # of the camera about what it looks at, radians
    world_to_camera: np.ndarray  # [T, 4, 4]
    intrinsics: np.ndarray  # [T, 3, 3] px
    words: str  # what the camera does


@dataclass(frozen=True)
class _Frame:
    """What all steps of building share."""

    kind: str
    size: tuple[int, int]
    times: np.ndarray  # [T] s
    floating: bool  # no ground
    moving: bool  # the camera

    @property
    def frames(self) -> int:
        return len(self.times)


def build_scene(rng: np.random.Generator, kind: str, size: tuple[int, int], frames: int) -> Scene:
    """A scene of `kind` for `frames` frames of `size` (w, h)."""
    floating = kind not in ("figure", "vehicle", "chain", "crowd") and rng.random() < 0.15
    moving = kind in _ALWAYS_MOVING or (kind not in _NEVER_MOVING and rng.random() < 0.4)
    frame = _Frame(kind, size, np.arange(frames) / FPS, floating, moving)
    bodies = _bodies(rng, frame)
    placed, view = _arrange(rng, frame, bodies)
    main = bodies[0].parts[0].material[:3]
    stage, surroundings = build_stage(rng, frames, view.azimuth, floating, main)
    world, rest_, triangles, part, materials, body = _assemble(placed, stage)
    acting = tuple((p.body.words, p.action) for p in placed)
    told = Told(kind, acting, surroundings, view.words, moving, placed[0].body.color)
    words = caption(rng, told)
    strength = rng.uniform(0.55, 1.0)
    return Scene(
        kind,
        words,
        told.color_in(words),
        world,
        rest_,
        triangles,
        part,
        materials,
        body,
        view.world_to_camera,
        view.intrinsics,
        _sun(rng, view.azimuth),
        strength * np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.8, 1.0)]),
        float(rng.uniform(0.28, 0.5)),
        float(rng.choice([1.0, 1.6, 2.4, 3.6, 5.0])),
        build_sky(rng),
        told,
    )


def _sun(rng: np.random.Generator, azimuth: float) -> np.ndarray:
    """Towards the light: from the side or from behind the camera, seldom against it."""
    around, height = azimuth + rng.uniform(-1.9, 1.9), np.radians(rng.uniform(32, 72))
    return np.array([np.cos(around) * np.cos(height), np.sin(around) * np.cos(height), np.sin(height)])


def _bodies(rng: np.random.Generator, frame: _Frame) -> list[Body]:
    """The bodies of a scene, the main one first."""
    kind = frame.kind
    counts, weights = _COUNTS.get(kind, _COUNTS[""])
    bodies = []
    for n in range(int(rng.choice(counts, p=weights))):
        first = n == 0
        scale = rng.uniform(0.85, 1.3) if first else rng.uniform(0.45, 0.95)
        if kind == "crowd":
            scale = rng.uniform(0.5, 0.75)
        maker = kind if first else "other"
        if maker in ("crowd", "other", "static-camera", "moving-camera", "frozen-time", "unseen-camera"):
            other = ["solid", "figure", "animal", "chain", "windmill", "deform"]
            maker = str(rng.choice(other, p=[0.76, 0.07, 0.05, 0.04, 0.03, 0.05]))
        body = _body(rng, maker, frame.times, scale)
        if kind == "frozen-time":
            _freeze(body)
        bodies.append(body)
    return bodies


def _body(rng: np.random.Generator, maker: str, times: np.ndarray, scale: float) -> Body:
    if maker == "figure":
        return (articulated.figure if rng.random() < 0.7 else articulated.animal)(rng, times, scale)
    if maker == "animal":
        return articulated.animal(rng, times, scale)
    if maker == "vehicle":
        return articulated.vehicle(rng, len(times), scale)
    if maker == "chain":
        return (articulated.chain if rng.random() < 0.75 else articulated.windmill)(rng, times, scale)
    if maker == "windmill":
        return articulated.windmill(rng, times, scale)
    if maker == "deform":
        return deforming_body(rng, times, scale)
    shape = str(rng.choice(shapes.UNSEEN if maker == "unseen-shape" else SOLIDS))
    texture = None
    if maker == "unseen-texture":
        texture = str(rng.choice(list(UNSEEN_TEXTURES)))
    elif maker == "spin" and (shape in ROUND or rng.random() < 0.7):
        texture = pattern(rng)  # one can see it turn
    return solid_body(rng, len(times), shape, scale * 1.1, texture)


def _arrange(rng: np.random.Generator, frame: _Frame, bodies: list[Body]) -> tuple[list[_Placed], _View]:
    """Places, motions and a camera; tried until the main body is well in the frame."""
    placed, view = _attempt(rng, frame, bodies)
    for attempt in range(39):
        if _framed(placed, view, frame, strict=attempt < 28):
            break
        placed, view = _attempt(rng, frame, bodies)
    return placed, view


def _attempt(rng: np.random.Generator, frame: _Frame, bodies: list[Body]) -> tuple[list[_Placed], _View]:
    placed: list[_Placed] = []
    for n, body in enumerate(bodies):
        taken = [(p.matrices[0, :3, 3], p.body.radius) for p in placed]
        placed.append(_animate(rng, frame, n, body, _free_place(rng, taken, body, frame.floating)))
    return placed, _look(rng, frame, placed)


def _look(rng: np.random.Generator, frame: _Frame, placed: list[_Placed]) -> _View:
    """A camera that has the bodies in its frame, more or less; see `_framed`."""
    w, h = frame.size
    centers = np.array([p.matrices[0, :3, 3] for p in placed])
    main = placed[0].body.radius
    # Looks at the main body more than at the others; far enough for most of them.
    target = 0.6 * centers[0] + 0.4 * centers.mean(axis=0)
    apart = np.linalg.norm(centers - target, axis=1).max()
    extent = max(main, 0.55 * (apart + main)) * rng.uniform(0.95, 1.5)
    focal = w / (2 * np.tan(np.radians(rng.uniform(34, 60)) / 2))
    distance = max(extent * focal / (0.5 * h), 1.8 * main)
    elevation = np.radians(rng.uniform(-25, 35) if frame.floating else rng.uniform(6, 40))
    azimuth = rng.uniform(0, 2 * np.pi)
    lowest = -99.0 if frame.floating else 0.15
    target[2] += rng.uniform(-0.12, 0.06) * extent
    viewpoint = cameras.Viewpoint(target, distance, azimuth, elevation, focal, lowest)
    how = str(rng.choice(cameras.UNSEEN_MOVES)) if frame.kind == "unseen-camera" else None
    seconds = float(frame.times[-1])
    poses, lens, words = cameras.camera(rng, frame.frames, seconds, viewpoint, frame.moving, how)
    intrinsics = np.zeros((frame.frames, 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = lens
    intrinsics[:, :, 2] = [w / 2, h / 2, 1.0]
    return _View(azimuth, poses, intrinsics, words)


def _free_place(
    rng: np.random.Generator, taken: list[tuple[np.ndarray, float]], body: Body, floating: bool
) -> np.ndarray:
    """A place near the origin that keeps clear of the bodies placed before, on the ground or in the air."""
    place_ = np.zeros(3)
    for attempt in range(12):
        spread = 0.25 if not taken else 0.7 + 0.1 * attempt + 0.12 * len(taken)
        place_ = np.array([*rng.uniform(-spread, spread, 2), body.height])
        if floating:
            place_[2] = 0.8 + rng.uniform(-0.5, 0.5)
        if all(np.linalg.norm((place_ - p)[:2]) > 0.75 * (r + body.radius) for p, r in taken):
            break
    return place_


def _animate(rng: np.random.Generator, frame: _Frame, n: int, body: Body, start: np.ndarray) -> _Placed:
    frames, kind = frame.frames, frame.kind
    turn = rng.uniform(0, 2 * np.pi)
    if kind == "frozen-time":
        return _Placed(body, rest(body, start, frames, turn), "")
    if kind == "spin" and n == 0:
        return _Placed(body, *spin(rng, body, start, frames))
    if kind == "spin" or (n > 0 and rng.random() < 0.35 and kind != "crowd"):
        return _Placed(body, rest(body, start, frames, turn), body.action if not body.walks else "")
    if body.walks:
        span = rng.uniform(0.9, 1.7) if body.wheels else rng.uniform(0.5, 1.1)
        return _Placed(body, drive(rng, body, start, frames, span), body.action)
    if body.action:
        if rng.random() < 0.65:
            return _Placed(body, rest(body, start, frames, turn), body.action)
        s = np.linspace(0, 1, frames)
        path = start + np.outer(s - 0.4, [np.cos(turn), np.sin(turn), 0.0]) * rng.uniform(0.3, 0.9)
        return _Placed(body, place(rotations(cameras.UP, turn + s * rng.uniform(-0.8, 0.8)), path), body.action)
    if rng.random() < (0.07 if n == 0 else 0.3):
        return _Placed(body, *_enter_or_leave(rng, start, frames, turn, n))
    return _Placed(body, *move(rng, body, start, frames, 0.6 if kind == "crowd" else 1.1, frame.floating))


def _enter_or_leave(
    rng: np.random.Generator, start: np.ndarray, frames: int, turn: float, n: int
) -> tuple[np.ndarray, str]:
    """Across a good part of the frame, so that the body may come in or go out of it."""
    s = np.linspace(0, 1, frames)
    way = np.array([np.cos(turn), np.sin(turn), 0.0]) * rng.uniform(2.0, 3.4)
    entering = n > 0 and rng.random() < 0.5
    path = start + np.outer(s - 1.0 if entering else s, way)
    m = place(rotations(cameras.UP, np.full(frames, turn)), path)
    return m, str(rng.choice(["coming in", "entering"] if entering else ["moving away", "leaving"]))


def _freeze(body: Body) -> None:
    for part in body.parts:
        part.matrices = np.broadcast_to(part.matrices[:1], part.matrices.shape)
        if part.deformed is not None:
            part.deformed = np.broadcast_to(part.deformed[:1], part.deformed.shape)
    body.action = ""


def _framed(placed: list[_Placed], view: _View, frame: _Frame, strict: bool) -> bool:
    """Whether the main body is well inside the first frame, of a good size, not hidden, and stays largely in view."""
    poses, size = view.world_to_camera, np.array(frame.size)
    thin = len(placed[0].body.parts) > 1
    low, high = (0.38, 0.75) if thin else (0.24, 0.62)
    for t, margin in ((0, 0.45 if thin else 0.55), (len(poses) // 2, 0.1), (-1, 0.0)):
        uv, z, reach = _seen(placed[0], view, t)
        if z < 1.3 * placed[0].body.radius:
            return False
        if t == 0 and not size[1] * low * (0.6 if frame.kind == "crowd" else 1.0) < reach < size[1] * high:
            return False
        if np.any(uv < margin * reach) or np.any(uv > size - margin * reach):
            return False
    if not strict:
        return True
    uv, z, reach = _seen(placed[0], view, 0)
    shown = 0
    for other in placed[1:]:
        at, far, radius = _seen(other, view, 0)
        if far < other.body.radius:
            return False
        if far < z and np.linalg.norm(at - uv) < 0.6 * radius + 0.35 * reach:
            return False
        if _collide(placed[0], other):
            return False
        shown += bool(np.all(at > 0) and np.all(at < size))
    return shown >= 0.5 * (len(placed) - 1)


def _collide(one: _Placed, other: _Placed) -> bool:
    """Whether two bodies pass through each other, roughly: they are not solid."""
    apart = np.linalg.norm(one.matrices[:, :3, 3] - other.matrices[:, :3, 3], axis=1)
    return bool(apart.min() < 0.5 * (one.body.radius + other.body.radius))


def _seen(placed: _Placed, view: _View, t: int) -> tuple[np.ndarray, float, float]:
    """Place of a body's origin in pixels, its depth, and the body's radius in pixels."""
    m, k = view.world_to_camera[t], view.intrinsics[t]
    x = m[:3, :3] @ placed.matrices[t, :3, 3] + m[:3, 3]
    z = float(max(x[2], 1e-3))
    return k[:2, :2] @ x[:2] / z + k[:2, 2], float(x[2]), float(k[0, 0] / z * placed.body.radius)


def _assemble(placed: list[_Placed], stage: list[Part]):
    """One vertex and one triangle list of all parts."""
    items = [(part, None, 0) for part in stage]
    items += [(part, p.matrices, n + 1) for n, p in enumerate(placed) for part in p.body.parts]
    world, rest_, triangles, part_of, offset = [], [], [], [], 0
    for n, (part, root, _) in enumerate(items):
        m = part.matrices if root is None else root @ part.matrices
        local = part.rest[None] if part.deformed is None else part.deformed
        turned = local @ m[:, :3, :3].transpose(0, 2, 1).astype(np.float32)
        world.append(turned + m[:, None, :3, 3].astype(np.float32))
        rest_.append(part.rest)
        triangles.append(part.triangles + offset)
        part_of.append(np.full(len(part.triangles), n, np.int32))
        offset += len(part.rest)
    return (
        np.ascontiguousarray(np.concatenate(world, axis=1), np.float32),
        np.concatenate(rest_).astype(np.float32),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate(part_of),
        np.stack([part.material for part, _, _ in items]).astype(np.float32),
        np.array([b for _, _, b in items], np.int32),
    )
