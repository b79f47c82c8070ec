# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated scenes seen by several fixed cameras: a grid of cells, one for each camera and frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trackshade.control.raster import Buffers, draw, to_screen
from trackshade.core.colors import srgb_to_linear
from trackshade.shot import Shot
from trackshade.shot.cameras import unroll_cameras
from trackshade_lab.scenes import shading
from trackshade_lab.scenes.build import build_scene
from trackshade_lab.scenes.clip import FrameRenderer, Split, clip_rng, sample_kind
from trackshade_lab.scenes.description import Scene, scene_shot

CLAY = 0.4
_ATTEMPTS = 24
_LEAST_SHARE = 0.02  # of every camera's pixels that show the main body in the first and in the last frame
_STREAM = 5  # of the seed's random numbers


@dataclass(frozen=True, eq=False)
class MultiviewScene:
    """A scene and V fixed cameras around it.

    Attributes:
        scene: the scene, F frames of it. Its own camera is not used.
        size: (width, height) of the cells, pixels.
        cameras: [V, 4, 4] world to camera, OpenCV axes.
        intrinsics: [3, 3] of all cameras, pixels.
        span: angle between the first camera and the last, degrees.
    """

    scene: Scene
    size: tuple[int, int]
    cameras: np.ndarray
    intrinsics: np.ndarray
    span: float

    @property
    def num_views(self) -> int:
        """Number of cameras V."""
        return len(self.cameras)

    @property
    def num_frames(self) -> int:
        """Number of frames F."""
        return len(self.scene.world_to_camera)

    @cached_property
    def captured(self) -> Shot:
        """The scene as a shot of F samples with V cameras."""
        base = scene_shot(self.scene, self.size)
        cameras = [
            replace(
                base.camera,
                name=f"camera {number}",
                sources=(f"camera {number}",) * self.num_frames,
                world_to_camera=np.tile(matrix, (self.num_frames, 1, 1)),
                intrinsics=np.tile(self.intrinsics, (self.num_frames, 1, 1)),
            )
            for number, matrix in enumerate(self.cameras)
        ]
        return replace(base, camera=cameras[0], more_cameras=tuple(cameras[1:]))

    @cached_property
    def shot(self) -> Shot:
        """The scene as a shot with a sample for each cell; sample `f * V + v` is frame f through camera v."""
        return unroll_cameras(self.captured)

    @cached_property
    def _renderer(self) -> FrameRenderer:
        return FrameRenderer(self.scene, self.size)

    def render(self, view: int, frame: int) -> np.ndarray:
        """Render a cell, [H, W, 3] uint8. Cells of one frame one after the other are faster."""
        out = np.empty((self.size[1], self.size[0], 3), np.uint8)
        self._renderer.render(frame, self.cameras[view], self.intrinsics, out)
        return out

    @cached_property
    def clay(self) -> np.ndarray:
        """[V, F, H, W, 3] float32 linear light: all cells with every surface matt and of albedo `CLAY`."""
        matt = np.zeros(shading.MATERIAL_SIZE, np.float32)
        matt[shading.BASE : shading.TEXTURE], matt[shading.TEXTURE] = CLAY, shading.PLAIN
        parts = tuple(replace(part, material=matt) for part in self.scene.parts)
        renders = replace(self, scene=replace(self.scene, parts=parts)).render_all()
        return srgb_to_linear(renders / 255).astype(np.float32)

    def render_all(self) -> np.ndarray:
        """Render all cells, [V, F, H, W, 3] uint8."""
        columns = [[self.render(view, frame) for view in range(self.num_views)] for frame in range(self.num_frames)]
        return np.stack([np.stack(column) for column in columns], axis=1)


def generate_multiview(
    seed: int,
    size: tuple[int, int] = (144, 96),
    num_views: int = 5,
    num_frames: int = 9,
    span: tuple[float, float] = (90.0, 120.0),
    *,
    split: Split = "train",
    kind: str | None = None,
) -> MultiviewScene:
    """Generate the scene of a seed, with cameras on an arc around its main body that all see it.

    Args:
        seed: 0 or more.
        size: width and height of the cells, pixels.
        num_views: number of cameras.
        num_frames: number of frames.
        span: limits of the angle between the first camera and the last, degrees.
        split: "train" or "held-out", which never share random numbers.
        kind: one of `clip_kinds(split)`; random if None.
    """
    found = None
    for attempt in range(_ATTEMPTS):
        rng = clip_rng(seed, split, _STREAM, attempt)
        scene = build_scene(rng, sample_kind(rng, split, kind), size, num_frames)
        angle = float(rng.uniform(*span))
        found = MultiviewScene(scene, size, _arc(scene, num_views, np.radians(angle)), scene.intrinsics[0], angle)
        if _is_seen(found):
            break
    assert found is not None
    return found


def _arc(scene: Scene, count: int, span: float) -> np.ndarray:
    """Return cameras [V, 4, 4] on an arc around the main body, with the scene's first camera in its middle."""
    vertices = np.unique(scene.triangles[(scene.body == 1)[scene.part]])
    center = scene.world[:, vertices].mean(axis=(0, 1)).astype(np.float64)
    cameras = []
    for angle in np.linspace(-span / 2, span / 2, count):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(4)
        turn[:2, :2] = [[c, s], [-s, c]]  # moves the world by -angle, which is the camera by +angle
        turn[:3, 3] = center - turn[:3, :3] @ center
        cameras.append(scene.world_to_camera[0] @ turn)
    return np.stack(cameras)


def _is_seen(multiview: MultiviewScene) -> bool:
    """Return whether every camera sees the main body in the first frame and in the last."""
    scene, buffers = multiview.scene, Buffers.empty(multiview.size)
    is_main = np.append(scene.body[scene.part] == 1, False)  # triangle -1 is the background
    for t in (0, multiview.num_frames - 1):
        for camera in multiview.cameras:
            buffers.clear()
            draw(buffers, to_screen(scene.world[t], camera, multiview.intrinsics, False), scene.triangles, 0, 0.02)
            if is_main[buffers.triangle].mean() < _LEAST_SHARE:
                return False
    return True
