# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the lock files of the backend's environment for platforms other than this one, and measures their wheels.

For each lock and each Python: every package has a wheel for the platform, every requirement of a package is met by the
lock, and the sizes and the longest path come from the member lists of the wheels, of which only the ends are
downloaded. Writes `sizes.json` beside the locks. Run it when a lock has changed:

    python addon/tools/measure_locks.py [--find-links FOLDER] [LOCK ...]

A package that only the lock's own index has (`--extra-index-url`) is looked for there, then in the folder. If neither
has it, `ESTIMATES` is used, and `sizes.json` names it under "estimated".
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from packaging import tags
from packaging.markers import Marker
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from trackshade.config import locks

PYPI = "https://pypi.org/simple"
PYTHONS = [(3, minor) for minor in range(locks.PYTHONS[0][1], locks.PYTHONS[1][1] + 1)]
GLIBC = tuple(range(28, 4, -1))  # of manylinux tags; Blender itself needs 2.28
ANSWER_LIMIT = 60.0  # seconds
SIZES = Path(locks.__file__).with_name("sizes.json")
# Sizes, bytes, of wheels that could not be measured: by those of earlier releases.
ESTIMATES = {"windows-cuda": {"torch": {"download": 2_600_000_000, "unpacked": 5_000_000_000}}}


@dataclass(frozen=True)
class Wheel:
    """A wheel in an index or a folder: its file name and its address."""

    name: str
    url: str


@dataclass(frozen=True)
class WheelFacts:
    """What the member list of a wheel tells."""

    download: int  # bytes of the file
    unpacked: int  # bytes of its members, with compiled modules, which are about as large as their source
    longest: str  # its longest member, as a path in site-packages
    requires: tuple[str, ...]
    requires_python: str


class RemoteFile(io.RawIOBase):
    """A file behind HTTP that supports ranges, for `zipfile`."""

    def __init__(self, url: str) -> None:
        self._url, self._at = url, 0
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_LIMIT) as answer:
            self.size = int(answer.headers["Content-Length"])
        self._tail_from = max(0, self.size - (1 << 18))
        self._tail = self._range(self._tail_from, self.size)

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read bytes, from the end of the file that is kept or by another request."""
        end = self.size if size < 0 else min(self.size, self._at + size)
        if self._at >= self._tail_from:
            data = self._tail[self._at - self._tail_from : end - self._tail_from]
        else:
            data = self._range(self._at, end)
        self._at = end
        return data

    def _range(self, start: int, end: int) -> bytes:
        request = urllib.request.Request(self._url, headers={"Range": f"bytes={start}-{end - 1}"})
        with urllib.request.urlopen(request, timeout=ANSWER_LIMIT) as answer:
            return answer.read()


class _Links(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__()
        self.base, self.found = base, list[Wheel]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            url = urllib.parse.urljoin(self.base, href).partition("#")[0]
            name = urllib.parse.unquote(url.rpartition("/")[2])
            self.found += [Wheel(name, url)] if name.endswith(".whl") else []


@cache
def index_wheels(index: str, package: str) -> tuple[Wheel, ...]:
    """List the wheels of a package in an index; none if the index cannot be reached or has no such package."""
    url = f"{index}/{package}/"
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"Accept": accept}), timeout=ANSWER_LIMIT
        ) as answer:
            body, is_json = answer.read(), "json" in answer.headers.get("Content-Type", "")
    except urllib.error.URLError as error:
        print(f"{url}: {error}", file=sys.stderr)
        return ()
    if is_json:
        files = (file for file in json.loads(body)["files"] if file["filename"].endswith(".whl"))
        return tuple(Wheel(file["filename"], file["url"]) for file in files)
    links = _Links(url)
    links.feed(body.decode())
    return tuple(links.found)


def folder_wheels(folder: Path | None, package: str) -> tuple[Wheel, ...]:
    """List the wheels of a package in a folder."""
    found = sorted(folder.glob(f"{package.replace('-', '_')}-*.whl")) if folder is not None else []
    return tuple(Wheel(path.name, path.as_uri()) for path in found)


@cache
def measure(url: str) -> WheelFacts:
    """Read the member list and the metadata of a wheel."""
    local = urllib.request.url2pathname(urllib.parse.urlsplit(url).path) if url.startswith("file:") else None
    remote = RemoteFile(url) if local is None else None
    with zipfile.ZipFile(remote or str(local)) as archive:  # type: ignore[arg-type]
        members = [item for item in archive.infolist() if not item.is_dir()]
        info = next(item.filename for item in members if item.filename.endswith(".dist-info/METADATA"))
        raw, _ = parse_email(archive.read(info))
        size = remote.size if remote is not None else Path(str(local)).stat().st_size
    modules = sum(item.file_size for item in members if item.filename.endswith(".py"))
    # What belongs elsewhere in the environment (`X.data/scripts/`) has shorter paths there.
    inside = (item.filename.split("/", 2)[-1] if ".data/" in item.filename else item.filename for item in members)
    return WheelFacts(
        size,
        sum(item.file_size for item in members) + modules,
        max(inside, key=len),
        tuple(raw.get("requires_dist", [])),
        raw.get("requires_python", ""),
    )


def platform_tags(name: str, python: tuple[int, int]) -> list[tags.Tag]:
    """Return the tags of wheels that a Python on one of `locks.SYSTEMS` accepts, the best first."""
    platforms = {
        "linux": [f"manylinux_2_{minor}_x86_64" for minor in GLIBC]
        + ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"],
        "windows": ["win_amd64"],
        "macos": list(tags.mac_platforms((14, 0), "arm64")),
    }[name]
    cpython = tags.cpython_tags(python, abis=[f"cp{python[0]}{python[1]}"], platforms=platforms)
    return [*cpython, *tags.compatible_tags(python, f"cp{python[0]}{python[1]}", platforms)]


def marker_values(name: str, python: tuple[int, int]) -> dict[str, str]:
    """Return the values of environment markers on one of `locks.SYSTEMS`."""
    system, platform, machine, os_name = {
        "linux": ("Linux", "linux", "x86_64", "posix"),
        "windows": ("Windows", "win32", "AMD64", "nt"),
        "macos": ("Darwin", "darwin", "arm64", "posix"),
    }[name]
    version = ".".join(map(str, python))
    return {
        "implementation_name": "cpython", "implementation_version": f"{version}.0", "os_name": os_name,
        "platform_machine": machine, "platform_python_implementation": "CPython", "platform_release": "",
        "platform_system": system, "platform_version": "", "python_full_version": f"{version}.0",
        "python_version": version, "sys_platform": platform, "extra": "",
    }  # fmt: skip


def read_pins(lock: Path, values: dict[str, str]) -> dict[str, Version]:
    """Read the pinned version of each package of a lock on a platform."""
    found = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-")):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(values):
                found[canonicalize_name(requirement.name)] = Version(next(iter(requirement.specifier)).version)
    return found


def choose(wheels: tuple[Wheel, ...], version: Version, accepted: list[tags.Tag]) -> Wheel | None:
    """Choose the wheel of a version that fits best, as pip does."""
    ranks = {tag: rank for rank, tag in enumerate(accepted)}
    found = []
    for wheel in wheels:
        if f"-{version.public}" not in wheel.name:  # old releases have names that are no longer valid
            continue
        _, wheel_version, _, wheel_tags = parse_wheel_filename(wheel.name)
        rank = min((ranks[tag] for tag in wheel_tags if tag in ranks), default=None)
        if wheel_version == version and rank is not None:
            found.append((rank, wheel.name, wheel))
    return min(found)[2] if found else None


def problems_of(pins: dict[str, Version], facts: dict[str, WheelFacts], values: dict[str, str]) -> Iterator[str]:
    """Yield the requirements that a lock does not meet, as `pip check` does in an environment."""
    extras: dict[str, set[str]] = {name: {""} for name in facts}
    for _ in range(3):  # an extra may ask for another one
        for name, item in facts.items():
            for text in item.requires:
                requirement = Requirement(text)
                if requirement.name in extras and any(_applies(requirement.marker, values, e) for e in extras[name]):
                    extras[canonicalize_name(requirement.name)] |= requirement.extras
    for name, item in facts.items():
        if item.requires_python and not Requirement(f"x{item.requires_python}").specifier.contains(
            values["python_full_version"]
        ):
            yield f"{name} needs Python {item.requires_python}"
        for text in item.requires:
            requirement = Requirement(text)
            if any(_applies(requirement.marker, values, extra) for extra in extras[name]):
                pin = pins.get(canonicalize_name(requirement.name))
                if pin is None or not requirement.specifier.contains(pin, prereleases=True):
                    yield f"{name} needs {requirement}, the lock has {pin}"


def _applies(marker: Marker | None, values: dict[str, str], extra: str) -> bool:
    return marker is None or marker.evaluate(values | {"extra": extra})


def check_lock(lock: Path, find_links: Path | None) -> tuple[dict[str, Any], list[str]]:
    """Measure a lock for all Pythons; the largest values count. Return its entry in `sizes.json` and the problems."""
    platform = lock.stem.partition("-")[0]
    text = lock.read_text(encoding="utf-8")
    own = [line.split()[1] for line in text.splitlines() if line.startswith("--extra-index-url")]
    packages: dict[str, dict[str, int]] = {}
    longest, problems = "", list[str]()
    found: dict[str, WheelFacts | None] = {}
    absent: set[str] = set()  # packages that only the lock's own index has
    for python in PYTHONS:
        label = f"{lock.stem}, Python {'.'.join(map(str, python))}"
        values, accepted = marker_values(platform, python), platform_tags(platform, python)
        pins = read_pins(lock, values)

        def find(name: str, pins: dict[str, Version] = pins, accepted: list[tags.Tag] = accepted) -> WheelFacts | None:
            indexes = own if pins[name].local else [PYPI]
            listed = [wheel for index in indexes for wheel in index_wheels(index, name)]
            wheel = choose((*listed, *folder_wheels(find_links, name)), pins[name], accepted)
            return None if wheel is None else measure(wheel.url)

        with ThreadPoolExecutor(8) as pool:
            latest = dict(zip(pins, pool.map(find, pins), strict=True))
        for name, item in latest.items():
            if item is None and not pins[name].local:
                problems.append(f"{label}: there is no wheel of {name} {pins[name]}")
            elif item is not None:
                entry = packages.setdefault(name, {"download": 0, "unpacked": 0})
                entry["download"] = max(entry["download"], item.download)
                entry["unpacked"] = max(entry["unpacked"], item.unpacked)
            elif found.get(name) is None:
                absent.add(name)
                # Its requirements and paths are those of the release in PyPI, except for Linux, where that needs CUDA.
                listed = () if platform == "linux" else index_wheels(PYPI, name)
                public = choose(listed, Version(pins[name].public), accepted)
                latest[name] = None if public is None else measure(public.url)
            else:
                latest[name] = found[name]
        facts = {name: item for name, item in latest.items() if item is not None}
        found |= facts
        longest = max((longest, *(item.longest for item in facts.values())), key=len)
        problems += [f"{label}: {text}" for text in problems_of(pins, facts, values)]
    estimated = sorted(absent - packages.keys())
    packages |= {name: size for name, size in ESTIMATES.get(lock.stem, {}).items() if name in estimated}
    entry = {
        **{key: sum(item[key] for item in packages.values()) for key in ("download", "unpacked")},
        "longest": longest,
        "estimated": estimated,
        "packages": {name: item["download"] for name, item in sorted(packages.items())},
    }
    return entry, problems


def main() -> int:
    """Check and measure the locks; return 1 if there are problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("locks", nargs="*", help="names of locks, such as windows-cuda; default: all")
    parser.add_argument("--find-links", type=Path, help="folder with wheels of the locks' own indexes")
    arguments = parser.parse_args()
    sizes, problems = json.loads(SIZES.read_text(encoding="utf-8")) if SIZES.exists() else {}, list[str]()
    for lock in sorted(SIZES.parent.glob("*.txt")):
        if not arguments.locks or lock.stem in arguments.locks:
            item, more = check_lock(lock, arguments.find_links)
            problems += more
            unknown = set(item["estimated"]) - item["packages"].keys()
            if unknown:
                problems.append(f"{lock.stem}: {', '.join(unknown)} was not found and is not estimated")
                continue
            sizes[lock.stem] = item
            gigabytes = ", ".join(f"{item[key] / 1e9:.2f} GB {key}" for key in ("download", "unpacked"))
            print(f"{lock.stem}: {len(item['packages'])} packages, {gigabytes}, longest path {len(item['longest'])}, "
                  f"estimated: {', '.join(item['estimated']) or 'nothing'}")  # fmt: skip
    SIZES.write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    print("\n".join(problems) or "No problems.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
