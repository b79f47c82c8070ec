# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a result's folder: what placing needs of its record, checked since `job.json` may have been edited."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.config.settings import SHOWN_FRAMES
from trackshade.core.errors import OutputError, ShotError
from trackshade.core.fitting import SizeFit
from trackshade.core.json_files import read_object
from trackshade.shot import CameraTrack

FORMAT = 1


@dataclass(frozen=True)
class ResultFolder:
    """A result on disk: its images, and when and through which camera they show the scene."""

    folder: Path  # absolute path
    images: tuple[Path, ...]  # [T] the shaded frames, as 8-bit sRGB
    samples: tuple[float, ...]  # [T] scene frame numbers of the images, ascending; sub-frames are allowed
    view_layer: str  # name of the view layer that was captured
    fit: SizeFit  # how the images lie over the scene's frame
    camera: CameraTrack  # camera of the samples; its intrinsics are in pixels of the images
    nearest: float  # least depth that the camera saw, meters; infinite where that is not known

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all cameras that samples were seen through."""
        return tuple(dict.fromkeys(self.camera.sources))

    @property
    def frame_intrinsics(self) -> np.ndarray:
        """[T, 3, 3] intrinsics in pixels of the scene's frame."""
        return np.linalg.inv(self.fit.apply(np.eye(3))) @ self.camera.intrinsics

    @cached_property
    def name(self) -> str:
        """Name of the folder; with that of the whole result, if it is the folder of one of several cameras."""
        whole = self.folder.parent
        return f"{whole.name} {self.folder.name}" if self.folder in camera_folders(whole) else self.folder.name


def find_result_folder(path: Path) -> Path:
    """Return the folder of the result that a path belongs to: the path itself, or the folder of one of its files.

    Args:
        path: a result's folder, or its record, its video, one of its frames, or the folder of its frames. Of a result
            with several cameras, the folder of one of them counts as a result.

    Returns:
        The nearest folder with a record; without one, the folder that was named.
    """
    named = path if path.is_dir() else path.parent
    return next((folder for folder in (named, named.parent) if (folder / "job.json").is_file()), named)


def camera_folders(folder: Path) -> list[Path]:
    """Return the folders of a result's cameras if it has several; none if it has one, or is no result."""
    try:
        record = read_object(folder / "job.json")
        names = [str(item["folder"]) for item in record.get("cameras", ())]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [folder / name for name in names if Path(name).name == name]  # the record may have been edited


def camera_folder(folder: Path, camera: str | None) -> Path:
    """Return the folder of the camera with a name, else that of the first one; `folder` if there is one camera."""
    folders = camera_folders(folder)
    return next((item for item in folders if _camera_name(item) == camera), folders[0] if folders else folder)


def shown_frames(folder: Path) -> Path:
    """Return the folder of a result's frames as 8-bit images: beside OpenEXR frames, that of the same as PNG."""
    return folder / (SHOWN_FRAMES if (folder / "frames" / "0001.exr").is_file() else "frames")


def read_surfaces(folder: Path) -> ResultFolder:
    """Read a result for what is laid onto surfaces: of several cameras, that of the first one, in the common folder.

    Raises:
        OutputError: as `read_result`.
    """
    folders = camera_folders(folder.resolve())
    return replace(read_result(folders[0]), folder=folder.resolve()) if folders else read_result(folder)


def _camera_name(folder: Path) -> str | None:
    try:
        return read_object(folder / "job.json")["shot"]["camera"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_result(folder: Path) -> ResultFolder:
    """Read a result's folder.

    Raises:
        OutputError: There is no result, a newer version wrote it, or parts of it are missing or damaged.
    """
    folder = folder.resolve()
    path = folder / "job.json"
    try:
        record = read_object(path)
    except FileNotFoundError as error:
        raise OutputError(
            "no-result", f"There is no result in {folder}: job.json is missing.", "Choose the folder of a finished job."
        ) from error
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"job.json cannot be read ({error})") from error
    if not isinstance(record.get("format"), int):
        raise _damaged(folder, "job.json names no format")
    if record["format"] > FORMAT:
        raise OutputError(
            "result-too-new",
            f"The result in {folder} was written in format {record['format']}; this Trackshade reads up to {FORMAT}.",
            "Update Trackshade.",
        )
    if "keys" in record:
        raise OutputError(
            "only-key-pictures",
            f"The result in {folder} is pictures of single frames to paint on: there are no frames to place.",
            "Choose the folder of a shaded shot.",
        )
    if isinstance(record.get("motion"), dict) and not record["motion"].get("has_frames"):
        raise OutputError(
            "only-motion",
            f"The result in {folder} is the motion of footage: there are no frames to place.",
            "Use it for an armature.",
        )
    try:
        shot = record["shot"]
        samples = tuple(float(frame) for frame in shot["frames"])
        fit = _read_fit(shot)
        camera = _read_camera(shot["camera"])
        view_layer = str(shot["view_layer"])
        nearest = float(math.inf if shot.get("nearest") is None else shot["nearest"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ShotError, np.linalg.LinAlgError) as error:
        raise _damaged(folder, f"job.json does not say how its frames lie in the scene ({error!r})") from error
    if not samples or len(camera.sources) != len(samples) or not all(map(math.isfinite, samples)):
        raise _damaged(folder, "job.json does not say which frames it shows")
    if any(b <= a for a, b in pairwise(samples)):
        raise _damaged(folder, "its frame numbers do not ascend")
    frames = shown_frames(folder)
    images = tuple(frames / f"{number:04d}.png" for number in range(1, len(samples) + 1))
    for image in images:
        if not image.is_file():
            raise _damaged(folder, f"{frames.name}/{image.name} is missing")
    return ResultFolder(folder, images, samples, view_layer, fit, camera, nearest)


def _read_camera(data: dict[str, Any]) -> CameraTrack:
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


def _read_fit(shot: dict[str, Any]) -> SizeFit:
    """Read the size fit; a shot that was not made from a scene's frame covers its own frame exactly."""
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


def _damaged(folder: Path, reason: str) -> OutputError:
    return OutputError("damaged-result", f"The result in {folder} is damaged: {reason}.", "Shade the shot again.")
