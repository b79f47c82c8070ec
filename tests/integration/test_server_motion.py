# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion jobs by a real worker, and the commands reenact and motion, with a tiny motion model of random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.backends import Backend
from tests.helpers.driving import wave, write_frames
from tests.helpers.tiny_motion import SIZE, save_tiny_motion
from trackshade.cli.app import main
from trackshade.client import Client
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ModelError, ShotError
from trackshade.driving.reading import read_driving
from trackshade.motion.bvh import read_bvh
from trackshade.motion.camera_words import parse_camera_words
from trackshade.motion.driving_shot import driving_shot
from trackshade.motion.request import DrivingRequest
from trackshade.motion.skeleton import JOINTS
from trackshade.pipelines.motion import MotionPipeline
from trackshade.shot import Shot

FPS = 8.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_motion(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A figure that waves for a second and a half, as a folder of pictures."""
    return write_frames(tmp_path_factory.mktemp("footage") / "wave", wave(37)[0])


@pytest.fixture(scope="module")
def frames(footage: Path) -> np.ndarray:
    return read_driving(footage, DrivingRequest(), SIZE, FPS).frames


def shot_of(words: str, count: int) -> Shot:
    return driving_shot(parse_camera_words(words, count), SIZE, FPS)


def test_a_job_gives_what_the_pipeline_gives(client: Client, model: Path, frames: np.ndarray, tmp_path: Path) -> None:
    settings = ShadeSettings(model=str(model), output="motion", seed=5)
    words = "circles to the left by 40 degrees"
    job = client.submit(shot_of(words, len(frames)), settings, frames[0], frames)
    events = list(client.events(job))
    assert "Reading the motion" in {event.message for event in events}
    assert {(event.step, event.steps) for event in events if event.message == "Moving the figure" and event.steps} == {
        (n, 4)
        for n in range(1, 5)  # two windows of two steps
    }
    out = client.fetch(job, tmp_path / "out")
    pipeline = MotionPipeline.from_pretrained(model)
    tokens = pipeline.encode_motion(frames.astype(np.float32) / 255)
    angles = parse_camera_words(words, len(frames))
    wanted = pipeline(frames[0], tokens, angles.azimuths, angles.elevations, 5)
    made = np.stack([np.asarray(Image.open(path)) for path in sorted((out / "frames").iterdir())])
    assert np.abs(made.astype(int) - wanted).max() <= 1
    motion = read_bvh(out / "motion.bvh")
    order = [motion.names.index(name) for name in JOINTS]
    np.testing.assert_allclose(motion.rotations[:, order], pipeline.joint_rotations(tokens), atol=1e-4)
    record = json.loads((out / "job.json").read_text())
    assert record["model"]["digests"].keys() == {str(model)}
    assert record["shot"]["camera"]["sources"] == ["Camera"] * len(frames)
    assert {*record["files"]} == {path.name for path in out.iterdir()}
    with av.open(str(out / "video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == len(frames)


def test_sides_of_the_figure_count_from_its_front(
    client: Client, model: Path, frames: np.ndarray, tmp_path: Path
) -> None:
    settings = ShadeSettings(model=str(model), output="motion", azimuths_from="front")
    job = client.submit(shot_of("from behind", 8), settings, frames[0], frames[:8])
    client.wait(job)
    made = np.asarray(Image.open(client.fetch(job, tmp_path / "out") / "frames" / "0003.png"))
    pipeline = MotionPipeline.from_pretrained(model)
    tokens = pipeline.encode_motion(frames[:8].astype(np.float32) / 255)
    azimuths = np.full(8, 180.0) - pipeline.facing(frames[0])
    wanted = pipeline(frames[0], tokens, azimuths, np.full(8, 10.0))[2]
    assert np.abs(made.astype(int) - wanted).max() <= 1


def test_without_a_reference_the_motion_alone_is_read(
    client: Client, model: Path, frames: np.ndarray, tmp_path: Path
) -> None:
    settings = ShadeSettings(model=str(model), output="motion")
    job = client.submit(shot_of("static", len(frames)), settings, None, frames)
    client.wait(job)
    out = client.fetch(job, tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {"motion.bvh", "driving.mp4", "sheet.png", "job.json"}
    assert not json.loads((out / "job.json").read_text())["motion"]["has_frames"]


def test_hands_are_read_from_their_crops(client: Client, model: Path, frames: np.ndarray, tmp_path: Path) -> None:
    settings, count = ShadeSettings(model=str(model), output="motion"), len(frames)
    hands = np.random.default_rng(1).integers(1, 255, (count, 2, 24, 24, 3), np.uint8)
    hands[:, 1] = 0
    job = client.submit(shot_of("static", count), settings, None, frames, hands=hands)
    client.wait(job)
    out = client.fetch(job, tmp_path / "out")
    pipeline = MotionPipeline.from_pretrained(model)
    given = frames.astype(np.float32) / 255, hands.astype(np.float32) / 255, np.tile([True, False], (count, 1))
    motion = read_bvh(out / "motion.bvh")
    order = [motion.names.index(name) for name in JOINTS]
    wanted = pipeline.joint_rotations(pipeline.encode_motion(*given))
    np.testing.assert_allclose(motion.rotations[:, order], wanted, atol=1e-4)
    assert np.abs(wanted - pipeline.joint_rotations(pipeline.encode_motion(given[0]))).max() > 0.01
    assert json.loads((out / "job.json").read_text())["motion"]["hands"] == 0.5
    plain = client.submit(shot_of("static", count), settings, None, frames)
    client.wait(plain)
    plain_out = client.fetch(plain, tmp_path / "plain")
    assert json.loads((plain_out / "job.json").read_text())["motion"]["hands"] == 0
    heights = [Image.open(folder / "sheet.png").height for folder in (out, plain_out)]
    assert heights[0] > heights[1]  # a row more
    with pytest.raises(ShotError, match="crops of hands"):
        client.wait(client.submit(shot_of("static", count), settings, None, frames, hands=hands[:3]))


def test_what_a_motion_job_lacks_is_said(client: Client, model: Path, frames: np.ndarray, tmp_path: Path) -> None:
    settings, shot = ShadeSettings(model=str(model), output="motion"), shot_of("static", len(frames))
    for bad, render in ((shot, None), (shot, frames[:3]), (replace(shot, objects=()), frames)):
        with pytest.raises(ShotError) as caught:
            client.wait(client.submit(bad, settings, None, render))
        assert caught.value.code == "no-driving-frames"
    with pytest.raises(ModelError, match="no motion model named"):
        client.submit(shot, replace(settings, model="mini"), None, frames)
    small = driving_shot(parse_camera_words("static", 8), (24, 32), FPS)
    with pytest.raises(ModelError, match="takes pictures of 48 × 64"):
        client.wait(client.submit(small, settings, None, np.zeros((8, 32, 24, 3), np.uint8)))


def test_a_motion_job_is_cancelled(client: Client, model: Path, frames: np.ndarray) -> None:
    many = np.tile(frames, (40, 1, 1, 1))
    settings = ShadeSettings(model=str(model), output="motion", steps=1000)
    job = client.submit(shot_of("static", len(many)), settings, frames[0], many)
    states = []
    for event in client.events(job):
        states.append(event.state)
        if event.steps:
            client.cancel(job)
    assert states[-1] == "cancelled"


def run(capsys: pytest.CaptureFixture[str], backend: Backend, *arguments: object) -> tuple[int, dict]:
    """Run a command; return its exit code, and its result or error."""
    code = main([*map(str, arguments), "--json", "--endpoint", backend.info.endpoint])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def known(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The backend, whose token commands know."""
    monkeypatch.setenv("TRACKSHADE_TOKEN", backend.info.token)
    return backend


def test_the_command_reenact_makes_a_result(
    known: Backend, model: Path, footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reenact", footage, "--model", model, "--out", tmp_path / "out", "--rate", 24]
    assert run(capsys, known, *command)[1]["error"]["code"] == "no-reference"
    command += ["--reference", footage / "frame 9.png", "--camera", "from behind, rises"]
    code, result = run(capsys, known, *command, "--armature", tmp_path / "a.bvh", "--start", 0.5)
    assert code == 0
    assert len(list((tmp_path / "out" / "frames").iterdir())) == 9
    assert (tmp_path / "a.bvh").read_text() == (tmp_path / "out" / "motion.bvh").read_text()
    record = json.loads((tmp_path / "out" / "job.json").read_text())
    assert record["shot"]["source"]["driving"]["start"] == pytest.approx(0.5)
    assert result["model"] == str(model)
    for words, name in ((["--camera", "zooms"], "unknown-camera-words"), (["--person", 3], "no-such-person")):
        code, result = run(capsys, known, *command, "--force", *words)
        assert code in (2, 3)
        assert result["error"]["code"] == name


def test_modes_need_no_reference(
    known: Backend, model: Path, footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = ["reenact", footage, "--model", model, "--out", tmp_path / "view", "--mode", "novel-view", "--frames", 5]
    assert run(capsys, known, *view, "--camera", "circles to the left")[0] == 0
    assert len(list((tmp_path / "view" / "frames").iterdir())) == 5
    motion = read_bvh(tmp_path / "view" / "motion.bvh")
    np.testing.assert_allclose(motion.rotations, motion.rotations[:1].repeat(5, axis=0), atol=1e-5)
    still = ["reenact", footage, "--model", model, "--out", tmp_path / "still", "--mode", "stabilise"]
    assert run(capsys, known, *still)[0] == 0


def test_the_command_motion_writes_rotations(
    known: Backend, model: Path, footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["motion", footage, "--model", model, "--out", tmp_path / "wave.bvh"]
    assert run(capsys, known, *command, "--fps", 24)[0] == 0
    motion = read_bvh(tmp_path / "wave.bvh")
    assert (len(motion.rotations), motion.fps) == (37, pytest.approx(24, rel=1e-4))
    assert run(capsys, known, *command)[1]["error"]["code"] == "output-exists"
