# SPDX-License-Identifier: GPL-3.0-or-later
"""The clay renders of a shot: whether it needs them, the process that makes them, and the folder that keeps them.

Kept ones are found by a digest of the shot, of what lights it (`capture.lights`), and of how they are rendered. A new
picture, prompt or model on the same scene therefore costs no clay renders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import later
from trackshade.client.progress import Progress, wait_for
from trackshade.core import folders
from trackshade.core.errors import OutputError, ShotError
from trackshade.shot import Shot
from trackshade.shot.encoding import encode_shot

from ..capture.clay import IMAGES, NOTES, VERSION, clay_size, render_clay
from ..capture.request import ShotRequest
from ..capture.scene_settings import WORKBENCH, first_frame_engine
from .blender_process import BlenderProcess, SceneCopy, answer

DONE = "done"  # file that says that all images are there
_NEW, _LONGEST = "new-", 2 * 86400.0  # begins names of renders that are not complete; seconds that they may take
LIMIT = 4 << 30  # bytes of kept clay renders


@dataclass(frozen=True, eq=False)
class Clay:
    """Clay renders of a shot.

    Attributes:
        images: [T, h, w, 3] float16, scene-linear; None if the shot needs none.
        statement: A sentence that says what was rendered, or why nothing was.
        warnings: Sentences about what they show otherwise than as gray surfaces.
    """

    images: np.ndarray | None
    statement: str
    warnings: tuple[str, ...] = ()


def reason_against(shot: Shot, request: ShotRequest, engine: str) -> str | None:
    """Return why a shot needs no clay renders, in a sentence; None if it does.

    Light on a surface point changes only if something moves in the light or the light itself changes: a moving camera
    changes nothing of it.

    Args:
        shot: The shot.
        request: What was captured.
        engine: The engine that renders first frames.
    """
    light = shot.source.get("light") or {"varies": True, "lit": True}
    is_part = request.whole_first_frame is not None
    if len(shot.frame_numbers) < 2 and not (is_part or request.has_layout):
        return "The shot is a single frame, so its light does not change."
    is_given = request.given_picture is not None if not is_part else request.whole_first_frame not in ("render", "none")
    if engine == WORKBENCH and not is_given:
        return "Workbench renders no light, so there is none to follow."
    if not light["lit"]:
        return "The scene has no lights."
    if is_part:
        return None  # it may change in other parts, and each needs the renders of its frames then
    if not (light["varies"] or _moves(shot) or request.has_layout):
        return "Nothing but the camera moves, so the light does not change."
    return None


def follow_light(
    shot: Shot,
    request: ShotRequest,
    on_main: Callable[[Callable[[], Any]], Any],
    on_saved: Callable[[], None],
    copy: SceneCopy | None = None,
) -> Generator[Progress, None, Clay]:
    """Render a shot in clay in a separate Blender process, or find the renders that were kept.

    Args:
        shot: The shot, of a scene of the open file.
        request: What was captured.
        on_main: Runs a call on Blender's main thread.
        on_saved: Called when the scene is not needed any more.
        copy: A copy of the file that may be saved already; None to save one.

    Raises:
        ShotError: They could not be rendered.
    """
    if copy is not None and copy.is_saved:
        reason = reason_against(shot, request, copy.engine)
    else:
        reason = on_main(
            lambda: reason_against(shot, request, first_frame_engine(bpy.data.scenes[shot.source["scene"]]))
        )
    if reason is not None:
        on_saved()
        return Clay(None, reason)
    count, (width, height) = len(shot.frame_numbers), clay_size(shot.size)
    text = f"{count} clay renders of {width}×{height}, by Cycles."
    key = yield from wait_for(later(_digest, shot, request.glass), "planning", "clay renders")
    kept = _load(cache_folder() / key)
    if kept is not None:
        on_saved()
        return Clay(kept[0], text, kept[1])
    is_complete = (shot.source.get("light") or {}).get("complete", False)
    target = cache_folder() / (key if is_complete else f"{key}-{secrets.token_hex(4)}")  # found again, or not
    new = target.with_name(f"{_NEW}{secrets.token_hex(8)}")
    try:
        new.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True) as name:
            process = BlenderProcess(Path(name), shot, copy)
            on_main(process.save)
            on_saved()
            told = Progress("rendering", "the light, in a separate Blender process", steps=count)
            arguments = str(new), request.glass
            reason = yield from process.run(
                render_in_folder, *arguments, describe=lambda done: replace(told, step=done)
            )
        if not (new / DONE).is_file():
            raise ShotError(
                "light-failed",
                f"The light could not be rendered in a separate Blender process: {reason or 'it printed nothing'}.",
                "Set Light to None, or use --light none.",
            )
        shutil.rmtree(target, ignore_errors=True)
        os.replace(new, target)
        yield from wait_for(later(_remove_old, target), "planning", "clay renders")
        kept = _load(target)
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"Clay renders cannot be written to {new.parent}: {error.strerror or error}.",
            "Free space there, or leave out the clay renders.",
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    assert kept is not None
    return Clay(kept[0], text, kept[1])


def render_in_folder(folder: str, path: str, glass: str) -> None:
    """Render clay in the other process, which has the copy of the file open, to the folder `path`."""

    def render(shot: Shot, scene: bpy.types.Scene) -> Iterator[int]:
        yield from render_clay(shot, scene, glass, Path(path))
        (Path(path) / DONE).touch()

    answer(folder, render)


def cache_folder() -> Path:
    """Return the folder of kept clay renders."""
    return folders.cache() / "clay"


def _moves(shot: Shot) -> bool:
    """Return whether a surface moves, changes its shape, or appears or disappears."""
    return any(geometry.deforms for geometry in shot.geometries) or any(
        mesh.changes or (mesh.matrix_world != mesh.matrix_world[:1]).any() or (mesh.visible != mesh.visible[0]).any()
        for mesh in shot.meshes
    )


def _digest(shot: Shot, glass: str) -> str:
    """Return the name under which clay renders of a shot are kept."""
    header, arrays = encode_shot(replace(shot, source={"light": shot.source.get("light")}))
    parts = json.dumps([header, glass, VERSION, bpy.app.version_string], sort_keys=True)
    digest = hashlib.blake2b(parts.encode(), digest_size=20)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def _load(folder: Path) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Return the images of a folder, mapped from the file, and the sentences about them; None if there are none."""
    try:
        images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
        os.utime(folder)  # used again
    except (OSError, ValueError):
        return None
    return images, tuple(notes)


def _remove_old(newest: Path) -> None:
    """Remove the kept renders that were not used for longest, down to `LIMIT` bytes."""
    entries = []
    for entry in cache_folder().iterdir():
        with contextlib.suppress(OSError):
            entries.append((entry.stat().st_mtime, entry, sum(file.stat().st_size for file in entry.iterdir())))
    total = sum(size for _, _, size in entries)
    for used, entry, size in sorted(entries):
        is_unfinished = entry.name.startswith(_NEW) and time.time() - used < _LONGEST
        if total > LIMIT and entry != newest and not is_unfinished:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size
