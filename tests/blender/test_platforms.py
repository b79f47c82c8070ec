# SPDX-License-Identifier: GPL-3.0-or-later
"""What the add-on does on Windows and macOS, with the system's functions faked where this system lacks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trackshade.core.errors import UsageError
from trackshade_addon.backend import environment, graphics_cards, tasks
from trackshade_addon.backend.tasks import CancellableTask
from trackshade_addon.checks import facts

pytestmark = pytest.mark.once


def test_an_environments_python_is_where_venv_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.python_of(Path("env")) == Path("env/bin/python")
    monkeypatch.setattr(environment.sys, "platform", "win32")
    assert environment.python_of(Path("env")) == Path("env/Scripts/python.exe")


def test_the_device_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics_cards.sys, "platform", "darwin")
    monkeypatch.setattr(graphics_cards.platform, "machine", lambda: "arm64")
    assert graphics_cards.detect_device(CancellableTask()).kind == "mps"
    monkeypatch.setattr(graphics_cards.platform, "machine", lambda: "x86_64")
    with pytest.raises(UsageError, match="Intel"):
        graphics_cards.detect_device(CancellableTask())


def test_a_program_that_takes_too_long_is_ended_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no process group there, and no console window is to open."""
    started: list[dict[str, Any]] = []
    popen = subprocess.Popen

    def record(command: list[str], **options: Any) -> subprocess.Popen[str]:
        started.append(options)
        return popen(command, **{**options, "creationflags": 0})

    def no_group(*_: object) -> None:
        raise AssertionError("killpg was called")

    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    monkeypatch.setattr(tasks.subprocess, "Popen", record)
    monkeypatch.setattr(tasks.os, "killpg", no_group)
    with monkeypatch.context() as patch:
        patch.setattr(tasks.sys, "platform", "win32")
        result = CancellableTask(0.1).run([sys.executable, "-c", "import time; time.sleep(60)"], limit=0.1)
    assert result.code != 0
    assert started[0]["creationflags"] == 0x08000000
    assert started[0]["start_new_session"] is False


def test_free_memory_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr(facts.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__)
    assert facts.free_memory() == 4096 * 500
