# SPDX-License-Identifier: GPL-3.0-or-later
"""H.264 files for viewing a result; the exact pixels are in the PNG frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
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
    """Write frames as an MP4 of their size; an odd edge is doubled to become even.

    H.264 with 4:2:0 chroma, which every player opens; limited range, BT.709 primaries and matrix, the sRGB curve
    (IEC 61966-2-1), all named in the file. Lossless files have RGB instead, since even 4:4:4 YUV rounds colors.

    Raise OSError if the file cannot be written, and FFmpegError for the codec or container.
    """
    height, width = frames.shape[1:3]
    if not lossless:
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rate = frame_rate(fps)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as file:
        name, options = ("libx264rgb", _LOSSLESS) if lossless else ("libx264", _NEARLY_LOSSLESS)
        stream = file.add_stream(name, rate=rate, options=options)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        codec = stream.codec_context
        codec.thread_count = 1  # so that equal frames make equal files on every machine
        codec.time_base = 1 / rate
        if not lossless:
            codec.color_range = ColorRange.MPEG
            codec.colorspace = Colorspace.ITU709
            codec.color_primaries = ColorPrimaries.BT709
            codec.color_trc = ColorTrc.IEC61966_2_1
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame if lossless else _to_yuv(frame)
            frame.pts, frame.time_base = index, 1 / rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


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
