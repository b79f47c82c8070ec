# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line as processes: what people type, what they read, and what is left when it ends."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.helpers.picture_files import written
from tests.helpers.shots import small_shot
from tests.helpers.small_demo import write_small_demo
from trackshade.cli.shade import add_pictures
from trackshade.client import PrivateBackend, start_private
from trackshade.config import options
from trackshade.ipc import json_lines
from trackshade.shot import Shot

pytest.importorskip("bpy", reason="the command line runs Blender")
COMMANDS = ("render", "control", "batch", "bake", "export", "place", "shade", "key", "demo", "farm openjd", "jobs",
            "fetch", "cancel", "doctor", "serve", "models", "train", "dataset", "evaluate", "version", "reenact",
            "motion", "animate")  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder that nobody else uses."""
    folder = tmp_path_factory.mktemp("home")
    before = os.environ.get("TRACKSHADE_HOME")
    os.environ["TRACKSHADE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["TRACKSHADE_HOME"]
    else:
        os.environ["TRACKSHADE_HOME"] = before


@pytest.fixture(scope="module")
def backend(home: Path) -> Iterator[PrivateBackend]:
    with start_private(store=home / "store") as backend:
        yield backend


@pytest.fixture(scope="module")
def demo(home: Path) -> Path:
    return write_small_demo(home / "demo.blend")


def run(*arguments: str | Path, folder: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trackshade.cli", *map(str, arguments)],
        capture_output=True, text=True, cwd=folder, env={**os.environ, **more}, check=False,
    )  # fmt: skip


def test_help_names_every_command_and_is_quick_to_import() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    heavy = "import sys, trackshade.cli.app; print({'torch', 'bpy', 'diffusers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize("command", ["render", "control", "export", "place", "shade", "key"])
def test_a_command_has_the_options_of_the_table(command: str) -> None:
    done = run(command, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert all(option.name in done.stdout for option in options.COMMANDS[command][1] if not option.is_positional)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("paint",), 2, "paint"),
        (("render",), 2, "SCENE"),
        (("render", "a.blend", "--seed", "x"), 2, "seed"),
        (("render", "a.blend", "--frame-rule", "guess"), 2, "frame-rule"),
        (("render", "a.blend", "--steps", "0"), 2, "steps"),
        (("render", "nowhere.blend"), 3, "nowhere.blend"),
        (("render", "a.blend", "--blender", "/nowhere/blender"), 2, "not a Blender"),
        (("shade", "nowhere.shot"), 3, "no file nowhere.shot"),
        (("key", "nowhere.shot", "--frame", "3"), 3, "no file nowhere.shot"),
        (("models", "fetch", "nope"), 3, "no model named 'nope'"),
        (("models", "fetch", "das-cogvideox-5b"), 2, "license"),
        (("export", "a.blend", "--points", "5"), 2, "--points does not go with --format shot"),
        (("export", "a.shot", "--format", "npz", "--camera", "B"), 2, "--camera does not go with a.shot"),
        (("jobs", "--endpoint", "nonsense"), 2, "nonsense"),
        (("motion", "a.mp4", "--fps", "0"), 2, "frame rate is 0"),
        (("cancel", "0123456789abcdef"), 4, "0123456789abcdef"),
    ],
)
def test_what_goes_wrong_is_a_sentence_and_a_code(arguments, code: int, words: str, tmp_path: Path) -> None:
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def blender_like(path: Path, version: str) -> Path:
    """A program that says it is a Blender, and is none."""
    path.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'Blender {version}'\necho some words >&2\nexit 11\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_an_old_blender_is_refused_and_a_crashed_one_is_told(tmp_path: Path) -> None:
    old = run("render", "a.blend", "--blender", blender_like(tmp_path / "old", "3.6.0"))
    assert old.returncode == 2
    assert "4.2 is needed" in old.stderr
    crashed = run("render", "a.blend", "--blender", blender_like(tmp_path / "new", "4.5.0"), "--json")
    assert crashed.returncode == 4
    assert "ended before it was done (code 11)" in crashed.stderr
    assert "some words" in crashed.stderr
    assert json.loads(crashed.stdout)["error"]["code"] == "blender-ended"


def test_a_blender_on_the_path_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    blender_like(tmp_path / "blender", "3.6.0")
    done = run("render", "nowhere.blend", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 3
    assert "nowhere.blend" in done.stderr


def test_a_blender_without_the_extension_is_passed_over_unless_it_was_named(tmp_path: Path) -> None:
    words = json_lines.format_line({"event": "unusable", "reason": "it has not the extension."})
    blender = blender_like(tmp_path / "blender", "5.1.0")
    blender.write_text(blender.read_text().replace("echo some words >&2", f"echo '{words}'"))
    done = run("render", "nowhere.blend", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "nowhere.blend" in done.stderr  # the bpy module looked for it
    done = run("render", "nowhere.blend", "--blender", blender)
    assert done.returncode == 3
    assert f"{blender}: it has not the extension." in done.stderr


def test_models_and_doctor_tell_what_there_is() -> None:
    models = json.loads(run("models", "--json").stdout)
    assert [item["name"] for item in models if item["present"]] == ["mini"]
    assert "mini" in run("models").stdout
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["packages"]["torch"]
    assert facts["blender"]["module"]
    assert facts["folders"]["home"].startswith(os.environ["TRACKSHADE_HOME"])
    assert "writable" in run("doctor").stdout


def test_a_home_below_a_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "file" / "home"))
    found = json.loads(run("doctor", "--json").stdout)
    assert any(f"{tmp_path / 'file'} is not a folder" in value for value in found["problems"].values())
    assert found["backend"]["served"] == "no"


@pytest.mark.parametrize("name", ["TRACKSHADE_HOME", "TRACKSHADE_MODELS"])
def test_the_home_of_an_unknown_user_is_a_sentence(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "~nobody-of-that-name/trackshade")
    done = run("models")
    assert done.returncode != 0
    assert "~nobody-of-that-name" in done.stderr
    assert "Traceback" not in done.stderr


def test_jobs_of_a_store_that_nobody_serves() -> None:
    assert run("jobs").stdout == "No jobs.\n"
    assert json.loads(run("jobs", "--json").stdout) == []


def test_export_and_shade_are_the_two_halves(demo: Path, backend: PrivateBackend, tmp_path: Path) -> None:
    done = run("export", demo, "--frames", "1-3:1", "-o", tmp_path / "toys.shot", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == {
        "shot": str(tmp_path / "toys.shot"), "first_frame": str(tmp_path / "toys.png")
    }  # fmt: skip
    address = ("--endpoint", backend.info.endpoint)
    options_given = ("--steps", "1", *address)
    done = run("shade", tmp_path / "toys.shot", *options_given, "--json", folder=tmp_path,
               TRACKSHADE_TOKEN=backend.info.token)  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["out"] == str(tmp_path / "toys-shaded")
    record = json.loads(Path(made["files"]["record"]).read_text())
    assert record["first_frame"] is not None
    assert record["shot"]["frames"] == Shot.load(tmp_path / "toys.shot").frame_numbers.tolist()
    jobs = run("jobs", "--endpoint", backend.info.endpoint, TRACKSHADE_TOKEN=backend.info.token)
    assert made["job"] in jobs.stdout
    assert "done" in jobs.stdout
    again = run("fetch", made["job"], "-o", tmp_path / "again", *address, TRACKSHADE_TOKEN=backend.info.token)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again/job.json").read_bytes() == Path(made["files"]["record"]).read_bytes()
    done = run("key", tmp_path / "toys.shot", "--frame", "2", "--frame", "3", "--key", f"3={tmp_path / 'toys.png'}",
               "--out", tmp_path / "painted", *address, "--json", folder=tmp_path,
               TRACKSHADE_TOKEN=backend.info.token)  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    folder = Path(made["files"]["keys"])
    names = sorted(f"{frame}{kind}.png" for frame in (2, 3) for kind in ("", "-depth", "-unseen"))
    assert sorted(path.name for path in folder.iterdir()) == names
    record = json.loads(Path(made["files"]["record"]).read_text())
    assert record["keys"][0]["unseen_share"] > 0
    assert (folder / "3.png").stat().st_size > 0
    done = run("key", tmp_path / "toys.shot", *address, TRACKSHADE_TOKEN=backend.info.token)
    assert (done.returncode, "No frame was given" in done.stderr) == (2, True)


@pytest.mark.long
def test_a_scene_and_a_shot_are_exported_for_other_systems(demo: Path, tmp_path: Path) -> None:
    done = run("export", demo, "--frames", "1-5:1", "--format", "npz", "--points", "30", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["files"] == {"npz": str(tmp_path / "demo-npz.npz")}
    assert "exporting, 5 of 5" in done.stderr
    with np.load(tmp_path / "demo-npz.npz", allow_pickle=False) as data:
        assert data["tracks"].shape == (5, 30, 2)
    assert list(tmp_path.iterdir()) == [tmp_path / "demo-npz.npz"]
    small_shot(5).save(tmp_path / "small.shot")
    done = run("export", tmp_path / "small.shot", "--format", "mp4", "--out", tmp_path / "passes")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "passes" / "depth.mp4") in done.stdout
    done = run("export", tmp_path / "small.shot", "--format", "mp4", "--out", tmp_path / "passes")
    assert (done.returncode, "exists and was kept" in done.stderr) == (3, True)


@pytest.mark.long
def test_light_is_shown_by_blender_as_the_scene_shows_it(demo: Path, tmp_path: Path) -> None:
    """The same picture by the export in Blender and by the half that is shaded without."""
    light = (np.random.default_rng(0).random((90, 160, 3)) ** 3 * 5).astype(np.float32)
    picture, shot = tmp_path / "light.exr", tmp_path / "toys.shot"
    picture.write_bytes(written(light, ".exr"))
    done = run("export", demo, "--first-frame", picture, "-o", shot, "--json")
    assert done.returncode == 0, done.stderr
    assert "another shape" in json.loads(done.stdout)["warnings"][0]
    with Image.open(shot.with_suffix(".png")) as image:
        wanted = np.asarray(image)
    told: list[str] = []
    values = {"first_frame": str(picture), "key": None}
    captured = add_pictures(Shot.load(shot), None, "any", values, lambda line: told.append(line["state"]))
    made = captured.shot
    assert captured.first_frame is not None
    np.testing.assert_array_equal(captured.first_frame, wanted)
    assert told[0] == "reading"
    assert "another shape" in made.source["first_frame"]["statement"]
    assert made.warnings[-1] == made.source["first_frame"]["statement"]


def started(*arguments: str | Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trackshade.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **more},
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stderr is not None
    text = ""
    for line in process.stderr:
        text += line
        if line.startswith(word):
            return text
    pytest.fail(f"it ended before it was {word}: {text}")


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for_the_end(processes: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=60)[1]


@pytest.mark.parametrize("word", ["starting", "loading"])
def test_ctrl_c_ends_everything(word: str, demo: Path, tmp_path: Path) -> None:
    process = started(
        "render", demo, "--first-frame", "none", "--light", "none", "--steps", "500", "-o", tmp_path / "out"
    )
    read_until(process, word)
    children = family(process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 130, errors
    assert errors.strip().splitlines()[-1] == "trackshade: Canceled."
    assert wait_for_the_end(children) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_killing_the_command_leaves_no_process(demo: Path, tmp_path: Path) -> None:
    process = started(
        "render", demo, "--first-frame", "none", "--light", "none", "--steps", "500", "-o", tmp_path / "out"
    )
    read_until(process, "loading")
    children = family(process)
    assert len(children) >= 2  # Blender and the backend
    process.kill()
    process.communicate()
    assert wait_for_the_end(children) == []
    assert list(tmp_path.iterdir()) == []


def test_serve_is_found_by_itself_and_ends_on_ctrl_c(home: Path) -> None:
    process = started("serve", "--store", home / "served")
    read_until(process, "Serving at")
    jobs = run("jobs", "--json")
    assert json.loads(jobs.stdout) == []
    assert "served: ipc://" in run("doctor").stdout or "served: tcp://" in run("doctor").stdout
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (0, 130)
    deadline = time.monotonic() + 10
    while (home / "backend.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (home / "backend.json").exists()
