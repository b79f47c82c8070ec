# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads JSON files that people and other programs may have changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds anything else, or is nested too deeply.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it holds no record")
    return found
