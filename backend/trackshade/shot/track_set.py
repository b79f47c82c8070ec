# SPDX-License-Identifier: GPL-3.0-or-later
"""Track sets: tracks kept frame by frame beside an export, by one render or by several machines.

set.json      how the set is to be shaded: range, settings (`Order`)
0001.shot …   one sample each, at the render's size; its source identifies each mesh by "keys"
first.png     the export's first frame, if it is the first frame of the job
0001.png …    every frame of the export, if the job follows the light of the export
key_0025.png … key pictures of further frames
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackshade.config.settings import ShadeSettings
from trackshade.core.atomic_files import write_json
from trackshade.core.errors import OutputError, ShotError, TrackshadeError
from trackshade.core.fitting import FrameMap, all_frames

FORMAT = 2
FILE, FIRST = "set.json", "first.png"
_FRAME = re.compile(r"(-?\d{4,})\.shot")


@dataclass(frozen=True)
class Order:
    """How a set is to be shaded."""

    start: int  # first scene frame of the exported range
    end: int  # last scene frame of the range
    step: int  # step of the range
    fps: float  # the scene's rate, frames per second
    settings: ShadeSettings  # the job's settings
    picture: bool  # whether the first exported frame is the job's first frame; then the set needs `first.png`
    result: str  # name of the result's folder, beside the set's
    keys: tuple[int, ...] = ()  # frames that have a key picture in the set

    def frames(self) -> FrameMap:
        """Return the exported frames, each of which is a sample of the shot. Raise ShotError for an empty range."""
        return all_frames(self.start, self.end, self.step, self.fps)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values of the file."""
        return {"format": FORMAT, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Order:
        """Return the order of plain values. Raise KeyError, TypeError, ValueError or UsageError."""
        values = {field.name: data[field.name] for field in dataclasses.fields(Order) if field.name != "keys"}
        values["keys"] = tuple(data.get("keys", ()))
        values["settings"] = ShadeSettings.from_dict(values["settings"])
        order = Order(**values)
        numbers = order.start, order.end, order.step, *order.keys
        if not all(isinstance(n, int) for n in numbers) or order.step < 1 or not math.isfinite(order.fps):
            raise ValueError("its range is not valid")
        if Path(order.result).name != order.result:
            raise ValueError("its result is not beside it")
        return order


@dataclass(frozen=True)
class TrackSet:
    """A folder of tracks, and how it is to be shaded."""

    folder: Path
    order: Order

    def path(self, frame: float) -> Path:
        """Return the file of a frame's tracks."""
        return self.folder / f"{frame_name(frame)}.shot"

    def frames(self) -> set[int]:
        """Return the frames whose tracks exist."""
        names = (_FRAME.fullmatch(path.name) for path in self.folder.iterdir())
        return {int(name[1]) for name in names if name is not None}

    def picture(self, frame: float) -> Path:
        """Return the file of a frame's picture."""
        return self.folder / f"{frame_name(frame)}.png"

    def key_picture(self, frame: float) -> Path:
        """Return the file of a frame's key picture."""
        return self.folder / f"key_{frame_name(frame)}.png"

    def missing(self) -> list[str]:
        """Return descriptions of what is missing; empty for a complete set."""
        existing = self.frames()
        numbers = [int(frame) for frame in self.order.frames().frame_numbers]
        frames = [frame for frame in numbers if frame not in existing]
        missing = [f"the tracks of {_format_frames(frames)}"] if frames else []
        if self.order.picture and not (self.folder / FIRST).is_file():
            missing.append(f"the picture of frame {self.order.start}")
        if self.order.settings.light == "render":
            frames = [frame for frame in numbers if not self.picture(frame).is_file()]
            missing += [f"the pictures of {_format_frames(frames)}"] if frames else []
        frames = [frame for frame in self.order.keys if not self.key_picture(frame).is_file()]
        return missing + ([f"the key pictures of {_format_frames(frames)}"] if frames else [])

    def check_complete(self) -> None:
        """Raise ShotError("incomplete-set"), which names what is missing, unless the set is complete."""
        missing = self.missing()
        if missing:
            raise ShotError(
                "incomplete-set",
                f"The tracks in {self.folder} are not complete: {' and '.join(missing)} are missing.",
                "Render those frames with the view layer's Trackshade switch on, then shade the folder.",
            )

    def claim(self) -> bool:
        """Claim the set for shading; return False if another process has claimed these very frames."""
        frames = self.order.frames().frame_numbers
        stamp = sum(self.path(frame).stat().st_mtime_ns for frame in frames) & (2**64 - 1)
        claim = self.folder / f"claimed-{stamp:016x}"
        self.release(keep=claim)
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def release(self, keep: Path | None = None) -> None:
        """Remove all claims except `keep`, so that the set may be claimed again."""
        for claim in self.folder.glob("claimed-*"):
            if claim != keep:
                claim.unlink(missing_ok=True)


def frame_name(frame: float) -> str:
    """Return the name of a whole frame's file without its suffix, such as 0012 or -0003."""
    whole = round(frame)
    return f"{'-' if whole < 0 else ''}{abs(whole):04d}"


def write_set(folder: Path, order: Order) -> TrackSet:
    """Write a set's order; existing tracks stay. Raise OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / FILE, order.to_dict())
    except (OutputError, OSError) as error:
        reason = error.message if isinstance(error, OutputError) else error.strerror or str(error)
        raise unwritable(folder, reason) from error
    return TrackSet(folder, order)


def read_set(folder: Path) -> TrackSet:
    """Read a set's order. Raise ShotError if the folder holds no set, or a damaged one."""
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


def unwritable(folder: Path, reason: str) -> OutputError:
    """Return the error of an output folder that cannot be written."""
    return OutputError(
        "output-unwritable",
        f"Nothing can be written to {folder}: {reason.rstrip('.')}.",
        "Choose an output folder that can be written and has space.",
    )


def _format_frames(frames: list[int]) -> str:
    """Return frames as text, such as "frames 1, 4 and 7"; runs of neighbors as "1 to 25"."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][-1] + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    shown = ", ".join(texts[:8]) + (f" and {len(texts) - 8} more" if len(texts) > 8 else "")
    return f"frame {shown}" if len(frames) == 1 else f"frames {shown}"
