# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks an extension's files against the platform's rules; each fault is a sentence.

The rules are from Blender's extension guidelines and its own tools, and from what this add-on promises besides: it
writes nothing to its own folder, and its only network connection is the client's loopback socket.
"""

from __future__ import annotations

import ast
import io
import re
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from extension_wheels import PACKAGES, PYTHONS, names_python, wheel_package, wheel_rank

NETWORK_MODULES = ("ftplib", "http", "httpx", "requests", "socket", "socketserver", "ssl", "urllib.request", "urllib3")
WRITERS = {"mkdir", "open", "rename", "replace", "rmdir", "touch", "unlink", "write_bytes", "write_text"}
UNWANTED = ("__pycache__", "tests", "conftest.py", ".git", ".gitignore", ".DS_Store", "Thumbs.db")


def manifest_faults(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Check what Blender's validator does not check in a `blender_manifest.toml`."""
    if re.search(r"blender", manifest["name"], re.IGNORECASE):
        yield "The name contains Blender's, which is a trade mark."
    if not all(item.startswith("SPDX:") for item in manifest["license"]):
        yield "The manifest's license is not a list of SPDX identifiers."
    for needed in ("files", "network"):
        if needed not in manifest.get("permissions", {}):
            yield f"The permission {needed} is not asked for."


def code_faults(name: str, source: str) -> Iterator[str]:
    """Check that a module of the add-on does nothing that an extension may not; `name` is its path."""
    for node in ast.walk(ast.parse(source, name)):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        for module in _imported_modules(node):
            if module.partition(".")[0] in ("trackshade_addon", "bl_ext"):
                yield f"{where} imports the add-on by an absolute name."
            if any(module == known or module.startswith(f"{known}.") for known in NETWORK_MODULES):
                yield f"{where} imports {module}: the add-on's own code opens no connections."
        if isinstance(node, ast.Name) and node.id == "bl_info" and isinstance(node.ctx, ast.Store):
            yield f"{where} has a bl_info, which the manifest has taken the place of."
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.path", "site.addsitedir"):
            yield f"{where} touches Python's search path."
        if isinstance(node, ast.Call) and _writes_beside_file(node):
            yield f"{where} writes beside its own file."


def permission_faults(name: str, source: str, permissions: Mapping[str, str]) -> Iterator[str]:
    """Check that the manifest asks for every permission that a module of the add-on uses."""
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Attribute) and node.attr == "clipboard" and "clipboard" not in permissions:
            yield f"{name}:{node.lineno} uses the clipboard, and the manifest does not ask for it."


def wheel_faults(names: Iterable[str], platform: str) -> Iterator[str]:
    """Check the file names of the wheels in an extension for one platform."""
    packages = {name: wheel_package(name) for name in names}
    for name, package in packages.items():
        if package not in ("trackshade", *PACKAGES):
            yield f"{name} does not belong there" + (": numpy is Blender's own." * (package == "numpy"))
        elif all(wheel_rank(name, python, platform) is None for python in PYTHONS):
            yield f"{name} is not for {platform}."
    for python in PYTHONS:
        fitting = {packages[name] for name in packages if wheel_rank(name, python, platform) is not None}
        yield from (f"No wheel of {p} fits Python {python}." for p in ("trackshade", *PACKAGES) if p not in fitting)
        if not any(names_python(name, python) for name in packages):
            yield f"No wheel names Python {python}, so listings would not either."


def archive_faults(path: Path, package_files: Iterable[str]) -> Iterator[str]:
    """Check a built extension.

    Args:
        path: The zip.
        package_files: Names of the files that the wheel of trackshade has to hold, relative to its root, and no others.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        manifest = tomllib.loads(archive.read("blender_manifest.toml").decode("utf-8"))
        yield from manifest_faults(manifest)
        for name in names:
            if set(PurePosixPath(name).parts) & set(UNWANTED) or name.endswith((".pyc", ".blend1", "~")):
                yield f"{name} does not belong there."
            if name.endswith(".py"):
                source = archive.read(name).decode("utf-8")
                yield from code_faults(name, source)
                yield from permission_faults(name, source, manifest.get("permissions", {}))
        if "LICENSE" not in names:
            yield "The license is missing."
        listed = {wheel.removeprefix("./") for wheel in manifest.get("wheels", ())}
        held = {name for name in names if name.endswith(".whl")}
        for name in sorted(listed ^ held):
            yield f"{name} is " + ("missing." if name in listed else "not listed in the manifest.")
        platforms = manifest.get("platforms", [])
        if len(platforms) != 1:
            yield f"The extension is for {len(platforms)} platforms instead of one."
        else:
            yield from wheel_faults((PurePosixPath(name).name for name in held), platforms[0])
        for name in sorted(held):
            if wheel_package(PurePosixPath(name).name) == "trackshade":
                yield from package_faults(archive.read(name), package_files)


def package_faults(wheel: bytes, package_files: Iterable[str]) -> Iterator[str]:
    """Check that the wheel of trackshade, as bytes, holds exactly the given files."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = set(package_files)
    yield from (f"The package lacks {name}." for name in sorted(wanted - held))
    yield from (f"The package holds {name}, which does not belong there." for name in sorted(held - wanted))


def _imported_modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _writes_beside_file(call: ast.Call) -> bool:
    """Return whether a call that may write mentions `__file__` in its object or arguments."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in WRITERS and any(isinstance(part, ast.Name) and part.id == "__file__" for part in ast.walk(call))
