# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines by which render farms follow a command: progress, state, saved pictures and the reason of a failure.

Farms read the output of a command line by line, each in its own form, from the first column. `FARMS` names the forms:

    openjd      `openjd_progress: 40`, `openjd_status: …`, `openjd_fail: …` (Open Job Description, Deadline Cloud)
    opencue     `alf_progress 40%` (OpenCue)
    flamenco    no progress of its own

All of them also get `Saved: '/path/0001.png'` for each picture, which is what Blender prints for a render.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

FARMS = ("none", "openjd", "opencue", "flamenco")
_PICTURES = (".png", ".exr", ".jpg")
# Share of the work, in percent, before and after each state of a command. Those of other commands are left out there.
_STAGES = {
    "planning": (0, 2), "opening": (0, 3), "reading": (0, 3), "stepping": (2, 8), "capturing": (3, 25),
    "rendering": (20, 40), "sending": (40, 45), "queued": (45, 45), "loading": (45, 50),
    "running": (50, 90), "decoding": (90, 95), "exporting": (50, 98), "fetching": (95, 97), "baking": (0, 98),
    "placing": (97, 99), "saving": (98, 99),
}  # fmt: skip


class FarmLines:
    """Prints the lines of a farm; nothing for "none".

    Args:
        farm: One of `FARMS`.
        out: Where to print. Default: standard output, as it is at each line.
    """

    def __init__(self, farm: str, out: TextIO | None = None) -> None:
        self._farm = farm
        self._out = out
        self._percent = -1
        self._status = ""

    def progress(self, message: Mapping[str, Any]) -> None:
        """Print a progress message with "state" and optionally "message", "step" and "steps". It never goes back."""
        first, last = _STAGES.get(str(message["state"]), (0, 0))
        step, steps = message.get("step"), message.get("steps")
        share = min(max(step / steps, 0.0), 1.0) if step is not None and steps else 0.0
        self._show_percent(round(first + (last - first) * share))
        count = f"{step} of {steps}" if steps else ""
        status = _one_line(", ".join(part for part in (message["state"], count, message.get("message")) if part))
        if self._farm == "openjd" and status != self._status:
            self._status = status
            self._print(f"openjd_status: {status}")

    def result(self, result: Mapping[str, Any]) -> None:
        """Print the saved pictures of a result with "files", and that everything is done."""
        if self._farm != "none":
            for path in _saved_pictures(result):
                self._print(f"Saved: '{path}'")
        self._show_percent(100)

    def failure(self, sentence: str) -> None:
        """Print why the command fails."""
        if self._farm == "openjd":
            self._print(f"openjd_fail: {_one_line(sentence)}")

    def _show_percent(self, percent: int) -> None:
        if percent <= self._percent:
            return
        self._percent = percent
        if self._farm == "openjd":
            self._print(f"openjd_progress: {percent}")
        elif self._farm == "opencue":
            self._print(f"alf_progress {percent}%")

    def _print(self, line: str) -> None:
        print(line, file=self._out or sys.stdout, flush=True)


def _one_line(text: str) -> str:
    return " ".join(str(text).split())


def _saved_pictures(result: Mapping[str, Any]) -> list[Path]:
    """Return the frames of a result, or its single pictures if it has no frames."""
    paths = [Path(path) for path in result.get("files", {}).values()]
    frames = [path for path in paths if path.is_dir() and path.name == "frames"]
    pictures = [path for folder in frames for path in sorted(folder.iterdir())] if frames else paths
    return [path for path in pictures if path.suffix.lower() in _PICTURES and path.is_file()]
