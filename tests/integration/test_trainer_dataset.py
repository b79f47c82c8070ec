# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataset folders: what is written is read back, tracks exactly; and clips of every source."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import result_shots
from tests.helpers.small_demo import write_small_demo
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.control.video import tracking_video
from trackshade.core.errors import OutputError, ShotError, TrackshadeError, UsageError
from trackshade.results import write_result
from trackshade.results.video import write_video
from trackshade.shot.fitting import plan_fit
from trackshade_lab.clip_sources import ControlOptions
from trackshade_lab.make_dataset import dataset
from trackshade_lab.scenes import generate_shards, load_shards
from trackshade_lab.video_dataset import LISTS, DatasetWriter, read_dataset, read_video

SHOT = result_shots.shot([("Square", [result_shots.at(0.1 * t, 0, 0, 0.3 * t) for t in range(4)])], scene="Blue_square")


def write_pictures(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir()
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / f"{number:04d}.png")


def make(out: Path, *sources: Path, **changes) -> dict:
    values = {"prompt": None, "control": ControlOptions(), "clips": None, "scene_options": {}, "blender": None}
    return dataset(out, sources, **(values | changes), on_message=lambda message: None)


@pytest.fixture
def shot(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A shot file and a render beside it."""
    path = tmp_path / "spin.shot"
    SHOT.save(path)
    video = result_shots.paint(SHOT, {0: result_shots.texture()}).frames
    write_pictures(tmp_path / "spin.render", video)
    return path, video


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 4), width=st.integers(2, 20), height=st.integers(2, 20))
def test_tracking_videos_are_exact(seed: int, frames: int, width: int, height: int, tmp_path_factory):
    """Any colors, not only smooth ones, and any size."""
    path = tmp_path_factory.mktemp("exact") / "a.mp4"
    video = np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)
    write_video(path, video, 8.0, lossless=True)
    np.testing.assert_array_equal(read_video(path), video)


def test_a_shot_and_its_render_become_a_clip(shot, tmp_path: Path):
    path, video = shot
    made = make(tmp_path / "data", path)
    assert (made["clips"], made["added"]) == (1, 1)
    (entry,) = read_dataset(tmp_path / "data")
    assert entry.prompt == "Blue square"
    np.testing.assert_array_equal(read_video(entry.tracking), tracking_video(SHOT).frames)
    assert np.abs(read_video(entry.video).astype(int) - video).mean() < 4
    lines = {name: (tmp_path / "data" / name).read_text().splitlines() for name in LISTS}
    assert lines["videos.txt"][0].startswith("videos/spin-")
    assert lines["trackings.txt"][0].startswith("tracking/spin-")
    with av.open(str(entry.video)) as file:
        assert float(file.streams.video[0].average_rate or 0) == 8.0


def test_duplicates_are_skipped_and_new_clips_added(shot, tmp_path: Path):
    path, _ = shot
    make(tmp_path / "data", path)
    again = make(tmp_path / "data", path)
    assert (again["clips"], again["added"], len(again["warnings"])) == (1, 0, 1)
    (tmp_path / "spin.txt").write_text("a square\nthat turns\n")
    make(tmp_path / "data", path, control=ControlOptions("points", 100))
    first, second = read_dataset(tmp_path / "data")
    assert (first.prompt, second.prompt) == ("Blue square", "a square that turns")
    assert not np.array_equal(read_video(first.tracking), read_video(second.tracking))


def test_results_give_their_input_render(tmp_path: Path):
    video = result_shots.paint(SHOT, {0: result_shots.texture()}).frames
    tracking = tracking_video(SHOT)
    values = {
        "frames": np.full_like(video, 7), "tracking": tracking, "shot": SHOT, "spec": spec("mini"),
        "settings": ShadeSettings(prompt="a turning square"), "first_frame": None, "timings": {}, "warnings": [],
        "model_digests": {},
    }  # fmt: skip
    write_result(tmp_path / "plain", **values, input_render=None)
    write_result(tmp_path / "compared", **values, input_render=video)
    with pytest.raises(ShotError, match="no input render"):
        make(tmp_path / "data", tmp_path / "plain")
    make(tmp_path / "data", tmp_path / "compared")
    (entry,) = read_dataset(tmp_path / "data")
    assert entry.prompt == "a turning square"
    np.testing.assert_array_equal(read_video(entry.tracking), tracking.frames)
    assert np.abs(read_video(entry.video).astype(int) - video).mean() < 4


def test_results_at_their_own_size_give_the_frames_that_the_model_saw(tmp_path: Path):
    matrices = [result_shots.at(0.02 * t, 0, 0) for t in range(33)]
    shot = result_shots.shot([("Square", matrices)], size=(192, 128))
    video, fit = result_shots.paint(shot, {0: result_shots.texture()}).frames, plan_fit(shot, spec("mini"))
    tracking = tracking_video(fit.apply(shot))
    values = {
        "frames": video, "tracking": tracking, "shot": shot, "spec": spec("mini"), "settings": ShadeSettings(),
        "first_frame": None, "timings": {}, "warnings": [], "model_digests": {}, "propagation": {},
    }  # fmt: skip
    write_result(tmp_path / "own", **values, input_render=video)
    make(tmp_path / "data", tmp_path / "own")
    (entry,) = read_dataset(tmp_path / "data")
    np.testing.assert_array_equal(read_video(entry.tracking), tracking.frames)
    wanted = np.stack([fit.fit_image(image) for image in video[::2]])
    assert np.abs(read_video(entry.video).astype(int) - wanted).mean() < 4
    between = matrices[:20]
    odd = result_shots.shot([("Square", between)], size=(192, 128))
    more = {"shot": odd, "tracking": tracking_video(plan_fit(odd, spec("mini")).apply(odd)), "frames": video[:20]}
    write_result(tmp_path / "odd", **values | more, input_render=video[:20])
    with pytest.raises(ShotError, match="lie between"):
        make(tmp_path / "data", tmp_path / "odd")


def test_shards(tmp_path: Path):
    generate_shards(tmp_path / "shards", 3, size=(32, 24), num_frames=2)
    make(tmp_path / "data", tmp_path / "shards", clips=2)
    shards, entries = load_shards(tmp_path / "shards"), read_dataset(tmp_path / "data")
    assert [entry.prompt for entry in entries] == list(shards.captions[:2])
    np.testing.assert_array_equal(read_video(entries[1].tracking), shards[1][1])


def test_unusable_sources_raise_errors(shot, tmp_path: Path):
    path, video = shot
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    for sources, out, kind, words in (
        ([], "data", UsageError, "No source"),
        ([tmp_path / "nowhere.blend"], "data", UsageError, "There is no"),
        ([tmp_path / "other"], "data", UsageError, "neither a result nor"),
        ([path], "other", OutputError, "something else than a dataset"),
    ):
        with pytest.raises(kind, match=words):
            make(tmp_path / out, *sources)
    Image.fromarray(video[0]).save(tmp_path / "spin.render" / "0005.png")
    with pytest.raises(ShotError, match="5 frames"):
        make(tmp_path / "data", path)
    assert sorted(item.name for item in (tmp_path / "other").iterdir()) == ["notes.txt"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: (data / "videos.txt").unlink(), "videos.txt cannot be read"),
        (lambda data: (data / "prompt.txt").write_text("a\nb\n"), "different lengths"),
        (lambda data: [path.unlink() for path in (data / "videos").iterdir()], "listed but missing"),
        (lambda data: [(data / name).write_text("") for name in LISTS], "lists no clips"),
    ],
)
def test_damaged_datasets_raise_errors(change, words: str, tmp_path: Path):
    video = np.zeros((2, 16, 16, 3), np.uint8)
    DatasetWriter(tmp_path / "data").add("a", "a box", video, video, 8.0)
    change(tmp_path / "data")
    with pytest.raises(UsageError, match=words):
        read_dataset(tmp_path / "data")


def test_unreadable_videos_raise_errors(tmp_path: Path):
    (tmp_path / "a.mp4").write_bytes(b"words")
    with pytest.raises(UsageError, match="cannot be read as a video"):
        read_video(tmp_path / "a.mp4")


def test_a_scene_is_rendered_into_a_clip(tmp_path: Path):
    pytest.importorskip("bpy", reason="renders the scene")
    scene = write_small_demo(tmp_path / "demo.blend")
    try:
        made = make(tmp_path / "data", scene, prompt="balls", scene_options={"model": "mini"})
    except TrackshadeError as error:
        pytest.fail(str(error))
    assert made["added"] == 1
    (entry,) = read_dataset(tmp_path / "data")
    video, tracking = read_video(entry.video), read_video(entry.tracking)
    mini = spec("mini")
    assert video.shape == tracking.shape == (mini.allowed_frame_counts[0], mini.sizes[0][1], mini.sizes[0][0], 3)
    assert video.std() > 8
    assert tracking.any()
    # In the first frame a track's color is its place.
    rows, columns = np.nonzero(tracking[0].any(axis=-1))
    place = np.stack([(columns + 0.5) / video.shape[2], (rows + 0.5) / video.shape[1]], axis=1)
    np.testing.assert_allclose(tracking[0][rows, columns, :2], 255 * place, atol=0.51)
    assert json.dumps(made)
