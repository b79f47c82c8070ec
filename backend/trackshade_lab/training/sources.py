# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a dataset's clips come from: shots with their renders, results with theirs, and procedural shards.

A clip is a true video and its exact tracking video. A result's own frames are a model's, so they are never taken: what
is taken is the scene's render that was made to compare with (`render --input-render`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from trackshade.control.video import Mode, tracking_video
from trackshade.core.errors import ShotError, UsageError
from trackshade.shot import Shot

from ..scenes import load_shards

SHARD_FPS = 8.0  # procedural clips say nothing about time
Kind = Literal["shot", "result", "shards", "scene"]


@dataclass(frozen=True)
class SourceClip:
    """A clip on its way into a dataset: `video` and `tracking` are [T, H, W, 3] uint8 sRGB."""

    name: str
    prompt: str
    video: np.ndarray
    tracking: np.ndarray
    fps: float


@dataclass(frozen=True)
class Control:
    """How a shot's tracks are drawn; see `control.tracking_video`."""

    mode: Mode = "mesh"
    points: int = 4900
    seed: int = 0


def kind_of(path: Path) -> Kind:
    """What a source is. Raises UsageError: nothing, or a folder of something else."""
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


def read_source(path: Path, kind: Kind, control: Control, limit: int | None = None) -> Iterator[SourceClip]:
    """The clips of a shot, a result or shards (`limit`: the first so many). Raises ShotError, UsageError."""
    if kind == "shot":
        yield shot_clip(path, control)
    elif kind == "result":
        yield result_clip(path)
    else:
        shards = load_shards(path)
        for index in range(min(len(shards), limit or len(shards))):
            video, tracking, caption, _ = shards[index]
            yield SourceClip(f"{path.name}-{index:06d}", caption, np.array(video), np.array(tracking), SHARD_FPS)


def renders_of(shot: Path) -> Path:
    """The folder in which `export --input-render` puts the frames of a shot."""
    return shot.with_suffix(".render")


def shot_clip(path: Path, control: Control, name: str | None = None) -> SourceClip:
    """A shot file and the render beside it; `name` stands for the file's own. Raises ShotError."""
    shot = Shot.load(path)
    video = _pictures(renders_of(path), "Make them with 'trackshade export SCENE --input-render'.")
    expected = (len(shot.frame_numbers), shot.size[1], shot.size[0], 3)
    if video.shape != expected:
        raise ShotError(
            "wrong-render",
            f"The render of {path} has {_said(video.shape)}, and the shot {_said(expected)}.",
            "Export the scene again with --input-render.",
        )
    tracking = tracking_video(shot, control.mode, control.points, control.seed).frames
    scene = str(shot.source.get("scene") or "")
    words = scene if scene not in ("", "Scene") else (name or path.stem)
    return SourceClip(name or path.stem, words.replace("_", " ").replace("-", " "), video, tracking, float(shot.fps))


def result_clip(folder: Path) -> SourceClip:
    """A result folder that has the input render. Raises ShotError."""
    try:
        record = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        prompt, fps = str(record["settings"]["prompt"]), float(record["shot"]["fps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShotError("damaged-result", f"The record of the result in {folder} cannot be read.") from error
    if not (folder / "input").is_dir():
        raise ShotError(
            "no-input-render",
            f"The result in {folder} has no input render; its own frames are a model's, not to be learned from.",
            "Render it again with --input-render, or name the scene itself.",
        )
    video, tracking = _pictures(folder / "input", ""), _pictures(folder / "tracking", "")
    if video.shape != tracking.shape:
        raise ShotError("damaged-result", f"Input and tracks in {folder} have different shapes.")
    return SourceClip(folder.name, prompt or folder.name.replace("-", " "), video, tracking, fps)


def _pictures(folder: Path, fix: str) -> np.ndarray:
    """[T, H, W, 3] uint8 of a folder's numbered PNG files."""
    paths = sorted(folder.glob("[0-9]*.png"))
    if not paths:
        raise ShotError("no-input-render", f"There are no rendered frames in {folder}.", fix or None)
    frames = []
    for path in paths:
        try:
            with Image.open(path) as image:
                frames.append(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ShotError("bad-picture", f"{path} cannot be read as a picture.") from error
    if len({frame.shape for frame in frames}) > 1:
        raise ShotError("bad-picture", f"The pictures in {folder} have different sizes.")
    return np.stack(frames)


def _said(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} frames of {shape[2]}x{shape[1]} pixels"
