# SPDX-License-Identifier: GPL-3.0-or-later
"""Locked versions of all packages of a backend's environment, one file for each kind of device.

They are requirements files for pip with exact versions. PyTorch itself names the exact versions of the CUDA libraries
that it was built with, so these are locked with it. Standard library only.
"""

from __future__ import annotations

import re
from pathlib import Path

KINDS = ("cuda", "cpu", "mps")
# Bytes that an environment takes, including downloads; PyTorch for Linux brings CUDA unless a vendor's
# index is used.
SPACE = {"cuda": 12 << 30, "cpu": 6 << 30, "mps": 3 << 30}
PYTHONS = ((3, 11), (3, 14))  # the oldest and the newest Python that these versions have wheels for

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)")


def path(kind: str) -> Path:
    """Return the file for a kind of device."""
    return Path(__file__).parent / f"{kind}.txt"


def pins(file: Path) -> dict[str, str]:
    """Read the version of each package in a lock; the last one if a package has several."""
    lines = (_PIN.match(line.strip()) for line in file.read_text(encoding="utf-8").splitlines())
    return {found[1].lower().replace("_", "-"): found[2] for found in lines if found}
