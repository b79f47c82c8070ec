# SPDX-License-Identifier: GPL-3.0-or-later
"""Locked versions of all packages of a backend's environment: a file for each system and kind of device.

They are requirements files for pip with exact versions, and with the index of PyTorch where PyPI's PyTorch is made for
another kind of device: without CUDA for Windows, with CUDA for Linux. PyTorch for Linux names the exact versions of the
CUDA libraries that it was built with, so these are locked with it. `sizes.json` holds what `addon/tools/
measure_locks.py` has measured of the wheels. Standard library only.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

KINDS = ("cuda", "cpu", "mps")
SYSTEMS = {"linux": "linux", "win32": "windows", "darwin": "macos"}  # by `sys.platform`
PYTHONS = ((3, 11), (3, 13))  # the oldest and the newest Python that these versions have wheels for
CUDA_DRIVER = 580  # the oldest NVIDIA driver (its first number) that runs the locked PyTorch, which is made for CUDA 13
CUDA_CAPABILITY = (7, 5)  # the oldest compute capability that it is made for: Turing

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")


@dataclass(frozen=True)
class LockSizes:
    """What a lock's wheels take.

    Attributes:
        download: Bytes to download.
        unpacked: Bytes of all files, compiled modules included.
        longest: The longest path of a file, relative to the folder of installed packages.
        packages: Bytes to download of each package.
        estimated: Packages whose sizes are estimates.
    """

    download: int
    unpacked: int
    longest: str
    packages: Mapping[str, int]
    estimated: tuple[str, ...]

    @property
    def space(self) -> int:
        """Bytes that a set-up takes at its peak: pip keeps each wheel, and a copy in its cache, until it has ended."""
        return 2 * self.download + self.unpacked


def path(kind: str, platform: str = sys.platform) -> Path:
    """Return the lock file for a kind of device on a system, as `sys.platform` names it. macOS has one for all kinds.

    Raises:
        KeyError: There is none.
    """
    system = SYSTEMS[platform]
    name = system if system == "macos" else f"{system}-{kind}"
    file = Path(__file__).with_name(f"{name}.txt")
    if not file.is_file() or (system == "macos" and kind == "cuda"):
        raise KeyError(name)
    return file


@functools.cache
def sizes(lock: Path) -> LockSizes | None:
    """Return what a lock's wheels take; None for a file that was not measured."""
    measured = json.loads(Path(__file__).with_name("sizes.json").read_text(encoding="utf-8"))
    found = measured.get(lock.stem) if lock.parent == Path(__file__).parent else None
    return None if found is None else LockSizes(**{**found, "estimated": tuple(found["estimated"])})


def pins(file: Path) -> dict[str, str]:
    """Read the version of each package in a lock; the last one if a package has several."""
    lines = (_PIN.match(line.strip()) for line in file.read_text(encoding="utf-8").splitlines())
    return {found[1].lower().replace("_", "-"): found[2] for found in lines if found}
