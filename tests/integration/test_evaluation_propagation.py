# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole of an evaluation of propagation: a scene is rendered by Blender, and all arms are measured on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trackshade_lab.evaluation.propagation.__main__ import main
from trackshade_lab.evaluation.propagation.arms import ARMS

pytest.importorskip("bpy")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert main(arguments(folder)) == 0
    return folder


def arguments(folder: Path, *more: str) -> list[str]:
    return ["--out", str(folder), "--kind", "orbit", "--size", "96x64", "--every", "16", "--samples", "2",
            "--threads", "1", *more]  # fmt: skip


@pytest.mark.long
def test_every_arm_is_measured(out: Path):
    report = json.loads((out / "report.json").read_text())
    (scene,) = report["scenes"]
    assert scene["name"] == "orbit-0"
    assert 0.02 < scene["unseen"] < 0.6
    assert set(scene["arms"]) == set(ARMS)
    figures = {arm: values["psnr"] for arm, values in scene["arms"].items()}
    assert figures["full"] > figures["push-pull"] > figures["still"]
    text = (out / "report.md").read_text()
    for arm in ARMS.values():
        assert f"| {arm.title} |" in text
    assert (out / "sheets" / "orbit-0.png").is_file()
    assert {path.stem for path in (out / "strips" / "orbit-0").iterdir()} == set(ARMS)


@pytest.mark.long
def test_nothing_is_rendered_or_measured_again(out: Path, capsys: pytest.CaptureFixture[str]):
    pictures = sorted((out / "data" / "orbit-0").rglob("*.*"))
    before = [path.stat().st_mtime_ns for path in pictures]
    assert main(arguments(out, "--blender", "/nowhere", "--json")) == 0
    captured = capsys.readouterr()
    assert "scene 1" not in captured.err
    assert {row["id"] for row in json.loads(captured.out)["arms"]} == set(ARMS)
    assert [path.stat().st_mtime_ns for path in pictures] == before


def test_a_folder_of_a_scene_is_measured(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = str(out / "data" / "orbit-0")
    assert main(["--out", str(tmp_path), "--scene", folder, "--arms", "still,flat", "--json"]) == 0
    assert [row["id"] for row in json.loads(capsys.readouterr().out)["arms"]] == ["still", "flat"]


@pytest.mark.parametrize(("options", "message"), [
    (["--arms", "best"], "no arm 'best'"),
    (["--every", "0"], "--every is 0"),
    (["--kind", "spiral"], "invalid choice"),
])  # fmt: skip
def test_wrong_usage(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--out", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_scene_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--out", str(tmp_path), "--scene", str(tmp_path / "none.blend")]) == 3
    assert "does not exist" in capsys.readouterr().err


def test_the_command_line_passes_arguments_on():
    command = [sys.executable, "-m", "trackshade.cli", "evaluate", "propagation", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "trackshade evaluate propagation --out REPORT" in done.stdout
