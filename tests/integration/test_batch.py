# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade batch` as a process: rows that are done, fail, change and are interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.helpers.backends import Backend
from tests.helpers.shots import small_shot
from trackshade.core.images import write_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shots with their first frames."""
    for name, count in (("a", 3), ("b", 4)):
        shot = small_shot(count)
        shot.save(tmp_path / f"{name}.shot")
        width, height = shot.size
        write_png(tmp_path / f"{name}.png", np.full((height, width, 3), 90, np.uint8))
    return tmp_path


def command(backend: Backend, folder: Path, *more: str) -> tuple[list[str], dict[str, Any]]:
    words = [sys.executable, "-m", "trackshade.cli", "batch", "list.csv", "--endpoint", backend.info.endpoint, *more]
    variables = {**os.environ, "TRACKSHADE_TOKEN": backend.info.token, "TRACKSHADE_HOME": str(folder / "home")}
    return words, {"cwd": folder, "env": variables, "text": True}


def run(backend: Backend, folder: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    words, how = command(backend, folder, "--json", *more)
    done = subprocess.run(words, capture_output=True, check=False, **how)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_batch_goes_on_where_it_was(backend: Backend, folder: Path) -> None:
    (folder / "list.csv").write_text("scene,name,light\na.shot,one,none\nb.shot,two,render\n")
    code, result, errors = run(backend, folder, "--parallel", "2")
    assert code == 4, errors
    assert [(row["name"], row["state"]) for row in result["rows"]] == [("one", "done"), ("two", "failed")]
    assert result["error"]["code"] == "batch-failed"
    assert result["rows"][1]["error"]["code"] == "no-input-render"
    assert result["rows"][1]["error"]["message"] in result["error"]["message"]
    out = folder / "list-batch"
    assert len(list((out / "one" / "frames").iterdir())) == 3
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "./one/video.mp4" in page
    assert result["rows"][1]["error"]["message"] in page
    before = (out / "one" / "job.json").stat().st_mtime_ns
    (folder / "list.csv").write_text("scene,name,light,seed\na.shot,one,none,\nb.shot,two,none,\na.shot,,none,5\n")
    code, result, errors = run(backend, folder)
    assert code == 0, errors
    assert [(row["name"], row["state"]) for row in result["rows"]] == [("one", "done"), ("two", "done"), ("a", "done")]
    assert (out / "one" / "job.json").stat().st_mtime_ns == before
    assert "1 of 3 rows were done before" in errors
    changed = out / "two" / "job.json"
    before = changed.stat().st_mtime_ns
    (folder / "list.csv").write_text("scene,name,light,seed\nb.shot,two,none,2\n")
    code, result, errors = run(backend, folder)
    assert code == 0, errors
    assert changed.stat().st_mtime_ns > before
    assert json.loads(changed.read_text())["seed"] == 2


def test_bad_rows_are_told_before_anything_starts(backend: Backend, folder: Path) -> None:
    (folder / "list.csv").write_text("scene,seed\na.shot,1\nb.shot,x\nc.shot,1\n")
    words, how = command(backend, folder)
    done = subprocess.run(words, capture_output=True, check=False, **how)
    assert done.returncode == 3
    assert "line 3: " in done.stderr
    assert "line 4: there is no file" in done.stderr
    assert not (folder / "list-batch").exists()


@pytest.mark.long
@pytest.mark.parametrize("how_it_ends", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_batch_leaves_no_process_and_goes_on(
    backend: Backend, folder: Path, how_it_ends: signal.Signals
) -> None:
    """Of three rows the first one is done; the second runs a model for long and is interrupted."""
    (folder / "list.csv").write_text(
        "scene,name,light,steps,key_pictures\na.shot,one,none,,\nb.shot,two,none,900,video\na.shot,three,none,2,\n"
    )
    words, how = command(backend, folder)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, **how)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line == "two: running\n":
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(how_it_ends)
    rest = process.stderr.read()
    process.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    if how_it_ends == signal.SIGINT:
        assert process.returncode == 130, (lines, rest)
        record = json.loads((folder / "list-batch" / "batch.json").read_text())
        assert sorted(row["state"] for row in record["rows"].values()) == ["cancelled", "done", "waiting"]
    text = (folder / "list.csv").read_text().replace("900,video", "2,")
    (folder / "list.csv").write_text(text)
    code, result, errors = run(backend, folder)
    assert code == 0, errors
    assert [row["state"] for row in result["rows"]] == ["done", "done", "done"]
    assert "1 of 3 rows were done before" in errors
