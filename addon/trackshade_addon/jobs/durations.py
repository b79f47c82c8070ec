# SPDX-License-Identifier: GPL-3.0-or-later
"""How long jobs took on this computer, and the estimate of the next one.

A job's duration is that of the jobs of the same kind that are nearest in size, scaled to its number of pixels. Jobs of
the same scene count before those of other scenes, since geometry and first frames of scenes differ. Time in which a job
waited for other jobs or for the start of the backend does not count.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trackshade.config.settings import ShadeSettings
from trackshade.core import folders
from trackshade.core.atomic_files import write_json
from trackshade.core.errors import TrackshadeError

from ..capture.request import ShotRequest

WAITING = ("queued", "starting")  # states of `Progress` that do not count
MAX_KEPT = 200  # durations
_NEAREST = 3  # earlier jobs that an estimate is made of


@dataclass(frozen=True)
class Duration:
    """How long a job took.

    Attributes:
        kind: what it was, by `job_kind`.
        scene: path of the file and name of the scene.
        pixels: number of pixels of all frames and cameras.
        seconds: how long it took.
    """

    kind: str
    scene: tuple[str, str]
    pixels: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """How long a job will probably take.

    Attributes:
        seconds: how long.
        is_of_scene: whether that was measured on jobs of its own scene.
    """

    seconds: float
    is_of_scene: bool


def durations_file() -> Path:
    """Return the file of durations. Raise UsageError if there is no home folder."""
    return folders.home() / "durations.json"


def job_kind(request: ShotRequest, settings: ShadeSettings, backend: str) -> str:
    """Return a text that jobs have in common which do the same to each pixel.

    Args:
        request: what is captured.
        settings: how it is shaded.
        backend: address of the backend; "" for the one of this computer.
    """
    first = request.first_frame if request.first_frame in ("render", "none") else "picture"
    has_video = settings.needs is not None
    parts = {
        "backend": backend,
        "output": settings.output,
        "first": first,
        "light": request.light,
        "model": settings.model if has_video or request.needs_first_frame else "",
        "steps": settings.steps if has_video else None,
        "memory": settings.memory if has_video else "",
        "size": settings.output_size,
        "image_model": settings.image_model,
        "splats": settings.splats > 0,
    }
    return json.dumps(parts, sort_keys=True)


def read_durations() -> list[Duration]:
    """Return the durations of earlier jobs, oldest first; none where they cannot be read."""
    try:
        items = json.loads(durations_file().read_text(encoding="utf-8"))
        return [
            Duration(str(item["kind"]), (str(item["scene"][0]), str(item["scene"][1])), pixels, seconds)
            for item in items
            if (pixels := int(item["pixels"])) > 0 and math.isfinite(seconds := float(item["seconds"])) and seconds > 0
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError, TrackshadeError):
        return []


def keep_duration(duration: Duration) -> None:
    """Add the duration of a job to those that are kept; a disk that cannot be written keeps none."""
    kept = [*read_durations(), duration][-MAX_KEPT:]
    try:
        write_json(durations_file(), [asdict(item) for item in kept])
    except TrackshadeError:
        return


def estimate(kind: str, scene: tuple[str, str], pixels: int, earlier: Sequence[Duration]) -> Estimate | None:
    """Return how long a job will probably take; None if no job of its kind is known.

    Args:
        kind: what it is, by `job_kind`.
        scene: path of the file and name of the scene.
        pixels: number of pixels of all frames and cameras.
        earlier: durations of earlier jobs, oldest first.
    """
    alike = [item for item in earlier if item.kind == kind]
    of_scene = [item for item in alike if item.scene == scene]
    newest_first = (of_scene or alike)[::-1]
    nearest = sorted(newest_first, key=lambda item: abs(math.log(item.pixels / pixels)))[:_NEAREST]
    if not nearest:
        return None
    return Estimate(statistics.median(item.seconds * pixels / item.pixels for item in nearest), bool(of_scene))
