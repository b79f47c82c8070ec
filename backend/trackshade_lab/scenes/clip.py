# SPDX-License-Identifier: GPL-3.0-or-later
"""One procedural clip: a shaded video, its tracking video, a caption, and what is true about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trackshade.control.raster import Buffers, PaintMode, barycentric, draw, to_screen
from trackshade.control.signals import control_signal
from trackshade.shot.track_colors import MeshRule, inverse_distance, inverse_range
from trackshade_lab.scenes.scene import KINDS, UNSEEN_KINDS, Scene, build_scene
from trackshade_lab.scenes.shading import CURVE, nearest_around, shade, vertex_normals
from trackshade_lab.scenes.shots import scene_shot

Split = Literal["train", "held-out"]
# Mixed into the seed, so that the two splits draw from streams that never meet, whatever the seeds.
_SPLIT_KEY = {"train": 0x7472, "held-out": 0x686F}
_SHADOW_SIZE, _SHADOW_REACH = 128, 3.6  # texels, metres


@dataclass(frozen=True)
class Clip:
    video: np.ndarray  # [T, H, W, 3] u8 sRGB
    tracking: np.ndarray  # [T, H, W, 3] u8, the mesh rule, or another control signal
    caption: str
    kind: str
    object_index: np.ndarray  # [T, H, W] i16: -1 background, 0 ground and walls, 1 the main body, 2.. the others
    points: np.ndarray  # [T, N, 2] f32 px, true places of surface points seen in the first frame
    visible: np.ndarray  # [T, N] bool
    scene: Scene | None = None  # what was drawn, where it was asked for


def clip_kinds(split: Split) -> dict[str, float]:
    """The kinds of a split and how often they come. Held-out clips have more: shapes, textures and camera paths never
    trained on.
    """
    if split == "train":
        return dict(KINDS)
    known = 1.0 - sum(UNSEEN_KINDS.values())
    return {**{kind: known * often for kind, often in KINDS.items()}, **UNSEEN_KINDS}


def generate_clip(
    seed: int,
    size: tuple[int, int] = (144, 96),
    frames: int = 17,
    kind: str | None = None,
    *,
    split: Split = "train",
    points: int = 0,
    keep_scene: bool = False,
    control: str = "mesh",
) -> Clip:
    """Make the clip of `seed` (0 or more), the same on every machine with the same numpy.

    `size` (w, h) in pixels; `kind` one of `clip_kinds(split)`, else drawn; `points` surface points visible
    in the first frame are followed; `keep_scene` keeps the scene with the clip; `control` is the signal that stands for
    the tracking video (see `control.signals`), to learn what each is worth. Raises ValueError for an unknown kind or
    split, UsageError for an unknown control signal.
    """
    rng = clip_rng(seed, split)
    scene = build_scene(rng, draw_kind(rng, split, kind), size, frames)
    clip = render_clip(scene, size, points, rng)
    if control != "mesh":
        clip = replace(clip, tracking=control_signal(scene_shot(scene, size), control, seed))
    return replace(clip, scene=scene) if keep_scene else clip


def clip_rng(seed: int, split: Split) -> np.random.Generator:
    """The stream of random numbers that a clip is made from. Raises ValueError for an unknown split."""
    if split not in _SPLIT_KEY:
        raise ValueError(f"unknown split {split!r}: train or held-out")
    return np.random.default_rng(np.random.SeedSequence([_SPLIT_KEY[split], seed]))


def draw_kind(rng: np.random.Generator, split: Split, kind: str | None) -> str:
    """`kind`, or one that is drawn. Raises ValueError where the split has no such kind."""
    kinds = clip_kinds(split)
    drawn = str(rng.choice(list(kinds), p=np.array(list(kinds.values())) / sum(kinds.values())))
    if kind is not None and kind not in kinds:
        raise ValueError(f"unknown kind {kind!r} of split {split!r}: {', '.join(kinds)}")
    return kind or drawn


def render_clip(
    scene: Scene, size: tuple[int, int], points: int, rng: np.random.Generator, rule: MeshRule | None = None
) -> Clip:
    """Draw a scene. The tracking video has the colors of `rule`, by default of the scene's own first frame."""
    frames, (w, h) = len(scene.world), size
    rule = rule or mesh_rule(scene, size)
    still = np.eye(4)
    video = np.empty((frames, h, w, 3), np.uint8)
    tracking = np.zeros((frames, h, w, 3), np.uint8)
    index = np.empty((frames, h, w), np.int16)
    tracks, seen = np.zeros((frames, points, 2), np.float32), np.zeros((frames, points), bool)
    anchors = None
    fine, coarse = Buffers.empty((2 * w, 2 * h)), Buffers.empty(size)
    normals = np.empty_like(scene.rest)
    body = np.append(scene.body[scene.part], -1).astype(np.int16)  # triangle -1 is the background
    vertices = np.empty((len(scene.rest), 4))
    double = np.diag([2.0, 2.0, 1.0])
    for t in range(frames):
        camera, intrinsics = scene.world_to_camera[t], scene.intrinsics[t]
        to_screen(scene.world[t], camera, double @ intrinsics, False, out=vertices)
        fine.clear()
        draw(fine, vertices, scene.triangles, 0, 0.02)
        vertex_normals(scene.world[t], scene.triangles, normals)
        shadow, nearest, light = _shadow(scene, t)
        eye = -camera[:3, :3].T @ camera[:3, 3]
        rays = camera[:3, :3].T @ _inverse(double @ intrinsics)
        shade(
            fine.triangle, vertices, scene.world[t], normals, scene.rest, scene.triangles, scene.part, scene.materials,
            scene.sun, scene.sun_color, scene.ambient, shadow, nearest, light, scene.softness,
            eye, rays, intrinsics[0, 0], scene.sky, CURVE, video[t],
        )  # fmt: skip
        vertices[:, :2] *= 0.5
        coarse.clear()
        draw(
            coarse,
            vertices,
            scene.triangles,
            0,
            0.02,
            paint=PaintMode.by_rule(rule, scene.world[0], still, tracking[t]),
        )
        index[t] = body[coarse.triangle]
        if points:
            if anchors is None:
                anchors = _anchors(coarse, vertices, scene, points, rng)
            tracks[t], seen[t] = _follow(anchors, scene, t, coarse.depth)
    return Clip(video, tracking, scene.caption, scene.kind, index, tracks, seen)


def _inverse(k: np.ndarray) -> np.ndarray:
    """Of intrinsics without skew."""
    fx, fy = 1.0 / k[0, 0], 1.0 / k[1, 1]
    return np.array([[fx, 0.0, -k[0, 2] * fx], [0.0, fy, -k[1, 2] * fy], [0.0, 0.0, 1.0]])


def mesh_rule(scene: Scene, size: tuple[int, int]) -> MeshRule:
    """The coloring of a scene by its camera's first frame."""
    m = scene.world_to_camera[0]
    limits = inverse_range(inverse_distance(scene.world[0] @ m[:3, :3].T + m[:3, 3]))
    return MeshRule(m, scene.intrinsics[0], False, size, limits)


def _shadow(scene: Scene, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth `[S, S]` of the bodies (not of the stage) seen from the sun, the nearest around each texel, and world to
    texels and depth `[3, 4]`.
    """
    moving = scene.body[scene.part] > 0
    triangles = scene.triangles[moving]
    center = scene.world[0][triangles[:, 0]].mean(axis=0)
    forward = -scene.sun
    right = np.array([forward[1], -forward[0], 0.0]) / np.hypot(forward[0], forward[1])
    to_light = np.eye(4)
    to_light[:3, :3] = [right, np.cross(forward, right), forward]
    to_light[:3, 3] = -to_light[:3, :3] @ center + [0.0, 0.0, 50.0]
    scale = _SHADOW_SIZE / (2 * _SHADOW_REACH)
    k = np.array([[scale, 0, _SHADOW_SIZE / 2], [0, scale, _SHADOW_SIZE / 2], [0, 0, 1.0]])
    buffers = Buffers.empty((_SHADOW_SIZE, _SHADOW_SIZE))
    draw(buffers, to_screen(scene.world[t], to_light, k, True), triangles, 0)
    light = to_light[:3].copy()
    light[:2] *= scale
    light[:2, 3] += _SHADOW_SIZE / 2
    nearest = np.empty_like(buffers.depth)
    nearest_around(buffers.depth, int(np.ceil(scene.softness)) + 1, nearest)
    return buffers.depth, nearest, light


def _anchors(
    buffers: Buffers, vertices: np.ndarray, scene: Scene, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Surface points at random pixels of the first frame, four in five on moving bodies: vertices and
    weights [N, 3].
    """
    flat = buffers.triangle.ravel()
    on_body = np.flatnonzero((flat >= 0) & (scene.body[scene.part[flat]] > 0))
    on_stage = np.flatnonzero((flat >= 0) & (scene.body[scene.part[flat]] == 0))
    if len(on_body) == 0 or len(on_stage) == 0:
        on_body = on_stage = np.flatnonzero(flat >= 0)
    split = count - count // 5
    pixels = np.concatenate([rng.choice(on_body, split), rng.choice(on_stage, count - split)])
    return barycentric(buffers, pixels, vertices, scene.triangles)


def _follow(anchors, scene: Scene, t: int, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    corners, weights = anchors
    world = np.einsum("ni,nij->nj", weights, scene.world[t][corners])
    m, k = scene.world_to_camera[t], scene.intrinsics[t]
    camera = world @ m[:3, :3].T + m[:3, 3]
    z = np.maximum(camera[:, 2], 1e-3)
    pixels = (camera @ k.T)[:, :2] / z[:, None]
    h, w = depth.shape
    inside = (camera[:, 2] > 1e-3) & np.all((pixels >= 0) & (pixels < [w, h]), axis=1)
    j, i = (np.clip(np.floor(pixels[:, a]), 0, n - 1).astype(int) for a, n in ((0, w), (1, h)))
    # The nearest sample is up to half a pixel away: allow for the slope of the surface there.
    return pixels, inside & (z <= depth[i, j] * 1.03 + 0.03)
