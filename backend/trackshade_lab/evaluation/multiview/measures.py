# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures of a grid of cells [V, F, H, W, 3] against the true one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from trackshade.control.raster import Buffers, barycentric, draw, to_screen
from trackshade.control.visibility import is_visible
from trackshade.core.images import psnr
from trackshade_lab.scenes.multiview import MultiviewScene

from ..image_measures import gradient_energy, ratio, ssim
from ..measures import Column

PAIRS = ("row", "column", "off")
_POINTS_PER_CELL, _SOURCE_CELLS, _PAIRS = 120, 12, 60_000

COLUMNS: Mapping[str, Column] = {
    "psnr_rows": Column("PSNR rows", 2),
    "psnr_columns": Column("columns", 2),
    "psnr_diagonal": Column("diagonal", 2),
    "psnr_raster": Column("raster", 2),
    "psnr_unseen": Column("unseen", 2),
    "ssim_rows": Column("SSIM rows", 3),
    "ssim_columns": Column("columns", 3),
    "ssim_diagonal": Column("diagonal", 3),
    "gradient": Column("gradient energy", 2),
    "change": Column("change in time", 2),
    "mismatch_row": Column("mismatch in row", 2),
    "mismatch_column": Column("in column", 2),
    "mismatch_off": Column("off cross", 2),
    "error_row": Column("of errors: in row", 2),
    "error_column": Column("in column", 2),
    "error_off": Column("off cross", 2),
    "seconds": Column("CPU s", 1),
}


@dataclass(frozen=True, eq=False)
class SeenPoints:
    """P surface points and where cells show them.

    Attributes:
        pixels: [V, F, P, 2] x and y.
        visible: [V, F, P] bool.
        pairs: [N, 3] point and two cells (v * F + f) that show it.
        kinds: [N] index into PAIRS.
    """

    pixels: np.ndarray
    visible: np.ndarray
    pairs: np.ndarray
    kinds: np.ndarray


def seen_points(multiview: MultiviewScene, known: np.ndarray, seed: int = 0) -> SeenPoints:
    """Choose surface points that cells show, and pairs of cells that are not given.

    Args:
        multiview: the scene.
        known: [V, F] bool, cells that are given.
        seed: which points and pairs are chosen.
    """
    rng, scene = np.random.default_rng(seed), multiview.scene
    views, frames = known.shape
    depths = np.empty((views, frames, multiview.size[1], multiview.size[0]), np.float32)
    corners, weights = [], []
    sources = set(rng.choice(views * frames, min(_SOURCE_CELLS, views * frames), replace=False).tolist())
    for f in range(frames):
        for v in range(views):
            buffers = Buffers.empty(multiview.size)
            vertices = to_screen(scene.world[f], multiview.cameras[v], multiview.intrinsics, False)
            draw(buffers, vertices, scene.triangles, 0, 0.02)
            depths[v, f] = buffers.depth
            covered = np.flatnonzero(buffers.triangle.ravel() >= 0)
            if v * frames + f in sources and len(covered):
                # Half of the points on bodies, which are smaller than their stage.
                body = np.append(scene.body[scene.part] > 0, False)[buffers.triangle.ravel()[covered]]
                chance = np.where(body, 0.5 / max(1, body.sum()), 0.5 / max(1, (~body).sum()))
                count = min(_POINTS_PER_CELL, int((chance > 0).sum()))
                pixels = rng.choice(covered, count, replace=False, p=chance / chance.sum())
                found = barycentric(buffers, pixels, vertices, scene.triangles)
                corners.append(found[0])
                weights.append(found[1])
    corner, weight = np.concatenate(corners), np.concatenate(weights)
    shape = (views, frames, len(corner))
    places, visible = np.empty((*shape, 2), np.float32), np.empty(shape, np.bool_)
    for f in range(frames):
        world = np.einsum("pc,pcx->px", weight, scene.world[f][corner].astype(np.float64)).astype(np.float32)
        for v in range(views):
            screen = to_screen(world, multiview.cameras[v], multiview.intrinsics, False)
            places[v, f], visible[v, f] = screen[:, :2], is_visible(screen, depths[v, f], 0.02)
    pairs, kinds = _choose_pairs(visible & ~known[..., None], frames, rng)
    return SeenPoints(places, visible, pairs, kinds)


def _choose_pairs(
    visible: np.ndarray,  # [V, F, P] bool
    frames: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of cells that show a point, [N, 3], and their kinds [N], about as many of each."""
    cells, points = np.nonzero(visible.reshape(-1, visible.shape[2]))
    order = np.argsort(points, kind="stable")
    cells, points = cells[order], points[order]
    starts = np.searchsorted(points, np.arange(visible.shape[2] + 1))
    found = []
    for point in range(visible.shape[2]):
        own = cells[starts[point] : starts[point + 1]]
        if len(own) >= 2:
            a, b = np.triu_indices(len(own), 1)
            found.append(np.stack([np.full(len(a), point), own[a], own[b]], axis=1))
    pairs = np.concatenate(found) if found else np.zeros((0, 3), np.int64)
    same_row = pairs[:, 1] // frames == pairs[:, 2] // frames
    same_column = pairs[:, 1] % frames == pairs[:, 2] % frames
    kinds = np.where(same_row, 0, np.where(same_column, 1, 2))
    chosen = []
    for kind in range(len(PAIRS)):
        own = np.flatnonzero(kinds == kind)
        chosen.append(rng.permutation(own)[: _PAIRS // len(PAIRS)])
    index = np.concatenate(chosen)
    return pairs[index], kinds[index]


def measure(
    cells: np.ndarray,  # [V, F, H, W, 3] uint8
    truth: np.ndarray,  # [V, F, H, W, 3] uint8
    known: np.ndarray,  # [V, F] bool, cells that are given
    unseen: np.ndarray,  # [V, F, H, W] bool, pixels that no reference shows
    points: SeenPoints,
) -> dict[str, float]:
    """Measure a grid over the cells that are not given.

    Sequences run along rows, columns, the diagonal and the raster (all cells); PSNR is that of a whole sequence, and
    the mean over sequences.
    """
    views, frames = known.shape
    rows = [(v, np.flatnonzero(~known[v])) for v in range(views)]
    columns = [(np.flatnonzero(~known[:, f]), f) for f in range(frames)]
    count = max(views, frames)
    steps = np.arange(count)
    diagonal = np.unique(np.stack([steps * (views - 1), steps * (frames - 1)], 1) // max(1, count - 1), axis=0)
    diagonal = diagonal[~known[diagonal[:, 0], diagonal[:, 1]]]
    sequences = {
        "rows": [(np.full(len(f), v), f) for v, f in rows if len(f)],
        "columns": [(v, np.full(len(v), f)) for v, f in columns if len(v)],
        "diagonal": [(diagonal[:, 0], diagonal[:, 1])],
        "raster": [np.nonzero(~known)],
    }
    figures: dict[str, float] = {}
    for name, items in sequences.items():
        figures[f"psnr_{name}"] = float(np.mean([psnr(truth[item], cells[item]) for item in items]))
        if name != "raster":
            figures[f"ssim_{name}"] = float(np.mean([ssim(truth[item], cells[item]) for item in items]))
    hidden = unseen & ~known[..., None, None]
    figures["psnr_unseen"] = psnr(truth[hidden], cells[hidden]) if hidden.any() else float("nan")
    raster = sequences["raster"][0]
    figures["gradient"] = ratio(gradient_energy(cells[raster]), gradient_energy(truth[raster]))
    figures["change"] = ratio(_change(cells, known), _change(truth, known))
    return figures | _mismatches(cells, truth, points)


def _change(cells: np.ndarray, known: np.ndarray) -> float:
    """Return the mean squared change from frame to frame, of cells that are not given."""
    both = ~known[:, 1:] & ~known[:, :-1]
    change = np.diff(cells.astype(np.float32), axis=1)[both]
    return float((change**2).mean(dtype=np.float64))


def _mismatches(cells: np.ndarray, truth: np.ndarray, points: SeenPoints) -> dict[str, float]:
    """Return the mean difference of a surface point's levels in two cells, and that of its errors."""
    colors, true = (_read(grid, points.pixels) for grid in (cells, truth))  # [V * F, P, 3]
    point, one, other = points.pairs.T
    figures = {}
    for name, values in (("mismatch", colors), ("error", colors - true)):
        difference = np.abs(values[one, point] - values[other, point]).mean(axis=1)
        for kind, title in enumerate(PAIRS):
            own = difference[points.kinds == kind]
            figures[f"{name}_{title}"] = float(own.mean()) if len(own) else float("nan")
    return figures


def _read(grid: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the levels of cells at places, [V * F, P, 3], bilinear."""
    cells = grid.reshape(-1, *grid.shape[2:]).astype(np.float32)
    places = pixels.reshape(len(cells), -1, 2)
    return np.stack(
        [
            np.stack(
                [map_coordinates(cell[..., k], (at[:, 1] - 0.5, at[:, 0] - 0.5), order=1, mode="nearest")
                 for k in range(3)], axis=1
            )
            for cell, at in zip(cells, np.nan_to_num(places), strict=True)
        ]
    )  # fmt: skip
