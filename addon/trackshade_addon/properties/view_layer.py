# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist sets for a view layer: the engine's passes, and the hook on exports. Saved with the scene."""

# No postponed annotations here: Blender reads the properties from them.
import bpy


class TrackshadeLayer(bpy.types.PropertyGroup):
    """Settings of one view layer."""

    use_pass_tracking: bpy.props.BoolProperty(
        name="Tracking", description="Deliver the tracking video that led the model as a pass", default=False
    )
    use_hook: bpy.props.BoolProperty(
        name="Shade Exports",
        description="Keep the tracks of this view layer with every frame of an animation that is rendered, by whatever "
        "engine, and have them shaded when it is complete",
        default=False,
    )
    hook_picture: bpy.props.EnumProperty(
        name="First Frame",
        description="What the video starts from and takes its colors and light from",
        items=[
            ("after", "Composited", "The first exported frame as the compositor made it"),
            ("before", "This Layer", "The first exported frame as the engine rendered this layer"),
            ("none", "Generated", "Start from the prompt alone"),
        ],
        default="after",
    )
    hook_start: bpy.props.BoolProperty(
        name="Shade When Complete",
        description="Have the tracks shaded when the last of them is there. Without, `trackshade shade` does it later",
        default=True,
    )
    hook_place: bpy.props.BoolProperty(
        name="Place the Result",
        description="Bring the result into the scene as under Placing; without a window, into a copy of the scene",
        default=False,
    )


def attach() -> None:
    """Gives every view layer its settings."""
    bpy.types.ViewLayer.trackshade = bpy.props.PointerProperty(type=TrackshadeLayer)


def detach() -> None:
    del bpy.types.ViewLayer.trackshade


CLASSES = (TrackshadeLayer,)
