# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the graphics cards of this machine, and the kind of PyTorch that they can use. Does not import bpy.

The names come from NVIDIA's `nvidia-smi` and, for cards that it does not list, from Linux' sysfs or Windows' registry.
Runs programs: not on the main thread.
"""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trackshade.config import locks
from trackshade.core.errors import UsageError
from trackshade.core.processes import find_program

from .tasks import CancellableTask

TIME_LIMIT = 60.0  # seconds: nvidia-smi wakes the card
SYSFS = Path("/sys/class/drm")
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_DISPLAY_CLASS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
_CHOOSE_CPU = "or choose the device CPU in the preferences."


@dataclass(frozen=True)
class NvidiaCard:
    """What nvidia-smi tells about a card."""

    name: str
    driver: str  # such as "581.29"
    capability: tuple[int, ...]  # compute capability, such as (8, 9); empty if the driver is too old to tell

    @property
    def has_driver(self) -> bool:
        """Whether the driver runs the locked PyTorch."""
        number = self.driver.partition(".")[0]
        return number.isdecimal() and int(number) >= locks.CUDA_DRIVER

    @property
    def is_supported(self) -> bool:
        """Whether the locked PyTorch is made for the card."""
        return not self.capability or self.capability >= locks.CUDA_CAPABILITY


@dataclass(frozen=True)
class DetectedDevice:
    """The kind of device to set up for, the card's name, and a sentence about a card that cannot be used, or ""."""

    kind: str
    name: str = ""
    note: str = ""


def detect_device(task: CancellableTask) -> DetectedDevice:
    """Detect the kind of device of this machine: "cuda", "mps" or "cpu".

    Raises:
        UsageError: There is an NVIDIA card that could be used, but its driver is missing or too old; or PyTorch is not
            made for this kind of machine.
    """
    if sys.platform == "darwin":
        if platform.machine() != "arm64":
            raise UsageError(
                "unsupported-machine",
                "PyTorch is no longer made for Macs with an Intel processor.",
                "Use a backend on another machine.",
            )
        return DetectedDevice("mps", "Apple GPU")
    return choose_device(query_cards(task), list_adapters())


def choose_device(cards: Sequence[NvidiaCard] | None, adapters: Sequence[str]) -> DetectedDevice:
    """Choose the kind of device by the cards of a machine with Linux or Windows.

    Args:
        cards: NVIDIA's cards; None if nvidia-smi is missing or does not reach the driver.
        adapters: Names of all graphics cards, which begin with their vendor.

    Raises:
        UsageError: see `detect_device`.
    """
    usable = [card for card in cards or () if card.is_supported]
    if usable:
        ready = next((card for card in usable if card.has_driver), None)
        if ready is None:
            first = usable[0]
            raise UsageError(
                "old-driver",
                f"The driver of the {first.name} is {first.driver}; PyTorch needs {locks.CUDA_DRIVER} or newer.",
                f"Update the NVIDIA driver and set up again, {_CHOOSE_CPU}",
            )
        return DetectedDevice("cuda", ready.name)
    if cards:
        needed = ".".join(map(str, locks.CUDA_CAPABILITY))
        has = ".".join(map(str, cards[0].capability))
        note = f"The {cards[0].name} is too old for PyTorch (compute capability {has}, {needed} is needed)."
        return DetectedDevice("cpu", cards[0].name, f"{note} The CPU is used.")
    nvidia = next((name for name in adapters if name.startswith("NVIDIA")), None)
    if nvidia is not None:
        raise UsageError(
            "no-driver",
            f"There is a card of NVIDIA ({nvidia}), but NVIDIA's driver does not respond.",
            f"Install or repair the NVIDIA driver, restart, and set up again, {_CHOOSE_CPU}",
        )
    other = next((name for name in adapters if name.startswith(("AMD", "Intel", "Radeon", "ATI"))), None)
    if other is None:
        return DetectedDevice("cpu")
    note = f"The {other} is not used: Set Up installs PyTorch for NVIDIA and Apple GPUs only. The CPU is used."
    return DetectedDevice("cpu", other, note)


def query_cards(task: CancellableTask) -> list[NvidiaCard] | None:
    """Ask nvidia-smi for all cards; None if it is missing or does not reach the driver."""
    tool = find_program("nvidia-smi")
    if tool is None:
        return None
    for fields in ("name,driver_version,compute_cap", "name,driver_version"):  # old drivers do not know the last one
        with contextlib.suppress(OSError):
            result = task.run([tool, f"--query-gpu={fields}", "--format=csv,noheader"], limit=TIME_LIMIT)
            cards = [card for line in result.tail if (card := parse_card(line)) is not None]
            if result.code == 0 and cards:
                return cards
    return None


def parse_card(line: str) -> NvidiaCard | None:
    """Parse a line of nvidia-smi: name, driver and, if it is known, compute capability."""
    name, *rest = [part.strip() for part in line.split(",")]
    if not rest or not rest[0][:1].isdecimal():
        return None
    numbers = rest[1].split(".") if len(rest) > 1 else []
    return NvidiaCard(name, rest[0], tuple(map(int, numbers)) if all(n.isdecimal() for n in numbers) else ())


def list_adapters(sysfs: Path = SYSFS) -> list[str]:
    """List the names of all graphics cards, each of which begins with its vendor; empty if they are not known."""
    if sys.platform == "win32":
        return _registered_adapters()
    found = []
    for file in sorted(sysfs.glob("card*/device/vendor")):
        with contextlib.suppress(OSError):
            vendor = _VENDORS.get(file.read_text().strip())
            found += [f"{vendor} graphics card"] if vendor is not None else []
    return found


def _registered_adapters() -> list[str]:
    if sys.platform != "win32":
        return []
    import winreg

    found = []
    with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _DISPLAY_CLASS) as adapters:
        for number in range(winreg.QueryInfoKey(adapters)[0]):
            with contextlib.suppress(OSError), winreg.OpenKey(adapters, winreg.EnumKey(adapters, number)) as key:
                found.append(str(winreg.QueryValueEx(key, "DriverDesc")[0]))
    return found
