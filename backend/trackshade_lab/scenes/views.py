# SPDX-License-Identifier: GPL-3.0-or-later
"""One procedural scene seen by several cameras at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trackshade_lab.scenes import cameras
from trackshade_lab.scenes.captions import caption
from trackshade_lab.scenes.clip import Clip, Split, clip_rng, draw_kind, mesh_rule, render_clip
from trackshade_lab.scenes.scene import FPS, Scene, build_scene

_VIEW_KEY = 0x7677  # a stream of its own, so that the first view is the clip of the seed


def generate_views(
    seed: int,
    count: int,
    size: tuple[int, int] = (144, 96),
    frames: int = 17,
    kind: str | None = None,
    *,
    canonical: bool = False,
    split: Split = "train",
    points: int = 0,
) -> list[Clip]:
    """The scene of `seed` seen by `count` synchronised cameras, the first of which gives `generate_clip(seed)`.

    Clips keep their scenes, which differ in the camera and the caption only. Tracking colors are those of each
    camera's own first frame; with `canonical` all have those of the first camera's, so that a surface point has
    one color in all views. Raises ValueError for fewer than one camera, or as `generate_clip`.
    """
    if count < 1:
        raise ValueError(f"{count} cameras: one or more")
    rng = clip_rng(seed, split)
    scene = build_scene(rng, draw_kind(rng, split, kind), size, frames)
    extra = np.random.default_rng(np.random.SeedSequence([_VIEW_KEY, seed, len(split)]))
    scenes = [scene, *(_other_view(extra, scene, size, n) for n in range(1, count))]
    rule = mesh_rule(scene, size) if canonical else None
    return [replace(render_clip(s, size, points, rng, rule), scene=s) for s in scenes]


def _other_view(rng: np.random.Generator, scene: Scene, size: tuple[int, int], n: int) -> Scene:
    """The scene through another camera: to one side of the first, still or moving, the main body in its frame."""
    frames = len(scene.world)
    main = np.unique(scene.triangles[scene.body[scene.part] == 1])
    bodies = np.unique(scene.triangles[scene.body[scene.part] > 0])
    center = scene.world[0, main].mean(axis=0, dtype=np.float64)
    target = 0.7 * center + 0.3 * scene.world[0, bodies].mean(axis=0, dtype=np.float64)
    m = scene.world_to_camera[0]
    offset = -m[:3, :3].T @ m[:3, 3] - target
    distance = float(np.linalg.norm(offset))
    azimuth, elevation = float(np.arctan2(offset[1], offset[0])), float(np.arcsin(offset[2] / distance))
    floating = not np.any(scene.body == 0)
    found = scene
    for _ in range(20):
        v = cameras.Viewpoint(
            target,
            distance * rng.uniform(0.85, 1.25),
            # Neither behind walls nor where the first one is.
            azimuth + np.radians(rng.uniform(20, 60)) * (-1) ** n,
            float(np.clip(elevation + rng.uniform(-0.3, 0.3), -0.5 if floating else 0.08, 0.9)),
            float(scene.intrinsics[0, 0, 0]) * rng.uniform(0.9, 1.15),
            -99.0 if floating else 0.15,
        )
        moving = bool(rng.random() < 0.5)
        poses, lens, words = cameras.camera(rng, frames, (frames - 1) / FPS, v, moving)
        intrinsics = scene.intrinsics.copy()
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = lens
        told = replace(scene.told, camera=words, moving=moving)
        text = caption(rng, told)
        found = replace(
            scene, world_to_camera=poses, intrinsics=intrinsics, told=told, caption=text, color=told.color_in(text)
        )
        if all(_in_frame(scene.world[t, main], poses[t], intrinsics[t], size) for t in (0, frames // 2, -1)):
            break
    return found


def _in_frame(world: np.ndarray, m: np.ndarray, k: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether most of a body is seen by a camera."""
    x = world @ m[:3, :3].T + m[:3, 3]
    uv = x[:, :2] / np.maximum(x[:, 2:], 1e-3) * k[0, 0] + k[:2, 2]
    return bool(((x[:, 2] > 0.1) & np.all((uv > 0) & (uv < size), axis=1)).mean() > 0.6)
