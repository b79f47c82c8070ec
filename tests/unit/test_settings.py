# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a job, the folders, the registry and the errors that cross a process border."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackshade.config import registry
from trackshade.config.settings import (
    CONTROLS,
    IMAGE_FORMATS,
    KEY_PICTURES,
    LIGHTS,
    OUTPUT_SIZES,
    TRACKING_RANGES,
    ShadeSettings,
)
from trackshade.core import errors, folders
from trackshade.core.fitting import FRAME_RULES, SIZE_MODES

valid = st.builds(
    ShadeSettings,
    prompt=st.text(max_size=20),
    negative_prompt=st.none() | st.text(max_size=20),
    steps=st.none() | st.integers(1, 1000),
    guidance=st.none() | st.floats(0, 100),
    seed=st.integers(0, 2**63 - 1),
    control=st.sampled_from(CONTROLS),
    points=st.integers(1, 1_000_000),
    control_scale=st.floats(0, 2),
    control_start=st.floats(0, 0.5),
    control_end=st.floats(0.5, 1),
    tracking_range=st.sampled_from(TRACKING_RANGES),
    preview_every=st.integers(0, 1000),
    frame_rule=st.sampled_from(FRAME_RULES),
    size_mode=st.sampled_from(SIZE_MODES),
    model_size=st.none() | st.tuples(st.integers(1, 65536), st.integers(1, 65536)),
    key_pictures=st.sampled_from(KEY_PICTURES),
    output=st.sampled_from(("video", "tracking")),
    output_size=st.sampled_from(OUTPUT_SIZES),
    light=st.sampled_from(LIGHTS),
    image_format=st.sampled_from(IMAGE_FORMATS),
    alpha=st.booleans(),
)


@given(valid)
def test_settings_survive_json(item: ShadeSettings) -> None:
    for each in (item, replace(item, output="key", key_frames=(3, 7.5))):
        assert ShadeSettings.from_dict(json.loads(json.dumps(each.to_dict()))) == each


@pytest.mark.parametrize(
    "bad",
    [
        {"model": ""}, {"prompt": None}, {"prompt": 3}, {"steps": 0}, {"steps": 1.5}, {"steps": True},
        {"guidance": -1}, {"guidance": float("nan")}, {"seed": -1}, {"seed": 2**63}, {"control": "depth"},
        {"points": 0}, {"control_scale": 2.5}, {"control_scale": float("nan")}, {"control_start": -0.1},
        {"control_end": 0.5, "control_start": 0.6}, {"control_end": 1.1}, {"tracking_range": "full"},
        {"preview_every": -1}, {"negative_prompt": 1}, {"color": "red"},
        {"frame_rule": "some"}, {"size_mode": "fit"}, {"model_size": [144]}, {"model_size": [0, 96]},
        {"key_pictures": "none"}, {"output_size": "half"}, {"light": "sun"}, {"image_format": "jpg"}, {"alpha": 1},
        {"key_frames": [3]}, {"output": "key", "key_frames": "3"}, {"key_frames": [], "output": "key"},
    ],
)  # fmt: skip
def test_a_bad_setting_is_named(bad: dict) -> None:
    with pytest.raises(errors.UsageError) as caught:
        ShadeSettings.from_dict(bad)
    assert next(iter(bad)).replace("_", " ").split(" every")[0] in str(caught.value).replace("_", " ")
    assert caught.value.exit_code == 2


def test_settings_of_earlier_versions_still_load() -> None:
    kept = {"model": "mini", "prompt": "a street", "steps": 4, "seed": 7, "control": "mesh", "output": "video"}
    assert ShadeSettings.from_dict(kept) == ShadeSettings(prompt="a street", steps=4, seed=7)


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        ({}, None), ({"key_pictures": "video"}, "mini"), ({"output_size": "model"}, "mini"),
        ({"model": "das-cogvideox-5b"}, "das-cogvideox-5b"), ({"output": "tracking"}, None),
        ({"output": "key", "key_frames": (1,), "key_pictures": "video"}, None),
        ({"model": "das-cogvideox-5b", "key_pictures": "first-frame"}, None), ({"model": "unknown"}, "unknown"),
    ],
)  # fmt: skip
def test_a_model_is_loaded_ahead_where_the_job_needs_it(given: dict, needs: str | None) -> None:
    """The first frame that is carried may be given, and then no model is needed."""
    assert ShadeSettings(**given).needs == needs


def test_folders_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKSHADE_HOME", str(tmp_path))
    monkeypatch.delenv("TRACKSHADE_MODELS", raising=False)
    assert folders.models_dir() == tmp_path / "models"
    assert folders.jobs_dir().parent == folders.connection_file().parent == tmp_path
    monkeypatch.setenv("TRACKSHADE_MODELS", str(tmp_path / "weights"))
    assert folders.models_dir() == tmp_path / "weights"


def test_every_model_can_be_looked_up_and_described() -> None:
    names = [item.name for item in registry.models()]
    assert names[0] == "mini"
    assert len(set(names)) == len(names)
    for name in names:
        item = registry.spec(name)
        json.dumps(item.to_dict())
        assert item.license
        assert item.allowed_frame_counts
        assert item.sizes
        assert item.shipped or len(item.repo.split("/")) == 2 or item.source.startswith("https://")


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(errors.ModelError, match="mini") as caught:
        registry.spec("nope")
    assert caught.value.code == "unknown-model"


@pytest.mark.parametrize(
    ("cls", "exit_code"),
    [
        (errors.UsageError, 2), (errors.ShotError, 3), (errors.ModelError, 3), (errors.OutputError, 3),
        (errors.ProtocolError, 4), (errors.JobError, 4), (errors.CancelledError, 130),
    ],
)  # fmt: skip
def test_an_error_crosses_a_process_border(cls: type[errors.TrackshadeError], exit_code: int) -> None:
    error = cls("code", "What is wrong.", "What to do.")
    back = errors.TrackshadeError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(back) is cls
    assert str(back) == "What is wrong. What to do."
    assert (back.code, back.exit_code) == ("code", exit_code)


def test_an_error_of_an_unknown_kind_is_a_job_error() -> None:
    back = errors.TrackshadeError.from_dict({"kind": "SystemExit", "exit_code": "0"})
    assert type(back) is errors.JobError
    assert back.exit_code == 4


def test_documents_are_where_the_desktop_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKSHADE_RESULTS", "XDG_DOCUMENTS_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folders.unsaved_results_dir() == tmp_path / "Documents" / "Trackshade"
    (tmp_path / ".config").mkdir()
    for said, folder in (
        ('XDG_DOCUMENTS_DIR="$HOME/Mes documents"\n', tmp_path / "Mes documents"),
        ('# none\nXDG_MUSIC_DIR="/m"\nXDG_DOCUMENTS_DIR="/data/docs"', Path("/data/docs")),
        (r'XDG_DOCUMENTS_DIR="$HOME/\$1 \"new\""', tmp_path / '$1 "new"'),  # quoted as for a shell
        ('XDG_DOCUMENTS_DIR="$HOME/"\n', tmp_path / "Documents"),  # the desktop's way to say that there is none
        ('XDG_DOCUMENTS_DIR="docs"\n', tmp_path / "Documents"),  # no absolute path
    ):
        (tmp_path / ".config" / "user-dirs.dirs").write_text(said)
        assert folders.documents() == folder
    monkeypatch.setenv("TRACKSHADE_RESULTS", "~/here")
    assert folders.unsaved_results_dir() == tmp_path / "here"


def test_folders_of_the_application_follow_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKSHADE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert folders.home() == tmp_path / "data" / "trackshade"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # which the specification has ignored
    assert folders.home() == tmp_path / ".local" / "share" / "trackshade"
    monkeypatch.setattr("sys.platform", "darwin")
    assert folders.home() == tmp_path / "Library" / "Application Support" / "trackshade"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert folders.home() == tmp_path / "Local" / "trackshade"
    ours = (folders.environments_dir(), folders.jobs_dir(), folders.shared_dir(), folders.connection_file())
    assert {folder.parent for folder in ours} == {folders.home()}
