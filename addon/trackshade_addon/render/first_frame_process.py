# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the first frame of a job of the engine: while Blender renders, only another Blender can render it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client.progress import Progress
from trackshade.core.errors import ShotError
from trackshade.core.images import write_png
from trackshade.shot import Shot

from ..capture.first_frame import read_picture, render_sample
from ..jobs.blender_process import BlenderProcess, answer

_PICTURE = "first.png"


def render_first_frame_elsewhere(
    shot: Shot, on_main: Callable[[Callable[[], Any]], Any]
) -> Generator[Progress, None, np.ndarray]:
    """Render a shot's first sample in a separate Blender process: [H, W, 3] uint8, as `render_sample` does.

    Args:
        shot: The shot.
        on_main: Runs a call on Blender's main thread.

    Raises:
        ShotError: It could not be rendered.
    """
    progress = Progress("rendering", "the first frame, in a separate Blender process")
    with tempfile.TemporaryDirectory(prefix="trackshade-") as name:
        process = BlenderProcess(Path(name), shot)
        on_main(process.save)
        reason = yield from process.run(render_in_folder, describe=lambda done: progress)
        picture = process.folder / _PICTURE
        if not picture.is_file():
            raise ShotError(
                "render-failed",
                "The first frame could not be rendered in a separate Blender process: "
                f"{reason or 'it printed nothing'}.",
                "Choose another engine or an image for the first frame, in Render Properties under Look.",
            )
        return on_main(lambda: read_picture(picture))


def render_in_folder(folder: str) -> None:
    """Render the first frame in the other process, which has the copy of the file open."""

    def render(shot: Shot, scene: bpy.types.Scene) -> Iterator[int]:
        layer = scene.view_layers[shot.view_layer]
        write_png(Path(folder) / _PICTURE, render_sample(shot, 0, scene, layer, keep_played=False))
        yield 1

    answer(folder, render)
