# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders frames of a shot in another Blender, so that this one stays free, or can go on with a render of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import later
from trackshade.client.progress import Progress, wait_for
from trackshade.core.errors import ShotError
from trackshade.shot import Shot

from ..capture.first_frame import SampleRenderer
from ..capture.scene_settings import first_frame_engine
from .blender_process import BlenderProcess, SceneCopy, answer

_IMAGES = "images.npy"


def render_elsewhere(
    shot: Shot,
    samples: Sequence[int],
    on_main: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    copy: SceneCopy | None = None,
) -> Generator[Progress, None, np.ndarray]:
    """Render samples of a shot in a separate Blender process, as `SampleRenderer` does.

    Args:
        shot: The shot.
        samples: Numbers of the samples, ascending.
        on_main: Runs a call on Blender's main thread.
        copy: A copy of the file that may be saved already; None to save one.

    Returns:
        [N, H, W, 3] uint8.

    Raises:
        ShotError: They could not be rendered.
    """
    count = len(samples)
    what = (
        "the first frame" if count == 1 else "every frame" if count == len(shot.frame_numbers) else "the first frames"
    )
    told = Progress("rendering", f"{what}, in a separate Blender process", steps=None if count == 1 else count)
    with tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True) as name:
        copy = copy or SceneCopy(Path(name) / "scene.blend")
        process = BlenderProcess(Path(name), shot, copy)
        on_main(process.save)
        reason = yield from process.run(
            render_in_folder,
            ",".join(map(str, samples)),
            copy.engine,
            describe=lambda done: told if count == 1 else replace(told, step=done),
        )
        if process.done < count:
            raise ShotError(
                "render-failed",
                "The first frame could not be rendered in a separate Blender process: "
                f"{reason or 'it printed nothing'}.",
                "Choose another engine or an image for the first frame, under Look.",
            )
        copied = later(_copy_images, process.folder / _IMAGES, shot, count)  # gigabytes of a long shot
        return (yield from wait_for(copied, "rendering", what))


def _copy_images(path: Path, shot: Shot, count: int) -> np.ndarray:
    """Return a copy of the images of the other process, whose folder is removed."""
    images = new_frames(shot, count)
    images[:] = np.load(path, mmap_mode="r", allow_pickle=False)
    return images


def new_frames(shot: Shot, count: int) -> np.ndarray:
    """Return room for images of a shot, [count, H, W, 3] uint8, in a temporary file: they may exceed the memory."""
    width, height = shot.size
    with tempfile.TemporaryFile(prefix="trackshade-") as file:
        return np.memmap(file, np.uint8, "w+", shape=(count, height, width, 3))


def render_in_folder(folder: str, numbers: str, engine: str) -> None:
    """Render samples, joined by commas, by an engine in the other process, which has the copy of the file open."""
    samples = [int(number) for number in numbers.split(",")]

    def render(shot: Shot, scene: bpy.types.Scene) -> Iterator[int]:
        if first_frame_engine(scene) != engine:  # Blender takes another one where it is missing
            raise RuntimeError(f"it lacks the render engine {engine}")
        width, height = shot.size
        path = Path(folder) / _IMAGES
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (len(samples), height, width, 3))
        with SampleRenderer(shot, scene, scene.view_layers[shot.view_layer], keep_played=False) as renderer:
            for index, t in enumerate(samples):
                for _ in renderer.approach(t):
                    pass
                images[index] = renderer.picture(t)
                images.flush()
                yield index + 1

    answer(folder, render)
