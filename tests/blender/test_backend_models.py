# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of models: fetched in pieces, verified, moved, and folders of one's own."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import trackshade
from tests.helpers.backend_hub import Hub
from tests.helpers.backend_python import backend_python
from trackshade.config import checkpoints, registry
from trackshade.core import folders
from trackshade.core.errors import CancelledError, ModelError, OutputError, UsageError
from trackshade_addon.backend import ModelManager, model_manager, moving
from trackshade_addon.backend.environment import BackendPrefs
from trackshade_addon.backend.model_manager import ModelRow
from trackshade_addon.backend.moving import move_models
from trackshade_addon.backend.tasks import CancellableTask

pytestmark = pytest.mark.once

LONG = 120.0  # seconds: only ever waited for in full by a test that fails
NAME = "das-cogvideox-5b"
MINI = Path(trackshade.__file__).parent / "models" / "mini"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TRACKSHADE_MODELS", raising=False)
    return tmp_path / "home"


@pytest.fixture
def models() -> Iterator[ModelManager]:
    made = ModelManager()
    yield made
    made.close()


@pytest.fixture
def prefs() -> BackendPrefs:
    return BackendPrefs(existing=backend_python())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub has a repository of the model's name, with files that only look like a model."""
    spec = registry.spec(NAME)
    files = {"model_index.json": b"{}", "LICENSE": b"terms", "transformer/config.json": b"{}",
             "transformer/model.safetensors": os.urandom(4 << 20)}  # fmt: skip
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Hub(spec.repo, spec.revision, files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def until(holds: Callable[[], object]) -> None:
    limit = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.05)


def row(models: ModelManager, name: str) -> ModelRow:
    return next(item for item in models.rows() if item.spec.name == name)


def fill(folder: Path, name: str = "a-model") -> dict[str, bytes]:
    """Something like a model; what is in it."""
    files = {f"{name}/model_index.json": b"{}", f"{name}/vae/größe.safetensors": os.urandom(9 << 20)}
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return files


def is_scanning() -> bool:
    return any(thread.name == "trackshade-models" for thread in threading.enumerate())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_fetched_in_pieces_and_verified(models: ModelManager, prefs: BackendPrefs, hub: Hub) -> None:
    assert row(models, NAME).state == "absent"
    work = models.fetch(NAME, prefs)
    until(lambda: (row(models, NAME).progress or 0) > 0.3 or not work.running)
    assert row(models, NAME).state == "fetching", work.error
    assert "MB of 4 MB" in row(models, NAME).message
    models.pause(NAME)
    assert work.wait(LONG)
    assert isinstance(work.error, CancelledError)
    assert row(models, NAME).state == "part"
    hub.gate.set()
    again = models.fetch(NAME, prefs)
    assert again.wait(LONG)
    assert again.error is None
    assert any(name.endswith("model.safetensors") and asked for name, asked in hub.ranges)  # it went on
    until(lambda: (row(models, NAME).bytes or 0) > 4 << 20)
    assert row(models, NAME).state == "here"
    check = models.verify(NAME, prefs)
    assert check.wait(LONG)
    assert (check.error, row(models, NAME).message) == (None, "Verified")
    damaged = registry.model_folder(registry.spec(NAME)) / "transformer" / "model.safetensors"
    damaged.write_bytes(b"\0" + damaged.read_bytes()[1:])
    check = models.verify(NAME, prefs)
    assert check.wait(LONG)
    assert isinstance(check.error, ModelError)
    assert row(models, NAME).error is check.error
    removal = models.remove(NAME)
    assert removal is not None
    assert removal.wait(LONG)
    assert row(models, NAME).state == "absent"


@pytest.mark.long
def test_a_cancelled_fetch_leaves_nothing(models: ModelManager, prefs: BackendPrefs, hub: Hub) -> None:
    work = models.fetch(NAME, prefs)
    until(lambda: (row(models, NAME).progress or 0) > 0.3 or not work.running)
    assert models.cancel(NAME).wait(LONG)
    assert row(models, NAME).state == "absent"
    assert list(folders.models_dir().iterdir()) == []


def test_nothing_is_fetched_offline_or_without_a_backend(models: ModelManager) -> None:
    with pytest.raises(UsageError, match="Allow Online Access"):
        models.fetch(NAME, BackendPrefs(existing="/bin/false", online=False))
    if (nothing := BackendPrefs(home=Path("/nowhere"))).python() is None:
        with pytest.raises(UsageError, match="not set up"):
            models.fetch(NAME, nothing)
    work = models.fetch(NAME, BackendPrefs(existing="/bin/false"))
    assert work.wait(LONG)
    assert "environment does not work" in str(work.error)


@pytest.mark.long  # imports PyTorch, to load every component
def test_a_checkpoint_folder_is_checked_and_used(models: ModelManager, prefs: BackendPrefs, tmp_path: Path) -> None:
    folder = tmp_path / "Mein Modell"
    shutil.copytree(MINI, folder)
    work = models.use_folder(folder, prefs)
    assert work.wait(LONG)
    assert (work.error, work.result) == (None, "mein-modell")
    assert row(models, "mein-modell").state == "here"
    assert registry.spec("mein-modell").sizes == registry.spec("mini").sizes
    assert models.remove("mein-modell") is None
    assert folder.is_dir()
    assert all(item.spec.name != "mein-modell" for item in models.rows())


def test_a_folder_that_is_no_whole_checkpoint_is_not_used(
    models: ModelManager, prefs: BackendPrefs, tmp_path: Path
) -> None:
    shutil.copytree(MINI, tmp_path / "Mein Modell", ignore=shutil.ignore_patterns("vae"))
    work = models.use_folder(tmp_path / "Mein Modell", prefs)
    with pytest.raises(UsageError, match="checkpoint is being checked"):
        models.use_folder(MINI, prefs)
    assert work.wait(LONG)
    assert isinstance(work.error, ModelError)
    assert "vae" in str(work.error)
    assert all(item.spec.name != "mein-modell" for item in models.rows())


@pytest.mark.parametrize("elsewhere", [False, True])
def test_models_move_whole(tmp_path: Path, home: Path, elsewhere: bool) -> None:
    target = (Path("/dev/shm") if elsewhere else tmp_path) / f"trackshade-{os.getpid()}" / "modèles"
    if elsewhere and (not Path("/dev/shm").is_dir() or shutil.disk_usage("/dev/shm").free < 1 << 26):
        pytest.skip("needs a second file system")
    files = fill(folders.models_dir())
    told: list[float] = []
    try:
        move_models(target, lambda share, words: told.append(share or 0.0), CancellableTask())
        assert folders.models_dir() == target
        assert contents(target) == files
        assert not any(path.is_dir() for path in (home / "models").iterdir())
        assert told == sorted(told)
        assert bool(told) == elsewhere
    finally:
        shutil.rmtree(target.parent, ignore_errors=True)


def test_a_cancelled_move_changes_nothing(home: Path) -> None:
    target = Path("/dev/shm") / f"trackshade-{os.getpid()}"
    if not target.parent.is_dir() or shutil.disk_usage(target.parent).free < 1 << 26:
        pytest.skip("needs a second file system")
    files, task = fill(folders.models_dir()), CancellableTask()
    try:
        with pytest.raises(CancelledError):
            move_models(target, lambda share, words: task.cancel(), task)
        assert folders.models_dir() == home / "models"
        assert contents(home / "models") == files
        assert list(target.iterdir()) == []
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_nothing_is_done_with_models_that_are_being_moved(
    models: ModelManager, prefs: BackendPrefs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Path("/dev/shm") / f"trackshade-{os.getpid()}"
    if not target.parent.is_dir() or shutil.disk_usage(target.parent).free < 1 << 26:
        pytest.skip("needs a second file system")
    fill(folders.models_dir())
    gate = threading.Event()
    copy = moving._copy_file
    monkeypatch.setattr(moving, "_copy_file", lambda *arguments: (gate.wait(LONG), copy(*arguments))[1])
    try:
        work = models.move(target)
        for call in (
            lambda: models.fetch(NAME, prefs),
            lambda: models.cancel(NAME),
            lambda: models.verify("mini", prefs),
            lambda: models.remove(NAME),
            lambda: models.use_folder(MINI, prefs),
            lambda: models.move(tmp_path / "elsewhere"),
        ):
            with pytest.raises(UsageError, match="being moved") as caught:
                call()
            assert caught.value.code == "models-busy"
        assert models.task() is work
        gate.set()
        assert work.wait(LONG)
        assert (work.error, models.folder()) == (None, target)
    finally:
        gate.set()
        shutil.rmtree(target, ignore_errors=True)


def test_a_model_that_is_being_checked_does_not_move(models: ModelManager, prefs: BackendPrefs, tmp_path: Path) -> None:
    work = models.verify("mini", prefs)
    for call in (lambda: models.move(tmp_path / "elsewhere"), lambda: models.verify("mini", prefs)):
        with pytest.raises(UsageError, match="mini is being"):
            call()
    models.pause("mini")
    assert work.wait(LONG)


def test_drawing_the_list_reads_no_file(models: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    models.rows()
    until(lambda: not is_scanning())
    opened: list[str] = []
    read = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, **options: (opened.append(threading.current_thread().name), read(path, **options))[1],
    )
    monkeypatch.setattr(model_manager, "MAX_AGE", -1.0)
    for _ in range(3):
        models.rows()
        models.folder()
        assert models.spec("mini") is not None
        until(lambda: not is_scanning())
    assert opened
    assert threading.main_thread().name not in opened


def test_a_checkpoint_that_another_program_adds_is_listed(
    models: ModelManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_manager, "MAX_AGE", 0.01)
    assert models.spec("theirs") is None
    checkpoints.register(tmp_path / "theirs", "mini", ())
    until(lambda: models.spec("theirs") is not None)
    assert row(models, "theirs").state == "absent"
    models.remove("theirs")
    assert models.spec("theirs") is None


def test_models_do_not_move_where_they_cannot(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folders.models_dir())
    with pytest.raises(UsageError, match="within each other"):
        move_models(home / "models" / "inner", lambda *_: None, CancellableTask())
    fill(tmp_path / "taken")
    with pytest.raises(UsageError, match="already contains a-model"):
        move_models(tmp_path / "taken", lambda *_: None, CancellableTask())
    with pytest.raises(OutputError, match="cannot be written"):
        move_models(Path("/proc/models"), lambda *_: None, CancellableTask())
    assert folders.models_dir() == home / "models"
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path / "said"))
    with pytest.raises(UsageError, match="TRACKSHADE_MODELS"):
        move_models(tmp_path / "else", lambda *_: None, CancellableTask())


def test_an_existing_python_is_used() -> None:
    assert replace(BackendPrefs(existing="/x")).python() == "/x"
