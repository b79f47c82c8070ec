# SPDX-License-Identifier: GPL-3.0-or-later
"""The result as a camera's background image, for looking at it in the viewport."""

from __future__ import annotations

import bpy

from trackshade.core.fitting import SizeFit

from .sequence import Sequence
from .timing import play_by_time


def add_background(
    camera: bpy.types.Camera,
    image: bpy.types.Image,
    sequence: Sequence,
    fit: SizeFit,
    scene: bpy.types.Scene,
) -> bpy.types.CameraBackgroundImage:
    """Shows a sequence over what the camera sees, lying as `fit` says.

    In front, since the meshes that it shows would hide it; the artist sets its opacity, as of any background image.

    The model's image and the scene's frame have the same center, and one side in common: padded, the image
    just covers the frame, which is Blender's frame method "crop"; cropped, it just fits inside, which is
    "fit". Both keep the image's aspect under any pixel aspect of the scene.
    """
    background = camera.background_images.new()
    background.image = image
    background.frame_method = "CROP" if fit.mode == "pad" else "FIT"
    background.alpha = 1.0
    background.display_depth = "FRONT"
    play_by_time(background.image_user, sequence, scene)
    camera.show_background_images = True
    return background
