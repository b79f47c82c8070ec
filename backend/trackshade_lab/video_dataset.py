# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataset folders in the published layout: three lists with one line per clip, and the clips as MP4 files.

prompt.txt      captions
videos.txt      videos/NAME.mp4, relative to the folder
trackings.txt   tracking/NAME.mp4
"""

from __future__ import annotations

import hashlib
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

from trackshade.core.atomic_files import atomic_file
from trackshade.core.errors import OutputError, UsageError
from trackshade.results.video import write_video

LISTS = ("prompt.txt", "videos.txt", "trackings.txt")
_FIX = "Make the folder with 'trackshade dataset'."


@dataclass(frozen=True)
class DatasetEntry:
    """One clip of a dataset folder."""

    prompt: str
    video: Path
    tracking: Path


def read_dataset(folder: Path) -> tuple[DatasetEntry, ...]:
    """Read the lists of a dataset folder.

    Raise UsageError if lists or files are missing, or the lists have different lengths.
    """
    columns = []
    for name in LISTS:
        try:
            lines = [line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("no-dataset", f"{folder} is no dataset: {name} cannot be read.", _FIX) from error
        while lines and not lines[-1]:
            lines.pop()
        columns.append(lines)
    lengths = [len(lines) for lines in columns]
    if len(set(lengths)) > 1:
        details = ", ".join(f"{name} has {length}" for name, length in zip(LISTS, lengths, strict=True))
        raise UsageError("bad-dataset", f"The lists of {folder} have different lengths: {details}.", _FIX)
    if not lengths[0]:
        raise UsageError("bad-dataset", f"{folder} lists no clips.", _FIX)
    entries = tuple(
        DatasetEntry(prompt, folder / video, folder / tracking)
        for prompt, video, tracking in zip(*columns, strict=True)
    )
    missing = [path for entry in entries for path in (entry.video, entry.tracking) if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError("bad-dataset", f"{missing[0]}{more} is listed but missing.", _FIX)
    return entries


def read_video(path: Path) -> np.ndarray:
    """Decode a video file to [T, H, W, 3] uint8 sRGB, with the matrix and range that the file states.

    Raise UsageError if it cannot be read.
    """
    try:
        with av.open(str(path)) as file:
            frames = [_decode_frame(frame) for frame in file.decode(video=0)]
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise UsageError("bad-video", f"{path} cannot be read as a video: {error}.") from error
    if not frames:
        raise UsageError("bad-video", f"{path} has no frames.")
    return np.stack(frames)


def _decode_frame(frame: av.VideoFrame) -> np.ndarray:
    if frame.format.name in ("gbrp", "rgb24"):
        return frame.to_ndarray(format="rgb24")
    # Common readers assume BT.601 where a file states no matrix.
    matrix = Colorspace.ITU709 if frame.colorspace == 1 else Colorspace.ITU601  # 1: AVCOL_SPC_BT709
    is_full_range = frame.color_range == ColorRange.JPEG
    return frame.reformat(
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG if is_full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    ).to_ndarray()


def read_video_shapes(entries: tuple[DatasetEntry, ...]) -> Iterator[tuple[DatasetEntry, tuple[int, int, int]]]:
    """Yield each entry and the (frames, height, width) of its video, from the file's header where it states them.

    Raise UsageError if a file cannot be read.
    """
    for entry in entries:
        try:
            with av.open(str(entry.video)) as file:
                stream = file.streams.video[0]
                num_frames = stream.frames or sum(1 for _ in file.decode(stream))
                yield entry, (num_frames, stream.height, stream.width)
        except (OSError, IndexError, av.error.FFmpegError) as error:
            raise UsageError("bad-video", f"{entry.video} cannot be read as a video: {error}.") from error


class DatasetWriter:
    """Adds clips to a dataset folder, which is complete after each of them."""

    def __init__(self, folder: Path) -> None:
        """Open or create a dataset folder.

        Raise OutputError if the folder holds something else, or its lists are damaged.
        """
        self.folder = folder
        present = [name for name in LISTS if (folder / name).exists()]
        if folder.is_dir() and any(folder.iterdir()) and not present:
            fix = "Choose another one."
            raise OutputError("output-not-ours", f"{folder} holds something else than a dataset, and was kept.", fix)
        self.rows: list[tuple[str, str, str]] = []
        if present:
            columns = [(folder / name).read_text(encoding="utf-8").splitlines() for name in present]
            if len(present) < len(LISTS) or len({len(column) for column in columns}) > 1:
                fix = "Correct them, or remove it."
                raise OutputError("damaged-dataset", f"The lists of {folder} do not fit each other.", fix)
            self.rows = list(zip(*columns, strict=True))

    def add(
        self,
        name: str,  # start of the file names
        prompt: str,
        video: np.ndarray,  # [T, H, W, 3] uint8 sRGB
        tracking: np.ndarray,  # [T, H, W, 3] uint8
        fps: float,
    ) -> bool:
        """Add a clip, unless the dataset already has the same one.

        Returns:
            Whether the clip was added.

        Raises:
            OutputError: if it cannot be written.
        """
        if video.shape != tracking.shape or video.dtype != np.uint8 or tracking.dtype != np.uint8:
            raise ValueError(f"video {video.shape} and tracking {tracking.shape} must be uint8 of one shape")
        digest = hashlib.blake2b(np.ascontiguousarray(video).data, digest_size=4)
        digest.update(np.ascontiguousarray(tracking).data)
        stem = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.') or 'clip'}-{digest.hexdigest()}"
        row = (" ".join(prompt.split()), f"videos/{stem}.mp4", f"tracking/{stem}.mp4")
        if any(row[1] == other[1] for other in self.rows):
            return False
        try:
            # A track is its color: 4:2:0 chroma would mix the colors of neighboring points.
            for file, frames, lossless in ((row[1], video, False), (row[2], tracking, True)):
                with atomic_file(self.folder / file) as part:
                    write_video(part, frames, fps, lossless)
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
        """Replace the lists together: a kill between the renames is noticed by their different lengths."""
        with tempfile.TemporaryDirectory(prefix=".lists-", dir=self.folder) as folder:
            for index, name in enumerate(LISTS):
                text = "".join(row[index] + "\n" for row in self.rows)
                (Path(folder) / name).write_text(text, encoding="utf-8")
            for name in LISTS:
                shutil.move(Path(folder) / name, self.folder / name)
