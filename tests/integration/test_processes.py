# SPDX-License-Identifier: GPL-3.0-or-later
"""Interpreters are started without the current folder, programs are not looked for in it, and nothing starts one by
itself."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.backends import grid_shot
from tests.helpers.hostile import Hostile
from tests.helpers.trainings import SMALL
from trackshade.client import connect
from trackshade.client.backend_process import start_shared
from trackshade.config.settings import ShadeSettings
from trackshade.core import processes
from trackshade.core.processes import (
    absolute_program,
    blender,
    environment_python,
    find_program,
    isolated_python,
    this_python,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(sys.executable).with_name("trackshade")
LONG = 120.0  # seconds: only ever waited for in full by a test that fails
SHOW = "import json, os, sys; print(json.dumps([sys.path, sys.flags.safe_path, dict(os.environ)]))"
STARTING = ("os.system", "os.popen", "os.spawn", "os.exec", "os.startfile", "os.posix_spawn")
# What is in every module that may start one; only these are parsed.
MAY_START = re.compile(
    r"subprocess|multiprocessing|asyncio|\bpty\b|sys\.executable|binary_path|which\(|os\.(system|popen|spawn|exec|startfile|posix_spawn)|"
    r"[\"'](-[cIPm]|--python-expr)[\"']"
)
# Where each way to start a process is used, through `trackshade.core.processes`.
STARTERS = {
    "addon/tools/build_extension.py", "addon/tools/extension_wheels.py", "addon/trackshade_addon/backend/tasks.py",
    "addon/trackshade_addon/capture/first_frame.py", "backend/trackshade/cli/app.py",
    "backend/trackshade/cli/batch/run.py", "backend/trackshade/cli/blender.py",
    "backend/trackshade/client/backend_process.py", "backend/trackshade/core/file_systems.py",
    "backend/trackshade/driving/person_detector.py",
    "backend/trackshade/pipelines/parallel/ranks.py", "backend/trackshade/server/memory.py",
    "backend/trackshade/server/worker_pool.py", "backend/trackshade_lab/scenes/shards.py",
}  # fmt: skip


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    """The current folder, and what somebody set PYTHONPATH to after this process was started."""
    made = Hostile(tmp_path)
    monkeypatch.chdir(made.folder)
    monkeypatch.setenv("PYTHONPATH", str(made.folder))
    monkeypatch.setenv("PYTHONSTARTUP", str(made.folder / "json.py"))
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    return made


def shown(start: processes.ProcessCommand) -> tuple[list[str], bool, dict[str, str]]:
    """Search path, safe path and variables of a process; it is one that an interpreter runs."""
    done = subprocess.run(start.command, env=start.variables, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


# What a start is


@pytest.mark.parametrize("kind", ["own", "environment", "environment of this", "bare"])
def test_no_start_searches_the_current_folder(kind: str, hostile: Hostile, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", other], check=True)
    start = {
        "own": lambda: this_python("-c", SHOW),
        "environment": lambda: environment_python(other / "bin" / "python", "-c", SHOW),
        "environment of this": lambda: environment_python(sys.executable, "-c", SHOW),
        "bare": lambda: isolated_python(sys.executable, "-c", SHOW),
    }[kind]()
    path, safe, variables = shown(start)
    assert safe
    assert "" not in path
    assert str(hostile.folder) not in path
    assert "PYTHONSTARTUP" not in variables or kind == "own"
    assert variables["PYTHONSAFEPATH"] == "1"  # for what it starts itself
    assert hostile.imported() == []
    if kind in ("own", "environment of this"):  # it has the package that this process has
        start.command[-1] = "import trackshade; print(trackshade.__file__)"
        done = subprocess.run(start.command, env=start.variables, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(Path(processes.trackshade.__file__))


def test_what_is_planted_is_imported_without_care(hostile: Hostile) -> None:
    """The tests below would notice."""
    subprocess.run([sys.executable, "-c", "import torch"], env={**os.environ, "PYTHONPATH": ""}, check=True)
    assert "torch" in hostile.imported()


def test_packages_of_a_python_path_are_kept_for_this_process_s_own(tmp_path: Path) -> None:
    """As clusters and studios provide them."""
    (tmp_path / "provided.py").write_text("")
    code = """
import subprocess, sys
from trackshade.core.processes import this_python
start = this_python("-c", "import provided, trackshade; print(provided.__file__)")
sys.exit(subprocess.run(start.command, env=start.variables, cwd="/").returncode)
"""
    package = str(Path(processes.trackshade.__file__).parents[1])
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([package, str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "provided.py"), done.stderr


@pytest.mark.parametrize("flags", [["-I"], ["-E"], ["-s"], ["-E", "-s", "-P"]])
def test_isolation_is_passed_on(flags: list[str]) -> None:
    code = "from trackshade.core.processes import this_python; print(this_python('-m', 'x').command[1:])"
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True)
    passed = ast.literal_eval(done.stdout)
    assert set(flags) <= set(passed)
    assert passed[-2:] == ["-m", "x"]
    assert {"-P", "-I"} & set(passed)


def test_relative_folders_of_ours_mean_the_same_elsewhere(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", "home")
    for start in (this_python(), environment_python(sys.executable), blender(sys.executable)):
        assert start.variables["TRACKSHADE_HOME"] == str(hostile.folder / "home")


# Finding programs


def test_programs_are_not_looked_for_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        program = tmp_path / folder / "blender"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.chdir(tmp_path / "here")
    for path in (".", "", f".{os.pathsep}", f"{os.pathsep}relative", "../here"):
        monkeypatch.setenv("PATH", path)
        assert find_program("blender") is None, path
        with pytest.raises(FileNotFoundError):
            absolute_program("blender")
    monkeypatch.setenv("PATH", os.pathsep.join([".", "", str(tmp_path / "nowhere"), str(tmp_path / "there")]))
    assert find_program("blender") == absolute_program("blender") == str(tmp_path / "there" / "blender")
    assert absolute_program("./blender") == str(tmp_path / "here" / "blender")  # somebody named it
    (tmp_path / "there" / "blender").chmod(0o644)
    assert find_program("blender") is None
    assert find_program(shutil.__file__) is None


def test_the_python_of_a_virtual_environment_is_not_followed_to_its_base(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    assert absolute_program(tmp_path / "python") == str(tmp_path / "python")


# Everything that is started


def command(hostile: Hostile, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command as somebody types it who stands in the folder."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSTARTUP")}
    done = subprocess.run(
        [str(SCRIPT), *map(str, arguments)], env=variables, capture_output=True, text=True, cwd=hostile.folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert hostile.imported() == [], arguments
    return done


@pytest.fixture
def serving(hostile: Hostile, tmp_path: Path) -> Iterator[None]:
    """`trackshade serve`, started in the folder."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSTARTUP")}
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([SCRIPT, "serve", "--device", "cpu"], env=variables, stdout=log, stderr=log)
    try:
        limit = time.monotonic() + LONG
        while not (tmp_path / "home" / "backend.json").exists():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(LONG)


@pytest.mark.long
@pytest.mark.skipif(not SCRIPT.exists(), reason="the command is not installed")
@pytest.mark.usefixtures("serving")
def test_commands_import_nothing_from_the_current_folder(hostile: Hostile, tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    scene = tmp_path / "scene.blend"
    code = "import bpy, os; bpy.ops.mesh.primitive_monkey_add(); bpy.ops.wm.save_as_mainfile(filepath=os.environ['F'])"
    subprocess.run([sys.executable, "-I", "-c", code], env={**os.environ, "F": str(scene)}, check=True)
    command(hostile, "control", scene, "--out", tmp_path / "result")  # in Blender, and by the worker
    assert (tmp_path / "result" / "job.json").is_file()
    command(hostile, "doctor")


@pytest.mark.long
@pytest.mark.skipif(not SCRIPT.exists(), reason="the command is not installed")
def test_training_and_evaluation_import_nothing_from_the_current_folder(hostile: Hostile, tmp_path: Path) -> None:
    command(hostile, "train", "data", tmp_path / "data", "--count", 2, "--shard", 1, "--processes", 2, "--size", 32, 24,
            "--frames", 3)  # fmt: skip
    options = {"steps": 1, "batch": 2, "autoencoder_steps": 0, "average": 0.0, **SMALL}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    command(hostile, "train", "--out", tmp_path / "run", "--data", tmp_path / "data", *flags)
    command(hostile, "evaluate", "--help")


@pytest.mark.long
def test_shards_are_written_by_processes_that_import_nothing_from_it(hostile: Hostile, tmp_path: Path) -> None:
    """Whoever calls, and however: multiprocessing starts its own interpreters."""
    code = f"""
import sys
if __name__ == "__main__":
    sys.path.remove("")
    from trackshade_lab.scenes import generate_shards
    generate_shards({str(tmp_path / "data")!r}, 2, processes=2, shard=1, size=(16, 16), num_frames=2)
"""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSTARTUP")}
    subprocess.run([sys.executable, "-c", code], env=variables, check=True)
    assert hostile.imported() == []


def test_a_client_s_backend_imports_nothing_that_the_variables_name(hostile: Hostile, tmp_path: Path) -> None:
    """As the add-on starts it: Blender stands in the folder, and a studio has set PYTHONPATH for it."""
    shot = grid_shot(side=20, count=17, size=(144, 96))
    for private in (True, False):
        backend = None if private else start_shared(sys.executable, options=["--device", "cpu"])
        try:
            store = tmp_path / "store" if private else None
            with connect(python=sys.executable, options=["--device", "cpu"], store=store) as client:
                client.wait(client.submit(shot, ShadeSettings(output="tracking")))
        finally:
            if backend is not None:
                backend.close()
        assert hostile.imported() == []


# What the source says


def starts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and reason of each start of a process that goes past the functions for that."""
    within = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _name(node.func) in ("this_python", "environment_python", "isolated_python",
                                                              "blender", "start_blender", "_run")
        for part in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, (ast.List, ast.Tuple)) and node.elts and id(node) not in within:
            if _name(node.elts[0]) in ("sys.executable", "bpy.app.binary_path"):
                yield line, f"{_name(node.elts[0])} begins a command"
        elif isinstance(node, ast.Constant) and node.value in ("-c", "-I", "-P", "-m", "--python-expr"):
            if id(node) not in within:
                yield line, f"an interpreter's option {node.value}"
        elif isinstance(node, ast.Call) and _name(node.func) in ("shutil.which", "which"):
            yield line, "shutil.which looks in the current folder"
        elif isinstance(node, ast.Call) and _name(node.func).startswith(STARTING):
            yield line, f"{_name(node.func)} starts a program"
        elif isinstance(node, ast.Call) and _name(node.func).startswith("subprocess.") and node.args:
            described = _name(node.args[0]) != "command"  # which is no interpreter's, or begins as above
            if described and not any(keyword.arg == "env" for keyword in node.keywords):
                yield line, "a start without its variables"


def _name(node: ast.AST) -> str:
    """Return `a.b.c` of names and attributes, without what is called or indexed before."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def sources() -> list[Path]:
    return sorted([*(ROOT / "backend").rglob("*.py"), *(ROOT / "addon").rglob("*.py")])


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run([sys.executable, '-m', 'trackshade.server'], env=x)",
        "command = [python, '-m', 'x']",
        "command = (sys.executable, script)",
        "subprocess.Popen([tool, '-c', code])",
        "args = [bpy.app.binary_path, '-b']",
        "tool = shutil.which('blender')",
        "os.execv(sys.executable, x)",
        "subprocess.run(start.command)",
    ],
)
def test_a_start_of_one_s_own_is_noticed(source: str) -> None:
    assert list(starts(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "start = this_python('-m', 'x')\nsubprocess.run(start.command, env=start.variables)",
        "print(sys.executable)",
        "start = isolated_python(python, '-c', code)",
    ],
)
def test_a_proper_start_is_not(source: str) -> None:
    assert list(starts(ast.parse(source))) == []


def test_every_start_goes_through_the_functions_for_that() -> None:
    found, starters = [], set()
    for path in sources():
        if path.name == "processes.py":
            continue
        text = path.read_text(encoding="utf-8")
        if not MAY_START.search(text):
            continue
        tree = ast.parse(text)
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}:{line} {reason}" for line, reason in starts(tree)]
        imported = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import)
                    for alias in node.names}  # fmt: skip
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        if imported & {"subprocess", "multiprocessing", "asyncio", "pty"}:
            starters.add(name)
    assert found == []
    assert starters == STARTERS  # another module that starts processes belongs to the tests above, too


def test_the_makefile_starts_several_processes_without_the_current_folder() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    assert all("PYTHONSAFEPATH=1" in line for line in lines if "accelerate launch" in line)
