# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the device has and has left, for who asks for the backend's status.

The broker has no torch and never waits, so what it says is what was found a moment ago, by NVIDIA's own tool where
there is one (also other programs' use counts) and of the main memory elsewhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from typing import Any

FRESH = 2.0  # seconds
TIME_LIMIT = 10.0


class MemoryWatch:
    """`now()` returns the latest finding, and begins to look again where that is old."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._found: dict[str, Any] = {}
        self._looked = float("-inf")
        self._busy = threading.Lock()

    def now(self) -> dict[str, Any]:
        """{"name", "free", "total"} of the device, bytes; what is not known is missing."""
        if time.monotonic() - self._looked > FRESH and self._busy.acquire(blocking=False):
            threading.Thread(target=self._look, name="memory", daemon=True).start()
        return self._found

    def _look(self) -> None:
        try:
            self._found = look(self._device)
            self._looked = time.monotonic()
        finally:
            self._busy.release()


def look(device: str) -> dict[str, Any]:
    """The memory of "cuda", "cuda:N", "cpu", "mps" or "auto" now."""
    kind, _, number = device.partition(":")
    cards = nvidia_cards() if kind in ("auto", "cuda") else []
    index = int(number or 0)
    return cards[index] if index < len(cards) else main_memory()


def nvidia_cards() -> list[dict[str, Any]]:
    """Name, free and total memory of each card; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,memory.free,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIME_LIMIT,
            creationflags=subprocess.CREATE_NO_WINDOW if sys.platform == "win32" else 0,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [card for line in done.stdout.splitlines() if (card := _card(line))]


def main_memory() -> dict[str, Any]:
    """Free and total main memory, where that can be told."""
    try:
        import psutil
    except ImportError:
        return {}
    found = psutil.virtual_memory()
    return {"free": found.available, "total": found.total}


def _card(line: str) -> dict[str, Any] | None:
    name, *numbers = [part.strip() for part in line.rsplit(",", 2)]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    return {"name": name, "free": int(numbers[0]) << 20, "total": int(numbers[1]) << 20}
