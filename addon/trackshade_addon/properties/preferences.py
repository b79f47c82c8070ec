# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: the backend's environment, its address, and folders. Main thread only."""

# No postponed annotations here: Blender reads the properties from them.
from pathlib import Path
from typing import Any

import bpy

from trackshade.core import folders

ADDON = __name__.rsplit(".", 2)[0]  # the add-on's package, as Blender calls it
DEFAULT_RESULTS = "//shaded"
# Options of a path that may be relative to the file; newer Blenders show such a path in red without them.
RELATIVE_PATH = (
    {"PATH_SUPPORTS_BLEND_RELATIVE"}
    if "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties
    else set[str]()
)


def path_property(name: str, description: str, subtype: str = "FILE_PATH") -> Any:
    """Return the property of a path that may be relative to the file."""
    return bpy.props.StringProperty(
        name=name, description=description, subtype=subtype, options={"ANIMATABLE", *RELATIVE_PATH}
    )


class PreferencesProperties:
    """Properties of the preferences; `ui.preferences_panel` draws them."""

    python: bpy.props.StringProperty(
        name="Existing Python",
        description="Python executable of an environment in which Trackshade's backend is installed. Leave empty to "
        "use the environment made by Set Up",
        subtype="FILE_PATH",
    )
    endpoint: bpy.props.StringProperty(
        name="Backend Address",
        description="Address of a running backend, for example on another computer. Leave empty to use a backend on "
        "this computer, which starts automatically",
    )
    token: bpy.props.StringProperty(
        name="Token",
        description="Token of the running backend, which trackshade serve prints. It is stored with Blender's "
        "preferences",
        subtype="PASSWORD",
    )
    server_key: bpy.props.StringProperty(
        name="Server Key",
        description="Public key of a backend on another computer: the file server.key",
        subtype="FILE_PATH",
    )
    client_key: bpy.props.StringProperty(
        name="Client Key",
        description="Secret key of this computer, which the backend on another computer accepts: the file "
        "client.key_secret",
        subtype="FILE_PATH",
    )
    environment_folder: bpy.props.StringProperty(
        name="Environment Folder",
        description="Folder in which Set Up installs PyTorch and other libraries, which take several gigabytes. Leave "
        "empty for a folder that all versions of Blender share",
        subtype="DIR_PATH",
    )
    base_python: bpy.props.StringProperty(
        name="Python",
        description="Python 3.11 to 3.13 to create the environment with. Leave empty to use Blender's Python if "
        "possible",
        subtype="FILE_PATH",
    )
    device: bpy.props.EnumProperty(
        name="Device",
        description="Device that the environment is created for",
        items=[
            ("auto", "Automatic", "An NVIDIA or Apple GPU if there is one, otherwise the CPU"),
            ("cuda", "NVIDIA GPU", "PyTorch with CUDA"),
            ("mps", "Apple GPU", "PyTorch with Metal"),
            ("cpu", "CPU", "PyTorch without GPU support, which is enough for the small embedded model"),
        ],
        default="auto",
    )
    wheels_folder: bpy.props.StringProperty(
        name="Wheels Folder",
        description="Folder with downloaded packages, for setting up without network access",
        subtype="DIR_PATH",
    )
    package_index: bpy.props.StringProperty(
        name="Package Index",
        description="Address of an additional package index, for example that of a GPU vendor or your company",
    )
    results: bpy.props.StringProperty(
        name="Results",
        description="Folder for results. // is the folder of the Blender file",
        default=DEFAULT_RESULTS,
        subtype="DIR_PATH",
        options=RELATIVE_PATH,
    )
    unsaved_results: bpy.props.StringProperty(
        name="Unsaved Files",
        description="Folder for results of files that have not been saved. Leave empty for the folder Trackshade in "
        "your documents",
        subtype="DIR_PATH",
    )


def get_preferences() -> bpy.types.AddonPreferences | None:
    """Return the add-on's preferences; None where it was registered without being enabled."""
    addon = bpy.context.preferences.addons.get(ADDON)
    return None if addon is None else addon.preferences


def extension_data_folder() -> Path | None:
    """Return the folder in which Blender lets an extension keep data, and which it deletes with the extension.

    Earlier versions kept results and environments there. The folder need not exist; None where the add-on is not
    installed as an extension.
    """
    if not ADDON.startswith("bl_ext."):
        return None
    try:
        return Path(bpy.utils.extension_path_user(ADDON))
    except ValueError:  # a repository without a folder
        return None


def unsaved_results_folder() -> Path:
    """Return the folder for results of files that have not been saved; it need not exist."""
    preferences = get_preferences()
    chosen = preferences.unsaved_results if preferences is not None else ""
    is_relative = chosen.startswith("//")  # to a file that does not exist
    return Path(chosen).expanduser() if chosen and not is_relative else folders.unsaved_results_dir()


def results_folder() -> Path:
    """Return the folder for the next results; it need not exist."""
    preferences = get_preferences()
    chosen = preferences.results if preferences is not None else DEFAULT_RESULTS
    if chosen and (bpy.data.filepath or not chosen.startswith("//")):
        return Path(bpy.path.abspath(chosen))
    return unsaved_results_folder()
