# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory the device has and has left, for who asks for the backend's status.

The broker has no torch and never waits, so what it says is what was found a moment ago, by NVIDIA's own tool where
there is one (also other programs' use counts) and of the main memory elsewhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from trackshade.core.processes import find_program

CARD_ORDER = "PCI_BUS_ID"  # for CUDA_DEVICE_ORDER: that of NVIDIA's tool, so that a number means the same card to both
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
    if kind not in ("auto", "cuda"):
        return main_memory()
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is not None and wanted.startswith("MIG-"):
        return {}  # a part of a card, of which the tool does not tell
    cards = visible(nvidia_cards(), wanted)
    index = int(number or 0)
    return cards[index].told() if index < len(cards) else main_memory()


@dataclass(frozen=True)
class Card:
    """A card of NVIDIA's; memory in bytes."""

    uuid: str
    name: str
    free: int
    total: int

    def told(self) -> dict[str, Any]:
        return {"name": self.name, "free": self.free, "total": self.total}


def visible(cards: list[Card], wanted: str | None) -> list[Card]:
    """The cards that CUDA_VISIBLE_DEVICES (`wanted`) leaves, in its order: numbers, or the beginnings of UUIDs, up to
    the first that names no card. None: all of them.
    """
    if wanted is None:
        return cards
    found: list[Card] = []
    for entry in (part.strip() for part in wanted.split(",")):
        if entry.isdecimal():
            matching = cards[int(entry) : int(entry) + 1]
        else:
            matching = [card for card in cards if entry.startswith("GPU-") and card.uuid.startswith(entry)]
        if len(matching) != 1:
            break
        found += matching
    return found


def nvidia_cards() -> list[Card]:
    """Each card, in the order of their bus; empty where there is none."""
    tool = find_program("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=uuid,name,memory.free,memory.total", "--format=csv,noheader,nounits"]
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


def _card(line: str) -> Card | None:
    uuid, _, rest = line.partition(",")
    name, *numbers = [part.strip() for part in rest.rsplit(",", 2)]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    return Card(uuid.strip(), name, int(numbers[0]) << 20, int(numbers[1]) << 20)
