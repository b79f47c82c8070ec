# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs with an image model, by a real worker and a tiny random checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.result_shots import at, shot
from tests.helpers.tiny_image_models import write_image_model
from trackshade.client import Client
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ModelError
from trackshade.results.frames import read_frame
from trackshade.shot import Shot

SIZE, COUNT = (96, 64), 3


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ShadeSettings:
    folder = write_image_model(tmp_path_factory.mktemp("models") / "tiny", "sd15")
    return ShadeSettings(image_model=f"sd15:{folder}", prompt="a red robot", steps=1, key_pictures="first-frame")


def moving() -> Shot:
    return shot([("Square", [at(0.1 * t, 0, 0) for t in range(COUNT)])], size=SIZE)


@pytest.mark.long
def test_stills_to_choose_a_look_from(client: Client, settings: ShadeSettings, tmp_path: Path) -> None:
    job = client.submit(moving(), replace(settings, output="stills", stills=2, seed=3))
    messages = [event.message for event in client.events(job)]
    assert "Look 1 of 2" in messages
    assert "Look 2 of 2" in messages
    out = client.fetch(job, tmp_path / "out")
    record = json.loads((out / "job.json").read_text())
    assert [entry["seed"] for entry in record["stills"]] == [3, 4]
    stills = [np.asarray(Image.open(out / entry["path"])) for entry in record["stills"]]
    assert all(still.shape == (SIZE[1], SIZE[0], 3) for still in stills)
    assert not np.array_equal(stills[0], stills[1])
    assert (out / "sheet.png").is_file()


@pytest.mark.long
def test_an_image_model_paints_the_first_frame_of_a_job(
    client: Client, settings: ShadeSettings, tmp_path: Path
) -> None:
    still = client.submit(moving(), replace(settings, output="stills", stills=1))
    client.wait(still)
    wanted = np.asarray(Image.open(client.fetch(still, tmp_path / "still") / "stills" / "0001.png"))
    job = client.submit(moving(), settings)
    client.wait(job)
    out = client.fetch(job, tmp_path / "out")
    assert np.array_equal(np.asarray(Image.open(out / "first_frame.png")), wanted)
    assert len(list((out / "frames").iterdir())) == COUNT
    assert np.abs(read_frame(out / "frames" / "0001.png")[..., :3].astype(int) - wanted).mean() < 8


@pytest.mark.long
def test_a_given_first_frame_is_what_the_image_model_starts_from(
    client: Client, settings: ShadeSettings, tmp_path: Path
) -> None:
    given = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    outs = []
    for name, first in (("one", given), ("other", 255 - given)):
        job = client.submit(moving(), replace(settings, strength=1.0, steps=2), first)
        client.wait(job)
        outs.append(np.asarray(Image.open(client.fetch(job, tmp_path / name) / "first_frame.png")))
    assert not np.array_equal(outs[0], given)
    assert not np.array_equal(outs[0], outs[1])


@pytest.mark.long
def test_an_image_model_paints_what_no_key_picture_shows(
    client: Client, settings: ShadeSettings, tmp_path: Path
) -> None:
    first = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    wanted = replace(settings, output="key", key_frames=(3.0,), light="none", strength=1.0, steps=2)
    plain, painted = (
        client.fetch(finished(client, made, first), tmp_path / str(number)) / "keys"
        for number, made in enumerate((replace(wanted, image_model=""), wanted))
    )
    unseen = np.asarray(Image.open(painted / "3-unseen.png")) > 127
    assert 0 < unseen.sum() < unseen.size / 2
    before, after = (np.asarray(Image.open(folder / "3.png")).astype(int) for folder in (plain, painted))
    assert np.array_equal(before[~unseen], after[~unseen])
    assert np.abs(before - after)[unseen].mean() > 5


def finished(client: Client, settings: ShadeSettings, first: np.ndarray) -> str:
    job = client.submit(moving(), settings, first)
    client.wait(job)
    return job


def test_a_missing_image_model_is_named(client: Client) -> None:
    with pytest.raises(ModelError, match="not on this machine"):
        client.wait(client.submit(moving(), ShadeSettings(image_model="sdxl:/nowhere/at/all", output="stills")))
