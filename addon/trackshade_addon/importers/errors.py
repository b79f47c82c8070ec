# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors about scene files that Blender cannot read, made from what its importers report."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import bpy

from trackshade.core.errors import ShotError, UsageError

from ..capture.warnings import list_names

MAX_NAMES = 20  # animations that a sentence lists
# Phrases of Blender's importers about files that are intact but written in a way that they do not support.
_UNSUPPORTED = re.compile(
    r"not supported|unsupported|is not available on this addon version|version must be|version mismatch|encrypted"
    r"|HDF5|unable to load the draco|newer than",
    re.IGNORECASE,
)
_MISSING = re.compile(r"Missing resource, '(.*)'|Couldn't find the file '(.*)'")

_log = logging.getLogger(__name__)


def import_error(file: Path, report: str) -> ShotError:
    """Make the error for a file from the text of the error that its importer raised."""
    _log.warning("%s cannot be imported: %s", file, report)
    reason = _reason(report)
    if file.suffix.lower().startswith(".blend"):
        return too_new_error(file) if "newer" in report.lower() else damaged_error(file, reason)
    if missing := _MISSING.search(report):
        return ShotError(
            "missing-file",
            f"{file.name} refers to the file {missing[1] or missing[2]}, which is missing.",
            "Put it where the scene file expects it, beside the scene file as a rule.",
        )
    if _UNSUPPORTED.search(report):
        return unsupported_error(file, reason)
    return damaged_error(file, reason)


def damaged_error(file: Path, reason: str) -> ShotError:
    """Return the error for a file that is incomplete or not of its type."""
    return ShotError(
        "damaged-file", f"{file.name} is damaged or incomplete: {reason}.", "Save or export the scene again."
    )


def unsupported_error(
    file: Path, reason: str, fix: str = "Export the scene in another way, or as another type."
) -> ShotError:
    """Return the error for an intact file in a form that this Blender cannot read."""
    return ShotError(
        "unsupported-file",
        f"{file.name} is in a form that Blender {bpy.app.version_string} cannot read: {reason}.",
        fix,
    )


def too_new_error(file: Path) -> ShotError:
    """Return the error for a .blend of a newer Blender."""
    return ShotError(
        "file-too-new",
        f"{file.name} was made by a newer version than Blender {bpy.app.version_string} can read in full.",
        "Update Blender, or save the file for this version.",
    )


def check_animation(file: Path, name: str, names: Sequence[str]) -> None:
    """Check that a file has an animation of a name.

    Raises:
        UsageError: it has not; the error lists the animations.
    """
    if name not in names:
        known = f"It has: {list_animations(names)}." if names else "It has none."
        raise UsageError("unknown-animation", f"{file.name} has no animation '{name}'.", known)


def list_animations(names: Sequence[str]) -> str:
    """List the names of animations for a sentence."""
    return list_names([f"'{name}'" for name in names], MAX_NAMES)


def _reason(report: str) -> str:
    """Return the line of an operator's error that says what is wrong, without what surrounds it."""
    lines = [line.strip().removeprefix("Error:").strip() for line in report.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("Location:", "File ", "Traceback", "^", "~"))]
    if not lines:
        return "no reason was given"
    if "Traceback" in report:  # an importer written in Python failed: its last line is the exception
        return f"its importer failed ({lines[-1].rstrip('.')})"
    return re.sub(r"^.*Cannot import file '.*': '(.*)'$", r"\1", lines[-1].rstrip("."))
