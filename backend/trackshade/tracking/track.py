# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns footage into a lifted scene: the camera of each frame, and tracked points with visibility over time.

The steps: corners are followed and give a first camera (`features`, `camera`); a plane sweep gives the depth of the
first frame (`depth`); patches of the first frame refine points and cameras together (`photometric`, `points`); what
does not fit them moves by itself and keeps its own tracks (`flow` or `trackers`, `moving`, `floating`); and points are
hidden where their patch looks different or another surface is in front (`surface`). Surfaces are continued behind
others and beyond the picture (`layers`), and their rims follow the picture between points (`rims`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trackshade.config.trackers import FLOW, TRACKER_NETWORKS
from trackshade.core.errors import CancelledError, ShotError
from trackshade.lifting.cutouts import cut_out_boxes
from trackshade.shot.lifted import LiftedScene
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking.behind import behind_figures
from trackshade.tracking.bundle import Solution
from trackshade.tracking.camera import CameraSolve, solve_camera
from trackshade.tracking.cutouts import cut_out
from trackshade.tracking.features import Features, correlation, follow_features
from trackshade.tracking.figures import Figures, find_figures
from trackshade.tracking.floating import floating_pieces
from trackshade.tracking.flow import Flows, anchor, compute_flows
from trackshade.tracking.footage import Footage, read_footage
from trackshade.tracking.moving import find_moving, group_moving
from trackshade.tracking.plate import cover_masks
from trackshade.tracking.points import PointSolve, picture_of, place_points, with_depths, with_depths_of_tracks
from trackshade.tracking.surface import moving_meshes, sky_mesh, static_meshes, visibility
from trackshade.tracking.trackers import PointTracker, load_tracker

MEDIAN_DEPTH = 5.0  # metres: footage does not say how large things are
MIN_STATIC, MIN_TEXTURE, MAX_ERROR, MAX_FOCAL_ERROR = 0.65, 0.45, 1.0, 0.05
"""Of a result without a warning: least share of textured points that the camera explains, least share of points with
texture, largest mean reprojection error in pixels, and largest standard deviation of the focal length's logarithm."""
STILL, STILL_SHARE = 1.2, 0.08
"""Median distance of a part's tracks from those of points that stand still, pixels, or as a share of how far they lead,
up to which the part stands still."""
_AROUND = 61  # px: size of the square around what is known to move in which more may move with it
_MOST_COVERED = 0.8  # of the first frame: if more moves, it is the camera that was not found
_EARLY = 16  # frames of each track that decide
_TO_WORLD = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])  # the first camera looks along y, z points upwards
Report = Callable[[str, float], None]


def track_video(
    path: Path,
    request: TrackRequest | None = None,
    report: Report = lambda stage, fraction: None,
    cancelled: Callable[[], bool] = lambda: False,
    threads: int | None = None,
) -> LiftedScene:
    """Track a video: without weights, or what moves by a network if the request names one.

    Args:
        path: the video.
        request: what to track, and what is known of it.
        report: called with what is done and the fraction of the whole that is done.
        cancelled: called now and then; returns whether to stop.
        threads: number of threads; one for each core if None.

    Returns:
        A scene whose frames are those that were tracked. Its meshes hold the points of the first frame: "Static" what
        only the camera moves, "Static in Front" those of it that a surface continues behind, "Moving 1" and so on what
        moves by itself; and "Sky" is behind everything. The median depth of the first frame is `MEDIAN_DEPTH`. `notes`
        holds "times" (seconds in the video of each frame), "warnings", and measures.

    Raises:
        ShotError: the video or a mask cannot be used.
        ModelError: the tracker or the mask model cannot be used.
        UsageError: the request names what the video does not have.
        CancelledError: `cancelled` returned True.
    """
    request, threads = request or TrackRequest(), threads or os.cpu_count() or 1

    def stage(name: str, start: float, end: float) -> Callable[[float], None]:
        def step(fraction: float) -> None:
            if cancelled():
                raise CancelledError
            report(name, start + (end - start) * fraction)

        return step

    tracker = _load_tracker(request, report)
    footage = read_footage(path, request, stage("Reading", 0.0, 0.08), cancelled)
    grays = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in footage.images])
    masks = _read_masks(request, footage)
    size = (grays.shape[2], grays.shape[1])
    focal = _known_focal(request, footage.size)
    given = None if focal is None else focal * size[0] / footage.size[0]
    features = follow_features(grays, _corner_count(size), stage("Following corners", 0.08, 0.2))
    camera = solve_camera(_outside(features, masks), size, given, stage("Solving the camera", 0.2, 0.3), threads)
    if camera is None:
        camera = _no_camera(features, len(grays), size, given)
    solved = place_points(
        footage.images, grays, camera, request.spacing, given is None, threads, stage("Finding depth", 0.3, 0.75)
    )
    solved, figures, moving, behind = _find_figures(
        footage.images, grays, solved, camera, masks, tracker, threads, stage("Looking for what moves", 0.75, 0.92)
    )
    done = stage("Building", 0.92, 1.0)
    return _assemble(path, request, footage, camera, solved, figures, moving, behind, given is None, done)


def _load_tracker(request: TrackRequest, report: Report) -> PointTracker | None:
    """Load the network of a request, and say first what its license allows. Raise ModelError."""
    if request.tracker == FLOW or request.tracker_weights is None:
        return None
    spec = TRACKER_NETWORKS[request.tracker]
    report(f"Loading {spec.title} ({spec.terms})", 0.0)
    return load_tracker(request.tracker, request.tracker_weights)


def _corner_count(size: tuple[int, int]) -> int:
    return int(np.clip(size[0] * size[1] / 250, 250, 1400))


def _known_focal(request: TrackRequest, size: tuple[int, int]) -> float | None:
    """Return the given focal length, pixels of the video's own size."""
    if request.fov is not None:
        return size[0] / 2 / math.tan(math.radians(request.fov) / 2)
    return request.focal


def _read_masks(request: TrackRequest, footage: Footage) -> list[np.ndarray]:
    """Return masks of the things that a request names, [H, W] bool of the tracked size. Raise TrackshadeError."""
    height, width = footage.images.shape[1:3]
    masks = []
    for name in request.masks:
        data = np.fromfile(name, np.uint8) if Path(name).is_file() else np.zeros(0, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
        if image is None:
            raise ShotError("bad-mask", f"The mask {name} cannot be read.", "Give a PNG file.")
        if (image.shape[1], image.shape[0]) not in (footage.size, (width, height)):
            raise ShotError(
                "mask-size",
                f"The mask {name} has {image.shape[1]} × {image.shape[0]} pixels, the video "
                f"{footage.size[0]} × {footage.size[1]}.",
                "Give a mask of the video's size.",
            )
        mask = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) > 127
        if not mask.any():
            raise ShotError("empty-mask", f"The mask {name} is black everywhere.", "Paint what moves white.")
        masks.append(mask & ~np.any(masks, axis=0) if masks else mask)
    ratio = width / footage.size[0], height / footage.size[1]
    boxes = [(left * ratio[0], top * ratio[1], right * ratio[0], bottom * ratio[1])
             for left, top, right, bottom in request.boxes]  # fmt: skip
    for box, mask in zip(request.boxes, cut_out_boxes(footage.images[0], boxes, request.mask_model), strict=True):
        if mask is None:
            raise ShotError(
                "empty-box",
                f"Nothing in the box {','.join(f'{side:g}' for side in box)} differs from what surrounds it.",
                "Draw the box around all of what moves, or give a mask.",
            )
        masks.append(mask & ~np.any(masks, axis=0) if masks else mask)
    return masks


def _outside(features: Features, masks: list[np.ndarray]) -> Features:
    """Return the features that are not in a mask of the first frame."""
    if not masks:
        return features
    inside = np.any(masks, axis=0)
    x, y = features.pixels[features.hosts, np.arange(len(features.hosts))].astype(int).T
    x, y = np.clip(x, 0, inside.shape[1] - 1), np.clip(y, 0, inside.shape[0] - 1)
    return features.take(np.flatnonzero(~((features.hosts == 0) & inside[y, x])))


def _no_camera(features: Features, count: int, size: tuple[int, int], focal: float | None) -> CameraSolve:
    """Return a camera that stands still, of footage with too little to follow."""
    rotations, translations = np.repeat(np.eye(3)[None], count, axis=0), np.zeros((count, 3))
    none = features.take(np.zeros(0, np.intp))
    solution = Solution(rotations, translations, focal or 0.9 * max(size), np.array(size) / 2, np.zeros(0))
    return CameraSolve("unknown", solution, none, math.inf, 0.0 if focal else 1.0, np.zeros(0, bool))


def _find_figures(
    images: np.ndarray,
    grays: np.ndarray,
    solved: PointSolve,
    camera: CameraSolve,
    masks: list[np.ndarray],
    tracker: PointTracker | None,
    threads: int,
    step: Callable[[float], None],
) -> tuple[PointSolve, Figures | None, np.ndarray, np.ndarray]:
    """Find what moves by itself, or follow what the masks say does, and divide it into parts.

    Tracks that the camera explains at another depth are no motion: their points get this depth. The last two results
    are which points show what moves, [N], and the inverse depths of what stands still there, [N].
    """
    points, moves = solved.points, camera.kind == "moves"
    flows = compute_flows(grays, threads, lambda fraction: step((0.5 if tracker is None else 0.1) * fraction))
    pixels, alive = flows.follow(points * flows.ratio)
    pixels /= flows.ratio
    if tracker is not None and not masks:
        pixels, alive = tracker.follow(images, points, lambda fraction: step(0.1 + 0.4 * fraction))
        pixels = anchor(grays, points, pixels, alive)
    if masks:
        x, y = points.astype(int).T
        groups = [np.flatnonzero(mask[y, x]) for mask in masks]
    else:
        evidence = find_moving(grays, points, solved.contrast, (solved.pixels, solved.alike), (pixels, alive))
        groups = group_moving(evidence, solved.grid)
    kept, groups = [], [chosen for chosen in groups if len(chosen) >= 3]
    better = pixels
    if moves and not masks and groups:
        asked = np.zeros(len(points), bool)
        asked[np.concatenate(groups)] = True
        better = anchor(grays, points, pixels, alive & asked)
    for chosen in groups:
        if moves and not masks:
            changed = _if_still(grays, solved, chosen, better, alive)
            if changed is not None:
                solved = changed
                continue
        kept.append(chosen)
    moving = np.zeros(len(points), bool)
    for chosen in kept:
        moving[chosen] = True
    if moves and not masks:
        floating = floating_pieces(grays, solved, pixels, alive, moving)
        for chosen in floating:
            moving[chosen] = True
        kept += floating
    if moves and not kept:
        step(1.0)
        return solved, None, moving, solved.shape[:, 0]
    step(0.6)
    behind, figure, hidden = (solved.shape[:, 0], moving, moving)
    if moves:
        behind, figure, hidden = behind_figures(solved, camera, moving)
    if masks:
        figure = moving
    small = np.stack([cv2.resize(image, flows.size, interpolation=cv2.INTER_AREA) for image in images])
    seeds = masks or [_pixels_of(chosen, solved, images.shape[1:3]) for chosen in kept]
    seeds = [cv2.resize(seed.astype(np.uint8), flows.size, interpolation=cv2.INTER_AREA) > 0 for seed in seeds]
    near, given = None, None
    if masks:
        given = np.any(seeds, axis=0)
    elif moves:
        seeds.append(_picture(figure, solved, flows))
        near = cv2.dilate(np.any(seeds, axis=0).astype(np.uint8), np.ones((_AROUND, _AROUND), np.uint8)) > 0
    depths = picture_of(behind, solved, flows.size, flows.ratio)
    around = _picture(hidden, solved, flows), _picture(figure, solved, flows)
    covers, certain, still = cover_masks(
        small, flows, _scaled(solved.solution, flows), depths, *around, near=near, given=given, threads=threads
    )
    if not covers.any() or covers[0].mean() > _MOST_COVERED:
        step(1.0)
        return solved, None, np.zeros(len(points), bool), solved.shape[:, 0]
    if moves and not masks:
        covers = cut_out(small, covers, certain, threads)
    step(0.7)

    def follow(start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if tracker is None:
            return flows.follow(start)
        found, known = tracker.follow(images, start / flows.ratio, lambda fraction: step(0.7 + 0.02 * fraction))
        return found * flows.ratio, known

    figures = find_figures(small, covers, certain, still, masks and seeds, flows, follow)
    x, y = np.clip((points * flows.ratio).astype(int), 0, np.array(flows.size) - 1).T
    moving = figures.labels[y, x] >= 0
    if moves:  # what is not covered shows what is behind
        other = np.flatnonzero(figure & ~moving)
        solved = with_depths(grays, solved, other, behind[other])
    step(1.0)
    return solved, figures, moving, behind


def _picture(points: np.ndarray, solved: PointSolve, flows: Flows) -> np.ndarray:
    """Return the pixels nearest to some points, [h, w] bool, of the pictures that flow is computed in."""
    return cv2.resize(points.reshape(solved.grid).astype(np.uint8), flows.size, interpolation=cv2.INTER_NEAREST) > 0


def _pixels_of(chosen: np.ndarray, solved: PointSolve, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels nearest to some points, [H, W] bool."""
    cells = np.zeros(len(solved.points), np.uint8)
    cells[chosen] = 1
    return cv2.resize(cells.reshape(solved.grid), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0


def _scaled(solution: Solution, flows: Flows) -> Solution:
    """Return cameras of the pictures that flow is computed in."""
    return replace(solution, focal=solution.focal * float(flows.ratio[1]), center=solution.center * flows.ratio)


def _if_still(
    grays: np.ndarray, solved: PointSolve, chosen: np.ndarray, pixels: np.ndarray, alive: np.ndarray
) -> PointSolve | None:
    """Return the points with the depths that explain the tracks of some as standing still; None if none do."""
    start = solved.points[chosen]
    alike = np.zeros((len(grays), len(chosen)))
    for t in range(len(grays)):
        alike[t] = correlation(grays[0], grays[t], start - 0.5, pixels[t, chosen] - 0.5, 4)
    known = alive[:, chosen] & (alike > 0.6) & (solved.contrast[chosen] > 4)
    known &= np.cumsum(known, axis=0) <= _EARLY  # before what drifts or is hidden counts
    changed, miss = with_depths_of_tracks(grays, solved, chosen, pixels[:, chosen], known)
    moved = np.linalg.norm(pixels[:, chosen] - start, axis=2)[known]
    limit = max(STILL, STILL_SHARE * float(np.median(moved)) if len(moved) else np.inf)
    return changed if miss < limit else None


def _assemble(
    path: Path,
    request: TrackRequest,
    footage: Footage,
    camera: CameraSolve,
    solved: PointSolve,
    figures: Figures | None,
    moving: np.ndarray,
    behind: np.ndarray,
    free_focal: bool,
    step: Callable[[float], None],
) -> LiftedScene:
    """Build the scene, in metres and in the world's axes, and say what is doubtful."""
    height, width = footage.images.shape[1:3]
    scale = MEDIAN_DEPTH * float(np.median(solved.shape[~moving, 0] if (~moving).any() else solved.shape[:, 0]))
    seen = visibility(solved, moving, (width, height))
    step(0.5)
    image = footage.images[0]
    meshes = static_meshes(solved, moving, behind, seen, image, scale, _TO_WORLD)
    if figures is not None:
        meshes += moving_meshes(figures, solved, moving, behind, (width, height), scale, _TO_WORLD)
    ahead = np.concatenate([mesh.positions[0] for mesh in meshes]) @ _TO_WORLD[:, 2]
    meshes.append(sky_mesh(solved.solution, float(ahead.max()) / scale, scale, _TO_WORLD))
    count = len(footage.images)
    poses = np.repeat(np.eye(4)[None], count, axis=0)
    poses[:, :3, :3] = solved.solution.rotations @ _TO_WORLD.T
    poses[:, :3, 3] = solved.solution.translations * scale
    ratio = footage.size[0] / width, footage.size[1] / height
    intrinsics = np.eye(3)
    for axis in (0, 1):
        intrinsics[axis, axis] = solved.solution.focal * ratio[axis]
        intrinsics[axis, 2] = solved.solution.center[axis] * ratio[axis]
    notes = _notes(request, footage, camera, solved, moving, 0 if figures is None else len(figures.parts), free_focal)
    step(1.0)
    return LiftedScene(
        str(path.absolute()), footage.size, footage.fps, intrinsics, poses, tuple(meshes), None, 0, notes
    )


def _notes(
    request: TrackRequest,
    footage: Footage,
    camera: CameraSolve,
    solved: PointSolve,
    moving: np.ndarray,
    parts: int,
    free_focal: bool,
) -> dict[str, Any]:
    """Return what is told about the result: warnings and measures."""
    textured = solved.contrast > 4
    explained = np.median(np.where(solved.alike > -1, solved.alike, np.nan)[1:], axis=0) if len(moving) else moving
    with np.errstate(invalid="ignore"):
        good = textured & ~moving & (np.nan_to_num(explained, nan=1.0) > 0.5)
    static_share = float(good.sum() / textured.sum()) if textured.any() else 0.0
    texture_share = float(textured.mean())
    warnings = list(footage.warnings)
    network = TRACKER_NETWORKS.get(request.tracker)
    if network is not None and not network.commercial:
        warnings.append(f"Points were followed by {network.title}: {network.terms}.")
    if camera.kind == "unknown":
        warnings.append("There is too little texture to follow: the camera was taken to stand still.")
    elif camera.kind == "stands":
        warnings.append("The camera stands still, so that depth cannot be seen: all points are 5 m away.")
    elif camera.kind == "turns":
        warnings.append("The camera turns without moving, so that depth cannot be seen: all points are 5 m away.")
    else:
        if static_share < MIN_STATIC:
            warnings.append(
                f"The camera is doubtful: it explains {static_share:.0%} of the textured points. Mask what moves, or "
                "track a part with more texture."
            )
        if texture_share < MIN_TEXTURE:
            warnings.append(
                f"The camera is doubtful: {texture_share:.0%} of the points have texture, and the others only follow "
                "the surfaces around them."
            )
        if camera.error > MAX_ERROR:
            warnings.append(f"The camera is doubtful: its mean reprojection error is {camera.error:.1f} px.")
    if free_focal and solved.focal_error > MAX_FOCAL_ERROR:
        focal = solved.solution.focal * footage.size[0] / footage.images.shape[2]
        unknown = solved.focal_error > 0.5
        warnings.append(
            f"The focal length cannot be seen in this footage; {focal:.0f} px was taken. Give the field of view."
            if unknown
            else f"The focal length is uncertain: {focal:.0f} px ± {solved.focal_error:.0%}. Give the field of view."
        )
    return {
        "source": "tracked",
        "tracker": request.tracker,
        **({} if network is None else {"tracker_license": network.terms}),
        "camera": camera.kind,
        "median_depth": MEDIAN_DEPTH,
        "static_share": round(static_share, 3),
        "textured_share": round(texture_share, 3),
        "reprojection_error": None if not math.isfinite(camera.error) else round(camera.error, 3),
        "focal_error": round(solved.focal_error, 4) if free_focal else 0.0,
        "moving_parts": parts,
        "times": [round(float(time), 6) for time in footage.times],
        "warnings": warnings,
    }
