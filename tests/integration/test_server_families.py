# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs with further video models, from submit to result, by a real worker and tiny random checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.backends import Backend
from tests.helpers.result_shots import at, shot
from tests.helpers.tiny_families import PROMPT, write_family
from trackshade.client import Client
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError
from trackshade.results.frames import read_frame
from trackshade.shot import Shot

SIZE, COUNT = (96, 56), 9
VACE = ShadeSettings(model="wan-vace-1.3b", prompt=PROMPT, steps=1, preview_every=0)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a backend that has tiny checkpoints of two models."""
    folder = tmp_path_factory.mktemp("families")
    write_family(folder / "models" / "wan-vace-1.3b", "wan-vace")
    write_family(folder / "models" / "wan-move-14b", "wan-move")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKSHADE_MODELS", str(folder / "models"))
        with Backend(folder / "store", "--device", "cpu") as backend, backend.client() as opened:
            yield opened


def moving() -> Shot:
    """Two squares for 9 frames at 24 frames per second, of which the model sees 5 frames at its own rate."""
    far = [at(0.05 * t, 0, 0, 0.05 * t) for t in range(COUNT)]
    near = [at(0.5 - 0.1 * t, 0.2, 1.5, scale=0.4) for t in range(COUNT)]
    return shot([("Square", far), ("Small", near)], size=SIZE, fps=24.0)


def first_frame() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (7, 8, 3), np.uint8)
    return np.ascontiguousarray(blocks.repeat(8, 0).repeat(12, 1))


@pytest.mark.slow  # at the model's own size, which is what this is about
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
