# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences: the backend's environment, the folders, and where results go."""

# No postponed annotations here: Blender reads the properties from them.
import bpy

from trackshade.core import folders

from .. import backend
from ..ui.backend_panel import draw_backend
from ..ui.drawing import draw_text
from ..ui.models_panel import draw_models
from ..ui.shared import MAY_BE_RELATIVE
from .chosen import ADDON, RESULTS


class TrackshadePreferences(bpy.types.AddonPreferences):
    """Preferences of the add-on."""

    bl_idname = ADDON

    python: bpy.props.StringProperty(
        name="Existing Python",
        description="Python of an environment that has Trackshade's backend already. Leave empty to use the one "
        "that Set Up makes",
        subtype="FILE_PATH",
    )
    endpoint: bpy.props.StringProperty(
        name="Backend Address",
        description="Of a backend that runs already, perhaps on another computer. Leave empty for the one of this "
        "computer, which starts by itself",
    )
    environment_folder: bpy.props.StringProperty(
        name="Environment Folder",
        description="Where Set Up puts PyTorch and the other libraries: several gigabytes. Leave empty for one folder "
        "that all versions of Blender share",
        subtype="DIR_PATH",
    )
    base_python: bpy.props.StringProperty(
        name="Python",
        description="Python 3.11 to 3.14 to make the environment with. Leave empty to use Blender's own where that "
        "is possible",
        subtype="FILE_PATH",
    )
    device: bpy.props.EnumProperty(
        name="Device",
        description="What shades: the environment is made for it",
        items=[
            ("auto", "Automatic", "An NVIDIA or Apple GPU where there is one, else the processor"),
            ("cuda", "NVIDIA GPU", "PyTorch with CUDA"),
            ("mps", "Apple GPU", "PyTorch with Metal"),
            ("cpu", "Processor", "No GPU: enough for the small embedded model"),
        ],
        default="auto",
    )
    wheels_folder: bpy.props.StringProperty(
        name="Folder of Wheels",
        description="Set up without the network, from packages that were downloaded elsewhere",
        subtype="DIR_PATH",
    )
    package_index: bpy.props.StringProperty(
        name="Package Index",
        description="Address of one more package index, such as a GPU vendor's or your company's. Leave empty if "
        "nobody told you one",
    )
    results: bpy.props.StringProperty(
        name="Results",
        description="Folder of the results; // is the file's own folder",
        default=RESULTS,
        subtype="DIR_PATH",
        options=MAY_BE_RELATIVE,
    )

    unsaved_results: bpy.props.StringProperty(
        name="Unsaved Scenes",
        description="Folder of the results of scenes that were never saved. Leave empty for the folder Trackshade in "
        "your documents",
        subtype="DIR_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.prop(self, "results")
        column.prop(self, "unsaved_results", placeholder=str(folders.unsaved_results_dir()))
        header, body = layout.panel("TRACKSHADE_preferences_backend")
        header.label(text="Backend")
        if body is not None:
            draw_backend(body, context)
            column = body.column(heading="Set Up")
            column.enabled = backend.state().kind != "setting-up"
            for name in ("device", "environment_folder", "base_python", "wheels_folder", "package_index"):
                column.prop(self, name)
            column = body.column(heading="Instead")
            column.prop(self, "python")
            column.prop(self, "endpoint")
            if self.python:
                column.operator("trackshade.check_environment", icon="CHECKMARK")
        header, body = layout.panel("TRACKSHADE_preferences_models")
        header.label(text="Models")
        if body is not None:
            draw_models(body, context)
            draw_text(body, context, str(backend.models.folder()), "FILE_FOLDER")


CLASSES = (TrackshadePreferences,)
