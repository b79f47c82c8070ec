# SPDX-License-Identifier: GPL-3.0-or-later
"""Surfaces with the colors of a shot's pictures: as Gaussian splats, or as meshes with baked textures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from trackshade.core.errors import ShotError
from trackshade.exports.gltf import write_gltf
from trackshade.exports.usd_scene import write_usd_scene
from trackshade.results.cells.images import CellImages
from trackshade.results.cells.leveling import Levels, fit_levels
from trackshade.results.texture.animate import AnimatedTexture, animate_texture
from trackshade.shot import Shot
from trackshade.splats.ply import write_splat_ply
from trackshade.splats.sequence import build_splats
from trackshade.splats.usd import scene_rate, usd_modules, write_splat_usd

Report = Callable[[int], None]


def write_surfaces(
    shot: Shot,
    name: str,
    out: Path,
    images: Sequence[Path | None],
    light: np.ndarray | None,
    points: int,
    report: Report = lambda done: None,
) -> None:
    """Write a shot as "splats-usd", "splats-ply", "usd" or "gltf".

    Args:
        shot: the shot, as it was captured.
        name: the format.
        out: file to write, or an empty folder.
        images: see `ExportSource`.
        light: see `ExportSource`.
        points: number of splats.
        report: called with the number of frames that are done.

    Raises:
        UsageError: `usd-core` is missing for a USD format.
        ShotError: the images do not fit the shot, or it shows no surface.
    """
    if name in ("splats-usd", "usd"):
        usd_modules()
    cells, clay = CellImages(shot, images), None
    if light is not None:
        clay = CellImages.from_light(shot, lambda t: light[t], (light.shape[2], light.shape[1]))
    if name.startswith("splats"):
        _write_splats(cells, clay, name, out, points, report)
        return
    levels = fit_levels(cells)
    textures = _textures(cells, clay, levels, report)
    if name == "gltf":
        write_gltf(out, cells.shot, list(textures))
    else:
        write_usd_scene(out, cells.shot, textures)


def _write_splats(
    cells: CellImages, clay: CellImages | None, name: str, out: Path, points: int, report: Report
) -> None:
    built = build_splats(
        cells, points, clay=clay, progress=lambda part, stage: report(round(part * 0.5 * cells.frames))
    )

    def written(done: int) -> None:
        report(cells.frames // 2 + done // 2)

    if name == "splats-usd":
        write_splat_usd(out, built.frames(), scene_rate(cells.shot), report=written)
        return
    for t, frame in enumerate(built.frames()):
        write_splat_ply(out / f"{t + 1:04d}.ply", frame)
        written(t + 1)


def _textures(cells: CellImages, clay: CellImages | None, levels: Levels, report: Report) -> Iterator[AnimatedTexture]:
    """Yield the textures of all meshes that are drawn in color and can be unwrapped."""
    shown = [n for n, track in enumerate(cells.shot.meshes) if track.visible.any() and not track.holdout]
    count = 0
    for number, mesh in enumerate(shown):
        try:
            yield animate_texture(cells, mesh, levels=levels, clay=clay)
        except ShotError as error:
            if error.code != "no-coordinates":
                raise
            continue
        count += 1
        report(cells.frames * (number + 1) // len(shown))
    if not count:
        raise ShotError("no-coordinates", "The shot shows no mesh that can be unwrapped.", "Unwrap one in Blender.")
