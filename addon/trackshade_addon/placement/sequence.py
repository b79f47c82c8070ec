# SPDX-License-Identifier: GPL-3.0-or-later
"""Image sequences of results: which image each scene frame shows, the files, and how Blender plays them.

A model's samples may lie on sub-frames, or several scene frames apart. In each whole scene frame from the first sample
to the last, the sample that is nearest in time is shown; of two equally near ones the earlier. Before the first and
after the last sample nothing is shown. Where the timeline's markers switch cameras, only samples seen through the
frame's camera count, and a frame whose camera was never sampled shows nothing.

Blender evaluates frame f at the time f * Old / New of Output Properties > Frame Range > Time Stretching. That time
drives F-curves, the `frame` of driver expressions, the markers that switch cameras, and the image sequences of the
viewport, EEVEE and Workbench. Cycles, the compositor and the sequencer choose images by the frame number f itself.
The samples of a shot are frame numbers, so everything that shows a result is tied to the frame number here.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.atomic_files import atomic_folder
from trackshade.core.errors import OutputError

from ..capture.animation import is_stretched, whole_time
from .collection import stored_path
from .drivers import drive_by_frame
from .result_folder import ResultFolder

_TOLERANCE = 1e-6  # samples are rounded to this
_EARLIEST = -1_000_000  # a start frame before any time that a scene can have


@dataclass(frozen=True)
class Sequence:
    """Files that Blender plays as an image sequence."""

    first: Path  # the file that stands for the sequence
    start: int  # first scene frame that has an image
    end: int  # last scene frame that has an image
    offset: int  # added to a frame's index in the sequence to get its file's number (`ImageUser.frame_offset`)
    # by name of the camera, the ranges (first, last) of scene frames in which its plate is shown
    cameras: dict[str, list[tuple[int, int]]]

    @property
    def duration(self) -> int:
        """Number of frames."""
        return self.end - self.start + 1


@dataclass(frozen=True)
class FrameChoice:
    """The image and the camera of one scene frame."""

    frame: int
    sample: int  # index into ResultFolder.samples
    camera: str | None  # None: the plate is hidden in this frame


def choose_frames(result: ResultFolder, active_camera: Callable[[int], str | None]) -> list[FrameChoice]:
    """Choose an image for each scene frame from the first sample to the last, by the rule of this module.

    `active_camera` returns the name of the camera that the scene uses in a frame.
    """
    start = math.ceil(result.samples[0] - _TOLERANCE)
    end = math.floor(result.samples[-1] + _TOLERANCE)
    if end < start:  # all samples between two frames
        start = end = round(result.samples[0])
    switches = len(result.sources) > 1
    choices = []
    for frame in range(start, end + 1):
        camera = active_camera(frame) if switches else result.camera.sources[0]
        seen = [t for t, name in enumerate(result.camera.sources) if name == camera]
        nearest = min(seen or range(len(result.samples)), key=lambda t: (abs(result.samples[t] - frame), t))
        choices.append(FrameChoice(frame, nearest, camera if seen else None))
    return choices


def write_sequence(
    result: ResultFolder, choices: list[FrameChoice], images: list[Path] | None = None, name: str = "plate"
) -> Sequence:
    """Fill a folder of the result with links to its frames, or to other images, one for each sample.

    The links are copies where the disk has no links. A file is named after its scene frame, such as `plate_0012.png`.
    Blender cannot play files with numbers below zero: where the first frame is below 1, numbers count from 1 instead.

    Raises:
        OutputError: The folder cannot be written.
    """
    start, end = choices[0].frame, choices[-1].frame
    shift = max(0, 1 - start)
    folder = result.folder / name
    names = [f"{name}_{choice.frame + shift:04d}.png" for choice in choices]
    try:
        with atomic_folder(folder, single_writer=True) as partial:
            for file, choice in zip(names, choices, strict=True):
                _link((images or result.images)[choice.sample], partial / file)
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"The plate's images cannot be written to {folder}: {error.strerror or error}.",
            "Make the result's folder writable, or copy it to one that is.",
        ) from error
    return Sequence(folder / names[0], start, end, start + shift - 1, _camera_ranges(choices))


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def _camera_ranges(choices: list[FrameChoice]) -> dict[str, list[tuple[int, int]]]:
    ranges: dict[str, list[tuple[int, int]]] = {}
    previous: str | None = None
    for choice in choices:
        if choice.camera is not None:
            found = ranges.setdefault(choice.camera, [])
            if choice.camera == previous:
                found[-1] = (found[-1][0], choice.frame)
            else:
                found.append((choice.frame, choice.frame))
        previous = choice.camera
    return ranges


def load_sequence(name: str, sequence: Sequence, space: str) -> bpy.types.Image:
    """Load a sequence as a new image data-block with this color space."""
    image = bpy.data.images.load(str(sequence.first), check_existing=False)
    image.name = name
    image.source = "SEQUENCE"
    image.colorspace_settings.name = space
    image.filepath = stored_path(sequence.first)
    return image


def play(user: Any, sequence: Sequence) -> None:
    """Set up an image user, or an image node of the compositor, that Blender plays by frame numbers."""
    user.frame_start = sequence.start
    user.frame_duration = sequence.duration
    user.frame_offset = sequence.offset
    user.use_cyclic = False
    user.use_auto_refresh = True


def play_in_shader(user: bpy.types.ImageUser, sequence: Sequence, scene: bpy.types.Scene) -> None:
    """Set up an image user that some engines play by frame numbers and others by the stretched time.

    Where the scene's time is stretched, the image user shows one image, which a driver chooses by the frame number.
    """
    play(user, sequence)
    if is_stretched(scene):
        user.frame_start, user.frame_duration = _EARLIEST, 1
        offsets = {sequence.start + index: sequence.offset + index for index in range(sequence.duration)}
        drive_by_frame(user, "frame_offset", offsets)


def play_in_viewport(user: bpy.types.ImageUser, sequence: Sequence, scene: bpy.types.Scene) -> None:
    """Set up the image user of a background image.

    The viewport plays it by the whole part of the time, and shows it only in the range of the image user.
    """
    play(user, sequence)
    if is_stretched(scene):
        frames = range(sequence.start, sequence.end + 1)
        times = [whole_time(scene, frame) for frame in frames]
        user.frame_start, user.frame_duration = times[0], times[-1] - times[0] + 1
        lag = {frame: (frame - frames[0]) - (time - times[0]) for frame, time in zip(frames, times, strict=True)}
        drive_by_frame(user, "frame_offset", {frame: sequence.offset + by for frame, by in lag.items()})
