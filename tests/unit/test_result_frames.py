# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames that are written one by one: exact, in little memory, continued, and told about where they cannot be."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.result_shots import at, shot
from trackshade.core.colors import srgb_to_linear
from trackshade.core.errors import OutputError
from trackshade.results.frames import FrameWriter, read_frame
from trackshade.results.overview import MAX_FRAMES, MAX_SIDE, Overview


def pictures(count: int, size: tuple[int, int] = (32, 18)) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, *size[::-1], 3), np.uint8)


def test_frames_and_video_are_written_as_they_come(tmp_path: Path) -> None:
    video, seen = pictures(12), []
    with FrameWriter(tmp_path, (32, 18), 24, on_frame=lambda t, image: seen.append((t, image))) as writer:
        for t, image in enumerate(video):
            writer.add(image if t % 2 else image.astype(np.float32) / 255)
    assert writer.count == 12
    assert [t for t, _ in seen] == list(range(12))
    np.testing.assert_array_equal([image for _, image in seen], video)
    np.testing.assert_array_equal([read_frame(path) for path in sorted((tmp_path / "frames").iterdir())], video)
    with av.open(str(tmp_path / "video.mp4")) as file:
        assert sum(1 for _ in file.decode(video=0)) == 12


def test_frames_of_an_attempt_that_ended_are_kept(tmp_path: Path) -> None:
    video = pictures(5)
    with FrameWriter(tmp_path, (32, 18), 24) as writer:
        for image in video[:3]:
            writer.add(image)
    (tmp_path / "frames" / ".0004.cut.png").write_bytes(b"cut short")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "frames").glob("[0-9]*")}
    with FrameWriter(tmp_path, (32, 18), 24) as writer:
        for t, image in enumerate(video):
            if writer.path(t).is_file():
                np.testing.assert_array_equal(writer.keep(), image)
            else:
                writer.add(image)
    found = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in found] == [f"{n:04d}.png" for n in range(1, 6)]
    assert {path.name: path.stat().st_mtime_ns for path in found[:3]} == times


def test_a_long_video_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    image = np.zeros((270, 480, 3), np.float32)

    def peak(count: int) -> int:
        made = shot([("Square", [at(0.001 * t, 0, 0) for t in range(count)])], size=(480, 270))
        tracemalloc.start()
        overview = Overview(made)
        with FrameWriter(tmp_path / str(count), (480, 270), 24, on_frame=overview.add) as writer:
            for _ in range(count):
                writer.add(image)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(4 * MAX_FRAMES) < 1.2 * peak(MAX_FRAMES)


def test_an_overview_shows_first_and_last_frame_at_a_small_size() -> None:
    made = shot([("Square", [at(0.01 * t, 0, 0) for t in range(100)])], size=(1440, 810))
    overview = Overview(made)
    assert (len(overview.frames), overview.shot.size) == (MAX_FRAMES, (MAX_SIDE, 405))
    assert overview.shot.frame_numbers[[0, -1]].tolist() == [1, 100]
    np.testing.assert_allclose(overview.shot.camera.intrinsics[0][:2], made.camera.intrinsics[0][:2] / 2)
    for t in range(100):
        overview.add(t, np.full((810, 1440, 3), t, np.uint8))
    np.testing.assert_array_equal(overview.frames[:, 0, 0, 0] + 1, overview.shot.frame_numbers)


def test_alpha_is_straight_in_png_and_premultiplied_in_exr(tmp_path: Path) -> None:
    oiio = pytest.importorskip("OpenImageIO")
    image = np.full((2, 2, 3), 1.5, np.float32)  # brighter than white
    image[0] = 0.5
    alpha = np.array([[0.0, 0.5], [0.25, 1.0]], np.float32)
    for kind in ("png", "exr"):
        with FrameWriter(tmp_path / kind, (2, 2), 24, image_format=kind, alpha=True) as writer:
            writer.add(image, alpha)
    with Image.open(tmp_path / "png" / "frames" / "0001.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture)[..., 3], [[0, 128], [64, 255]])
        np.testing.assert_array_equal(np.asarray(picture)[..., 0], [[128, 128], [255, 255]])
    light = oiio.ImageBuf(str(tmp_path / "exr" / "frames" / "0001.exr")).get_pixels(oiio.FLOAT)
    wanted = np.dstack([srgb_to_linear(image) * alpha[..., None], alpha])
    np.testing.assert_allclose(light, wanted, rtol=1e-3)
    shown = tmp_path / "exr" / "frames_8bit" / "0001.png"  # what is placed into a scene
    assert shown.read_bytes() == (tmp_path / "png" / "frames" / "0001.png").read_bytes()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        FrameWriter(tmp_path / "file", (32, 18), 24)
