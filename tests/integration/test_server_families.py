# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs with further video models, from submit to result, by a real worker and tiny random checkpoints."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.backends import Backend, children, gone
from tests.helpers.result_shots import at, shot
from tests.helpers.tiny_families import PROMPT, write_family
from trackshade.client import Client
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, ShotError
from trackshade.results.frames import read_frame
from trackshade.results.video import write_video
from trackshade.shot import Shot

SIZE, COUNT = (96, 56), 9
VACE = ShadeSettings(model="wan-vace-1.3b", prompt=PROMPT, steps=1, preview_every=0)
ANIMATE = VACE.to_dict() | {"model": "wan-animate-2-14b", "output_size": "model", "guidance": 1.0}
# Run first in the processes of the backend: the tiny checkpoint of Wan-Animate makes tiny frames.
SMALL_ANIMATE = """
from dataclasses import replace
from trackshade.config import model_table

model_table.MODELS = tuple(
    replace(spec, sizes=((48, 32),), text_length=8) if spec.name == "wan-animate-2-14b" else spec
    for spec in model_table.MODELS
)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a backend that has tiny checkpoints of three models."""
    folder = tmp_path_factory.mktemp("families")
    write_family(folder / "models" / "wan-vace-1.3b", "wan-vace")
    write_family(folder / "models" / "wan-move-14b", "wan-move")
    write_family(folder / "models" / "wan-animate-2-14b", "wan-animate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKSHADE_MODELS", str(folder / "models"))
        (folder / "sitecustomize.py").write_text(SMALL_ANIMATE)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
        with Backend(folder / "store", "--device", "cpu") as backend, backend.client() as opened:
            yield opened


def moving(count: int = COUNT) -> Shot:
    """Two squares at 24 frames per second; of 9 frames the model sees 5 at its own rate."""
    far = [at(0.05 * t, 0, 0, 0.05 * t) for t in range(count)]
    near = [at(0.5 - 0.1 * t, 0.2, 1.5, scale=0.4) for t in range(count)]
    return shot([("Square", far), ("Small", near)], size=SIZE, fps=24.0)


def first_frame(seed: int = 0) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (7, 8, 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(8, 0).repeat(12, 1))


@pytest.mark.long  # at the model's own size, which is what this is about
def test_a_models_frames_are_carried_to_every_frame_of_the_shot(client: Client, tmp_path: Path) -> None:
    clay = np.full((COUNT, 28, 48, 3), 0.3, np.float16)
    reference = np.full((40, 30, 3), (200, 40, 40), np.uint8)
    settings = ShadeSettings.from_dict(VACE.to_dict() | {"control_clip": "layout"})
    job = client.submit(moving(), settings, first_frame(), light=clay, references=[reference])
    messages = [event.message for event in client.events(job)]
    assert any(message.startswith("Drawing the layout") for message in messages)
    out = client.fetch(job, tmp_path / "out")
    record = json.loads((out / "job.json").read_text())
    assert len(list((out / "frames").iterdir())) == COUNT
    assert read_frame(out / "frames" / "0009.png").shape[:2] == (SIZE[1], SIZE[0])
    given = record["model_fit"]["inputs"]
    assert given == {"control": "layout", "source": "clay renders", "pictures": [0], "references": 1}
    assert record["model_fit"]["frame_map"]["fps"] == pytest.approx(12.0)  # 5 frames over 8/24 s
    keys = [key["frame"] for key in record["propagation"]["key_pictures"]]
    assert sorted(keys) == [1, 3, 5, 7, 9]
    assert record["model"]["spec"]["licence"] == "Apache-2.0"


def test_a_model_that_needs_a_first_frame_says_so(client: Client) -> None:
    settings = ShadeSettings(model="wan-move-14b", steps=1, preview_every=0)
    with pytest.raises(ShotError, match="needs a picture of the first frame"):
        client.wait(client.submit(moving(), settings))


def frames_of(client: Client, job: str, folder: Path) -> np.ndarray:
    client.wait(job)
    out = client.fetch(job, folder / job)
    return np.stack([read_frame(path) for path in sorted((out / "frames").iterdir())]).astype(int)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_a_process_that_shares_a_model_and_dies_ends_the_attempt(client: Client, tmp_path: Path) -> None:
    with Backend(tmp_path / "store", "--device", "cpu+cpu") as backend, backend.client() as shared:
        job = shared.submit(moving(), VACE, first_frame())
        events = iter(shared.events(job))
        next(event for event in events if event.step == 0)  # both processes have the model
        (worker,) = [found["pid"] for found in shared.status()["workers"]]
        (rank,) = children(worker)
        os.kill(rank, signal.SIGKILL)
        again = next(event for event in events if event.state == "queued")
        assert "process for cpu, which shares the model, was killed by signal 9. The job starts again." in again.message
        assert gone(rank)
        assert gone(worker)
        shared.cancel(job)


@pytest.mark.long
@pytest.mark.slow
def test_a_character_follows_footage_in_a_worker(client: Client, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    footage = [tmp_path / name for name in ("dance.mp4", "bow.mp4")]
    for path in footage:
        write_video(path, rng.integers(0, 256, (5, 10, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2), 24.0)
    shown = moving(5)
    settings = ANIMATE | {"footage": str(footage[0])}

    def submit(look: int = 0, **changes: Any) -> str:
        return client.submit(shown, ShadeSettings.from_dict(settings | changes), first_frame(look))

    jobs = [submit(), submit(), submit(footage=str(footage[1])), submit(look=1)]
    made, again, other_footage, other_look = [frames_of(client, job, tmp_path) for job in jobs]
    assert made.shape == (5, 32, 48, 3)
    assert made.std() > 1
    assert np.array_equal(made, again)
    assert not np.array_equal(made, other_footage)
    assert not np.array_equal(made, other_look)
    record = json.loads((tmp_path / jobs[0] / "job.json").read_text())
    assert record["model_fit"]["inputs"]["control"] == "footage"
    job = submit(steps=50)
    for event in client.events(job):
        if event.step == 1:
            client.cancel(job)
    with pytest.raises(CancelledError):
        client.wait(job)
