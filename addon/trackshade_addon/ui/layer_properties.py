# SPDX-License-Identifier: GPL-3.0-or-later
"""What an artist sets for a view layer: the engine's passes, and the hook on exports. Saved with the scene."""

# No postponed annotations here: Blender reads the properties from them.
import bpy


class TrackshadeLayer(bpy.types.PropertyGroup):
    """Settings of one view layer."""

    use_pass_tracking: bpy.props.BoolProperty(
        name="Tracking", description="Deliver the tracking video that led the model as a pass", default=False
    )


def attach() -> None:
    """Gives every view layer its settings."""
    bpy.types.ViewLayer.trackshade = bpy.props.PointerProperty(type=TrackshadeLayer)


def detach() -> None:
    del bpy.types.ViewLayer.trackshade


CLASSES = (TrackshadeLayer,)
