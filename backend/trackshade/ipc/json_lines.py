# SPDX-License-Identifier: GPL-3.0-or-later
"""How Blender's process tells the command line that started it what it is doing: lines of JSON on standard output.

Blender and its add-ons write to standard output as they please, so each line of ours begins with a mark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MARK = "@trackshade "
ENVIRONMENT = "TRACKSHADE_RELAY"  # set to 1 where somebody reads those lines and holds standard input open


def line(message: Mapping[str, Any]) -> str:
    """One line, without its end."""
    return MARK + json.dumps(message, allow_nan=False)


def parse(text: str) -> dict[str, Any] | None:
    """The message of a line, None for any other line."""
    if not text.startswith(MARK):
        return None
    try:
        found = json.loads(text[len(MARK) :])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
