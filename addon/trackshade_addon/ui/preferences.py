# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: which backend, and where results go."""

# No postponed annotations here: Blender reads the properties from them.
import os
from pathlib import Path

import bpy

from trackshade import settings as places
from trackshade.errors import OutputError

ADDON = __name__.rsplit(".", 2)[0]  # the add-on's package, as Blender calls it
RESULTS = "//shaded"


class TrackshadePreferences(bpy.types.AddonPreferences):
    """Preferences of the add-on."""

    bl_idname = ADDON

    python: bpy.props.StringProperty(
        name="Backend Python",
        description="Python of the environment with Trackshade's backend; empty to use TRACKSHADE_PYTHON",
        subtype="FILE_PATH",
    )
    endpoint: bpy.props.StringProperty(
        name="Backend Address",
        description="Of a backend that runs already; empty for the one served on this computer, or one of our own",
    )
    results: bpy.props.StringProperty(
        name="Results",
        description="Folder of the results; // is the file's own folder",
        default=RESULTS,
        subtype="DIR_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        column = self.layout.column()
        column.prop(self, "python")
        column.prop(self, "endpoint")
        column.prop(self, "results")


def preferences() -> bpy.types.AddonPreferences | None:
    """The add-on's preferences; None where it was registered without being enabled."""
    addon = bpy.context.preferences.addons.get(ADDON)
    return None if addon is None else addon.preferences


def backend_python() -> str | None:
    """The interpreter of the backend's environment, None for this one."""
    own = preferences()
    return (bpy.path.abspath(own.python) if own is not None and own.python else None) or os.environ.get(
        "TRACKSHADE_PYTHON"
    )


def backend_address() -> str | None:
    own = preferences()
    return own.endpoint or None if own is not None else None


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


CLASSES = (TrackshadePreferences,)
