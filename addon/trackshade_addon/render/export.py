# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports the tracks of a view layer while its animation is rendered, and the picture of the first frame.

Everything goes to a hidden folder beside the exported frames. Its files join the layer's track set when the render is
complete, and are removed when it is cancelled or fails.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import shutil
from dataclasses import replace
from pathlib import Path

import bpy

from trackshade.config import registry
from trackshade.core.errors import ShotError
from trackshade.core.images import write_png
from trackshade.core.processes import is_process_alive
from trackshade.shot import Shot
from trackshade.shot.input_image import fit_image
from trackshade.shot.track_set import FIRST, Order, TrackSet, frame_name, unwritable, write_set

from ..capture.given_image import color_management, read_given_image
from ..capture.scene_settings import frame_rate, plan_scene
from ..capture.shot_builder import ShotBuilder
from .exported_frame import save_render_result, write_display_picture

_RESULT = ".exr"  # render results, which are pictures once the render is complete
_NUMBERS = re.compile(r"(\d+-)?-?\d+$")  # at the end of an exported file's name
_UNSAFE = re.compile(r"[^\w .()+-]")


class LayerExport:
    """The tracks that a render exports of one of its view layers.

    Attributes:
        layer: Name of the view layer.
        folder: Folder of the layer's track set.
        order: How the set will be shaded.
    """

    def __init__(self, scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> None:
        """Check that the export can be shaded; nothing is written yet.

        Raises:
            ShotError: The render or its range cannot be shaded.
            ModelError: The model is unknown.
        """
        render, settings, options = scene.render, scene.trackshade, layer.trackshade
        has_picture = options.hook_picture != "none"
        refuse_stereo(render)
        shading = settings.shade_settings()
        self._keeps_all = "render" in (shading.light, shading.follows)  # pictures
        if has_picture or self._keeps_all:
            refuse_region(render)
        request = settings.shot_request(layer.name).through_one_camera()
        parent, name = _export_place(scene, layer)
        start, end, step = scene.frame_start, scene.frame_end, scene.frame_step
        if settings.use_range:
            start, end, step = settings.first, settings.last, max(1, round(settings.step))
        self.order = Order(
            start=start,
            end=end,
            step=step,
            fps=frame_rate(scene),
            settings=shading,
            picture=has_picture,
            result=f"{name}-shaded",
            keys=tuple(round(frame) for frame, _ in request.keys),
        )
        request.with_first_key(self.order.frames())  # refuses pictures of other frames
        registry.spec(self.order.settings.model)
        self.order.frames()
        self.layer = layer.name
        self.folder = parent / f"{name}-tracks"
        self._run_folder = parent / f".{name}-tracks.{platform.node()}.{os.getpid()}"
        self._keys = request.keys
        self._is_composited = options.hook_picture == "after"
        self._gathered: tuple[int, Shot] | None = None  # frame and its tracks
        self._surfaces = {"glass": request.glass, "hair": request.hair}

    def gather(self, depsgraph: bpy.types.Depsgraph, scene: bpy.types.Scene) -> None:
        """Gather the tracks of the frame that is rendered now, once.

        Raises:
            ShotError: What the scene shows cannot be captured.
        """
        frame = scene.frame_current
        if self._gathered is not None and self._gathered[0] == frame:
            return
        single_frame, frame_size = plan_scene(scene, frame, frame, 1)
        builder = ShotBuilder(depsgraph.view_layer, single_frame, frame_size, is_partial=True, **self._surfaces)
        builder.add_sample(depsgraph, scene.camera)
        shot = builder.shot(scene)
        self._gathered = frame, replace(shot, source={**shot.source, **builder.identities()})

    def keep(self, scene: bpy.types.Scene) -> None:
        """Keep the gathered tracks, because their frame was written.

        Raises:
            OutputError: The tracks cannot be written.
            ShotError: Nothing of this layer has been rendered yet.
        """
        if self._gathered is None:
            raise ShotError(
                "no-layer-picture",
                f"Frame {scene.frame_current} was exported without view layer '{self.layer}': it came from the "
                "sequencer, or only another layer was rendered.",
                "Switch off Sequencer and Render Single Layer, or this layer's Trackshade switch.",
            )
        if self._gathered[0] != scene.frame_current:
            return  # this frame came from the sequencer: it is missing in the set
        frame, shot = self._gathered
        if not self._run_folder.exists():
            _remove_leftovers(self._run_folder)
        shot.save(self._run_folder / f"{frame_name(frame)}.shot", force=True)
        if self._keeps_all or (self.order.picture and frame == self.order.start):
            save_render_result(scene, self._run_folder / f"{frame_name(frame)}{_RESULT}")

    def complete(self, scene: bpy.types.Scene) -> TrackSet | None:
        """Move the tracks that were kept into the layer's set. Main thread only.

        Returns:
            The set, or None if nothing was exported.

        Raises:
            OutputError: The set cannot be written; nothing of this render is left.
            ShotError: The first frame has no picture, or a key picture cannot be read; nothing of this render is left.
        """
        if not self._run_folder.is_dir():
            return None
        try:
            for saved in list(self._run_folder.glob(f"*{_RESULT}")):
                picture = saved.with_suffix(".png")
                write_display_picture(saved, self.layer, self._is_composited, scene, picture)
                saved.unlink()
                if self.order.picture and saved.stem == frame_name(self.order.start):
                    shutil.copyfile(picture, self._run_folder / FIRST)
                if not self._keeps_all:
                    picture.unlink()
            tracks = write_set(self.folder, self.order)
            for frame, source in self._keys:
                image = read_given_image(source, color_management(scene))
                write_png(tracks.key_picture(frame), fit_image(image, image.size, None).pixels)
            for path in sorted(self._run_folder.iterdir()):
                os.replace(path, self.folder / path.name)
            self._run_folder.rmdir()
        except OSError as error:
            raise unwritable(self.folder, error.strerror or str(error)) from error
        finally:
            self.drop()
        return tracks

    def drop(self) -> None:
        """Remove the files of this render."""
        self._gathered = None
        shutil.rmtree(self._run_folder, ignore_errors=True)


def refuse_stereo(render: bpy.types.RenderSettings) -> None:
    """Raise ShotError if the scene asks for several views."""
    if render.use_multiview:
        raise ShotError(
            "stereo",
            "Trackshade shades one view, and the scene asks for stereo.",
            "Switch off Stereoscopy in the Output Properties.",
        )


def refuse_region(render: bpy.types.RenderSettings) -> None:
    """Raise ShotError if exported frames show only a part of what is tracked."""
    if render.use_border:
        raise ShotError(
            "region",
            "Only a region of the frame is rendered, and the shot's first frame has to show all of it.",
            "Switch off Render Region in the Output Properties, or choose From Prompt for the layer's First Frame.",
        )


def _export_place(scene: bpy.types.Scene, layer: bpy.types.ViewLayer) -> tuple[Path, str]:
    """Return the folder of the exported frames, and the name of the layer's files there, which begins like theirs."""
    first = Path(bpy.path.abspath(scene.render.frame_path(frame=scene.frame_start)))
    return first.parent, _NUMBERS.sub("", first.stem) + _UNSAFE.sub("_", layer.name)


def _remove_leftovers(run: Path) -> None:
    """Remove the files of renders on this machine whose Blender was killed."""
    stem, _, _ = run.name.rpartition(".")
    for old in run.parent.glob(f"{glob.escape(stem)}.*"):
        pid = old.name.rpartition(".")[2]
        if pid.isdecimal() and not is_process_alive(int(pid)):
            shutil.rmtree(old, ignore_errors=True)
