# SPDX-License-Identifier: GPL-3.0-or-later
"""Training, evaluation and generated scenes stand apart: the product runs without them, and says how to get them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_LAB = """
import sys
sys.modules["trackshade_lab"] = None
sys.argv = ["trackshade", *sys.argv[1:]]
from trackshade.cli import main
sys.exit(main())
"""


def test_the_product_refers_to_the_lab_in_one_place() -> None:
    folders = (ROOT / "backend" / "trackshade", ROOT / "addon" / "trackshade_addon")
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in folder.rglob("*.py")
        if "trackshade_lab" in path.read_text(encoding="utf-8")
    }
    documented = {"addon/trackshade_addon/synthetic/build.py"}  # says in its docstring who writes its files
    assert found - documented == {"backend/trackshade/cli/app.py"}


@pytest.mark.parametrize("arguments", [["train"], ["train", "data", "x"], ["evaluate"], ["dataset", "x", "y.shot"]])
def test_an_installation_without_the_lab_says_how_to_get_it(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LAB, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not part of this installation. Install Trackshade from its source folder" in done.stderr


def test_the_lab_does_not_import_blender() -> None:
    for path in (ROOT / "backend" / "trackshade_lab").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert not [
            line for line in lines if line.strip().startswith(("import bpy", "from bpy", "from trackshade_addon"))
        ]
