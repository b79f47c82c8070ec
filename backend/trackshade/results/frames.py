# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the frames of a result as they are made: image files in threads, and the video for viewing beside them."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import av.error
import numpy as np
from PIL import Image

from trackshade.config.settings import SHOWN_FRAMES
from trackshade.control.picture_files import read_rgb
from trackshade.core.atomic_files import atomic_file
from trackshade.core.colors import linear_to_srgb, srgb_to_linear, to_uint8
from trackshade.core.errors import OutputError, ShotError
from trackshade.results.video import VideoWriter

_COMPRESSION = 3  # of PNG files: level 6 takes three times as long for a twentieth less


class FrameWriter:
    """Writes `frames/0001.png` … and `video.mp4`, one frame after the other. A context manager.

    Beside OpenEXR files, `frames_8bit/0001.png` … are written: what is placed into a scene has to undo the scene's view
    transform, which Blender can only do for the colors that are shown.

    Only a few frames are in memory at a time: `add` waits while those before are still being written.

    Attributes:
        count: number of frames so far.
    """

    def __init__(
        self,
        folder: Path,
        size: tuple[int, int],
        fps: float,
        *,
        image_format: str = "png",
        alpha: bool = False,
        on_frame: Callable[[int, np.ndarray], None] = lambda t, image: None,
    ) -> None:
        """Begin a result's frames.

        Args:
            folder: folder of the result.
            size: (width, height) of the frames, pixels.
            fps: rate at which they play.
            image_format: "png" for 8 bits, or "exr" for scene-linear half floats.
            alpha: whether the image files have an alpha channel.
            on_frame: called with each frame's number from 0 on and its pixels, [H, W, 3] uint8, in their order.

        Raises:
            OutputError: the folder cannot be written, or the backend cannot write OpenEXR files.
        """
        if image_format == "exr":
            check_exr()
        self.count = 0
        self._folder, self._size, self._fps = folder, size, fps
        self._format, self._alpha, self._on_frame = image_format, alpha, on_frame
        self._threads = os.cpu_count() or 1
        self._pending: deque[Future[None]] = deque()
        try:
            for name in ("frames", SHOWN_FRAMES) if image_format == "exr" else ("frames",):
                (folder / name).mkdir(parents=True, exist_ok=True)
                for left in (folder / name).glob(".*"):  # of a process that was killed
                    left.unlink()
            self._video = VideoWriter(folder / "video.mp4", size, fps)
        except (OSError, av.error.FFmpegError) as error:
            raise unwritable(folder, error) from error
        self._pool = ThreadPoolExecutor(self._threads, "frames")
        self._encoder = ThreadPoolExecutor(1, "video")  # which takes the frames in order

    def path(self, t: int) -> Path:
        """Return the file of frame `t`, counted from 0."""
        return frame_path(self._folder, t, self._format)

    def add(
        self,
        image: np.ndarray,  # [H, W, 3] uint8 or float32 sRGB-coded
        alpha: np.ndarray | None = None,  # [H, W] float32
    ) -> np.ndarray:
        """Write the next frame; return it as it is shown, [H, W, 3] uint8.

        Raises:
            OutputError: this or an earlier frame cannot be written.
        """
        shown = image if image.dtype == np.uint8 else to_uint8(image)
        alpha = alpha if self._alpha else None
        path = self.path(self.count)
        if self._format == "exr":
            self._start(self._pool.submit(_write_frame, path, image, alpha, shown))
        else:
            self._start(self._pool.submit(_write_shown, path, shown, alpha))
        self._show(shown)
        return shown

    def keep(self) -> np.ndarray:
        """Take the next frame as it was written before; returns it, [H, W, 3] uint8. Raise OutputError."""
        try:
            shown = read_frame(self.path(self.count))
        except ShotError as error:
            raise OutputError("damaged-result", error.message, "Run the job again.") from error
        self._show(shown)
        return shown

    def close(self) -> None:
        """Wait until everything is written. Raise OutputError."""
        try:
            self._wait(0)
        except OutputError:
            self._stop()
            raise
        self._pool.shutdown()
        self._encoder.shutdown()
        try:
            self._video.close()
        except (OSError, av.error.FFmpegError) as error:
            raise unwritable(self._folder, error) from error

    def __enter__(self) -> FrameWriter:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the frames; after an error, leave what is not begun."""
        if error is None:
            self.close()
        else:
            self._stop()

    def _stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._encoder.shutdown(cancel_futures=True)
        self._video.abort()

    def _show(self, shown: np.ndarray) -> None:
        self._on_frame(self.count, shown)
        self._start(self._encoder.submit(self._video.add, shown))
        self.count += 1

    def _start(self, work: Future[None]) -> None:
        self._pending.append(work)
        self._wait(2 * self._threads + 2)

    def _wait(self, most: int) -> None:
        while len(self._pending) > most:
            try:
                self._pending.popleft().result()
            except (OSError, av.error.FFmpegError) as error:
                raise unwritable(self._folder, error) from error


def frame_path(folder: Path, t: int, image_format: str) -> Path:
    """Return the file of frame `t` of a result, counted from 0."""
    return folder / "frames" / f"{t + 1:04d}.{image_format}"


def read_frame(path: Path) -> np.ndarray:
    """Read a frame of a result as it is shown, [H, W, 3] uint8 sRGB. Raise ShotError."""
    if path.suffix == ".exr":
        import OpenImageIO as oiio

        pixels = oiio.ImageBuf(str(path)).get_pixels(oiio.FLOAT)
        if pixels is None or not np.size(pixels):
            raise ShotError("bad-image", f"The picture {path} cannot be read.", "Save it again.")
        return to_uint8(linear_to_srgb(pixels[..., :3]))
    return read_rgb(path)


def is_whole(path: Path) -> bool:
    """Return whether a frame of a result is there and can be decoded."""
    try:
        read_frame(path)
    except (ShotError, OSError):
        return False
    return True


def check_exr() -> None:
    """Raise OutputError unless OpenEXR files can be written."""
    try:
        import OpenImageIO  # noqa: F401 - whether it is there
    except ImportError as error:
        raise OutputError(
            "no-exr",
            "The backend's Python has no OpenImageIO, so it cannot write OpenEXR files.",
            "Install trackshade[cli] there, or choose PNG.",
        ) from error


def unwritable(folder: Path, error: Exception) -> OutputError:
    """Return the error of a result that cannot be written."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            "output-full", f"The disk of {folder} is full.", "Free some space, or choose another folder."
        )
    reason = getattr(error, "strerror", None) or error
    return OutputError(
        "output-unwritable",
        f"The result cannot be written to {folder}: {reason}.",
        "Choose a folder that can be written.",
    )


def write_png(
    path: Path,
    image: np.ndarray,  # [H, W, 3 or 4] uint8
) -> None:
    """Write a PNG file, whole or not at all. Raise OSError."""
    with atomic_file(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary, compress_level=_COMPRESSION)


def _write_shown(
    path: Path,
    image: np.ndarray,  # [H, W, 3] uint8
    alpha: np.ndarray | None,  # [H, W]
) -> None:
    write_png(path, image if alpha is None else np.dstack([image, to_uint8(alpha)]))


def _write_frame(
    path: Path,
    image: np.ndarray,  # [H, W, 3] uint8 or float32 sRGB-coded
    alpha: np.ndarray | None,  # [H, W]
    shown: np.ndarray,  # [H, W, 3] uint8
) -> None:
    """Write a frame as OpenEXR; before it, since whole ones are kept, the image that is shown."""
    _write_shown(path.parents[1] / SHOWN_FRAMES / f"{path.stem}.png", shown, alpha)
    import OpenImageIO as oiio

    light = srgb_to_linear(image / 255.0 if image.dtype == np.uint8 else image)
    if alpha is not None:
        light = np.dstack([light * alpha[..., None], alpha])  # OpenEXR's alpha is premultiplied
    height, width, channels = light.shape
    spec = oiio.ImageSpec(width, height, channels, "half")
    spec.channelnames = tuple("RGBA"[:channels])
    spec.attribute("compression", "zip")
    spec.attribute("oiio:ColorSpace", "lin_rec709")
    with atomic_file(path) as temporary:
        output = oiio.ImageOutput.create(str(temporary))
        if output is None or not output.open(str(temporary), spec):
            raise OSError(oiio.geterror() if output is None else output.geterror())
        written = output.write_image(np.ascontiguousarray(light, np.float32))
        if not output.close() or not written:
            raise OSError(output.geterror())
