# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints of the user's own, and the folder of models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trackshade
from trackshade.config import checkpoints, registry
from trackshade.core import folders
from trackshade.core.errors import ModelError, UsageError
from trackshade.ipc import json_lines
from trackshade.pipelines.families.recognize import check_checkpoint

MINI = Path(trackshade.__file__).parent / "models" / "mini"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TRACKSHADE_MODELS", raising=False)
    return tmp_path / "home"


def errand(*arguments: str) -> dict[str, object]:
    """The last word of an errand."""
    done = subprocess.Popen(
        [sys.executable, "-m", "trackshade.cli.backend_tasks", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.stdin is not None
    assert done.stdout is not None
    last = [found for line in done.stdout if (found := json_lines.parse_line(line))][-1]
    done.stdin.close()
    done.wait()
    return last


def names() -> tuple[str, ...]:
    return tuple(item.name for item in registry.models())


def test_a_registered_folder_is_a_model_until_it_is_forgotten(tmp_path: Path) -> None:
    known = names()
    folder = tmp_path / "My Mini (v2)"
    shutil.copytree(MINI, folder)
    made = checkpoints.register(folder, "mini", known)
    assert made.name == "my-mini-v2"
    spec = registry.spec(made.name)
    assert (spec.allowed_frame_counts, spec.sizes, spec.shipped) == (*_facts("mini"), False)
    assert registry.model_folder(spec) == folder
    assert registry.is_present(spec)
    assert checkpoints.register(folder, "mini", names(), title="Again").name == made.name  # the same folder
    assert checkpoints.register(tmp_path / "mini", "mini", names()).name == "mini-2"  # that name was taken
    assert names() == (*known, made.name, "mini-2")
    checkpoints.unregister(made.name)
    checkpoints.unregister("mini-2")
    assert names() == known
    assert folder.is_dir()
    with pytest.raises(UsageError):
        checkpoints.unregister(made.name)


def _facts(name: str) -> tuple[object, object]:
    spec = registry.spec(name)
    return spec.allowed_frame_counts, spec.sizes


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[{"name": "x"}]', '{"a": 1}', '[{"name":"../x","title":"","folder":"/","like":"mini"}]']
)
def test_a_damaged_list_is_an_empty_one(home: Path, text: str) -> None:
    known = names()
    home.mkdir()
    (home / "checkpoints.json").write_text(text)
    assert names() == known


@pytest.mark.slow
def test_a_folder_is_checked_before_it_is_used(tmp_path: Path) -> None:
    assert check_checkpoint(MINI)["like"] == "mini"
    folder = tmp_path / "mini"
    shutil.copytree(MINI, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["transformer"] = ["somewhere", "SomethingElse"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="SomethingElse") as raised:
        check_checkpoint(folder)
    assert raised.value.code == "wrong-weights"
    found = errand("check", str(tmp_path))
    assert (found["event"], found["code"]) == ("error", "not-a-checkpoint")
    assert str(tmp_path) in str(found["message"])


@pytest.mark.parametrize("arguments", [(), ("paint",), ("check",), ("fetch", "mini", "more"), ("probe", "all")])
def test_an_errand_that_was_not_asked_for_rightly_says_so(arguments: tuple[str, ...]) -> None:
    assert errand(*arguments)["code"] == "usage"


def test_the_models_folder_can_be_chosen(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folders.models_dir() == home / "models"
    folders.choose_models_dir(tmp_path / "disk")
    assert folders.models_dir() == tmp_path / "disk"
    spec = registry.spec("das-cogvideox-5b")
    assert registry.model_folder(spec) == tmp_path / "disk" / spec.name
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path / "said"))
    assert folders.models_dir() == tmp_path / "said"
    with pytest.raises(UsageError, match="TRACKSHADE_MODELS"):
        folders.choose_models_dir(tmp_path / "disk")
    monkeypatch.delenv("TRACKSHADE_MODELS")
    folders.choose_models_dir(None)
    assert folders.models_dir() == home / "models"


def test_missing_weights_name_the_folder(tmp_path: Path) -> None:
    from trackshade.pipelines.loading import load_pipeline

    made = checkpoints.register(tmp_path / "gone", "mini", names())
    with pytest.raises(ModelError, match="gone"):
        load_pipeline(registry.spec(made.name))
