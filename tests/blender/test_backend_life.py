# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's life as Blender sees it: shared by two, gone after the last, given up, told about without secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy
import pytest

import trackshade_addon
from trackshade.core.errors import ProtocolError
from trackshade.core.folders import shared_dir
from trackshade.core.processes import is_process_alive
from trackshade.ipc import connection_files
from trackshade_addon import backend
from trackshade_addon.backend import diagnostics
from trackshade_addon.backend.environment import BackendPrefs
from trackshade_addon.backend.prefs import current_prefs
from trackshade_addon.backend.tasks import BackgroundTask
from trackshade_addon.messages import texts
from trackshade_addon.ui import drawing
from trackshade_addon.ui.backend_panel import buttons

pytestmark = pytest.mark.once

LONG = 120.0  # seconds: only ever waited for in full by a test that fails
BLENDER = """
import json, sys, time
import trackshade_addon
trackshade_addon.register()
from trackshade_addon import backend
client = backend.manager.connect("mini").result()
status = client.status()
print(json.dumps({"pid": status["pid"], "workers": [item["pid"] for item in status["workers"]]}), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own, and this Python as the backend's."""
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TRACKSHADE_PYTHON", sys.executable)
    monkeypatch.delenv("TRACKSHADE_TOKEN", raising=False)
    yield tmp_path / "home"
    backend.close()


def until(holds: Callable[[], object]) -> None:
    limit = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def served() -> connection_files.ConnectionInfo:
    info = connection_files.read(shared_dir() / "backend.json")
    assert info is not None
    return info


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("trackshade")]


class Blender:
    """Another Blender, which has connected."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", BLENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        found = next(line for line in self.process.stdout if line.startswith("{"))
        self.pids: dict[str, object] = json.loads(found)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_two_blenders_share_a_backend_that_ends_when_both_were_killed() -> None:
    first, second = Blender(), Blender()
    try:
        assert first.pids["pid"] == second.pids["pid"]
        first.kill()
        client = backend.manager.connect("mini").result(LONG)
        assert client.status()["pid"] == first.pids["pid"]
        backend.manager.stop()
        second.kill()
        pids = [int(str(first.pids["pid"])), *(pid for pid in first.pids["workers"] if pid)]  # type: ignore[attr-defined]
        for pid in pids:
            until(lambda pid=pid: not is_process_alive(pid))
    finally:
        first.kill()
        second.kill()


def test_a_backend_that_dies_comes_back_and_is_given_up_after_three_times() -> None:
    assert backend.manager.state().kind == "stopped"
    client = backend.manager.connect(None).result(LONG)
    until(lambda: backend.manager.state().kind == "ready")
    assert backend.manager.connect(None).result() is client
    for _ in range(3):
        pid = served().pid
        os.kill(pid, signal.SIGKILL)
        until(
            lambda pid=pid: (
                backend.manager.state().kind == "failed"
                or ((shared_dir() / "backend.json").exists() and served().pid != pid)
            )
        )
    until(lambda: backend.manager.state().kind == "failed")
    assert "3 times in a row" in backend.manager.state().message
    with pytest.raises(ProtocolError, match="3 times in a row"):
        backend.manager.connect(None).result(LONG)
    backend.manager.retry()
    until(lambda: backend.manager.state().kind == "ready")


def test_a_python_without_a_backend_fails_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named trackshade' >&2\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setenv("TRACKSHADE_PYTHON", str(python))
    with pytest.raises(ProtocolError, match="No module named trackshade"):
        backend.manager.connect("mini").result(LONG)
    state = backend.manager.state()
    assert (state.kind, "No module named trackshade" in state.message) == ("failed", True)
    assert "No module named trackshade" in diagnostics.log_tail()


def test_diagnostics_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
    backend.manager.connect(None).result(LONG)
    until(lambda: backend.manager.state().kind == "ready")
    token = served().token
    log = shared_dir() / "log"
    log.write_text(log.read_text() + f"a library says {token} and https://me:hunter2@index.example/simple\n")
    text = diagnostics.describe()
    assert bpy.app.version_string in text
    assert "proxy.example:3128" in text
    assert "a library says *** and https://***@index.example" in text
    for secret in (token, "hunter2"):
        assert secret not in text
        assert secret not in diagnostics.log_tail()


def test_memory_is_given_back_and_the_log_is_shown() -> None:
    trackshade_addon.register()
    try:
        assert not bpy.ops.trackshade.free_memory.poll()
        client = backend.manager.connect("mini").result(LONG)
        until(lambda: backend.manager.state().kind == "ready")
        until(lambda: client.status()["workers"][0]["ready"])
        assert bpy.ops.trackshade.free_memory() == {"FINISHED"}
        until(lambda: not client.status()["workers"][0]["pid"])
        assert bpy.ops.trackshade.show_log() == {"FINISHED"}
        text = bpy.data.texts["Trackshade Log"].as_string()
        assert str(shared_dir()) in text
        assert bpy.ops.trackshade.copy_diagnostics() == {"FINISHED"}
    finally:
        trackshade_addon.unregister()


def test_nothing_is_left_when_it_is_disabled() -> None:
    before = threads()
    for _ in range(2):
        trackshade_addon.register()
        backend.manager.connect(None).result(LONG)
        pid = served().pid
        trackshade_addon.unregister()
        until(lambda pid=pid: not is_process_alive(pid))
        until(lambda: set(threads()) <= set(before))
        assert not bpy.app.timers.is_registered(drawing.tick)
        assert backend.manager.state().kind == "stopped"


def test_it_can_be_set_up_again_in_every_state_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    again = ("trackshade.set_up", "Set Up Again", "IMPORT")
    assert again not in buttons("ready")  # an existing environment is none of ours to make
    monkeypatch.delenv("TRACKSHADE_PYTHON")
    for kind in ("ready", "stopped", "failed"):
        assert again in buttons(kind)
    assert not any(
        label == "Set Up Again" for kind in ("missing", "starting", "setting-up") for _, label, _ in buttons(kind)
    )


def test_what_is_wrong_is_told_with_the_panels_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_PYTHON", str(tmp_path / "python"))
    with pytest.raises(ProtocolError):
        backend.manager.connect("mini").result(LONG)
    state = backend.manager.state()
    assert state.error is not None
    assert state.error.fix
    assert state.error.fix not in state.message
    assert texts.error_text(state.error).startswith(state.message)


def test_without_an_environment_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TRACKSHADE_PYTHON")
    prefs = BackendPrefs(home=tmp_path / "none")
    if prefs.python() is not None:
        pytest.skip("this Python has the backend itself")
    assert backend.manager.state().kind == "missing"
    with pytest.raises(ProtocolError, match="not set up"):
        backend.manager.connect("mini").result()
    assert backend.manager.state().kind == "missing"
    refusal = backend.manager.unavailable_error()
    assert refusal is not None
    assert refusal.code == "not-set-up"


def test_no_job_is_begun_while_the_backend_is_set_up(scene: bpy.types.Scene) -> None:
    trackshade_addon.register()
    try:
        camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
        scene.camera = camera
        assert bpy.ops.trackshade.shade.poll()
        backend.manager.set_up_task = work = BackgroundTask(lambda work: work.cancelled.wait(LONG))
        assert not bpy.ops.trackshade.shade.poll()
        with pytest.raises(RuntimeError, match="being set up"):
            bpy.ops.trackshade.shade()
        work.cancel()
        assert work.wait(LONG)
        assert bpy.ops.trackshade.shade.poll()
    finally:
        trackshade_addon.unregister()


def test_a_backend_that_is_served_needs_no_setting_up(home: Path, tmp_path: Path, monkeypatch) -> None:
    """Another program's backend on this machine is used, and a refusal before that is not remembered as a failure."""
    monkeypatch.delenv("TRACKSHADE_PYTHON")
    prefs = current_prefs()
    if prefs.python() is None:
        assert isinstance(backend.manager.connect("mini").exception(), ProtocolError)
        assert backend.manager.state().kind == "missing"
    command = [sys.executable, "-m", "trackshade.server", "--workers", "0", "--store", str(tmp_path / "store")]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: connection_files.read(home / "backend.json") or list(home.glob("*.json")))
        until(lambda: backend.manager.state().kind == "stopped")
        client = backend.manager.connect("mini").result(LONG)
        assert client.status()["pid"] == server.pid
        until(lambda: backend.manager.state().kind == "ready")
    finally:
        server.terminate()
        server.wait(LONG)
