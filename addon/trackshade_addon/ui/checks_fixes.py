# SPDX-License-Identifier: GPL-3.0-or-later
"""The buttons beside the findings. Each changes one thing, only when it is pressed, and can be undone."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Generator

import bpy

from trackshade.config import registry
from trackshade.core.errors import TrackshadeError

from ..capture.auto_camera import add_auto_camera
from ..capture.scene_settings import fit_scene
from ..capture.stepping import Steps
from ..jobs.session import current
from ..messages.texts import tr
from ..properties.chosen import ADDON
from .checks import ERROR, Facts, findings
from .checks_watch import watch
from .stepped import SteppedOperator

LOOKED_AT = 9  # frames that a new camera is made to frame, at most: each costs Blender a step


class _Fix:
    """What the buttons share: nothing is changed during a capture."""

    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender wants it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene is not None and not current().holds_scene


class TRACKSHADE_OT_check(SteppedOperator, _Fix, bpy.types.Operator):
    """Look at the shot's first, middle and last frame for what would go wrong. The scene stays as it is"""

    bl_idname = "trackshade.check"
    bl_label = "Check the Shot"
    bl_options = {"REGISTER"}  # noqa: RUF012 - as Blender wants it

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, Facts]:
        return watch.checking(context.scene, context.view_layer)

    def done(self, context: bpy.types.Context, result: Facts) -> set[str]:
        found = findings(result)
        for item in found:
            level = "ERROR" if item.level == ERROR and bpy.app.background else "WARNING"
            self.report({level}, tr(item.text, **item.values))
        if not found:
            self.report({"INFO"}, tr("Nothing stands in the way"))
        return {"FINISHED"}


class TRACKSHADE_OT_add_camera(SteppedOperator, _Fix, bpy.types.Operator):
    """Add a camera that has everything that moves in its frame, and see the scene through it"""

    bl_idname = "trackshade.add_camera"
    bl_label = "Add Framing Camera"

    def steps(self, context: bpy.types.Context) -> Generator[Steps, None, bpy.types.Object]:
        own, scene = context.scene.trackshade, context.scene
        what = own.what(context.view_layer.name)
        try:
            frames, _ = fit_scene(scene, registry.spec(what.model), *what.frames, frame_rule=what.frame_rule)
            some = frames.frame_numbers[:: -(-len(frames.frame_numbers) // LOOKED_AT)]
        except TrackshadeError:  # the range is a finding of its own
            some = (float(scene.frame_current),)
        return add_auto_camera(scene, scene.view_layers[what.view_layer or context.view_layer.name], [*some])

    def done(self, context: bpy.types.Context, result: bpy.types.Object) -> set[str]:
        context.scene.trackshade.camera = None
        return {"FINISHED"}


class TRACKSHADE_OT_use_perspective(_Fix, bpy.types.Operator):
    """Make the camera's lens a perspective one"""

    bl_idname = "trackshade.use_perspective"
    bl_label = "Make It Perspective"

    def execute(self, context: bpy.types.Context) -> set[str]:
        camera = context.scene.trackshade.camera or context.scene.camera
        if camera is None or not isinstance(camera.data, bpy.types.Camera) or not camera.data.is_editable:
            self.report({"ERROR"}, tr("The camera cannot be changed here"))
            return {"CANCELLED"}
        camera.data.type = "PERSP"
        return {"FINISHED"}


class TRACKSHADE_OT_fit_range(_Fix, bpy.types.Operator):
    """Give the shot a range of its own that is as long as the model takes, from the present first frame on"""

    bl_idname = "trackshade.fit_range"
    bl_label = "Set the Range"

    def execute(self, context: bpy.types.Context) -> set[str]:
        own, scene = context.scene.trackshade, context.scene
        first, step = (own.first, own.step) if own.use_range else (scene.frame_start, float(scene.frame_step))
        last = own.last if own.use_range else scene.frame_end
        asked = max(1, int((last - first) / step + 1e-9) + 1)
        counts = sorted(registry.spec(own.what(context.view_layer.name).model).allowed_frame_counts)
        count = max([n for n in counts if n <= asked], default=counts[0])
        own.first, own.step, own.last = first, step, -int(-(first + (count - 1) * step) // 1)
        own.use_range = True
        return {"FINISHED"}


class TRACKSHADE_OT_show_in_renders(_Fix, bpy.types.Operator):
    """Show in renders what the viewport shows"""

    bl_idname = "trackshade.show_in_renders"
    bl_label = "Show in Renders"

    def execute(self, context: bpy.types.Context) -> set[str]:
        for obj in context.view_layer.objects:
            if obj.hide_render and obj.visible_get():
                obj.hide_render = False
        return {"FINISHED"}


class TRACKSHADE_OT_select(_Fix, bpy.types.Operator):
    """Select the objects that the finding is about"""

    bl_idname = "trackshade.select"
    bl_label = "Select"

    names: bpy.props.StringProperty(name="Objects", description="Names, a line each", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        # An instance is called INSTANCER/OBJECT; what can be selected is the instancer.
        wanted = {part for name in self.names.split("\n") for part in (name, name.partition("/")[0])}
        for obj in context.view_layer.objects:
            obj.select_set(obj.name in wanted)
            if obj.name in wanted:
                context.view_layer.objects.active = obj
        return {"FINISHED"}


class TRACKSHADE_OT_toggle_glass(_Fix, bpy.types.Operator):
    """Track what is behind the glass instead of the glass, or the other way round"""

    bl_idname = "trackshade.toggle_glass"
    bl_label = "Toggle Glass"

    def execute(self, context: bpy.types.Context) -> set[str]:
        own = context.scene.trackshade
        own.glass = "opaque" if own.glass == "through" else "through"
        return {"FINISHED"}


class TRACKSHADE_OT_simplify(_Fix, bpy.types.Operator):
    """Switch Blender's Simplify on, with at most one level of subdivision in renders"""

    bl_idname = "trackshade.simplify"
    bl_label = "Simplify Subdivision"

    def execute(self, context: bpy.types.Context) -> set[str]:
        render = context.scene.render
        render.use_simplify = True
        render.simplify_subdivision_render = min(1, render.simplify_subdivision_render)
        return {"FINISHED"}


class TRACKSHADE_OT_use_render(_Fix, bpy.types.Operator):
    """Render the first frame instead of taking an image"""

    bl_idname = "trackshade.use_render"
    bl_label = "Render It Instead"

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.trackshade.first_frame = "render"
        return {"FINISHED"}


class TRACKSHADE_OT_use_standard_colours(_Fix, bpy.types.Operator):
    """Set the scene's color management so that pictures come out as they were made: view transform Standard, no look,
    no curves, gamma 1"""

    bl_idname = "trackshade.use_standard_colours"
    bl_label = "Use Standard Colors"

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        view = scene.view_settings
        try:
            scene.display_settings.display_device = "sRGB"
            view.view_transform = "Standard"
            view.look = "None"
        except TypeError:  # Blender's word for a choice that there is not
            self.report({"ERROR"}, tr("The color configuration that Blender was started with has no standard colors"))
            return {"CANCELLED"}
        view.gamma = 1
        view.use_curve_mapping = False
        if hasattr(view, "use_white_balance"):
            view.use_white_balance = False
        return {"FINISHED"}


class TRACKSHADE_OT_show_preferences(bpy.types.Operator):
    """Show the add-on's preferences, where models are fetched and folders are chosen"""

    bl_idname = "trackshade.show_preferences"
    bl_label = "Preferences"

    def execute(self, context: bpy.types.Context) -> set[str]:
        if bpy.app.background or context.preferences.addons.get(ADDON) is None:
            return {"CANCELLED"}
        return bpy.ops.preferences.addon_show(module=ADDON)


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
    TRACKSHADE_OT_show_preferences,
)
