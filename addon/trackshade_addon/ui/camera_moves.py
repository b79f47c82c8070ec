# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera moves: presets with thumbnails, and motions as text."""

# No postponed annotations here: Blender reads the properties from them.
import bpy

from trackshade.core.camera_motion import EASINGS, PRESETS

from ..lifting.motion import apply_preset, move_object, move_scene_camera
from ..messages.translations import CONTEXT
from .drawing import ActionOperator, draw_properties, split_properties
from .modal import is_scene_free
from .move_icons import icons

_EASINGS = [
    ("ease", "Ease", "Begin and end slowly"),
    ("linear", "Linear", "Constant speed"),
    ("ease-in", "Ease In", "Begin slowly"),
    ("ease-out", "Ease Out", "End slowly"),
]
_PRESETS = [
    ("orbit", "Orbit", "Circle around the subject to the right; degrees"),
    ("dolly", "Dolly", "Move towards the subject; share of its distance"),
    ("truck", "Truck", "Move to the right; share of the subject's distance"),
    ("pan", "Pan", "Turn to the right; degrees"),
    ("tilt", "Tilt", "Turn up; degrees"),
    ("crane", "Crane", "Rise; share of the subject's distance"),
    ("zoom", "Zoom", "Multiply the focal length; factor"),
    ("dolly-zoom", "Dolly Zoom", "Move towards the subject and widen the view to keep its size; share of its distance"),
]
assert [name for name, *_ in _PRESETS] == [*PRESETS]
assert {name for name, *_ in _EASINGS} == {*EASINGS}


class TRACKSHADE_OT_camera_preset(ActionOperator, bpy.types.Operator):
    """Keyframe a move of the scene's camera about what it looks at. Earlier keyframes of the camera are replaced"""

    bl_idname = "trackshade.camera_preset"
    bl_label = "Camera Move"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    preset: bpy.props.EnumProperty(name="Move", description="Move of the camera", items=_PRESETS,
                                   translation_context=CONTEXT)  # fmt: skip
    amount: bpy.props.FloatProperty(
        name="Amount",
        description="Degrees, share of the subject's distance, or factor; a negative amount goes the other way",
        precision=2,
    )
    use_range: bpy.props.BoolProperty(name="Custom Range", description="Use another frame range than the scene's")
    start: bpy.props.IntProperty(name="Frame Start", description="First frame of the move", default=1)
    duration: bpy.props.IntProperty(name="Duration", description="Number of frames of the move", min=1, default=48)
    easing: bpy.props.EnumProperty(name="Easing", description="How the move begins and ends", items=_EASINGS,
                                   translation_context=CONTEXT)  # fmt: skip

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene is not None and context.scene.camera is not None and is_scene_free(cls, context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.amount = PRESETS[self.preset].amount
        return self.execute(context)  # the values can be changed in the panel of the last operation

    def draw(self, context: bpy.types.Context) -> None:
        layout = split_properties(self.layout)
        draw_properties(layout, self, "preset", "amount", "easing", "use_range")
        if self.use_range:
            draw_properties(layout, self, "start", "duration")

    def act(self, context: bpy.types.Context) -> None:
        scene, frame = context.scene, context.scene.frame_current
        start, end = scene.frame_start, scene.frame_end
        if self.use_range:
            start, end = self.start, self.start + self.duration
        amount = self.amount or PRESETS[self.preset].amount
        apply_preset(scene, self.preset, amount, start, end, self.easing)
        scene.frame_set(frame)


class TRACKSHADE_OT_move_by_text(ActionOperator, bpy.types.Operator):
    """Keyframe the camera, or the active object, by a motion written as text"""

    bl_idname = "trackshade.move_by_text"
    bl_label = "Motion from Text"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012

    target: bpy.props.EnumProperty(
        name="Target",
        description="What is moved",
        items=[
            ("camera", "Camera", "The scene's camera: 'trans', 'rot' and 'spiral'"),
            ("object", "Active Object", "The active object: 'up', 'down', 'left', 'right', 'front', 'back' and 'rot'"),
        ],
        translation_context=CONTEXT,
    )
    motion: bpy.props.StringProperty(name="Motion", description="Moves, such as: trans 0 0 -0.5 0 24; rot y 10")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene is not None and is_scene_free(cls, context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def act(self, context: bpy.types.Context) -> None:
        scene, frame = context.scene, context.scene.frame_current
        if self.target == "camera":
            move_scene_camera(scene, self.motion)
        else:
            move_object(scene, context.object.name if context.object else "", self.motion)
        scene.frame_set(frame)


class TRACKSHADE_MT_camera_moves(bpy.types.Menu):
    """Moves of the camera."""

    bl_label = "Camera Moves"

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.operator_context = "INVOKE_DEFAULT"
        for name, label, _ in _PRESETS:
            icon = icons.icon(name)
            self.layout.operator(
                "trackshade.camera_preset", text=label, text_ctxt=CONTEXT, icon_value=icon
            ).preset = name
        self.layout.separator()
        self.layout.operator("trackshade.move_by_text")


def draw_camera_moves(layout: bpy.types.UILayout) -> None:
    """Draw the presets as a grid of thumbnails, and the menu."""
    layout.menu(TRACKSHADE_MT_camera_moves.__name__, icon="CAMERA_DATA")
    grid = layout.grid_flow(row_major=True, columns=4, even_columns=True, align=True)
    grid.operator_context = "INVOKE_DEFAULT"
    grid.scale_y = 1.6
    for name, *_ in _PRESETS:
        grid.operator("trackshade.camera_preset", text="", icon_value=icons.icon(name)).preset = name


def detach() -> None:
    """Remove the thumbnails."""
    icons.close()
