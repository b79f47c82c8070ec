# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the description of a scene: samples bodies, their places and motions, a camera, a stage and light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trackshade_lab.scenes import cameras, jointed, sculpted, shapes
from trackshade_lab.scenes.bodies import deforming_body, rotations, solid_body
from trackshade_lab.scenes.captions import CaptionFacts, write_caption
from trackshade_lab.scenes.description import FPS, Body, Part, Scene
from trackshade_lab.scenes.materials import UNSEEN_TEXTURES, sample_pattern
from trackshade_lab.scenes.motion import drive, move, place, spin, stay
from trackshade_lab.scenes.stage import add_hills, build_sky, build_stage

KINDS = {  # probabilities
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
# Only in held-out clips: shapes, textures and camera paths that no training clip has.
UNSEEN_KINDS = {"unseen-shape": 0.08, "unseen-texture": 0.08, "unseen-camera": 0.08}
ROUND_SHAPES = ("ball", "egg", "cylinder", "cone", "ring", "capsule")
SEEN_SHAPES = tuple(name for name in shapes.SHAPES if name not in shapes.UNSEEN_SHAPES)
_ALWAYS_MOVING = ("moving-camera", "frozen-time", "unseen-camera")
_NEVER_MOVING = ("static-camera", "spin")
_COUNTS = {  # numbers of bodies, and their probabilities
    "crowd": ((4, 5, 6), (0.3, 0.4, 0.3)),
    "spin": ((1, 2, 3), (0.6, 0.3, 0.1)),
    "": ((1, 2, 3, 4), (0.35, 0.35, 0.2, 0.1)),
}
# Probabilities of bodies where the kind of scene does not say which.
_MAKERS = {"solid": 0.76, "figure": 0.07, "animal": 0.05, "chain": 0.04, "windmill": 0.03, "deform": 0.05}
_DETAILED_MAKERS = {
    "solid": 0.3, "sculpted": 0.2, "figure": 0.12, "animal": 0.09, "vehicle": 0.09, "chain": 0.06, "windmill": 0.03,
    "deform": 0.11,
}  # fmt: skip


@dataclass
class _PlacedBody:
    body: Body
    matrices: np.ndarray  # [T, 4, 4] body to world
    action: str


@dataclass
class _View:
    azimuth: float  # of the camera around its target, radians
    world_to_camera: np.ndarray  # [T, 4, 4]
    intrinsics: np.ndarray  # [T, 3, 3] pixels
    words: str  # what the camera does


@dataclass(frozen=True)
class _Setup:
    """Properties of a scene that all steps of building it share."""

    kind: str
    size: tuple[int, int]
    times: np.ndarray  # [T] seconds
    floating: bool  # there is no ground
    is_camera_moving: bool
    detailed: bool

    @property
    def num_frames(self) -> int:
        return len(self.times)


def build_scene(
    rng: np.random.Generator, kind: str, size: tuple[int, int], num_frames: int, detailed: bool = False
) -> Scene:
    """Build a scene of a kind of `KINDS` or `UNSEEN_KINDS` for frames of `size` (width, height), from `rng` alone.

    `detailed` adds smooth skins, sculpted solids and hills: more triangles than the numpy renderer is meant for.
    """
    floating = kind not in ("figure", "vehicle", "chain", "crowd") and rng.random() < 0.15
    moving = kind in _ALWAYS_MOVING or (kind not in _NEVER_MOVING and rng.random() < 0.4)
    setup = _Setup(kind, size, np.arange(num_frames) / FPS, floating, moving, detailed)
    bodies = _sample_bodies(rng, setup)
    placed, view = _arrange(rng, setup, bodies)
    main_color = bodies[0].parts[0].material[:3]
    stage, surroundings = build_stage(rng, num_frames, view.azimuth, floating, main_color)
    if detailed:
        add_hills(rng, stage)
    actions = tuple((p.body.words, p.action) for p in placed)
    facts = CaptionFacts(kind, actions, surroundings, view.words, moving, placed[0].body.color)
    caption = write_caption(rng, facts)
    strength = rng.uniform(0.55, 1.0)
    parts = [
        Part(part.rest, part.triangles, part.material, p.matrices @ part.matrices, part.deformed)
        for p in placed
        for part in p.body.parts
    ]
    numbers = [n for n, p in enumerate(placed, start=1) for _ in p.body.parts]
    return Scene(
        kind,
        caption,
        facts.color_in(caption),
        facts,
        (*stage, *parts),
        np.array([0] * len(stage) + numbers, np.int32),
        view.world_to_camera,
        view.intrinsics,
        sun=_sample_sun(rng, view.azimuth),
        sun_color=strength * np.array([1.0, rng.uniform(0.9, 1.0), rng.uniform(0.8, 1.0)]),
        ambient=float(rng.uniform(0.28, 0.5)),
        softness=float(rng.choice([1.0, 1.6, 2.4, 3.6, 5.0])),
        sky=build_sky(rng),
    )


def _sample_sun(rng: np.random.Generator, azimuth: float) -> np.ndarray:
    """Sample a direction [3] to the sun: from the side or from behind the camera, rarely against it."""
    around, height = azimuth + rng.uniform(-1.9, 1.9), np.radians(rng.uniform(32, 72))
    return np.array([np.cos(around) * np.cos(height), np.sin(around) * np.cos(height), np.sin(height)])


def _sample_bodies(rng: np.random.Generator, setup: _Setup) -> list[Body]:
    """Sample the bodies of a scene, the main one first."""
    kind = setup.kind
    counts, weights = _COUNTS.get(kind, _COUNTS[""])
    makers = _DETAILED_MAKERS if setup.detailed else _MAKERS
    bodies = []
    for n in range(int(rng.choice(counts, p=weights))):
        is_main = n == 0
        scale = rng.uniform(0.85, 1.3) if is_main else rng.uniform(0.45, 0.95)
        if kind == "crowd":
            scale = rng.uniform(0.5, 0.75)
        maker = kind if is_main else "other"
        if maker in ("crowd", "other", "static-camera", "moving-camera", "frozen-time", "unseen-camera"):
            maker = str(rng.choice(list(makers), p=list(makers.values())))
        body = _make_body(rng, maker, setup, scale)
        if setup.detailed and body.is_fusible:
            body = sculpted.fuse_parts(body, scale)
        if kind == "frozen-time":
            _freeze(body)
        bodies.append(body)
    return bodies


def _make_body(rng: np.random.Generator, maker: str, setup: _Setup, scale: float) -> Body:
    times, lean = setup.times, -1 if setup.detailed else 1
    if maker == "figure" and rng.random() < 0.7:
        return jointed.figure(rng, times, scale)
    if maker in ("figure", "animal"):
        return jointed.animal(rng, times, scale, lean)
    if maker == "vehicle":
        return jointed.vehicle(rng, len(times), scale)
    if maker == "chain":
        return (jointed.chain if rng.random() < 0.75 else jointed.windmill)(rng, times, scale)
    if maker == "windmill":
        return jointed.windmill(rng, times, scale)
    if maker == "deform":
        return deforming_body(rng, times, scale)
    if maker == "sculpted":
        return sculpted.sculpted_body(rng, len(times), scale)
    shape = str(rng.choice(shapes.UNSEEN_SHAPES if maker == "unseen-shape" else SEEN_SHAPES))
    texture = None
    if maker == "unseen-texture":
        texture = str(rng.choice(list(UNSEEN_TEXTURES)))
    elif maker == "spin" and (shape in ROUND_SHAPES or rng.random() < 0.7):
        texture = sample_pattern(rng)  # otherwise the turn cannot be seen
    return solid_body(rng, len(times), shape, scale * 1.1, texture)


def _arrange(rng: np.random.Generator, setup: _Setup, bodies: list[Body]) -> tuple[list[_PlacedBody], _View]:
    """Sample places, motions and a camera until the main body is well inside the frame."""
    placed, view = _attempt(rng, setup, bodies)
    for attempt in range(39):
        if _is_framed(placed, view, setup, strict=attempt < 28):
            break
        placed, view = _attempt(rng, setup, bodies)
    return placed, view


def _attempt(rng: np.random.Generator, setup: _Setup, bodies: list[Body]) -> tuple[list[_PlacedBody], _View]:
    placed: list[_PlacedBody] = []
    for n, body in enumerate(bodies):
        taken = [(p.matrices[0, :3, 3], p.body.radius) for p in placed]
        placed.append(_animate(rng, setup, n, body, _sample_free_place(rng, taken, body, setup.floating)))
    return placed, _sample_view(rng, setup, placed)


def _sample_view(rng: np.random.Generator, setup: _Setup, placed: list[_PlacedBody]) -> _View:
    """Sample a camera that roughly frames the bodies; see `_is_framed`."""
    w, h = setup.size
    centers = np.array([p.matrices[0, :3, 3] for p in placed])
    main = placed[0].body.radius
    # Aim at the main body more than at the others, from far enough for most of them.
    target = 0.6 * centers[0] + 0.4 * centers.mean(axis=0)
    apart = np.linalg.norm(centers - target, axis=1).max()
    extent = max(main, 0.55 * (apart + main)) * rng.uniform(0.95, 1.5)
    focal = w / (2 * np.tan(np.radians(rng.uniform(34, 60)) / 2))
    distance = max(extent * focal / (0.5 * h), 1.8 * main)
    elevation = np.radians(rng.uniform(-25, 35) if setup.floating else rng.uniform(6, 40))
    azimuth = rng.uniform(0, 2 * np.pi)
    min_height = -99.0 if setup.floating else 0.15
    target[2] += rng.uniform(-0.12, 0.06) * extent
    viewpoint = cameras.Viewpoint(target, distance, azimuth, elevation, focal, min_height)
    unseen_move = str(rng.choice(cameras.UNSEEN_MOVES)) if setup.kind == "unseen-camera" else None
    seconds = float(setup.times[-1])
    poses, lens, words = cameras.sample_camera(
        rng, setup.num_frames, seconds, viewpoint, setup.is_camera_moving, unseen_move
    )
    intrinsics = np.zeros((setup.num_frames, 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = lens
    intrinsics[:, :, 2] = [w / 2, h / 2, 1.0]
    return _View(azimuth, poses, intrinsics, words)


def _sample_free_place(
    rng: np.random.Generator, taken: list[tuple[np.ndarray, float]], body: Body, floating: bool
) -> np.ndarray:
    """Sample a place [3] near the origin, on the ground or in the air, clear of the (place, radius) in `taken`."""
    position = np.zeros(3)
    for attempt in range(12):
        spread = 0.25 if not taken else 0.7 + 0.1 * attempt + 0.12 * len(taken)
        position = np.array([*rng.uniform(-spread, spread, 2), body.height])
        if floating:
            position[2] = 0.8 + rng.uniform(-0.5, 0.5)
        if all(np.linalg.norm((position - p)[:2]) > 0.75 * (r + body.radius) for p, r in taken):
            break
    return position


def _animate(rng: np.random.Generator, setup: _Setup, n: int, body: Body, start: np.ndarray) -> _PlacedBody:
    num_frames, kind = setup.num_frames, setup.kind
    turn = rng.uniform(0, 2 * np.pi)
    if kind == "frozen-time":
        return _PlacedBody(body, stay(start, num_frames, turn), "")
    if kind == "spin" and n == 0:
        return _PlacedBody(body, *spin(rng, body, start, num_frames))
    if kind == "spin" or (n > 0 and rng.random() < 0.35 and kind != "crowd"):
        return _PlacedBody(body, stay(start, num_frames, turn), body.action if not body.walks else "")
    if body.walks:
        span = rng.uniform(0.9, 1.7) if body.wheels else rng.uniform(0.5, 1.1)
        return _PlacedBody(body, drive(rng, body, start, num_frames, span), body.action)
    if body.action:
        if rng.random() < 0.65:
            return _PlacedBody(body, stay(start, num_frames, turn), body.action)
        s = np.linspace(0, 1, num_frames)
        path = start + np.outer(s - 0.4, [np.cos(turn), np.sin(turn), 0.0]) * rng.uniform(0.3, 0.9)
        return _PlacedBody(body, place(rotations(cameras.UP, turn + s * rng.uniform(-0.8, 0.8)), path), body.action)
    if rng.random() < (0.07 if n == 0 else 0.3):
        return _PlacedBody(body, *_enter_or_leave(rng, start, num_frames, turn, n))
    return _PlacedBody(body, *move(rng, body, start, num_frames, 0.6 if kind == "crowd" else 1.1, setup.floating))


def _enter_or_leave(
    rng: np.random.Generator, start: np.ndarray, num_frames: int, turn: float, n: int
) -> tuple[np.ndarray, str]:
    """Sample a long straight path, on which the body may enter or leave the frame; return matrices and an action."""
    s = np.linspace(0, 1, num_frames)
    offset = np.array([np.cos(turn), np.sin(turn), 0.0]) * rng.uniform(2.0, 3.4)
    entering = n > 0 and rng.random() < 0.5
    path = start + np.outer(s - 1.0 if entering else s, offset)
    m = place(rotations(cameras.UP, np.full(num_frames, turn)), path)
    return m, str(rng.choice(["coming in", "entering"] if entering else ["moving away", "leaving"]))


def _freeze(body: Body) -> None:
    """Keep a body in its pose of the first frame."""
    for part in body.parts:
        part.matrices = np.broadcast_to(part.matrices[:1], part.matrices.shape)
        if part.deformed is not None:
            part.deformed = np.broadcast_to(part.deformed[:1], part.deformed.shape)
    body.action = ""


def _is_framed(placed: list[_PlacedBody], view: _View, setup: _Setup, strict: bool) -> bool:
    """Return whether the main body is well inside the first frame, large enough, not hidden, and stays in view."""
    poses, size = view.world_to_camera, np.array(setup.size)
    is_jointed = len(placed[0].body.parts) > 1
    low, high = (0.38, 0.75) if is_jointed else (0.24, 0.62)
    for t, margin in ((0, 0.45 if is_jointed else 0.55), (len(poses) // 2, 0.1), (-1, 0.0)):
        uv, z, reach = _project_body(placed[0], view, t)
        if z < 1.3 * placed[0].body.radius:
            return False
        if t == 0 and not size[1] * low * (0.6 if setup.kind == "crowd" else 1.0) < reach < size[1] * high:
            return False
        if np.any(uv < margin * reach) or np.any(uv > size - margin * reach):
            return False
    if not strict:
        return True
    uv, z, reach = _project_body(placed[0], view, 0)
    num_visible = 0
    for other in placed[1:]:
        at, far, radius = _project_body(other, view, 0)
        if far < other.body.radius:
            return False
        if far < z and np.linalg.norm(at - uv) < 0.6 * radius + 0.35 * reach:
            return False
        if _collide(placed[0], other):
            return False
        num_visible += bool(np.all(at > 0) and np.all(at < size))
    return num_visible >= 0.5 * (len(placed) - 1)


def _collide(one: _PlacedBody, other: _PlacedBody) -> bool:
    """Return whether two bodies roughly pass through each other."""
    apart = np.linalg.norm(one.matrices[:, :3, 3] - other.matrices[:, :3, 3], axis=1)
    return bool(apart.min() < 0.5 * (one.body.radius + other.body.radius))


def _project_body(placed: _PlacedBody, view: _View, t: int) -> tuple[np.ndarray, float, float]:
    """Return the pixel [2] and depth of a body's origin at frame `t`, and the body's radius in pixels."""
    m, k = view.world_to_camera[t], view.intrinsics[t]
    x = m[:3, :3] @ placed.matrices[t, :3, 3] + m[:3, 3]
    z = float(max(x[2], 1e-3))
    return k[:2, :2] @ x[:2] / z + k[:2, 2], float(x[2]), float(k[0, 0] / z * placed.body.radius)
