# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports glTF with one of its animations."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any, BinaryIO

import bpy

from .exchange import Imported, animations_warning, check_animation, damaged_error, enable, run, unsupported_error

_MAGIC, _JSON = b"glTF", 0x4E4F534A


def import_gltf(file: Path, animation: str | None) -> Imported:
    """Import a .glb or .gltf file, and play the animation of a name; None for the first.

    Blender's importer plays the first animation. To play another one, it is given a copy of the file without the
    others, so that what the animation does not move stays as the file has it.

    Raises:
        ShotError: the file cannot be read.
        UsageError: it has no animation of that name.
    """
    enable("io_scene_gltf2")
    content = _content(file)
    animations: list[dict[str, Any]] = content.get("animations") or []
    names = [str(item.get("name") or f"Anim_{index}") for index, item in enumerate(animations)]  # as Blender calls them
    if animation is not None:
        check_animation(file, animation, names)
    if animation is None or len(names) < 2:
        run(file, bpy.ops.import_scene, "gltf")
    else:
        content["animations"] = [animations[names.index(animation)]]
        with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
            copy = Path(folder) / file.name
            _write(copy, content, file)
            run(copy, bpy.ops.import_scene, "gltf")
    return Imported(warnings=animations_warning(file, names, names[0]) if animation is None and names else ())


def _content(file: Path) -> dict[str, Any]:
    """Read the JSON part of a file. Raises ShotError if it has none."""
    try:
        with file.open("rb") as stream:
            text = _read_chunk(file, stream) if file.suffix.lower() == ".glb" else stream.read()
        content = json.loads(text.decode("utf-8-sig"))
        if not isinstance(content, dict) or not isinstance(content.get("asset"), dict):
            raise ValueError("it is not a glTF file")
        if not all(isinstance(item, dict) for item in content.get("animations") or ()):
            raise ValueError("its list of animations is invalid")
    except (ValueError, struct.error, RecursionError) as error:
        raise damaged_error(file, str(error).rstrip(".")) from error
    return content


def _read_chunk(file: Path, stream: BinaryIO) -> bytes:
    magic, version, length = struct.unpack("<4sII", stream.read(12))
    if magic != _MAGIC:
        raise ValueError("it is not a glTF file")
    if version != 2:
        raise unsupported_error(file, f"it is of glTF's version {version}")
    if length > file.stat().st_size:
        raise ValueError("it is cut short")
    size, kind = struct.unpack("<II", stream.read(8))
    if kind != _JSON:
        raise ValueError("it does not begin with its description")
    return stream.read(size)


def _write(copy: Path, content: dict[str, Any], file: Path) -> None:
    """Write a copy of `file` with other JSON, in which files beside the original are named by absolute paths."""
    for item in (*(content.get("buffers") or ()), *(content.get("images") or ())):
        uri = item.get("uri")
        if isinstance(uri, str) and not uri.startswith("data:"):
            item["uri"] = urllib.parse.quote(str(file.parent / urllib.parse.unquote(uri)))
    text = json.dumps(content).encode()
    if copy.suffix.lower() != ".glb":
        copy.write_bytes(text)
        return
    text += b" " * (-len(text) % 4)
    with file.open("rb") as source, copy.open("wb") as target:
        source.seek(12)
        size = struct.unpack("<II", source.read(8))[0]
        source.seek(size, 1)
        rest = file.stat().st_size - 20 - size
        target.write(_MAGIC + struct.pack("<III", 2, 20 + len(text) + rest, len(text)) + b"JSON" + text)
        shutil.copyfileobj(source, target)
