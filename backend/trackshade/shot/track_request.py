# SPDX-License-Identifier: GPL-3.0-or-later
"""What to track in a video: the settings that the add-on and the command line hand to the backend."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trackshade.config.trackers import FLOW, TRACKERS
from trackshade.core.errors import UsageError
from trackshade.shot.lift_request import ObjectBox
from trackshade.shot.lifted import Rectangle


@dataclass(frozen=True)
class TrackRequest:
    """What to track in a video, and what is known of it.

    Attributes:
        start: time of the first frame, seconds from the video's beginning.
        duration: length of what is tracked, seconds; None up to the next cut or the end.
        max_frames: most frames that are tracked. Longer or faster footage is resampled evenly in time.
        size: largest (width, height) that is tracked, pixels; the aspect is kept. The scene has the video's own size.
        spacing: distance of tracked points in the first frame, pixels of what is tracked.
        fov: horizontal field of view, degrees; None to solve it.
        focal: focal length, pixels of the video's own size; None to solve it. At most one of the two is given.
        masks: image files that are white where something moves in the first tracked frame; one for each moving thing.
        boxes: left, top, right and bottom around things that move in that frame, pixels of the video's own size; what
            they hold is cut out.
        mask_model: folder or identifier of a mask network (SAM 2, EdgeTAM) that cuts it out; None for GrabCut.
        part: number of the part between two cuts, from 1; None for the one that holds `start`.
        tracker: one of `TRACKERS`: optical flow, or a network that follows the points of the first frame.
        tracker_weights: file of the network's weights.

    Raises:
        UsageError: a value is out of its range.
    """

    start: float = 0.0
    duration: float | None = None
    max_frames: int = 49
    size: tuple[int, int] = (720, 480)
    spacing: float = 6.0
    fov: float | None = None
    focal: float | None = None
    masks: tuple[str, ...] = ()
    boxes: tuple[Rectangle, ...] = ()
    mask_model: str | None = None
    part: int | None = None
    tracker: str = FLOW
    tracker_weights: str | None = None

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # also for NaN
                fix = f"Give a value from {low:g} to {high:g}." if math.isfinite(high) else f"Give {low:g} or more."
                raise UsageError("bad-setting", f"The tracking setting {name} is {value:g}.", fix)
        for box in self.boxes:
            ObjectBox(box)  # raises UsageError
        if self.mask_model is not None and not self.boxes:
            raise UsageError("bad-setting", "A mask network is named, but no box for it.", "Give a box, or no network.")
        if min(self.size) < 64:
            raise UsageError("bad-setting", f"The tracking size {self.size} is too small.", "Give 64 pixels or more.")
        if self.fov is not None and self.focal is not None:
            raise UsageError("bad-setting", "Both a field of view and a focal length are given.", "Give one of them.")
        if self.tracker not in TRACKERS:
            fix = f"Trackers: {', '.join(TRACKERS)}."
            raise UsageError("unknown-tracker", f"There is no tracker '{self.tracker}'.", fix)
        if (self.tracker == FLOW) != (self.tracker_weights is None):
            raise UsageError(
                "bad-setting",
                "Weights of a tracker are given, but optical flow has none."
                if self.tracker == FLOW
                else f"The tracker '{self.tracker}' needs the file of its weights.",
                "Give a network and its weights, or neither.",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> TrackRequest:
        """Return the request of plain values, such as those of a JSON file; what is missing has its default.

        Raises:
            UsageError: a value is unknown, of the wrong type, or out of its range.
        """
        unknown = sorted({*data} - {field.name for field in dataclasses.fields(TrackRequest)})
        if unknown:
            raise UsageError("bad-setting", f"There is no tracking setting {unknown[0]!r}.")
        values = dict(data)
        try:
            for name in ("start", "duration", "spacing", "fov", "focal"):
                if values.get(name) is not None:
                    values[name] = float(values[name])
            for name in ("max_frames", "part"):
                if values.get(name) is not None:
                    values[name] = int(values[name])
            if "size" in values:
                width, height = values["size"]
                values["size"] = (int(width), int(height))
            if "masks" in values:
                values["masks"] = tuple(os.fspath(path) for path in values["masks"])
            if "boxes" in values:
                values["boxes"] = tuple(_rectangle(box) for box in values["boxes"])
        except (TypeError, ValueError) as error:
            raise UsageError("bad-setting", f"The tracking settings are not valid: {error}.") from error
        return TrackRequest(**values)


def _rectangle(values: Iterable[Any]) -> Rectangle:
    left, top, right, bottom = map(float, values)
    return left, top, right, bottom


_RANGES = (
    ("start", 0.0, math.inf), ("duration", 1e-3, math.inf), ("max_frames", 2, 1000), ("spacing", 2.0, 64.0),
    ("fov", 5.0, 150.0), ("focal", 1.0, 1e6), ("part", 1, math.inf),
)  # fmt: skip
