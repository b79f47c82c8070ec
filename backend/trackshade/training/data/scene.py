# SPDX-License-Identifier: GPL-3.0-or-later
"""Procedural scenes: which bodies, where, how they and the camera move, under which light, and the words for
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade.conventions import srgb_to_linear
from trackshade.training.data import shapes
from trackshade.training.data.bodies import (
    Body,
    Part,
    deforming_body,
    figure,
    solid_body,
    vehicle,
)
from trackshade.training.data.captions import caption
from trackshade.training.data.motion import camera, drive, move, place, rest, rotations, spin
from trackshade.training.data.stage import build_stage

KINDS = {  # name and how often; "unseen" exists in held-out clips only
    "static-camera": 0.26,
    "moving-camera": 0.22,
    "frozen-time": 0.13,
    "spin": 0.10,
    "figure": 0.08,
    "vehicle": 0.07,
    "deform": 0.09,
    "crowd": 0.05,
}
UNSEEN_KIND = "unseen"
SOLIDS = tuple(name for name in shapes.SHAPES if name not in shapes.UNSEEN)


@dataclass(frozen=True)
class Scene:
    kind: str
    caption: str
    world: np.ndarray  # [T, V, 3] f32 world, metres
    rest: np.ndarray  # [V, 3] f32 texture space
    triangles: np.ndarray  # [F, 3] i32
    part: np.ndarray  # [F] i32, row of materials
    materials: np.ndarray  # [P, MATERIAL_SIZE] f32
    body: np.ndarray  # [P] i32: 0 is ground and walls, 1.. the moving bodies, the most important first
    world_to_camera: np.ndarray  # [T, 4, 4] f64
    intrinsics: np.ndarray  # [T, 3, 3] f64 px
    sun: np.ndarray  # [3] unit, towards the light
    sun_colour: np.ndarray  # [3] linear
    ambient: float
    sky: np.ndarray  # [2, 3] linear, low and high


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


def build_scene(rng: np.random.Generator, kind: str, size: tuple[int, int], frames: int) -> Scene:
    """A scene of `kind` for `frames` frames of `size` (w, h)."""
    floating = (
        kind in ("static-camera", "moving-camera", "frozen-time", "spin", "deform", UNSEEN_KIND) and rng.random() < 0.2
    )
    moving = kind in ("moving-camera", "frozen-time") or (kind not in ("static-camera", "spin") and rng.random() < 0.4)
    counts = {"crowd": (5, 9), "spin": (1, 3), "figure": (1, 3), "vehicle": (1, 3), "deform": (1, 3)}
    count = int(rng.integers(*counts.get(kind, (1, 5))))
    placed = _populate(rng, kind, count, frames, floating)
    view = _look(rng, kind, placed, size, frames, floating, moving)
    for _ in range(23):
        if _framed(placed, view, size, kind):
            break
        placed = _populate(rng, kind, count, frames, floating)
        view = _look(rng, kind, placed, size, frames, floating, moving)
    stage, surroundings = build_stage(rng, frames, view.azimuth, floating)
    sun_azimuth, sun_height = view.azimuth + rng.uniform(-2.2, 2.2), np.radians(rng.uniform(32, 72))
    sun = np.array(
        [
            np.cos(sun_azimuth) * np.cos(sun_height),
            np.sin(sun_azimuth) * np.cos(sun_height),
            np.sin(sun_height),
        ]
    )
    strength = rng.uniform(0.65, 1.0)
    world, rest_, triangles, part, materials, body = _assemble(placed, stage, frames)
    sky = np.array([[0.85, 0.88, 0.92], [0.35, 0.55, 0.85]]) if rng.random() < 0.5 else rng.uniform(0.08, 0.9, (2, 3))
    words = caption(rng, kind, [(p.body.words, p.action) for p in placed], surroundings, view.words, moving)
    return Scene(
        kind,
        words,
        world,
        rest_,
        triangles,
        part,
        materials,
        body,
        view.world_to_camera,
        view.intrinsics,
        sun,
        strength * np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.8, 1.0)]),
        float(rng.uniform(0.22, 0.45)),
        srgb_to_linear(sky),
    )


def _look(
    rng: np.random.Generator,
    kind: str,
    placed: list[_Placed],
    size: tuple[int, int],
    frames: int,
    floating: bool,
    moving: bool,
) -> _View:
    """A camera that has the bodies in its frame, more or less; see `_framed`."""
    extent = 0.85 + 0.3 * len(placed) if kind != "crowd" else 1.9
    focal = size[0] / (2 * np.tan(np.radians(rng.uniform(34, 62)) / 2))
    distance = rng.uniform(1.25, 1.75) * extent * focal / (size[1] / 2)
    target = np.mean([p.matrices[0, :3, 3] for p in placed], axis=0) * [1, 1, 0.8]
    elevation = np.radians(rng.uniform(-25, 35) if floating else rng.uniform(6, 42))
    azimuth = rng.uniform(0, 2 * np.pi)
    lowest = -99.0 if floating else 0.12
    poses, lens, words = camera(rng, frames, target, distance, azimuth, elevation, focal, moving, lowest)
    intrinsics = np.zeros((frames, 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = lens
    intrinsics[:, :, 2] = [size[0] / 2, size[1] / 2, 1.0]
    return _View(azimuth, poses, intrinsics, words)


def _populate(rng: np.random.Generator, kind: str, count: int, frames: int, floating: bool) -> list[_Placed]:
    """Bodies and their motions, the main one first."""
    placed: list[_Placed] = []
    for n in range(count):
        scale = (
            rng.uniform(0.4, 0.65) if kind == "crowd" else rng.uniform(0.75, 1.35) if n == 0 else rng.uniform(0.5, 1.0)
        )
        maker = kind if n == 0 or (kind == "crowd" and rng.random() < 0.2) else "solid"
        if maker == "crowd":
            maker = str(rng.choice(["solid", "figure"]))
        body = _body(rng, maker, frames, scale)
        start = _free_place(rng, [(p.matrices[0, :3, 3], p.body.radius) for p in placed], body, floating)
        placed.append(_animate(rng, kind, n, body, start, frames, floating))
    return placed


def _body(rng: np.random.Generator, maker: str, frames: int, scale: float) -> Body:
    if maker == "figure":
        return figure(rng, frames, scale * 0.95)
    if maker == "vehicle":
        return vehicle(rng, frames, scale)
    if maker == "deform":
        return deforming_body(rng, frames, scale)
    shape = str(rng.choice(shapes.UNSEEN if maker == UNSEEN_KIND else SOLIDS))
    return solid_body(rng, frames, shape, scale * 1.1)


def _free_place(
    rng: np.random.Generator, taken: list[tuple[np.ndarray, float]], body: Body, floating: bool
) -> np.ndarray:
    """A place near the origin that keeps clear of the bodies placed before, on the ground or in the air."""
    place_ = np.zeros(3)
    for attempt in range(12):
        spread = 0.25 if not taken else 0.8 + 0.1 * attempt + 0.12 * len(taken)
        place_ = np.array([*rng.uniform(-spread, spread, 2), body.height])
        if floating:
            place_[2] = 0.8 + rng.uniform(-0.5, 0.5)
        if all(np.linalg.norm((place_ - p)[:2]) > 0.8 * (r + body.radius) for p, r in taken):
            break
    return place_


def _animate(
    rng: np.random.Generator, kind: str, n: int, body: Body, start: np.ndarray, frames: int, floating: bool
) -> _Placed:
    turn = rng.uniform(0, 2 * np.pi)
    if kind == "frozen-time":
        _freeze(body)
        return _Placed(body, rest(body, start, frames, turn), "")
    if kind == "spin" and n == 0:
        return _Placed(body, *spin(rng, start, frames))
    if kind == "spin" or (n > 0 and rng.random() < 0.4 and kind != "crowd"):
        return _Placed(body, rest(body, start, frames, turn), body.action)
    if body.wheels or body.action == "walking":
        span = rng.uniform(0.7, 1.3) if body.wheels else rng.uniform(0.4, 1.0)
        return _Placed(body, drive(rng, body, start, frames, span), body.action)
    if body.action:
        if rng.random() < 0.6:
            return _Placed(body, rest(body, start, frames, turn), body.action)
        s = np.linspace(0, 1, frames)
        path = start + np.outer(s - 0.4, [np.cos(turn), np.sin(turn), 0.0]) * rng.uniform(0.3, 0.8)
        return _Placed(
            body,
            place(rotations(np.array([0, 0, 1.0]), turn + s * rng.uniform(-0.8, 0.8)), path),
            body.action,
        )
    if rng.random() < 0.1 and kind != "spin":
        return _Placed(body, *_enter_or_leave(rng, start, frames, turn))
    return _Placed(body, *move(rng, body, start, frames, 0.55 if kind == "crowd" else 1.0, floating))


def _enter_or_leave(rng: np.random.Generator, start: np.ndarray, frames: int, turn: float) -> tuple[np.ndarray, str]:
    """Across a good part of the frame, so that the body may come in or go out of it."""
    s = np.linspace(0, 1, frames)
    way = np.array([np.cos(turn), np.sin(turn), 0.0]) * rng.uniform(1.8, 3.0)
    entering = rng.random() < 0.3
    path = start + np.outer(s - 1.0 if entering else s, way)
    m = place(rotations(np.array([0, 0, 1.0]), np.full(frames, turn)), path)
    return m, "coming in" if entering else "moving away"


def _freeze(body: Body) -> None:
    for part in body.parts:
        part.matrices = np.broadcast_to(part.matrices[:1], part.matrices.shape)
        if part.deformed is not None:
            part.deformed = np.broadcast_to(part.deformed[:1], part.deformed.shape)
    body.action = ""


def _framed(placed: list[_Placed], view: _View, size: tuple[int, int], kind: str) -> bool:
    """Whether the main body is well inside the first frame, of a good size, and stays largely in view."""
    main, poses, intrinsics = placed[0], view.world_to_camera, view.intrinsics
    for t, margin in ((0, 0.5), (len(poses) // 2, 0.1), (-1, 0.0)):
        centre = poses[t, :3, :3] @ main.matrices[t, :3, 3] + poses[t, :3, 3]
        if centre[2] < 1.3 * main.body.radius:
            return False
        reach = intrinsics[t, 0, 0] / centre[2] * main.body.radius
        uv = intrinsics[t, :2, :2] @ centre[:2] / centre[2] + intrinsics[t, :2, 2]
        if t == 0 and not size[1] * (0.2 if kind != "crowd" else 0.1) < reach < size[1] * 0.55:
            return False
        if np.any(uv < margin * reach) or np.any(uv > np.array(size) - margin * reach):
            return False
    others = sum(
        bool(
            np.all((q := intrinsics[0] @ (poses[0, :3, :3] @ p.matrices[0, :3, 3] + poses[0, :3, 3]))[:2] > 0)
            and q[2] > p.body.radius
            and np.all(q[:2] / q[2] < size)
        )
        for p in placed
    )
    return others >= 0.7 * len(placed)


def _assemble(placed: list[_Placed], stage: list[Part], frames: int):
    """One vertex and one triangle list of all parts."""
    items = [(part, None, 0) for part in stage]
    items += [(part, p.matrices, n + 1) for n, p in enumerate(placed) for part in p.body.parts]
    world, rest_, triangles, part_of, offset = [], [], [], [], 0
    for n, (part, root, _) in enumerate(items):
        m = part.matrices if root is None else root @ part.matrices
        local = part.rest[None] if part.deformed is None else part.deformed
        world.append(
            (local @ m[:, :3, :3].transpose(0, 2, 1).astype(np.float32)) + m[:, None, :3, 3].astype(np.float32)
        )
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
