# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist chooses for a job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from trackshade.core.errors import UsageError

CONTROLS = ("mesh", "points")
GLASS = ("opaque", "through")
HAIR = ("none", "strands")
OUTPUTS = ("video", "tracking")
TRACKING_RANGES = ("training", "demo")


@dataclass(frozen=True)
class ShadeSettings:
    """Settings of one job; None means the model's own default.

    Attributes:
        model: name in the registry.
        prompt, negative_prompt: what to show, what to avoid.
        steps: denoising steps.
        guidance: classifier-free guidance scale.
        seed: of the CPU generator, so that it means the same on every device.
        control: "mesh" colors every surface point, "points" draws `points` sampled tracks.
        points: number of sampled tracks.
        control_scale: how strongly the tracks lead; 1 as trained, 0 as if there were none.
        control_start, control_end: shares of the steps between which they lead at all.
        tracking_range: value range in which the autoencoder gets the tracking video: "training" [-1, 1] or
            "demo" [0, 1] (the released demonstration's).
        preview_every: a preview frame comes with every n-th step; 0 for none.
        output: "video" shades; "tracking" ends with the tracking video that would steer it, and needs no model.
    """

    model: str = "mini"
    prompt: str = ""
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    control: str = "mesh"
    points: int = 4900
    control_scale: float = 1.0
    control_start: float = 0.0
    control_end: float = 1.0
    tracking_range: str = "training"
    preview_every: int = 5
    output: str = "video"

    def __post_init__(self) -> None:
        _require(isinstance(self.model, str) and bool(self.model), "model", self.model, "a model's name")
        _require(isinstance(self.prompt, str), "prompt", self.prompt, "text")
        _require(self.negative_prompt is None or isinstance(self.negative_prompt, str), "negative prompt",
                 self.negative_prompt, "text")  # fmt: skip
        _require(self.steps is None or _whole(self.steps, 1, 1000), "steps", self.steps, "1 to 1000")
        _require(self.guidance is None or _real(self.guidance, 0, 100), "guidance", self.guidance, "0 to 100")
        _require(_whole(self.seed, 0, 2**63 - 1), "seed", self.seed, "0 or above")
        _require(self.control in CONTROLS, "control", self.control, " or ".join(CONTROLS))
        _require(_whole(self.points, 1, 1_000_000), "points", self.points, "1 to 1000000")
        _require(_real(self.control_scale, 0, 2), "control scale", self.control_scale, "0 to 2")
        _require(_real(self.control_start, 0, 1), "control start", self.control_start, "0 to 1")
        _require(_real(self.control_end, 0, 1) and self.control_end >= self.control_start, "control end",
                 self.control_end, "0 to 1, not before the start")  # fmt: skip
        _require(self.tracking_range in TRACKING_RANGES, "tracking range", self.tracking_range,
                 " or ".join(TRACKING_RANGES))  # fmt: skip
        _require(_whole(self.preview_every, 0, 1000), "preview", self.preview_every, "0 to 1000")
        _require(self.output in OUTPUTS, "output", self.output, " or ".join(OUTPUTS))

    @property
    def needs(self) -> str | None:
        """The model that has to be loaded, or None."""
        return self.model if self.output == "video" else None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> ShadeSettings:
        """Raises UsageError for unknown names and for values out of range."""
        unknown = set(data) - {item.name for item in fields(ShadeSettings)}
        if unknown:
            raise UsageError("unknown-setting", f"Unknown setting: {', '.join(sorted(map(str, unknown)))}.")
        return ShadeSettings(**data)


def _require(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise UsageError("bad-setting", f"The {name} cannot be {value!r}.", f"Give {wanted}.")


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _real(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and (
        low <= value <= high
    )  # fmt: skip
