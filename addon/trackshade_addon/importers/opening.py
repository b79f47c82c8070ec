# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens scene files, with warnings about choices that were made, and notes of what was missing during the import."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import bpy

from trackshade.core.errors import ShotError, UsageError

from ..capture.completeness import Gap, note_gaps
from ..capture.scene_settings import TRACKSHADE_ENGINE
from . import alembic, exchange, fbx, gltf, usd
from .exchange import Imported, damaged_error, import_error, too_new_error

# A .blend, a backup of one (.blend1, .blend2, ...) or what a crash during saving leaves (.blend@).
_BLEND = re.compile(r"\.blend(\d+|@)?", re.IGNORECASE)
_ENGINE = re.compile(r"Engine '([^']*)' not available for scene '([^']*)'")

_log = logging.getLogger(__name__)

_IMPORTERS: dict[str, Callable[[Path, str | None], Imported]] = {
    **dict.fromkeys((".glb", ".gltf"), gltf.import_gltf),
    **dict.fromkeys((".usd", ".usda", ".usdc", ".usdz"), usd.import_usd),
    ".abc": alembic.import_alembic,
    ".fbx": fbx.import_fbx,
    ".obj": exchange.import_obj,
    ".ply": exchange.import_ply,
    ".stl": exchange.import_stl,
}
_WITH_ANIMATIONS = (".glb", ".gltf", ".fbx")


class OpenedScene(NamedTuple):
    """A scene that was opened."""

    scene: bpy.types.Scene  # the scene, which is also that of the window
    warnings: tuple[str, ...] = ()  # sentences about choices that were made for the user


def read_scene(
    path: str | os.PathLike[str],
    *,
    scene: str | None = None,
    trust_scripts: bool = False,
    animation: str | None = None,
    camera: str | None = None,
) -> OpenedScene:
    """Open a scene file, which replaces what is open. Nothing is ever written to the file.

    Args:
        path: .blend (or a backup of one, such as .blend1), .glb, .gltf, .usd, .usda, .usdc, .usdz, .abc, .fbx, .obj,
            .ply or .stl.
        scene: name of the scene; None for the active one.
        trust_scripts: whether a .blend may run its Python scripts and drivers.
        animation: name of the animation (FBX: take) to play; None for the file's first.
        camera: name of the camera that the caller will use; without one, a warning says if the file has several.

    Raises:
        ShotError: the file is missing, unreadable, damaged, too new, unsupported or empty.
        UsageError: the file has no scene or animation of that name.
    """
    file = Path(path).expanduser().absolute()
    _log.info("Opening %s", file)
    suffix = file.suffix.lower()
    is_blend = _BLEND.fullmatch(suffix) is not None
    if not is_blend and suffix not in _IMPORTERS:
        known = ", ".join([".blend", *_IMPORTERS])
        raise ShotError("unknown-type", f"{file.name} is of a type that cannot be opened.", f"Known types: {known}.")
    _check_readable(file)
    if animation is not None and suffix not in _WITH_ANIMATIONS:
        raise UsageError(
            "no-animations",
            f"{file.name} holds no animations to choose from by name.",
            f"Leave out --animation; it is for {', '.join(_WITH_ANIMATIONS)} files.",
        )
    if is_blend:
        gaps = _open_blend(file, trust_scripts)
        chosen = choose_scene(scene)
        note_gaps(chosen, gaps.get(chosen.name, ()))
        return OpenedScene(chosen)
    imported = exchange.import_into_empty(file, lambda: _IMPORTERS[suffix](file, animation))
    chosen = choose_scene(scene)
    images = tuple(bpy.path.extensions_image)
    kinds = ["image" if name.lower().endswith(images) else "reference" for name in imported.missing]
    note_gaps(chosen, [Gap(kind, name) for kind, name in zip(kinds, imported.missing, strict=True)])
    warnings = [*imported.warnings, *(exchange.camera_warning(chosen, file) if camera is None else ())]
    return OpenedScene(chosen, tuple(warnings))


def choose_scene(name: str | None) -> bpy.types.Scene:
    """Show the scene of a name in the window, and return it; None for the window's present one.

    Raises:
        UsageError: there is no scene of that name.
        ShotError: there is no scene at all.
    """
    if name is None:
        scene = bpy.context.scene
        if scene is None:
            raise ShotError("no-scene", f"{bpy.data.filepath} holds no scene.", "Choose another file.")
        return scene
    scene = bpy.data.scenes.get(name)
    if scene is None:
        known = ", ".join(f"'{item.name}'" for item in bpy.data.scenes)
        raise UsageError("unknown-scene", f"The file has no scene '{name}'.", f"It has: {known}.")
    for window in bpy.context.window_manager.windows:
        window.scene = scene
    return scene


def _check_readable(file: Path) -> None:
    try:
        if not file.is_file():
            problem = "is a folder" if file.is_dir() else "does not exist"
            raise ShotError("missing-file", f"The scene file {file} {problem}.", "Check the path.")
        with file.open("rb") as stream:
            empty = not stream.read(1)
    except OSError as error:
        raise ShotError("unreadable-file", f"{file} cannot be read: {error.strerror or error}.") from error
    if empty:
        raise ShotError("damaged-file", f"{file} is empty.", "Save or export the scene again.")


def _open_blend(file: Path, trust_scripts: bool) -> dict[str, list[Gap]]:
    """Open a .blend; return by scene what only Blender's output during the import reports as missing."""
    output: list[str] = []
    try:
        with _captured_output(output):
            result = bpy.ops.wm.open_mainfile(filepath=str(file), load_ui=False, use_scripts=trust_scripts)
    except RuntimeError as error:
        raise import_error(file, str(error)) from error
    if "FINISHED" not in result:
        raise damaged_error(file, "Blender did not open it")
    if bpy.data.version[:2] > bpy.app.version[:2]:  # Blender only warns that it may lose data
        raise too_new_error(file)
    gaps: dict[str, list[Gap]] = {}
    for engine, scene in _ENGINE.findall("".join(output)):
        if engine != TRACKSHADE_ENGINE:
            gaps.setdefault(scene, []).append(Gap("engine", engine))
    return gaps


@contextlib.contextmanager
def _captured_output(output: list[str]) -> Iterator[None]:
    """Append what Blender prints during the block to `output`, and pass it on to standard error afterwards."""
    with tempfile.TemporaryFile() as file:
        streams = (1, 2)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        kept = [os.dup(stream) for stream in streams]
        for stream in streams:
            os.dup2(file.fileno(), stream)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for stream, copy in zip(streams, kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
            file.seek(0)
            text = file.read()
            output.append(text.decode("utf-8", "replace"))
            with contextlib.suppress(OSError):  # nobody reads it any more
                os.write(2, text)
