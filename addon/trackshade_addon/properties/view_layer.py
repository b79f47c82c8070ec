# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a view layer, saved with the scene: the engine's passes, and shading of exports."""

# No postponed annotations here: Blender reads the properties from them.
import bpy

from .choices import FROM_PROMPT
from .scene import FIRST_FRAME_DESCRIPTION


class TrackshadeLayer(bpy.types.PropertyGroup):
    """Settings of one view layer."""

    use_pass_tracking: bpy.props.BoolProperty(
        name="Tracking", description="Deliver the tracking video that controls the model as a pass", default=False
    )
    use_hook: bpy.props.BoolProperty(
        name="Shade Exports",
        description="Record the tracks of this view layer with every frame of an animation that is rendered, with any "
        "render engine, and shade them when the animation is complete",
        default=False,
    )
    hook_picture: bpy.props.EnumProperty(
        name="First Frame",
        description=FIRST_FRAME_DESCRIPTION,
        items=[
            ("after", "Composited", "The first exported frame after compositing"),
            ("before", "View Layer", "The first exported frame of this view layer before compositing"),
            FROM_PROMPT[:3],
        ],
        default="after",
    )
    hook_start: bpy.props.BoolProperty(
        name="Shade When Complete",
        description="Shade the tracks when the last frame is rendered. If disabled, shade them later with the command "
        "`trackshade shade`",
        default=True,
    )
    hook_place: bpy.props.BoolProperty(
        name="Place Result",
        description="Add the result to the scene with the placement settings; without a window, to a copy of the scene",
        default=False,
    )
