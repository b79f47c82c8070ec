# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of key pictures in the sidebar, and its operators: add, remove, reload, go to the frame that helps most."""

# No postponed annotations here: Blender reads the properties from them.
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import bpy

from ..capture.given_image import IMAGE, copy_render_result
from ..jobs.key_pictures import KeyFacts, latest_facts, open_painted
from ..jobs.session import Change, current
from ..messages.texts import tr
from .drawing import ActionOperator, SubPanel, action, draw_text, split_properties
from .modal import is_scene_free
from .operators import draw_job_button

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 24  # bars at most
_MATCHES = 0.08  # correlation below which a picture shows something else


class TRACKSHADE_UL_keys(bpy.types.UIList):
    """List of key pictures."""

    def draw_item(
        self, context: bpy.types.Context, layout: bpy.types.UILayout, data, item, icon, active_data, active_property
    ) -> None:
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        row.prop(item, "frame", text="", emboss=False)
        name = item.picture.removeprefix(IMAGE) if item.source == "image" else bpy.path.basename(item.picture)
        row.label(text=name or tr("No image"), translate=False, icon="IMAGE_DATA" if name else "ERROR")
        facts = latest_facts(context.scene)
        said = None if facts is None else facts.pictures.get(float(item.frame))
        if said is not None and said.get("alignment"):
            row.label(text="", icon="CHECKMARK" if _lies_well(said["alignment"]) else "ERROR")


class TRACKSHADE_PT_keys(SubPanel, bpy.types.Panel):
    """Further pictures of the shot, which are carried to all frames."""

    bl_label = "Key Pictures"
    bl_order = 15

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.trackshade
        layout.enabled = not current().holds_scene
        row = layout.row()
        row.template_list(TRACKSHADE_UL_keys.__name__, "", settings, "keys", settings, "active_key", rows=3, maxrows=6)
        side = row.column(align=True)
        side.operator_menu_enum("trackshade.key_add", "source", text="", icon="ADD")
        side.operator("trackshade.key_remove", text="", icon="REMOVE")
        side.operator("trackshade.key_reload", text="", icon="FILE_REFRESH")
        facts = latest_facts(context.scene)
        if settings.active_key < len(settings.keys):
            _draw_key(layout, context, settings.keys[settings.active_key], facts)
        draw_job_button(layout.row(), "trackshade.key_export", "BRUSH_DATA")
        if facts is not None:
            _draw_facts(layout, context, facts)


def _draw_key(
    layout: bpy.types.UILayout, context: bpy.types.Context, key: bpy.types.PropertyGroup, facts: KeyFacts | None
) -> None:
    column = split_properties(layout.column())
    column.prop(key, "frame")
    if context.scene.trackshade.more_cameras():
        column.prop(key, "camera")
    column.prop(key, "source")
    if key.source == "file":
        column.prop(key, "path")
    else:
        column.template_ID(key, "image", open="image.open")
    if not key.picture:
        draw_text(layout, context, tr("Without an image it is not used"), "ERROR")
    said = None if facts is None else facts.pictures.get(float(key.frame))
    if said is not None:
        draw_text(layout, context, alignment_text(said.get("alignment")), "INFO")


def _draw_facts(layout: bpy.types.UILayout, context: bpy.types.Context, facts: KeyFacts) -> None:
    values = {"first": f"{facts.frames[0]:g}", "last": f"{facts.frames[-1]:g}", "bars": unseen_bars(facts.unseen)}
    layout.label(text=tr("Unseen: {first} {bars} {last}", **values), translate=False)
    worst = max(range(len(facts.unseen)), key=facts.unseen.__getitem__)
    share, frame = f"{facts.unseen[worst]:.0%}", f"{facts.frames[worst]:g}"
    draw_text(layout, context, tr("At most {share} of a frame, in frame {frame}", share=share, frame=frame))
    if facts.next_frame is not None:
        text = tr("Best next key: frame {frame}", frame=f"{facts.next_frame:g}")
        layout.operator("trackshade.key_go", text=text, icon="FORWARD", translate=False).frame = round(facts.next_frame)


def unseen_bars(unseen: Sequence[float]) -> str:
    """Return shares as bars of text, at most `_COLUMNS`; each shows the largest of the shares that it stands for."""
    count = min(len(unseen), _COLUMNS)
    bounds = [round(n * len(unseen) / count) for n in range(count + 1)]
    shares = [max(unseen[low:high]) for low, high in pairwise(bounds)]
    return "".join(_BARS[min(len(_BARS) - 1, int(share * len(_BARS)))] for share in shares)


def alignment_text(alignment: Mapping[str, Any] | None) -> str:
    """Return a sentence about how a picture lay on the geometry."""
    if alignment is None:
        return tr("It was not compared with the scene's outlines")
    if alignment["correlation"] < _MATCHES:
        return tr("It did not match the scene's outlines. Does it show this frame?")
    x, y = (f"{value:+.0f}" for value in alignment["shift"])
    if alignment["moved"]:
        return tr("It was shifted by {x}, {y} pixels, and was moved back", x=x, y=y)
    return tr("It lies on the scene's outlines")


def _lies_well(alignment: Mapping[str, Any]) -> bool:
    return not alignment["moved"] and alignment["correlation"] >= _MATCHES


class KeyOperator(ActionOperator):
    """An operator that changes the list."""

    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 - as Blender requires it

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_scene_free(cls)


class ActiveKeyOperator(KeyOperator):
    """An operator on the key picture that is active."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        settings = context.scene.trackshade
        return settings.active_key < len(settings.keys) and is_scene_free(cls)


class TRACKSHADE_OT_key_add(KeyOperator, bpy.types.Operator):
    """Add a key picture of the current frame"""

    bl_idname = "trackshade.key_add"
    bl_label = "Add Key Picture"

    source: bpy.props.EnumProperty(
        name="Picture",
        items=[
            ("file", "Image File", "An image file, such as a painted-over render"),
            ("image", "Blender Image", "An image that is open in Blender, including unsaved painting"),
            ("render", "Render Result", "A copy of the latest render, which has to show this frame"),
        ],
    )
    filepath: bpy.props.StringProperty(name="File", subtype="FILE_PATH", options={"SKIP_SAVE"})
    image: bpy.props.StringProperty(name="Image", description="Name of an image", options={"SKIP_SAVE"})

    def act(self, context: bpy.types.Context) -> None:
        settings, frame = context.scene.trackshade, context.scene.frame_current
        picture = f"{IMAGE}{self.image}" if self.source == "image" else self.filepath
        if self.source == "render":
            picture = f"{IMAGE}{copy_render_result(context.scene, f'Key {frame}').name}"
        key = settings.keys.add()
        key.frame = frame
        key.set_picture(picture)
        settings.active_key = len(settings.keys) - 1


@action("Remove Key Picture", ActiveKeyOperator)
def key_remove(operator: ActiveKeyOperator, context: bpy.types.Context) -> None:
    """Remove this key picture from the list. Its image is kept"""
    settings = context.scene.trackshade
    settings.keys.remove(settings.active_key)
    settings.active_key = max(0, min(settings.active_key, len(settings.keys) - 1))


@action("Reload Key Picture", ActiveKeyOperator)
def key_reload(operator: Any, context: bpy.types.Context) -> set[str] | None:
    """Read the image again from its file, after it was painted in another program"""
    settings = context.scene.trackshade
    key = settings.keys[settings.active_key]
    if key.source == "image" and key.image is not None and key.image.packed_file is None:
        key.image.reload()
    return None


class TRACKSHADE_OT_key_go(ActionOperator, bpy.types.Operator):
    """Go to the frame whose picture would show most of what no key picture shows"""

    bl_idname = "trackshade.key_go"
    bl_label = "Go to Frame"

    frame: bpy.props.IntProperty(name="Frame", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return is_scene_free(cls)

    def act(self, context: bpy.types.Context) -> None:
        context.scene.frame_set(self.frame)


def _on_change(change: Change) -> None:
    if change in (Change.ADVANCED, Change.FINISHED):
        open_painted()


def attach() -> None:
    """Open pictures as soon as their jobs are done."""
    current().listeners.append(_on_change)


def detach() -> None:
    """End that."""
    current().listeners.remove(_on_change)
