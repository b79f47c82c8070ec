# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets of clips: every clip a pair of rows, its video above its tracking video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from trackshade_lab.scenes.clip import Clip


def contact_sheet(clips: Sequence[Clip], zoom: int = 1, columns: int = 1, step: int = 2) -> Image.Image:
    """Every `step`-th frame of the clips, captioned, in `columns` columns of clips."""
    _, h, w, _ = clips[0].video.shape
    shown = range(0, len(clips[0].video), step)
    cell = (len(shown) * w * zoom + 8, 2 * h * zoom + 18)
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (cell[0] * columns, cell[1] * rows), (30, 30, 32))
    pen = ImageDraw.Draw(sheet)
    for n, clip in enumerate(clips):
        x, y = n % columns * cell[0], n // columns * cell[1]
        pen.text((x + 2, y + 2), f"{clip.kind}: {clip.caption}"[: cell[0] // 6], fill=(220, 220, 220))
        for row, frames in enumerate((clip.video, clip.tracking)):
            strip = np.concatenate([frames[t] for t in shown], axis=1).repeat(zoom, 0).repeat(zoom, 1)
            sheet.paste(Image.fromarray(strip), (x, y + 15 + row * h * zoom))
    return sheet


def save_sheet(clips: Sequence[Clip], path: Path | str, **options: int) -> None:
    contact_sheet(clips, **options).save(path)
