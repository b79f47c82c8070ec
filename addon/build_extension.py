# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the extension, one zip for each platform, and the index of a static repository around them.

    python addon/build_extension.py [FOLDER]           by default dist/
    python addon/build_extension.py --renew-wheels     lists the newest pyzmq and msgpack in addon/wheels.sha256

Each zip holds the add-on, the wheel of `trackshade` with the embedded model, and the wheels of pyzmq and msgpack for
every Python that Blender comes with. Blender's own extension tool packs, validates and indexes; entries are then put in
order and get one date, so that the same tree gives the same bytes (with the same pip, setuptools and zlib).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from extension_rules import archive_faults
from extension_wheels import PLATFORMS, PYTHONS, Wheel, WheelMissing, collect, renew
from trackshade.core.processes import this_python

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / "build" / "wheels"  # where fetched wheels are kept between two builds
DATE = (1980, 1, 1, 0, 0, 0)  # of every entry; the earliest that a zip can say
EPOCH = "315532800"  # the same in seconds since 1970, UTC
JUNK = ("__pycache__", "*.py[co]", "*.egg-info", ".*", "*~")
NOT_IN_BLENDER = ("__main__.py", "bootstrap.py", "README.md")  # for the command line, and for developers


class Failed(Exception):
    """The extension cannot be built; the message says why."""


def main() -> int:
    """Builds, checks and tells the sizes; the exit code."""
    parser = argparse.ArgumentParser(description="Build the extension's zips and their index.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="where they go")
    parser.add_argument("--renew-wheels", action="store_true", help="list the newest pyzmq and msgpack, build nothing")
    chosen = parser.parse_args()
    try:
        if chosen.renew_wheels:
            with tempfile.TemporaryDirectory(prefix="trackshade-wheels-") as folder:
                renew(Path(folder))
            return 0
        made = build(chosen.folder)
    except (Failed, WheelMissing) as reason:
        print(f"The extension was not built: {reason}", file=sys.stderr)
        return 3
    print(table(made))
    print(f"Blender's validator passed them. {chosen.folder / 'index.json'} lists them, for updates.")
    return 0


def build(target: Path) -> list[Path]:
    """Builds and checks the zips of all platforms and their index in the folder `target`; the zips.

    Raises:
        WheelMissing: a wheel cannot be had. Failed: a tool failed, or a rule is broken.
    """
    WHEELS.mkdir(parents=True, exist_ok=True)
    wheels = {platform: collect(platform, WHEELS) for platform in PLATFORMS}
    for platform, found in wheels.items():
        for sentence in stand_ins([path.name for path in found]):
            print(f"{platform}: {sentence}")
    with tempfile.TemporaryDirectory(prefix="trackshade-extension-") as folder:
        source = copy_tree(Path(folder) / "source")
        files = frozenset(package_files(source))
        own = package_wheel(source, Path(folder))
        made = [
            pack(source / "addon" / "trackshade_addon", platform, [*found, own], Path(folder) / "made")
            for platform, found in wheels.items()
        ]
        for path in made:
            check(path, files)
        return publish(made, target)


def copy_tree(target: Path) -> Path:
    """Copies what the build needs to `target`: what earlier builds left in the tree stays out of it, and what changes
    in the tree meanwhile, too. All files get one mode and one date, because setuptools passes both on.
    """
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in ("backend/trackshade", "addon/trackshade_addon"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns(*JUNK))
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (int(EPOCH), int(EPOCH)))
    return target


def package_files(tree: Path = ROOT) -> Iterator[str]:
    """What the wheel of trackshade has to hold: all Python files, the embedded model and the locked versions."""
    ignored = shutil.ignore_patterns(*JUNK)
    for base, package in ((tree / "backend", "trackshade"), (tree / "addon", "trackshade_addon")):
        for folder, names, files in os.walk(base / package):
            names[:] = sorted(set(names) - ignored(folder, names))
            inside = Path(folder).relative_to(base).as_posix()
            model = f"{inside}/".startswith("trackshade/models/mini/")
            for name in sorted(set(files) - ignored(folder, files)):
                if name.endswith(".py") or model or (inside == "trackshade/config/locks" and name.endswith(".txt")):
                    yield f"{inside}/{name}"


def package_wheel(source: Path, folder: Path) -> Path:
    """The wheel of trackshade, from a copied tree, in `folder`. Raises Failed: pip or setuptools failed."""
    tools = ["--no-build-isolation"] if _has_setuptools() else []  # else pip fetches them
    _run(["-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps", *tools,
          "--wheel-dir", str(folder / "own"), str(source)], SOURCE_DATE_EPOCH=EPOCH)  # fmt: skip
    return next((folder / "own").glob("trackshade-*.whl"))


def pack(addon: Path, platform: str, wheels: Sequence[Path], folder: Path, version: str | None = None) -> Path:
    """The extension for one platform, in `folder`.

    Args:
        addon: folder of the add-on's modules.
        wheels: all that it is to hold.
        version: another than the manifest's, for trying an update.

    Raises:
        Failed: Blender's tool failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = (ROOT / "blender_manifest.toml").read_text(encoding="utf-8")
    facts = tomllib.loads(manifest)
    if version is not None:
        manifest = manifest.replace(f'\nversion = "{facts["version"]}"', f'\nversion = "{version}"')
    name = f"{facts['id']}-{version or facts['version']}-{platform.replace('-', '_')}.zip"
    with tempfile.TemporaryDirectory(prefix="trackshade-extension-") as place:
        source = Path(place) / facts["id"]
        shutil.copytree(addon, source, ignore=shutil.ignore_patterns(*JUNK, *NOT_IN_BLENDER))
        shutil.copy(ROOT / "LICENSE", source)
        (source / "wheels").mkdir()
        for path in wheels:
            shutil.copy(path, source / "wheels")
        filled = with_wheels(manifest, platform, [path.name for path in wheels])
        (source / "blender_manifest.toml").write_text(filled, encoding="utf-8")
        built = Path(place) / name
        blender_tool("build", "--source-dir", source, "--output-filepath", built)
        _in_order(built, folder / name)
    return folder / name


def with_wheels(manifest: str, platform: str, wheels: Sequence[str]) -> str:
    """The manifest with the platform and the wheels that are really there; they belong before its first table."""
    lines = [f'platforms = ["{platform}"]', "wheels = ["]
    lines += [*(f'  "./wheels/{name}",' for name in sorted(wheels)), "]", ""]
    head, table, rest = manifest.partition("\n[")
    return head + "\n" + "\n".join(lines) + table + rest


def check(path: Path, files: Iterable[str]) -> None:
    """Has Blender's validator and the rules look at a zip; `files` belong into the wheel of trackshade.

    Raises:
        Failed: with what they found.
    """
    blender_tool("validate", path)
    if faults := list(archive_faults(path, files)):
        raise Failed("\n".join([f"{path.name} breaks the platform's rules.", *faults]))


def publish(made: Sequence[Path], target: Path) -> list[Path]:
    """Puts the zips into a folder in place of earlier ones, with an index: a repository that any web server can serve.

    Raises:
        Failed: Blender's tool failed.
    """
    target.mkdir(parents=True, exist_ok=True)
    for earlier in target.glob("trackshade-*.zip"):
        earlier.unlink()
    found = [Path(shutil.copy(path, target)) for path in made]
    index(target)
    return found


def index(folder: Path) -> None:
    """Writes `index.json` over the zips in a folder. Raises Failed."""
    blender_tool("server-generate", "--repo-dir", folder)
    path = folder / "index.json"
    listing = json.loads(path.read_text(encoding="utf-8"))
    listing["data"].sort(key=lambda item: item["archive_url"])  # the tool goes by the file system's order
    path.write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")


def stand_ins(names: Sequence[str]) -> Iterator[str]:
    """Sentences about Pythons that a package has no wheel of its own for, and what serves them."""
    wheels = list(map(Wheel.of, names))
    for package in sorted({wheel.package for wheel in wheels}):
        own = [wheel for wheel in wheels if wheel.package == package]
        without = [python for python in PYTHONS if not any(wheel.names_python(python) for wheel in own)]
        serving = [wheel for wheel in own if wheel.abi == "abi3"]
        if without and serving:
            yield (f"{package} {serving[0].version} has no wheel of its own for Python {' and '.join(without)}; "
                   f"that of the stable ABI ({serving[0].python}-abi3) serves.")  # fmt: skip


def table(paths: Sequence[Path]) -> str:
    """Sizes in MB, of each zip and of what is in it."""
    parts = ("add-on", "trackshade", "pyzmq", "msgpack")
    rows: list[tuple[str, ...]] = [("zip", "in all", *parts)]
    for path in paths:
        sizes: dict[str, int] = dict.fromkeys(parts, 0)
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                wheel = Wheel.of(Path(item.filename).name) if item.filename.endswith(".whl") else None
                sizes["add-on" if wheel is None else wheel.package] += item.compress_size
        rows.append((path.name, *(f"{size / 1e6:.2f}" for size in (path.stat().st_size, *sizes.values()))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) if number == 0 else text.rjust(width)
                  for number, (text, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )  # fmt: skip


def blender_tool(*arguments: object) -> str:
    """Runs Blender's extension tool, which comes with its Python module; what it said. Raises Failed."""
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        raise Failed("Blender's Python module is needed for its extension tool: pip install bpy.")
    tool = next(Path(spec.origin).parent.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    return _run([str(tool), *map(str, arguments)])


def _run(arguments: Sequence[str], **environment: str) -> str:
    """Runs this Python with the given arguments; what it said. Raises Failed."""
    start = this_python(*arguments)
    variables = {**start.variables, "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(start.command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(arguments[:4])} failed.\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def _in_order(source: Path, target: Path) -> None:
    """Copies a zip with its entries in order, all of one date and mode; packed ones are packed again."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        manifest_first = sorted(
            old.infolist(), key=lambda item: (item.filename != "blender_manifest.toml", item.filename)
        )
        for item in manifest_first:
            if item.is_dir():
                continue
            entry = zipfile.ZipInfo(item.filename, DATE)
            entry.compress_type = item.compress_type
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, wherever it was built
            new.writestr(entry, old.read(item), compresslevel=9)


def _has_setuptools() -> bool:
    try:
        return int(metadata.version("setuptools").partition(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
