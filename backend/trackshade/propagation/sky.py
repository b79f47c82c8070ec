# SPDX-License-Identifier: GPL-3.0-or-later
"""A panorama of the background, by direction: what no mesh covers, for directions that no picture shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from trackshade.control.compiling import kernel
from trackshade.core.colors import linear_to_srgb
from trackshade.propagation.fills.patch_match import blend_sources, patch_sources
from trackshade.propagation.fills.push_pull import push_pull
from trackshade.propagation.pictures import SurfacePicture, read
from trackshade.propagation.poses import Pose
from trackshade.shot import Shot

RIM = 4  # pixels of the panorama beside meshes, where a picture's outlines may lie on the background
HIGHEST = 720  # rows, from straight up to straight down
DETAIL = 0.015  # deviation from what is around it, sRGB-coded, from which on the background has a texture
_SURROUNDINGS = 0.02  # of the panorama's height
_DARK = 1e-3
_GUIDE = 0.1  # see `patch_sources`


def make_panorama(
    pictures: Sequence[tuple[SurfacePicture, Pose]], shot: Shot, times: Iterable[int], seed: int = 0
) -> np.ndarray:
    """Return the panorama [h, 2·h, 3] float32, as `composing.Fills` describes it; empty if no picture shows background.

    Gaps have the mean color of their elevation, and blend into what is known beside them. Where the background has a
    texture and a frame looks, they are filled with patches of it.

    Args:
        pictures: the key pictures.
        shot: the shot.
        times: samples that tell where frames look.
        seed: seed of the patches.
    """
    perspective = [(picture, pose) for picture, pose in pictures if not pose.orthographic and (picture.label < 0).any()]
    if not perspective:
        return np.zeros((0, 0, 3), np.float32)
    height = min(HIGHEST, max(16, math.ceil(math.pi * max(pose.lens[0] for _, pose in perspective))))
    total = np.zeros((height, 2 * height, 4), np.float32)
    for picture, pose in perspective:
        _gather(
            picture.image, picture.label, picture.level, picture.tolerance, picture.trust, picture.inner,
            pose.rotation, pose.lens, total,
        )  # fmt: skip
    known = total[..., 3] > 0
    if not known.any():
        return np.zeros((0, 0, 3), np.float32)
    color = total[..., :3] / np.where(known, total[..., 3], 1)[..., None]
    beyond = ~_looked_at(height, shot, [pose.t for _, pose in perspective], 0.0)
    inner = known & np.asarray(binary_erosion(known | beyond, iterations=RIM), np.bool_)
    known = inner if inner.any() else known
    rows = np.flatnonzero(known.any(axis=1))
    means = np.stack([color[row][known[row]].mean(axis=0) for row in rows])
    every = np.stack([np.interp(np.arange(height), rows, means[:, k]) for k in range(3)], axis=1)[:, None]
    # What differs from the mean fades out towards directions that are far from all known ones.
    difference = np.where(known[..., None], color - every, 0).astype(np.float32)
    anchors = _around(known)
    anchors |= np.asarray(distance_transform_edt(~anchors)) > height / 3
    filled = push_pull(_around(difference), anchors)[:, height : 3 * height]
    out = np.where(known[..., None], color, np.maximum(every + filled, 0)).astype(np.float32)
    wanted = _looked_at(height, shot, times) & ~known
    if wanted.any() and _detail(color, known) >= DETAIL:
        _draw_patches(out, known, wanted, seed)
    return np.ascontiguousarray(out)


def _looked_at(height: int, shot: Shot, times: Iterable[int], margin: float = RIM) -> np.ndarray:
    """Return the directions at which samples of a shot look, and some pixels around them, [h, 2·h] bool."""
    seen, camera = np.zeros((height, 2 * height), np.bool_), shot.camera
    for t in times:
        if not camera.orthographic[t]:
            to_pixels = camera.intrinsics[t] @ camera.world_to_camera[t, :3, :3]
            _look(to_pixels, float(margin * math.pi * camera.intrinsics[t, 0, 0] / height), *shot.size, seen)
    return seen


@kernel
def _azimuths(columns):
    """Return cosine and sine of the azimuth of each column of a panorama, [columns, 2]."""
    across = np.empty((columns, 2))
    for j in range(columns):
        azimuth = ((j + 0.5) / columns - 0.5) * 2.0 * math.pi
        across[j, 0], across[j, 1] = math.cos(azimuth), math.sin(azimuth)
    return across


@kernel
def _look(to_pixels, margin, width, height, seen):
    rows, columns = seen.shape
    across = _azimuths(columns)
    for i in range(rows):
        elevation = (i + 0.5) / rows * math.pi
        ring, dz = math.sin(elevation), math.cos(elevation)
        for j in range(columns):
            dx, dy = ring * across[j, 0], ring * across[j, 1]
            x = to_pixels[0, 0] * dx + to_pixels[0, 1] * dy + to_pixels[0, 2] * dz
            y = to_pixels[1, 0] * dx + to_pixels[1, 1] * dy + to_pixels[1, 2] * dz
            z = to_pixels[2, 0] * dx + to_pixels[2, 1] * dy + to_pixels[2, 2] * dz
            rim = margin * z
            is_inside = (x >= -rim) & (x <= width * z + rim) & (y >= -rim) & (y <= height * z + rim)
            seen[i, j] |= is_inside & (z > 1e-6)


def _detail(color: np.ndarray, known: np.ndarray) -> float:
    """Return how much known colors deviate from their surroundings, sRGB-coded."""
    coded, weight = np.where(known[..., None], linear_to_srgb(color), 0), known.astype(np.float32)
    spread = max(1.0, _SURROUNDINGS * len(color))
    total = np.maximum(gaussian_filter(weight, spread), 1e-3)[..., None]
    return float(np.sqrt(np.square(coded - gaussian_filter(coded, (spread, spread, 0)) / total)[known].mean()))


def _draw_patches(panorama: np.ndarray, known: np.ndarray, wanted: np.ndarray, seed: int) -> None:
    """Fill directions with patches of the known ones, in place; their large scale stays."""
    used = known | wanted
    empty = np.flatnonzero(~used.any(axis=0))  # where the panorama may be cut open
    turn = -int(empty[len(empty) // 2]) if len(empty) else 0
    used, is_known = np.roll(used, turn, axis=1), np.roll(known, turn, axis=1)
    rows, columns = (slice(n.min(), n.max() + 1) for n in np.nonzero(used))
    colors = np.roll(panorama, turn, axis=1)
    mean = colors.mean(axis=1, keepdims=True) + _DARK  # gradients from up to down are not to be copied
    coded, is_known = np.sqrt(colors / mean)[rows, columns], is_known[rows, columns]
    source = patch_sources(coded, is_known, used[rows, columns], coded, seed=seed, guide=_GUIDE)
    if source is None or not (found := source[..., 0] >= 0).any():
        return
    low, high = coded[is_known].min(axis=0), coded[is_known].max(axis=0)
    blended = np.square(np.clip(blend_sources(coded, is_known, source), low, high)) * mean[rows]
    colors[rows, columns][found] = blended[found]
    panorama[:] = np.roll(colors, -turn, axis=1)


def _around(panorama: np.ndarray) -> np.ndarray:
    """Return a panorama continued by half a turn on both sides, [h, 4·h, ...]."""
    height = len(panorama)
    return np.concatenate([panorama[:, height:], panorama, panorama[:, :height]], axis=1)


@kernel
def _gather(image, label, level, tolerance, trust, inner, rotation, lens, total):
    height, width = total.shape[0], total.shape[1]
    across = _azimuths(width)
    for i in range(height):
        elevation = (i + 0.5) / height * math.pi
        ring, dz = math.sin(elevation), math.cos(elevation)
        for j in range(width):
            dx, dy = ring * across[j, 0], ring * across[j, 1]
            x = rotation[0, 0] * dx + rotation[0, 1] * dy + rotation[0, 2] * dz
            y = rotation[1, 0] * dx + rotation[1, 1] * dy + rotation[1, 2] * dz
            z = rotation[2, 0] * dx + rotation[2, 1] * dy + rotation[2, 2] * dz
            if z <= 1e-6:
                continue
            u, v = lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]
            if not (u >= 0.0 and v >= 0.0 and u <= label.shape[1] and v <= label.shape[0]):
                continue
            r, g, b, share = read(image, label, level, tolerance, trust, inner, u, v, -1, 0.0)
            if share > 0.0:
                total[i, j, 0] += share * r
                total[i, j, 1] += share * g
                total[i, j, 2] += share * b
                total[i, j, 3] += share
