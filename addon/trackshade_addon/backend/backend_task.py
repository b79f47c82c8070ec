# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends for an errand in the backend's environment (`trackshade.cli.backend_tasks`). Knows nothing of bpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trackshade.core.errors import JobError, TrackshadeError, UsageError
from trackshade.core.processes import environment_python
from trackshade.ipc import json_lines

from .running import Task


def send(
    task: Task,
    python: Path | str,
    *arguments: str,
    progress: Callable[[int, int], None] | None = None,
    on_line: Callable[[str], None] | None = None,
    limit: float | None = None,
) -> dict[str, Any]:
    """Runs an errand to its end; what it found.

    Args:
        progress: gets the bytes that are done, and those in all.
        on_line: gets what else it says.
        limit: seconds after which it is ended.

    Raises:
        UsageError: there is no such Python. JobError: it ended without a word. Cancelled, and the errand's own error.
    """
    told: dict[str, Any] = {}

    def hear(line: str) -> None:
        message = json_lines.parse_line(line)
        if message is None:
            if on_line is not None:
                on_line(line)
        elif message.get("event") != "progress":
            told.update(message)
        elif progress is not None:
            progress(int(message["done"]), max(1, int(message["total"])))

    try:
        start = environment_python(python, "-m", "trackshade.cli.backend_tasks", *arguments)
        ended = task.run(start.command, hear, variables=start.variables, limit=limit)
    except OSError as error:
        raise UsageError("wrong-python", f"{python} cannot be run: {error.strerror}.", "Choose another.") from error
    if told.get("event") == "error":
        raise TrackshadeError.from_dict(told)
    if told.get("event") != "result":
        said = next((line for line in reversed(ended.tail) if line.strip()), "it said nothing")
        if ended.timed_out:
            said = f"it did not answer within {limit:.0f} seconds"
        raise JobError(
            "errand-failed",
            f"The backend's environment does not work ({python}): {said[:300]}",
            "Set the backend up again, or choose another environment.",
        )
    return told
