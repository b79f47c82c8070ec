# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves in front of still surfaces in each frame: its mask, from a clean plate of what is behind it.

Points of several frames are followed by optical flow; those that leave the place where the solved camera would show
them, while another color is seen there, belong to what moves, for the whole clip, also while it rests. Each pixel of
the first frame is looked up in all frames along the camera and the depth of what stands still; the median of what does
not move there is the clean plate, or, where the camera moves and few frames show it, the color that most of these agree
on. A pixel of a frame is covered where it differs from the plate by more than still pixels around it do.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from trackshade.control.compiling import inlined, kernel
from trackshade.tracking.bundle import Solution
from trackshade.tracking.flow import Flows, largest_channel, read_field

_SAMPLES = 18  # frames that the plate is made of
_INVERSIONS = 5  # rounds of finding the pixel of the first frame that a pixel of another frame shows
_LEAST, _NOISE = 14.0, 3.0  # levels from which a pixel differs: at least, and times the usual difference there
_TOLERANCE = 3  # pixels along a side of the neighborhood whose colors are alike enough
_SHADOW = 0.8, 3.0  # correlation with the plate from which a pixel lies in a shadow, and levels of texture for it
_SMALLEST = 24  # pixels of a piece
_KEYS, _SPACING = 5, 4  # frames whose points are followed, and their distance, px
_SEEN = 0.15  # of the frames that have to show a pixel of the plate, for their median to be its color
_MOSTLY = 0.4  # the same before a camera that moves
_AGREE = 3  # frames that have to show the same color where nothing is known to move
_PATCH, _TEXTURE = 9, 3.0  # px, and levels: standard deviation in such a square from which a point can be followed
_GAP = 5  # px between pieces of what moves that move with them
_RECOLORED = 40  # levels by which the color of a followed point may change
_UNKNOWN = 0.2  # points that move, added to those in each cell
_CONSTANT = 6.0  # levels: median change of a color that stays
_APART = 2.0  # px from where the camera would show a point, from which it moves by itself
_LEAVES = 0.25  # times the frames in which it is there, for which it has to leave: flow drags along what is hidden
_LARGEST_HOLE = 0.05  # of the picture: of what moves, where nothing is known of what is behind
_OTHER_COLOR = 14  # levels by which another color is seen there
_OTHER_DEPTHS = 0.8, 0.9, 1.12, 1.25  # factors of depths that may be wrong
_SURE_DEPTHS = 0.94, 1.06  # and of depths behind what moves: what stands still before these is a part of it
_BESIDE = 13  # px: size of the square around what is known to move in which pixels that differ move with it
_NEAREST, _OUTSIDE = 1e-9, -1e4  # least depth that a frame shows, and where it shows what is nearer, px
_MOVING_SHARE = 0.25  # of the pixels of a piece that have to be known to move


def cover_masks(
    images: np.ndarray,
    flows: Flows,
    solution: Solution,
    inverse_depths: np.ndarray,
    hidden: np.ndarray,
    figure: np.ndarray,
    near: np.ndarray | None,
    given: np.ndarray | None,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which pixels of each frame show something that moves in front of what stands still, and where those are.

    Args:
        images: [T, h, w, 3] uint8, of the size that flow is computed in.
        flows: how pixels move.
        solution: cameras, with the focal length and the center in pixels of these pictures.
        inverse_depths: [h, w] of what stands still in the first frame, continued behind what moves.
        hidden: [h, w] pixels of the first frame around what moves, where these depths are those behind it.
        figure: [h, w] pixels of the first frame that are in front of those depths, and joined to what moves.
        near: [h, w] pixels of the first frame that may move; None for all.
        given: [h, w] pixels of the first frame that are said to move; None where that is to be found.
        threads: number of threads.

    Returns:
        [T, h, w] bool, those masks; [T, h, w] bool, the pixels of them that differ from what other frames show behind
        them; and [T, h, w, 2] where each frame shows the still surfaces at the pixels of the first one.
    """
    count, height, width = images.shape[:3]
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 0.8) for image in images])
    parallax = bool(np.ptp(solution.translations, axis=0).any())
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([x, y], axis=-1)
    place = solution.rays(pixels) / inverse_depths[..., None]
    maps, back = np.empty((2, count, height, width, 2), np.float32)
    lens, pixels = np.array([solution.focal, *solution.center], np.float64), pixels.astype(np.float32)

    def project(t: int) -> None:
        _project(place, solution.rotations[t], solution.translations[t], lens, maps[t])
        back[t] = _invert(maps[t], pixels)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(project, range(count)))
    moving, resting, known_to_move = _motion_maps(
        smooth, flows, solution, inverse_depths, back, hidden, figure, near, given
    )
    chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLES)).round().astype(int))
    samples = np.full((len(chosen), height, width, 3), np.nan, np.float32)
    is_clear, is_left = np.zeros(samples.shape[:3], bool), np.zeros(samples.shape[:3], bool)
    window = np.ones((5, 5), np.uint8)
    for number, t in enumerate(chosen):
        clear = 1 - cv2.dilate(known_to_move[t].astype(np.uint8), window)
        inside = ((maps[t] >= 0) & (maps[t] < (width, height))).all(axis=-1)
        samples[number][inside] = _sample(smooth[t], maps[t])[inside]
        is_clear[number] = inside & (_sample(clear.astype(np.float32), maps[t]) > 0.9)
        is_left[number] = inside & (_sample(known_to_move[t].astype(np.float32), maps[t]) < 0.1)
    known = is_clear.sum(axis=0) >= max(2, (_MOSTLY if parallax else _SEEN) * len(chosen))
    if not known.any():
        return moving, moving, maps
    plate = np.nan_to_num(_median(np.where(is_clear[..., None], samples, np.nan))).astype(np.uint8)
    # Elsewhere, a color that several frames agree on, and that is seen less where something is known to move.
    rest = np.flatnonzero(~known) if parallax else np.zeros(0, np.intp)
    colors, agreed = _agreed(samples.reshape(len(chosen), -1, 3)[:, rest], is_left.reshape(len(chosen), -1)[:, rest])
    plate.reshape(-1, 3)[rest[agreed]] = colors[agreed]
    known.reshape(-1)[rest[agreed]] = True
    plate = cv2.inpaint(plate, (~known).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    # What keeps its color although something seems to move, and looks like what is around it, stands still, too: flow
    # drags what has no texture along.
    usual = np.nan_to_num(_median(samples))
    spread = np.nan_to_num(_median(largest_channel(np.abs(samples - usual))[..., None])[..., 0], nan=np.inf)
    alike = largest_channel(np.abs(usual - plate)) < _LEAST
    kept = ~known & (spread < _CONSTANT) & alike
    plate[kept] = usual[kept].astype(np.uint8)
    known |= kept
    with ThreadPoolExecutor(threads) as pool:
        differences = list(pool.map(lambda t: _difference(_sample(plate, back[t]), smooth[t]), range(count)))
    usual = np.stack([np.where(_sample(resting[t].astype(np.float32), maps[t]) > 0.5,
                               _sample(differences[t], maps[t]), np.nan) for t in chosen])  # fmt: skip
    typical = np.nan_to_num(_median(usual[..., None])[..., 0])
    typical = cv2.blur(np.minimum(typical, _LEAST).astype(np.float32), (5, 5))

    def find(t: int) -> tuple[np.ndarray, np.ndarray]:
        differs = differences[t] > _LEAST + _NOISE * _sample(typical, back[t])
        valid = ((back[t] >= 0) & (back[t] < (width, height))).all(axis=-1)
        sure = _sample(known.astype(np.float32), back[t]) > 0.5
        around = cv2.dilate(moving[t].astype(np.uint8), np.ones((_BESIDE, _BESIDE), np.uint8)) > 0
        differs &= valid & (sure | (known_to_move[t] if parallax else ~resting[t]))
        if parallax:  # beyond the first frame there is no plate
            differs |= ~valid & known_to_move[t]
            sure &= valid
        differs &= around
        found = _that_move(_clean(differs), moving[t])
        mask = _filled(found, ~sure & ~resting[t]) if parallax else found
        return mask, mask & sure if parallax else mask

    with ThreadPoolExecutor(threads) as pool:
        masks, certain = zip(*pool.map(find, range(count)), strict=True)
    return np.stack(masks), np.stack(certain), maps


def _motion_maps(
    smooth: np.ndarray,
    flows: Flows,
    solution: Solution,
    inverse_depths: np.ndarray,
    back: np.ndarray,
    hidden: np.ndarray,
    figure: np.ndarray,
    near: np.ndarray | None,
    given: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which pixels show what moves at any time, [T, h, w] bool, which what never does, and which surely move."""
    count, height, width = back.shape[:3]
    rows, columns = -(-height // _SPACING), -(-width // _SPACING)
    votes = np.zeros((2, count, rows * columns), np.float32)
    parallax = bool(np.ptp(solution.translations, axis=0).any())
    x, y = np.meshgrid(np.arange(1, width, _SPACING) + 0.5, np.arange(1, height, _SPACING) + 0.5)
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    for key in np.unique(np.linspace(0, count - 1, min(count, _KEYS)).round().astype(int)).tolist():
        pixels, alive = flows.follow(points, key)
        x, y = np.clip(pixels.astype(int), 0, (width - 1, height - 1)).transpose(2, 0, 1)
        colors = smooth[np.arange(count)[:, None], y, x].astype(np.int16)
        # Flow drags what is beside a moving thing along.
        alive &= largest_channel(np.abs(colors - colors[key])) < _RECOLORED
        if parallax:  # and what has no texture
            alive &= _inside(_contrast(smooth[key]) > _TEXTURE, points)
        origin = read_field(back[key], points)
        if parallax:  # beyond the first frame, depths are not known
            alive &= ((origin >= 0) & (origin < (width, height))).all(axis=1)
        depth = 1 / np.maximum(read_field(inverse_depths[..., None], origin), 1e-9)
        world = solution.rays(origin) * depth
        still = _Still(smooth, solution, world, key)
        moves = still.leaves(np.arange(len(points)), pixels, alive, 1.0, _LEAVES if parallax else 0.0)
        rests = np.zeros(len(points), bool)  # a part of what moves, which stands still in front of what is behind it
        chosen = np.flatnonzero(alive[0] & _inside(figure, pixels[0]))
        rests[chosen] = still.leaves(chosen, pixels, alive, 1.0, 0.0)
        for is_sure, factors in ((True, _SURE_DEPTHS), (False, _OTHER_DEPTHS)) if parallax else ():
            for factor in factors:
                chosen = np.flatnonzero(moves & (_inside(hidden, origin) == is_sure))
                moves[chosen] = still.leaves(chosen, pixels, alive, factor)
        moves |= rests
        x, y = np.clip(pixels[0].astype(int), 0, (width - 1, height - 1)).T
        if near is not None:
            moves &= ~alive[0] | near[y, x]
        if given is not None:
            moves = np.where(alive[0], given[y, x], moves)
        cells = np.clip(pixels.astype(int) // _SPACING, 0, (columns - 1, rows - 1))
        index = cells[..., 1] * columns + cells[..., 0]
        for t in range(count):
            for kind in (0, 1):
                chosen = alive[t] & (moves == bool(kind))
                votes[kind, t] += np.bincount(index[t, chosen], minlength=rows * columns)
    out, sure = [], []
    for t in range(count):
        still, moving = (cv2.GaussianBlur(votes[kind, t].reshape(rows, columns), (0, 0), 0.7) for kind in (0, 1))
        share = (moving + _UNKNOWN) / (still + moving + _UNKNOWN)  # where no point is known, something is new
        of_known = moving / np.maximum(still + moving, 0.05)  # 0 where none is known
        for pictures, values in ((out, share), (sure, of_known)):
            pictures.append(cv2.resize(values, (columns * _SPACING, rows * _SPACING))[:height, :width])
    shares = np.stack(out)
    moving = shares > 0.5
    return moving, shares < 0.2, np.stack([_closed(item > 0.5) for item in sure]) if parallax else moving


@dataclass(frozen=True, eq=False)
class _Still:
    """Points as they would be seen if they stood still.

    Attributes:
        smooth: [T, h, w, 3] uint8.
        solution: the cameras.
        world: [N, 3] where they are.
        key: frame in which they were found.
    """

    smooth: np.ndarray
    solution: Solution
    world: np.ndarray
    key: int

    def leaves(
        self, chosen: np.ndarray, pixels: np.ndarray, alive: np.ndarray, factor: float, share: float = _LEAVES
    ) -> np.ndarray:
        """Return which points leave the places where a depth, times a factor, would show them.

        A place that has the point's color in all frames may well show it: flow drags along what has no texture.

        Args:
            chosen: [M] the points that are asked for.
            pixels: [T, N, 2] where they were followed to.
            alive: [T, N] whether that is known.
            factor: of the depth in their frame.
            share: times the frames in which they are there, for which they have to leave.
        """
        solution, key = self.solution, self.key
        local = (self.world[chosen] @ solution.rotations[key].T + solution.translations[key]) * factor
        world = (local - solution.translations[key]) @ solution.rotations[key]
        counts = np.zeros((len(chosen), 2), np.intp)
        lens = np.array([solution.focal, *solution.center], np.float64)
        _count_leaving(
            self.smooth, solution.rotations, solution.translations, lens, key, world, pixels[:, chosen],
            alive[:, chosen], counts,
        )  # fmt: skip
        leaves, stays = counts.T
        return (leaves >= 2) & (leaves > share * stays)


@kernel
def _count_leaving(images, rotations, translations, lens, key, world, pixels, alive, counts):
    """Count in how many frames points are elsewhere than where they would stand still, and in how many they are there.

    Args:
        images: [T, h, w, 3] uint8.
        rotations: [T, 3, 3] of the cameras.
        translations: [T, 3] of the cameras.
        lens: focal length and center, pixels.
        key: frame that shows the points' colors.
        world: [N, 3] where they would be.
        pixels: [T, N, 2] where they were followed to.
        alive: [T, N] whether that is known.
        counts: [N, 2] added to. Elsewhere, another color has to be seen where the point would be.
    """
    height, width = images.shape[1:3]
    for n in range(world.shape[0]):
        column = min(max(int(pixels[key, n, 0]), 0), width - 1)
        row = min(max(int(pixels[key, n, 1]), 0), height - 1)
        for t in range(images.shape[0]):
            if not alive[t, n]:
                continue
            x, y = _seen_at(world[n], rotations[t], translations[t], lens)
            if math.sqrt((x - pixels[t, n, 0]) ** 2 + (y - pixels[t, n, 1]) ** 2) <= _APART:
                counts[n, 1] += 1
            elif not (0 <= x < width and 0 <= y < height):
                counts[n, 0] += 1
            else:
                for c in range(3):
                    level = np.int64(images[t, int(y), int(x), c])
                    if abs(level - np.int64(images[key, row, column, c])) > _OTHER_COLOR:
                        counts[n, 0] += 1
                        break


def _contrast(image: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the gray levels around each pixel, [h, w]."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (_PATCH, _PATCH)
    return np.sqrt(np.maximum(cv2.blur(gray * gray, size) - cv2.blur(gray, size) ** 2, 0))


def _closed(mask: np.ndarray) -> np.ndarray:
    """Return a mask with what lies between and within its pieces: what has no texture does as its outline does."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((_GAP, _GAP), np.uint8))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(1 - closed, connectivity=4)
    height, width = mask.shape
    low, high = stats[:, :2], stats[:, :2] + stats[:, 2:4]
    enclosed = (low > 0).all(axis=1) & (high < (width, height)).all(axis=1)
    enclosed[0] = False
    return (closed > 0) | enclosed[np.asarray(pieces, np.intp)] if count > 1 else closed > 0


def _inside(mask: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    x, y = np.clip(pixels.astype(int), 0, np.array(mask.shape[::-1]) - 1).T
    return mask[y, x]


def _that_move(mask: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Return the pieces of a mask enough of which is known to move."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    share = np.bincount(labels.ravel(), moving.ravel(), count) / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    chosen = share > _MOVING_SHARE
    chosen[0] = False
    return chosen[np.asarray(labels, np.intp)]


def _filled(mask: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Return a mask with those of its holes filled whose background is mostly unknown: nothing is seen through them."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    share = np.bincount(labels.ravel(), unknown.ravel(), count) / np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    holes = (share > 0.5) & (stats[:, cv2.CC_STAT_AREA] < _LARGEST_HOLE * mask.size)
    holes[0] = False
    return mask | holes[np.asarray(labels, np.intp)]


@kernel
def _project(place, rotation, translation, lens, out):
    """Write where a camera shows points [h, w, 3] of the first camera's space, pixels; outside if they are behind it.

    Args:
        place: the points.
        rotation: [3, 3] of the camera.
        translation: [3] of the camera.
        lens: focal length and center, pixels.
        out: [h, w, 2] written to.
    """
    for row in range(place.shape[0]):
        for column in range(place.shape[1]):
            out[row, column, 0], out[row, column, 1] = _seen_at(place[row, column], rotation, translation, lens)


@inlined
def _seen_at(place, rotation, translation, lens):
    """Return where a camera shows a point, pixels; outside if it is behind it."""
    x = rotation[0, 0] * place[0] + rotation[0, 1] * place[1] + rotation[0, 2] * place[2] + translation[0]
    y = rotation[1, 0] * place[0] + rotation[1, 1] * place[1] + rotation[1, 2] * place[2] + translation[1]
    z = rotation[2, 0] * place[0] + rotation[2, 1] * place[1] + rotation[2, 2] * place[2] + translation[2]
    return (lens[0] * x / z + lens[1], lens[0] * y / z + lens[2]) if z > _NEAREST else (_OUTSIDE, _OUTSIDE)


def _sample(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    x, y = (np.ascontiguousarray(pixels[..., axis] - 0.5, np.float32) for axis in (0, 1))
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _median(samples: np.ndarray) -> np.ndarray:
    """Return the median over the first axis of what is not NaN."""
    order = np.sort(samples, axis=0)  # NaN comes last
    middle = (np.isfinite(samples[..., 0]).sum(axis=0) - 1) // 2
    index = np.broadcast_to(np.maximum(middle, 0)[None, ..., None], (1, *samples.shape[1:]))
    return np.take_along_axis(order, index, axis=0)[0]


def _agreed(samples: np.ndarray, is_left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the colors that samples of pixels agree on, [N, 3] uint8, and whether enough do, [N].

    Args:
        samples: [S, N, 3] levels; NaN outside the picture.
        is_left: [S, N] which are not known to show what moves.
    """
    colors, best = np.zeros(samples.shape[1:], np.uint8), np.zeros(samples.shape[1], np.intp)
    _find_agreed(samples, is_left, colors, best)
    return colors, best >= _AGREE


@kernel
def _find_agreed(samples, is_left, colors, best):
    """Write the mean of the samples that are alike most others to `colors` [N, 3], and their numbers to `best` [N]."""
    count = samples.shape[0]
    total = np.empty(3, np.float32)
    for n in range(samples.shape[1]):
        for s in range(count):
            if not is_left[s, n]:
                continue
            own, others = 0, 0
            total[:] = 0.0
            for k in range(count):
                apart = np.float32(0.0)
                for c in range(3):
                    apart = max(apart, abs(samples[k, n, c] - samples[s, n, c]))
                if not apart < _LEAST or math.isnan(samples[k, n, 0]):
                    continue
                if not is_left[k, n]:
                    others += 1
                    continue
                own += 1
                for c in range(3):
                    total[c] += samples[k, n, c]
            if own > max(best[n], others):
                best[n] = own
                for c in range(3):
                    colors[n, c] = np.uint8(total[c] / own)


def _invert(forward: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels of the first frame that pixels of a frame show, by fixed-point iteration."""
    move = (forward - pixels).astype(np.float32)
    origin = pixels - move
    for _ in range(_INVERSIONS):
        origin = pixels - _sample(move, origin)
    return origin.astype(np.float32)


def _difference(shown: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return how far the colors of a frame are from those of the plate around the pixel, levels; 0 in shadows."""
    window = np.ones((_TOLERANCE, _TOLERANCE), np.uint8)
    above, below = cv2.subtract(image, cv2.dilate(shown, window)), cv2.subtract(cv2.erode(shown, window), image)
    difference = largest_channel(cv2.max(above, below)).astype(np.float32)
    one, other = (cv2.cvtColor(item, cv2.COLOR_RGB2GRAY).astype(np.float32) for item in (shown, image))
    size = (7, 7)
    means = cv2.blur(one, size), cv2.blur(other, size)
    product = cv2.blur(one * other, size) - means[0] * means[1]
    spread = [cv2.blur(item * item, size) - mean * mean for item, mean in zip((one, other), means, strict=True)]
    alike = product / np.sqrt(np.maximum(spread[0] * spread[1], 1.0))
    ratio = (image.astype(np.float32) + 8) / (shown.astype(np.float32) + 8)
    even = largest_channel(ratio) + largest_channel(-ratio) < 0.15
    shadow = (alike > _SHADOW[0]) & (spread[0] > _SHADOW[1] ** 2) & even
    return np.where(shadow, np.float32(0), difference)


def _clean(mask: np.ndarray) -> np.ndarray:
    """Return a mask without specks and without holes that are small."""
    out = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    out = cv2.morphologyEx(out, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    for value in (1, 0):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((out == value).astype(np.uint8), connectivity=4)
        small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < _SMALLEST)
        small = small[small > 0]
        if count > 1 and len(small):
            out[np.isin(labels, small)] = 1 - value
    return out.astype(bool)
