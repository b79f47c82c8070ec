# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the frames of a video that are tracked: evenly spaced in time, from one part between two cuts."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import av.logging
import cv2
import numpy as np

from trackshade.control.picture_files import read_rgb
from trackshade.core.errors import CancelledError, ShotError, UsageError
from trackshade.shot.track_request import TrackRequest

_THUMBNAIL = 96  # px, the longer side of the gray pictures that cuts are found in
_UNLIKE, _OUTSTANDING = 0.35, 2.5  # of a cut: the least difference of two frames, and times the largest one around it
PICTURE_RATE = 24.0  # frames per second of a folder of pictures, where it is not given
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_NEIGHBORS = 6  # frames before and after a cut that it is compared with
# Decoders that tell damage in messages only, and mark no frame. Others know of none: VP8, VP9, HuffYUV, Ut Video and
# QuickTime Animation have no checksums, and decode damage to wrong pixels.
_UNMARKED = frozenset({"dvvideo", "ffv1", "gif", "hevc", "mjpeg"})
_MISSING = 0.5  # s by which a video may be shorter than its file says

Report = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Footage:
    """Frames of a video, evenly spaced in time.

    Attributes:
        images: [T, H, W, 3] uint8 sRGB, T at least 2, upright, with square pixels.
        times: [T] seconds from the video's beginning of the source's frames that were taken.
        fps: frames per second.
        size: (width, height) of the video as it is shown, pixels.
        warnings: sentences about what was left out.
    """

    images: np.ndarray
    times: np.ndarray
    fps: float
    size: tuple[int, int]
    warnings: tuple[str, ...] = ()


def read_footage(path: Path, request: TrackRequest, report: Report, cancelled: Callable[[], bool]) -> Footage:
    """Read the frames that a request names.

    The video is decoded twice: for the times and small pictures of all frames, in which cuts are found, and for the
    frames that are taken. So memory does not grow with the video.

    Raises:
        ShotError: the file is missing, is no video, or has no frames that can be tracked.
        UsageError: the request names a part that the video does not have.
        CancelledError: `cancelled` returned True.
    """
    scan = scan_video(path, request.start, request.duration, report, cancelled)
    parts = np.split(np.arange(len(scan.times)), find_cuts(scan.thumbnails))
    number = request.part or 1
    if number > len(parts):
        raise UsageError(
            "no-such-part",
            f"{path.name} has {len(parts)} part(s) between cuts from {request.start:g} s on, not {number}.",
            "Choose another part.",
        )
    warnings = list(scan.warnings)
    part = parts[number - 1]
    if len(parts) > 1:
        cuts = ", ".join(f"{scan.times[piece[0]]:.2f} s" for piece in parts[1:])
        warnings.append(f"{path.name} has cuts at {cuts}; part {number} of {len(parts)} was tracked.")
    if len(part) < 2:
        raise ShotError(
            "too-few-frames",
            " ".join(
                [
                    f"{path.name} has {len(part)} frame(s) in the part that was asked for; tracking takes 2 or more.",
                    *scan.warnings,
                ]
            ),
            "Choose a longer part, or lift a single picture with: trackshade lift",
        )
    times = scan.times[part]
    typical = float(np.median(np.diff(times)))
    span = float(times[-1] - times[0])
    count = min(request.max_frames, round(span / typical) + 1)
    wanted = np.linspace(times[0], times[-1], count)
    chosen = part[np.abs(times[None] - wanted[:, None]).argmin(axis=1)]
    step = span / (count - 1)
    if step > 0.25:
        warnings.append(
            f"One frame in {step:.1f} s was tracked. Points are lost where much changes between two; track a shorter "
            "part, or more frames."
        )
    taken = []
    for image in take_frames(path, scan.times[chosen], request.size, cancelled):
        taken.append(image)
        report(0.5 + 0.5 * len(taken) / count)
    images = np.stack(taken)
    return Footage(images, scan.times[chosen], 1.0 / step, scan.size, tuple(warnings))


@dataclass(frozen=True, eq=False)
class VideoScan:
    """What was learned about a part of a video by decoding it once.

    Attributes:
        times: [N] seconds from the video's beginning of its frames, ascending.
        thumbnails: [N, h, w] uint8 gray.
        size: (width, height) of the video as it is shown, pixels.
        seconds: length that the file says the whole video has, or None.
        warnings: sentences about what was left out.
    """

    times: np.ndarray
    thumbnails: np.ndarray
    size: tuple[int, int]
    seconds: float | None
    warnings: tuple[str, ...]


def scan_video(
    path: Path,
    start: float,
    duration: float | None,
    report: Report,
    cancelled: Callable[[], bool],
    rate: float = PICTURE_RATE,
) -> VideoScan:
    """Decode a part of a video for the times of its frames and small pictures of them; report half of the progress.

    Args:
        path: the video, or a folder of pictures.
        start: where the part begins, seconds.
        duration: its length, seconds; None up to the end.
        report: called with the fraction that is done, up to 0.5.
        cancelled: whether to end.
        rate: frames per second of a folder of pictures.

    Raises:
        ShotError: the file is missing, is no video, or has no frames there.
        CancelledError: `cancelled` returned True.
    """
    times: list[float] = []
    thumbnails: list[np.ndarray] = []
    size, warnings, damaged = (0, 0), [], []
    end = np.inf if duration is None else start + duration
    with _open(path, rate) as video, video.messages() as messages:
        seconds, is_whole = video.seconds, True
        length = min(end, seconds or np.inf) - start
        for time, frame in video.frames(start):
            if time > end + 1e-6:
                is_whole = False
                break
            if cancelled():
                raise CancelledError
            image = video.upright(frame, _THUMBNAIL, "gray")
            if not times:
                size = video.shown_size(frame)
            elif image.shape != thumbnails[0].shape:
                warnings.append(f"{path.name} changes its size at {time:.2f} s; what follows was left out.")
                is_whole = False
                break
            if times and time <= times[-1]:
                continue  # a repeated or disordered time stamp
            if frame.is_corrupt or (times and messages):
                damaged.append(time)
            messages.clear()
            times.append(time)
            thumbnails.append(image)
            report(0.5 * min(1.0, (time - start) / length) if np.isfinite(length) and length > 0 else 0.0)
        if messages and times:
            damaged.append(times[-1])
        lost = [time for time in video.lost if start - 1e-6 <= time <= end]
        if damaged:
            warnings.append(f"{path.name} is damaged: {len(damaged)} frame(s) from {damaged[0]:.2f} s on have errors.")
        if lost:
            warnings.append(f"{path.name} is damaged: {len(lost)} frame(s) from {lost[0]:.2f} s on cannot be decoded.")
        shown = video.shown_seconds
        if times and (video.is_cut_off or (is_whole and shown and times[-1] < min(shown, end) - _MISSING)):
            warnings.append(f"{path.name} is damaged after {times[-1]:.2f} s; what follows is missing.")
    if not times:
        fix = "Check the file, or the time."
        raise ShotError("too-few-frames", f"{path.name} has no frames from {start:g} s on.", fix)
    return VideoScan(np.array(times), np.stack(thumbnails), size, seconds, tuple(warnings))


def take_frames(
    path: Path,
    times: np.ndarray,
    limit: tuple[int, int],
    cancelled: Callable[[], bool],
    rate: float = PICTURE_RATE,
) -> Iterator[np.ndarray]:
    """Yield the frames of ascending times [T], some of which may be equal, [H, W, 3] uint8 sRGB, one after the other.

    Args:
        path: the video, or a folder of pictures.
        times: seconds, as `scan_video` has found them.
        limit: largest (width, height), pixels; larger frames are made smaller.
        cancelled: whether to end.
        rate: frames per second of a folder of pictures.

    Raises:
        ShotError: the video cannot be read again.
        CancelledError: `cancelled` returned True.
    """
    done = 0
    with _open(path, rate) as video:
        for time, frame in video.frames(times[0]):
            if cancelled():
                raise CancelledError
            image = None
            while done < len(times) and time >= times[done] - 1e-6:
                image = video.upright(frame, limit, "rgb24") if image is None else image
                done += 1
                yield image
            if done == len(times):
                return
    raise ShotError(
        "bad-video", f"{path.name} cannot be read twice in the same way.", "Convert it, for example to MP4."
    )


def read_picture(path: Path, time: float) -> np.ndarray:
    """Return what a video shows at a time, seconds, at its own size: [H, W, 3] uint8 sRGB. Raise ShotError."""
    return next(take_frames(path, np.array([time]), (1 << 16, 1 << 16), lambda: False))


class _Video:
    """A video file that is decoded.

    Attributes:
        path: the file.
        seconds: length that the file says it has, pictures and sound, or None.
        shown_seconds: length that the file says its pictures have, or None.
        lost: times of frames that could not be decoded, seconds from the video's beginning.
        is_cut_off: whether reading ended before the file did.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raise ShotError."""
        self.path, self.is_cut_off = path, False
        self.lost: list[float] = []
        try:
            self._file = av.open(str(path))
        except FileNotFoundError as error:
            raise ShotError("missing-file", f"There is no file {path}.", "Check the path.") from error
        except (OSError, av.error.FFmpegError) as error:
            raise _unreadable(path, error) from error
        if not self._file.streams.video:
            has_sound = bool(self._file.streams.audio)
            self._file.close()
            message = f"{path.name} has sound and no pictures." if has_sound else f"{path.name} has no pictures."
            raise ShotError("no-video", message, "Choose a video file.")
        self._stream = self._file.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.seconds = float(self._file.duration / av.time_base) if self._file.duration else None
        self.shown_seconds = self.seconds if len(self._file.streams) == 1 else None
        if self._stream.duration and self._stream.time_base:
            self.shown_seconds = float(self._stream.duration * self._stream.time_base)

    def __enter__(self) -> _Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def frames(self, start: float) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield time, seconds from the video's beginning, and frame of all frames from `start` on. Raise ShotError."""
        origin = float((self._stream.start_time or 0) * (self._stream.time_base or 0))
        if start > 1.0:
            try:
                self._file.seek(int((start + origin) * av.time_base), backward=True)
            except (OSError, av.error.FFmpegError):
                self._file.seek(0)
        count, failure = 0, None
        rate = float(self._stream.average_rate or 25)
        packets = self._file.demux(self._stream)
        while True:
            packet = None
            try:
                if (packet := next(packets, None)) is None:
                    break
                frames = packet.decode()
            except (OSError, av.error.FFmpegError) as error:
                failure = failure or error
                if packet is None:
                    self.is_cut_off = True
                    break
                stamp = packet.dts if packet.pts is None else packet.pts
                self.lost.append(count / rate if stamp is None else float(stamp * packet.time_base) - origin)
                continue
            for frame in frames:
                time = count / rate if frame.time is None else float(frame.time) - origin
                count += 1
                if time >= start - 1e-6:
                    yield time, frame
        if failure and not count:
            raise _unreadable(self.path, failure) from failure

    @contextlib.contextmanager
    def messages(self) -> Iterator[list[Any]]:
        """Collect the errors that the decoder logs, where frames are not marked as damaged, while the file is read."""
        context = self._stream.codec_context
        if context.name not in _UNMARKED:
            yield []
            return
        level = av.logging.get_level()
        with av.logging.Capture(local=False) as logged:
            av.logging.set_level(av.logging.ERROR)
            try:
                yield logged
            finally:
                # The decoder's threads log as well, for which they need this thread to wait: they would otherwise do
                # so while the file is closed, which waits for them.
                with contextlib.suppress(OSError, av.error.FFmpegError):
                    while context.decode(None):
                        pass
                av.logging.set_level(level)

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel divided by its height."""
        return float(self._stream.sample_aspect_ratio or 1) or 1.0

    def shown_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """Return the (width, height) that a frame is shown with: turned upright, with square pixels."""
        aspect = self.pixel_aspect
        width, height = max(1, round(frame.width * aspect)), frame.height
        return (height, width) if frame.rotation % 180 else (width, height)

    def upright(self, frame: av.VideoFrame, limit: int | tuple[int, int], layout: str) -> np.ndarray:
        """Return a frame's picture as it is shown, made smaller to fit the limit, pixels."""
        width, height = self.shown_size(frame)
        limits = (limit, limit) if isinstance(limit, int) else limit
        scale = min(1.0, limits[0] / width, limits[1] / height)
        size = max(2, round(width * scale)), max(2, round(height * scale))
        turned = frame.rotation % 180 != 0
        # Enlarging never happens: where the pixels are square, the picture keeps its own size or is averaged.
        target = size[::-1] if turned else size
        image = frame.reformat(*target, format=layout, interpolation="AREA").to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


class _Pictures(_Video):
    """A folder of pictures that are the frames of a video, in the order of their names."""

    def __init__(self, path: Path, rate: float) -> None:
        """List the pictures. Raise ShotError if there are none."""
        self.path, self.is_cut_off, self.lost, self._rate = path, False, [], rate
        names = [item for item in path.iterdir() if item.suffix.lower() in _PICTURES and item.name[0] != "."]
        self._files = sorted(names, key=lambda item: [
            int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", item.name)
        ])  # fmt: skip
        if not self._files:
            raise ShotError("no-video", f"The folder {path} has no pictures.", "Choose a video, or another folder.")
        self.seconds = self.shown_seconds = len(self._files) / rate

    @contextlib.contextmanager
    def messages(self) -> Iterator[list[Any]]:
        """Yield nothing: a damaged picture is an error."""
        yield []

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel divided by its height."""
        return 1.0

    def frames(self, start: float) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield time, seconds, and frame of all pictures from `start` on. Raise ShotError."""
        for number, file in enumerate(self._files):
            if number / self._rate >= start - 1e-6:
                yield number / self._rate, av.VideoFrame.from_ndarray(read_rgb(file), format="rgb24")


def _open(path: Path, rate: float) -> _Video:
    """Open a video, or a folder of pictures that play at a rate. Raise ShotError."""
    return _Pictures(path, rate) if path.is_dir() else _Video(path)


def _unreadable(path: Path, error: Exception) -> ShotError:
    reason = getattr(error, "strerror", None) or str(error)
    return ShotError("bad-video", f"{path.name} cannot be read as a video: {reason}.", "Check the file, or convert it.")


def find_cuts(
    thumbnails: np.ndarray,  # [N, h, w] uint8 gray
) -> np.ndarray:
    """Return the indices of the frames that begin a new part, ascending.

    Two neighboring frames belong to different parts if what they show cannot be moved into each other by optical flow,
    much less so than the frames around them. A flash, after which the picture is as before, is no cut.
    """
    changes = np.array([_difference(one, other) for one, other in itertools.pairwise(thumbnails)])
    cuts: list[int] = []
    for index in np.flatnonzero(changes > _UNLIKE):
        around = np.r_[changes[max(0, index - _NEIGHBORS) : index], changes[index + 1 : index + 1 + _NEIGHBORS]]
        around_it = [(index, after) for after in (index + 2, index + 3)]
        around_it += [(before, index + 1) for before in (index - 1, index - 2)]  # of a flash that ends
        is_flash = any(
            before >= 0
            and after < len(thumbnails)
            and _difference(thumbnails[before], thumbnails[after]) < 0.5 * changes[index]
            for before, after in around_it
        )
        outstanding = not len(around) or changes[index] > _OUTSTANDING * np.median(around)
        if outstanding and not is_flash and (not cuts or index + 1 - cuts[-1] > 2):
            cuts.append(int(index) + 1)
    return np.array(cuts, np.intp)


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return how little of a picture can be moved onto another: 0 for the same one, about 1 for unrelated ones."""
    if np.abs(one.astype(np.int16) - other).mean() < 2.0:
        return 0.0
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    field = flow.calc(one, other, None)  # type: ignore[call-overload]
    height, width = one.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(other, x + field[..., 0], y + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    left = np.abs(cv2.blur(moved, (3, 3)).astype(np.float32) - cv2.blur(one, (3, 3))).mean()
    contrast = 0.5 * (one.std() + other.std()) + 4.0
    return float(left / contrast)
