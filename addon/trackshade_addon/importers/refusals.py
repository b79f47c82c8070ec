# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors for files that Blender does not take, from what its readers say about them."""

from __future__ import annotations

import re
from pathlib import Path

import bpy

from trackshade.core.errors import ShotError

# In what Blender's readers say of a file that is whole and written in a way that they do not know.
_UNSUPPORTED = re.compile(
    r"not supported|unsupported|is not available on this addon version|version must be|version mismatch|encrypted"
    r"|HDF5|unable to load the draco|newer than",
    re.IGNORECASE,
)
_MISSING = re.compile(r"Missing resource, '(.*)'|Couldn't find the file '(.*)'")


def refused(file: Path, reason: str) -> ShotError:
    """The error for a file, from the text of the error that its reader raised."""
    said = _said(reason)
    if file.suffix.lower().startswith(".blend"):
        return too_new(file) if "newer" in reason.lower() else damaged(file, said)
    if missing := _MISSING.search(reason):
        return ShotError(
            "missing-file",
            f"{file.name} refers to the file {missing[1] or missing[2]}, which is missing.",
            "Put it where the scene file expects it, beside the scene file as a rule.",
        )
    if _UNSUPPORTED.search(reason):
        return unsupported(file, said)
    return damaged(file, said)


def damaged(file: Path, reason: str) -> ShotError:
    """The error for a file that was cut short or is no file of its type."""
    return ShotError(
        "damaged-file", f"{file.name} is damaged or incomplete: {reason}.", "Save or export the scene again."
    )


def unsupported(
    file: Path, reason: str, fix: str = "Export the scene in another way, or as another type."
) -> ShotError:
    """The error for a file that is whole and in a form that this Blender does not read."""
    return ShotError(
        "unsupported-file",
        f"{file.name} is in a form that Blender {bpy.app.version_string} cannot read: {reason}.",
        fix,
    )


def too_new(file: Path) -> ShotError:
    """The error for a .blend of a newer Blender."""
    return ShotError(
        "file-too-new",
        f"{file.name} was made by a newer version than Blender {bpy.app.version_string} can read in full.",
        "Update Blender, or save the file for this version.",
    )


def _said(reason: str) -> str:
    """The line of an operator's error that says what is wrong, without what surrounds it."""
    lines = [line.strip().removeprefix("Error:").strip() for line in reason.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Location:", "File ", "Traceback", "^", "~"))]
    if not lines:
        return "no reason was given"
    if "Traceback" in reason:  # an importer written in Python has failed: its last line is the exception
        return f"its importer failed ({lines[-1].rstrip('.')})"
    return re.sub(r"^.*Cannot import file '.*': '(.*)'$", r"\1", lines[-1].rstrip("."))
