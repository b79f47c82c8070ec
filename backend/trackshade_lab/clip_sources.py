# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of a dataset's clips: shots and results with their input renders, and procedural shards.

A clip is a true video and its exact tracking video. A result's own frames come from a model, so they are never used,
but the scene's render beside them (`render --input-render`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.control.video import Mode, tracking_video
from trackshade.core.errors import ShotError, UsageError
from trackshade.shot import Shot
from trackshade.shot.fitting import plan_fit

from .scenes import load_shards

_SHARD_FPS = 8.0  # procedural clips have no rate
SourceKind = Literal["shot", "result", "shards", "scene"]


@dataclass(frozen=True)
class SourceClip:
    """A clip to be added to a dataset; `video` and `tracking` are [T, H, W, 3] uint8 sRGB."""

    name: str
    prompt: str
    video: np.ndarray
    tracking: np.ndarray
    fps: float


@dataclass(frozen=True)
class ControlOptions:
    """Options of a shot's tracking video, see `trackshade.control.video.tracking_video`."""

    mode: Mode = "mesh"
    points: int = 4900
    seed: int = 0


def find_source_kind(path: Path) -> SourceKind:
    """Return what kind of source a path is.

    Raises:
        UsageError: if it does not exist, or is a folder of something else.
    """
    if path.is_dir():
        if (path / "job.json").is_file():
            return "result"
        if any(path.glob("shard-*")):
            return "shards"
        raise UsageError(
            "unknown-source",
            f"The folder {path} is neither a result nor one of shards.",
            "Name scenes, shots, result folders or folders of shards.",
        )
    if not path.exists():
        raise UsageError("no-source", f"There is no {path}.", "Correct its name.")
    return "shot" if path.suffix == ".shot" else "scene"


def read_source(
    path: Path, kind: SourceKind, control: ControlOptions, limit: int | None = None
) -> Iterator[SourceClip]:
    """Yield the clips of a shot, a result or shards (of shards, the first `limit`).

    Raises:
        ShotError: if a shot or result cannot be used.
        UsageError: if shards cannot be read.
    """
    if kind == "shot":
        yield read_shot_clip(path, control)
    elif kind == "result":
        yield read_result_clip(path)
    else:
        shards = load_shards(path)
        for index in range(min(len(shards), limit or len(shards))):
            video, tracking, caption, _ = shards[index]
            yield SourceClip(f"{path.name}-{index:06d}", caption, np.array(video), np.array(tracking), _SHARD_FPS)


def read_shot_clip(path: Path, control: ControlOptions, name: str | None = None) -> SourceClip:
    """Read a shot file and the render beside it (`export --input-render`).

    Args:
        path: The shot file.
        control: How to draw the tracking video.
        name: Name of the clip; default: the file's.

    Raises:
        ShotError: if the render is missing or does not fit the shot.
    """
    shot, name = Shot.load(path), name or path.stem
    video = read_image_sequence(path.with_suffix(".render"), "Make them with 'trackshade export SCENE --input-render'.")
    expected = (len(shot.frame_numbers), shot.size[1], shot.size[0], 3)
    if video.shape != expected:
        sizes = (f"{shape[0]} frames of {shape[2]}x{shape[1]} pixels" for shape in (video.shape, expected))
        raise ShotError(
            "wrong-render",
            f"The render of {path} has {next(sizes)}, and the shot {next(sizes)}.",
            "Export the scene again with --input-render.",
        )
    tracking = tracking_video(shot, control.mode, control.points, control.seed).frames
    scene = str(shot.source.get("scene") or "")
    caption = scene if scene not in ("", "Scene") else name
    return SourceClip(name, caption.replace("_", " ").replace("-", " "), video, tracking, float(shot.fps))


def read_result_clip(folder: Path) -> SourceClip:
    """Read the input render and the tracking video of a result folder.

    Raises:
        ShotError: if it has no input render, or cannot be read.
    """
    try:
        record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        prompt, fps = str(record["settings"]["prompt"]), float(record["shot"]["fps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShotError("damaged-result", f"The record of the result in {folder} cannot be read.") from error
    if not (folder / "input").is_dir():
        raise ShotError(
            "no-input-render",
            f"The result in {folder} has no input render; its own frames come from a model and are no training data.",
            "Render it again with --input-render, or name the scene itself.",
        )
    video, tracking = read_image_sequence(folder / "input"), read_image_sequence(folder / "tracking")
    if video.shape != tracking.shape:
        video = _fit_render(folder, record, video)
    if video.shape != tracking.shape:
        raise ShotError("damaged-result", f"Input and tracks in {folder} have different shapes.")
    return SourceClip(folder.name, prompt or folder.name.replace("-", " "), video, tracking, fps)


def _fit_render(
    folder: Path,
    record: dict[str, Any],
    video: np.ndarray,  # [T, H, W, 3] of the shot's frames and size
) -> np.ndarray:
    """Return the render of a result at the frames and the size of its tracking video.

    Raises:
        ShotError: if the model saw states between frames, of which there is no render.
    """
    shot, settings = Shot.load(folder / "tracks.shot"), ShadeSettings.from_dict(record["settings"])
    fit = plan_fit(
        shot,
        registry.spec(settings.model),
        frame_rule=settings.frame_rule,
        size_mode=settings.size_mode,
        size=settings.model_size,
    )
    if np.any(fit.positions % 1) or len(video) != len(shot.frame_numbers):
        raise ShotError(
            "wrong-render",
            f"The render of {folder} has {len(video)} frames, and the shot's tracks lie between them.",
            "Render it again with --frame-rule step or choose.",
        )
    return np.stack([fit.fit_image(video[int(t)]) for t in fit.positions])


def read_image_sequence(folder: Path, fix: str | None = None) -> np.ndarray:
    """Read a folder's numbered PNG files as [T, H, W, 3] uint8.

    Raises:
        ShotError: if there are none (with the advice `fix`), or they cannot be read or differ in size.
    """
    paths = sorted(folder.glob("[0-9]*.png"))
    if not paths:
        raise ShotError("no-input-render", f"There are no rendered frames in {folder}.", fix)
    frames = []
    for path in paths:
        try:
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ShotError("bad-picture", f"{path} cannot be read as an image.") from error
    if len({frame.shape for frame in frames}) > 1:
        raise ShotError("bad-picture", f"The images in {folder} have different sizes.")
    return np.stack(frames)
