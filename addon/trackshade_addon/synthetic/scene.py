# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole synthetic scene from a seed: which bodies, where, how they and the camera move, and who renders it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from . import bodies, jointed
from .bodies import Body, Take, key
from .cameras import View, add_camera, draw_view
from .motion import Path, move, rest, spin, walk
from .stage import build_light, build_stage

ENGINES = ("workbench", "eevee", "cycles")
_SHARES = (0.5, 0.03, 0.47)  # Cycles is the quicker one without graphics hardware
_STREAMS = {"train": 0, "held-out": 1}
KINDS = {"static-camera": 0.26, "moving-camera": 0.34, "frozen-time": 0.1, "spin": 0.16, "crowd": 0.14}


@dataclass(frozen=True)
class Told:
    """What a caption may tell, as `trackshade_lab.scenes.captions` takes it."""

    kind: str
    bodies: tuple[tuple[str, str], ...]
    surroundings: str
    camera: str
    moving: bool
    color: str | None


def build_scene(
    seed: int, split: str, frames: int, size: tuple[int, int], fps: int = 8, engine: str | None = None
) -> Told:
    """Replaces what is open by the scene of a seed: frames 1..`frames`, rendered at `size` (w, h) by its engine.

    `split`: "train" or "held-out", two streams that never meet. `engine`: of ENGINES, else drawn.
    """
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)
    rng = np.random.default_rng([_STREAMS[split], seed])
    drawn = str(rng.choice(ENGINES, p=_SHARES))
    engine = engine or drawn
    scene = bpy.context.scene
    scene.name = f"{split} {seed}"
    scene.frame_start, scene.frame_end = 1, frames
    scene.render.fps = fps
    scene.render.resolution_x, scene.render.resolution_y = size
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    take = Take(rng, frames, float(fps), flat=engine == "workbench")
    cast = _cast(take, kind)
    moving = kind in ("moving-camera", "frozen-time") or (kind == "crowd" and rng.random() < 0.5)
    paths, view = _arrange(take, kind, cast, moving, size[0] / size[1])
    for body, path in zip(cast, paths, strict=True):
        body.root.rotation_mode = "QUATERNION"
        key(body.root, "location", path.places)
        key(body.root, "rotation_quaternion", path.quaternions())
    add_camera(view)
    towards = view.eyes[0] - view.aims[0]
    azimuth = float(np.arctan2(towards[1], towards[0]))
    surroundings = build_stage(rng, take.flat, azimuth)
    build_light(rng, azimuth)
    if kind == "frozen-time":
        _freeze()
    _render_with(rng, engine)
    scene.frame_set(1)
    acting = tuple(
        (body.words, "" if kind == "frozen-time" else path.words or body.action)
        for body, path in zip(cast, paths, strict=True)
    )
    return Told(kind, acting, surroundings, view.words, moving, cast[0].color)


def _cast(take: Take, kind: str) -> list[Body]:
    """The bodies of a scene, the main one first."""
    rng = take.rng
    count = int(rng.integers(4, 7)) if kind == "crowd" else int(rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.2, 0.15]))
    makers: dict[str, Any] = {
        "solid": bodies.solid,
        "deforming": bodies.deforming,
        "rope": bodies.rope,
        "figure": jointed.figure,
        "animal": jointed.animal,
        "vehicle": jointed.vehicle,
        "windmill": jointed.windmill,
        "beads": jointed.beads,
    }
    made = []
    for number in range(count):
        scale = rng.uniform(0.85, 1.3) if number == 0 else rng.uniform(0.45, 0.95)
        if kind == "crowd":
            scale = rng.uniform(0.5, 0.75)
        name = "solid"
        if kind != "spin" or number:
            name = str(rng.choice(list(makers), p=[0.46, 0.12, 0.05, 0.13, 0.07, 0.1, 0.03, 0.04]))
        made.append(makers[name](take, float(scale)))
    return made


def _arrange(take: Take, kind: str, cast: list[Body], moving: bool, aspect: float) -> tuple[list[Path], View]:
    """Places, motions and a camera; tried until the main body is well in the frame."""
    for _ in range(40):
        paths, view = _arrangement(take, kind, cast, moving, aspect)
        if _framed(cast[0], paths[0], view, aspect) and all(
            (np.linalg.norm(view.eyes - path.places, axis=1) > 1.3 * body.radius).all()
            for body, path in zip(cast, paths, strict=True)
        ):
            break
    else:
        paths, view = _arrangement(take, kind, cast, moving, aspect)
    for body, path in zip(cast, paths, strict=True):
        if body.roll is not None:
            steps = np.linalg.norm(np.diff(path.places, axis=0), axis=1)
            body.roll(np.concatenate([[0.0], np.cumsum(steps)]))
    return paths, view


def _arrangement(take: Take, kind: str, cast: list[Body], moving: bool, aspect: float) -> tuple[list[Path], View]:
    starts = _places(take.rng, cast)
    paths = [_path(take, kind, n, body, start) for n, (body, start) in enumerate(zip(cast, starts, strict=True))]
    target = 0.6 * starts[0] + 0.4 * np.mean(starts, axis=0)
    apart = max(float(np.linalg.norm(start - target)) for start in starts)
    extent = max(cast[0].radius, 0.55 * (apart + cast[0].radius)) * take.rng.uniform(0.75, 1.35)
    return paths, draw_view(take.rng, take.frames, take.fps, target, extent, aspect, moving)


def _framed(body: Body, path: Path, view: View, aspect: float) -> bool:
    """Whether a body is well inside the first frame, of a good size, and stays largely in view."""
    seen, depth = view.seen(path.places, aspect)
    share = 2 * view.lens / 36.0 * body.radius / depth
    inside = (np.abs(seen) < 0.9).all(axis=1)
    return bool((np.abs(seen[0]) < 0.6).all() and inside.mean() > 0.7 and 0.2 < share[0] < 0.95)


def _places(rng: np.random.Generator, cast: list[Body]) -> list[np.ndarray]:
    """On the ground, clear of each other where possible."""
    starts: list[np.ndarray] = []
    for body in cast:
        place = np.zeros(3)
        for attempt in range(12):
            spread = 0.25 if not starts else 0.7 + 0.1 * attempt + 0.12 * len(starts)
            place = np.array([*rng.uniform(-spread, spread, 2), body.height])
            clear = (
                np.linalg.norm((place - other)[:2]) > 0.75 * (body.radius + near.radius)
                for other, near in zip(starts, cast, strict=False)
            )
            if all(clear):
                break
        starts.append(place)
    return starts


def _path(take: Take, kind: str, number: int, body: Body, start: np.ndarray) -> Path:
    rng, frames = take.rng, take.frames
    turn = float(rng.uniform(0, 2 * np.pi))
    if kind == "frozen-time":
        return rest(start, frames, turn)
    if kind == "spin" and number == 0:
        return spin(rng, start, frames, body.radius)
    if body.walks:
        return walk(rng, start, frames, rng.uniform(0.6, 1.4))[0]
    if body.action and rng.random() < 0.65:
        return rest(start, frames, turn)
    if number and kind != "crowd" and rng.random() < 0.3:
        return rest(start, frames, turn)
    path = move(rng, start, frames, body.height, body.radius)
    return Path(path.places, path.axis, path.angles, path.first, body.action) if body.action else path


def _freeze() -> None:
    """Stops everything but the camera where it is in the first frame."""
    scene = bpy.context.scene
    scene.frame_set(1)
    camera = scene.camera
    for thing in scene.objects:
        if thing != camera:
            thing.animation_data_clear()
            if thing.data is not None and thing.data.animation_data is not None:
                thing.data.animation_data_clear()
        for modifier in thing.modifiers:
            if modifier.type == "WAVE":
                modifier.speed, modifier.time_offset = 0.0, 0.0


def _render_with(rng: np.random.Generator, engine: str) -> None:
    """The engine, its quality and its look."""
    scene = bpy.context.scene
    view = scene.view_settings
    view.view_transform = str(rng.choice(["Standard", "AgX", "Filmic"], p=[0.5, 0.35, 0.15]))
    if engine == "cycles":
        scene.render.engine = "CYCLES"
        scene.cycles.device, scene.cycles.use_denoising = "CPU", False
        scene.cycles.samples = int(rng.choice([8, 12, 16]))
        scene.cycles.use_adaptive_sampling, scene.cycles.max_bounces = False, 2
        # Of the sky's light: drawn anew for each frame, at its usual size longer than the frame itself.
        scene.world.cycles.sampling_method, scene.world.cycles.sample_map_resolution = "MANUAL", 64
        scene.cycles.use_animated_seed = bool(rng.random() < 0.5)
    elif engine == "eevee":
        kinds = scene.render.bl_rna.properties["engine"].enum_items.keys()
        scene.render.engine = next(k for k in ("BLENDER_EEVEE_NEXT", "BLENDER_EEVEE") if k in kinds)
        scene.eevee.taa_render_samples = 8
    else:
        scene.render.engine = "BLENDER_WORKBENCH"
        view.view_transform = "Standard"
        scene.display.render_aa = "8"
        shading = scene.display.shading
        shading.light = str(rng.choice(["STUDIO", "MATCAP", "FLAT"], p=[0.7, 0.2, 0.1]))
        shading.color_type = "TEXTURE"
        shading.show_shadows = bool(rng.random() < 0.6 and shading.light != "FLAT")
        shading.shadow_intensity = float(rng.uniform(0.2, 0.6))
        shading.show_cavity = bool(rng.random() < 0.3)
        shading.show_object_outline = bool(rng.random() < 0.2)
        shading.show_specular_highlight = bool(rng.random() < 0.7)
        scene.display.light_direction = tuple(rng.uniform((-1, -1, 0.3), (1, 1, 1)))
