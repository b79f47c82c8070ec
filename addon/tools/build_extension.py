# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the extension, one zip for each platform, and the index of a static repository of them.

    python addon/tools/build_extension.py [FOLDER]           by default dist/
    python addon/tools/build_extension.py --renew-wheels     lists the newest pyzmq and msgpack in wheels.sha256

Each zip holds the add-on, the guide as HTML pages, the wheel of `trackshade` with the embedded model, and the wheels of
pyzmq and msgpack for every Python that Blender comes with. Blender's own extension tool packs, validates and indexes.
Entries are then sorted and get one date, so that the same tree gives the same bytes (with the same pip, setuptools and
zlib).
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
from extension_wheels import PLATFORMS, MissingWheelError, collect_wheels, renew_list, wheel_package
from guide_pages import write_pages

from trackshade.core.processes import this_python

ROOT = Path(__file__).resolve().parents[2]
WHEELS = ROOT / "build" / "wheels"  # downloaded wheels are kept between builds
DATE = (1980, 1, 1, 0, 0, 0)  # of every entry: the earliest date of the zip format
EPOCH = "315532800"  # the same in seconds since 1970, UTC
IGNORED = ("__pycache__", "*.py[co]", "*.egg-info", ".*", "*~", "mini-matrix")  # the last one is for research
DATA_FOLDERS = ("trackshade/models/mini/", "trackshade/models/mini-motion/", "trackshade/config/locks/")
NOT_IN_BLENDER = ("__main__.py", "bootstrap.py", "README.md")  # for the command line and for developers


class BuildError(Exception):
    """The extension cannot be built; the message says why."""


def main() -> int:
    """Build and check the zips, and print their sizes; return the exit code."""
    parser = argparse.ArgumentParser(description="Build the extension's zips and their index.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", help="Folder to write to.")
    parser.add_argument("--renew-wheels", action="store_true", help="List the newest pyzmq and msgpack; build nothing.")
    args = parser.parse_args()
    try:
        if args.renew_wheels:
            with tempfile.TemporaryDirectory(prefix="trackshade-wheels-") as folder:
                renew_list(Path(folder))
            return 0
        zips = build(args.folder)
    except (BuildError, MissingWheelError) as error:
        print(f"The extension was not built: {error}", file=sys.stderr)
        return 3
    print(size_table(zips))
    print(f"Blender's validator passed them. {args.folder / 'index.json'} lists them, for updates.")
    return 0


def build(target: Path) -> list[Path]:
    """Build and check the zips of all platforms and their index in the folder `target`; return the zips.

    Raises:
        MissingWheelError: if a wheel is not available.
        BuildError: if a tool fails, or if a zip breaks a rule.
    """
    WHEELS.mkdir(parents=True, exist_ok=True)
    wheels = {platform: collect_wheels(platform, WHEELS) for platform in PLATFORMS}
    with tempfile.TemporaryDirectory(prefix="trackshade-extension-") as folder:
        source = copy_source(Path(folder) / "source")
        files = frozenset(package_files(source))
        package = build_package_wheel(source, Path(folder))
        zips = [
            pack(source / "addon" / "trackshade_addon", platform, [*found, package], Path(folder) / "zips")
            for platform, found in wheels.items()
        ]
        for path in zips:
            check(path, files)
        return publish(zips, target)


def copy_source(target: Path) -> Path:
    """Copy what the build needs to `target`, without `trackshade_lab`.

    Remains of earlier builds stay out of the copy, and so do changes in the tree while the build runs. All files get
    one mode and one date, because setuptools passes both on.
    """
    target.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    for name in ("backend/trackshade", "addon/trackshade_addon"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns(*IGNORED))
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (int(EPOCH), int(EPOCH)))
    return target


def package_files(source: Path) -> Iterator[str]:
    """List what the wheel of trackshade has to hold: its files in a copied tree, except READMEs of developers."""
    for base, package in ((source / "backend", "trackshade"), (source / "addon", "trackshade_addon")):
        for path in sorted((base / package).rglob("*")):
            name = path.relative_to(base).as_posix()
            is_data = name.startswith(DATA_FOLDERS) or name.endswith((".txt", ".toml", "/py.typed", "/flamenco.js"))
            if path.is_file() and (name.endswith(".py") or is_data):
                yield name


def build_package_wheel(source: Path, folder: Path) -> Path:
    """Build the wheel of trackshade from a copied tree, in `folder`.

    Raises:
        BuildError: if pip or setuptools fails.
    """
    tools = ["--no-build-isolation"] if _has_setuptools() else []  # else pip downloads setuptools
    _run(["-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps", *tools,
          "--wheel-dir", str(folder / "package"), str(source)], SOURCE_DATE_EPOCH=EPOCH)  # fmt: skip
    return next((folder / "package").glob("trackshade-*.whl"))


def pack(addon: Path, platform: str, wheels: Sequence[Path], folder: Path, version: str | None = None) -> Path:
    """Pack the add-on's modules and wheels for one of `PLATFORMS` in a zip in `folder`; return the zip.

    To try an update, `version` replaces the manifest's.

    Raises:
        BuildError: if Blender's tool fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = (ROOT / "blender_manifest.toml").read_text(encoding="utf-8")
    facts = tomllib.loads(manifest)
    if version is not None:
        manifest = manifest.replace(f'\nversion = "{facts["version"]}"', f'\nversion = "{version}"')
    name = f"{facts['id']}-{version or facts['version']}-{platform.replace('-', '_')}.zip"
    with tempfile.TemporaryDirectory(prefix="trackshade-extension-") as place:
        source = Path(place) / facts["id"]
        shutil.copytree(addon, source, ignore=shutil.ignore_patterns(*IGNORED, *NOT_IN_BLENDER))
        shutil.copy(ROOT / "LICENSE", source)
        write_pages(ROOT / "addon" / "guide", source / "guide")
        (source / "wheels").mkdir()
        for path in wheels:
            shutil.copy(path, source / "wheels")
        manifest = _add_to_manifest(manifest, platform, [path.name for path in wheels])
        (source / "blender_manifest.toml").write_text(manifest, encoding="utf-8")
        run_blender_tool("build", "--source-dir", source, "--output-filepath", Path(place) / name)
        _sort_entries(Path(place) / name, folder / name)
    return folder / name


def _add_to_manifest(manifest: str, platform: str, wheels: Sequence[str]) -> str:
    """Insert the platform and the wheels before the manifest's first table."""
    lines = [f'platforms = ["{platform}"]', "wheels = ["]
    lines += [*(f'  "./wheels/{name}",' for name in sorted(wheels)), "]", ""]
    head, table, rest = manifest.partition("\n[")
    return head + "\n" + "\n".join(lines) + table + rest


def check(path: Path, files: Iterable[str]) -> None:
    """Check a zip by Blender's validator and by our rules; `files` are those that the wheel of trackshade has to hold.

    Raises:
        BuildError: with all faults.
    """
    run_blender_tool("validate", path)
    if faults := list(archive_faults(path, files)):
        raise BuildError("\n".join([f"{path.name} breaks the platform's rules.", *faults]))


def publish(zips: Sequence[Path], target: Path) -> list[Path]:
    """Replace the zips in a folder and write `index.json`: a repository that any web server can serve.

    Raises:
        BuildError: if Blender's tool fails.
    """
    target.mkdir(parents=True, exist_ok=True)
    for earlier in target.glob("trackshade-*.zip"):
        earlier.unlink()
    published = [Path(shutil.copy(path, target)) for path in zips]
    run_blender_tool("server-generate", "--repo-dir", target)
    path = target / "index.json"
    listing = json.loads(path.read_text(encoding="utf-8"))
    listing["data"].sort(key=lambda item: item["archive_url"])  # the tool keeps the order of the file system
    path.write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")
    return published


def size_table(paths: Sequence[Path]) -> str:
    """Format the sizes in MB of zips and of what is in them."""
    parts = ("add-on", "trackshade", "pyzmq", "msgpack")
    rows: list[tuple[str, ...]] = [("zip", "total", *parts)]
    for path in paths:
        sizes: dict[str, int] = dict.fromkeys(parts, 0)
        with zipfile.ZipFile(path) as archive:
            for item in archive.infolist():
                name = Path(item.filename).name
                sizes[wheel_package(name) if name.endswith(".whl") else "add-on"] += item.compress_size
        rows.append((path.name, *(f"{size / 1e6:.2f}" for size in (path.stat().st_size, *sizes.values()))))
    width = max(len(row[0]) for row in rows)
    return "\n".join(name.ljust(width) + "".join(size.rjust(12) for size in sizes) for name, *sizes in rows)


def run_blender_tool(*arguments: object) -> str:
    """Run Blender's extension tool, which comes with its Python module; return its output.

    Raises:
        BuildError: if it fails, or if the module is missing.
    """
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        raise BuildError("Blender's Python module is needed for its extension tool: pip install bpy.")
    tool = next(Path(spec.origin).parent.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    return _run([str(tool), *map(str, arguments)])


def _run(arguments: Sequence[str], **environment: str) -> str:
    """Run this Python with arguments; return its output."""
    start = this_python(*arguments)
    variables = {**start.variables, "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(start.command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(arguments[:4])} failed.\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def _sort_entries(source: Path, target: Path) -> None:
    """Copy a zip with its manifest first and the other entries sorted, all with one date and mode."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in sorted(old.infolist(), key=lambda item: (item.filename != "blender_manifest.toml", item.filename)):
            if item.is_dir():
                continue
            entry = zipfile.ZipInfo(item.filename, DATE)
            entry.compress_type = item.compress_type
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3  # Unix, on every platform
            new.writestr(entry, old.read(item), compresslevel=9)


def _has_setuptools() -> bool:
    try:
        return int(metadata.version("setuptools").partition(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    sys.exit(main())
