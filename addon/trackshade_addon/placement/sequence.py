# SPDX-License-Identifier: GPL-3.0-or-later
"""The image sequence of a plate: one picture per scene frame, whatever frames the model was asked for.

A model's samples may lie on sub-frames, or several scene frames apart. A plate shows, in each whole scene
frame from the first sample to the last, the sample that is nearest in time; of two equally near ones the
earlier. Before the first and after the last sample there is no plate. Where the timeline's markers switch
cameras, only samples seen through the frame's own camera count, and a frame whose camera was never sampled
has no plate.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trackshade.core.atomic_files import atomic_folder
from trackshade.core.errors import OutputError

from .record import Result

_NEAR = 1e-6  # samples are rounded to this


@dataclass(frozen=True)
class Sequence:
    """Files that Blender plays as an image sequence.

    Attributes:
        first: the file that stands for the sequence.
        start, end: first and last scene frame that has a picture.
        offset: added to a frame's place in the sequence to get its file's number: `ImageUser.frame_offset`.
        cameras: by camera, the ranges (first, last) of scene frames in which its plate shows.
    """

    first: Path
    start: int
    end: int
    offset: int
    cameras: dict[str, list[tuple[int, int]]]

    @property
    def duration(self) -> int:
        return self.end - self.start + 1


@dataclass(frozen=True)
class FrameChoice:
    """The picture and the camera of one scene frame."""

    frame: int
    sample: int  # index into Result.samples
    camera: str | None  # None: the plate is hidden in this frame


def choose_frames(result: Result, active: Callable[[int], str | None]) -> list[FrameChoice]:
    """The choice for each scene frame from the first sample to the last, as this module's rule says.

    Args:
        active: the name of the camera that the scene is seen through in a frame.
    """
    start = math.ceil(result.samples[0] - _NEAR)
    end = math.floor(result.samples[-1] + _NEAR)
    if end < start:  # all samples between two frames
        start = end = round(result.samples[0])
    switches = len(result.sources) > 1
    chosen = []
    for frame in range(start, end + 1):
        camera = active(frame) if switches else result.camera.sources[0]
        own = [t for t, name in enumerate(result.camera.sources) if name == camera]
        nearest = min(own or range(len(result.samples)), key=lambda t: (abs(result.samples[t] - frame), t))
        chosen.append(FrameChoice(frame, nearest, camera if own else None))
    return chosen


def write_sequence(
    result: Result, choices: list[FrameChoice], pictures: list[Path] | None = None, name: str = "plate"
) -> Sequence:
    """Fills the result's folder `name` with links (copies where the disk has no links) to its frames, or to other
    `pictures`, one for each sample.

    A file is named after its scene frame, `plate_0012.png`. Blender cannot play files with numbers below
    zero: where the first frame is below 1, the numbers count from 1 instead.

    Raises:
        OutputError: the folder cannot be written.
    """
    start, end = choices[0].frame, choices[-1].frame
    shift = max(0, 1 - start)
    folder = result.folder / name
    names = [f"{name}_{choice.frame + shift:04d}.png" for choice in choices]
    try:
        with atomic_folder(folder, single_writer=True) as partial:
            for file, choice in zip(names, choices, strict=True):
                _link((pictures or result.pictures)[choice.sample], partial / file)
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"The plate's images cannot be written to {folder}: {error.strerror or error}.",
            "Make the result's folder writable, or copy it to one that is.",
        ) from error
    return Sequence(folder / names[0], start, end, start + shift - 1, _ranges(choices))


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def _ranges(choices: list[FrameChoice]) -> dict[str, list[tuple[int, int]]]:
    ranges: dict[str, list[tuple[int, int]]] = {}
    before: str | None = None
    for choice in choices:
        if choice.camera is not None:
            own = ranges.setdefault(choice.camera, [])
            if choice.camera == before:
                own[-1] = (own[-1][0], choice.frame)
            else:
                own.append((choice.frame, choice.frame))
        before = choice.camera
    return ranges
