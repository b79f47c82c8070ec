# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame for a job of the engine: while Blender renders, only another Blender can render it.

It opens a copy of the file, renders the shot's first sample by the engine that is chosen for first frames, and ends.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import bpy
import numpy as np

from trackshade.client import later
from trackshade.core.errors import ShotError
from trackshade.core.images import write_png
from trackshade.core.processes import ProcessCommand, blender, this_python
from trackshade.shot import Shot

from ..backend.running import Task
from ..capture.completeness import scripts_allowed
from ..capture.first_frame import read_picture, render_first_frame
from ..jobs.composer import Progress
from ..placement import save_copy

OnMain = Callable[[Callable[[], object]], object]
_FILES = "scene.blend", "first.shot", "first.png"
_SAID = "trackshade: "


def first_frame(shot: Shot, on_main: OnMain) -> Generator[Progress, None, np.ndarray]:
    """[H, W, 3] uint8 of the shot's first sample, as `render_first_frame` makes it in a Blender of its own.

    Raises:
        ShotError: it could not be rendered.
    """
    task = Task(patience=0)  # a Blender never looks at its standard input
    with tempfile.TemporaryDirectory(prefix="trackshade-") as name:
        folder = Path(name)
        scene, sample, picture = (folder / file for file in _FILES)
        on_main(lambda: save_copy(scene))
        dataclasses.replace(shot, geometries=(), meshes=(), objects=()).save(sample)
        start = _start(folder, bool(on_main(lambda: _trusted(shot))))
        ended = later(partial(task.run, start.command, variables=start.variables, folder=folder))
        try:
            while not ended.done():
                yield Progress("rendering", "the first frame, in a Blender of its own", waits=True)
        finally:
            if not ended.done():
                task.cancel()
                while not ended.done():
                    time.sleep(0.02)
        tail = ended.result().tail
        if not picture.is_file():
            said = [line.removeprefix(_SAID) for line in tail if line.startswith(_SAID)]
            reason = said[-1] if said else next((line for line in reversed(tail) if line.strip()), "it said nothing")
            raise ShotError(
                "render-failed",
                f"The first frame could not be rendered in a Blender of its own: {reason.rstrip('.')}.",
                "Choose another engine or an image for the first frame, in Render Properties under Look.",
            )
        return np.asarray(on_main(lambda: read_picture(picture)))


def render_in(folder: str) -> None:
    """What the other Blender does, on the copy that it has open."""
    try:
        shot = Shot.load(Path(folder) / _FILES[1])
        scene = bpy.data.scenes[shot.source["scene"]]
        layer = scene.view_layers[shot.view_layer]
        write_png(Path(folder) / _FILES[2], render_first_frame(shot, scene, layer, keep_played=False))
    except Exception as error:  # noqa: BLE001 - whatever it is, who waits for it is to read it
        print(f"\n{_SAID}{error}", flush=True)


def _trusted(shot: Shot) -> bool:
    """Whether the other Blender may run the file's scripts: as this one does."""
    return scripts_allowed(bpy.data.scenes[shot.source["scene"]])


def _start(folder: Path, trusted: bool) -> ProcessCommand:
    render = f"import {__name__} as look; look.render_in({str(folder)!r})"
    scene = folder / _FILES[0]
    if bpy.app.binary_path:
        scripts = "--enable-autoexec" if trusted else "--disable-autoexec"
        return blender(bpy.app.binary_path, "-b", scripts, str(scene), "--python-expr", render)
    package = __name__.partition(".")[0]
    opening = f"filepath={str(scene)!r}, load_ui=False, use_scripts={trusted}"
    script = (
        f"import os, bpy, {package}; {package}.register(); bpy.ops.wm.open_mainfile({opening}); {render}; os._exit(0)"
    )
    return this_python("-c", script)
