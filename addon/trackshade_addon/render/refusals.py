# SPDX-License-Identifier: GPL-3.0-or-later
"""What a render may ask for and no shot can be made of."""

from __future__ import annotations

import bpy

from trackshade.core.errors import ShotError


def refuse_stereo(render: bpy.types.RenderSettings) -> None:
    """Raises ShotError where the scene asks for several views."""
    if render.use_multiview:
        raise ShotError(
            "stereo",
            "Trackshade shades one view, and the scene asks for stereo.",
            "Switch off Stereoscopy in the Output Properties.",
        )


def refuse_region(render: bpy.types.RenderSettings) -> None:
    """Raises ShotError where an exported frame shows only a part of what is tracked."""
    if render.use_border:
        raise ShotError(
            "region",
            "Only a region of the frame is rendered, and the shot's first frame has to be a whole one.",
            "Switch off Render Region in the Output Properties, or choose Generated for the layer's First Frame.",
        )
