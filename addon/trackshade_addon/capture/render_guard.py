# SPDX-License-Identifier: GPL-3.0-or-later
"""Render guard: renders that Trackshade starts itself leave the user's files, images and handlers alone.

Such a render writes no file but its own image, runs no handler of other scripts, and goes to a spare render slot.
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

OVERLAY_KEY = "trackshade_over"  # custom property of the compositor node that lays a placed result over the image
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
    "use_render_cache",  # writes every result to disk, over that of the user's latest render
    "use_auto_generate_texture_cache",  # from Blender 5.2 on: writes .tx files
)
_POLL = 0.2  # seconds between two checks whether a render has ended
_latest: tuple[int, int, bytes | None] | None = None  # image, slot and digest of our latest render
_own_renders = 0
_discarded: list[tuple[str, int]] = []  # (collection of bpy.data, session uid) to remove after the render
_rendering = False


@contextlib.contextmanager
def own_render() -> Iterator[None]:
    """Marks the block as a render of Trackshade. Render handlers do not run in it, since they may write files."""
    global _own_renders
    _own_renders += 1
    try:
        with without_handlers("render_", "composite_"):
            yield
    finally:
        _own_renders -= 1


def is_own_render() -> bool:
    """Whether a render of Trackshade is running."""
    return _own_renders > 0


@contextlib.contextmanager
def without_handlers(*prefixes: str) -> Iterator[None]:
    """Disables all handlers in lists of `bpy.app.handlers` whose names begin with one of the prefixes."""
    names = [name for name in dir(bpy.app.handlers) if name.startswith(prefixes)]
    lists = [found for name in names if isinstance(found := getattr(bpy.app.handlers, name), list)]
    handlers = [list(found) for found in lists]
    try:
        for found in lists:
            found.clear()
        yield
    finally:
        for found, before in zip(lists, handlers, strict=True):
            found[:] = before


def disable_outputs(changes: Changes) -> None:
    """Changes settings so that a render writes no file but its image, and shows nothing in viewers.

    The compositor still makes the image: only its output and viewer nodes are muted. Those of all trees are, as a tree
    may be used through nested groups, libraries and other scenes. Blender lets scripts mute nodes of linked trees.
    """
    trees = [group for group in bpy.data.node_groups if group.bl_idname == "CompositorNodeTree"]
    if bpy.app.version < (5, 0):  # scenes have trees of their own
        trees += [scene.node_tree for scene in bpy.data.scenes if scene.node_tree is not None]
    for tree in trees:
        for node in tree.nodes:
            if node.type in _SINKS:
                changes.set(node, "mute", True)
    for scene in bpy.data.scenes:  # the compositor may render others
        for name in _CACHES:
            if hasattr(scene.render, name):
                changes.set(scene.render, name, False)
        strokes = getattr(scene, "svg_export", None)  # of the add-on that writes Freestyle's strokes as SVG files
        if strokes is not None:
            changes.set(strokes, "use_svg_export", False)


def compositor_trees(scene: bpy.types.Scene) -> list[Any]:
    """The node trees that a scene is composited by, in order, whether enabled or not."""
    if hasattr(scene, "compositor_effects"):  # Blender 5.3 and newer
        trees = [effect.node_group for effect in scene.compositor_effects]
    else:
        trees = [scene.compositing_node_group if bpy.app.version >= (5, 0) else scene.node_tree]
    return list(dict.fromkeys(tree for tree in trees if tree is not None))


def placed_nodes(scene: bpy.types.Scene) -> list[bpy.types.Node]:
    """The nodes that lay placed results over the image; when muted, the image passes unchanged."""
    return [node for tree in compositor_trees(scene) for node in tree.nodes if OVERLAY_KEY in node]


@contextlib.contextmanager
def keep_frames(scene: bpy.types.Scene) -> Iterator[None]:
    """Restores the current frames of the other scenes, which Blender changes if the compositor renders them too."""
    frames = [(other, other.frame_current, other.frame_subframe) for other in bpy.data.scenes if other != scene]
    try:
        yield
    finally:
        for other, frame, subframe in frames:
            if (other.frame_current, other.frame_subframe) != (frame, subframe):
                other.frame_current, other.frame_subframe = frame, subframe


@contextlib.contextmanager
def spare_slot(scene: bpy.types.Scene) -> Iterator[None]:
    """Makes renders go to a render slot that is empty or holds only our latest render.

    If nothing was rendered yet, Blender creates the image of render results; the caller removes it again.
    """
    global _latest
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
        _latest = image.session_uid, spare, _digest(image, scene)
        slots.active_index = active


def render_result() -> bpy.types.Image | None:
    """The image of render results, or None."""
    return next((image for image in bpy.data.images if image.type == "RENDER_RESULT"), None)


def _find_spare(image: bpy.types.Image, scene: bpy.types.Scene, active: int) -> int:
    """The last slot without a render of the user; a new one if there is none."""
    slots: Any = image.render_slots
    for index in reversed(range(len(slots))):
        if index != active:
            slots.active_index = index
            digest = _digest(image, scene)
            if digest is None or _latest == (image.session_uid, index, digest):
                return index
    slots.new()
    return len(slots) - 1


def _digest(image: bpy.types.Image, scene: bpy.types.Scene) -> bytes | None:
    """Digest of the image in the active slot, None if it is empty. Blender exposes no more of a slot than it saves."""
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder, image_format(scene, "IMAGE", "OPEN_EXR"):
        path = Path(folder) / "slot.exr"
        with contextlib.suppress(RuntimeError):  # the slot is empty
            image.save_render(str(path), scene=scene)
        return hashlib.blake2b(path.read_bytes()).digest() if path.is_file() else None


@contextlib.contextmanager
def image_format(scene: bpy.types.Scene, media: str, file_format: str) -> Iterator[bpy.types.ImageFormatSettings]:
    """Changes the media type (in Blender 5.0 and newer) and the file format in which the scene saves images."""
    output = scene.render.image_settings
    changes = Changes()
    changes.keep(output, *(name for name in _FORMAT if hasattr(output, name)))
    try:
        if hasattr(output, "media_type"):  # Blender 5.0 and newer
            output.media_type = media  # type: ignore[assignment]
        output.file_format = file_format  # type: ignore[assignment]
        yield output
    finally:
        changes.undo()


def discard(block: bpy.types.Image | bpy.types.Scene) -> None:
    """Removes a data-block of our own, now or at the end of a render.

    During a render, removing one makes Blender 5.2 crash at the next frame. An image's pixels are freed at once.
    """
    if isinstance(block, bpy.types.Image):
        block.buffers_free()
    _discarded.append(("images" if isinstance(block, bpy.types.Image) else "scenes", block.session_uid))
    if not _rendering and not bpy.app.is_job_running("RENDER"):
        _remove_discarded()


def on_render_init(*_: object) -> None:
    """Handler of render_init."""
    global _rendering
    _rendering = True


def on_render_end(*_: object) -> None:
    """Handler of render_complete and render_cancel, which run in the thread of the render if there is a window."""
    global _rendering
    _rendering = False
    if not _discarded:
        return
    if bpy.app.background:
        _remove_discarded()
    else:
        bpy.app.timers.register(_remove_later, first_interval=_POLL)


def _remove_later() -> float | None:
    if _rendering or bpy.app.is_job_running("RENDER"):
        return _POLL
    _remove_discarded()
    return None


def _remove_discarded() -> None:
    wanted = set(_discarded)
    _discarded.clear()
    found = [
        block
        for name in ("images", "scenes")
        for block in getattr(bpy.data, name)
        if (name, block.session_uid) in wanted
    ]
    bpy.data.batch_remove(found)  # scenes.remove() needs a window, and Blender 4.3 crashes without one
