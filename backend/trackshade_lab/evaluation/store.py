# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of an evaluation: settings, the figures of each clip as soon as they are known, and contact sheets."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trackshade.core import atomic_files
from trackshade.core.errors import OutputError, UsageError
from trackshade.results.sheets import contact_sheet

_HEADER_HEIGHT = 22  # px
_BACKGROUND, _TEXT_COLOR = (32, 32, 32), (220, 220, 220)


class EvaluationStore:
    """Figures by clip, in a folder."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], force: bool = False) -> None:
        """Open the folder of an evaluation, or create it; `force` discards figures that it holds.

        Raise UsageError if the folder holds figures of other settings, and OutputError if it cannot be written.
        """
        self.folder = folder
        path, settings = folder / "settings.json", to_json(settings)
        differs = path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings
        if differs and not force:
            fix = "Choose another folder with --out, or --force to replace it."
            raise UsageError("other-evaluation", f"{folder} holds an evaluation with other settings or weights.", fix)
        for name in ("clips", "sheets") if differs else ("clips",) if force else ():
            shutil.rmtree(folder / name, ignore_errors=True)
        write_json(path, settings)

    def has(self, name: str) -> bool:
        """Return whether a clip is measured."""
        return self._path(name).is_file()

    def read(self, name: str) -> dict[str, Any]:
        """Read the figures of a clip."""
        return json.loads(self._path(name).read_text(encoding="utf-8"))

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the figures of a clip. Raise OutputError."""
        write_json(self._path(record["name"]), record)

    def _path(self, name: str) -> Path:
        return self.folder / "clips" / f"{name}.json"


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically; NaN becomes null. Raises OutputError."""
    text = json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, indent=1)
    write_bytes(path, text.encode() + b"\n")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically, and create its folder. Raises OutputError."""
    try:
        atomic_files.write_bytes(path, data)
    except OSError as error:
        reason = error.strerror or error
        fix = "Choose a folder that can be written."
        raise OutputError("output-unwritable", f"The report cannot be written to {path}: {reason}.", fix) from error


def to_json(value: Any) -> Any:
    """Replace what JSON does not have: NaN by null, tuples by lists."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_sheet(
    path: Path,
    caption: str,
    tracking: np.ndarray,  # [T, H, W, 3] uint8
    rows: Sequence[tuple[str, np.ndarray]],
) -> None:
    """Draw (title, video) rows above the tracking video, frame by frame, under the caption. Raises OutputError."""
    frames = contact_sheet([*rows, ("tracking video", tracking)], list(range(1, len(tracking) + 1)))
    sheet = Image.new("RGB", (frames.width, frames.height + _HEADER_HEIGHT), _BACKGROUND)
    sheet.paste(frames, (0, _HEADER_HEIGHT))
    ImageDraw.Draw(sheet).text((8, 6), f"{path.stem}: {caption}", _TEXT_COLOR, ImageFont.load_default(13))
    data = io.BytesIO()
    sheet.save(data, "PNG")
    write_bytes(path, data.getvalue())
