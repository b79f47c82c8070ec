# SPDX-License-Identifier: GPL-3.0-or-later
"""Every value of the open file, to compare before and after: what an add-on touched and did not put back shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import bpy

# What Blender counts and keeps for itself, and what only a window has.
_OWN = {
    *("rna_type", "id_data", "session_uid", "users", "is_updated", "is_updated_data", "original", "depsgraph", "tag"),
    "storage_type",  # of an attribute: one value for all may be written out when it is read
}
_WINDOWS = {"all_ids", "window_managers", "screens", "workspaces", "brushes", "libraries"}


def whole_file() -> dict[str, Any]:
    """Path -> value of all data-blocks and what they hold, custom properties too."""
    found: dict[str, Any] = {}
    for prop in bpy.data.bl_rna.properties:
        if prop.type == "COLLECTION" and prop.identifier not in _WINDOWS:
            for block in getattr(bpy.data, prop.identifier):
                found.update(_values(block, f"{prop.identifier}[{block.name_full}]", set()))
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Sentences, none where both are alike."""
    gone = [f"{path} is gone" for path in before.keys() - after.keys()]
    new = [f"{path} is new" for path in after.keys() - before.keys()]
    both = [path for path in before if path in after and before[path] != after[path]]
    return sorted([*gone, *new, *(f"{path}: {before[path]} -> {after[path]}" for path in both)])


def _values(item: Any, path: str, above: set[int]) -> Iterator[tuple[str, Any]]:
    if item.as_pointer() in above:
        return
    above = above | {item.as_pointer()}
    for prop in item.bl_rna.properties:
        name = prop.identifier
        if name in _OWN:
            continue
        try:
            value = getattr(item, name)
        except (AttributeError, RuntimeError, ValueError):  # not of an item in this state
            continue
        if prop.type == "COLLECTION":
            yield f"{path}.{name}", len(value)
            for index, each in enumerate(value):
                yield from _value(each, f"{path}.{name}[{index}]", above)
        elif prop.type == "POINTER":
            yield from _value(value, f"{path}.{name}", above)
        else:
            yield f"{path}.{name}", tuple(value) if getattr(prop, "is_array", False) else _plain(value)
    if hasattr(item, "keys") and isinstance(item, bpy.types.ID | bpy.types.Bone | bpy.types.PoseBone):
        for key in list(item.keys()):
            yield f"{path}[{key!r}]", str(item[key])


def _value(value: Any, path: str, above: set[int]) -> Iterator[tuple[str, Any]]:
    if value is None:
        yield path, None
    elif isinstance(value, bpy.types.ID) and not value.is_embedded_data:
        yield path, f"{type(value).__name__} {value.name_full}"
    elif hasattr(value, "bl_rna"):
        yield from _values(value, path, above)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else value
