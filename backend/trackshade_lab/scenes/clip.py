# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips: a scene drawn by the numpy renderer, with its tracking video and its caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from trackshade.control.raster import Buffers, PaintMode, draw, to_screen
from trackshade.control.signals import control_signal
from trackshade.shot.track_colors import MeshRule, inverse_distance, inverse_range
from trackshade_lab.scenes.build import KINDS, UNSEEN_KINDS, build_scene
from trackshade_lab.scenes.description import Scene, scene_shot
from trackshade_lab.scenes.shading import CURVE, nearest_around, shade, vertex_normals

Split = Literal["train", "held-out"]
# Mixed into the seed, so that splits, and further streams of a split, use different random numbers at any seed.
_SPLIT_KEY = {"train": 0x7472, "held-out": 0x686F}
_SHADOW_SIZE, _SHADOW_REACH = 128, 3.6  # texels, metres from the center to the edge


@dataclass(frozen=True)
class Clip:
    """A rendered scene."""

    video: np.ndarray  # [T, H, W, 3] uint8 sRGB frames
    tracking: np.ndarray  # [T, H, W, 3] uint8 tracking video by the mesh rule, or another control signal
    caption: str  # one sentence about the scene
    kind: str  # kind of scene; see `clip_kinds`
    # [T, H, W] int16: -1 background, 0 ground and walls, 1 the main body, 2.. the other bodies.
    object_index: np.ndarray
    scene: Scene


def clip_kinds(split: Split) -> dict[str, float]:
    """Return the kinds of scenes of a split and their probabilities.

    Held-out clips have additional kinds, with shapes, textures and camera paths that are never trained on.
    """
    if split == "train":
        return dict(KINDS)
    known = 1.0 - sum(UNSEEN_KINDS.values())
    return {**{kind: known * share for kind, share in KINDS.items()}, **UNSEEN_KINDS}


def generate_clip(
    seed: int,
    size: tuple[int, int] = (144, 96),
    num_frames: int = 17,
    kind: str | None = None,
    *,
    split: Split = "train",
    control: str = "mesh",
) -> Clip:
    """Generate the clip of a seed, the same on every machine with the same version of numpy.

    Args:
        seed: 0 or more.
        size: Width and height, pixels.
        num_frames: Number of frames.
        kind: One of `clip_kinds(split)`; random if None.
        split: "train" or "held-out", which never share random numbers.
        control: Control signal to use in place of the tracking video; see `control.signals`.

    Raise ValueError for an unknown kind or split, and UsageError for an unknown control signal.
    """
    rng = clip_rng(seed, split)
    scene = build_scene(rng, sample_kind(rng, split, kind), size, num_frames)
    clip = render_clip(scene, size)
    if control != "mesh":
        clip = replace(clip, tracking=control_signal(scene_shot(scene, size), control, seed))
    return clip


def clip_rng(seed: int, split: Split, *stream: int) -> np.random.Generator:
    """Return the random numbers of a clip, or of a further stream for the same seed.

    Raise ValueError for an unknown split.
    """
    if split not in _SPLIT_KEY:
        raise ValueError(f"unknown split {split!r}: train or held-out")
    return np.random.default_rng(np.random.SeedSequence([_SPLIT_KEY[split], seed, *stream]))


def sample_kind(rng: np.random.Generator, split: Split, kind: str | None) -> str:
    """Return `kind`, or a random one if it is None. Raise ValueError if the split has no such kind."""
    kinds = clip_kinds(split)
    sampled = str(rng.choice(list(kinds), p=np.array(list(kinds.values())) / sum(kinds.values())))
    if kind is not None and kind not in kinds:
        raise ValueError(f"unknown kind {kind!r} of split {split!r}: {', '.join(kinds)}")
    return kind or sampled


class FrameRenderer:
    """Renders frames of a scene through any camera. Its buffers are reused, so every thread needs its own instance."""

    def __init__(self, scene: Scene, size: tuple[int, int]) -> None:
        self.scene, self.size = scene, size
        self._buffers = Buffers.empty((2 * size[0], 2 * size[1]))
        self._normals = np.empty_like(scene.rest)
        self._vertices = np.empty((len(scene.rest), 4))
        self._frame = -1
        self._shadow: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def render(
        self,
        t: int,
        camera: np.ndarray,  # [4, 4] world to camera, OpenCV axes
        intrinsics: np.ndarray,  # [3, 3] pixels
        out: np.ndarray,  # [H, W, 3] uint8, written
    ) -> None:
        """Render frame `t` of the scene through a camera."""
        scene, fine = self.scene, np.diag([2.0, 2.0, 1.0]) @ intrinsics
        if t != self._frame or self._shadow is None:  # light does not depend on the camera
            vertex_normals(scene.world[t], scene.triangles, self._normals)
            self._shadow, self._frame = _shadow(scene, t), t
        shadow, nearest, light = self._shadow
        to_screen(scene.world[t], camera, fine, False, out=self._vertices)
        self._buffers.clear()
        draw(self._buffers, self._vertices, scene.triangles, 0, 0.02)
        eye = -camera[:3, :3].T @ camera[:3, 3]
        rays = camera[:3, :3].T @ _inverse(fine)
        shade(
            self._buffers.triangle, self._vertices, scene.world[t], self._normals, scene.rest, scene.triangles,
            scene.part, scene.materials, scene.sun, scene.sun_color, scene.ambient, shadow, nearest, light,
            scene.softness, eye, rays, intrinsics[0, 0], scene.sky, CURVE, out,
        )  # fmt: skip


def render_clip(scene: Scene, size: tuple[int, int]) -> Clip:
    """Render a scene that was built for frames of `size` (width, height)."""
    num_frames, (w, h) = len(scene.world_to_camera), size
    m = scene.world_to_camera[0]
    limits = inverse_range(inverse_distance(scene.world[0] @ m[:3, :3].T + m[:3, 3]))
    rule = MeshRule(m, scene.intrinsics[0], False, size, limits)
    video = np.empty((num_frames, h, w, 3), np.uint8)
    tracking = np.zeros((num_frames, h, w, 3), np.uint8)
    index = np.empty((num_frames, h, w), np.int16)
    renderer, coarse = FrameRenderer(scene, size), Buffers.empty(size)
    body = np.append(scene.body[scene.part], -1).astype(np.int16)  # triangle -1 is the background
    vertices = np.empty((len(scene.rest), 4))
    for t in range(num_frames):
        camera, intrinsics = scene.world_to_camera[t], scene.intrinsics[t]
        renderer.render(t, camera, intrinsics, video[t])
        to_screen(scene.world[t], camera, intrinsics, False, out=vertices)
        coarse.clear()
        paint = PaintMode.by_rule(rule, scene.world[0], np.eye(4), tracking[t])
        draw(coarse, vertices, scene.triangles, 0, 0.02, paint=paint)
        index[t] = body[coarse.triangle]
    return Clip(video, tracking, scene.caption, scene.kind, index, scene)


def _inverse(k: np.ndarray) -> np.ndarray:
    """Invert intrinsics [3, 3] without skew."""
    fx, fy = 1.0 / k[0, 0], 1.0 / k[1, 1]
    return np.array([[fx, 0.0, -k[0, 2] * fx], [0.0, fy, -k[1, 2] * fy], [0.0, 0.0, 1.0]])


def _shadow(scene: Scene, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render the shadow map of the bodies at frame `t`; the stage casts no shadows.

    Returns:
        Depth [S, S] from the sun, its minimum around each texel [S, S], and world to texels and depth [3, 4].
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


def contact_sheet(clips: Sequence[Clip], columns: int = 1, step: int = 2) -> Image.Image:
    """Show every `step`-th frame of the clips with captions, each video above its tracking video."""
    _, h, w, _ = clips[0].video.shape
    shown = range(0, len(clips[0].video), step)
    cell = (len(shown) * w + 8, 2 * h + 18)
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (cell[0] * columns, cell[1] * rows), (30, 30, 32))
    pen = ImageDraw.Draw(sheet)
    for n, clip in enumerate(clips):
        x, y = n % columns * cell[0], n // columns * cell[1]
        pen.text((x + 2, y + 2), f"{clip.kind}: {clip.caption}"[: cell[0] // 6], fill=(220, 220, 220))
        for row, frames in enumerate((clip.video, clip.tracking)):
            strip = np.concatenate([frames[t] for t in shown], axis=1)
            sheet.paste(Image.fromarray(strip), (x, y + 15 + row * h))
    return sheet
