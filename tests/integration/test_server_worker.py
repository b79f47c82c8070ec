# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs shaded by a real worker on the embedded model, and workers and brokers that die."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.backends import Backend, gone, grid_shot, limited_file_size, until
from tests.helpers.result_shots import at, shot
from trackshade.client import Client, JobEvent
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.control import tracking_video
from trackshade.core.errors import CancelledError, JobError, ShotError
from trackshade.core.fitting import fit_size
from trackshade.shot import Geometry, Shot
from trackshade.shot.input_image import fit_image, input_image_from_array

MINI = spec("mini")
COUNT, SIZE = MINI.allowed_frame_counts[0], MINI.sizes[0]
model_settings = partial(ShadeSettings, output_size="model")  # the frames are those of the model
IMAGE = np.zeros((*SIZE[::-1], 3), np.uint8)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Backend]:
    """A backend of this test's own, for workers that die before they load anything."""
    with Backend(tmp_path / "store", "--device", "cpu", "--cancel-grace", "0.2") as started:
        yield started


def square(count: int = COUNT) -> Shot:
    """A square that moves and turns, as the embedded model takes it."""
    return shot([("Square", [at(0.05 * t, 0, 0, 0.1 * t) for t in range(count)])], size=SIZE)


def worker(client: Client) -> int:
    """The worker's pid, once it has announced itself."""

    def ready() -> int | None:
        found = client.status()["workers"][0]
        return found["pid"] if found["ready"] else None

    return int(until(ready))


def partials(backend: Backend) -> list[Path]:
    return list((backend.store / "results").glob(".partial-*"))


def states(events: list[JobEvent]) -> list[str]:
    """The states in the order in which they came, each once in a row."""
    return [
        e.state for e, before in zip(events, [None, *events], strict=False) if not before or e.state != before.state
    ]


# what a job does


def test_a_job_from_submit_to_result(backend: Backend, client: Client, tmp_path: Path) -> None:
    client.warm("mini")
    rng = np.random.default_rng(0)
    first, render = (rng.integers(0, 256, (*many, *SIZE[::-1], 3), np.uint8) for many in ((), (COUNT,)))
    settings = model_settings(prompt="a square", steps=4, seed=7, preview_every=2)
    job = client.submit(square(), settings, first, render)
    events = list(client.events(job))
    assert states(events) == ["queued", "loading", "running", "decoding", "done"]
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert [e.step for e in events if e.state == "running"] == [0, 1, 2, 3, 4]
    previews = [e.preview for e in events if e.preview]
    assert [Image.open(io.BytesIO(data)).size for data in previews] == [SIZE]
    out = client.fetch(job, tmp_path / "out")
    assert len(list((out / "frames").glob("*.png"))) == COUNT
    np.testing.assert_array_equal(np.asarray(Image.open(out / "first_frame.png")), first)
    record = json.loads((out / "job.json").read_text())
    assert record["seed"] == 7
    assert record["settings"] == settings.to_dict()
    assert events[-1].summary == record
    assert set(record["timings"]) == {"read", "control", "load", "shade"}
    assert not partials(backend)


@pytest.mark.long
def test_a_first_frame_from_the_prompt_is_a_named_stage_of_the_job(client: Client) -> None:
    job = client.submit(square(), model_settings(prompt="a red square", steps=4, preview_every=3))
    running = [e for e in client.events(job) if e.state == "running"]
    assert [(e.step, e.steps) for e in running] == [(step, 8) for step in range(9)]
    assert [e.message for e in running] == [
        "First frame from the prompt",
        *(f"First frame from the prompt, step {step} of 4" for step in range(1, 5)),
        *[""] * 4,
    ]
    previews = [e.step for e in running if e.preview]
    assert previews == [3, 6]


def test_a_tracking_video_needs_no_model(client: Client, tmp_path: Path) -> None:
    """It is the video that the model would be given, with what else is known of its pixels."""
    shot = square()
    job = client.submit(shot, model_settings(output="tracking"))
    events = list(client.events(job))
    assert states(events) == ["queued", "loading", "decoding", "done"]
    assert not [e.message for e in events if "PyTorch" in e.message]
    out = client.fetch(job, tmp_path / "out")
    video = tracking_video(shot)
    for folder in ("frames", "tracking"):
        pictures = [np.asarray(Image.open(path)) for path in sorted((out / folder).glob("*.png"))]
        np.testing.assert_array_equal(pictures, video.frames)
    np.testing.assert_array_equal(np.load(out / "depth.npy"), video.depth)
    np.testing.assert_array_equal(np.load(out / "object_index.npy"), video.object_index)
    record = json.loads((out / "job.json").read_text())
    assert {*record["files"]} >= {"depth.npy", "object_index.npy", "video.mp4"}
    assert set(record["timings"]) == {"read", "control"}
    assert record["model"]["digests"] == {}


@pytest.mark.long
def test_the_same_job_again_is_the_same_picture(client: Client, tmp_path: Path) -> None:
    settings = model_settings(steps=2, seed=3)
    pid, pictures = worker(client), []
    for name in ("one", "two"):
        job = client.submit(square(), settings)
        client.wait(job)
        pictures.append((client.fetch(job, tmp_path / name) / "frames" / f"{COUNT:04}.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert worker(client) == pid  # and the model stayed where it was


@pytest.mark.parametrize("image", [None, IMAGE], ids=["first frame", "video"])
def test_a_running_job_is_cancelled_between_steps(backend: Backend, client: Client, image: np.ndarray | None) -> None:
    pid = worker(client)
    job = client.submit(square(), model_settings(steps=1000), image)
    stream = client.events(job)
    first = next(e for e in stream if e.step)
    assert (first.steps, "First frame" in first.message) == ((2000, True) if image is None else (1000, False))
    client.cancel(job)
    after = list(stream)
    assert after[-1].state == "cancelled"
    assert len(after) < 100
    assert worker(client) == pid
    assert not partials(backend)
    with pytest.raises(CancelledError):
        client.fetch(job, Path("/nowhere/out"))


def test_a_job_cancelled_while_it_is_decoded_leaves_all_or_nothing(backend: Backend, client: Client) -> None:
    job = client.submit(square(), model_settings(steps=1))
    stream = client.events(job)
    next(e for e in stream if e.state == "decoding")
    client.cancel(job)
    last = list(stream)[-1]
    assert last.state in ("cancelled", "done")
    assert (backend.store / "results" / job).exists() == (last.state == "done")
    assert not partials(backend)


def test_jobs_wait_their_turn(client: Client) -> None:
    running = client.submit(square(), model_settings(steps=1000))
    next(e for e in client.events(running) if e.step)
    waiting = client.submit(square(), model_settings(steps=1))
    assert [e.state for e in client.events(waiting, timeout=0.1)] == ["queued"]
    client.cancel(running)
    assert client.wait(waiting).state == "done"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: broken(), ["'Square'", "frame 3"]),
        (lambda: shot([("Far", [at(100, 0, 0)] * COUNT)], size=SIZE), ["sees no mesh"]),
    ],
)
def test_a_shot_that_cannot_be_shaded_says_why(client: Client, made, words: list[str]) -> None:
    with pytest.raises(ShotError) as caught:
        client.wait(client.submit(made(), model_settings(steps=1)))
    assert all(word in caught.value.message for word in words)


@pytest.mark.parametrize(("count", "size"), [(5, (64, 64)), (40, (320, 180)), (1, (48, 96))])
def test_a_shot_of_any_length_and_size_is_fitted(client: Client, tmp_path: Path, count: int, size: Any) -> None:
    made = shot([("Square", [at(0.02 * t, 0, 0) for t in range(count)])], size=size)
    rng = np.random.default_rng(0)
    first, render = (rng.integers(0, 256, (*many, *size[::-1], 3), np.uint8) for many in ((), (count,)))
    job = client.submit(made, model_settings(steps=1, output="tracking"), first, render)
    client.wait(job)
    out = client.fetch(job, tmp_path / "out")
    fitted = Shot.load(out / "tracks.shot")
    assert (len(fitted.frame_numbers), fitted.size) == (COUNT, SIZE)
    record = json.loads((out / "job.json").read_text())
    assert record["shot"]["frame_map"]["frames"] == fitted.frame_numbers.tolist()
    assert record["shot"]["size_fit"] == fit_size(size, (1.0, 1.0), (SIZE,)).to_dict()
    for name in ("frames", "tracking", "input"):
        assert [Image.open(path).size for path in sorted((out / name).iterdir())] == [SIZE] * COUNT


def test_tracks_of_every_frame_at_the_size_of_the_shot(client: Client, tmp_path: Path) -> None:
    made = shot([("Square", [at(0.02 * t, 0, 0) for t in range(5)])], size=(64, 48))
    job = client.submit(made, ShadeSettings(output="tracking", output_size="full"))
    client.wait(job)
    out = client.fetch(job, tmp_path / "out")
    for name in ("frames", "tracking"):
        assert [Image.open(path).size for path in sorted((out / name).iterdir())] == [(64, 48)] * 5
    assert np.load(out / "depth.npy").shape == (5, 48, 64)


def test_an_image_of_another_size_than_the_shot_is_refused(client: Client) -> None:
    made = shot([("Square", [at(0, 0, 0)] * 3)], size=(64, 48))
    with pytest.raises(ShotError, match="input render"):
        client.wait(client.submit(made, model_settings(), None, np.zeros((3, 96, 144, 3), np.uint8)))


def broken() -> Shot:
    """A square with a vertex that is nowhere in the third frame."""
    good = square()
    positions = np.repeat(good.geometries[0].positions, COUNT, 0)
    positions[2, 5, 1] = np.nan
    geometry = Geometry(positions, good.geometries[0].triangles)
    return Shot(good.frame_numbers, good.fps, good.size, good.camera, (geometry,), good.meshes)


def test_a_first_frame_of_another_size_is_fitted_and_the_record_says_how(client: Client, tmp_path: Path) -> None:
    fit = fit_size((192, 108), (1.0, 1.0), (SIZE,), "pad")
    shot = dataclasses.replace(square(), source={"size_fit": fit.to_dict()})
    given = np.random.default_rng(1).integers(0, 256, (108, 192, 3), np.uint8)
    job = client.submit(shot, model_settings(steps=1, output="tracking"), given)
    client.wait(job)
    out = client.fetch(job, tmp_path / "out")
    record = json.loads((out / "job.json").read_text())
    said = record["shot"]["source"]["first_frame"]["statement"]
    assert said == f"The picture (192×108) shows the scene's frame and was padded to {SIZE[0]}×{SIZE[1]}."
    wanted = fit_image(input_image_from_array(given), SIZE, fit).pixels
    np.testing.assert_array_equal(np.asarray(Image.open(out / "first_frame.png")), wanted)


def test_out_of_memory_is_told_and_survived(client: Client) -> None:
    pid = worker(client)
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (size + (8 << 20), before[1]))
    try:
        with pytest.raises(JobError) as caught:
            client.wait(client.submit(grid_shot(side=700, count=COUNT, size=SIZE), model_settings(steps=1)))
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, before)
    assert caught.value.code == "out-of-memory"
    assert caught.value.fix
    assert client.wait(client.submit(square(), model_settings(steps=1))).state == "done"
    assert worker(client) == pid


def test_a_result_that_does_not_fit_on_the_disk_fails_the_job(backend: Backend, client: Client) -> None:
    pid = worker(client)
    with limited_file_size(pid, 2000):
        job = client.submit(square(), model_settings(steps=1))
        last = list(client.events(job))[-1]
    assert last.error is not None
    assert last.error.code == "output-full"
    assert not (backend.store / "results" / job).exists()
    assert not partials(backend)


@pytest.mark.long
def test_events_outlast_a_full_disk(backend: Backend, client: Client) -> None:
    job = client.submit(square(), model_settings(steps=4), IMAGE)
    stream = client.events(job)
    events = [next(e for e in stream if e.state == "running")]
    with limited_file_size(backend.pid, 1000):
        until(lambda: (backend.store / "results" / job).exists())
    events += list(stream)
    assert [e.step for e in events if e.state == "running"] == list(range(5))
    assert events[-1].state == "done"
    assert [e.seq for e in events] == list(range(events[0].seq, events[-1].seq + 1))


def test_a_broker_killed_in_the_middle_loses_nothing(backend: Backend, client: Client, tmp_path: Path) -> None:
    job = client.submit(square(), model_settings(steps=6, seed=5))
    stream = client.events(job)
    events = [next(stream)]
    while not events[-1].step:
        events.append(next(stream))
    pid = worker(client)
    backend.kill()
    until(lambda: gone(pid))
    backend.start()
    events += list(stream)
    assert states(events) == ["queued", "loading", "running", "queued", "loading", "running", "decoding", "done"]
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert (client.fetch(job, tmp_path / "out") / "job.json").exists()


def test_freeing_ends_the_worker(client: Client) -> None:
    pid = worker(client)
    assert client.free() == 0
    until(lambda: gone(pid))
    assert client.status()["workers"][0]["pid"] is None


# workers that die


def test_a_job_whose_worker_died_is_tried_once_more(fresh: Backend) -> None:
    (fresh.store / "logs").mkdir(exist_ok=True)
    (fresh.store / "logs" / "worker-0.log").write_text("an older failure\n")
    with fresh.client() as client:
        job = client.submit(square(), model_settings())
        stream = client.events(job)
        for _ in range(2):
            next(e for e in stream if e.state == "loading" and e.message)
            os.kill(worker(client), signal.SIGKILL)
        last = list(stream)[-1]
        assert states(list(client.events(job))) == ["queued", "loading", "queued", "loading", "failed"]
        assert last.error is not None
        assert last.error.code == "worker-died"
        assert last.error.message.endswith("was killed by signal 9.")


def test_a_worker_that_does_not_answer_a_cancel_is_ended(fresh: Backend) -> None:
    with fresh.client() as client:
        job = client.submit(square(), model_settings())
        stream = client.events(job)
        next(e for e in stream if e.state == "loading" and e.message)
        pid = worker(client)
        os.kill(pid, signal.SIGSTOP)
        client.cancel(job)
        assert list(stream)[-1].state == "cancelled"
        assert gone(pid)


def test_no_worker_outlives_its_broker(fresh: Backend) -> None:
    with fresh.client() as client:
        client.submit(square(), model_settings())
        pid = worker(client)
        os.kill(pid, signal.SIGSTOP)  # not even one that never looks
        fresh.kill()
        until(lambda: gone(pid))


def test_workers_that_never_come_up_fail_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "import sys\nif 'trackshade.server.worker' in sys.orig_argv: raise SystemExit('no such library')\n"
    (tmp_path / "sitecustomize.py").write_text(broken)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with Backend(tmp_path / "store", "--device", "cpu") as backend, backend.client() as client:
        with pytest.raises(JobError) as caught:
            client.wait(client.submit(square(), model_settings()))
        assert caught.value.code == "worker-died"
        assert "no such library" in caught.value.message
        assert client.status()["pid"] == backend.pid
