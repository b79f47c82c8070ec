# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs whose shot has several cameras, by a real worker."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.backends import until
from tests.helpers.result_shots import at, paint, shot, texture
from tests.integration.test_server_propagation import FIRST_FRAME, frames, run, worker
from trackshade.client import Client
from trackshade.config.registry import model_folder, spec
from trackshade.core.errors import ModelError, ShotError, UsageError
from trackshade.core.images import psnr
from trackshade.shot import Shot
from trackshade.shot.cameras import through_camera

SIZE, COUNT = (160, 90), 5
NAMES = ("Camera", "Камера/лево", "Камера:лево")


def from_three_cameras(count: int = COUNT) -> Shot:
    """A square that moves and turns, seen from the front and from two places beside it."""
    made = shot([("Square", [at(0.1 * t - 0.2, 0, 0, 0.05 * t) for t in range(count)])], size=SIZE)
    more = []
    for name, angle in zip(NAMES[1:], (0.3, -0.3), strict=True):
        turn, depth = np.eye(4), made.camera.world_to_camera[0] @ np.array([0, 0, 0, 1.0])
        turn[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        away = np.eye(4)
        away[:3, 3] = depth[:3]
        around = away @ turn @ np.linalg.inv(away)  # about the place that the square starts from
        more.append(dataclasses.replace(
            made.camera, name=name, sources=(name,) * count, world_to_camera=around @ made.camera.world_to_camera,
        ))  # fmt: skip
    return dataclasses.replace(made, more_cameras=tuple(more))


def truth(made: Shot, view: int) -> tuple[np.ndarray, np.ndarray]:
    """[T, H, W, 3] a video that is known to follow the square, and [T, H, W] where it is."""
    painted = paint(through_camera(made, view), {0: texture()})
    return painted.frames, painted.object_index >= 0


def test_each_camera_gets_a_result_of_its_own(client: Client, tmp_path: Path) -> None:
    made, out = from_three_cameras(), tmp_path / "out"
    record = run(client, out, made, FIRST_FRAME, truth(made, 0)[0][0])
    assert [item["name"] for item in record["cameras"]] == list(NAMES)
    folders = [item["folder"] for item in record["cameras"]]
    assert folders == ["Camera", "Камера_лево", "Камера_лево-2"]
    assert sorted(path.name for path in out.iterdir()) == sorted(record["files"])
    assert [camera.name for camera in Shot.load(out / "tracks.shot").cameras] == list(NAMES)
    for view, folder in enumerate(folders):
        video, surface = truth(made, view)
        assert psnr(video, frames(out / folder), surface) > 27
        own = json.loads((out / folder / "job.json").read_text())
        assert own["shot"]["camera"]["name"] == NAMES[view]
        assert len(own["propagation"]["coverage"]["unseen"]) > 0
        assert Shot.load(out / folder / "tracks.shot").more_cameras == ()
    assert record["warnings"] == []


@pytest.mark.long
def test_pictures_of_further_cameras_and_light_of_all_cells(client: Client, tmp_path: Path) -> None:
    made, out = from_three_cameras(), tmp_path / "out"
    firsts = [truth(made, view)[0][0] for view in range(3)]
    light = np.full((COUNT * 3, 45, 80, 3), 0.8, np.float16)
    settings = dataclasses.replace(FIRST_FRAME, cache=0.2)
    record = run(client, out, made, settings, firsts[0], keys={1: firsts[1], 2: firsts[2]}, light=light)
    assert [text for text in record["warnings"] if "Without effect were: cache." in text]
    said = record["propagation"]
    assert [(key["frame"], key["camera"], key["source"]) for key in said["key_pictures"]] == [
        (1, name, "first frame") for name in NAMES
    ]
    assert (said["light"], said["light_reason"]) == ("clay", None)
    for view, item in enumerate(record["cameras"]):
        np.testing.assert_array_equal(frames(out / item["folder"])[0], firsts[view])
    with pytest.raises(ShotError, match="clay renders of 5 frames"):
        client.wait(client.submit(made, FIRST_FRAME, firsts[0], light=light[:COUNT]))


@pytest.mark.long
def test_splats_of_all_cameras(client: Client, tmp_path: Path) -> None:
    made, out = from_three_cameras(3), tmp_path / "out"
    record = run(client, out, made, dataclasses.replace(FIRST_FRAME, splats=500), truth(made, 0)[0][0])
    assert record["propagation"]["splats"] == {"file": "splats.usdc", "count": 500}
    assert sorted(path.name for path in out.iterdir()) == sorted(record["files"])
    pxr = pytest.importorskip("pxr.UsdVol")
    from pxr import Usd

    stage = Usd.Stage.Open(str(out / "splats.usdc"))  # pyright: ignore[reportAttributeAccessIssue]
    (splats,) = (prim for prim in stage.Traverse() if prim.IsA(pxr.ParticleField3DGaussianSplat))
    positions = pxr.ParticleField3DGaussianSplat(splats).GetPositionsAttr()
    assert [len(positions.Get(frame)) for frame in (1, 3)] == [500, 500]
    single = tmp_path / "single"
    record = run(
        client, single, through_camera(made, 0), dataclasses.replace(FIRST_FRAME, splats=200), truth(made, 0)[0][0]
    )
    assert (single / record["propagation"]["splats"]["file"]).is_file()


@pytest.fixture(scope="module")
def multiview_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny multiview denoiser with random weights, and the embedded model's autoencoder."""
    import torch

    from trackshade.models.patch_autoencoder import PatchAutoencoder
    from trackshade.models.reference_guided import ReferenceGuidedTransformer3DModel

    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    vae = PatchAutoencoder.from_pretrained(model_folder(spec("mini")), subfolder="vae")
    config: Any = vae.config
    channels, patch = config.latent_channels, config.patch_size
    transformer = ReferenceGuidedTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=channels, out_channels=channels, time_embed_dim=16,
        text_embed_dim=8, num_layers=1, sample_width=144 // patch,
        sample_height=96 // patch, sample_frames=17, patch_size=2, temporal_compression_ratio=1,
        max_text_seq_length=1, spatial_interpolation_scale=1.0, track_frequencies=2,
    )  # fmt: skip
    transformer.track_lookup.initialize_encoder(vae.analysis, vae.mean)
    transformer.save_pretrained(folder / "transformer", safe_serialization=True)
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "MultiviewDenoiser"}))
    return folder


@pytest.mark.long
def test_a_multiview_model_samples_the_frames_of_all_cameras(
    client: Client, tmp_path: Path, multiview_model: Path
) -> None:
    made, out = from_three_cameras(), tmp_path / "out"
    settings = dataclasses.replace(FIRST_FRAME, multiview_model=str(multiview_model), arm="rows")
    record = run(client, out, made, settings, truth(made, 0)[0][0])
    of_model = [key for key in record["propagation"]["key_pictures"] if key["source"] == "model"]
    assert {key["camera"] for key in of_model} == set(NAMES)
    video, surface = truth(made, 0)
    assert psnr(video, frames(out / "Camera"), surface) > 15
    with pytest.raises(UsageError, match="no arm"):
        client.wait(client.submit(made, dataclasses.replace(settings, arm="both"), truth(made, 0)[0][0]))
    with pytest.raises(UsageError, match="shot has one"):
        client.wait(client.submit(through_camera(made, 0), settings, truth(made, 0)[0][0]))
    wrong = dataclasses.replace(settings, multiview_model=str(tmp_path))
    with pytest.raises(ModelError):
        client.wait(client.submit(made, wrong, truth(made, 0)[0][0]))


@pytest.mark.long
def test_pictures_that_disagree_are_named(client: Client, tmp_path: Path) -> None:
    made = from_three_cameras()
    firsts = [truth(made, view)[0][0] for view in range(3)]
    record = run(client, tmp_path / "out", made, FIRST_FRAME, firsts[0], keys={1: firsts[1], 2: 255 - firsts[2]})
    said = [text for text in record["warnings"] if "levels of 255" in text]
    assert len(said) == 2
    assert all("'Камера:лево'" in text for text in said)


def test_cameras_that_see_nothing_in_common_are_named(client: Client, tmp_path: Path) -> None:
    made = from_three_cameras()
    turned = made.more_cameras[0].world_to_camera.copy()
    turned[:, [0, 2]] *= -1  # it looks the other way
    more = (dataclasses.replace(made.more_cameras[0], world_to_camera=turned), made.more_cameras[1])
    made = dataclasses.replace(made, more_cameras=more)
    record = run(client, tmp_path / "out", made, FIRST_FRAME, truth(made, 0)[0][0])
    assert record["warnings"] == ["Camera 'Камера/лево' sees no mesh at frame 1."]


@pytest.mark.long
def test_a_killed_worker_continues_with_the_cell_at_which_it_ended(client: Client, tmp_path: Path) -> None:
    made, out = from_three_cameras(24), tmp_path / "out"
    job = client.submit(made, FIRST_FRAME, truth(made, 0)[0][0])
    for event in client.events(job):
        if event.step and event.step > 30:
            break
    os.kill(worker(client), signal.SIGKILL)
    until(lambda: client.wait(job) is not None)
    client.fetch(job, out)
    record = json.loads((out / "job.json").read_text())
    for view, item in enumerate(record["cameras"]):
        video, surface = truth(made, view)
        assert psnr(video, frames(out / item["folder"]), surface) > 25
        assert not (out / item["folder"] / ".kept").exists()


def test_what_is_made_for_one_camera_is_refused(client: Client) -> None:
    made = from_three_cameras()
    first = truth(made, 0)[0][0]
    with pytest.raises(UsageError, match="one camera"):
        client.wait(client.submit(made, dataclasses.replace(FIRST_FRAME, output="key", key_frames=(1.0,)), first))
    with pytest.raises(UsageError, match="full"):
        client.wait(client.submit(made, dataclasses.replace(FIRST_FRAME, output_size="model"), first))


def test_tracking_videos_of_all_cameras(client: Client, tmp_path: Path) -> None:
    made, out = from_three_cameras(), tmp_path / "out"
    settings = dataclasses.replace(FIRST_FRAME, output="tracking", output_size="full")
    record = run(client, out, made, settings)
    for view, item in enumerate(record["cameras"]):
        tracking = frames(out / item["folder"])
        assert tracking.shape == (COUNT, 90, 160, 3)
        assert (tracking.any(axis=-1) == truth(made, view)[1]).mean() > 0.99


@pytest.mark.long
def test_a_video_model_shades_each_camera_that_has_a_first_frame(client: Client, tmp_path: Path) -> None:
    made, out = from_three_cameras(), tmp_path / "out"
    firsts = [truth(made, view)[0][0] for view in range(3)]
    settings = dataclasses.replace(FIRST_FRAME, key_pictures="video", prompt="a square", steps=1)
    record = run(client, out, made, settings, firsts[0], keys={1: firsts[1]})
    of_model = {key["camera"] for key in record["propagation"]["key_pictures"] if key["source"] == "model"}
    assert of_model == {"Camera", "Камера/лево"}
    video, surface = truth(made, 2)
    assert psnr(video, frames(out / record["cameras"][2]["folder"]), surface) > 20
