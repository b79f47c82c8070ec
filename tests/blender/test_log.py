# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's log: what it keeps, what it leaves out, and that it goes with the add-on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import trackshade_addon
from trackshade import __version__
from trackshade.core import folders
from trackshade.ipc import PROTOCOL, connection_files
from trackshade.ipc.connection_files import ConnectionInfo
from trackshade_addon import log
from trackshade_addon.backend import diagnostics
from trackshade_addon.backend.tasks import BackgroundTask

LOGGER = logging.getLogger("trackshade_addon.capture.scene")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TRACKSHADE_TOKEN", raising=False)
    yield tmp_path / "home"
    log.detach()


def test_messages_are_kept_and_written(home: Path) -> None:
    log.attach()
    assert not home.exists()  # nothing was logged yet
    LOGGER.debug("a detail")
    LOGGER.info("captured %d frames", 17)
    (message,) = log.last_messages(10)
    assert message.endswith("INFO trackshade_addon.capture.scene: captured 17 frames")
    assert (home / "addon.log").read_text(encoding="utf-8") == f"{message}\n"


def test_registering_twice_adds_one_handler_and_unregistering_removes_it(capfd: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("trackshade_addon")
    before = list(logger.handlers)
    for _ in range(2):
        trackshade_addon.register()
        assert len(logger.handlers) == len(before) + 1
        log.attach()
        assert len(logger.handlers) == len(before) + 1
        trackshade_addon.unregister()
        assert logger.handlers == before
    LOGGER.warning("nobody is listening")
    assert log.last_messages(10) == []
    assert "nobody is listening" not in "".join(capfd.readouterr())


def test_nothing_is_printed_whatever_other_add_ons_do(capfd: pytest.CaptureFixture[str]) -> None:
    other = logging.StreamHandler()
    logging.getLogger().addHandler(other)
    try:
        log.attach()
        LOGGER.error("only in the log")
    finally:
        logging.getLogger().removeHandler(other)
    assert "only in the log" not in "".join(capfd.readouterr())
    assert log.last_messages(1)[0].endswith("only in the log")


def test_no_secret_is_logged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter2@proxy.example:3128")
    monkeypatch.setenv("TRACKSHADE_TOKEN", "token-of-the-variable")
    info = ConnectionInfo("ipc://nowhere", "token-of-the-file", 1, __version__, PROTOCOL)
    connection_files.write(folders.shared_dir() / "backend.json", info)
    log.attach()
    try:
        raise RuntimeError("token-of-the-file")
    except RuntimeError:
        LOGGER.exception("https://you:swordfish@index.example/simple and me:hunter2, token-of-the-variable")
    text = log.last_messages(1)[0]
    assert "RuntimeError: ***" in text
    assert "https://***@index.example/simple" in text
    for secret in ("hunter2", "swordfish", "token-of-the-variable", "token-of-the-file"):
        assert secret not in text
        assert secret not in (home / "addon.log").read_text(encoding="utf-8")


def test_an_unwritable_folder_leaves_the_messages_in_memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("")  # a file where the folder would be
    log.attach()
    LOGGER.info("still here")
    assert log.last_messages(1)[0].endswith("still here")


def test_the_file_is_replaced_when_it_is_full(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FILE_BYTES", 2000)
    log.attach()
    for number in range(100):
        LOGGER.info("message %d", number)
    assert sorted(path.name for path in home.iterdir()) == ["addon.log", "addon.log.1"]
    assert all(path.stat().st_size <= 2000 for path in home.iterdir())
    assert len(log.last_messages(1000)) == 100


def test_a_defect_in_a_task_is_logged_with_its_place_and_is_part_of_the_diagnostics() -> None:
    log.attach()

    def fail(task: BackgroundTask) -> None:
        raise ZeroDivisionError("by nothing")

    assert BackgroundTask(fail, "Dividing").wait(10)
    assert "in fail" in log.last_messages(1)[0]
    assert "ZeroDivisionError: by nothing" in diagnostics.describe()
