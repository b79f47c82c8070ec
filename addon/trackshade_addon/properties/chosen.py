# SPDX-License-Identifier: GPL-3.0-or-later
"""What is chosen in the add-on's preferences, for whatever needs to know; main thread only."""

from __future__ import annotations

from pathlib import Path

import bpy

from trackshade.core import folders

ADDON = __name__.rsplit(".", 2)[0]  # the add-on's package, as Blender calls it
RESULTS = "//shaded"


def preferences() -> bpy.types.AddonPreferences | None:
    """The add-on's preferences; None where it was registered without being enabled."""
    addon = bpy.context.preferences.addons.get(ADDON)
    return None if addon is None else addon.preferences


def extension_data() -> Path | None:
    """The folder in which Blender lets an extension keep data, and which it deletes with the extension. Earlier
    versions kept results and environments there. It need not exist; None where the add-on is no extension."""
    if not ADDON.startswith("bl_ext."):
        return None
    try:
        return Path(bpy.utils.extension_path_user(ADDON))
    except ValueError:  # a repository without a folder
        return None


def unsaved_results_folder() -> Path:
    """Where the results of scenes go that were never saved: as chosen in the preferences, else in the documents."""
    own = preferences()
    chosen = own.unsaved_results if own is not None else ""
    relative = chosen.startswith("//")  # to a file that there is not
    return Path(chosen).expanduser() if chosen and not relative else folders.unsaved_results_dir()


def results_folder() -> Path:
    """Where the next results go: as chosen, else the folder for scenes that are in no file yet. It need not exist."""
    own = preferences()
    chosen = own.results if own is not None else RESULTS
    if chosen and (bpy.data.filepath or not chosen.startswith("//")):
        return Path(bpy.path.abspath(chosen))
    return unsaved_results_folder()
