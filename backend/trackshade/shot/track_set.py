# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks kept frame by frame beside an export, by one render or by several machines, and what is to become of them.

set.json      the order: range, sizes, settings (`Order`)
0001.shot …   one sample each, at the render's own size; its source names each mesh by "keys"
first.png     the export's first frame, where it gives the look
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.atomic_files import write_json
from trackshade.core.errors import OutputError, ShotError, TrackshadeError
from trackshade.core.fitting import FrameMap, fit_frames

FORMAT = 1
FILE, FIRST = "set.json", "first.png"
_FRAME = re.compile(r"(-?\d{4,})\.shot")


@dataclass(frozen=True)
class Order:
    """What is to become of a set.

    Attributes:
        start, end, step: the exported range, scene frames.
        fps: the scene's rate.
        frame_rule, size_mode: how range and frame are fitted to the model's; see `trackshade.core.fitting`.
        size: (width, height) of the model's, where it has several; None for the nearest in aspect.
        settings: how it is shaded.
        picture: whether the first exported frame gives the look; then the set needs `first.png`.
        result: name of the result's folder, beside the set's.
    """

    start: int
    end: int
    step: int
    fps: float
    frame_rule: str
    size_mode: str
    size: tuple[int, int] | None
    settings: ShadeSettings
    picture: bool
    result: str

    def frames(self, spec: ModelSpec) -> FrameMap:
        """Those of the exported frames that the model gets; whole ones, since no others were exported.

        Raises ShotError where there are too few.
        """
        count = (self.end - self.start) // self.step + 1
        rule = (
            self.frame_rule if self.frame_rule in ("choose", "step") or count in spec.allowed_frame_counts else "step"
        )
        if count < min(spec.allowed_frame_counts):
            allowed = " or ".join(map(str, sorted(spec.allowed_frame_counts)))
            raise ShotError(
                "too-few-frames",
                f"The export has {count} frames, and the model takes {allowed}.",
                "Render a longer range, or every frame of it; on a farm, name the whole range as Own Range under Shot.",
            )
        return fit_frames(self.start, self.end, self.step, self.fps, spec.allowed_frame_counts, rule)

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Order:
        """Raises KeyError, TypeError, ValueError, UsageError for what `to_dict` has not made."""
        values = {field.name: data[field.name] for field in dataclasses.fields(Order)}
        values["settings"] = ShadeSettings.from_dict(values["settings"])
        values["size"] = None if values["size"] is None else tuple(values["size"])
        order = Order(**values)
        numbers = order.start, order.end, order.step
        if not all(isinstance(n, int) for n in numbers) or order.step < 1 or not math.isfinite(order.fps):
            raise ValueError("its range is none")
        if Path(order.result).name != order.result:
            raise ValueError("its result is to go elsewhere")
        return order


@dataclass(frozen=True)
class TrackSet:
    """A folder of tracks."""

    folder: Path
    order: Order

    def path(self, frame: float) -> Path:
        return self.folder / f"{frame_name(frame)}.shot"

    def frames(self) -> set[int]:
        """The frames whose tracks are there."""
        names = (_FRAME.fullmatch(path.name) for path in self.folder.iterdir())
        return {int(name[1]) for name in names if name is not None}

    def missing(self, spec: ModelSpec) -> list[str]:
        """What the model needs and is not there, in words; empty for a complete set. Raises as `Order.frames`."""
        there = self.frames()
        lacking = [int(frame) for frame in self.order.frames(spec).frame_numbers if int(frame) not in there]
        found = [f"the tracks of {_spans(lacking)}"] if lacking else []
        if self.order.picture and not (self.folder / FIRST).is_file():
            found.append(f"the picture of frame {self.order.start}")
        return found

    def complete_or_raise(self, spec: ModelSpec) -> None:
        """Raises ShotError("incomplete-set") that names what is missing."""
        missing = self.missing(spec)
        if missing:
            raise ShotError(
                "incomplete-set",
                f"The tracks in {self.folder} are not complete: {' and '.join(missing)} are missing.",
                "Render those frames with the view layer's Trackshade switch on, then shade the folder.",
            )

    def claim(self, spec: ModelSpec) -> bool:
        """Takes the set as it is for shading; False where another process took just these frames before."""
        stamp = sum(self.path(frame).stat().st_mtime_ns for frame in self.order.frames(spec).frame_numbers) & (
            2**64 - 1
        )
        for old in self.folder.glob("claimed-*"):
            if old.name != f"claimed-{stamp:016x}":
                old.unlink(missing_ok=True)
        try:
            os.close(os.open(self.folder / f"claimed-{stamp:016x}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def give_back(self) -> None:
        """It may be claimed again: its shading failed."""
        for old in self.folder.glob("claimed-*"):
            old.unlink(missing_ok=True)


def frame_name(frame: float) -> str:
    """What a whole frame's file is called: 0012, or -0003."""
    whole = round(frame)
    return f"{'-' if whole < 0 else ''}{abs(whole):04d}"


def write_set(folder: Path, order: Order) -> TrackSet:
    """Makes or renews a set's order; tracks that are there stay. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, order.to_dict())
    except OutputError as error:
        raise unwritable(folder, error.message) from error
    except OSError as error:
        raise unwritable(folder, error.strerror or str(error)) from error
    return TrackSet(folder, order)


def read_set(folder: Path) -> TrackSet:
    """Raises ShotError where the folder holds no set, or a damaged one."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] > FORMAT:
            raise ShotError(
                "shot-too-new",
                f"{path} has format {data['format']}; this Trackshade reads up to {FORMAT}.",
                "Update Trackshade on this side.",
            )
        return TrackSet(folder, Order.from_dict(data))
    except FileNotFoundError as error:
        raise ShotError(
            "no-tracks-kept",
            f"There are no tracks in {folder}: {FILE} is missing.",
            "Name a folder that a render with a view layer's Trackshade switch has made.",
        ) from error
    except ShotError:
        raise
    except (OSError, ValueError, KeyError, TypeError, TrackshadeError) as error:
        raise ShotError("damaged-set", f"{path} is damaged: {error}.", "Render the export again.") from error


def free_result(folder: Path, name: str) -> Path:
    """A new empty folder `name` in `folder`, or with a number where that is taken. Raises OutputError."""
    try:
        number = 1
        while True:
            out = folder / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                out.mkdir(parents=True)
                return out
            number += 1
    except OSError as error:
        raise unwritable(folder, error.strerror or str(error)) from error


def unwritable(folder: Path, reason: str) -> OutputError:
    return OutputError(
        "output-unwritable",
        f"Nothing can be written to {folder}: {reason.rstrip('.')}.",
        "Choose an output folder that can be written and has space.",
    )


def _spans(frames: list[int]) -> str:
    """1, 4 and 7 as words; runs of neighbors as 1 to 25."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    shown = ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
    return f"frame {shown}" if len(frames) == 1 else f"frames {shown}"
