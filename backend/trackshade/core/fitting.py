# SPDX-License-Identifier: GPL-3.0-or-later
"""How a shot's frames and size are fitted to what a model takes: explicit rules, each stated in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trackshade.core.errors import ShotError

FRAME_RULES = ("auto", "choose", "step", "resample")
SIZE_MODES = ("pad", "crop")


@dataclass(frozen=True)
class FrameMap:
    """Which scene frames the model's frames show.

    Attributes:
        start, end, step: the range that was asked for, scene frames.
        rule: "exact", "choose", "step" or "resample".
        frame_numbers: the model's frames as scene frame numbers, sub-frames allowed.
        fps: rate at which those samples play in real time.
        statement: the rule in words, for results and panels.
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
        return {
            ("frames" if key == "frame_numbers" else key): list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def fit_frames(
    start: float, end: float, step: float, fps: float, accepted: Sequence[int], rule: str = "auto"
) -> FrameMap:
    """Chooses the scene frames that the model will see.

    Args:
        start, end: first and last scene frame, both included.
        step: distance of the requested frames, scene frames, above 0 (a fraction asks for sub-frames).
        fps: the scene's rate.
        accepted: frame counts that the model takes.
        rule: "choose" keeps the first frames, "step" widens the step by a whole factor, "resample" spreads the
            model's frames evenly from first to last, "auto" keeps the range where it fits and resamples otherwise.

    Raises:
        ShotError: empty or reversed range, bad step or rate, or too few frames for the rule.
    """
    if rule not in FRAME_RULES:
        raise ShotError("bad-frame-rule", f"Unknown frame rule '{rule}'.", f"Use one of {', '.join(FRAME_RULES)}.")
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
    asked = _count(start, end, step)
    counts = sorted(accepted)

    def made(name: str, count: int, stride: float, words: str) -> FrameMap:
        frames = tuple(float(round(start + i * stride, 6)) for i in range(count))
        return FrameMap(start, end, step, name, frames, fps / stride if stride > 0 else fps, words)

    span = f"frames {_number(start)} to {_number(end)}"
    every = "" if step == 1 else f" by {_number(step)}"
    if asked in counts:
        return made("exact", asked, step, f"All {asked} of {span}{every}.")
    fitting = [n for n in counts if n <= asked]
    if rule in ("choose", "step"):
        if not fitting:
            raise ShotError(
                "too-few-frames",
                f"The range {span}{every} has {asked} frames, and the model takes {_either(counts)}.",
                "Choose a longer range, or let the frames be resampled.",
            )
        count = fitting[-1]
        factor = 1 if rule == "choose" or count == 1 else (asked - 1) // (count - 1)
        last = start + (count - 1) * step * factor
        kept = f"{count} of the {asked} {span}{every}: "
        if rule == "choose":
            return made("choose", count, step, kept + f"the first ones, to frame {_number(last)}.")
        return made("step", count, step * factor, kept + f"every {factor}. one, to frame {_number(last)}.")
    if asked < 2:
        raise ShotError(
            "too-few-frames",
            f"The range holds the single frame {_number(start)}, and the model takes {_either(counts)} frames.",
            "Choose a range of at least two frames.",
        )
    count = min(counts, key=lambda n: (abs(n - asked), n))
    stride = (end - start) / (count - 1)
    every = "frame" if stride == 1 else f"{_number(round(stride, 4))} frames"
    words = f"{count} samples spread evenly over {span}, one every {every}."
    return made("resample", count, stride, words)


@dataclass(frozen=True)
class SizeFit:
    """How the model's image lies over the scene's rendered frame: model px = source px * scale + offset.

    Attributes:
        source: the scene's render size (width, height), pixels.
        pixel_aspect: the scene's pixel aspect (x, y); the model's pixels are square.
        size: the model's size (width, height), pixels.
        mode: "pad" (the model's image contains the whole frame; around it the model sees what a larger frame would
            show) or "crop" (the frame contains the whole model image).
        scale, offset: (x, y).
    """

    source: tuple[int, int]
    pixel_aspect: tuple[float, float]
    size: tuple[int, int]
    mode: str
    scale: tuple[float, float]
    offset: tuple[float, float]
    statement: str

    def apply(self, intrinsics: ArrayLike) -> NDArray[np.float64]:
        """Intrinsics [..., 3, 3] of the source frame to those of the model's image, pixels."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return np.array([[sx, 0, ox], [0, sy, oy], [0, 0, 1.0]]) @ np.asarray(intrinsics, np.float64)

    def frame_in_model(self) -> tuple[float, float, float, float]:
        """The source frame's rectangle in the model's image: (left, top, right, bottom), model pixels."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return ox, oy, ox + sx * self.source[0], oy + sy * self.source[1]

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> SizeFit:
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return SizeFit(**values)


def fit_size(
    source: tuple[int, int],
    pixel_aspect: tuple[float, float],
    sizes: Sequence[tuple[int, int]],
    mode: str = "pad",
) -> SizeFit:
    """Lays one of the model's sizes over the scene's frame, centerd; the size nearest in aspect is taken.

    Raises:
        ShotError: unknown mode, or a frame without area.
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
    words = f"{source[0]}×{source[1]} fitted to {size[0]}×{size[1]}"
    if math.isclose(*ratios, rel_tol=1e-9):
        words += "."
    elif mode == "pad":
        words += ", the camera's view widened to the model's aspect; placing cuts it back to the frame."
    else:
        words += ", the frame cut to the model's aspect; its margins are not shaded."
    return SizeFit(source, pixel_aspect, size, mode, scale, offset, words)


def _count(start: float, end: float, step: float) -> int:
    return math.floor((end - start) / step + 1e-9) + 1


def _number(value: float) -> str:
    return f"{value:g}"


def _either(counts: Sequence[int]) -> str:
    return " or ".join(str(n) for n in counts)
