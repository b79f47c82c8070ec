# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of key pictures before they are used: what they show of a shot, and whether they lie on its geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates, sobel

from trackshade.propagation.canvases import survey, survey_times
from trackshade.propagation.pictures import SurfacePicture, surface_picture
from trackshade.propagation.poses import Pose, PoseTable
from trackshade.propagation.rims import Rims
from trackshade.propagation.surface import find_points, pull
from trackshade.shot import Shot

_CANDIDATES = 12  # further key frames that are tried
_SMALL = 320  # pixels of the longer side of the pictures that stand for them
_REACH = 6  # pixels to each side that a shift is searched
_NEAR = 2  # pixels around a shift at which another one is the same
_AROUND = 0.95  # share of the pixels that show back sides of a mesh from which on the camera is inside of it
_LEAST_RIM = 200  # pixels of silhouettes that an alignment needs


@dataclass(frozen=True)
class NextKey:
    """A further key picture that would help.

    Attributes:
        t: its sample.
        reveals: share of all pixels of the shot's frames that it would show, and that no picture shows yet.
    """

    t: int
    reveals: float


@dataclass(frozen=True, eq=False)
class Coverage:
    """What key pictures show of a shot.

    Attributes:
        times: [N] int64, the samples that were looked at.
        unseen: [N] float64, share of each frame's pixels with surfaces that no picture shows.
        by_mesh: share of the pixels that show a mesh, over all frames looked at, that no picture shows; by the mesh's
            index. Meshes that no frame shows are missing.
        candidates: further key pictures, the one that reveals most first.
    """

    times: np.ndarray
    unseen: np.ndarray
    by_mesh: dict[int, float]
    candidates: tuple[NextKey, ...]

    @property
    def best(self) -> NextKey | None:
        """The further key picture that reveals most; None if none reveals anything."""
        return self.candidates[0] if self.candidates and self.candidates[0].reveals > 0 else None


def coverage(
    shot: Shot,
    keys: Sequence[int],
    *,
    times: Sequence[int] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Coverage:
    """Find out what pictures of some samples show of a shot, and which further sample would show most of the rest.

    Pictures need not exist yet. Frames after a cut of the camera are seen as others are: a picture shows of them what
    both cameras see.

    Args:
        shot: the shot.
        keys: samples of the key pictures; may be empty.
        times: samples that are looked at; some that are spread over the shot if None.
        progress: called with the fraction that is done; may raise to cancel.

    Raises:
        ShotError: what `Shot.check_values` finds.
    """
    shot.check_values()
    table, size = PoseTable(shot), shot.size
    if times is None:
        times = survey_times(len(shot.frame_numbers), views=shot.views)
    times = sorted(set(times))
    candidates = [times[n] for n in survey_times(len(times), _CANDIDATES)]
    candidates = [t for t in candidates if t not in keys]
    pictures = [_blank(table, t) for t in (*keys, *candidates)]
    found = survey(table, pictures, size, times, progress, apart=True)
    shown = found.shown[:, : len(keys)].any(axis=1)
    order = np.searchsorted(times, found.t)
    total = np.bincount(order, minlength=len(times))
    hidden = np.bincount(order[~shown], minlength=len(times))
    by_mesh = {mesh: float(1 - shown[found.mesh == mesh].mean()) for mesh in np.unique(found.mesh).tolist()}
    more = (found.shown[:, len(keys) :] & ~shown[:, None]).sum(axis=0) / (found.frame * len(times))
    following = [NextKey(t, float(share)) for t, share in zip(candidates, more, strict=True)]
    following.sort(key=lambda item: (-item.reveals, item.t))
    return Coverage(np.array(times), hidden / np.maximum(total, 1), by_mesh, tuple(following))


def _blank(table: PoseTable, t: int) -> tuple[SurfacePicture, Pose]:
    """Return a small black picture of a sample."""
    shot = table.shot
    factor = min(1.0, _SMALL / max(shot.size))
    width, height = (max(1, round(side * factor)) for side in shot.size)
    picture = surface_picture(shot, t, np.zeros((height, width, 3), np.float32), rims=Rims.HARD)
    return picture, table.pose(t, (width, height))


@dataclass(frozen=True)
class Agreement:
    """What two pictures of a shot have in common.

    Attributes:
        share: share of the second picture's surface pixels that the first one shows as well.
        difference: median difference of their colors there, levels of 255; NaN where there are none.
    """

    share: float
    difference: float


def agreement(
    shot: Shot,
    one: tuple[int, np.ndarray | None],
    other: tuple[int, np.ndarray | None],
) -> Agreement:
    """Compare what two pictures show of the same surfaces.

    Args:
        shot: the shot.
        one: the sample and the image of the first picture, [h, w, 3] uint8 sRGB; black if None.
        other: the same of the second one.
    """
    table, factor = PoseTable(shot), min(1.0, _SMALL / max(shot.size))
    width, height = size = (max(1, round(shot.size[0] * factor)), max(1, round(shot.size[1] * factor)))

    def small(image: np.ndarray | None) -> np.ndarray:
        if image is None:
            return np.zeros((height, width, 3), np.float32)
        resized = Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BOX)
        return np.asarray(resized, np.float32)

    picture = surface_picture(shot, one[0], small(one[1]))
    target = surface_picture(shot, other[0], small(other[1]))
    pose, starts = table.pose(other[0], size), table.face_starts(other[0])
    depth = np.ones(target.label.shape, np.float32)
    points = find_points(target.label, target.triangle, depth, 0, 1, pose, table.still, table.triangles, starts)
    pulled = np.zeros((height, width, 5), np.float32)
    key_pose = table.pose(one[0], size, faces_of=other[0])
    pull(points, 1, pose, picture, key_pose, table.still, table.triangles, starts, 1.0, pulled)
    surface = target.label >= 0
    both = surface & (pulled[..., 4] > 0.9) & (target.trust == 255)
    difference = np.abs(pulled[both][:, :3] / pulled[both][:, 3:4] - target.image[both]).mean(axis=1)
    return Agreement(
        float((pulled[..., 4][surface] > 0).mean()) if surface.any() else 0.0,
        float(np.median(difference)) if both.any() else float("nan"),
    )


def mesh_around(shot: Shot, t: int) -> int | None:
    """Return the mesh that a camera is inside of: nearly all that it sees in sample `t` are that mesh's back sides."""
    table, factor = PoseTable(shot), min(1.0, _SMALL / max(shot.size))
    width, height = size = (max(1, round(shot.size[0] * factor)), max(1, round(shot.size[1] * factor)))
    picture = surface_picture(shot, t, np.zeros((height, width, 3), np.float32))
    starts, pose = table.face_starts(t), table.pose(t, size)
    depth = np.ones(picture.label.shape, np.float32)
    points = find_points(picture.label, picture.triangle, depth, 0, 1, pose, table.still, table.triangles, starts)
    for mesh in np.unique(picture.label[picture.label >= 0]).tolist():
        mirrored = np.linalg.det(shot.meshes[mesh].matrix_world[t][:3, :3]) < 0
        from_behind = (picture.label == mesh) & (points.side == (-1 if mirrored else 1))
        if from_behind.mean() >= _AROUND:
            return mesh
    return None


@dataclass(frozen=True)
class Alignment:
    """How a picture lies on the shot's geometry.

    Attributes:
        shift: (x, y), pixels by which the picture is right of and below the geometry. NaN where `correlation` is.
        correlation: of the picture's edges with the geometry's silhouettes at that shift, 0 to 1; NaN if there are too
            few silhouettes.
        lead: by how much it exceeds the correlation at shifts that are more than two pixels away. It is near 0 for
            pictures of another scene, which correlate as well anywhere.
        rim: width over which the picture's silhouettes are mixed, pixels; NaN if it cannot be told.
    """

    shift: tuple[float, float]
    correlation: float
    lead: float
    rim: float


def alignment(
    shot: Shot,
    t: int,
    image: np.ndarray,  # [h, w, 3] uint8 sRGB, or float32 sRGB-coded
) -> Alignment:
    """Compare the edges of a picture with the silhouettes of the geometry that it should show.

    Args:
        shot: the shot.
        t: the sample that the picture shows.
        image: the picture, of the camera's aspect.

    Raises:
        UsageError: the picture has another aspect.
    """
    value = image.astype(np.float32) / (255.0 if image.dtype == np.uint8 else 1.0)
    picture = surface_picture(shot, t, value, rims=Rims.HARD)
    edges = _edges(picture)
    if edges.sum() < _LEAST_RIM:
        return Alignment((float("nan"), float("nan")), float("nan"), float("nan"), float("nan"))
    gradient = np.sqrt(sum(sobel(value[..., k], axis) ** 2 for k in range(3) for axis in (0, 1)))
    # Strong edges of the picture's texture must not outweigh its silhouettes.
    gradient = np.minimum(gradient, np.percentile(gradient, 97))
    blurred, drawn = gaussian_filter(gradient, 0.7), gaussian_filter(edges.astype(np.float32), 0.7)
    scores = np.full((2 * _REACH + 1, 2 * _REACH + 1), -1.0)
    inner = np.s_[_REACH:-_REACH, _REACH:-_REACH]
    for down in range(-_REACH, _REACH + 1):
        for right in range(-_REACH, _REACH + 1):
            moved = np.roll(blurred, (-down, -right), axis=(0, 1))
            scores[down + _REACH, right + _REACH] = np.corrcoef(moved[inner].ravel(), drawn[inner].ravel())[0, 1]
    row, column = (int(part) for part in np.unravel_index(scores.argmax(), scores.shape))
    shift = column - _REACH + _vertex(scores[row], column), row - _REACH + _vertex(scores[:, column], row)
    rows, columns = np.indices(scores.shape)
    elsewhere = scores[np.maximum(abs(rows - row), abs(columns - column)) > _NEAR]
    peak = float(scores[row, column])
    return Alignment(shift, peak, peak - float(elsewhere.max()), _rim_width(picture, value, shift))


def _edges(picture: SurfacePicture) -> np.ndarray:
    """Return the pixels [h, w] on both sides of a silhouette between meshes, or of a mesh before the background."""
    label = picture.label
    edges = np.zeros(label.shape, np.bool_)
    down, right = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges


def _vertex(values: np.ndarray, at: int) -> float:
    """Return where the parabola through three values has its peak, relative to the middle one."""
    if not 0 < at < len(values) - 1:
        return 0.0
    low, middle, high = values[at - 1 : at + 2]
    bend = low - 2 * middle + high
    return float(np.clip(0.5 * (low - high) / bend, -0.5, 0.5)) if bend < 0 else 0.0


def _rim_width(picture: SurfacePicture, value: np.ndarray, shift: tuple[float, float]) -> float:
    """Return the median width over which colors change across silhouettes, between 10 % and 90 %, pixels."""
    label = picture.label
    rows, columns = np.nonzero(label[:, 1:] != label[:, :-1])
    widths = []
    for row, column in list(zip(rows.tolist(), columns.tolist(), strict=True))[:: max(1, len(rows) // 500)]:
        span = np.arange(-5, 6.5, 0.5)
        x, y = column + 0.5 + span + shift[0], np.full(len(span), row + shift[1])
        if x[0] < 0 or x[-1] > label.shape[1] - 1 or len(np.unique(label[row, max(0, column - 5) : column + 1])) > 1:
            continue
        profile = np.stack([map_coordinates(value[..., k], [y, x], order=1, mode="nearest") for k in range(3)], axis=1)
        change = profile[-1] - profile[0]
        size = float(change @ change)
        if size < 0.02:
            continue
        share = (profile - profile[0]) @ change / size
        if np.abs(share[:4]).max() < 0.15 and np.abs(share[-4:] - 1).max() < 0.15:
            first, last = np.flatnonzero(share > 0.1)[0], np.flatnonzero(share < 0.9)[-1]
            widths.append(0.5 * max(1, last - first + 1))
    return float(np.median(widths)) if len(widths) >= 10 else float("nan")
