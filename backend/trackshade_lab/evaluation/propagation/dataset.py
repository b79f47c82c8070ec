# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes with true frames: rendered by the add-on into folders, and read from them.

The add-on's `synthetic/reference.py` says what is in a folder. What is there already is not rendered again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from trackshade.cli.blender import run_addon
from trackshade.config import parsing
from trackshade.core.errors import ShotError
from trackshade.shot import Shot

from ..store import write_json

KINDS = ("orbit", "motion", "character", "dolly", "long", "growing", "leaves", "glass", "orthographic", "cut", "lamp",
         "cloth", "glossy", "instances")  # fmt: skip
_SHOTS = ("scene.shot", "shot.trackshot")


@dataclass(frozen=True)
class RenderSettings:
    """How scenes are rendered.

    Attributes:
        size: Largest width and height of the frames, pixels.
        every: Distance of the true frames, of a scene of 33 frames; longer ones have as many.
        samples: Cycles' samples per pixel.
        blender: Path of the Blender to run; see `run_addon`.
    """

    size: tuple[int, int] = (480, 320)
    every: int = 8
    samples: int = 24
    blender: str | None = None


@dataclass(frozen=True)
class EvalScene:
    """A scene with true frames.

    Attributes:
        name: Name of the scene.
        folder: Folder with its files.
        shot: Every frame, at the size of the true frames.
        truth: Samples with a true frame, ascending from 0.
        video: Samples with a frame of the ideal video, ascending; empty if one of them has no clay render.
        lit: Samples with a clay render.
    """

    name: str
    folder: Path
    shot: Shot
    truth: tuple[int, ...]
    video: tuple[int, ...]
    lit: frozenset[int]

    def picture(self, t: int) -> np.ndarray:
        """Return the true frame of sample `t`, [H, W, 3] uint8 sRGB."""
        return _read_image(self.folder / "truth" / f"{t:04d}.png")

    def video_frame(self, t: int) -> np.ndarray:
        """Return the ideal video's frame of sample `t`, [h, w, 3] uint8 sRGB."""
        return _read_image(self.folder / "video" / f"{t:04d}.png")

    def light(self, t: int) -> np.ndarray:
        """Return the clay render of a sample in `lit`, [h, w, 3] float32 linear."""
        return np.load(self.folder / "clay" / f"{t:04d}.npy", allow_pickle=False).astype(np.float32)

    @cached_property
    def frames(self) -> np.ndarray:
        """The true frames, [N, H, W, 3] uint8 sRGB, N as in `truth`."""
        return np.stack([self.picture(t) for t in self.truth])


def open_scene(folder: Path, name: str | None = None) -> EvalScene:
    """Read a folder that the add-on rendered.

    Raises:
        ShotError: if it has no shot, no true frame of the first sample and another one, or no clay renders of them.
    """
    path = next((folder / shot for shot in _SHOTS if (folder / shot).is_file()), None)
    truth, clay = _samples(folder / "truth", "png"), frozenset(_samples(folder / "clay", "npy"))
    if path is None or truth[:1] != (0,) or len(truth) < 2 or not {*truth} <= clay:
        raise ShotError(
            "no-true-frames",
            f"{folder} does not hold a shot with true frames, of its first frame and others, and their clay renders.",
            "Give a scene file, or a folder that 'trackshade evaluate propagation' has rendered.",
        )
    shot = Shot.load(path)
    video = _samples(folder / "video", "png")
    return EvalScene(name or folder.name, folder, shot, truth, video if {*video} <= clay else (), clay)


def render_kind(data: Path, kind: str, seed: int, settings: RenderSettings, report: Callable[[str], None]) -> EvalScene:
    """Render the scene of a kind and a seed into a folder of `data`, unless it is there; see `run_addon`."""
    return _render(data / f"{kind}-{seed}", {"kind": kind, "seed": seed}, settings, report)


def render_file(data: Path, path: Path, settings: RenderSettings, report: Callable[[str], None]) -> EvalScene:
    """Render a scene file into a folder of `data`, unless it is there; see `run_addon`.

    Raises:
        ShotError: if the file is missing.
    """
    if not path.is_file():
        raise ShotError("missing-file", f"The scene file {path} does not exist.", "Check the path.")
    return _render(data / path.stem, {"scene": str(path.absolute())}, settings, report)


def _render(
    folder: Path, source: dict[str, str | int], settings: RenderSettings, report: Callable[[str], None]
) -> EvalScene:
    size = "x".join(map(str, settings.size))
    values = {**source, "size": size, "every": settings.every, "samples": settings.samples}
    done = folder / "complete.json"
    if not done.is_file() or json.loads(done.read_text(encoding="utf-8")) != values:
        arguments = parsing.to_arguments("reference", values | {"out": str(folder)})
        run_addon(arguments, settings.blender, lambda message: report(str(message.get("message") or "")))
        write_json(done, values)
    return open_scene(folder)


def _samples(folder: Path, suffix: str) -> tuple[int, ...]:
    return tuple(sorted(int(path.stem) for path in folder.glob(f"[0-9]*.{suffix}")))


def _read_image(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
