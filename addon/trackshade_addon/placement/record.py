# SPDX-License-Identifier: GPL-3.0-or-later
"""What placing needs of a result: read from its `job.json` and checked, since anybody may have edited that
file.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.core.errors import OutputError, ShotError
from trackshade.core.fitting import SizeFit
from trackshade.shot import CameraTrack

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """A result folder and when, through which camera and how cut its pictures show the scene.

    Attributes:
        folder: absolute.
        pictures: [T] the shaded frames.
        samples: [T] scene frame numbers of the pictures, ascending; sub-frames allowed.
        view_layer: the one that was captured.
        fit: how the pictures lie over the scene's frame.
        camera: what the samples were seen through; its intrinsics are in pixels of the pictures.
        nearest: least depth of what the camera saw, metres; infinite where that is unknown.
    """

    folder: Path
    pictures: tuple[Path, ...]
    samples: tuple[float, ...]
    view_layer: str
    fit: SizeFit
    camera: CameraTrack
    nearest: float

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all cameras that samples were seen through."""
        return tuple(dict.fromkeys(self.camera.sources))

    @property
    def frame_intrinsics(self) -> np.ndarray:
        """[T, 3, 3] intrinsics in pixels of the scene's frame."""
        return np.linalg.inv(self.fit.apply(np.eye(3))) @ self.camera.intrinsics

    @property
    def name(self) -> str:
        return self.folder.name


def read_result(folder: Path) -> Result:
    """Reads a result folder.

    Raises:
        OutputError: there is no result, it was written by a newer version, or parts of it are missing or
            damaged.
    """
    folder = folder.resolve()
    path = folder / "job.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OutputError(
            "no-result", f"There is no result in {folder}: job.json is missing.", "Choose the folder of a finished job."
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"job.json cannot be read ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise _damaged(folder, "job.json names no format")
    if record["format"] > FORMAT:
        raise OutputError(
            "result-too-new",
            f"The result in {folder} was written in format {record['format']}; this Trackshade reads up to {FORMAT}.",
            "Update Trackshade.",
        )
    try:
        shot = record["shot"]
        samples = tuple(float(frame) for frame in shot["frames"])
        fit = _fit(shot)
        camera = _camera(shot["camera"])
        view_layer = str(shot["view_layer"])
        nearest = float(math.inf if shot.get("nearest") is None else shot["nearest"])
    except (KeyError, TypeError, ValueError, IndexError, ShotError, np.linalg.LinAlgError) as error:
        raise _damaged(folder, f"job.json does not say how its frames lie in the scene ({error!r})") from error
    if not samples or len(camera.sources) != len(samples) or not all(map(math.isfinite, samples)):
        raise _damaged(folder, "job.json does not say which frames it shows")
    if any(b <= a for a, b in pairwise(samples)):
        raise _damaged(folder, "its frame numbers do not ascend")
    pictures = tuple(folder / "frames" / f"{number:04d}.png" for number in range(1, len(samples) + 1))
    for picture in pictures:
        if not picture.is_file():
            raise _damaged(folder, f"frames/{picture.name} is missing")
    return Result(folder, pictures, samples, view_layer, fit, camera, nearest)


def _camera(data: dict[str, Any]) -> CameraTrack:
    track = CameraTrack(
        name=str(data["name"]),
        sources=tuple(str(name) for name in data["sources"]),
        intrinsics=np.array(data["intrinsics"], np.float64).reshape(-1, 3, 3),
        world_to_camera=np.array(data["world_to_camera"], np.float64).reshape(-1, 4, 4),
        orthographic=np.array(data["orthographic"], bool),
        clip=np.array(data["clip"], np.float64).reshape(-1, 2),
    )
    if not all(np.isfinite(part).all() for part in (track.intrinsics, track.world_to_camera, track.clip)):
        raise ValueError("the camera is not finite")
    if not np.linalg.det(track.world_to_camera).all() or not (track.intrinsics[:, (0, 1), (0, 1)] > 0).all():
        raise ValueError("the camera has no extent")
    return track


def _fit(shot: dict[str, Any]) -> SizeFit:
    """The size fit; a shot that was not made from a scene's frame lies over its own."""
    data = shot.get("size_fit")
    if data is None:
        size = (int(shot["size"][0]), int(shot["size"][1]))
        return SizeFit(size, (1.0, 1.0), size, "pad", (1.0, 1.0), (0.0, 0.0), "")
    fit = SizeFit.from_dict(data)
    numbers = [*fit.source, *fit.pixel_aspect, *fit.size, *fit.scale]
    if len(numbers) != 8 or len(fit.offset) != 2 or not all(0 < n < math.inf for n in numbers):
        raise ValueError("the size fit has no extent")
    if not all(map(math.isfinite, fit.offset)):
        raise ValueError("the size fit's offset is not finite")
    return fit


def _damaged(folder: Path, what: str) -> OutputError:
    return OutputError("damaged-result", f"The result in {folder} is damaged: {what}.", "Shade the shot again.")
