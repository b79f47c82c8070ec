# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos of all kinds are read, resampled and cut; what cannot be tracked is named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.helpers.footage import noise
from trackshade.core.errors import ShotError, UsageError
from trackshade.results.video import write_video
from trackshade.shot.track_request import TrackRequest
from trackshade.tracking.footage import Footage, read_footage

TEXTURES = [noise(seed, (200, 120), 2.0) for seed in (1, 2)]


def pan(count: int, texture: int = 0, speed: int = 2) -> np.ndarray:
    return np.stack([TEXTURES[texture][10:90, speed * t : speed * t + 128] for t in range(count)])


def write_times(path: Path, images: np.ndarray, times: np.ndarray, aspect: Fraction = Fraction(1)) -> None:
    """Write a video whose frames are shown at given times, seconds."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264rgb", rate=Fraction(1000), options={"qp": "0", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], "rgb24"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = aspect
        for image, time in zip(images, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def read(path: Path, **request: object) -> Footage:
    return read_footage(path, TrackRequest.from_dict(request), lambda fraction: None, lambda: False)


def test_frames_are_read_as_they_are(tmp_path: Path) -> None:
    images = pan(9)
    write_video(tmp_path / "a.mp4", images, 24, lossless=True)
    footage = read(tmp_path / "a.mp4")
    np.testing.assert_array_equal(footage.images, images)
    assert (footage.fps, footage.size, footage.warnings) == (pytest.approx(24), (128, 80), ())
    some = read(tmp_path / "a.mp4", start=2 / 24, duration=4 / 24, size=[64, 64])
    assert some.images.shape == (5, 40, 64, 3)
    assert some.size == (128, 80)


def test_long_and_fast_footage_is_resampled(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pan(33, speed=1), 96, lossless=True)
    footage = read(tmp_path / "a.mp4", max_frames=9)
    assert (len(footage.images), footage.fps) == (9, pytest.approx(24))
    np.testing.assert_array_equal(footage.images[:, 40, 5], pan(33, speed=1)[::4, 40, 5])


def test_a_variable_rate_becomes_even(tmp_path: Path) -> None:
    steps = np.r_[np.full(10, 0.04), np.full(5, 0.08)]
    times = np.r_[0, np.cumsum(steps)]
    write_times(tmp_path / "a.mkv", pan(16), times)
    footage = read(tmp_path / "a.mkv")
    assert footage.fps == pytest.approx(25)
    assert (
        np.abs(footage.times - np.arange(len(footage.times)) * 0.04).max() < 0.041
    )  # frames that are shown for 80 ms are taken twice


def test_cuts_are_named(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.concatenate([pan(8), pan(7, 1), pan(5)]), 24, lossless=True)
    first, second = read(tmp_path / "a.mp4"), read(tmp_path / "a.mp4", part=2)
    assert (len(first.images), len(second.images)) == (8, 7)
    assert "0.33 s, 0.62 s" in first.warnings[0]
    with pytest.raises(UsageError, match="3 part"):
        read(tmp_path / "a.mp4", part=4)
    flash = pan(9)
    flash[4] = 255
    write_video(tmp_path / "flash.mp4", flash, 24, lossless=True)
    assert len(read(tmp_path / "flash.mp4").images) == 9


def test_bad_videos_are_named(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    picture, text, one = tmp_path / "a.png", tmp_path / "a.txt", tmp_path / "one.mp4"
    Image.fromarray(pan(1)[0]).save(picture)
    text.write_text("no video")
    write_video(one, pan(1), 24)
    for path, code in (
        (sound, "no-video"), (text, "bad-video"), (one, "too-few-frames"), (picture, "too-few-frames"),
        (tmp_path / "none.mp4", "missing-file"),
    ):  # fmt: skip
        with pytest.raises(ShotError) as caught:
            read(path)
        assert caught.value.code == code
    whole, half = tmp_path / "whole.ts", tmp_path / "half.ts"
    write_times(whole, pan(20), np.arange(20) / 24)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])  # read up to where it is cut off
    assert 2 <= len(read(half).images) < 20
    with pytest.raises(ShotError, match="no frames"):
        read(whole, start=60)


def test_damaged_frames_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    write_times(path, pan(20), np.arange(20) / 24)
    assert read(path).warnings == ()
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 2, len(data) * 3 // 5, len(data) // 40):
        data[place] ^= 0xFF
    path.write_bytes(data)
    footage = read(path)
    assert len(footage.images) > 10
    assert any("frame(s) from 0.4" in warning and "have errors" in warning for warning in footage.warnings)


def write_video_of(path: Path, codec: str, layout: str) -> None:
    """Write 40 frames with a codec, as key frames only."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 128, 80, layout
        stream.codec_context.gop_size = 1
        for image in pan(40, speed=1):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            file.mux(stream.encode(frame.reformat(format=layout)))
        file.mux(stream.encode())


@pytest.mark.parametrize(
    ("codec", "layout", "ending", "told"),
    [
        ("ffv1", "yuv420p", "mkv", "have errors"),  # tells damage in messages only, from several threads
        ("mjpeg", "yuvj420p", "avi", "have errors"),
        ("libx265", "yuv420p", "mp4", "have errors"),
        ("mpeg4", "yuv420p", "avi", "have errors"),  # marks frames
        ("png", "rgb24", "mov", "cannot be decoded"),  # fails at each damaged frame
    ],
)
def test_damage_is_told_by_every_decoder(codec: str, layout: str, ending: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    write_video_of(path, codec, layout)
    whole = read(path)
    assert (len(whole.images), whole.warnings) == (40, ())
    data = bytearray(path.read_bytes())
    for place in range(len(data) * 2 // 5, len(data) // 2, len(data) // 200):
        data[place : place + 3] = bytes(255 - value for value in data[place : place + 3])
    path.write_bytes(data)
    footage = read(path)
    (warning,) = [warning for warning in footage.warnings if told in warning]
    assert 0.1 < float(warning.split(" from ")[1].split()[0]) < 1.1
    assert footage.times[0] == 0
    assert footage.times[-1] > 1.2  # what comes after it is read
    assert not any("missing" in warning for warning in footage.warnings)
    for _ in range(3):  # reading ends while threads still decode, and log
        assert len(read(path, start=0.3, duration=0.5).images) > 2


def test_videos_that_are_cut_off_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    write_video_of(path, "libvpx", "yuv420p")
    assert read(path).warnings == ()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    footage = read(path)
    assert 2 <= len(footage.images) < 30
    assert any("what follows is missing" in warning for warning in footage.warnings)
    assert read(path, duration=0.4).warnings == ()


def test_pixels_become_square(tmp_path: Path) -> None:
    write_times(tmp_path / "a.mkv", pan(4), np.arange(4) / 24, Fraction(2, 1))
    footage = read(tmp_path / "a.mkv", size=[128, 128])
    assert (footage.size, footage.images.shape) == ((256, 80), (4, 40, 128, 3))
