# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall: what runs inside Blender stays light, and nothing in `trackshade` knows of bpy."""

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
LIGHT = ("core", "config", "shot", "ipc", "client")
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


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_in_the_package_imports_bpy(path: Path) -> None:
    assert not {"bpy", "bmesh", "mathutils", "trackshade_addon"} & {name.partition(".")[0] for name in imports(path)}


def light_file(path: Path) -> bool:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py") in LIGHT


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PACKAGE.rglob("*.py")) if light_file(path)],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_the_light_ring_names_nothing_heavy_even_inside_functions(path: Path) -> None:
    outside = {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names)
    assert outside <= {"trackshade", "numpy", "zmq", "msgpack"}
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("trackshade.")}
    assert inner <= {*LIGHT, "__version__"}


@pytest.mark.parametrize("path", sorted(ADDON.rglob("*.py")), ids=lambda path: str(path.relative_to(ADDON)))
def test_the_add_on_imports_blender_and_the_light_ring_only(path: Path) -> None:
    names = set(imports(path))
    outside = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    blender = {
        "bpy",
        "_cycles",
        "bmesh",
        "mathutils",
        "bpy_extras",
        "gpu",
        "imbuf",
        "blf",
        "addon_utils",
        "bl_operators",
        "bl_ui",
        "pxr",  # USD's own, which Blender brings
        "OpenImageIO",  # likewise
    }
    assert outside <= blender | {"trackshade", "numpy"}
    inner = {name.split(".")[1] for name in names if name.startswith("trackshade.")}
    assert inner <= {*LIGHT, "__version__"}


@pytest.mark.parametrize("folder", ["capture", "jobs", "placement", "render"])
def test_only_the_interface_knows_of_the_interface(folder: str) -> None:
    """Jobs run without a panel; the panel listens to the session."""
    for path in (ADDON / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = {node.module or "", *(alias.name for alias in node.names if node.module is None)}
                assert not any(name.split(".")[0] == "ui" for name in names), path
