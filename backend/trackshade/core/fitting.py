# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames and size of a shot as rendered, and their fit to what a model accepts by rules that a sentence states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackshade.core.errors import ShotError
from trackshade.core.text import join_or

FRAME_RULES = ("auto", "choose", "step", "resample")
SIZE_MODES = ("pad", "crop")


@dataclass(frozen=True)
class FrameMap:
    """The scene frames that the model's frames show.

    Attributes:
        start: First frame of the requested range.
        end: Last frame of the requested range.
        step: Distance of the requested frames, scene frames.
        rule: "exact", "choose", "step", "resample", or "hold" for a single frame that is repeated.
        frame_numbers: Scene frame number of each of the model's frames; may be fractional.
        fps: Rate at which those samples play in real time.
        statement: A sentence that says how the range was fitted.
    """

    start: float
    end: float
    step: float
    rule: str
    frame_numbers: tuple[float, ...]
    fps: float
    statement: str

    @property
    def requested(self) -> int:
        """Number of frames that the range and the step ask for."""
        return _count(self.start, self.end, self.step)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, whose key "frames" holds `frame_numbers`."""
        return {
            ("frames" if key == "frame_numbers" else key): list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def all_frames(start: float, end: float, step: float, fps: float) -> FrameMap:
    """Returns every frame of a range, as a shot is captured.

    Args:
        start: First scene frame.
        end: Last scene frame, included.
        step: Distance of the frames in scene frames, above 0. A fraction requests sub-frames.
        fps: The scene's frame rate.

    Raises:
        ShotError: The range is empty or reversed, or the step or rate is not positive.
    """
    _check_range(start, end, step, fps)
    return fit_frames(start, end, step, fps, (_count(start, end, step),))


def fit_frames(
    start: float, end: float, step: float, fps: float, accepted: Sequence[int], rule: str = "auto"
) -> FrameMap:
    """Chooses the scene frames that the model sees.

    Args:
        start: First scene frame.
        end: Last scene frame, included.
        step: Distance of the requested frames in scene frames, above 0. A fraction requests sub-frames.
        fps: The scene's frame rate.
        accepted: Frame counts that the model accepts.
        rule: "choose" keeps the first frames, "step" widens the step by a whole factor, "resample" spreads the
            model's frames evenly from first to last, "auto" keeps the range where it fits and resamples otherwise.

    Raises:
        ShotError: The range is empty or reversed, the step or rate is not positive, or there are too few frames.
    """
    if rule not in FRAME_RULES:
        raise ShotError("bad-frame-rule", f"Unknown frame rule '{rule}'.", f"Use one of {', '.join(FRAME_RULES)}.")
    _check_range(start, end, step, fps)
    requested = _count(start, end, step)
    counts = sorted(accepted)

    def frame_map(name: str, count: int, stride: float, statement: str) -> FrameMap:
        frames = tuple(float(round(start + i * stride, 6)) for i in range(count))
        return FrameMap(start, end, step, name, frames, fps / stride if stride > 0 else fps, statement)

    span = f"frames {_number(start)} to {_number(end)}"
    every = "" if step == 1 else f" by {_number(step)}"
    if requested in counts:
        return frame_map("exact", requested, step, f"All {requested} of {span}{every}.")
    fitting = [n for n in counts if n <= requested]
    if rule in ("choose", "step"):
        if not fitting:
            raise ShotError(
                "too-few-frames",
                f"The range {span}{every} has {requested} frames, and the model takes {join_or(counts)}.",
                "Choose a longer range, or let the frames be resampled.",
            )
        count = fitting[-1]
        factor = 1 if rule == "choose" or count == 1 else (requested - 1) // (count - 1)
        last = start + (count - 1) * step * factor
        kept = f"{count} of the {requested} {span}{every}: "
        if rule == "choose":
            return frame_map("choose", count, step, kept + f"the first ones, to frame {_number(last)}.")
        return frame_map("step", count, step * factor, kept + f"one in {factor}, to frame {_number(last)}.")
    if requested < 2:
        raise ShotError(
            "too-few-frames",
            f"The range holds the single frame {_number(start)}, and the model takes {join_or(counts)} frames.",
            "Choose a range of at least two frames.",
        )
    count = min(counts, key=lambda n: (abs(n - requested), n))
    stride = (end - start) / (count - 1)
    every = "frame" if stride == 1 else f"{_number(round(stride, 4))} frames"
    statement = f"{count} samples spread evenly over {span}, one every {every}."
    return frame_map("resample", count, stride, statement)


@dataclass(frozen=True)
class SizeFit:
    """Where the scene's rendered frame lies in the model's image: model px = source px * scale + offset.

    Attributes:
        source: The scene's render size (width, height), pixels.
        pixel_aspect: The scene's pixel aspect (x, y); the model's pixels are square.
        size: The model's size (width, height), pixels.
        mode: "pad" (the model's image contains the whole frame; around it the model sees what a larger frame would
            show) or "crop" (the frame contains the whole model image).
        scale: (x, y).
        offset: (x, y), model pixels.
        statement: A sentence that says how the size was fitted.
    """

    source: tuple[int, int]
    pixel_aspect: tuple[float, float]
    size: tuple[int, int]
    mode: str
    scale: tuple[float, float]
    offset: tuple[float, float]
    statement: str

    def apply(self, intrinsics: ArrayLike) -> NDArray[np.float64]:
        """Converts intrinsics [..., 3, 3] of the source frame to those of the model's image, pixels."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return np.array([[sx, 0, ox], [0, sy, oy], [0, 0, 1.0]]) @ np.asarray(intrinsics, np.float64)

    @property
    def is_identity(self) -> bool:
        """Whether the model's image is the source frame, pixel by pixel."""
        return self.size == self.source and self.scale == (1.0, 1.0) and self.offset == (0.0, 0.0)

    def then(self, other: SizeFit) -> SizeFit:
        """Return where this fit's source frame lies in the image to which `other` fits this fit's image."""
        (sx, sy), (ox, oy) = other.scale, other.offset
        scale = (self.scale[0] * sx, self.scale[1] * sy)
        offset = (self.offset[0] * sx + ox, self.offset[1] * sy + oy)
        return SizeFit(self.source, self.pixel_aspect, other.size, other.mode, scale, offset, other.statement)

    def frame_in_model(self) -> tuple[float, float, float, float]:
        """Returns the source frame's rectangle in the model's image: (left, top, right, bottom), model pixels."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return ox, oy, ox + sx * self.source[0], oy + sy * self.source[1]

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> SizeFit:
        """Reads the JSON form."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return SizeFit(**values)


def fit_size(
    source: tuple[int, int],
    pixel_aspect: tuple[float, float],
    sizes: Sequence[tuple[int, int]],
    mode: str = "pad",
) -> SizeFit:
    """Fits the scene's frame, centered, to the model's size that is nearest in aspect.

    Args:
        source: The scene's render size (width, height), pixels.
        pixel_aspect: The scene's pixel aspect (x, y).
        sizes: The model's sizes (width, height), pixels.
        mode: "pad" or "crop"; see `SizeFit`.

    Raises:
        ShotError: The mode is unknown, or the frame has no area.
    """
    if mode not in SIZE_MODES:
        raise ShotError("bad-size-mode", f"Unknown size rule '{mode}'.", f"Use one of {', '.join(SIZE_MODES)}.")
    if min(*source, *pixel_aspect) <= 0:
        raise ShotError(
            "bad-size", f"The render size {source[0]}×{source[1]} has no area.", "Set a resolution above zero."
        )
    width, height = source[0] * pixel_aspect[0], source[1] * pixel_aspect[1]  # in square units
    size = min(sizes, key=lambda s: (abs(math.log(s[0] / s[1] * height / width)), -s[0] * s[1]))
    ratios = (size[0] / width, size[1] / height)
    unit = min(ratios) if mode == "pad" else max(ratios)
    scale = (unit * pixel_aspect[0], unit * pixel_aspect[1])
    offset = ((size[0] - scale[0] * source[0]) / 2, (size[1] - scale[1] * source[1]) / 2)
    statement = f"{source[0]}×{source[1]} fitted to {size[0]}×{size[1]}"
    if math.isclose(*ratios, rel_tol=1e-9):
        statement += "."
    elif mode == "pad":
        statement += ", the camera's view widened to the model's aspect; placing cuts it back to the frame."
    else:
        statement += ", the frame cut to the model's aspect; its margins are not shaded."
    return SizeFit(source, pixel_aspect, size, mode, scale, offset, statement)


def rendered_size(
    source: tuple[int, int], pixel_aspect: tuple[float, float], region: tuple[int, int, int, int] | None = None
) -> SizeFit:
    """Returns the size of a shot that has the pixels of the scene's render, of its region if only that is rendered.

    Args:
        source: The scene's render size (width, height), pixels.
        pixel_aspect: The scene's pixel aspect (x, y), which the shot's pixels have as well.
        region: (left, top, right, bottom) of the rendered region, pixels; None for the whole frame.

    Raises:
        ShotError: The frame or the region has no area.
    """
    left, top, right, bottom = (0, 0, *source) if region is None else region
    size = right - left, bottom - top
    if min(*source, *size, *pixel_aspect) <= 0:
        raise ShotError(
            "bad-size",
            f"The render size {size[0]}×{size[1]} has no area.",
            "Set a resolution above zero, and a render region that is not empty.",
        )
    statement = f"{size[0]}×{size[1]}, as rendered."
    if region is not None:
        statement = f"{size[0]}×{size[1]}, the rendered region of {source[0]}×{source[1]}."
    return SizeFit(source, pixel_aspect, size, "crop" if region else "pad", (1.0, 1.0), (-left, -top), statement)


def _check_range(start: float, end: float, step: float, fps: float) -> None:
    if not (math.isfinite(start) and math.isfinite(end) and end >= start):
        raise ShotError(
            "bad-range",
            f"The frame range {_number(start)} to {_number(end)} is empty or reversed.",
            "Give a first frame that is not after the last one.",
        )
    if not (math.isfinite(step) and step > 0 and math.isfinite(fps) and fps > 0):
        raise ShotError(
            "bad-step", f"Frame step {step} and rate {fps} must both be above 0.", "Correct the step or the rate."
        )


def _count(start: float, end: float, step: float) -> int:
    return math.floor((end - start) / step + 1e-9) + 1


def _number(value: float) -> str:
    return f"{value:g}"
