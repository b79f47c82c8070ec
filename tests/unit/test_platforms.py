# SPDX-License-Identifier: GPL-3.0-or-later
"""What the code does on Windows and macOS, with the system's functions faked where this system lacks them."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trackshade.cli import system
from trackshade.core import folders, processes
from trackshade.ipc import connection_files, lock, owners
from trackshade.server import memory, parent_watchdog


class FakeOs:
    """The os module with another name of the system, for one module: pathlib would follow `os.name` itself."""

    name = "nt"

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class FakeMsvcrt(ModuleType):
    """msvcrt with locks that one process holds against itself, as Windows' locks are held."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: set[tuple[int, int]] = set()

    def locking(self, file: int, mode: int, count: int) -> None:
        status = os.fstat(file)
        key = (status.st_dev, status.st_ino)
        if key in self.held:
            raise PermissionError(13, "Permission denied")
        self.held.add(key)


@pytest.fixture
def windows_lock(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `trackshade.ipc.lock` as it is on Windows."""
    monkeypatch.setitem(sys.modules, "msvcrt", FakeMsvcrt())
    spec = importlib.util.spec_from_file_location("windows_lock", lock.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        spec.loader.exec_module(module)
    return module


def test_a_file_lock_on_windows_is_held_once(tmp_path: Path, windows_lock: ModuleType) -> None:
    held = windows_lock.FileLock(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        windows_lock.FileLock(tmp_path / "lock")
    held.release()


def test_owners_are_counted_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is released before its file is removed: Windows removes no open file."""
    released: list[bool] = []

    class Lock(lock.FileLock):
        def release(self) -> None:
            released.append(any(tmp_path.glob("*.owner")))
            super().release()

    monkeypatch.setattr(owners, "os", FakeOs())
    monkeypatch.setattr(owners, "FileLock", Lock)
    (tmp_path / "1-dead.owner").touch()
    assert owners.count(tmp_path) == 0
    assert released == [True]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("handle", "code", "alive"), [(0, 0, False), (8, 259, True), (8, 0, False)])
def test_a_process_is_asked_for_on_windows(
    monkeypatch: pytest.MonkeyPatch, handle: int, code: int, alive: bool
) -> None:
    """`os.kill(pid, 0)` would end it there."""
    closed: list[int] = []

    def get_exit_code(_: int, pointer: Any) -> None:
        pointer._obj.value = code

    kernel = SimpleNamespace(
        OpenProcess=lambda access, inherit, pid: handle, GetExitCodeProcess=get_exit_code, CloseHandle=closed.append
    )
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(connection_files, "os", FakeOs())
    assert connection_files.process_alive(1234) is alive
    assert closed == ([handle] if handle else [])


def test_documents_on_windows_are_asked_of_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[str | None] = []

    def known_folder(identifier: Any, flags: int, token: None, pointer: Any) -> int:
        pointer._obj.value = str(tmp_path / "OneDrive" / "Documents")
        return 0

    windll = SimpleNamespace(
        shell32=SimpleNamespace(SHGetKnownFolderPath=known_folder),
        ole32=SimpleNamespace(CoTaskMemFree=lambda pointer: freed.append(pointer.value)),
    )
    monkeypatch.setattr(ctypes, "windll", windll, raising=False)
    monkeypatch.setattr("sys.platform", "win32")
    assert folders.documents() == tmp_path / "OneDrive" / "Documents"
    assert freed == [str(tmp_path / "OneDrive" / "Documents")]
    monkeypatch.setattr(windll.shell32, "SHGetKnownFolderPath", lambda *_: 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.documents() == tmp_path / "Documents"


def test_documents_on_macos_are_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DOCUMENTS_DIR", "/elsewhere")
    assert folders.documents() == tmp_path / "Documents"


def test_programs_are_found_by_their_suffix_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tool.EXE", "tool", "other.py"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setattr(processes.sys, "platform", "win32")
    monkeypatch.setattr(processes.shutil, "which", lambda path: path if os.path.isfile(path) else None)
    monkeypatch.setenv("PATH", os.pathsep.join([".", f'"{tmp_path}"']))
    monkeypatch.setenv("PATHEXT", ".COM;.EXE")
    assert processes.find_program("tool") == str(tmp_path / "tool.EXE")
    assert processes.find_program("tool.EXE") == str(tmp_path / "tool.EXE")
    assert processes.find_program("other.py") is None


@pytest.mark.parametrize(
    ("platform", "expected"), [("win32", {}), ("darwin", {}), ("linux", {"libX11.so.6": "libx11-6"})]
)
def test_system_libraries_are_asked_for_on_linux_only(
    monkeypatch: pytest.MonkeyPatch, platform: str, expected: dict[str, str]
) -> None:
    monkeypatch.setattr(system.sys, "platform", platform)
    monkeypatch.setattr(system, "DEBIAN_PACKAGES", {"libX11.so.6": "libx11-6"})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert system.missing_libraries() == expected


def test_the_kernel_is_asked_to_end_workers_on_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_prctl(*_: object, **__: object) -> None:
        raise AssertionError("prctl was asked for")

    monkeypatch.setattr(ctypes, "CDLL", no_prctl)
    for platform in ("win32", "darwin"):
        monkeypatch.setattr(parent_watchdog.sys, "platform", platform)
        parent_watchdog.die_with_parent(os.getppid())


def test_no_window_opens_for_nvidia_smi_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    flags: list[int] = []

    def run(command: list[str], **options: Any) -> SimpleNamespace:
        flags.append(options["creationflags"])
        return SimpleNamespace(stdout="GPU-1, Card, 1000, 2000\n")

    monkeypatch.setattr(memory, "find_program", lambda name: f"C:\\{name}.exe")
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x08000000, raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    for platform in ("win32", "linux"):
        monkeypatch.setattr(memory.sys, "platform", platform)
        assert [card.uuid for card in memory.nvidia_cards()] == ["GPU-1"]
    assert flags == [0x08000000, 0]


def test_without_unix_sockets_a_backend_listens_on_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("trackshade.server.serve")  # the package has a function of that name
    monkeypatch.delattr("socket.AF_UNIX")
    assert module._local_endpoint(tmp_path, "store") == "tcp://127.0.0.1:*"
