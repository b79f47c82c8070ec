# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders the first frame of a job of the engine: while Blender renders, only another Blender can render it.

That process opens a copy of the file, renders the shot's first sample by the engine chosen for first frames, and ends.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import later
from trackshade.client.progress import Progress, wait_for
from trackshade.core.errors import ShotError
from trackshade.core.images import write_png
from trackshade.core.processes import ProcessCommand, blender, this_python
from trackshade.shot import Shot

from ..backend.tasks import CancellableTask
from ..capture.completeness import scripts_allowed
from ..capture.first_frame import read_picture, render_sample
from ..placement import save_copy

_SCENE, _SHOT, _PICTURE = "scene.blend", "first.shot", "first.png"
_PREFIX = "trackshade: "  # of the lines that the other process prints for this one


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
    task = CancellableTask(patience=0)  # a Blender does not notice the end of its standard input
    with tempfile.TemporaryDirectory(prefix="trackshade-") as name:
        folder = Path(name)
        on_main(lambda: save_copy(folder / _SCENE))
        dataclasses.replace(shot, geometries=(), meshes=(), objects=()).save(folder / _SHOT)
        start = _start(folder, on_main(lambda: scripts_allowed(bpy.data.scenes[shot.source["scene"]])))
        ended = later(partial(task.run, start.command, variables=start.variables, folder=folder))
        try:
            tail = (yield from wait_for(ended, "rendering", "the first frame, in a separate Blender process")).tail
        finally:
            if not ended.done():
                task.cancel()
                while not ended.done():
                    time.sleep(0.02)
        if not (folder / _PICTURE).is_file():
            reasons = [line.removeprefix(_PREFIX) for line in tail if line.startswith(_PREFIX)]
            reasons = reasons or [line for line in tail if line.strip()] or ["it printed nothing"]
            raise ShotError(
                "render-failed",
                f"The first frame could not be rendered in a separate Blender process: {reasons[-1].rstrip('.')}.",
                "Choose another engine or an image for the first frame, in Render Properties under Look.",
            )
        return on_main(lambda: read_picture(folder / _PICTURE))


def render_in_folder(folder: str) -> None:
    """Render the first frame in the other process, which has the copy of the file open."""
    try:
        shot = Shot.load(Path(folder) / _SHOT)
        scene = bpy.data.scenes[shot.source["scene"]]
        layer = scene.view_layers[shot.view_layer]
        write_png(Path(folder) / _PICTURE, render_sample(shot, 0, scene, layer, keep_played=False))
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that waits reports it
        print(f"\n{_PREFIX}{error}", flush=True)


def _start(folder: Path, trusts_scripts: bool) -> ProcessCommand:
    """Return how the other process is started; it may run the file's scripts if this one may."""
    call = f"import {__name__} as first_frame; first_frame.render_in_folder({str(folder)!r})"
    scene = folder / _SCENE
    if bpy.app.binary_path:
        scripts = "--enable-autoexec" if trusts_scripts else "--disable-autoexec"
        return blender(bpy.app.binary_path, "-b", scripts, str(scene), "--python-expr", call)
    package = __name__.partition(".")[0]
    arguments = f"filepath={str(scene)!r}, load_ui=False, use_scripts={trusts_scripts}"
    return this_python(
        "-c",
        f"import os, bpy, {package}; {package}.register(); bpy.ops.wm.open_mainfile({arguments}); {call}; os._exit(0)",
    )
