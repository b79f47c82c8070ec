# SPDX-License-Identifier: GPL-3.0-or-later
"""The contact sheet: what steered the model above what it made, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLUMNS = 9
_CELL = 256  # wanted width of a picture, pixels; whole factors only come near it
_GAP = 6
_FONT = 16
_PAPER = (32, 32, 32)
_INK = (220, 220, 220)


def contact_sheet(rows: Sequence[tuple[str, np.ndarray]], frames: Sequence[float]) -> Image.Image:
    """Pictures in columns by time, at most 9 of them, the first and the last frame included.

    Small pictures are enlarged by a whole factor, pixel by pixel; large ones are reduced by a whole factor,
    by area.

    Args:
        rows: (label, [T, H, W, 3] uint8), from top to bottom, all of the same shape.
        frames: [T] scene frame numbers, written above the columns.
    """
    count = len(rows[0][1])
    shown = [int(i) for i in np.unique(np.rint(np.linspace(0, count - 1, min(count, COLUMNS))))]
    font = ImageFont.load_default(_FONT)
    margin = max(int(font.getlength(label)) for label, _ in rows) + 2 * _GAP
    cell = _cell(rows[0][1][0]).size
    header = _FONT + 2 * _GAP
    sheet = Image.new(
        "RGB",
        (margin + len(shown) * (cell[0] + _GAP), header + len(rows) * (cell[1] + _GAP)),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, header / 2), "frame", _INK, font, anchor="lm")
    for column, t in enumerate(shown):
        x = margin + column * (cell[0] + _GAP)
        pen.text((x + cell[0] / 2, header / 2), f"{frames[t]:g}", _INK, font, anchor="mm")
        for row, (_, pictures) in enumerate(rows):
            sheet.paste(_cell(pictures[t]), (x, header + row * (cell[1] + _GAP)))
    for row, (label, _) in enumerate(rows):
        pen.text((_GAP, header + row * (cell[1] + _GAP) + cell[1] / 2), label, _INK, font, anchor="lm")
    return sheet


def _cell(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    if image.width > _CELL:
        return image.reduce(max(1, round(image.width / _CELL)))
    factor = max(1, _CELL // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
