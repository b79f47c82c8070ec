# SPDX-License-Identifier: GPL-3.0-or-later
"""H.264 files for viewing a result; the exact pixels are in the PNG frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

# Nearly lossless. One thread, so that equal frames make equal files on every machine.
_OPTIONS = {"crf": "12", "preset": "medium", "profile": "high"}


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
) -> None:
    """Write frames as an MP4 of their size; an odd edge is doubled to become even.

    H.264 with 4:2:0 chroma, which every player opens; limited range, BT.709 primaries and matrix, the sRGB curve
    (IEC 61966-2-1), all named in the file.

    Raises:
        OSError: the file cannot be written.
        FFmpegError: the same, from the codec or container.
    """
    height, width = frames.shape[1:3]
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rate = frame_rate(fps)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as file:
        stream = file.add_stream("libx264", rate=rate, options=_OPTIONS)
        stream.width, stream.height = padded.shape[2], padded.shape[1]
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1
        codec.time_base = 1 / rate
        codec.color_range = ColorRange.MPEG
        codec.colorspace = Colorspace.ITU709
        codec.color_primaries = ColorPrimaries.BT709
        codec.color_trc = ColorTrc.IEC61966_2_1
        for index, picture in enumerate(padded):
            frame = _to_yuv(picture)
            frame.pts, frame.time_base = index, 1 / rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _to_yuv(picture: np.ndarray) -> av.VideoFrame:
    """Convert [H, W, 3] sRGB to the codec's layout; without the named color spaces the library would use BT.601."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    frame.color_range = ColorRange.JPEG
    return frame.reformat(
        format="yuv420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation="AREA",
    )
