# SPDX-License-Identifier: GPL-3.0-or-later
"""The published dataset layout: a folder with three lists, a line per clip, and the clips as MP4 files.

prompt.txt      captions
videos.txt      videos/NAME.mp4, relative to the folder
trackings.txt   tracking/NAME.mp4
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from trackshade.core.errors import OutputError, UsageError
from trackshade.results.video import frame_rate, write_video

LISTS = ("prompt.txt", "videos.txt", "trackings.txt")
_FIX = "Make the folder with 'trackshade dataset'."
# H.264 in RGB without loss. A track is its color: 4:2:0 would mix the colors of neighboring points, and even 4:4:4
# YUV rounds them. Flat surfaces and ramps pack well all the same.
_LOSSLESS = {"qp": "0", "preset": "medium"}


@dataclass(frozen=True)
class Entry:
    """One clip of a dataset folder."""

    prompt: str
    video: Path
    tracking: Path


def read_dataset(folder: Path) -> tuple[Entry, ...]:
    """The clips that the lists name. Raises UsageError: lists or files missing, or lists of different lengths."""
    lines = []
    for name in LISTS:
        try:
            lines.append([line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines()])
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("no-dataset", f"{folder} is no dataset: {name} cannot be read.", _FIX) from error
        while lines[-1] and not lines[-1][-1]:
            lines[-1].pop()
    counts = [len(part) for part in lines]
    if len(set(counts)) > 1:
        said = ", ".join(f"{name} has {count}" for name, count in zip(LISTS, counts, strict=True))
        raise UsageError("bad-dataset", f"The lists of {folder} have different lengths: {said}.", _FIX)
    if not counts[0]:
        raise UsageError("bad-dataset", f"{folder} lists no clips.", _FIX)
    entries = tuple(Entry(prompt, folder / video, folder / track) for prompt, video, track in zip(*lines, strict=True))
    missing = [path for entry in entries for path in (entry.video, entry.tracking) if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError("bad-dataset", f"{missing[0]}{more} is listed but missing.", _FIX)
    return entries


def read_video(path: Path) -> np.ndarray:
    """[T, H, W, 3] uint8 sRGB of a video file, by the matrix and range that the file names. Raises UsageError."""
    try:
        with av.open(str(path)) as file:
            frames = [_rgb(frame) for frame in file.decode(video=0)]
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise UsageError("bad-video", f"{path} cannot be read as a video: {error}.") from error
    if not frames:
        raise UsageError("bad-video", f"{path} has no frames.")
    return np.stack(frames)


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    if frame.format.name in ("gbrp", "rgb24"):
        return frame.to_ndarray(format="rgb24")
    # Files that name no matrix are BT.601, as common readers take them.
    matrix = Colorspace.ITU709 if frame.colorspace == 1 else Colorspace.ITU601  # 1: AVCOL_SPC_BT709
    full = frame.color_range == ColorRange.JPEG
    return frame.reformat(
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    ).to_ndarray()


def write_tracking(path: Path, frames: np.ndarray, fps: float) -> None:
    """An MP4 that gives [T, H, W, 3] uint8 back exactly. Raises OSError, av.error.FFmpegError."""
    rate = frame_rate(fps)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as file:
        stream = file.add_stream("libx264rgb", rate=rate, options=_LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "rgb24"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = 1 / rate
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


class Dataset:
    """A dataset folder that grows: whole after every clip, whatever happens."""

    def __init__(self, folder: Path) -> None:
        """Open or make one. Raises OutputError: something else is there, or it cannot be written."""
        self.folder = folder
        there = [name for name in LISTS if (folder / name).exists()]
        if folder.is_dir() and any(folder.iterdir()) and not there:
            raise OutputError(
                "output-not-ours", f"{folder} holds something else than a dataset, and was kept.", "Choose another one."
            )
        self.rows: list[tuple[str, str, str]] = []
        if there:
            columns = [(folder / name).read_text(encoding="utf-8").splitlines() for name in LISTS if name in there]
            if len(there) < 3 or len({len(column) for column in columns}) > 1:
                raise OutputError(
                    "damaged-dataset", f"The lists of {folder} do not fit each other.", "Correct them, or remove it."
                )
            self.rows = list(zip(*columns, strict=True))

    def add(self, name: str, prompt: str, video: np.ndarray, tracking: np.ndarray, fps: float) -> bool:
        """Add a clip, both [T, H, W, 3] uint8 of one shape; False where the same clip is there already.

        Raises OutputError: it cannot be written.
        """
        if video.shape != tracking.shape or video.dtype != np.uint8 or tracking.dtype != np.uint8:
            raise ValueError(f"video {video.shape} and tracking {tracking.shape} must be uint8 of one shape")
        state = hashlib.blake2b(np.ascontiguousarray(video).data, digest_size=4)
        state.update(np.ascontiguousarray(tracking).data)
        stem = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.') or 'clip'}-{state.hexdigest()}"
        row = (" ".join(prompt.split()), f"videos/{stem}.mp4", f"tracking/{stem}.mp4")
        if any(row[1] == old[1] for old in self.rows):
            return False
        try:
            for path, write, frames in ((row[1], write_video, video), (row[2], write_tracking, tracking)):
                target = self.folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.part")
                write(part, frames, fps)
                os.replace(part, target)
            self.rows.append(row)
            self._write_lists()
        except (OSError, av.error.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                "output-unwritable",
                f"The clip cannot be written to {self.folder}: {reason}.",
                "Choose a folder that can be written and has space.",
            ) from error
        return True

    def _write_lists(self) -> None:
        """All three at once: they are made beside, and a kill between the renames leaves the longer lists last."""
        with tempfile.TemporaryDirectory(prefix=".lists-", dir=self.folder) as beside:
            for index, name in enumerate(LISTS):
                text = "".join(row[index] + "\n" for row in self.rows)
                (Path(beside) / name).write_text(text, encoding="utf-8")
            for name in LISTS:
                shutil.move(Path(beside) / name, self.folder / name)


def shapes(entries: tuple[Entry, ...]) -> Iterator[tuple[Entry, tuple[int, int, int]]]:
    """(frames, height, width) of each video, by its header where that says so. Raises UsageError."""
    for entry in entries:
        try:
            with av.open(str(entry.video)) as file:
                stream = file.streams.video[0]
                count = stream.frames or sum(1 for _ in file.decode(stream))
                yield entry, (count, stream.height, stream.width)
        except (OSError, IndexError, av.error.FFmpegError) as error:
            raise UsageError("bad-video", f"{entry.video} cannot be read as a video: {error}.") from error
