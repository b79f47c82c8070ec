# SPDX-License-Identifier: GPL-3.0-or-later
"""Fills the unknown texels of a canvas, the image of a surface, once and for all frames.

By `method="auto"`, each texel is filled by the first of these that applies:

1. lattice (planes): the texture repeats, and known texels lie at whole multiples of its period;
2. symmetry (atlases with positions): a mirror image or turn of the body shows known texels there;
3. PatchMatch: patches of the known image, guided by a smooth fill;
4. push-pull: where too little is known for patches, and on charts of which hardly anything is known.

All of them are invariant to the scale of the colors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.ndimage import binary_dilation, uniform_filter

from trackshade.core.errors import UsageError
from trackshade.propagation.fills.healing import find_light
from trackshade.propagation.fills.lattice import find_lattice
from trackshade.propagation.fills.lattice_fill import fill_lattice
from trackshade.propagation.fills.patch_match import patch_sources
from trackshade.propagation.fills.push_pull import connected_parts, fill_points, push_pull, push_pull_charts
from trackshade.propagation.fills.symmetry import SurfacePoints, fill_symmetric

Method = Literal["auto", "lattice", "symmetry", "patch-match", "push-pull", "flat"]
METHODS: tuple[Method, ...] = ("auto", "lattice", "symmetry", "patch-match", "push-pull", "flat")
# Values of `FilledCanvas.method`.
KNOWN, LATTICE, SYMMETRY, PATCH_MATCH, PUSH_PULL, FLAT, OUTSIDE = range(7)
UNSEEN_COLOR = 0.18  # of a canvas of which nothing is known
DRAWN_SHARE = 0.1  # of a chart that must be known for PatchMatch to draw the rest of it
LEVEL, MOST_GAIN = 0.06, 1.5  # squares whose mean colors are matched, of the longer side; largest factor
GUTTER = 4  # texels around the surface that take the colors of its rim
GRID = 3  # texels between those of an atlas whose smooth fill is looked for in space
_GUIDE = {"plane": 0.1, "atlas": 4.0}  # how closely PatchMatch follows the smooth fill


@dataclass(frozen=True, eq=False)
class FilledCanvas:
    """A canvas without unknown texels.

    Attributes:
        color: [h, w, 3] float32. Texels outside the surface continue it, so that bilinear samples at its rim have its
            own colors.
        healed: [h, w] bool, known texels that were replaced, because they disagree with the repeating pattern.
        method: [h, w] uint8, what filled each texel: KNOWN, LATTICE, SYMMETRY, PATCH_MATCH, PUSH_PULL, FLAT or OUTSIDE.
        explained: fraction of the variance of the known texels that their lattice predicts; 0 where none is used.
    """

    color: np.ndarray
    healed: np.ndarray
    method: np.ndarray
    explained: float = 0.0


def fill_canvas(
    color: np.ndarray,  # [h, w, 3] float32
    known: np.ndarray,  # [h, w] bool
    inside: np.ndarray,  # [h, w] bool
    *,
    kind: Literal["plane", "atlas"],
    seed: int = 0,
    progress: Callable[[float], None] = lambda fraction: None,
    positions: np.ndarray | None = None,  # [h, w, 3] float32
    normals: np.ndarray | None = None,  # [h, w, 3] float32
    others: SurfacePoints | None = None,
    method: Method = "auto",
    heal: bool = True,
    light: np.ndarray | None = None,  # [h, w, 3] float32
    doubtful: np.ndarray | None = None,  # [h, w] bool
    viewed: np.ndarray | None = None,  # [h, w] bool
) -> FilledCanvas:
    """Fill the unknown texels of a canvas.

    Args:
        color: linear colors, reflectances or radiances of any scale; ignored where unknown.
        known: the texels that some picture shows.
        inside: the texels that belong to the surface. The others are neither used nor filled, but for a gutter.
        kind: "plane" for a flat surface at one scale, whose texture may repeat; "atlas" for charts of a body.
        seed: seed of the random search of PatchMatch.
        progress: called with the fraction that is done; what it raises ends the work.
        positions: points of the texels in object space, any length unit, by which an atlas is filled across charts.
        normals: unit normals there, by which thin walls are told apart.
        others: known points of the same mesh that are not on this canvas, for atlases with positions and normals.
        method: the best fill that is allowed. "lattice" and "symmetry" fill the rest smoothly.
        heal: whether known texels that disagree with a repeating pattern may be replaced.
        doubtful: unknown texels in narrow bands between known ones, which are filled smoothly where no lattice tells.
        viewed: texels that are looked at; the others of a plane are filled smoothly. All of them if None.
        light: light that the colors were divided by. In its shadows, disagreement is believed to be left-over light.

    Raises:
        UsageError: the arrays do not fit together, or a known color is not a finite number.
    """
    color = np.asarray(color, np.float32)
    known = _check(color, known, inside, kind, method, positions, normals)
    inside = np.asarray(inside, bool)
    code = np.where(inside, np.where(known, KNOWN, FLAT), OUTSIDE).astype(np.uint8)
    none = np.zeros(known.shape, bool)
    progress(0.0)
    if kind != "atlas" or positions is None or normals is None or (others is not None and not len(others.positions)):
        others = None
    seen = color[known] if others is None else np.concatenate([color[known], others.colors])
    if not len(seen):
        return FilledCanvas(np.full_like(color, UNSEEN_COLOR), none, code)
    scale = float(np.abs(seen).mean()) or 1.0
    if others is not None:
        others = replace(others, colors=(others.colors / np.float32(scale)).astype(np.float32))
    out = np.where(known[..., None], color / np.float32(scale), np.float32(0))
    done, healed, explained = known.copy(), none, 0.0
    if kind == "plane" and method in ("auto", "lattice"):
        filled, healed, explained = _continue_lattice(out, known, inside, heal, light)
        code[filled] = LATTICE
        done |= filled
        progress(0.3)
    if kind == "atlas" and method in ("auto", "symmetry") and positions is not None and not done[inside].all():
        filled = fill_symmetric(out, done, inside, positions, normals, others)
        code[filled] = SYMMETRY
        done |= filled
        progress(0.3)
    rest = inside & ~done
    if rest.any() and method == "flat":
        out[rest] = np.median(seen, axis=0) / np.float32(scale)
    elif rest.any():
        smooth = _smooth(out, done, inside, positions if kind == "atlas" else None, normals, others)
        out[rest] = smooth[rest]
        code[rest] = PUSH_PULL
        if doubtful is not None:
            done |= rest & doubtful
            rest &= ~doubtful
        if method in ("auto", "patch-match") and rest.any():
            if kind == "atlas":
                drawn = _known_charts(done, inside)
            else:
                drawn = inside if viewed is None else inside & (viewed | done)
            source = patch_sources(
                _coded(out), done, drawn, _coded(smooth), seed=seed, guide=_GUIDE[kind],
                progress=lambda part: progress(0.3 + 0.7 * part),
            )  # fmt: skip
            if source is not None:
                found = rest & (source[..., 0] >= 0)
                out[found] = out[tuple(source[found].T)]
                code[found] = PATCH_MATCH
                if kind == "plane":
                    _match_levels(out, smooth, found, done)
    if not inside.all():
        out[~inside] = _grown(out, inside)[~inside]
    out *= np.float32(scale)
    untouched = known & ~healed
    out[untouched] = color[untouched]
    progress(1.0)
    return FilledCanvas(out, healed, code, explained)


def _check(color, known, inside, kind, method, positions, normals) -> np.ndarray:
    """Raise UsageError for bad input; return the known texels inside."""
    shape = color.shape[:2]
    if color.ndim != 3 or color.shape[2] != 3 or known.shape != shape or inside.shape != shape or color.size == 0:
        raise UsageError(
            "bad-canvas",
            f"A canvas has colors [h, w, 3] and masks [h, w], but these are {color.shape}, {known.shape} and "
            f"{inside.shape}.",
        )
    for name, part in (("positions", positions), ("normals", normals)):
        if part is not None and part.shape != color.shape:
            raise UsageError("bad-canvas", f"The {name} of a canvas are {part.shape}, but its colors {color.shape}.")
    if kind not in _GUIDE or method not in METHODS:
        raise UsageError("bad-canvas", f"A canvas of kind '{kind}' cannot be filled by '{method}'.")
    known = np.asarray(known, bool) & np.asarray(inside, bool)
    bad = known & ~np.isfinite(color).all(axis=2)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UsageError(
            "bad-canvas",
            f"{int(bad.sum())} known texels of a canvas are not finite numbers, the first in row {row}, column "
            f"{column}.",
            "Mark such texels as unknown.",
        )
    return known


def _continue_lattice(
    color: np.ndarray, known: np.ndarray, inside: np.ndarray, heal: bool, light: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fill repeating texture in place; return the filled texels, the healed ones, and how much the lattice explains."""
    none = np.zeros_like(known)
    coded = _coded(color)
    lattice = find_lattice(coded, known)
    if lattice is None:
        return none, none, 0.0
    left_over, deviating = find_light(color, known, inside, lattice, np.square(lattice.median), light)
    healed = left_over if heal else none
    wanted = (inside & ~known) | healed
    if not wanted.any():
        return none, none, lattice.explained
    continued, filled = fill_lattice(coded, known & ~deviating, wanted, lattice)
    color[filled] = np.square(continued[filled])
    return filled, healed & filled, lattice.explained


def _known_charts(known: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the charts of which enough is known, [h, w] bool; patches of others do not tell what is on a chart."""
    charts, count = connected_parts(inside)
    size = np.bincount(charts[inside], minlength=count + 1)
    share = np.bincount(charts[known], minlength=count + 1) / np.maximum(size, 1)
    return inside & (share >= DRAWN_SHARE)[charts]


def _smooth(color, known, inside, positions, normals, others) -> np.ndarray:
    """Fill smoothly: across charts by the distance in space where positions are given, else chart by chart."""
    if positions is None:
        return push_pull_charts(color, known, inside)
    unknown = inside & ~known
    nodes, weights = _nodes(unknown)
    asked = unknown & ~(weights.sum(axis=-1) > 0)
    used = known & inside | asked
    points, colors, has = positions[used].astype(np.float64), color[used], known[used]
    directions = None if normals is None else normals[used]
    if others is not None and directions is not None:
        points, colors = np.concatenate([points, others.positions]), np.concatenate([colors, others.colors])
        directions = np.concatenate([directions, others.normals])
        has = np.concatenate([has, np.ones(len(others.positions), bool)])
    if directions is not None:
        points = np.concatenate([points, 0.1 * float(np.ptp(points, axis=0).max()) * directions], axis=1)
    out = color.copy()
    out[used] = fill_points(points, colors, has)[: used.sum()]
    rest = unknown & ~asked
    out[rest] = np.einsum("nk,nkc->nc", weights[rest], out.reshape(-1, 3)[nodes[rest]])
    return out


def _nodes(unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes of a grid between which a smooth fill is interpolated.

    Returns:
        For each texel the flat indices of the four unknown texels of the grid around it, [h, w, 4], and their weights,
        [h, w, 4] float32: zero for the texels of the grid, and for those that have no such texel of their chart.
    """
    height, width = unknown.shape
    charts, _ = connected_parts(unknown)
    rows, columns = (np.arange(side) for side in unknown.shape)
    nodes, weights = np.zeros((height, width, 4), np.int64), np.zeros((height, width, 4), np.float32)
    for k in range(4):
        y, x = (n // GRID * GRID + step * GRID for n, step in ((rows, k // 2), (columns, k % 2)))
        fy, fx = 1 - np.abs(rows - y) / GRID, 1 - np.abs(columns - x) / GRID
        at = np.ix_(np.minimum(y, height - 1), np.minimum(x, width - 1))
        fits = (charts[at] == charts) & np.outer(y < height, x < width)
        nodes[..., k] = at[0] * width + at[1]
        weights[..., k] = np.where(fits, np.outer(fy, fx), 0)
    weights[::GRID, ::GRID] = 0
    weights /= np.maximum(weights.sum(axis=-1, keepdims=True), 1e-6)
    return nodes, weights


def _match_levels(color: np.ndarray, smooth: np.ndarray, copied: np.ndarray, known: np.ndarray) -> None:
    """Give copied texels the mean colors of the smooth fill over large squares, in place.

    What a picture shows of a surface far away is paler than what it shows of it near by, where it is glossy. Copies
    would end in a step at the rim of what is known.
    """
    side = max(3, round(LEVEL * max(copied.shape)))

    def mean(image: np.ndarray) -> np.ndarray:
        return np.stack([_twice(np.where(copied, image[..., k], 0), side) for k in range(3)], axis=-1)

    ratio = np.clip((mean(smooth) + 1e-3) / (mean(color) + 1e-3), 1 / MOST_GAIN, MOST_GAIN)
    low, high = color[known].min(axis=0), color[known].max(axis=0)
    color[copied] = np.clip(color[copied] * ratio[copied], low, high)


def _twice(image: np.ndarray, side: int) -> np.ndarray:
    return uniform_filter(uniform_filter(image.astype(np.float32), side), side)


def _grown(color: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Continue the colors of the rim over a few texels, and smoothly beyond."""
    color, has = color.copy(), inside.copy()
    for _ in range(GUTTER):
        more = binary_dilation(has, np.ones((3, 3), bool)) & ~has
        rows, columns = np.nonzero(more)
        total, count = np.zeros((len(rows), 3), np.float32), np.zeros((len(rows), 1), np.float32)
        for a in (-1, 0, 1):
            for b in (-1, 0, 1):
                y, x = np.clip(rows + a, 0, has.shape[0] - 1), np.clip(columns + b, 0, has.shape[1] - 1)
                use = has[y, x]
                total[use] += color[y[use], x[use]]
                count[use] += 1
        color[more] = total / np.maximum(count, 1)
        has |= more
    return push_pull(color, has)


def _coded(color: np.ndarray) -> np.ndarray:
    """Return colors in a space where equal differences look about equal."""
    return np.sqrt(np.maximum(color, 0)).astype(np.float32)
