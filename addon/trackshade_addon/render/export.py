# SPDX-License-Identifier: GPL-3.0-or-later
"""One view layer of an animation that is exported: its tracks, frame by frame, and the picture of the first one.

Everything goes to a hidden folder beside the export. What that holds joins the layer's track set when the render is
complete, and is removed when it was cancelled or fails.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from pathlib import Path

import bpy

from trackshade.config import registry
from trackshade.core.errors import ShotError
from trackshade.core.fitting import FrameMap, SizeFit
from trackshade.shot import Shot
from trackshade.shot.track_set import FIRST, Order, TrackSet, frame_name, unwritable, write_set

from ..capture.scene_settings import frame_rate, render_size
from ..capture.shot_builder import ShotBuilder
from .refusals import refuse_region, refuse_stereo
from .snapshot import display_picture, save_result

_SNAPSHOT = "first.exr"
_NUMBERS = re.compile(r"(\d+-)?-?\d+$")  # at the end of an exported file's name
_UNSAFE = re.compile(r"[^\w .()+-]")


class LayerExport:
    """What a render keeps of one of its view layers.

    Attributes:
        folder: of the layer's track set.
        order: what is to become of the set.
    """

    def __init__(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
        """Raises ShotError, ModelError, UsageError for what cannot be shaded; nothing is written yet."""
        render, own, chosen = scene.render, scene.trackshade, layer.trackshade
        refuse_stereo(render)
        if chosen.hook_picture != "none":
            refuse_region(render)
        what = own.what(layer.name)
        beside, name = _place(scene, layer)
        start, end, step = (
            (own.first, own.last, max(1, round(own.step)))
            if own.use_range
            else (scene.frame_start, scene.frame_end, scene.frame_step)
        )
        self.order = Order(
            start, end, step, frame_rate(scene), what.frame_rule, what.size_mode, what.size,
            own.settings(), chosen.hook_picture != "none", f"{name}-shaded",
        )  # fmt: skip
        self.order.frames(registry.spec(what.model))
        self.layer = layer.name
        self.folder = beside / f"{name}-tracks"
        self._run = beside / f".{name}-tracks.{platform.node()}.{os.getpid()}"
        self._composited = chosen.hook_picture == "after"
        self._gathered: tuple[int, Shot] | None = None
        self._surfaces = {"glass": what.glass, "hair": what.hair}

    def gather(self, depsgraph: bpy.types.Depsgraph, scene: bpy.types.Scene) -> None:
        """Takes the frame that the render holds now, once. Raises ShotError as a capture."""
        frame = scene.frame_current
        if self._gathered is not None and self._gathered[0] == frame:
            return
        size = render_size(scene)
        aspect = scene.render.pixel_aspect_x, scene.render.pixel_aspect_y
        own = SizeFit(size, aspect, size, "pad", (1.0, 1.0), (0.0, 0.0), "")
        single = FrameMap(frame, frame, 1, "exact", (float(frame),), frame_rate(scene), "")
        gathering = ShotBuilder(depsgraph.view_layer, single, own, is_partial=True, **self._surfaces)
        gathering.add_sample(depsgraph, scene.camera)
        shot = gathering.shot(scene)
        marked = {**shot.source, **gathering.identities()}
        self._gathered = frame, Shot(**{**shot.__dict__, "source": marked})

    def keep(self, scene: bpy.types.Scene) -> None:
        """The gathered frame was exported.

        Raises:
            OutputError: its tracks cannot be kept. ShotError: nothing of this layer has been rendered yet.
        """
        if self._gathered is None:
            raise ShotError(
                "no-layer-picture",
                f"Frame {scene.frame_current} was exported without view layer '{self.layer}': the sequencer made it, "
                "or only another layer was rendered.",
                "Switch off Sequencer and Render Single Layer, or this layer's Trackshade switch.",
            )
        if self._gathered[0] != scene.frame_current:
            return  # the sequencer made this one: it is missing in the set
        frame, shot = self._gathered
        if not self._run.exists():
            _remove_left(self._run)
        shot.save(self._run / f"{frame_name(frame)}.shot", force=True)
        if self.order.picture and frame == self.order.start:
            save_result(scene, self._run / _SNAPSHOT)

    def complete(self, scene: bpy.types.Scene) -> TrackSet | None:
        """The set that what was kept has joined; None where nothing was exported. Main thread only.

        Raises:
            OutputError, ShotError: it cannot be written, or the first frame has no picture; nothing of this is left.
        """
        if not self._run.is_dir():
            return None
        try:
            saved = self._run / _SNAPSHOT
            if saved.is_file():
                display_picture(saved, self.layer, self._composited, scene, self._run / FIRST)
                saved.unlink()
            tracks = write_set(self.folder, self.order)
            for path in sorted(self._run.iterdir()):
                os.replace(path, self.folder / path.name)
            self._run.rmdir()
        except OSError as error:
            raise unwritable(self.folder, error.strerror or str(error)) from error
        finally:
            self.drop()
        return tracks

    def drop(self) -> None:
        """Leaves nothing of this render behind."""
        self._gathered = None
        shutil.rmtree(self._run, ignore_errors=True)


def _place(scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> tuple[Path, str]:
    """The folder of the export, and the layer's name for files there: after the exported files' own."""
    first = Path(bpy.path.abspath(scene.render.frame_path(frame=scene.frame_start)))
    return first.parent, _NUMBERS.sub("", first.stem) + _UNSAFE.sub("_", layer.name)


def _remove_left(run: Path) -> None:
    """Removes what a render on this machine has left whose Blender was killed."""
    stem, _, _ = run.name.rpartition(".")
    for old in run.parent.glob(f"{_glob_safe(stem)}.*"):
        pid = old.name.rpartition(".")[2]
        if pid.isdigit() and not _lives(int(pid)):
            shutil.rmtree(old, ignore_errors=True)


def _glob_safe(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def _lives(pid: int) -> bool:
    if os.name == "nt":
        return True  # asking would end it
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False
