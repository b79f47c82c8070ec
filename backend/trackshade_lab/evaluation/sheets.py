# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheets: the truth, what was made and the baselines, one above the other, frame by frame."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trackshade.results.sheets import contact_sheet

from .store import write_bytes

_HEAD = 22  # px above the sheet, for the caption
_PAPER, _INK = (32, 32, 32), (220, 220, 220)


def write_sheet(path: Path, caption: str, tracking: np.ndarray, rows: Sequence[tuple[str, np.ndarray]]) -> None:
    """Draw (title, video [T, H, W, 3] uint8) rows above the tracking video, under the caption. Raises OutputError."""
    below = contact_sheet([*rows, ("tracking video", tracking)], list(range(1, len(tracking) + 1)))
    sheet = Image.new("RGB", (below.width, below.height + _HEAD), _PAPER)
    sheet.paste(below, (0, _HEAD))
    ImageDraw.Draw(sheet).text((8, 6), f"{path.stem}: {caption}", _INK, ImageFont.load_default(13))
    data = io.BytesIO()
    sheet.save(data, "PNG")
    write_bytes(path, data.getvalue())
