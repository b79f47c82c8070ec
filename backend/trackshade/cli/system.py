# SPDX-License-Identifier: GPL-3.0-or-later
"""System libraries that the bpy module links to and that a bare Debian lacks.

Only the standard library is used and nothing of this package is imported, so that `make setup` can run this file
before anything is installed.
"""

from __future__ import annotations

import ctypes
import sys

# The libraries that the extension modules of bpy 4.5 and 5.2 need beyond glibc, and the Debian package of each.
# Graphics drivers' libraries (CUDA, HIP, Level Zero) are opened on demand and may be missing; libEGL is opened on
# demand too, but without it only Cycles renders.
DEBIAN_PACKAGES = {
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libXt.so.6": "libxt6",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
}


def missing_libraries() -> dict[str, str]:
    """Return the libraries that cannot be opened, with their Debian packages; empty on other systems than Linux."""
    if not sys.platform.startswith("linux"):
        return {}
    missing = {}
    for name, package in DEBIAN_PACKAGES.items():
        try:
            ctypes.CDLL(name)
        except OSError:
            missing[name] = package
    return missing


def advice(missing: dict[str, str]) -> str:
    """Return two sentences that name the missing libraries and say how to install them."""
    packages = " ".join(missing.values())
    return (
        f"Blender's Python module needs system libraries that are missing here: {', '.join(missing)}. "
        f"Install them with: apt-get install --no-install-recommends {packages}"
    )


if __name__ == "__main__":
    if found := missing_libraries():
        sys.exit(advice(found))
