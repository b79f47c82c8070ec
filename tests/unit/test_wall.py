# SPDX-License-Identifier: GPL-3.0-or-later
"""The import wall: what runs inside Blender stays light, and nothing outside the add-on imports bpy."""

from __future__ import annotations

import ast
import functools
import graphlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "backend" / "trackshade"
ADDON = ROOT / "addon" / "trackshade_addon"
LAB = ROOT / "backend" / "trackshade_lab"
ORDER = (
    "core",
    "config",
    "shot",
    "motion",
    "control",
    "propagation",
    "lifting",
    "tracking",
    "driving",
    "models",
    "pipelines",
    "results",
    "splats",
    "exports",
    "ipc",
    "client",
    "server",
    "cli",
)
LIGHT = ("core", "config", "shot", "motion", "ipc", "client")
# What every Blender's Python brings, the bpy packages' as well; pxr is USD's own module.
BLENDER = {
    *("_cycles", "addon_utils", "bl_operators", "bl_ui", "blf", "bmesh", "bpy", "bpy_extras", "gpu", "gpu_extras"),
    *("imbuf", "mathutils", "pxr"),
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


@functools.cache
def imports(path: Path) -> list[str]:
    """Return the absolute names that a module imports, anywhere in it; of `from a import b`, `a` and `a.b`."""
    found: list[str] = []
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def module_name(path: Path) -> str:
    """Return the dotted name of a module of one of the three packages."""
    root = next(folder.parent for folder in (PACKAGE, LAB, ADDON) if path.is_relative_to(folder))
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


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
        return top in {*BLENDER, "numpy", "trackshade_addon"}
    if light:
        return top in {"numpy", "zmq", "msgpack"}
    return top not in {*BLENDER, "trackshade_addon"} - {"pxr"}


@pytest.mark.parametrize("folder", ["capture", "jobs", "placement", "render"])
def test_only_the_interface_knows_of_the_interface(folder: str) -> None:
    """Jobs run without a panel; the panel listens to the session."""
    for path in (ADDON / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                names = {node.module or "", *(alias.name for alias in node.names if node.module is None)}
                assert not any(name.split(".")[0] == "ui" for name in names), path


def test_modules_import_each_other_without_cycles() -> None:
    """Those inside functions count, too: importing a module later does not make the two separate."""
    paths = {module_name(path): path for folder in (PACKAGE, LAB, ADDON) for path in folder.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        names = set(imports(path))
        # A package that is named only to reach a module in it is not itself imported for its own contents.
        reached = {item.rpartition(".")[0] for item in names if item in paths}
        graph[name] = {item for item in names if item in paths and item != name and item not in reached}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_packages_import_downwards() -> None:
    """`ORDER` lists the packages of `trackshade` from the lowest to the highest."""
    upward = [
        f"{module_name(path)} imports {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in sorted(set(imports(path)))
        if level(name) > level(module_name(path)) >= 0
    ]
    assert not upward, "\n" + "\n".join(upward)


def level(name: str) -> int:
    """Return the position of a module's package in `ORDER`; -1 for modules that are in none."""
    parts = name.split(".")
    return ORDER.index(parts[1]) if parts[0] == "trackshade" and len(parts) > 1 and parts[1] in ORDER else -1
