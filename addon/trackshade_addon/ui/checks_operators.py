# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a shot, and the buttons that fix what it finds. Everything that they change can be undone."""

# No postponed annotations here: Blender reads the properties from them.
import math
from collections.abc import Generator
from typing import Any

import bpy

from trackshade.config import registry
from trackshade.core.errors import TrackshadeError

from ..capture.auto_camera import add_auto_camera
from ..capture.stepping import Steps
from ..checks.findings import ERROR
from ..checks.watch import ChecksState, watcher
from ..jobs.session import current
from ..messages.texts import tr
from .drawing import ActionOperator, action
from .modal import SteppedOperator

MAX_FRAMES = 9  # that a new camera is framed for; each is a frame that Blender evaluates


class _Fix(ActionOperator):
    """A button that fixes a problem by `act`; disabled while the scene is captured."""

    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene is not None and not current().holds_scene


class TRACKSHADE_OT_check(SteppedOperator, _Fix, bpy.types.Operator):
    """Check the first, middle and last frame of the shot for problems. The scene is not changed"""

    bl_idname = "trackshade.check"
    bl_label = "Check Shot"
    bl_options = {"REGISTER"}  # noqa: RUF012

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, ChecksState]:
        return watcher.check_steps(context.scene, context.view_layer)

    def finish(self, context: bpy.types.Context, result: ChecksState) -> set[str]:
        for item in result.findings:
            level = "ERROR" if item.level == ERROR and bpy.app.background else "WARNING"
            self.report({level}, tr(item.text, **item.values))
        if not result.findings:
            self.report({"INFO"}, tr("No problems found"))
        return {"FINISHED"}


class TRACKSHADE_OT_add_camera(SteppedOperator, _Fix, bpy.types.Operator):
    """Add a camera that frames everything that moves, and make it the scene's camera"""

    bl_idname = "trackshade.add_camera"
    bl_label = "Add Framing Camera"

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, bpy.types.Object]:
        scene = context.scene
        request = scene.trackshade.shot_request(context.view_layer.name)
        try:
            numbers = request.plan(scene)[0].frame_numbers
        except TrackshadeError:  # an invalid frame range is another finding
            numbers = (float(scene.frame_current),)
        layer = scene.view_layers[request.view_layer or context.view_layer.name]
        return add_auto_camera(scene, layer, [*numbers[:: -(-len(numbers) // MAX_FRAMES)]])

    def finish(self, context: bpy.types.Context, result: bpy.types.Object) -> set[str]:
        context.scene.trackshade.camera = None
        return {"FINISHED"}


@action("Make Perspective", _Fix)
def use_perspective(operator: Any, context: bpy.types.Context) -> set[str] | None:
    """Set the type of the camera to Perspective"""
    camera = context.scene.trackshade.camera or context.scene.camera
    if camera is None or not isinstance(camera.data, bpy.types.Camera) or not camera.data.is_editable:
        operator.report({"ERROR"}, tr("The camera cannot be edited"))
        return {"CANCELLED"}
    camera.data.type = "PERSP"
    return None


@action("Set Frame Range", _Fix)
def fit_range(operator: _Fix, context: bpy.types.Context) -> None:
    """Use a custom frame range with as many frames as the model accepts, starting at the current first frame"""
    settings, scene = context.scene.trackshade, context.scene
    first, last, step = scene.frame_start, scene.frame_end, float(scene.frame_step)
    if settings.use_range:
        first, last, step = settings.first, settings.last, settings.step
    requested = max(1, int((last - first) / step + 1e-9) + 1)
    counts = sorted(registry.spec(settings.shade_settings().model).allowed_frame_counts)
    count = max([n for n in counts if n <= requested], default=counts[0])
    settings.first, settings.step, settings.last = first, step, math.ceil(first + (count - 1) * step)
    settings.use_range = True


@action("Show in Renders", _Fix)
def show_in_renders(operator: _Fix, context: bpy.types.Context) -> None:
    """Enable in renders the objects that are visible in the viewport"""
    for obj in context.view_layer.objects:
        if obj.hide_render and obj.visible_get():
            obj.hide_render = False


class TRACKSHADE_OT_select(_Fix, bpy.types.Operator):
    """Select the objects that the check found"""

    bl_idname = "trackshade.select"
    bl_label = "Select"

    names: bpy.props.StringProperty(name="Objects", description="Names of objects, one per line", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        # An instance has the name INSTANCER/OBJECT; only the instancer can be selected.
        names = {part for name in self.names.split("\n") for part in (name, name.partition("/")[0])}
        for obj in context.view_layer.objects:
            obj.select_set(obj.name in names)
            if obj.name in names:
                context.view_layer.objects.active = obj
        return {"FINISHED"}


@action("Toggle Glass", _Fix)
def toggle_glass(operator: _Fix, context: bpy.types.Context) -> None:
    """Switch between tracking the glass and tracking what is behind it"""
    settings = context.scene.trackshade
    settings.glass = "opaque" if settings.glass == "through" else "through"


@action("Simplify Subdivision", _Fix)
def simplify(operator: _Fix, context: bpy.types.Context) -> None:
    """Enable Simplify with at most one level of subdivision in renders"""
    render = context.scene.render
    render.use_simplify = True
    render.simplify_subdivision_render = min(1, render.simplify_subdivision_render)


@action("Render First Frame", _Fix)
def use_render(operator: _Fix, context: bpy.types.Context) -> None:
    """Render the first frame instead of using an image"""
    context.scene.trackshade.first_frame = "render"


@action("Use Standard Colors", _Fix)
def use_standard_colours(operator: Any, context: bpy.types.Context) -> set[str] | None:
    """Set the view transform to Standard, without look, curves or gamma, so that results keep their colors"""
    scene, view = context.scene, context.scene.view_settings
    try:
        scene.display_settings.display_device = "sRGB"
        view.view_transform, view.look = "Standard", "None"
    except TypeError:  # raised by Blender for an option that does not exist
        operator.report({"ERROR"}, tr("Blender's color configuration has no standard colors"))
        return {"CANCELLED"}
    view.gamma, view.use_curve_mapping = 1, False
    if hasattr(view, "use_white_balance"):
        view.use_white_balance = False
    return None
