# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist chooses for a job, and where Trackshade keeps its files."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from trackshade.errors import OutputError, UsageError

CONTROLS = ("mesh", "points")
GLASS = ("opaque", "through")
HAIR = ("none", "strands")
OUTPUTS = ("video", "tracking")
PLACES = "places.json"  # in `home`: folders that were chosen
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
        control: "mesh" colours every surface point, "points" draws `points` sampled tracks.
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


def home() -> Path:
    """Folder of jobs, models and logs: TRACKSHADE_HOME, else the platform's per-user data folder."""
    chosen = os.environ.get("TRACKSHADE_HOME")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "trackshade"


def models_dir() -> Path:
    """The one folder of fetched models: TRACKSHADE_MODELS, else the one chosen for this user, else in `home`."""
    chosen = os.environ.get("TRACKSHADE_MODELS") or _chosen_models()
    return Path(chosen).expanduser() if chosen else home() / "models"


def choose_models_dir(folder: Path | None) -> None:
    """Chooses the folder of fetched models for every program of this user; None for the one in `home`.

    Raises:
        UsageError: TRACKSHADE_MODELS says another one. OutputError: `home` cannot be written.
    """
    said = os.environ.get("TRACKSHADE_MODELS")
    if said and folder != Path(said).expanduser():
        raise UsageError("models-folder-set", f"TRACKSHADE_MODELS says {said}.", "Change it there.")
    write_json(home() / PLACES, {} if folder is None else {"models": str(folder.absolute())})


def write_json(path: Path, value: Any) -> None:
    """Writes a small file in one step. Raises OutputError("unwritable")."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(value, indent=1), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OutputError(
            "unwritable",
            f"{path} cannot be written: {error.strerror}.",
            f"Make {path.parent} a folder that you can write to.",
        ) from error


def _chosen_models() -> str | None:
    try:
        found = json.loads((home() / PLACES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    chosen = found.get("models") if isinstance(found, dict) else None
    return chosen if isinstance(chosen, str) else None


def jobs_dir() -> Path:
    """The job store of the served backend."""
    return home() / "jobs"


def connection_file() -> Path:
    """Where the served backend writes its address and token."""
    return home() / "backend.json"


def _require(holds: bool, name: str, value: Any, wanted: str) -> None:
    if not holds:
        raise UsageError("bad-setting", f"The {name} cannot be {value!r}.", f"Give {wanted}.")


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _real(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and (
        low <= value <= high
    )  # fmt: skip
