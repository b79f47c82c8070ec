# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of tracked points and of the solved camera.

The measures of points are those of TAP-Vid (Doersch et al., TAP-Vid: A Benchmark for Tracking Any Point in a Video,
2022): `delta` is the mean share of the visible points within 1, 2, 4, 8 and 16 pixels, here pixels of the footage
instead of one of 256 × 256; `occlusion_accuracy` the share of points and frames whose visibility is right; `jaccard`
(AJ) the mean over the same thresholds of true positives among true positives, false positives and false negatives.
"""

from __future__ import annotations

import cv2
import numpy as np

from trackshade.control.locate import points_at
from trackshade.control.raster import NOTHING, Buffers
from trackshade.control.scene import ShotRaster
from trackshade.results.consistency import follow
from trackshade.shot import Shot
from trackshade.shot.lifted import LiftedScene

from ..camera import rotation_angle

THRESHOLDS = (1, 2, 4, 8, 16)  # px
_SHORT = 0.15  # of the camera's path: what is nearer to the first position has no direction that counts


def true_tracks(shot: Shot, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow the surfaces at pixels of the first sample.

    Args:
        shot: the shot.
        pixels: [P, 2] centers of pixels.

    Returns:
        [P, T, 2] pixels and [P, T] whether they are seen there; never, where the first sample shows no surface or the
        edge of one.
    """
    raster, count = ShotRaster(shot), len(shot.frame_numbers)
    buffers = [raster.draw(t, into=Buffers.empty(shot.size)) for t in range(count)]
    raster.draw(0)
    column, row = np.floor(pixels).astype(np.int32).T
    flat = row * shot.size[0] + column
    shown = np.flatnonzero(raster.buffers.label.ravel()[flat] != NOTHING)
    positions, seen = np.zeros((len(pixels), count, 2)), np.zeros((len(pixels), count), bool)
    depth, label = (np.stack([getattr(buffer, name) for buffer in buffers]) for name in ("depth", "label"))
    positions[shown], seen[shown] = follow(shot, points_at(raster, 0, flat[shown]), depth, label)
    return positions, seen & seen[:, :1]


def moving_pixels(shot: Shot, count: int, around: int = 3) -> np.ndarray:
    """Return the pixels of the first samples that show meshes that move or deform, [count, H, W] bool.

    Args:
        shot: the shot.
        count: number of samples.
        around: pixels around them that count, too.
    """
    raster = ShotRaster(shot)
    moves = [
        shot.geometries[mesh.geometry].deforms or bool(np.ptp(mesh.matrix_world, axis=0).max() > 1e-5)
        for mesh in shot.meshes
    ]
    window = np.ones((2 * around + 1, 2 * around + 1), np.uint8)
    out = []
    for t in range(count):
        label = raster.draw(t, into=Buffers.empty(shot.size)).label
        out.append(cv2.dilate(np.array([*moves, False], np.uint8)[np.where(label == NOTHING, -1, label)], window) > 0)
    return np.stack(out)


def scene_tracks(scene: LiftedScene) -> tuple[np.ndarray, np.ndarray]:
    """Return where the camera of a tracked scene shows its points, [P, T, 2] pixels, and whether they are seen."""
    count = len(scene.world_to_camera)
    tracks, seen = [], []
    for mesh in scene.meshes:
        if mesh.kind != "points":
            continue
        own = mesh.positions.shape[1] - mesh.added
        world = np.broadcast_to(mesh.positions[:, :own], (count, own, 3))
        local = np.einsum("tij,tpj->tpi", scene.world_to_camera[:, :3, :3], world)
        local += scene.world_to_camera[:, None, :3, 3]
        depth = np.where(np.abs(local[..., 2:]) < 1e-6, 1e-6, local[..., 2:])
        tracks.append(local[..., :2] / depth @ scene.intrinsics[:2, :2].T + scene.intrinsics[:2, 2])
        seen.append(np.broadcast_to(mesh.visible[:, :own], (count, own)))
    return np.concatenate(tracks, axis=1).swapaxes(0, 1), np.concatenate(seen, axis=1).T


def measure_tracks(
    pixels: np.ndarray,  # [P, T, 2]
    seen: np.ndarray,  # [P, T]
    true_pixels: np.ndarray,  # [P, T, 2]
    truly_seen: np.ndarray,  # [P, T]
) -> dict[str, float]:
    """Return the measures of points that the first frame truly shows, over all frames after it."""
    asked = truly_seen[:, 0]
    found, says = pixels[asked, 1:], seen[asked, 1:]
    truth, visible = true_pixels[asked, 1:], truly_seen[asked, 1:]
    error = np.linalg.norm(found - truth, axis=2)
    within, jaccard = [], []
    for threshold in THRESHOLDS:
        near = error < threshold
        within.append(float((near & visible).sum() / visible.sum()))
        right = (near & visible & says).sum()
        wrong = (says & ~(near & visible)).sum()
        jaccard.append(float(right / (visible.sum() + wrong)))
    return {
        "median_error": float(np.median(error[visible])),
        "delta": float(np.mean(within)),
        "occlusion_accuracy": float((says == visible).mean()),
        "jaccard": float(np.mean(jaccard)),
        **{f"within_{threshold}": share for threshold, share in zip(THRESHOLDS, within, strict=True)},
        "points": int(asked.sum()),
    }


def measure_camera(
    world_to_camera: np.ndarray,  # [T, 4, 4]
    true_world_to_camera: np.ndarray,  # [T, 4, 4]
) -> dict[str, float]:
    """Compare a camera's motion, relative to its first frame, with the true one.

    Returns:
        `rotation`, `rotation_max`: degrees, median and largest over the frames; `direction`: median angle between the
        translations from the first frame, where these are long enough, degrees; NaN if the camera stays in place.
    """
    found, true = (poses @ np.linalg.inv(poses[0]) for poses in (world_to_camera, true_world_to_camera))
    turns = [rotation_angle(one[:3, :3], other[:3, :3]) for one, other in zip(found, true, strict=True)]
    place, true_place = (-np.einsum("tji,tj->ti", poses[:, :3, :3], poses[:, :3, 3]) for poses in (found, true))
    path = np.linalg.norm(np.diff(true_place, axis=0), axis=1).sum()
    length = np.linalg.norm(true_place, axis=1)
    counted = length > max(_SHORT * path, 1e-9)
    product = (place * true_place).sum(axis=1) / np.maximum(np.linalg.norm(place, axis=1) * length, 1e-300)
    angles = np.degrees(np.arccos(np.clip(product[counted], -1, 1)))
    return {
        "rotation": float(np.median(turns[1:])),
        "rotation_max": float(np.max(turns)),
        "direction": float(np.median(angles)) if len(angles) else float("nan"),
    }


def flow_errors(
    truth: np.ndarray,  # [T, H, W, 3] uint8
    video: np.ndarray,  # [T, H, W, 3] uint8
) -> dict[str, float]:
    """Compare how two videos move: end-point errors of the optical flow between consecutive frames.

    Flow is DIS (Kroeger et al. 2016), which needs texture; where there is little, both flows are guesses.

    Returns:
        `flow`, the mean over all pixels and frames, and `flow_median`, pixels.
    """
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    errors = []
    for t in range(len(truth) - 1):
        flows = []
        for frames in (truth, video):
            one, other = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[t : t + 2])
            flows.append(dis.calc(one, other, np.zeros((*one.shape, 2), np.float32)))
        errors.append(np.linalg.norm(flows[0] - flows[1], axis=-1))
    return {"flow": float(np.mean(errors)), "flow_median": float(np.median(errors))}
