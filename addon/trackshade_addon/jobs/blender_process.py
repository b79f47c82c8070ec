# SPDX-License-Identifier: GPL-3.0-or-later
"""Renders in another Blender, on a copy of the open file: this one stays free, or is busy with a render of its own."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path

import bpy

from trackshade.client import later
from trackshade.client.progress import Progress
from trackshade.core.processes import ProcessCommand, blender, call_when_input_closes, this_python
from trackshade.shot import Shot

from ..backend.tasks import CancellableTask
from ..capture.completeness import scripts_allowed
from ..capture.scene_settings import first_frame_engine
from ..placement import save_copy

_SCENE, _SHOT = "scene.blend", "shot.shot"
_ERROR, _DONE = "trackshade error: ", "trackshade done: "  # begin lines that the other process prints for this one


class SceneCopy:
    """A copy of the open file, which other Blenders open; it is saved once, so that it is that of one moment.

    Args:
        path: where it is saved.

    Attributes:
        path: the file.
        engine: the engine that renders first frames of the scene; empty before it is saved.
        trusts_scripts: whether the file's scripts may run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = ""
        self.trusts_scripts = False

    @property
    def is_saved(self) -> bool:
        """Whether it is there, so that the scene is not needed any more."""
        return bool(self.engine)

    def save(self, scene: bpy.types.Scene) -> None:
        """Save it unless it is. Main thread only. Raise OutputError if the folder cannot be written."""
        if not self.is_saved:
            save_copy(self.path, compress=False)
            self.trusts_scripts, self.engine = scripts_allowed(scene), first_frame_engine(scene)


class BlenderProcess:
    """Another Blender with a copy of the open file, which calls a function of the add-on.

    Args:
        folder: an empty folder, which is the function's first argument.
        shot: the shot, whose surfaces are not copied.
        copy: the copy; None for one in the folder.

    Attributes:
        folder: the folder.
        done: the number that the process printed last.
    """

    def __init__(self, folder: Path, shot: Shot, copy: SceneCopy | None = None) -> None:
        self.folder = folder
        self._shot = shot
        self._copy = copy or SceneCopy(folder / _SCENE)
        self.done = 0

    def save(self) -> None:
        """Save the copy, unless that was done. Main thread only.

        Raises:
            OutputError: The folder cannot be written.
        """
        if not self._copy.is_saved:
            self._copy.save(bpy.data.scenes[self._shot.source["scene"]])
        dataclasses.replace(self._shot, geometries=(), meshes=(), objects=()).save(self.folder / _SHOT)

    def run(
        self, function: Callable[..., None], *arguments: str | int, describe: Callable[[int], Progress]
    ) -> Generator[Progress, None, str | None]:
        """Start the process and wait for its end; closing the generator ends it.

        Args:
            function: a function at the top of a module, called as function(folder, *arguments).
            arguments: its further arguments.
            describe: returns the progress, from the number that the process printed last.

        Returns:
            Why it failed if it did; otherwise the last line that it printed, or None.
        """
        task = CancellableTask(patience=0)
        command = self._command(
            f"{function.__name__}({', '.join(map(repr, (str(self.folder), *arguments)))})", function
        )
        ended = later(partial(task.run, command.command, self._read, variables=command.variables, folder=self.folder))
        try:
            while not ended.done():
                yield dataclasses.replace(describe(self.done), waits=True)
            tail = ended.result().tail
            yield describe(self.done)  # which may have changed since
        finally:
            if not ended.done():
                task.cancel()
                while not ended.done():
                    time.sleep(0.02)
        reasons = [line.removeprefix(_ERROR) for line in tail if line.startswith(_ERROR)]
        reasons = reasons or [line for line in tail if line.strip()]
        return reasons[-1].rstrip(".") if reasons else None

    def _read(self, line: str) -> None:
        if line.startswith(_DONE):
            self.done = int(line.removeprefix(_DONE))

    def _command(self, call: str, function: Callable[..., None]) -> ProcessCommand:
        """Return how the process is started; it may run the file's scripts if this one may."""
        code = f"import {function.__module__} as module; module.{call}"
        scene = self._copy.path
        if bpy.app.binary_path:
            scripts = "--enable-autoexec" if self._copy.trusts_scripts else "--disable-autoexec"
            return blender(bpy.app.binary_path, "-b", scripts, str(scene), "--python-expr", code)
        package = __name__.partition(".")[0]
        options = f"filepath={str(scene)!r}, load_ui=False, use_scripts={self._copy.trusts_scripts}"
        opening = f"import os, bpy, {package}; {package}.register(); bpy.ops.wm.open_mainfile({options})"
        return this_python("-c", f"{opening}; {code}; os._exit(0)")


def answer(folder: str, work: Callable[[Shot, bpy.types.Scene], Iterator[int]]) -> None:
    """Do the work of the other process, and print its progress, or why it failed. It ends with the one that waits.

    Args:
        folder: the folder of the `BlenderProcess`.
        work: does a part of the work at each `next`, and yields how much is done.
    """
    call_when_input_closes(lambda: os._exit(1))
    try:
        shot = Shot.load(Path(folder) / _SHOT)
        for done in work(shot, bpy.data.scenes[shot.source["scene"]]):
            print(f"\n{_DONE}{done}", flush=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, the process that waits reports it
        print(f"\n{_ERROR}{error}", flush=True)
