# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide as Blender's manual of the add-on: F1 over a button opens the page about it."""

# No postponed annotations here: Blender reads the properties from them.
from pathlib import Path
from typing import Any

import bpy

from ..messages.texts import tr

_PACKAGE = Path(__file__).resolve().parents[1]
# Page and heading of the guide by what F1 was pressed over; the first pattern that matches counts. Blender compares
# names in lower case.
_PAGES = (
    ("bpy.types.trackshadesettings.image_format", "panel#shot"),
    *((f"bpy.types.trackshadesettings.{name}*", "panel#look") for name in (
        "prompt", "negative_prompt", "first_frame", "picture", "image", "lora", "stills", "seed", "model", "steps",
        "guidance", "control_", "key_pictures", "frame_rule", "size", "memory", "reference", "video_lora",
        "look_engine", "footage",
    )),
    *((f"bpy.types.trackshadesettings.{name}*", "panel#shot") for name in (
        "use_range", "step", "output_size", "alpha", "light", "view_layer", "glass", "hair",
    )),
    ("bpy.types.trackshadesettings.first", "panel#shot"),
    ("bpy.types.trackshadesettings.last", "panel#shot"),
    ("bpy.types.trackshadesettings.camera", "panel#shot"),
    ("bpy.types.trackshadesettings.splats", "many-cameras#surfaces-and-splats"),
    *((f"bpy.types.trackshadesettings.{name}*", "panel#cameras") for name in ("cameras", "active_camera", "orbit")),
    *((f"bpy.types.trackshadesettings.{name}*", "panel#key-pictures") for name in ("keys", "active_key")),
    ("bpy.types.trackshadesettings.*", "panel#placement"),
    ("bpy.types.trackshadekey*", "panel#key-pictures"),
    ("bpy.types.trackshadecamera*", "panel#cameras"),
    ("bpy.types.trackshadelift*", "panel#photo-or-footage"),
    ("bpy.types.trackshademotion*", "panel#motion-from-footage"),
    ("bpy.types.trackshadebone*", "panel#motion-from-footage"),
    ("bpy.types.trackshadeoverlay*", "panel#tracking-colors"),
    ("bpy.types.trackshadelayer*", "render-engine#after-another-engine"),
    ("bpy.types.trackshadejobs*", "panel#jobs"),
    ("bpy.types.trackshadepreferences*", "panel#preferences"),
    ("bpy.types.trackshade*", "panel"),
    *((f"bpy.ops.trackshade.{name}*", "panel#key-pictures") for name in ("key_",)),
    *((f"bpy.ops.trackshade.{name}*", "panel#cameras") for name in ("camera_remove", "cameras_", "orbit_")),
    *((f"bpy.ops.trackshade.{name}*", "panel#photo-or-footage") for name in (
        "lift", "track_", "camera_preset", "move_by_text", "drag_handles", "reset_handles", "export_tracks",
        "cancel_lift",
    )),
    *((f"bpy.ops.trackshade.{name}*", "panel#motion-from-footage") for name in (
        "reenact", "motion_to_armature", "match_bones_by_name", "clear_bones",
    )),
    *((f"bpy.ops.trackshade.{name}*", "panel#jobs") for name in (
        "cancel", "remove_job", "clear_jobs", "open_folder", "place_again", "take_out", "use_settings", "use_still",
        "import_result",
    )),
    ("bpy.ops.trackshade.place_splats", "many-cameras#surfaces-and-splats"),
    ("bpy.ops.trackshade.restore_materials", "panel#placement"),
    *((f"bpy.ops.trackshade.{name}*", "panel#backend") for name in (
        "set_up", "start_backend", "stop_backend", "free_memory", "show_log", "copy_diagnostics", "check_environment",
        "test_connection",
    )),
    *((f"bpy.ops.trackshade.{name}*", "panel#models") for name in (
        "fetch_model", "remove_model", "pause_model", "verify_model", "move_models", "use_checkpoint",
    )),
    *((f"bpy.ops.trackshade.{name}*", "panel#tracking-colors") for name in ("control", "update_overlay")),
    *((f"bpy.ops.trackshade.{name}*", "panel#checks") for name in ("check", "select", "add_camera")),
    ("bpy.ops.trackshade.paint_stills", "looks#a-generated-still"),
    ("bpy.ops.trackshade.*", "panel"),
)  # fmt: skip


class TRACKSHADE_OT_open_manual(bpy.types.Operator):
    """Open the guide of Trackshade in the web browser. It is stored on this computer"""

    bl_idname = "trackshade.open_manual"
    bl_label = "Trackshade Manual"

    page: bpy.props.StringProperty(name="Page", default="panel", options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder, suffix = guide()
        if not (folder / f"{self.page}{suffix}").is_file():
            self.report({"WARNING"}, tr("The guide is not installed"))
            return {"CANCELLED"}
        return bpy.ops.wm.url_open(url=f"{folder.as_uri()}/{self.page}{suffix}")


def guide() -> tuple[Path, str]:
    """Return the folder of the guide and the suffix of its pages: those of the extension, or those of the source."""
    folder = _PACKAGE / "guide"
    return (folder, ".html") if folder.is_dir() else (_PACKAGE.parent / "guide", ".md")


def manual_map() -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the address of the guide, and the page of each name; see `bpy.utils.register_manual_map`."""
    folder, suffix = guide()
    return f"{folder.as_uri()}/", tuple((pattern, _address(page, suffix)) for pattern, page in _PAGES)


def _address(page: str, suffix: str) -> str:
    name, mark, heading = page.partition("#")
    return f"{name}{suffix}{mark}{heading}"


def _draw_help(menu: Any, context: bpy.types.Context) -> None:
    menu.layout.operator(TRACKSHADE_OT_open_manual.bl_idname, icon="HELP")


def attach() -> None:
    """Add the pages to what F1 opens, and the guide to the help menu."""
    bpy.utils.register_manual_map(manual_map)
    bpy.types.TOPBAR_MT_help.append(_draw_help)


def detach() -> None:
    """Remove both."""
    bpy.types.TOPBAR_MT_help.remove(_draw_help)
    bpy.utils.unregister_manual_map(manual_map)
