# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress and results of a child process as lines of JSON on its standard output.

Blender and libraries print to standard output too, so each of our lines begins with a prefix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PREFIX = "@trackshade "
VARIABLE = "TRACKSHADE_RELAY"  # set to 1 by a parent that reads these lines and holds standard input open


def format_line(message: Mapping[str, Any]) -> str:
    """Format a message as one line, without the line break."""
    return PREFIX + json.dumps(message, allow_nan=False)


def parse_line(text: str) -> dict[str, Any] | None:
    """Parse a line; None if it is not a message."""
    if not text.startswith(PREFIX):
        return None
    try:
        message = json.loads(text[len(PREFIX) :])
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
