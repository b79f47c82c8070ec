# SPDX-License-Identifier: GPL-3.0-or-later
"""Overview images of a result: the contact sheet, and the consistency of colors as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trackshade.control.locate import points_at, shows_surface
from trackshade.control.scene import ShotRaster
from trackshade.control.texels import TargetPoints
from trackshade.results.cells.gather import gather_colors
from trackshade.results.cells.views import Views
from trackshade.results.labels import label_of
from trackshade.results.texture.heat import LEVELS, color_map

COLUMNS = 9
_CELL = 256  # preferred width of a cell of the contact sheet, pixels; whole factors only come near it
_PANELS = 3
_PANEL = 360  # preferred width of a panel of the figure
_BACKGROUND, _TEXT = (32, 32, 32), (220, 220, 220)
_NO_SURFACE = (20, 20, 20)


def contact_sheet(
    rows: Sequence[tuple[str, np.ndarray]],  # label, [T, H, W, 3] uint8
    frame_numbers: Sequence[float],  # [T] scene frames
) -> Image.Image:
    """Arrange videos below each other, frame by frame.

    Small images are enlarged by a whole factor, pixel by pixel; large ones are reduced by a whole factor, by area.

    Args:
        rows: the videos from top to bottom, all of the same shape.
        frame_numbers: written above the columns. At most 9 frames are shown, the first and the last one included.
    """
    gap, font_size = 6, 16
    font = ImageFont.load_default(font_size)
    shown = _spread(len(rows[0][1]), COLUMNS)
    names = [label_of(label, number, font_size) for number, (label, _) in enumerate(rows, 1)]
    margin = max(int(own.getlength(label)) for label, own in names) + 2 * gap
    cells = [[_scaled(images[t], _CELL) for t in shown] for _, images in rows]
    labels = [f"{frame_numbers[t]:g}" for t in shown]
    sheet, pen = _grid(cells, labels, font, font_size, margin, gap, footer=0)
    header, height = font_size + 2 * gap, cells[0][0].height
    pen.text((gap, header / 2), "frame", _TEXT, font, anchor="lm")
    for row, (label, own) in enumerate(names):
        pen.text((gap, header + row * (height + gap) + height / 2), label, _TEXT, own, anchor="lm")
    return sheet


def still_sheet(
    stills: Sequence[tuple[str, np.ndarray]],  # label, [H, W, 3] uint8
) -> Image.Image:
    """Arrange stills of one size in rows of at most four, each with its label, to choose one from."""
    gap, font_size = 8, 15
    font = ImageFont.load_default(font_size)
    images = [_scaled(still, 480) for _, still in stills]
    (width, height), columns = images[0].size, min(len(images), 4)
    rows, cell = -(-len(images) // columns), (width + gap, height + font_size + 2 * gap)
    sheet = Image.new("RGB", (columns * cell[0] + gap, rows * cell[1] + gap), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, (image, (label, _)) in enumerate(zip(images, stills, strict=True)):
        x, y = gap + number % columns * cell[0], gap + number // columns * cell[1]
        pen.text((x, y), label, _TEXT, font)
        sheet.paste(image, (x, y + font_size + gap))
    return sheet


def consistency_figure(
    views: Views,
    video: np.ndarray,  # [T, H, W, 3] uint8
    threads: int = 1,
) -> Image.Image:
    """Show the first, the middle and the last frame, and below each how much the colors of its surfaces vary.

    Every surface point has the color of its variation over all frames (`GatheredColors.variation`); a bar explains the
    colors.
    """
    gap, font_size = 8, 15
    font = ImageFont.load_default(font_size)
    shown = _spread(len(video), _PANELS)
    maps = [variation_in_frame(views, video, t, threads) for t in shown]
    colored = [np.where(has[..., None], color_map(values / LEVELS), _NO_SURFACE) for values, has in maps]
    panels = [
        [_scaled(video[t], _PANEL) for t in shown],
        [_scaled(image.astype(np.uint8), _PANEL) for image in colored],
    ]
    labels = [f"frame {views.shot.frame_numbers[t]:g}" for t in shown]
    sheet, pen = _grid(panels, labels, font, font_size, gap, gap, footer=2 * font_size + 5 * gap)
    known = np.concatenate([values[has] for values, has in maps])
    known = known[np.isfinite(known)]
    left, right = gap + 8, sheet.width - gap - 40
    top = font_size + 2 * gap + 2 * (panels[0][0].height + gap)
    bar = color_map(np.broadcast_to(np.linspace(0, 1, right - left), (font_size, right - left)))
    sheet.paste(Image.fromarray(bar), (left, top))
    below = top + font_size + gap
    for level in np.linspace(0, LEVELS, 5):
        x = left + (right - left) * level / LEVELS
        pen.line((x, top + font_size, x, top + font_size + 4), _TEXT)
        pen.text((x, below + 4), f"{level:g}" + ("+" if level == LEVELS else ""), _TEXT, font, anchor="mm")
    text = "standard deviation of a surface point's color, 8-bit levels"
    text += f"; median here {np.median(known):.1f}" if len(known) else ""
    pen.text((left, below + font_size + gap), text, _TEXT, font, anchor="lm")
    return sheet


def variation_in_frame(
    views: Views,
    video: np.ndarray,  # [T, H, W, 3] uint8
    t: int,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return how much the colors of what frame `t` shows vary over all frames.

    Returns:
        The variation [H, W] float32, levels, NaN for points that are visible in fewer than two frames; and [H, W] bool,
        where the frame shows a surface that is no holdout.
    """
    raster = ShotRaster(views.shot)
    triangle = raster.draw(t).triangle.ravel()
    has = shows_surface(raster)
    values = np.full(has.size, np.nan, np.float32)
    pixels = np.flatnonzero(has)
    shown = points_at(raster, t, pixels)
    for mesh in np.unique(shown.mesh).tolist():
        here, weights = pixels[shown.mesh == mesh], shown.weights[shown.mesh == mesh, 1:].astype(np.float32)
        points = TargetPoints(here, np.arange(len(here) + 1), triangle[here], weights)
        geometry = views.shot.meshes[mesh].geometry_at(t)
        values[here] = gather_colors(views, video, mesh, points, threads, geometry=geometry).variation
    return values.reshape(has.shape), has


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` of `count` indices, evenly spread, with the first and the last one."""
    return [int(i) for i in np.unique(np.rint(np.linspace(0, count - 1, min(count, most))))]


def _scaled(
    picture: np.ndarray,  # [H, W, 3] uint8
    width: int,
) -> Image.Image:
    """Enlarge by a whole factor, pixel by pixel, or reduce by one, by area, to about `width`."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.width > width:
        return image.reduce(max(1, round(image.width / width)))
    factor = max(1, width // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _grid(
    rows: list[list[Image.Image]],
    labels: list[str],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    font_size: int,
    left: int,
    gap: int,
    footer: int,
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Arrange images of one size in a grid below labels; `left` and `footer` are free space, pixels."""
    width, height = rows[0][0].size
    header = font_size + 2 * gap
    size = left + len(labels) * (width + gap), header + len(rows) * (height + gap) + footer
    sheet = Image.new("RGB", size, _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels):
        x = left + column * (width + gap)
        pen.text((x + width / 2, header / 2), label, _TEXT, font, anchor="mm")
        for row, images in enumerate(rows):
            sheet.paste(images[column], (x, header + row * (height + gap)))
    return sheet, pen
