# SPDX-License-Identifier: GPL-3.0-or-later
"""The image data-block "Trackshade Result": an image sequence that always shows the newest result.

Once it exists, every result that is placed as images is loaded into it, so that materials, compositor nodes and
image editors that use it are up to date. The files are numbered by scene frames, which is how Blender's image users
count by default.
"""

from __future__ import annotations

import bpy

from .collection import PLATE_KEY, stored_path, tag
from .result_folder import ResultFolder
from .sequence import Sequence

NAME = "Trackshade Result"
_LATEST_KEY = "trackshade_latest"  # marks the data-block, even if it is renamed


def find_latest_image() -> bpy.types.Image | None:
    """Return the data-block, or None where there is none yet."""
    return next((image for image in bpy.data.images if _LATEST_KEY in image), None)


def show_in_latest_image(result: ResultFolder, sequence: Sequence, space: str) -> bpy.types.Image:
    """Load a result's images into the data-block, which is made where there is none; return it."""
    image = find_latest_image()
    if image is None:
        image = bpy.data.images.load(str(sequence.first), check_existing=False)
        image.name = NAME
        image[_LATEST_KEY] = True
        image.use_fake_user = True  # it is kept although nothing uses it yet
    image.filepath = stored_path(sequence.first)
    image.source = "SEQUENCE"
    image.colorspace_settings.name = space
    image.reload()
    return tag(image, result)


def remove_latest_image(folder: str) -> None:
    """Remove the data-block if it shows the result of this folder and nothing of the user's uses it."""
    image = find_latest_image()
    if image is not None and image.get(PLATE_KEY) == folder and image.users == image.use_fake_user:
        bpy.data.images.remove(image)
