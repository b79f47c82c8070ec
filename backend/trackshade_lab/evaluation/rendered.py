# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes all of whose frames are rendered by the add-on, into folders that `trackshade_addon reference` describes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trackshade.cli.blender import run_addon
from trackshade.config import parsing
from trackshade.core.errors import ShotError
from trackshade.shot import Shot

from .store import write_json

OnMessage = Callable[[str], None]


@dataclass(frozen=True)
class FrameSettings:
    """How frames are rendered.

    Attributes:
        size: largest width and height, pixels.
        samples: Cycles' samples per pixel.
        blender: path of the Blender to run; see `run_addon`.
    """

    size: tuple[int, int]
    samples: int
    blender: str | None = None


def render_frames(folder: Path, source: Mapping[str, Any], settings: FrameSettings, on_message: OnMessage) -> Path:
    """Render all frames of a scene into a folder, unless they are there; return the folder.

    Args:
        folder: where the shot and the frames are written.
        source: options of `reference` that name the scene: "scene", or "kind", "seed", "length" and "look".
        settings: how they are rendered.
        on_message: called with what is done.

    Raises:
        TrackshadeError: as raised by `run_addon`.
    """
    size = "x".join(map(str, settings.size))
    values = {**source, "size": size, "samples": settings.samples, "all_frames": True}
    done = folder / "complete.json"
    if not done.is_file() or json.loads(done.read_text(encoding="utf-8")) != values:
        arguments = parsing.to_arguments("reference", values | {"out": str(folder)})
        run_addon(arguments, settings.blender, lambda message: on_message(str(message.get("message") or "")))
        write_json(done, values)
    return folder


def read_frames(folder: Path, count: int | None = None) -> tuple[Shot, np.ndarray]:
    """Return the shot of a rendered scene, and its first frames, [T, H, W, 3] uint8 sRGB; all by default.

    Raises:
        ShotError: the folder has no shot, or fewer than two frames.
    """
    paths = sorted((folder / "truth").glob("[0-9]*.png"))[:count]
    if not (folder / "scene.shot").is_file() or len(paths) < 2:
        raise ShotError("no-true-frames", f"{folder} does not hold a shot with true frames.", "Give another folder.")
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    return Shot.load(folder / "scene.shot"), images
