# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide's tables of what is captured state what happens when it is tried.

    python -m tests.blender.test_guide_support      writes the tables into the guide

Each row is one case of `support_cases`: its scene is captured and compared with Blender's own render.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blender.test_first_frame_given import FILES
from tests.helpers import support_cases as cases
from tests.helpers.backend_python import backend_python
from tests.helpers.stage import EEVEE

PAGE = Path(__file__).resolve().parents[2] / "addon" / "guide" / "what-is-captured.md"
TABLES = {
    "Modifiers": {kind.replace("_", " ").title(): build for kind, build in cases.MODIFIERS.items()},
    "Simulations": cases.SIMULATIONS,
    "Objects": cases.OBJECTS,
    "Materials in Cycles": cases.MATERIALS,
    "Materials in EEVEE": {name: cases.MATERIALS[name] for name in cases.IN_EEVEE},
    "Scene files": cases.SCENE_FILES,
    "Pictures": cases.PICTURES,
}
ROWS = [(table, name) for table, found in TABLES.items() for name in found]
ALIKE = 0.97  # of the two silhouettes' union; the rest is pixels whose center lies on an edge
CARRIED = re.compile(r"The topology of \S+ changes at frame .*? nearest surface point\.")
RENEW = f"Renew the page: python -m tests.blender.{Path(__file__).stem}"

# What takes seconds, mostly to load a part of Blender, and is captured in other tests as well.
LONG = {
    ("Modifiers", "Subsurf"), ("Simulations", "Hair particles with dynamics"),
    ("Objects", "Grease pencil"),
}  # fmt: skip


def is_long(table: str, name: str) -> bool:
    return table == "Materials in EEVEE" or (table, name) in LONG


def outcome(table: str, name: str, folder: Path) -> str:
    """The text of a row: what happens when it is tried. `folder` may be written to, and has the pictures."""
    if table == "Scene files":
        return cases.opened(cases.SCENE_FILES[name], Path(tempfile.mkdtemp(dir=folder)))
    if table == "Pictures":
        return cases.taken(cases.PICTURES[name], folder)
    if table.startswith("Materials"):
        return material(name, "CYCLES" if table.endswith("Cycles") else EEVEE)
    emits = name in ("Explode", "Particle Instance") or "Particles" in name
    found = cases.compare(TABLES[table][name], cases.AFTER_START if emits else cases.FRAMES)
    assert found.moves or table != "Simulations", f"the render of {name} does not change"
    return text(name, found)


def text(name: str, found: cases.Comparison) -> str:
    """What a comparison says.

    Raises:
        AssertionError: the tracks differ from the render, and no warning says so.
    """
    if found.refused:
        return f"refused (`{found.refused}`)"
    carried = [sentence for sentence in found.warnings if CARRIED.fullmatch(sentence)]
    said = " ".join(sentence for sentence in found.warnings if sentence not in carried)
    if said:
        return f"warned: {said}"
    assert found.overlap >= ALIKE, f"{name}: the tracks cover {found.overlap:.2f} of the render, and nothing says so"
    return "captured; where its surface moves, colors are carried to the nearest point" if carried else "captured"


def material(name: str, engine: str) -> str:
    found = cases.compare_through(cases.MATERIALS[name], engine)
    if name in cases.GLASS:
        through = cases.compare_through(cases.MATERIALS[name], engine, glass="through")
        assert found.seen == 0 < through.seen
        return "the surface is captured; with *Glass* set to *See Through*, what is behind it"
    shown = text(name, found)
    return shown.replace("captured", "what is behind it is captured" if found.moves else "the surface is captured")


def stated(page: str) -> Iterator[tuple[str, str, str]]:
    """(table, name, text) of every row of the page's tables."""
    table = ""
    for line in page.splitlines():
        if found := re.fullmatch(r"\| (.+?) \| (?:(.*?) )?\|", line):
            if found[1] in TABLES:
                table = found[1]
            elif table:
                yield table, found[1], found[2] or ""
        elif not line.startswith("|"):
            table = ""


def make_pictures(folder: Path) -> None:
    """Writes the pictures of `picture_files`, for which it takes the backend's libraries."""
    subprocess.run([backend_python(), str(FILES), str(folder)], check=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    make_pictures(made)
    return made


@pytest.mark.parametrize(
    ("table", "name"),
    [pytest.param(*row, id=": ".join(row), marks=[pytest.mark.long] if is_long(*row) else []) for row in ROWS],
)
def test_the_guide_states_what_happens(folder: Path, table: str, name: str) -> None:
    rows = {(a, b): text for a, b, text in stated(PAGE.read_text(encoding="utf-8"))}
    assert rows.get((table, name)) == outcome(table, name, folder), RENEW


def test_the_guide_lists_every_case_and_no_other() -> None:
    assert [(a, b) for a, b, _ in stated(PAGE.read_text(encoding="utf-8"))] == ROWS, RENEW


def test_every_modifier_has_a_case_or_a_reason_for_none() -> None:
    kinds = {item.identifier for item in cases.bpy.types.Modifier.bl_rna.properties["type"].enum_items}
    of_meshes = {kind for kind in kinds if not kind.startswith("GREASE_PENCIL")}
    assert of_meshes - cases.MODIFIERS.keys() - cases.WITHOUT_CASE == set()


def main() -> None:
    """Writes the tables into the page, in the place of those that are there."""
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        make_pictures(Path(name))
        for table, found in TABLES.items():
            rows = [f"| {row} | {outcome(table, row, Path(name))} |" for row in found]
            made = "\n".join([f"| {table} | |", "|---|---|", *rows])
            page = re.sub(rf"^\| {table} \|.*?(?=\n\n|\Z)", lambda _, made=made: made, page, flags=re.M | re.S)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # the bpy module's own exit handlers can wait for ever
