# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of a shot, and the buttons that fix what it finds. Everything that they change can be undone."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Generator

import bpy

from trackshade.config import registry
from trackshade.core.errors import TrackshadeError

from ..capture.auto_camera import add_auto_camera
from ..capture.stepping import Steps
from ..checks.findings import ERROR
from ..checks.watch import ChecksState, watcher
from ..jobs.session import current
from ..messages.texts import tr
from .modal import SteppedOperator

MAX_FRAMES = 9  # that a new camera is framed for; each is a frame that Blender evaluates


class _Fix:
    """A button that fixes a problem; disabled while the scene is captured."""

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


class TRACKSHADE_OT_use_perspective(_Fix, bpy.types.Operator):
    """Set the type of the camera to Perspective"""

    bl_idname = "trackshade.use_perspective"
    bl_label = "Make Perspective"

    def execute(self, context: bpy.types.Context) -> set[str]:
        camera = context.scene.trackshade.camera or context.scene.camera
        if camera is None or not isinstance(camera.data, bpy.types.Camera) or not camera.data.is_editable:
            self.report({"ERROR"}, tr("The camera cannot be edited"))
            return {"CANCELLED"}
        camera.data.type = "PERSP"
        return {"FINISHED"}


class TRACKSHADE_OT_fit_range(_Fix, bpy.types.Operator):
    """Use a custom frame range with as many frames as the model accepts, starting at the current first frame"""

    bl_idname = "trackshade.fit_range"
    bl_label = "Set Frame Range"

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings, scene = context.scene.trackshade, context.scene
        first, last, step = scene.frame_start, scene.frame_end, float(scene.frame_step)
        if settings.use_range:
            first, last, step = settings.first, settings.last, settings.step
        requested = max(1, int((last - first) / step + 1e-9) + 1)
        spec = registry.spec(settings.shade_settings().model)
        counts = sorted(spec.allowed_frame_counts)
        count = max([n for n in counts if n <= requested], default=counts[0])
        settings.first, settings.step, settings.last = first, step, -int(-(first + (count - 1) * step) // 1)
        settings.use_range = True
        return {"FINISHED"}


class TRACKSHADE_OT_show_in_renders(_Fix, bpy.types.Operator):
    """Enable in renders the objects that are visible in the viewport"""

    bl_idname = "trackshade.show_in_renders"
    bl_label = "Show in Renders"

    def execute(self, context: bpy.types.Context) -> set[str]:
        for obj in context.view_layer.objects:
            if obj.hide_render and obj.visible_get():
                obj.hide_render = False
        return {"FINISHED"}


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


class TRACKSHADE_OT_toggle_glass(_Fix, bpy.types.Operator):
    """Switch between tracking the glass and tracking what is behind it"""

    bl_idname = "trackshade.toggle_glass"
    bl_label = "Toggle Glass"

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.trackshade
        settings.glass = "opaque" if settings.glass == "through" else "through"
        return {"FINISHED"}


class TRACKSHADE_OT_simplify(_Fix, bpy.types.Operator):
    """Enable Simplify with at most one level of subdivision in renders"""

    bl_idname = "trackshade.simplify"
    bl_label = "Simplify Subdivision"

    def execute(self, context: bpy.types.Context) -> set[str]:
        render = context.scene.render
        render.use_simplify = True
        render.simplify_subdivision_render = min(1, render.simplify_subdivision_render)
        return {"FINISHED"}


class TRACKSHADE_OT_use_render(_Fix, bpy.types.Operator):
    """Render the first frame instead of using an image"""

    bl_idname = "trackshade.use_render"
    bl_label = "Render First Frame"

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.trackshade.first_frame = "render"
        return {"FINISHED"}


class TRACKSHADE_OT_use_standard_colours(_Fix, bpy.types.Operator):
    """Set the view transform to Standard, without look, curves or gamma, so that results keep their colors"""

    bl_idname = "trackshade.use_standard_colours"
    bl_label = "Use Standard Colors"

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        view = scene.view_settings
        try:
            scene.display_settings.display_device = "sRGB"
            view.view_transform = "Standard"
            view.look = "None"
        except TypeError:  # raised by Blender for an option that does not exist
            self.report({"ERROR"}, tr("Blender's color configuration has no standard colors"))
            return {"CANCELLED"}
        view.gamma = 1
        view.use_curve_mapping = False
        if hasattr(view, "use_white_balance"):
            view.use_white_balance = False
        return {"FINISHED"}


CLASSES = (
    TRACKSHADE_OT_check,
    TRACKSHADE_OT_add_camera,
    TRACKSHADE_OT_use_perspective,
    TRACKSHADE_OT_fit_range,
    TRACKSHADE_OT_show_in_renders,
    TRACKSHADE_OT_select,
    TRACKSHADE_OT_toggle_glass,
    TRACKSHADE_OT_simplify,
    TRACKSHADE_OT_use_render,
    TRACKSHADE_OT_use_standard_colours,
)
