# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheels that the extension bundles: which ones, and how to get them, byte for byte as they were published.

`wheels.sha256` beside this file lists them with their digests, in the format of `sha256sum -c`.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging import tags
from packaging.utils import parse_wheel_filename

from trackshade.core.processes import this_python

PYTHONS = ("3.11", "3.13", "3.14")  # Blender 4.2 to 5.0, Blender 5.1 and later, and Debian's Blender 5.2
PACKAGES = ("msgpack", "pyzmq")  # Blender has numpy
PLATFORMS: Mapping[str, tuple[str, ...]] = {  # Blender's names, and wheel tags in order of preference
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_26_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_arm64",),
}
LIST = Path(__file__).with_name("wheels.sha256")


class MissingWheelError(Exception):
    """A wheel that the extension needs is not available; the message names it."""


def wheel_package(name: str) -> str:
    """Return the package of a wheel's file name."""
    return parse_wheel_filename(name)[0]


def wheel_rank(name: str, python: str, platform: str) -> int | None:
    """Return how well a wheel fits a Python, such as "3.11", on one of `PLATFORMS`; 0 is the best, None unusable."""
    supported = _supported_tags(python, platform)
    return min((supported[tag] for tag in parse_wheel_filename(name)[3] if tag in supported), default=None)


@functools.cache
def _supported_tags(python: str, platform: str) -> dict[tags.Tag, int]:
    """Return the tags that a Python supports, with their rank."""
    version = tuple(map(int, python.split(".")))
    interpreter = "cp" + python.replace(".", "")
    names = tags.mac_platforms((11, 0), "arm64") if platform == "macos-arm64" else PLATFORMS[platform]
    platforms = list(names)
    supported = [
        *tags.cpython_tags(version, [interpreter], platforms),
        *tags.compatible_tags(version, interpreter, platforms),
    ]
    return {tag: rank for rank, tag in enumerate(supported)}


def names_python(name: str, python: str) -> bool:
    """Return whether a wheel is built for exactly one version of Python, and not for the stable ABI."""
    interpreter = "cp" + python.replace(".", "")
    return any(tag.interpreter == tag.abi == interpreter for tag in parse_wheel_filename(name)[3])


def read_list() -> dict[str, str]:
    """Read the digests of the listed wheels by file name."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}


def choose_wheel(names: Iterable[str], package: str, python: str, platform: str) -> str:
    """Choose the best wheel of a package for a Python and a platform.

    Raises:
        MissingWheelError: if no name fits.
    """
    ranks = {name: wheel_rank(name, python, platform) for name in names if wheel_package(name) == package}
    fitting = {name: rank for name, rank in ranks.items() if rank is not None}
    if not fitting:
        raise MissingWheelError(f"{LIST.name} lists no wheel of {package} for Python {python} on {platform}.")
    return min(fitting, key=lambda name: (fitting[name], name))


def collect_wheels(platform: str, folder: Path) -> list[Path]:
    """Return the listed wheels for a platform from a folder, after downloading those that are missing.

    Raises:
        MissingWheelError: if one is not available, or if its digest is not the listed one.
    """
    digests, found = read_list(), set()
    for python in PYTHONS:
        for package in PACKAGES:
            name = choose_wheel(digests, package, python, platform)
            path = folder / name
            if not path.exists():
                _download(f"{package}=={parse_wheel_filename(name)[1]}", python, platform, folder)
            if not path.exists():
                raise MissingWheelError(f"{name} was not published; Python {python} got another wheel.")
            if _compute_digest(path) != digests[name]:
                raise MissingWheelError(f"{path} is not the wheel that {LIST.name} lists: its digest differs.")
            found.add(path)
    return sorted(found)


def renew_list(folder: Path) -> None:
    """Download the newest wheels for all Pythons and platforms to an empty folder, and list them.

    Raises:
        MissingWheelError: if a package has none for one of them.
    """
    for platform in PLATFORMS:
        for python in PYTHONS:
            for package in PACKAGES:
                _download(package, python, platform, folder)
    lines = [f"{_compute_digest(path)}  {path.name}" for path in sorted(folder.glob("*.whl"))]
    LIST.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _download(requirement: str, python: str, platform: str, folder: Path) -> None:
    """Download a wheel for another Python or platform than this one, by pip."""
    platforms = [f"--platform={tag}" for tag in PLATFORMS[platform]]
    start = this_python("-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps",
                       "--only-binary=:all:", f"--python-version={python}", "--dest", str(folder), requirement,
                       *platforms)  # fmt: skip
    done = subprocess.run(start.command, env=start.variables, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason."]
        raise MissingWheelError(f"There is no wheel of {requirement} for Python {python} on {platform}. {errors[-1]}")


def _compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
