# SPDX-License-Identifier: GPL-3.0-or-later
"""Saving a copy of the open file with its placed results. The user's file is never written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from trackshade.core.errors import OutputError

from ..capture.render_guard import without_handlers
from .collection import PLATE_KEY


def save_copy(path: Path, compress: bool = True) -> Path:
    """Save the session as a copy whose image paths are relative to the copy; return the copy's absolute path.

    The session goes on as the file it was, saved or not, with its paths. Blender's main thread waits meanwhile.

    Args:
        path: Where the copy is written.
        compress: Whether it is compressed, which takes several times as long.

    Raises:
        OutputError: The file cannot be written.
    """
    path = Path(path).resolve()
    if bpy.data.filepath and path == Path(bpy.data.filepath).resolve():
        raise OutputError(
            "output-is-scene", f"{path} is the open file itself, and was kept.", "Choose another path for the copy."
        )
    # Written in the same folder and then renamed: relative paths stay right, and no half-written file is seen.
    partial = path.with_name(f".{path.stem}.partial.blend")
    try:
        with _relative_paths(), without_preview(), without_handlers("save_"):
            bpy.ops.wm.save_as_mainfile(
                filepath=str(partial), copy=True, relative_remap=True, check_existing=False, compress=compress
            )
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        # Blender's message names the file again before the reason.
        reason = getattr(error, "strerror", None) or str(error).strip().rsplit(": ", 1)[-1].rstrip(".")
        raise OutputError(
            "output-unwritable",
            f"The scene's copy cannot be written to {path}: {reason}.",
            "Choose a folder that can be written and has space.",
        ) from error
    return path


@contextlib.contextmanager
def without_preview() -> Iterator[None]:
    """Have Blender save files without a preview, for which it would draw the scene once more."""
    preferences = bpy.context.preferences
    before, is_dirty = preferences.filepaths.file_preview_type, preferences.is_dirty
    preferences.filepaths.file_preview_type = "NONE"
    try:
        yield
    finally:
        preferences.filepaths.file_preview_type = before
        preferences.is_dirty = is_dirty  # so that the preferences are not saved for this


@contextlib.contextmanager
def _relative_paths() -> Iterator[None]:
    """Make the paths of results' images and tracks relative to the open file for a while.

    Blender then rebases them to the copy's folder. In a session without a file it makes all paths relative by itself.
    """
    before: list[tuple[Any, str]] = []
    if bpy.data.filepath:
        for holder in _holders():
            if not holder.filepath.startswith("//"):
                with contextlib.suppress(ValueError):  # on another drive: stays absolute
                    relative = bpy.path.relpath(holder.filepath)
                    before.append((holder, holder.filepath))
                    holder.filepath = relative
    try:
        yield
    finally:
        for holder, filepath in before:
            holder.filepath = filepath


def _holders() -> Iterator[Any]:
    """Return what has a file path and belongs to a result."""
    yield from (image for image in bpy.data.images if PLATE_KEY in image)
    for obj in bpy.data.objects:
        if PLATE_KEY in obj:
            yield from (modifier for modifier in obj.modifiers if modifier.type == "MESH_CACHE")
