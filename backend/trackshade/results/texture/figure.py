# SPDX-License-Identifier: GPL-3.0-or-later
"""The consistency as a figure: frames of a result, and under each how much the colors of what it shows vary."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trackshade.control.raster import barycentric
from trackshade.control.scene import ShotRaster
from trackshade.results.texture.gather import gather
from trackshade.results.texture.heat import LEVELS, ramp
from trackshade.results.texture.texels import Places
from trackshade.results.texture.views import Views

_PANELS = 3
_WIDTH = 360  # wanted width of a panel, pixels
_GAP, _FONT = 8, 15
_PAPER, _INK = (32, 32, 32), (220, 220, 220)
_NO_SURFACE = (20, 20, 20)


def consistency_figure(views: Views, video: np.ndarray, threads: int = 1) -> Image.Image:
    """The first, the middle and the last frame of `video` [T, H, W, 3] uint8; under each, every surface point in it
    in the color of its variation over all frames (see `gather.Gathered`); and what the colors mean.
    """
    count = len(video)
    shown = np.unique(np.rint(np.linspace(0, count - 1, min(count, _PANELS))).astype(int))
    maps = [variation_in_frame(views, video, int(t), threads) for t in shown]
    rows = [
        [_panel(video[t]) for t in shown],
        [_panel(np.where(has[..., None], ramp(values / LEVELS), _NO_SURFACE).astype(np.uint8)) for values, has in maps],
    ]
    width, height = rows[0][0].size
    header, footer = _FONT + 2 * _GAP, 2 * _FONT + 5 * _GAP
    sheet = Image.new(
        "RGB", (_GAP + len(shown) * (width + _GAP), header + 2 * (height + _GAP) + footer), _PAPER
    )  # fmt: skip
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for column, t in enumerate(shown):
        x = _GAP + column * (width + _GAP)
        pen.text((x + width / 2, header / 2), f"frame {views.shot.frame_numbers[t]:g}", _INK, font, anchor="mm")
        for row, panels in enumerate(rows):
            sheet.paste(panels[column], (x, header + row * (height + _GAP)))
    every = np.concatenate([values[has] for values, has in maps])
    _color_bar(sheet, pen, font, header + 2 * (height + _GAP), every[np.isfinite(every)])
    return sheet


def variation_in_frame(views: Views, video: np.ndarray, t: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """[H, W] float32 variation over all frames of what frame `t` shows, levels, NaN where that is seen but once; and
    [H, W] bool, where it shows a surface that is no holdout."""
    shot = views.shot
    raster = ShotRaster(shot)
    buffers = raster.draw(t)
    holdout = np.array([mesh.holdout for mesh in shot.meshes] + [True])  # the last entry is label -1, nothing
    has = ~holdout[buffers.label]
    values = np.full(has.size, np.nan, np.float32)
    for mesh in np.unique(buffers.label[has]):
        pixels = np.flatnonzero(has & (buffers.label == mesh))
        geometry = shot.meshes[mesh].geometry_at(t)
        triangles = shot.geometries[geometry].triangles
        _, weights = barycentric(buffers, pixels, raster.vertices(mesh, t), triangles)
        start = np.arange(len(pixels) + 1)
        found = Places(pixels, start, buffers.triangle.ravel()[pixels], weights[:, 1:].astype(np.float32))
        values[pixels] = gather(views, video, int(mesh), found, threads, geometry=geometry).variation
    return values.reshape(has.shape), has


def _panel(picture: np.ndarray) -> Image.Image:
    """Enlarged by a whole factor, pixel by pixel, or reduced by one, by area."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.width > _WIDTH:
        return image.reduce(max(1, round(image.width / _WIDTH)))
    factor = max(1, _WIDTH // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _color_bar(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    top: int,
    known: np.ndarray,
) -> None:
    left, right = _GAP + 8, sheet.width - _GAP - 40
    bar = ramp(np.broadcast_to(np.linspace(0, 1, right - left), (_FONT, right - left)))
    sheet.paste(Image.fromarray(bar), (left, top))
    below = top + _FONT + _GAP
    for level in np.linspace(0, LEVELS, 5):
        x = left + (right - left) * level / LEVELS
        pen.line((x, top + _FONT, x, top + _FONT + 4), _INK)
        pen.text((x, below + 4), f"{level:g}" + ("+" if level == LEVELS else ""), _INK, font, anchor="mm")
    words = "standard deviation of a surface point's color, 8-bit levels"
    words += f"; median here {np.median(known):.1f}" if len(known) else ""
    pen.text((left, below + _FONT + _GAP), words, _INK, font, anchor="lm")
