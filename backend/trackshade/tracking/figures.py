# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves by itself, as parts: flat meshes whose outlines follow the silhouette of every frame.

A thing that moves is divided into parts (`motions`). Each is a mesh over the pixels that show it in the frame in which
it is found, continued beneath the parts in front of it. It moves by its affine maps and what its tracks say beyond
them, and its outline is pulled to the outline of what covers the still surfaces in each frame (`plate`). What comes
into view later is given to the part whose motion it shares, or is a part of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from trackshade.control.raster import NOTHING, Buffers, draw
from trackshade.tracking.flow import Flows, largest_channel
from trackshade.tracking.motions import Tracks, apply, compose, divide, invert, part_maps
from trackshade.tracking.outlines import Outline, Silhouette, outline_mesh, signed_distances, snap_outline
from trackshade.tracking.registration import Template, register

_POINTS = 3500  # of a thing
_SPACING = 3  # px between its points, at least
_MOST_THINGS = 12
_SMALLEST = 40  # px of a thing, and of what comes into view
_BENEATH = 8.0  # px that a part continues beneath those in front of it
_MATCHED, _OTHER = 22.0, 38.0  # levels: colors up to which a point is seen, and from which something else is
_COMPARED, _WRONG = 8, 60  # frames whose colors say which part a pixel belongs to, and levels that are only wrong
_BLURRED = 8  # px beyond those compared, whose errors count in their mean
_KEPT = 3.0  # levels by which another part has to explain a pixel better
_NEAR = 14.0  # px from the part that tracks give a pixel to, up to which another one may explain it better
_RESTS = 2.0  # px from where the camera would show it, up to which a part stands still
_SLIVER = 8.0  # px inside of a thing's outline up to which pixels may turn out to stand still
_SURE_ORDER = 5.0  # points that say what is in front
_WINDOW = 9  # frames whose evidence about what is in front counts together
_MOST_BEYOND = 3.0  # px by which tracks may differ from their part's map
_LATER, _MOST_LATER = 8, 24  # frames in which later surfaces are looked for, and their number
_GAP = 0.15  # px by which each px of distance from a part counts as a difference of motion
_BESIDE = 25  # percentile of the distances of its points from a part that says how near it is: limbs are long
_FARTHEST = 14.0  # px of distance up to which a later surface belongs to a part
_SHARES_MOTION = 1.5  # px by which a later surface may differ from the motion of a part that it belongs to
_KNOWN_SHARE = 0.3  # of the points of a later surface that are known in a frame that shows it
_OUTSIDE = 1.5  # px outside the silhouette from which a vertex is not seen

Follow = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of what moves.

    Attributes:
        thing: number of the thing that it belongs to, from 0.
        tracks: its tracked points.
        maps: [T, 3, 2] affine maps of the places in the frame in which it was found to those in each frame.
        outline: its mesh in that frame.
        first: that frame.
        pixels: [T, V, 2] where its vertices are.
        visible: [T, V] whether they are seen there.
    """

    thing: int
    tracks: Tracks
    maps: np.ndarray
    outline: Outline
    first: int
    pixels: np.ndarray
    visible: np.ndarray


@dataclass(frozen=True, eq=False)
class Figures:
    """Parts of all things that move.

    Attributes:
        parts: the parts.
        owners: [P] the part that each part's mesh is joined with: itself, or, of what appears later, another one.
        ranks: [P, T] place of each part in the order from front to back, from 0.
        scales: [things, T] size of each thing relative to the first frame.
        labels: [h, w] the thing that each pixel of the first frame shows, -1 for what stands still.
        covers: [T, h, w] what covers still surfaces.
    """

    parts: tuple[Part, ...]
    owners: np.ndarray
    ranks: np.ndarray
    scales: np.ndarray
    labels: np.ndarray
    covers: np.ndarray


def find_figures(
    images: np.ndarray,
    covers: np.ndarray,
    certain: np.ndarray,
    still: np.ndarray,
    given: list[np.ndarray],
    flows: Flows,
    follow: Follow,
) -> Figures:
    """Divide what moves into parts, and find how their meshes move.

    Args:
        images: [T, h, w, 3] uint8, of the size that flow is computed in.
        covers: [T, h, w] what covers still surfaces.
        certain: [T, h, w] that of it which differs from surfaces that other frames show.
        still: [T, h, w, 2] where each frame shows the still surfaces at the pixels of the first one.
        given: [h, w] pixels of the first frame that show each thing; empty to take what `covers` shows.
        flows: how pixels move.
        follow: follows points [N, 2] of the first frame: [T, N, 2] pixels, and [T, N] whether they are known.
    """
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 1.0) for image in images])
    things = _things(covers[0], given)
    silhouettes = [Silhouette.of(cover) for cover in covers]
    begun: list[_Begun] = []
    scales = []
    for thing in range(things.max() + 1):
        found, whole = _divide_thing(thing, things == thing, smooth, covers, follow)
        begun += found
        scales.append(np.sqrt(np.clip(np.abs(np.linalg.det(whole[:, :2])), 0.1, 10.0)))
    _register_all(begun, things, smooth, flows, silhouettes)
    if not given:
        begun = _that_move(begun, things, still)
    begun = _relabel(begun, things, smooth, still, bool(given))
    ahead = _who_is_ahead(begun, smooth)
    score = np.sign(ahead).sum(axis=1)  # [P, T]
    ranks = np.argsort(np.argsort(-score, axis=0, kind="stable"), axis=0, kind="stable")
    parts = []
    for number, one in enumerate(begun):
        front = [other.region for other, rank in zip(begun, ranks[:, 0], strict=True)
                 if other.thing == one.thing and rank < ranks[number, 0]]  # fmt: skip
        front = np.any(front, axis=0) if front else np.zeros_like(one.region)
        beneath = (signed_distances(one.region) < _BENEATH) & front
        outline = outline_mesh(one.region, beneath, things == one.thing)
        parts.append(_move(one.thing, one.tracks, one.maps, outline, 0, silhouettes))
    owners = list(range(len(parts)))
    if parts:
        _add_later(parts, owners, smooth, covers, certain, flows, silhouettes)
    later = np.arange(len(begun), len(parts))
    ranks = np.r_[ranks, np.repeat(later[:, None], len(smooth), axis=1)]
    size = (len(scales), len(images))
    return Figures(tuple(parts), np.array(owners, np.intp), ranks, np.array(scales).reshape(size), things, covers)


@dataclass(frozen=True, eq=False)
class _Begun:
    """A part of the first frame without a mesh: the pixels that show it there, its points, and its maps."""

    thing: int
    region: np.ndarray
    tracks: Tracks
    maps: np.ndarray


def _register_all(
    begun: list[_Begun], things: np.ndarray, smooth: np.ndarray, flows: Flows, silhouettes: list[Silhouette]
) -> None:
    """Register the maps of all parts."""
    wholes = [Silhouette.of(things == thing) for thing in range(things.max() + 1)]
    templates = [Template.of(part.region, wholes[part.thing], smooth[0], part.maps) for part in begun]
    register(templates, smooth, flows, silhouettes)


def _that_move(begun: list[_Begun], things: np.ndarray, still: np.ndarray) -> list[_Begun]:
    """Return the parts that leave the places where still surfaces are; `things` is changed where others are."""
    out = []
    for part in begun:
        x, y = part.tracks.start.astype(int).T
        apart = np.linalg.norm(apply(part.maps, part.tracks.start) - still[:, y, x], axis=2)
        if np.median(apart, axis=1).max() > _RESTS:
            out.append(part)
        else:
            things[part.region] = -1
    return out


def _relabel(
    begun: list[_Begun], things: np.ndarray, smooth: np.ndarray, still: np.ndarray, is_given: bool
) -> list[_Begun]:
    """Give each pixel of the first frame to the part whose motion explains its colors best, or to what stands still.

    `things` is changed where pixels turn out to stand still.
    """
    frames = np.unique(np.linspace(1, len(smooth) - 1, min(_COMPARED, len(smooth) - 1)).round().astype(int))
    height, width = things.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([x, y], axis=-1)

    least = max(1, round(0.25 * len(frames)))  # it is hidden in others

    def errors(places: np.ndarray, image: np.ndarray) -> np.ndarray:
        found = [largest_channel(cv2.absdiff(_look(smooth[t], place), image))
                 for t, place in zip(frames, places, strict=True)]  # fmt: skip
        lowest = np.sort(np.minimum(found, _WRONG), axis=0)[:least]
        return cv2.GaussianBlur(lowest.mean(axis=0).astype(np.float32), (0, 0), 1.5)

    costs = np.full((len(begun), height, width), np.inf, np.float32)
    for number, part in enumerate(begun):
        near = (things == part.thing) & (signed_distances(part.region) < _NEAR)
        y, x = (np.flatnonzero(near.any(axis=axis)) for axis in (1, 0))
        if len(x):
            window = np.s_[max(0, y[0] - _BLURRED) : y[-1] + _BLURRED, max(0, x[0] - _BLURRED) : x[-1] + _BLURRED]
            own = errors(apply(part.maps[frames][:, None], pixels[window]), smooth[0][window])
            costs[number][window] = np.where(near[window], own - _KEPT * part.region[window], np.inf)
    if not begun:
        return begun
    best = costs.argmin(axis=0)
    if not is_given:
        inside = signed_distances(things >= 0)
        stays = (errors(still[frames], smooth[0]) + _KEPT < costs.min(axis=0)) & (inside > -_SLIVER)
        things[stays] = -1
    out = []
    for number, part in enumerate(begun):
        region = (best == number) & (things == part.thing)
        region = _largest_piece(cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)))
        if region.sum() >= _SMALLEST // 2:
            out.append(replace(part, region=region))
    # Pixels that are left over belong to the nearest part of their thing.
    for thing in range(things.max() + 1):
        own = [number for number, part in enumerate(out) if part.thing == thing]
        if own:
            distances = np.stack([signed_distances(out[number].region) for number in own])
            nearest = np.where(things == thing, distances.argmin(axis=0), -1)
            for index, number in enumerate(own):
                out[number] = replace(out[number], region=nearest == index)
    return out


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """Return the largest piece of a mask, [h, w] bool: a part is in one piece."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if len(stats) == 1:
        return mask > 0
    return np.asarray(pieces) == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()


def _look(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    x, y = (np.ascontiguousarray(places[..., axis] - 0.5, np.float32) for axis in (0, 1))
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _things(cover: np.ndarray, given: list[np.ndarray]) -> np.ndarray:
    """Return the thing that each pixel belongs to, [h, w], -1 for none: those given, else connected pixels."""
    things = np.full(cover.shape, -1)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(cover.astype(np.uint8), connectivity=8)
    order = np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1
    masks = given or [pieces == piece for piece in order if stats[piece, cv2.CC_STAT_AREA] >= _SMALLEST]
    for number, mask in enumerate(masks[:_MOST_THINGS]):
        things[mask] = number
    return things


def _divide_thing(
    thing: int, mask: np.ndarray, smooth: np.ndarray, covers: np.ndarray, follow: Follow
) -> tuple[list[_Begun], np.ndarray]:
    """Return the parts of a thing, and the maps of the whole [T, 3, 2]."""
    tracks = _follow(mask, covers, follow)
    whole = part_maps(tracks)
    labels = divide(tracks)
    picture = _label_pixels(mask, tracks, labels, smooth[0])
    parts = []
    for number in range(labels.max() + 1):
        region = picture == number
        if region.sum() >= _SMALLEST // 2:
            own = tracks.take(np.flatnonzero(labels == number))
            parts.append(_Begun(thing, region, own, part_maps(own, whole)))
    return parts, whole


def _follow(mask: np.ndarray, covers: np.ndarray, follow: Follow) -> Tracks:
    """Follow points on a grid over a mask."""
    step = max(_SPACING, int(np.ceil(np.sqrt(mask.sum() / _POINTS))))
    rows, columns = np.arange(step // 2, mask.shape[0], step), np.arange(step // 2, mask.shape[1], step)
    inside = mask[np.ix_(rows, columns)]
    cells = np.argwhere(inside)
    start = np.stack([columns[cells[:, 1]], rows[cells[:, 0]]], axis=1) + 0.5
    pixels, alive = follow(start)
    for t, cover in enumerate(covers):
        x, y = np.clip(pixels[t].astype(int), 0, np.array(cover.shape[::-1]) - 1).T
        alive[t] &= cv2.dilate(cover.astype(np.uint8), np.ones((3, 3), np.uint8))[y, x] > 0
    return Tracks(start, cells, pixels, alive)


def _label_pixels(mask: np.ndarray, tracks: Tracks, labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the part that each pixel of a mask belongs to, [h, w], -1 outside: that of near points of alike color."""
    step = int(np.median(np.diff(np.unique(tracks.start[:, 0])))) if len(np.unique(tracks.start[:, 0])) > 1 else 1
    radius = 2 * step
    best, out = np.full(mask.shape, -1.0, np.float32), np.where(mask, 0, -1)
    x, y = tracks.start.astype(int).T
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    near = np.exp(-(xx**2 + yy**2) / (2.0 * step**2)).astype(np.float32)
    padded = cv2.copyMakeBorder(image, radius, radius, radius, radius, cv2.BORDER_REPLICATE).astype(np.float32)
    for number in range(labels.max() + 1):
        votes = np.zeros(np.array(mask.shape) + 2 * radius, np.float32)
        for px, py in zip(x[labels == number], y[labels == number], strict=True):
            window = np.s_[py : py + 2 * radius + 1, px : px + 2 * radius + 1]
            apart = np.abs(padded[window] - image[py, px]).max(axis=-1)
            votes[window] += near * (0.1 + np.exp(-np.square(apart / 20.0)))
        own = votes[radius:-radius, radius:-radius]
        better = mask & (own > best)
        out[better], best[better] = number, own[better]
    return out


def _move(
    thing: int, tracks: Tracks, maps: np.ndarray, outline: Outline, first: int, silhouettes: list[Silhouette]
) -> Part:
    """Return a part whose vertices move by its maps and tracks, and whose outline is pulled to the silhouettes."""
    smooth = apply(maps, tracks.start)
    beyond = tracks.pixels - smooth
    length = np.linalg.norm(beyond, axis=2)
    weight = tracks.known / (1 + np.square(length / _MOST_BEYOND) ** 2)
    apart = np.square(outline.pixels[:, None] - tracks.start).sum(axis=2)
    step = max(_SPACING, float(np.sqrt(np.sort(np.square(tracks.start[:1] - tracks.start).sum(axis=1))[1]))
               if len(tracks.start) > 1 else _SPACING)  # fmt: skip
    near = np.exp(-apart / (2 * (1.5 * step) ** 2))
    total = weight @ near.T  # [T, V]
    extra = np.einsum("vn,tnc->tvc", near, weight[..., None] * beyond, optimize=True)
    extra /= (total + 0.5)[..., None]
    pixels = apply(maps, outline.pixels) + extra
    visible = np.ones(pixels.shape[:2], bool)
    for t, silhouette in enumerate(silhouettes):
        if t != first:
            pixels[t], outside = snap_outline(outline, pixels[t], maps[t], silhouette)
            hidden = outside >= _OUTSIDE
            corners = outline.triangles[hidden[outline.triangles].any(axis=1)]
            hidden[corners.ravel()] = True  # so that no triangle reaches out
            visible[t] = ~hidden
    return Part(thing, tracks, maps, outline, first, pixels, visible)


def _seen_colors(part: _Begun, smooth: np.ndarray) -> np.ndarray:
    """Return how far colors at a part's points are from those in the first frame, [T, N] levels."""
    height, width = smooth.shape[1:3]
    places = apply(part.maps, part.tracks.start)
    x, y = np.clip(places.astype(int), 0, (width - 1, height - 1)).transpose(2, 0, 1)
    colors = smooth[np.arange(len(smooth))[:, None], y, x].astype(np.int16)
    inside = ((places >= 0) & (places < (width, height))).all(axis=2)
    return np.where(inside, np.abs(colors - colors[0]).max(axis=2), 255)


def _who_is_ahead(parts: list[_Begun], smooth: np.ndarray) -> np.ndarray:
    """Return evidence that one part is in front of another in each frame, [P, P, T]; more than 0 if it is.

    Where a part's map leads points into another part, the part in front is the one whose colors are seen there.
    """
    count, frames = len(parts), len(smooth)
    votes = np.zeros((count, count, frames))
    colors = [_seen_colors(part, smooth) for part in parts]
    places = [apply(part.maps, part.tracks.start) for part in parts]
    back = [invert(part.maps) for part in parts]
    low, high = (np.array([edge(place, axis=1) for place in places]) for edge in (np.min, np.max))  # [P, T, 2]
    inner = [cv2.erode(part.region.astype(np.uint8), np.ones((3, 3), np.uint8)) for part in parts]
    height, width = smooth.shape[1:3]
    for one in range(count):
        for other in range(count):
            if one == other:
                continue
            for t in np.flatnonzero((low[one] < high[other]).all(axis=1) & (low[other] < high[one]).all(axis=1)):
                origin = apply(back[other][t], places[one][t])
                inside = ((origin >= 0) & (origin < (width, height))).all(axis=1)
                x, y = np.clip(origin.astype(int), 0, (width - 1, height - 1)).T
                both = inside & (inner[other][y, x] > 0)
                votes[one, other, t] = (colors[one][t][both] < _MATCHED).sum()
                votes[one, other, t] -= (colors[one][t][both] > _OTHER).sum()
    evidence = votes - votes.transpose(1, 0, 2)
    near = cv2.blur(evidence.reshape(-1, frames), (_WINDOW, 1)).reshape(evidence.shape) if count else evidence
    sizes = np.array([len(part.tracks.start) for part in parts])
    usual = np.sign(sizes[None] - sizes[:, None]) + 0.1 * np.sign(np.arange(count) - np.arange(count)[:, None])
    overall = evidence.sum(axis=2)
    usual = np.where(np.abs(overall) > _SURE_ORDER, overall, usual)  # else the smaller one is in front
    return np.where(np.abs(near) > _SURE_ORDER / _WINDOW, np.sign(near), np.sign(usual)[..., None])


def _drawn(parts: list[Part], t: int, size: tuple[int, int]) -> np.ndarray:
    """Return the part that covers each pixel of a frame, [h, w], -1 for none."""
    buffers = Buffers.empty(size)
    for number, part in enumerate(parts):
        faces = part.outline.triangles
        faces = faces[part.visible[t][faces].any(axis=1)]
        depth = np.full((len(part.outline.pixels), 1), 1.0 + 0.01 * number)
        draw(buffers, np.concatenate([part.pixels[t], 1 / depth, depth], axis=1), faces, number)
    return np.where(buffers.label == NOTHING, -1, buffers.label)


def _add_later(
    parts: list[Part],
    owners: list[int],
    smooth: np.ndarray,
    covers: np.ndarray,
    certain: np.ndarray,
    flows: Flows,
    silhouettes: list[Silhouette],
) -> None:
    """Add what comes into view later to the parts, in the frames that show most of it."""
    size = smooth.shape[2], smooth.shape[1]
    tried: set[int] = {0}
    rest = {t: certain[t] & (_drawn(parts, t, size) < 0) for t in range(len(smooth))}
    for _ in range(_LATER):
        areas = {t: int(_opened(mask).sum()) for t, mask in rest.items() if t not in tried}
        if not areas or len(parts) > len(set(owners)) + _MOST_LATER:
            return
        t = max(areas, key=lambda frame: areas[frame])
        if areas[t] < _SMALLEST:
            return
        tried |= {t - 1, t, t + 1}
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(_opened(rest[t]).astype(np.uint8), connectivity=8)
        fresh = []
        for piece in np.argsort(-stats[1:, cv2.CC_STAT_AREA]) + 1:
            if stats[piece, cv2.CC_STAT_AREA] < _SMALLEST // 2:
                break
            part, owner = _later_part(pieces == piece, t, parts, owners, covers, flows, silhouettes)
            if part is not None:
                owners.append(len(parts) if owner is None else owner)
                parts.append(part)
                fresh.append(part)
        if fresh:
            for frame in rest:
                rest[frame] &= _drawn(fresh, frame, size) < 0


def _opened(mask: np.ndarray) -> np.ndarray:
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(bool)


def _later_part(
    piece: np.ndarray,
    t: int,
    parts: list[Part],
    owners: list[int],
    covers: np.ndarray,
    flows: Flows,
    silhouettes: list[Silhouette],
) -> tuple[Part | None, int | None]:
    """Return a part for what a frame shows, and the part that it belongs to."""
    mask = cv2.dilate(piece.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & covers[t]
    tracks = _follow(mask, covers, lambda start: flows.follow(start, t))
    if len(tracks.start) < 3:
        return None, None
    # Of the parts near by, the one whose motion it shares.
    some = tracks.start[:: max(1, len(tracks.start) // 40)]
    best, owner, shared = np.inf, -1, tracks.pixels[:, :3, :]
    for number, part in enumerate(parts):
        if part.first == 0:
            gap = np.sqrt(np.square(part.pixels[t][:, None] - some).sum(axis=-1).min(axis=0))
            gap = np.percentile(gap, _BESIDE)
            shifts = compose(invert(part.maps[t])[None], part.maps)
            miss = np.linalg.norm(apply(shifts, tracks.start) - tracks.pixels, axis=2)[tracks.known]
            cost = float(np.median(miss)) + _GAP * float(gap)
            if cost < best and gap < _FARTHEST:
                best, owner, shared = cost, number, shifts
    if owner < 0:
        return None, None
    own = shared if best < _SHARES_MOTION else part_maps(tracks, shared, t)
    part = parts[owner]
    shown = np.ones(len(covers), bool) if own is shared else tracks.known.mean(axis=1) > _KNOWN_SHARE
    shown[0] = False  # all of it is shown by the parts of the first frame
    outline = outline_mesh(mask, np.zeros_like(mask), covers[t])
    moved = _move(part.thing, tracks, own, outline, t, silhouettes)
    return replace(moved, visible=moved.visible & shown[:, None]), owners[owner]
