# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the newest result of a scene's view layer among those in a folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

_STARTED = time.time()  # a scene without a file is known by its name only for as long as Blender runs


def newest_result(folder: Path, file: str, scene: str, layer: str) -> Path | None:
    """The folder of the result that was finished last, of this view layer of this scene of this file; else None."""
    found = []
    try:
        records = list(folder.glob("*/job.json"))
    except OSError:
        return None
    for path in records:
        try:
            finished = path.stat().st_mtime
            record = json.loads(path.read_text(encoding="utf-8"))
            if _is_of(record, file, scene, layer) and (file or finished >= _STARTED):
                found.append((finished, path.parent))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is being written, or is none of ours
    return max(found)[1] if found else None


def _is_of(record: dict[str, Any], file: str, scene: str, layer: str) -> bool:
    shot, source = record["shot"], record["shot"]["source"]
    shaded = record["settings"].get("output", "video") == "video"
    return shaded and (source.get("file"), source.get("scene"), shot["view_layer"]) == (file, scene, layer)
