# SPDX-License-Identifier: GPL-3.0-or-later
"""Assembles the extension: the add-on, the manifest and the wheels it bundles; builds and validates it with
Blender's own tool.

    python addon/build_extension.py [FOLDER]        the zip goes to FOLDER, by default dist/
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.13", "3.14")  # of Blender 4.2 to 5.0, 5.1 and later, and Debian's 5.2
PACKAGES = ("pyzmq", "msgpack")  # numpy is Blender's own
PLATFORMS = {"linux-x64": ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_26_x86_64",
                           "manylinux_2_28_x86_64")}  # fmt: skip


def main(target: Path) -> Path:
    """Builds the zip in the folder `target`; its path."""
    with tempfile.TemporaryDirectory(prefix="trackshade-extension-") as folder:
        source = Path(folder) / "trackshade"
        ignored = shutil.ignore_patterns("__pycache__", "__main__.py", "bootstrap.py")
        shutil.copytree(ROOT / "addon" / "trackshade_addon", source, ignore=ignored)
        shutil.copy(ROOT / "LICENSE", source)
        wheels = source / "wheels"
        _pip("wheel", "--no-deps", "--wheel-dir", wheels, ROOT)
        for python in PYTHONS:
            for tags in PLATFORMS.values():
                platforms = [f"--platform={tag}" for tag in tags]
                _pip("download", "--no-deps", "--only-binary=:all:", f"--python-version={python}", *platforms,
                     "--dest", wheels, *PACKAGES)  # fmt: skip
        manifest = (ROOT / "blender_manifest.toml").read_text(encoding="utf-8")
        (source / "blender_manifest.toml").write_text(_with_wheels(manifest, wheels), encoding="utf-8")
        target.mkdir(parents=True, exist_ok=True)
        facts = tomllib.loads(manifest)
        made = target / f"{facts['id']}-{facts['version']}.zip"
        _blender("build", "--source-dir", source, "--output-filepath", made)
    _blender("validate", made)
    return made


def _with_wheels(manifest: str, wheels: Path) -> str:
    """The manifest with the wheels and platforms that are really there; they belong before its first table."""
    names = sorted(path.name for path in wheels.glob("*.whl"))
    lines = ["platforms = [" + ", ".join(f'"{name}"' for name in PLATFORMS) + "]"]
    lines += ["wheels = [", *(f'  "./wheels/{name}",' for name in names), "]", ""]
    head, table, rest = manifest.partition("\n[")
    return head + "\n" + "\n".join(lines) + table + rest


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *map(str, arguments)], check=True)


def _blender(*arguments: object) -> None:
    """Runs Blender's extension tool, which comes with its Python module."""
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        sys.exit("Blender's Python module is needed for its extension tool: pip install bpy")
    tool = next(Path(spec.origin).parent.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    subprocess.run([sys.executable, str(tool), *map(str, arguments)], check=True)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))
