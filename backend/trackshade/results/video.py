# SPDX-License-Identifier: GPL-3.0-or-later
"""H.264 files for viewing a result; the exact pixels are in the PNG frames."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

_NEARLY_LOSSLESS = {"crf": "12", "preset": "medium", "profile": "high"}
_LOSSLESS = {"qp": "0", "preset": "medium"}


def frame_rate(fps: float) -> Fraction:
    """Return the rate as the fraction that players expect: 23.976… becomes 24000/1001.

    Others are met to 2e-5 frames per second.
    """
    for denominator in (1, 1001):
        numerator = round(fps * denominator)
        if denominator == 1001:
            numerator = round(numerator / 1000) * 1000
        if numerator > 0 and abs(numerator / denominator - fps) <= 2e-6 * fps:
            return Fraction(numerator, denominator)
    return max(Fraction(fps).limit_denominator(50_000), Fraction(1, 50_000))


def write_video(
    path: Path,
    frames: np.ndarray,  # [T, H, W, 3] uint8 sRGB
    fps: float,
    lossless: bool = False,
) -> None:
    """Write frames as a video file; see `VideoWriter`."""
    writer = VideoWriter(path, (frames.shape[2], frames.shape[1]), fps, lossless)
    try:
        for frame in frames:
            writer.add(frame)
    except BaseException:
        writer.abort()
        raise
    writer.close()


class VideoWriter:
    """Writes an MP4, frame by frame; an odd edge is doubled to become even.

    H.264 with 4:2:0 chroma, which every player opens; limited range, BT.709 primaries and matrix, the sRGB curve
    (IEC 61966-2-1), all named in the file. Lossless files have RGB instead, since even 4:4:4 YUV rounds colors. The
    methods raise OSError if the file cannot be written, and FFmpegError for the codec or container.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, lossless: bool = False) -> None:
        """Create the file for frames of this (width, height), pixels."""
        self._lossless, self._rate, self._count = lossless, frame_rate(fps), 0
        right, bottom = (0, 0) if lossless else (size[0] % 2, size[1] % 2)
        self._padding = ((0, bottom), (0, right), (0, 0))
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        self._file = av.open(str(path), "w", format="mp4", options=options)
        name, options = ("libx264rgb", _LOSSLESS) if lossless else ("libx264", _NEARLY_LOSSLESS)
        self._stream = stream = self._file.add_stream(name, rate=self._rate, options=options)
        stream.width, stream.height = size[0] + right, size[1] + bottom
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1  # so that equal frames make equal files on every machine
        codec.time_base = 1 / self._rate
        if not lossless:
            codec.color_range = ColorRange.MPEG
            codec.colorspace = Colorspace.ITU709
            codec.color_primaries = ColorPrimaries.BT709
            codec.color_trc = ColorTrc.IEC61966_2_1

    def add(
        self,
        picture: np.ndarray,  # [H, W, 3] uint8 sRGB
    ) -> None:
        """Write the next frame."""
        padded = np.pad(picture, self._padding, mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame = frame if self._lossless else _to_yuv(frame)
        frame.pts, frame.time_base = self._count, 1 / self._rate
        self._count += 1
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the codec still holds, and complete the file."""
        with self._file:
            self._file.mux(self._stream.encode())

    def abort(self) -> None:
        """Close the file after an error, as it is."""
        with contextlib.suppress(OSError, av.error.FFmpegError):
            self._file.close()


def _to_yuv(frame: av.VideoFrame) -> av.VideoFrame:
    """Convert sRGB to the codec's layout; without the named color spaces the library would use BT.601."""
    frame.color_range = ColorRange.JPEG
    return frame.reformat(
        format="yuv420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation="AREA",
    )
