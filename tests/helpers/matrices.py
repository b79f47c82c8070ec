# SPDX-License-Identifier: GPL-3.0-or-later
"""Shots with several cameras, and pictures of their cells with known colors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.helpers import propagation_reference as reference
from trackshade.core.colors import linear_to_srgb
from trackshade.shot import Shot
from trackshade.shot.cameras import unroll_cameras


def seen_by(shot: Shot, *moves: tuple[float, float, float]) -> Shot:
    """The shot with more cameras, each moved by so many metres along its own axes."""
    camera = shot.camera
    more = []
    for number, move in enumerate(moves):
        shift = np.eye(4)
        shift[:3, 3] = -np.array(move)
        more.append(replace(camera, name=f"Beside {number}", world_to_camera=shift @ camera.world_to_camera))
    return replace(shot, more_cameras=tuple(more))


def box_matrix(frames: int = 2, **options: bool) -> Shot:
    """A box that slides over a floor, seen by three cameras."""
    return seen_by(reference.box_over_floor(frames, **options), (0.5, 0, 0), (-0.4, -0.3, 0))


def painted_cells(shot: Shot, texture: reference.Texture = reference.smooth_texture) -> list[np.ndarray]:
    """The picture of each cell, [H, W, 3] uint8, painted with a texture by rays."""
    unrolled = unroll_cameras(shot)
    images = (reference.paint(unrolled, t, texture, shot.size) for t in range(len(unrolled.frame_numbers)))
    return [np.rint(255 * np.clip(linear_to_srgb(image), 0, 1)).astype(np.uint8) for image in images]


def levels_of(texture: reference.Texture, mesh: int, points: np.ndarray) -> np.ndarray:
    """The 8-bit values [N, 3] that a texture has at object-space points of a mesh in its first sample."""
    return 255 * linear_to_srgb(texture(mesh, points))
