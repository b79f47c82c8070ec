# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps Trackshade's internal renders, such as that of a first frame, from touching what is the user's.

An internal render writes no file but its picture, runs no scripts, shows nothing in viewers, and goes to a spare render
slot. The render-layer hook ignores it.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from .restore import Changes

_SINKS = {"OUTPUT_FILE", "VIEWER", "SPLITVIEWER"}
_FORMAT = (
    "media_type",
    "file_format",
    "color_mode",
    "color_depth",
    "exr_codec",
    "use_exr_interleave",
    "color_management",
)
_CACHES = (
    "use_render_cache",  # writes every result to disk, over that of the user's own latest render
    "use_auto_generate_texture_cache",  # from Blender 5.2 on: writes .tx files
)
_left: tuple[int, int, bytes | None] | None = None  # of the latest internal render: image, slot, digest of the picture
_internal_renders = 0


@contextlib.contextmanager
def internal_render() -> Iterator[None]:
    """Mark the renders of the block as internal, and disable the user's handlers on renders: they may write files."""
    global _internal_renders
    _internal_renders += 1
    try:
        with without_handlers("render_", "composite_"):
            yield
    finally:
        _internal_renders -= 1


def is_internal_render() -> bool:
    """Return whether Trackshade itself asked for the render that is going on."""
    return _internal_renders > 0


@contextlib.contextmanager
def without_handlers(*prefixes: str) -> Iterator[None]:
    """Disable all handlers in the lists of `bpy.app.handlers` whose names begin with one of the prefixes."""
    names = [name for name in dir(bpy.app.handlers) if name.startswith(prefixes)]
    lists = [found for name in names if isinstance(found := getattr(bpy.app.handlers, name), list)]
    saved = [list(handlers) for handlers in lists]
    try:
        for handlers in lists:
            handlers.clear()
        yield
    finally:
        for handlers, before in zip(lists, saved, strict=True):
            handlers[:] = before


def write_nothing(changes: Changes) -> None:
    """Have Blender render without writing any file but the picture itself, and without showing anything in viewers.

    Compositing stays on: only the nodes that write or show are muted, in all compositor trees, because a tree may be
    reached through nested groups, libraries and other scenes. Blender lets scripts mute nodes of a linked tree for the
    session.
    """
    for tree in _compositor_trees():
        for node in tree.nodes:
            if node.type in _SINKS:
                changes.set(node, "mute", True)
    for scene in bpy.data.scenes:  # the compositor may have others rendered
        for name in _CACHES:
            if hasattr(scene.render, name):
                changes.set(scene.render, name, False)
        strokes = getattr(scene, "svg_export", None)  # of the add-on that writes Freestyle's strokes as SVG files
        if strokes is not None:
            changes.set(strokes, "use_svg_export", False)


def _compositor_trees() -> Iterator[Any]:
    """Iterate over all compositor trees of the session, nested and linked ones included."""
    for group in bpy.data.node_groups:
        if group.bl_idname == "CompositorNodeTree":
            yield group
    if bpy.app.version < (5, 0):  # which have trees of their own
        for scene in bpy.data.scenes:
            if scene.node_tree is not None:
                yield scene.node_tree


@contextlib.contextmanager
def kept_frames(scene: bpy.types.Scene) -> Iterator[None]:
    """Restore the frames of the other scenes, which Blender changes if the compositor renders them too."""
    frames = [(other, other.frame_current, other.frame_subframe) for other in bpy.data.scenes if other != scene]
    try:
        yield
    finally:
        for other, frame, subframe in frames:
            if (other.frame_current, other.frame_subframe) != (frame, subframe):
                other.frame_current, other.frame_subframe = frame, subframe


@contextlib.contextmanager
def spare_slot(scene: bpy.types.Scene) -> Iterator[None]:
    """Render to a slot that is empty, or that holds only the picture of the latest internal render.

    If nothing was rendered yet, Blender creates the image of render results; the caller removes it again.
    """
    global _left
    image = render_result()
    if image is None:
        yield
        return
    slots: Any = image.render_slots
    active = slots.active_index
    spare = _find_spare(image, scene, active)
    slots.active_index = spare
    try:
        yield
    finally:
        _left = image.session_uid, spare, _digest(image, scene)
        slots.active_index = active


def render_result() -> bpy.types.Image | None:
    """Return the image that stands for render results, or None."""
    return next((image for image in bpy.data.images if image.type == "RENDER_RESULT"), None)


def _find_spare(image: bpy.types.Image, scene: bpy.types.Scene, active: int) -> int:
    """Return the last slot without a picture of the user's, or a new one."""
    slots: Any = image.render_slots
    for index in reversed(range(len(slots))):
        if index != active:
            slots.active_index = index
            digest = _digest(image, scene)
            if digest is None or _left == (image.session_uid, index, digest):
                return index
    slots.new()
    return len(slots) - 1


def _digest(image: bpy.types.Image, scene: bpy.types.Scene) -> bytes | None:
    """Return a digest of the picture in the active slot, or None. Slots can only be read by saving them."""
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder, image_format(scene, "IMAGE", "OPEN_EXR"):
        path = Path(folder) / "slot.exr"
        with contextlib.suppress(RuntimeError):  # it has no picture
            image.save_render(str(path), scene=scene)
        return hashlib.blake2b(path.read_bytes()).digest() if path.is_file() else None


@contextlib.contextmanager
def image_format(scene: bpy.types.Scene, media: str, kind: str) -> Iterator[bpy.types.ImageFormatSettings]:
    """Let the scene save pictures in another format within the block."""
    output = scene.render.image_settings
    changes = Changes()
    changes.keep(output, *(name for name in _FORMAT if hasattr(output, name)))
    try:
        if hasattr(output, "media_type"):  # Blender 5.0 and newer
            output.media_type = media  # type: ignore[assignment]
        output.file_format = kind  # type: ignore[assignment]
        yield output
    finally:
        changes.undo()
