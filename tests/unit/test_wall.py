# SPDX-License-Identifier: GPL-3.0-or-later
"""The import wall: what runs inside Blender stays light, and nothing outside the add-on imports bpy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "backend" / "trackshade"
ADDON = ROOT / "addon" / "trackshade_addon"
LAB = ROOT / "backend" / "trackshade_lab"
LIGHT = ("core", "config", "shot", "ipc", "client")
# What Blender's Python brings; pxr is USD's own module.
BLENDER = {
    *("_cycles", "addon_utils", "bl_operators", "bl_ui", "blf", "bmesh", "bpy", "bpy_extras", "gpu", "imbuf"),
    *("mathutils", "OpenImageIO", "pxr"),
}
LIST_MODULES = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
import numpy, zmq, msgpack
third = {name.partition(".")[0] for name in set(sys.modules) - before}
for name in sys.argv[1:]:
    module = importlib.import_module("trackshade." + name)
    for item in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
        importlib.import_module(item.name)
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(tops - third - set(sys.stdlib_module_names))))
"""


def imports(path: Path) -> Iterator[str]:
    """Absolute module names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_light_ring_imports_only_numpy_zmq_and_msgpack() -> None:
    command = [sys.executable, "-c", LIST_MODULES, *LIGHT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    extra = {name for name in json.loads(done.stdout) if not name.startswith("_cython")}
    assert extra == {"trackshade"}


def test_modules_import_only_what_their_place_allows() -> None:
    """Every import in every module, those inside functions too. A failure lists all offenders."""
    offenders = [
        f"{path.relative_to(ROOT).as_posix()} imports {name}"
        for folder in (PACKAGE, LAB, ADDON)
        for path in sorted(folder.rglob("*.py"))
        for name in sorted(set(imports(path)))
        if not allowed(path, name)
    ]
    assert not offenders, "\n" + "\n".join(offenders)


def allowed(path: Path, name: str) -> bool:
    """Whether a module may import another.

    Args:
        path: the importing module.
        name: the absolute name of the imported module, or of something in it.
    """
    top, _, rest = name.partition(".")
    if top in sys.stdlib_module_names:
        return True
    in_addon = path.is_relative_to(ADDON)
    light = path.is_relative_to(PACKAGE) and path.relative_to(PACKAGE).parts[0] in LIGHT
    if top == "trackshade":
        return not (in_addon or light) or rest.partition(".")[0] in {"", *LIGHT, "__version__"}
    if top == "trackshade_lab":
        return path.is_relative_to(LAB) or path.is_relative_to(PACKAGE / "cli")
    if in_addon:
        return top in BLENDER or top == "numpy"
    if light:
        return top in {"numpy", "zmq", "msgpack"}
    return top not in {*BLENDER, "trackshade_addon"} - {"pxr", "OpenImageIO"}


@pytest.mark.parametrize("folder", ["capture", "jobs", "placement", "render"])
def test_only_the_interface_knows_of_the_interface(folder: str) -> None:
    """Jobs run without a panel; the panel listens to the session."""
    for path in (ADDON / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = {node.module or "", *(alias.name for alias in node.names if node.module is None)}
                assert not any(name.split(".")[0] == "ui" for name in names), path
