# SPDX-License-Identifier: GPL-3.0-or-later
"""Total and free memory of the device, for the backend's status.

The broker has no torch and never waits, so the values are a few seconds old. They come from nvidia-smi, which counts
the use of other programs too, or from the main memory.
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

CUDA_DEVICE_ORDER = "PCI_BUS_ID"  # the order of nvidia-smi, so that a number means the same GPU to CUDA and to it
MAX_AGE = 2.0  # seconds
TIME_LIMIT = 10.0  # seconds for nvidia-smi


class MemoryMonitor:
    """Measures the memory of a device in the background."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._latest: dict[str, Any] = {}
        self._measured = float("-inf")
        self._busy = threading.Lock()

    def latest(self) -> dict[str, Any]:
        """Return what is known of "name", "free" and "total" (bytes); measure again if that is old."""
        if time.monotonic() - self._measured > MAX_AGE and self._busy.acquire(blocking=False):
            threading.Thread(target=self._measure, name="memory", daemon=True).start()
        return self._latest

    def _measure(self) -> None:
        try:
            self._latest = measure_memory(self._device)
            self._measured = time.monotonic()
        finally:
            self._busy.release()


def measure_memory(device: str) -> dict[str, Any]:
    """Measure the memory of "cuda", "cuda:N", "cpu", "mps" or "auto"."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cuda"):
        return measure_main_memory()
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is not None and wanted.startswith("MIG-"):
        return {}  # nvidia-smi does not report parts of a GPU
    gpus = visible_gpus(query_gpus(), wanted)
    index = int(number or 0)
    if index >= len(gpus):
        return measure_main_memory()
    return {"name": gpus[index].name, "free": gpus[index].free, "total": gpus[index].total}


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU; memory in bytes."""

    uuid: str
    name: str
    free: int
    total: int


def visible_gpus(gpus: list[Gpu], wanted: str | None) -> list[Gpu]:
    """Select from all GPUs, in the order of their bus, as CUDA does.

    `wanted` is CUDA_VISIBLE_DEVICES: numbers or beginnings of UUIDs, up to the first invalid one. None for all GPUs.
    """
    if wanted is None:
        return gpus
    selected: list[Gpu] = []
    for entry in (part.strip() for part in wanted.split(",")):
        if entry.isdecimal():
            matching = gpus[int(entry) : int(entry) + 1]
        else:
            matching = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
        if len(matching) != 1:
            break
        selected += matching
    return selected


def query_gpus() -> list[Gpu]:
    """Ask nvidia-smi for all GPUs, in the order of their bus; empty without it."""
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
    return [gpu for line in done.stdout.splitlines() if (gpu := _parse_gpu(line))]


def measure_main_memory() -> dict[str, Any]:
    """Measure the free and total main memory; empty without psutil."""
    try:
        import psutil
    except ImportError:
        return {}
    found = psutil.virtual_memory()
    return {"free": found.available, "total": found.total}


def total_main_memory() -> int | None:
    """Return the bytes of the main memory, or None where that is not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return measure_main_memory().get("total")


def _parse_gpu(line: str) -> Gpu | None:
    uuid, _, rest = line.partition(",")
    name, *numbers = [part.strip() for part in rest.rsplit(",", 2)]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    return Gpu(uuid.strip(), name, int(numbers[0]) << 20, int(numbers[1]) << 20)
