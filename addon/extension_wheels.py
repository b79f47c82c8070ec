# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheels that the extension bundles: which there must be, and getting them, byte for byte as they were published.

`wheels.sha256` beside this file lists them with their digests, in the form that `sha256sum -c` reads.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trackshade.core.processes import this_python

PYTHONS = ("3.11", "3.13", "3.14")  # of Blender 4.2 to 5.0, 5.1 and later, and Debian's 5.2
PACKAGES = ("msgpack", "pyzmq")  # numpy is Blender's own
PLATFORMS: Mapping[str, tuple[str, ...]] = {  # Blender's names, and the wheels' tags in order of preference
    "linux-x64": ("manylinux_2_28_x86_64", "manylinux_2_26_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "windows-x64": ("win_amd64",),
    "macos-arm64": ("macosx_11_0_arm64",),
}
_FITTING = {
    "linux-x64": r"manylinux\w*_x86_64",
    "windows-x64": r"win_amd64",
    "macos-arm64": r"macosx_\w+_(arm64|universal2)",
}
LIST = Path(__file__).with_name("wheels.sha256")


class WheelMissing(Exception):
    """A wheel that the extension needs cannot be had; the sentence names it."""


@dataclass(frozen=True)
class Wheel:
    """What a wheel's file name says.

    Attributes:
        python, abi: tags such as cp311 and cp311, cp312 and abi3, py3 and none.
        platforms: tags such as manylinux_2_28_x86_64.
    """

    name: str
    package: str
    version: str
    python: str
    abi: str
    platforms: tuple[str, ...]

    @staticmethod
    def of(name: str) -> Wheel:
        parts = name.removesuffix(".whl").split("-")
        if len(parts) not in (5, 6) or not name.endswith(".whl"):
            raise ValueError(f"{name} is not named as a wheel is.")
        return Wheel(name, parts[0], parts[1], parts[-3], parts[-2], tuple(parts[-1].split(".")))

    def names_python(self, python: str) -> bool:
        """Whether it is made for that very version, such as 3.11."""
        return self.python == self.abi == "cp" + python.replace(".", "")

    def fits_python(self, python: str) -> bool:
        """Whether that version can import it; a stable ABI serves every later version, too."""
        if self.names_python(python) or (self.abi == "none" and "py3" in self.python.split(".")):
            return True
        found = re.fullmatch(r"cp3(\d+)", self.python)
        return self.abi == "abi3" and found is not None and int(found[1]) <= int(python.partition(".")[2])

    def fits_platform(self, platform: str) -> bool:
        """Whether it runs on one of Blender's platforms."""
        return any(tag == "any" or re.fullmatch(_FITTING[platform], tag) for tag in self.platforms)


def listed(path: Path = LIST) -> dict[str, str]:
    """Digests of the wheels by file name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines if not line.startswith("#"))}


def choose(names: Mapping[str, str], package: str, python: str, platform: str) -> Wheel:
    """The wheel of a package for a Python on a platform: one made for that version, else one of the stable ABI.

    Raises:
        WheelMissing: none of the names is.
    """
    wheels = [wheel for wheel in map(Wheel.of, names) if wheel.package == package and wheel.fits_platform(platform)]
    fitting = [wheel for wheel in wheels if wheel.fits_python(python)]
    if not fitting:
        raise WheelMissing(f"{LIST.name} lists no wheel of {package} for Python {python} on {platform}.")
    return max(fitting, key=lambda wheel: (wheel.names_python(python), wheel.name))


def collect(platform: str, folder: Path) -> list[Path]:
    """The listed wheels for a platform, from `folder`, where those that are missing are fetched to.

    Raises:
        WheelMissing: one cannot be had, or what was published is not what is listed.
    """
    digests, found = listed(), set()
    for python in PYTHONS:
        for package in PACKAGES:
            wheel = choose(digests, package, python, platform)
            path = folder / wheel.name
            if not path.exists():
                download(f"{package}=={wheel.version}", python, platform, folder)
            if not path.exists():
                raise WheelMissing(f"{wheel.name} was not published; something else came for Python {python}.")
            if digest(path) != digests[wheel.name]:
                raise WheelMissing(f"{path} is not the wheel that {LIST.name} lists: its digest is another.")
            found.add(path)
    return sorted(found)


def download(requirement: str, python: str, platform: str, folder: Path) -> None:
    """Has pip fetch a wheel for another Python or system than this one.

    Raises:
        WheelMissing: it is not to be had.
    """
    tags = [f"--platform={tag}" for tag in PLATFORMS[platform]]
    start = this_python("-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps",
                       "--only-binary=:all:", f"--python-version={python}", "--dest", str(folder), requirement,
                       *tags)  # fmt: skip
    done = subprocess.run(start.command, env=start.variables, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no reason."]
        raise WheelMissing(f"There is no wheel of {requirement} for Python {python} on {platform}. {said[-1]}")


def renew(folder: Path) -> None:
    """Fetches the newest wheels for all Pythons and platforms into an empty folder, and lists those.

    Raises:
        WheelMissing: a package has none for one of them.
    """
    for platform in PLATFORMS:
        for python in PYTHONS:
            for package in PACKAGES:
                download(package, python, platform, folder)
    lines = [f"{digest(path)}  {path.name}" for path in sorted(folder.glob("*.whl"))]
    LIST.write_text("\n".join(lines) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """SHA-256 in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
