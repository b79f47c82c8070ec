# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide keeps its word: its messages are those of the software, its links lead somewhere, its commands are taken,
and its Python runs."""

from __future__ import annotations

import ast
import functools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trackshade.cli.app import COMMANDS, PASSED_ON
from trackshade.config import options, parsing, registry
from trackshade.shot import CameraTrack, Geometry, MeshTrack, Shot

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "addon" / "guide"
sys.path.insert(0, str(ROOT / "addon" / "tools"))  # the guide's script is in no package

import guide_messages  # noqa: E402

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "addon/README.md", "backend/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(GUIDE.glob("*.md")),
    *sorted((ROOT / "backend" / "trackshade").rglob("README.md")),
]
said_now = functools.cache(guide_messages.messages)  # by the whole code
RENEW = "Run: python addon/tools/guide_messages.py (an entry's heading and advice are written by hand)"


def blocks(page: Path, language: str) -> Iterator[str]:
    """The page's blocks of code in a language."""
    yield from re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands() -> Iterator[str]:
    """Every line of the guide that runs Trackshade, continued lines joined and comments taken off."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                parts = re.split(r"&&|\|\||;|\||>", line.partition("  #")[0])
                yield from (part for part in parts if re.search(r"\btrackshade [a-z]", part))


# The troubleshooting page


@pytest.mark.slow
def test_every_error_has_an_entry_and_every_entry_an_error() -> None:
    said = said_now()
    page = guide_messages.PAGE.read_text(encoding="utf-8")
    there = guide_messages.entries(page)
    assert len(there) > 100
    assert said.keys() - there.keys() == set(), RENEW
    assert there.keys() - said.keys() == set(), RENEW
    assert [code for code, advice in there.items() if not advice] == []


@pytest.mark.slow
def test_the_page_quotes_the_messages_of_now() -> None:
    page = guide_messages.PAGE.read_text(encoding="utf-8")
    assert guide_messages.renew_quotations(page, said_now()) == page, RENEW


def test_messages_are_read_off_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text(
        """
class OddError(TrackshadeError): pass
def one(code, what): raise OddError(code, f"It is {what}.")
def two(): one("first", 1); raise TrackshadeError("second", "Two" if two else "", "Mend it.")
def three(): raise OddError("third" if three else "fourth", f"{'x'} has "
    f"failed: {3}"[:9]); CancelledError(); Other("fifth", "No.")
""",
        encoding="utf-8",
    )
    (tmp_path / "b.py").write_text("class CancelledError(TrackshadeError): pass\n", encoding="utf-8")
    monkeypatch.setattr(guide_messages, "SOURCES", (tmp_path,))
    assert guide_messages.messages() == {
        "first": {"It is …."},
        "second": {"…"},
        "third": {"… has failed: …"},
        "fourth": {"… has failed: …"},
        "cancelled": {"Canceled."},
    }
    page = "# Page\n\n### first\n\n> Old.\n\nAdvice.\n\n### second\nMore.\n## End\n"
    assert guide_messages.renew_quotations(page, guide_messages.messages()) == (
        "# Page\n\n### first\n\n> It is ….\n\nAdvice.\n\n### second\n\nMore.\n## End\n"
    )
    assert guide_messages.entries(page) == {"first": "Advice.", "second": "More."}


# The panel's page


def findings() -> Iterator[str]:
    """What the panel's checks say, with … for what varies; those that are a sentence of somebody else's not."""
    path = ROOT / "addon" / "trackshade_addon" / "checks" / "findings.py"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        texts: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            texts = [node.args[2]]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "text":
            texts = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
        for part in texts:
            if isinstance(part, ast.Constant) and not re.fullmatch(r"\{\w+\}", str(part.value)):
                yield re.sub(r"\{\w+(:[^}]*)?\}", guide_messages.VARIES, str(part.value))


def test_the_panel_s_checks_are_on_its_page() -> None:
    page = (GUIDE / "panel.md").read_text(encoding="utf-8")
    found = list(findings())
    assert len(found) > 15
    assert [text for text in found if text not in page] == []


# Links and commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{page.name} links to {target}"


def test_commands_are_those_that_there_are() -> None:
    seen = set()
    for command in commands():
        words = shlex.split(command)
        words = [word for word in words[words.index("trackshade") + 1 :] if word != "&"]
        seen.add(words[0])
        if words[0] in PASSED_ON:
            continue
        count = 2 if " ".join(words[:2]) in COMMANDS else 1
        in_blender = "--command" in command  # where the scene is the open file
        taken = options.COMMANDS[words[0]][1] if in_blender else COMMANDS[" ".join(words[:count])].options
        parsing.parser_of("trackshade", "", taken).parse_intermixed_args(words[count:])  # raises UsageError
    assert {"render", "export", "shade", "serve", "models", "doctor"} <= seen


def test_commands_in_sentences_are_those_that_there_are() -> None:
    """A sentence may leave out what a command needs, but names no command and no option that there is not."""
    known, count = {*COMMANDS, *(command.split()[0] for command in COMMANDS), *PASSED_ON}, 0
    for page in PAGES:
        for command in re.findall(r"`trackshade ([a-z][^`]*)`", page.read_text(encoding="utf-8")):
            count += 1
            words = command.split()
            name = next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), words[0])
            assert name in known, f"{page.name} names {command}"
            if name in COMMANDS:
                flags = {option.name for option in COMMANDS[name].options}
                named = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
                assert named <= flags | {"--help"}, f"{page.name} names {command}"
    assert count > 50


# The cookbook's Python


def wave(frames: int, size: tuple[int, int], fps: float) -> Shot:
    """A square that turns before a camera three metres away."""
    corners = np.array([[[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]], np.float32)
    angles = np.linspace(0, 0.5, frames)
    turning = np.tile(np.eye(4), (frames, 1, 1))
    turning[:, 0, 0] = turning[:, 1, 1] = np.cos(angles)
    turning[:, 0, 1], turning[:, 1, 0] = -np.sin(angles), np.sin(angles)
    away = np.tile(np.eye(4), (frames, 1, 1))
    away[:, 2, 3] = 3.0
    width, height = size
    lens = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    return Shot(
        frame_numbers=np.arange(1.0, frames + 1),
        fps=fps,
        size=size,
        camera=CameraTrack(
            name="Camera",
            sources=("Camera",) * frames,
            intrinsics=np.tile(lens, (frames, 1, 1)),
            world_to_camera=away,
            orthographic=np.zeros(frames, bool),
            clip=np.tile([0.1, 100.0], (frames, 1)),
        ),
        geometries=(Geometry(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32)),),
        meshes=(MeshTrack("Square", 0, turning, np.ones(frames, bool)),),
    )


@pytest.mark.slow
@pytest.mark.long
def test_the_cookbook_runs(tmp_path: Path) -> None:
    spec = registry.spec("mini")
    wave(spec.allowed_frame_counts[0], spec.sizes[0], spec.fps).save(tmp_path / "street.shot")
    examples = list(blocks(GUIDE / "cookbook.md", "python"))
    assert len(examples) >= 4
    environment = {**os.environ, "TRACKSHADE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT / "backend")}
    environment.pop("TRACKSHADE_PYTHON", None)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(examples)], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "street-shaded" / "job.json").exists()
    assert len(list(tmp_path.glob("street-seed-*/video.mp4"))) == 3
    assert "The color of a surface point varies by" in done.stdout
