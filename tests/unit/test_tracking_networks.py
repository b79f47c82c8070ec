# SPDX-License-Identifier: GPL-3.0-or-later
"""Trackers that are networks: what is done with their tracks, and what they are refused for."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.footage import Truth, arc, render, room
from trackshade.config.trackers import TRACKER_NETWORKS
from trackshade.core.errors import CancelledError, ModelError, UsageError
from trackshade.results.video import write_video
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking import track, track_video, trackers
from trackshade.tracking.trackers import Step, load_tracker
from trackshade_lab.evaluation.tracking.measures import scene_tracks

torch = pytest.importorskip("torch")

SIZE = (144, 96)


class ExactTracker:
    """Follows points by what is true of a rendered clip."""

    def __init__(self, clip: Truth) -> None:
        self.clip, self.points = clip, 0

    def follow(self, images: np.ndarray, points: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        assert images.shape == self.clip.images.shape
        self.points += len(points)
        step(1.0)
        pixels, seen, _ = self.clip.tracks(points)
        return pixels, seen


@pytest.mark.slow
def test_tracks_of_a_network_say_what_moves_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = render(room(3, moving=True), arc(7, 8.0), SIZE)
    path = tmp_path / "room.mp4"
    write_video(path, clip.images, 24, lossless=True)
    exact = ExactTracker(clip)
    monkeypatch.setattr(track, "load_tracker", lambda name, weights: exact)
    request = TrackRequest(
        focal=clip.intrinsics[0, 0], spacing=4, tracker="cotracker", tracker_weights="scaled_offline.pth"
    )
    stages: list[str] = []
    scene = track_video(path, request, lambda stage, _: stages.append(stage), threads=1)
    assert stages[0] == "Loading CoTracker3 (CC BY-NC 4.0, not for commercial use)"  # before it is used
    assert scene.notes["tracker"] == "cotracker"
    assert "not for commercial use" in scene.notes["tracker_license"]
    assert any("not for commercial use" in warning for warning in scene.warnings)
    assert exact.points > 36 * 24  # all points on the grid, and those of what moves
    parts = [mesh for mesh in scene.meshes if mesh.name.startswith("Moving")]
    assert parts
    pixels, _ = scene_tracks(scene)
    still = [mesh for mesh in scene.meshes if mesh.kind != "sky" and mesh not in parts]
    own = pixels[sum(mesh.positions.shape[1] - mesh.added for mesh in still) :]
    truth, visible, card = clip.tracks(own[:, 0])
    assert (card == 4).mean() > 0.75
    error = np.linalg.norm(own.swapaxes(0, 1) - truth, axis=2)
    assert np.median(error[visible & (card == 4)]) < 0.5


class Code:
    """An object of a pickle that is no plain tensor."""


def test_weights_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    def code_of(path: Path) -> str:
        with pytest.raises(ModelError) as raised:
            load_tracker("cotracker", str(path))
        assert raised.value.fix
        return raised.value.code

    assert code_of(tmp_path / "none.pth") == "missing-weights"
    (tmp_path / "code.pth").write_bytes(pickle.dumps(Code(), protocol=2))
    (tmp_path / "text.safetensors").write_bytes(b"nothing")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("code.pth", "text.safetensors", "list.pth"):
        assert code_of(tmp_path / name) == "damaged-weights"


@pytest.mark.parametrize("name", TRACKER_NETWORKS)
def test_a_package_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    spec = TRACKER_NETWORKS[name]
    if importlib.util.find_spec(spec.package):
        pytest.skip(f"{spec.package} is installed")
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(ModelError) as raised:
        load_tracker(name, str(tmp_path / "weights.pt"))
    assert raised.value.code == "no-tracker-package"
    assert spec.package in raised.value.message
    assert "pip install" in (raised.value.fix or "")


def follow_with(run) -> tuple[np.ndarray, np.ndarray]:
    images, points = np.zeros((3, 20, 30, 3), np.uint8), np.random.default_rng(0).uniform(1, 19, (100, 2))
    return trackers._follow(TRACKER_NETWORKS["tapnext"], run, images, points, 40, lambda fraction: None)


def test_points_are_followed_in_groups_and_keep_their_order() -> None:
    sizes: list[int] = []

    def run(chunk: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        sizes.append(len(chunk))
        places = chunk + np.array([0.0, 1.0, 100.0])[:, None, None]
        places[1, 0] = np.nan
        return places, np.ones((3, len(chunk)), bool)

    pixels, seen = follow_with(run)
    assert sizes == [34, 33, 33]
    lost = np.isin(np.arange(100), [0, 1, 2])  # the first of each group
    assert np.array_equal(pixels[1] - pixels[0] > 0.5, np.repeat(~lost[:, None], 2, axis=1))
    assert seen[0].all()
    assert np.array_equal(seen[1], ~lost)
    assert not seen[2].any()  # outside the picture


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out-of-memory"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "network-failed"),
    ],
)
def test_a_network_that_fails_says_why(error: Exception, code: str) -> None:
    def run(chunk: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        raise error

    with pytest.raises(ModelError) as raised:
        follow_with(run)
    assert (raised.value.code, "TAPNext++" in raised.value.message) == (code, True)


def test_a_network_can_be_cancelled() -> None:
    def run(chunk: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray]:
        raise CancelledError

    with pytest.raises(CancelledError):
        follow_with(run)


def test_tracks_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="no positions"):
        follow_with(lambda chunk, step: (np.full((3, len(chunk), 2), np.nan), np.ones((3, len(chunk)), bool)))


@pytest.mark.parametrize(("name", "offline"), [("scaled_offline.pth", True), ("scaled_online.pth", False)])
def test_cotracker_is_run_with_random_weights(tmp_path: Path, name: str, offline: bool) -> None:
    building = pytest.importorskip("cotracker.models.build_cotracker", reason="CoTracker3 is not installed")
    model = building.build_cotracker(None, offline=offline, window_len=60 if offline else 16)
    torch.save(model.state_dict(), tmp_path / name)
    check_tracks("cotracker", tmp_path / name)


@pytest.mark.parametrize("name", ["tapnextpp_ckpt.pt", "tapnextpp_512.ckpt"])
def test_tapnext_is_run_with_random_weights(tmp_path: Path, name: str) -> None:
    module = pytest.importorskip("tapnet.tapnext.tapnext_torch", reason="TAPNext++ is not installed")
    torch.manual_seed(0)
    state = {f"tapnext.{key}": 0.02 * torch.randn(value.shape)
             for key, value in module.TAPNext(image_size=(256, 256)).state_dict().items()}  # fmt: skip
    torch.save({"state_dict": state}, tmp_path / name)
    check_tracks("tapnext", tmp_path / name)


def check_tracks(name: str, weights: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3)).astype(np.uint8)
    points = np.array([[10.5, 20.5], [40.5, 30.5], [63.5, 0.5]])
    pixels, seen = load_tracker(name, str(weights)).follow(images, points, lambda fraction: None)
    assert (pixels.shape, seen.shape) == ((3, 3, 2), (3, 3))
    assert np.array_equal(pixels[0], points)
    assert seen[0].all()


def test_a_network_and_its_weights_go_together() -> None:
    for values in ({"tracker": "tapnext"}, {"tracker_weights": "weights.pt"}, {"tracker": "magic"}):
        with pytest.raises(UsageError):
            TrackRequest.from_dict(values)
    assert TrackRequest.from_dict({"tracker": "tapnext", "tracker_weights": "a.pt"}).tracker_weights == "a.pt"
