# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of farms as farms run them: a template of Open Job Description by openjd-cli, and commands with their lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.backends import Backend
from tests.helpers.small_demo import write_small_demo
from trackshade.shot import Shot
from trackshade.shot.range_parts import find_parts, join_parts, read_light

pytest.importorskip("bpy", reason="scenes are captured by Blender")
OPENJD = [sys.executable, "-m", "openjd"]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scene, as all machines of a farm see it."""
    folder = tmp_path_factory.mktemp("studio")
    (folder / "project").mkdir()
    write_small_demo(folder / "project" / "toys.blend")
    return folder


def run(folder: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "TRACKSHADE_HOME": str(folder / "home"), **more}
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=folder, env=variables, check=False)


def trackshade(folder: Path, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, "-m", "trackshade.cli", *words, **more)


def output(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What the tasks of a run have printed, without the times before it."""
    return [line.partition("\t")[2] for line in done.stdout.splitlines()]


@pytest.mark.long
@pytest.mark.slow
def test_a_template_runs_from_the_scene_to_the_placed_result(studio: Path) -> None:
    """In parts, with mapped paths; a second run has nothing to do, and a part that was lost is made again."""
    made = trackshade(
        studio,
        "farm",
        "openjd",
        "project/toys.blend",
        "--frames",
        "1-3",
        "--chunk",
        "2",
        "--seeds",
        "3",
        "-o",
        "job.yaml",
    )
    assert made.returncode == 0, made.stderr
    checked = run(studio, *OPENJD, "check", "job.yaml")
    assert checked.returncode == 0, checked.stdout
    program = studio / "trackshade"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m trackshade.cli "$@"\n')
    program.chmod(0o755)
    rules = [
        {"source_path_format": "POSIX", "source_path": f"/elsewhere/{name}", "destination_path": str(studio / name)}
        for name in ("project", "results")
    ]
    job: list[str | Path] = [*OPENJD, "run", "job.yaml", "--step", "Place toys", "--run-dependencies"]
    job += ["--path-mapping-rules", json.dumps({"version": "pathmapping-1.0", "path_mapping_rules": rules})]
    for name, value in (("Project", "/elsewhere/project"), ("Results", "/elsewhere/results"), ("Trackshade", program)):
        job += ["-p", f"{name}={value}"]
    done = run(studio, *job)
    assert done.returncode == 0, done.stdout[-3000:]
    lines = output(done)
    assert lines.count("openjd_progress: 100") == 4  # two captures, the shading, the placing
    assert any(line.startswith("openjd_status: capturing, 2 of 2") for line in lines)
    result = studio / "results" / "toys" / "seed-3"
    assert [line for line in lines if line.startswith("Saved: ")][-3:] == [
        f"Saved: '{result / 'frames' / f'{number:04d}.png'}'" for number in range(1, 4)
    ]
    record = json.loads((result / "job.json").read_text())
    assert record["seed"] == 3
    assert (result / "scene.blend").is_file()
    whole = trackshade(
        studio, "export", "project/toys.blend", "--frames", "1-3:1", "--light", "clay", "-o", "whole.shot"
    )
    assert whole.returncode == 0, whole.stderr
    parts = find_parts(studio / "results" / "toys" / "tracks-1-3-2")
    assert [path.name for path in parts] == ["1.shot", "3.shot"]
    joined, expected_shot = join_parts(parts).encode(), Shot.load(studio / "whole.shot").encode()
    assert {**joined[0], "source": None} == {**expected_shot[0], "source": None}
    for array, expected in zip(
        joined[1], expected_shot[1], strict=True
    ):  # a modifier's texture coordinates vary by rounding
        np.testing.assert_allclose(array, expected, atol=1e-6 if array.shape[-1:] == (2,) else 0)
    light = read_light(parts)
    assert light is not None
    np.testing.assert_allclose(light, np.load(studio / "whole.light.npy"), atol=1e-3)
    assert (parts[0].with_suffix(".png")).read_bytes() == (studio / "whole.png").read_bytes()

    written = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    done = run(studio, *job)
    assert done.returncode == 0, done.stdout[-3000:]
    assert sum(line.startswith("finished before") for line in output(done)) == 1  # the part that was still there
    assert parts[0].stat().st_mtime_ns == written
    done = run(studio, *job)
    assert sum(line.startswith("finished before") for line in output(done)) == 4


def test_a_task_that_fails_says_so_in_the_farm_s_form(studio: Path, backend: Backend) -> None:
    access: dict[str, Any] = {"TRACKSHADE_TOKEN": backend.info.token}
    address = ("--endpoint", backend.info.endpoint)
    exported = trackshade(
        studio, "export", "project/toys.blend", "--frames", "1-2", "-o", "two.shot", "--progress", "opencue"
    )
    assert exported.returncode == 0, exported.stderr
    lines = exported.stdout.splitlines()
    assert lines[0] == "alf_progress 0%"
    assert "alf_progress 100%" in lines
    assert f"Saved: '{studio / 'two.png'}'" in lines
    failing = ("shade", "two.shot", "--out", "none", "--light", "render", "--progress", "openjd", *address)
    done = trackshade(studio, *failing, **access)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1].startswith("openjd_fail: The light is to be that of the input render")
    assert not (studio / "none").exists()
    done = trackshade(studio, "shade", "two.shot", "--skip-finished", *address, **access)
    assert (done.returncode, "--skip-finished needs the name" in done.stderr) == (2, True)


def test_blender_itself_prints_the_lines_of_a_farm(studio: Path) -> None:
    """As `blender -b FILE --command trackshade` does, without the command line in between."""
    words = ("export", "project/toys.blend", "--frames", "1-2", "--progress", "flamenco", "--out", "own.shot")
    done = run(studio, sys.executable, "-m", "trackshade_addon", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"Saved: '{studio / 'own.png'}'"
