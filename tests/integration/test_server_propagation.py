# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs whose key pictures are carried to every frame of a shot, by a real worker."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.backends import Backend, until
from tests.helpers.result_shots import at, paint, shot, texture
from trackshade.client import Client
from trackshade.config.settings import ShadeSettings
from trackshade.core.colors import srgb_to_linear
from trackshade.core.errors import ShotError
from trackshade.core.images import psnr
from trackshade.results.frames import read_frame
from trackshade.shot import Shot

SIZE, COUNT = (160, 90), 9
FIRST_FRAME = ShadeSettings(key_pictures="first-frame", preview_every=4)


def moving(count: int = COUNT, size: tuple[int, int] = SIZE) -> Shot:
    """A square that moves and turns, in front of nothing."""
    return shot([("Square", [at(0.1 * t - 0.4, 0, 0, 0.05 * t) for t in range(count)])], size=size)


def truth(made: Shot) -> np.ndarray:
    """[T, H, W, 3] a video that is known to follow the square."""
    return paint(made, {0: texture()}).frames


def worker(client: Client) -> int:
    def ready() -> int | None:
        found = client.status()["workers"][0]
        return found["pid"] if found["ready"] else None

    return int(until(ready))


def run(client: Client, out: Path, *given: Any, **named: Any) -> dict[str, Any]:
    job = client.submit(*given, **named)
    client.wait(job)
    client.fetch(job, out)
    return json.loads((out / "job.json").read_text())


def frames(out: Path) -> np.ndarray:
    return np.stack([read_frame(path) for path in sorted((out / "frames").iterdir())])


def test_a_given_first_frame_becomes_every_frame_without_a_model(client: Client, tmp_path: Path) -> None:
    client.free()  # the next worker has no torch yet
    made = moving()
    video = truth(made)
    job = client.submit(made, dataclasses.replace(FIRST_FRAME, cache=0.1, footage="nowhere.mp4"), video[0])
    events = list(client.events(job))
    assert [e.message for e in events if e.step] == [f"Propagating, frame {n} of {COUNT}" for n in range(1, COUNT + 1)]
    assert [e.step for e in events if e.preview] == [4, 8]
    out = client.fetch(job, tmp_path / "out")
    found = frames(out)
    assert found.shape == video.shape
    surface = paint(made, {0: texture()}).object_index >= 0
    assert psnr(video, found, surface) > 30
    record = json.loads((out / "job.json").read_text())
    assert record["model"]["digests"] == {}
    assert [text for text in record["warnings"] if "Without effect were: footage, cache." in text]
    assert record["shot"]["size"] == list(SIZE)
    assert record["shot"]["frames"] == made.frame_numbers.tolist()
    assert record["model_fit"]["size_fit"]["size"] == [144, 96]
    assert len(record["model_fit"]["frame_map"]["frames"]) == 17
    said = record["propagation"]
    assert said["key_pictures"] == [{"frame": 1.0, "source": "first frame", "size": list(SIZE), "detail": True}]
    assert (said["light"], said["light_reason"]) == ("none", "No clay renders were sent.")
    assert said["coverage"]["frames"] == made.frame_numbers.tolist()
    assert len(said["coverage"]["unseen"]) == COUNT
    assert all(0 <= share < 0.5 for share in said["coverage"]["unseen"])
    assert said["coverage"]["next"] == []  # the first frame shows all of the square
    assert len(list((out / "tracking").iterdir())) == 17
    assert not (out / ".kept").exists()
    assert sorted(path.name for path in out.iterdir()) == sorted(record["files"])
    assert "torch" not in Path(f"/proc/{worker(client)}/maps").read_text()


def test_further_pictures_and_light_are_used(client: Client, tmp_path: Path) -> None:
    made = moving()
    video = truth(made)
    light = np.full((COUNT, 45, 80, 3), 0.8, np.float16)
    record = run(client, tmp_path / "out", made, FIRST_FRAME, video[0], keys={4: video[4], 8: video[8]}, light=light)
    said = record["propagation"]
    assert [(key["frame"], key["source"]) for key in said["key_pictures"]] == [
        (1, "first frame"), (5, "key picture"), (9, "key picture"),
    ]  # fmt: skip
    assert (said["light"], said["light_reason"]) == ("clay", None)
    assert psnr(video[8], frames(tmp_path / "out")[8]) > 30


def test_a_larger_first_frame_is_carried_with_its_detail(client: Client, tmp_path: Path) -> None:
    made, large = moving(3), (320, 180)
    record = run(client, tmp_path / "out", made, FIRST_FRAME, truth(made)[0], keys={0: truth(moving(1, large))[0]})
    (key,) = record["propagation"]["key_pictures"]
    assert (key["frame"], key["source"], key["size"], key["detail"]) == (1.0, "first frame", list(large), True)
    assert key["alignment"]["correlation"] > 0.1
    assert not key["alignment"]["moved"]


def test_the_input_render_can_be_the_light(client: Client, tmp_path: Path) -> None:
    made = moving(5)
    video = truth(made)
    settings = dataclasses.replace(FIRST_FRAME, light="render")
    record = run(client, tmp_path / "out", made, settings, video[0], video)
    assert record["propagation"]["light"] in ("render", "none")
    assert len(list((tmp_path / "out" / "input").iterdir())) == 5
    with pytest.raises(ShotError, match="input render"):
        client.wait(client.submit(made, settings, video[0]))


def test_frames_with_alpha_and_of_scene_linear_light(client: Client, tmp_path: Path) -> None:
    made = moving(3)
    video = truth(made)
    run(client, tmp_path / "png", made, dataclasses.replace(FIRST_FRAME, alpha=True), video[0])
    with Image.open(tmp_path / "png" / "frames" / "0002.png") as image:
        assert image.mode == "RGBA"
        pixels = np.asarray(image)
    covered = paint(made, {0: texture()}).object_index[1] >= 0
    assert ((pixels[..., 3] > 127) == covered).mean() > 0.99
    run(client, tmp_path / "exr", made, dataclasses.replace(FIRST_FRAME, alpha=True, image_format="exr"), video[0])
    oiio = pytest.importorskip("OpenImageIO")
    buffer = oiio.ImageBuf(str(tmp_path / "exr" / "frames" / "0002.exr"))
    assert (buffer.spec().format.basetype, buffer.spec().channelnames) == (oiio.HALF, ("R", "G", "B", "A"))
    light, inner = np.asarray(buffer.get_pixels(oiio.FLOAT)), covered & (pixels[..., 3] == 255)
    np.testing.assert_allclose(light[inner, :3], srgb_to_linear(pixels[inner, :3] / 255), atol=0.004)
    np.testing.assert_array_equal(np.abs(frames(tmp_path / "exr")[1][inner].astype(int) - pixels[inner, :3]) <= 1, True)


@pytest.mark.long
def test_the_models_video_is_carried_to_frames_between_its_own(client: Client, tmp_path: Path) -> None:
    made = moving(12)
    settings = ShadeSettings(key_pictures="video", steps=1, prompt="a square")
    record = run(client, tmp_path / "out", made, settings, truth(made)[0])
    keys = record["propagation"]["key_pictures"]
    assert [key["source"] for key in keys] == ["first frame"] + ["model"] * 16
    assert [key["detail"] for key in keys] == [True] + [False] * 16
    assert [key["frame"] for key in keys[1:]] == pytest.approx(np.linspace(1, 12, 17)[1:])
    assert frames(tmp_path / "out").shape == (12, 90, 160, 3)
    assert record["shot"]["frames"] == made.frame_numbers.tolist()
    assert record["model"]["digests"]


def test_without_a_first_frame_the_model_makes_one(client: Client, tmp_path: Path) -> None:
    made = moving(4)
    job = client.submit(made, dataclasses.replace(FIRST_FRAME, steps=2, prompt="a red square"))
    events = list(client.events(job))
    assert [e.message for e in events if e.steps == 2] == [
        "First frame from the prompt", *(f"First frame from the prompt, step {n} of 2" for n in (1, 2)),
    ]  # fmt: skip
    out = client.fetch(job, tmp_path / "out")
    keys = json.loads((out / "job.json").read_text())["propagation"]["key_pictures"]
    assert keys == [{"frame": 1.0, "source": "model", "size": [144, 81], "detail": True}]
    assert frames(out).shape == (4, 90, 160, 3)


def test_the_models_frames_as_they_are(client: Client, tmp_path: Path) -> None:
    made = moving()
    record = run(client, tmp_path / "out", made, ShadeSettings(output_size="model", steps=1), truth(made)[0])
    assert frames(tmp_path / "out").shape == (17, 96, 144, 3)
    assert record["propagation"] is None
    assert record["shot"]["size_fit"] == record["model_fit"]["size_fit"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"keys": {9: (90, 160)}}, "sample 9, and the shot has 9 samples"),
        ({"keys": {3: (90, 90)}}, "key picture of frame 4 has 90 × 90 pixels"),
        ({"light": (4, 45, 80)}, "clay renders of 4 frames, and the shot has 9"),
        ({"light": (9, 80, 80)}, "clay render has 80 × 80 pixels"),
    ],
)
def test_pictures_of_another_shot_are_refused(client: Client, given: dict[str, Any], words: str) -> None:
    named: dict[str, Any] = {}
    if "keys" in given:
        named["keys"] = {t: np.zeros((*size, 3), np.uint8) for t, size in given["keys"].items()}
    if "light" in given:
        named["light"] = np.ones((*given["light"], 3), np.float16)
    with pytest.raises(ShotError, match=words):
        client.wait(client.submit(moving(), FIRST_FRAME, truth(moving())[0], **named))


def test_a_job_is_cancelled_between_frames(backend: Backend, client: Client) -> None:
    made = moving(400)
    pid = worker(client)
    job = client.submit(made, FIRST_FRAME, truth(moving(1))[0])
    stream = client.events(job)
    next(e for e in stream if e.step and e.steps == 400)
    client.cancel(job)
    after = list(stream)
    assert after[-1].state == "cancelled"
    assert len(after) < 200
    assert worker(client) == pid
    assert not list((backend.store / "results").glob(".partial-*"))


@pytest.mark.long
def test_a_killed_worker_continues_with_the_frame_at_which_it_ended(
    backend: Backend, client: Client, tmp_path: Path
) -> None:
    made = moving(60)
    video = truth(made)
    job = client.submit(made, FIRST_FRAME, video[0])
    stream = client.events(job)
    next(e for e in stream if e.step and e.step >= 20)
    os.kill(worker(client), signal.SIGKILL)
    next(e for e in stream if e.state == "queued")
    (partial,) = (backend.store / "results").glob(f".partial-{job}-*")
    before = {path.name: path.stat().st_mtime_ns for path in (partial / "frames").glob("[0-9]*.png")}
    assert len(before) >= 10
    assert list(stream)[-1].state == "done"
    out = backend.store / "results" / job
    after = {path.name: path.stat().st_mtime_ns for path in (out / "frames").iterdir()}
    assert len(after) == 60
    noted = len(before) - 4  # a frame may have been written and not noted
    assert {name: after[name] for name in sorted(before)[:noted]} == {n: before[n] for n in sorted(before)[:noted]}
    assert psnr(video[59], frames(out)[59]) > 25
    assert len(json.loads((out / "job.json").read_text())["propagation"]["coverage"]["unseen"]) == 60
    again = client.submit(made, FIRST_FRAME, video[0])
    client.wait(again)
    np.testing.assert_array_equal(frames(backend.store / "results" / again), frames(out))


@pytest.mark.long
def test_pictures_beside_the_geometry_are_moved_back_and_others_are_named(client: Client, tmp_path: Path) -> None:
    made = moving()
    video = truth(made)
    squares = np.indices(video[0].shape[:2]) // 8
    squares = np.repeat((255 * (squares.sum(axis=0) % 2)).astype(np.uint8)[..., None], 3, axis=2)
    keys = {4: np.roll(video[4], (-2, 3), (0, 1)), 8: squares}
    record = run(client, tmp_path / "out", made, FIRST_FRAME, video[0], keys=keys)
    said = {key["frame"]: key.get("alignment") for key in record["propagation"]["key_pictures"]}
    assert said[1] is None  # the scene's own render
    assert said[5]["shift"] == pytest.approx([3, -2], abs=0.2)
    assert (said[5]["moved"], said[9]["moved"]) == (True, False)
    assert record["warnings"] == [
        "The picture of frame 5 was shifted 3 pixels right and 2 pixels up, and was moved back.",
        "The picture of frame 9 does not match the scene's outlines. Does it show this frame?",
    ]
    assert psnr(video[4], frames(tmp_path / "out")[4]) > 30
    with pytest.raises(ShotError, match="frame 5 is black everywhere"):
        run(client, tmp_path / "black", made, FIRST_FRAME, video[0], keys={4: 0 * video[0]})


def test_frames_are_written_to_paint_on(client: Client, tmp_path: Path) -> None:
    made = shot(
        [("Square", [at(0, 0, 0, 0)] * 3), ("Screen", [at(0.5 * t, 0, -1, 0) for t in range(3)])], size=SIZE
    )  # which uncovers the square behind it
    settings = dataclasses.replace(FIRST_FRAME, output="key", key_frames=(3.0, 1.0))
    first = paint(made, {0: texture(), 1: texture()}).frames[0]
    record = run(client, tmp_path / "out", made, settings, first)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["job.json", "keys"] == sorted(record["files"])
    assert [entry["frame"] for entry in record["keys"]] == [3, 1]
    last, same = record["keys"]

    def read(entry: dict[str, Any], kind: str) -> np.ndarray:
        return np.asarray(Image.open(tmp_path / "out" / entry[kind]))

    assert np.array_equal(read(same, "picture"), first)
    assert read(last, "picture").shape == first.shape
    depth, unseen = read(last, "depth"), read(last, "unseen")
    assert (depth.dtype, depth.shape, depth.max()) == (np.uint16, SIZE[::-1], 65535)
    assert unseen.shape == SIZE[::-1]
    assert last["unseen_share"] == pytest.approx((unseen / 255).mean(), abs=0.01)
    assert 0 < last["unseen_share"] < 1
    assert read(same, "unseen").mean() < unseen.mean()
    coverage = record["propagation"]["coverage"]
    assert coverage["frames"] == [1, 2, 3]
    assert coverage["unseen"][0] == pytest.approx(0, abs=0.02)
    assert coverage["next"][0]["frame"] == 3
    with pytest.raises(ShotError, match="no frame 7"):
        run(client, tmp_path / "none", made, dataclasses.replace(settings, key_frames=(7.0,)), first)
