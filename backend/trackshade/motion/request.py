# SPDX-License-Identifier: GPL-3.0-or-later
"""What drives the motion model: the part of some footage, the figure in it, the reference picture and the camera."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackshade.core.errors import UsageError

MODES = ("reenact", "stabilise", "novel-view")
HANDS = ("auto", "none")
"""Ways to find hands, besides a file that says where they are."""
MAX_SECONDS = 60.0
"""Longest part of footage that is used; of longer footage it is the first part."""


@dataclass(frozen=True)
class DrivingRequest:
    """What of some footage drives the motion model.

    Attributes:
        mode: "reenact" lets the figure of the reference do the footage's motion; "stabilise" shows the footage's own
            figure from a camera that stands still; "novel-view" keeps the figure in the pose of the first frame, and
            moves the camera only.
        start: time of the first frame, seconds from the footage's beginning.
        end: time of the last frame, seconds; None up to the end.
        rate: frames per second of a folder of pictures.
        box: (left, top, right, bottom) around the figure in all frames, pixels of the footage; None to find it.
        mask: picture that is white where the figure is, in all frames; empty for none.
        person: number of the figure, from the left and from 1; None if there is one only.
        reference: picture of the figure that is to move; empty for the first frame of the footage.
        reference_box: box around the figure in the reference, pixels; None to find it.
        hands: file that says where the hands are (see `trackshade.motion.hand_places`), "auto" to look for them where a
            detector is installed, or "none" to read the body alone.

    Raises:
        UsageError: a value is out of its range.
    """

    mode: str = "reenact"
    start: float = 0.0
    end: float | None = None
    rate: float = 24.0
    box: tuple[float, float, float, float] | None = None
    mask: str = ""
    person: int | None = None
    reference: str = ""
    reference_box: tuple[float, float, float, float] | None = None
    hands: str = "auto"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError("bad-setting", f"There is no mode '{self.mode}'.", f"Modes: {', '.join(MODES)}.")
        if not (0 <= self.start < math.inf) or not (self.end is None or self.start <= self.end < math.inf):
            end = "its end" if self.end is None else f"{self.end:g} s"
            raise UsageError(
                "bad-setting",
                f"The footage cannot be used from {self.start:g} s to {end}.",
                "Give a start from 0 on, and an end after it.",
            )
        if not 0.1 <= self.rate <= 1000:
            raise UsageError("bad-setting", f"The rate of the pictures is {self.rate:g}.", "Give 0.1 to 1000.")
        if self.person is not None and self.person < 1:
            raise UsageError("bad-setting", f"There is no person {self.person}.", "Count from 1, from the left.")
        for box in (self.box, self.reference_box):
            if box is not None and not (box[0] < box[2] and box[1] < box[3] and all(map(math.isfinite, box))):
                raise UsageError(
                    "bad-box", f"The box {', '.join(f'{n:g}' for n in box)} has no area.",
                    "Give left, top, right and bottom: 120,80,260,400.",
                )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> DrivingRequest:
        """Return the request of plain values, such as those of a JSON file; what is missing has its default.

        Raises:
            UsageError: a value is unknown, of the wrong type, or out of its range.
        """
        unknown = sorted({*data} - {field.name for field in dataclasses.fields(DrivingRequest)})
        if unknown:
            raise UsageError("bad-setting", f"There is no setting {unknown[0]!r} of driving footage.")
        values = dict(data)
        try:
            for name in ("start", "end", "rate"):
                if values.get(name) is not None:
                    values[name] = float(values[name])
            for name in ("box", "reference_box"):
                if values.get(name) is not None:
                    left, top, right, bottom = values[name]
                    values[name] = (float(left), float(top), float(right), float(bottom))
            for name, default in (("mask", ""), ("reference", ""), ("hands", "auto")):
                values[name] = os.fspath(values.get(name) or default)
            if values.get("person") is not None:
                values["person"] = int(values["person"])
        except (TypeError, ValueError) as error:
            raise UsageError("bad-setting", f"The settings of the driving footage are not valid: {error}.") from error
        return DrivingRequest(**values)
