# SPDX-License-Identifier: GPL-3.0-or-later
"""What is chosen in the add-on's preferences, for whatever needs to know; main thread only."""

from __future__ import annotations

from pathlib import Path

import bpy

from trackshade import settings as places
from trackshade.errors import OutputError

ADDON = __name__.rsplit(".", 1)[0]  # the add-on's package, as Blender calls it
RESULTS = "//shaded"


def preferences() -> bpy.types.AddonPreferences | None:
    """The add-on's preferences; None where it was registered without being enabled."""
    addon = bpy.context.preferences.addons.get(ADDON)
    return None if addon is None else addon.preferences


def results_folder() -> Path:
    """Where the next results go: as chosen, else a folder of the add-on's own where the scene is in no file yet.

    Raises:
        OutputError: the add-on's own folder cannot be made.
    """
    own = preferences()
    chosen = own.results if own is not None else RESULTS
    if chosen and (bpy.data.filepath or not chosen.startswith("//")):
        return Path(bpy.path.abspath(chosen))
    try:
        if ADDON.startswith("bl_ext."):
            return Path(bpy.utils.extension_path_user(ADDON, path="shaded", create=True))
        folder = places.home() / "shaded"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise OutputError(
            "output-unwritable", f"No folder for results can be made: {error}.", "Choose one in the preferences."
        ) from error
    return folder
