# SPDX-License-Identifier: GPL-3.0-or-later
"""Export of a scene's tracks, passes or camera for other systems: the operator, and its entry in the export menu."""

# No postponed annotations here: Blender reads the properties from them.
import json
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from trackshade.client.job_run import CapturedShot, run_to_end
from trackshade.client.progress import Progress
from trackshade.config.export_formats import EXPORT_FORMATS
from trackshade.core.errors import UsageError
from trackshade.core.images import write_png

from ..backend.prefs import current_prefs
from ..capture.stepping import Steps
from ..jobs.composer import capture_scene
from ..jobs.session import current
from ..lifting import run as lift_run
from ..lifting.task import follow_task
from ..messages.translations import CONTEXT
from ..redraw import redraw
from .drawing import draw_properties, split_properties
from .modal import SteppedOperator, is_task_free

_LABELS = {
    "npz": "Arrays", "camera": "Camera Path", "wan-move": "Wan-Move", "ati": "ATI", "vace": "Wan VACE", "ltx": "LTX",
    "exr": "OpenEXR Passes", "mp4": "Pass Videos", "nerfstudio": "nerfstudio",
}  # fmt: skip
_FORMATS = [(name, label, EXPORT_FORMATS[name].description.rstrip(".")) for name, label in _LABELS.items()]
# The others need frames, which results have: `trackshade export RESULT/tracks.shot`.
assert {*_LABELS} == {name for name, form in EXPORT_FORMATS.items() if form.images != "needed"}


class TRACKSHADE_OT_export_tracks(SteppedOperator, bpy.types.Operator):
    """Write the tracks, the passes or the camera of the scene for another program"""

    bl_idname = "trackshade.export_tracks"
    bl_label = "Export Tracks"
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender requires it

    filepath: bpy.props.StringProperty(
        name="File or Folder", description="File or folder to write", subtype="FILE_PATH", options={"SKIP_SAVE"}
    )
    export_format: bpy.props.EnumProperty(
        name="Format", description="Which program the files are for", items=_FORMATS, translation_context=CONTEXT
    )
    points: bpy.props.IntProperty(
        name="Points", description="Number of tracked points. 0 uses the number that is usual for the format", min=0
    )
    fps: bpy.props.FloatProperty(
        name="Frame Rate", description="Frame rate of the export: 16 for Wan, 24 for LTX. 0 keeps the scene's", min=0
    )
    replace_existing: bpy.props.BoolProperty(name="Replace", description="Replace an earlier export")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not is_task_free(cls):
            return False
        return context.scene is not None and context.scene.camera is not None

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if self.filepath:
            return super().invoke(context, event)
        stem = Path(bpy.data.filepath).stem or context.scene.name
        self.filepath = f"{stem}-{self.export_format}{EXPORT_FORMATS[self.export_format].file_suffix}"
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: bpy.types.Context) -> None:
        names = ["export_format", *(["points"] if EXPORT_FORMATS[self.export_format].points else [])]
        draw_properties(split_properties(self.layout), self, *names, "fps", "replace_existing")

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, CapturedShot]:
        """Capture the scene."""
        scene: Any = context.scene
        request = scene.trackshade.shot_request(context.view_layer.name)
        first_frame = request.first_frame if EXPORT_FORMATS[self.export_format].uses_picture else "none"
        request = replace(request, first_frame=first_frame, keys=(), input_render=False, light="none")
        capture = capture_scene(request, scene)
        try:
            while True:
                progress = next(capture)
                yield progress.step or 0, progress.steps or 1
        except StopIteration as stop:
            return stop.value
        finally:
            capture.close()

    def finish(self, context: bpy.types.Context, result: CapturedShot) -> set[str]:
        """Have the backend's environment write the files; in a Blender with a window, a timer follows it."""
        python = current_prefs().python()
        if python is None:
            raise UsageError(
                "no-environment", "The backend's environment is not set up.", "Set it up in the preferences."
            )
        form = EXPORT_FORMATS[self.export_format]
        out = Path(bpy.path.abspath(self.filepath))
        if form.file_suffix and out.suffix != form.file_suffix:
            out = out.with_name(out.name + form.file_suffix)
        values = {
            "format": self.export_format,
            **({"points": self.points} if self.points and form.points else {}),
            **({"fps": self.fps} if self.fps else {}),
            "force": self.replace_existing,
        }
        steps = _write(result, values, out, python)
        if bpy.app.background:
            run_to_end(steps, lambda progress: None)
        else:
            lift_run.begin(steps, redraw, lambda: current().holds_scene)
        return {"FINISHED"}


def _write(captured: CapturedShot, values: dict[str, Any], out: Path, python: str) -> Generator[Progress, None, None]:
    """Write a captured scene, and have it exported."""
    with tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "scene.shot"
        captured.shot.save(path)
        if captured.first_frame is not None:
            write_png(path.with_suffix(".png"), captured.keys.get(0, captured.first_frame))
        yield from follow_task(python, "exporting", out.name, "export", str(path), json.dumps(values), str(out))


def _draw_export(menu: Any, context: bpy.types.Context) -> None:
    menu.layout.operator("trackshade.export_tracks", text="Tracks (Trackshade)")


def attach() -> None:
    """Add the entry to the export menu."""
    bpy.types.TOPBAR_MT_file_export.append(_draw_export)


def detach() -> None:
    """Remove the entry."""
    bpy.types.TOPBAR_MT_file_export.remove(_draw_export)
