# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel Motion from Footage: a figure in the motion of a video, or the motion alone, as a job like any other."""

# No postponed annotations here: Blender reads the properties from them.
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client.job_run import PAUSE
from trackshade.config import registry
from trackshade.core.errors import UsageError
from trackshade.motion.camera_words import parse_camera_words
from trackshade.motion.hand_places import HandPlaces

from .. import backend
from ..backend.prefs import current_prefs
from ..capture.request import ShotRequest
from ..capture.stepping import Steps
from ..jobs.composer import capture_scene
from ..jobs.job import Job
from ..jobs.session import current, reserve_output
from ..messages import texts
from ..messages.texts import tr
from ..motion.armature import find_armature
from ..motion.character import match_deforming_bones
from ..motion.driving import MotionOrder, SceneAngles, box_in_render, capture_motion, scene_angles
from ..motion.hands import project_hands
from ..properties.motion import TrackshadeMotion
from ..properties.placement_options import PlacementOptions
from ..redraw import redraw_settled
from .drawing import SubPanel, draw_properties, draw_text, report_error, split_properties
from .modal import SteppedOperator, is_scene_free

_MODES = ("both", "plate", "background", "compositor", "sequencer", "image", "none")  # placements of a moved figure


@dataclass(frozen=True, eq=False)
class _FromScene:
    """What the scene gives to a job."""

    reference: np.ndarray | None = None  # [H, W, 3] uint8
    box: tuple[float, float, float, float] | None = None  # around the figure in it, pixels
    angles: SceneAngles | None = None
    hands: HandPlaces | None = None


class FootageOperator(SteppedOperator):
    """An operator that starts a job on driving footage."""

    poll_message_set: Any
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender requires it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not is_scene_free(cls):
            return False
        error = backend.manager.unavailable_error()
        if error is not None:
            cls.poll_message_set(texts.error_text(error))
            return False
        return True

    def start(self, context: bpy.types.Context, order: MotionOrder, placement: PlacementOptions) -> set[str]:
        """Start a job; a Blender without a window does all of it."""
        scene, session, python = context.scene, current(), current_prefs().python()
        settings = order.settings()
        out = reserve_output(registry.motion_spec(order.model))
        job = session.add(
            Job(
                scene, ShotRequest(), settings, placement, out,
                capture=lambda client: capture_motion(order, scene, python),
            )
        )  # fmt: skip
        if not bpy.app.background:
            session.follow()
            return {"FINISHED"}
        while job.runs:
            session.advance(job)
            if job.progress is not None and job.progress.waits:
                time.sleep(PAUSE)
        redraw_settled()
        return {"FINISHED"} if job.error is None else report_error(self, job.error)


class TRACKSHADE_OT_reenact(FootageOperator, bpy.types.Operator):
    """Let the figure of the reference do the motion of the footage, and place the result"""

    bl_idname = "trackshade.reenact"
    bl_label = "Move the Figure"

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, _FromScene]:
        """Render the reference and step along the scene's camera, where the scene gives them."""
        scene: Any = context.scene
        settings: TrackshadeMotion = scene.trackshade_motion
        footage_of(settings)  # a missing one is reported before anything is rendered
        reference = angles = box = None
        hands = yield from hands_of(scene)
        if settings.camera == "words":
            parse_camera_words(settings.words, 2)
        else:
            angles = yield from scene_angles(scene, settings.center)
        if settings.reference == "render" and settings.mode == "reenact":
            frame = float(scene.frame_current)
            request = ShotRequest(frames=(frame, frame, None), view_layer=context.view_layer.name)
            capture = capture_scene(request, scene)
            try:
                while True:
                    progress = next(capture)
                    yield progress.step or 0, progress.steps or 1
            except StopIteration as stop:
                reference = stop.value.first_frame
                box = box_in_render(scene, settings.center, stop.value.shot.size)
            finally:
                capture.close()
        return _FromScene(reference, box, angles, hands)

    def finish(self, context: bpy.types.Context, result: _FromScene) -> set[str]:
        """Start the job."""
        scene: Any = context.scene
        settings: TrackshadeMotion = scene.trackshade_motion
        request = settings.driving_request()
        if settings.reference == "file" and settings.mode == "reenact":
            if not settings.picture:
                raise UsageError("no-reference", "There is no picture of the figure that is to move.", "Choose one.")
            request = replace(request, reference=bpy.path.abspath(settings.picture))
        order = MotionOrder(
            footage_of(settings),
            request,
            model=model_of(settings),
            camera=settings.words if result.angles is None else result.angles,
            reference=result.reference,
            reference_box=result.box,
            frames=settings.frames,
            hands=result.hands,
            seed=settings.seed,
            steps=settings.steps or None,
        )
        placement = scene.trackshade.placement_options()
        if scene.trackshade.place_as not in _MODES:  # there are no meshes that it could be laid on
            placement = replace(placement, mode="both")
        return self.start(context, order, placement)


class TRACKSHADE_PT_motion(SubPanel, bpy.types.Panel):
    """A figure in the motion of footage."""

    bl_label = "Motion from Footage"
    bl_order = 13

    def draw(self, context: bpy.types.Context) -> None:
        settings: Any = context.scene.trackshade_motion
        layout = split_properties(self.layout)
        layout.enabled = not current().holds_scene
        layout.prop(settings, "footage")
        column = layout.column(align=True)
        if settings.is_folder():
            column.prop(settings, "rate")
        draw_properties(column, settings, "start", "end", "person")
        _draw_box(layout, settings, "use_box", "box")
        if not settings.use_box:
            layout.prop(settings, "mask")
        column = layout.column(align=True)
        column.prop(settings, "hands")
        if settings.hands == "armature":
            column.prop(settings, "driver")
        layout.prop(settings, "mode")
        column = layout.column()
        if settings.mode == "reenact":
            column.prop(settings, "reference")
            if settings.reference == "file":
                column.prop(settings, "picture")
                _draw_box(column, settings, "use_reference_box", "reference_box")
        elif settings.mode == "novel-view":
            column.prop(settings, "frames")
        column = layout.column()
        column.prop(settings, "camera")
        if settings.camera == "words":
            column.prop(settings, "words", text="")
        else:
            column.prop(settings, "center", placeholder=tr("3D Cursor"))
        draw_properties(layout.column(align=True), settings, "seed", "steps", "model")
        width, height = registry.motion_spec(registry.MINI_MOTION).sizes[0]
        size = f"{width} × {height}"
        draw_text(layout, context, tr("Small pictures, {size} pixels: tracks do not apply to them", size=size), "INFO")
        layout.operator("trackshade.reenact", icon="RENDER_ANIMATION")


def _draw_box(layout: bpy.types.UILayout, settings: TrackshadeMotion, switch: str, box: str) -> None:
    """Draw whether a box is given, and its edges."""
    layout.prop(settings, switch)
    if getattr(settings, switch):
        column = layout.column(align=True)
        for index, edge in enumerate(("Left", "Top", "Right", "Bottom")):
            column.prop(settings, box, index=index, text=edge)


def footage_of(settings: TrackshadeMotion) -> Path:
    """Return the footage that the settings name. Raise UsageError if they name none."""
    if not settings.footage:
        raise UsageError("no-footage", "There is no driving footage.", "Choose a video of a moving figure.")
    return Path(bpy.path.abspath(settings.footage))


def hands_of(scene: Any) -> Generator[Steps, None, HandPlaces | None]:
    """Step along the armature that the footage shows, where the settings say so; return where its hands are.

    Raises:
        UsageError: there is no such armature, or no camera.
        ShotError: its hands are not known.
    """
    settings: TrackshadeMotion = scene.trackshade_motion
    if settings.hands != "armature":
        return None
    driver: Any = settings.driver
    armature = find_armature(scene, None if driver is None else driver.name)
    return (yield from project_hands(armature, scene, match_deforming_bones(armature)))


def model_of(settings: TrackshadeMotion) -> str:
    """Return the name or folder of the motion model of the settings. Raise ModelError if there is none."""
    name = bpy.path.abspath(settings.model) if settings.model else registry.MINI_MOTION
    return registry.motion_spec(name).name
