# SPDX-License-Identifier: GPL-3.0-or-later
"""Key pictures that jobs have written: opened to paint on, and what the latest result says about all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bpy

from ..capture.given_image import IMAGE
from .job import Job
from .session import current

_opened: set[str] = set()  # jobs whose pictures were opened


@dataclass(frozen=True)
class KeyFacts:
    """What the latest result of a scene says about its key pictures.

    Attributes:
        frames: Scene frames.
        unseen: For each, the share of its pixels that no picture shows.
        next_frame: Frame of the further picture that would show most, or None.
        pictures: By scene frame, the record of its picture: "alignment" and others.
    """

    frames: tuple[float, ...]
    unseen: tuple[float, ...]
    next_frame: float | None
    pictures: Mapping[float, Mapping[str, Any]]


def latest_facts(scene: bpy.types.Scene) -> KeyFacts | None:
    """Return what the latest result of a scene in this session says, or None."""
    for job in reversed(current().jobs):
        said = job.result.record.get("propagation") if job.result is not None and job.scene.is_scene(scene) else None
        if not said or "coverage" not in said:
            continue
        coverage = said["coverage"]
        following = coverage["next"]
        return KeyFacts(
            tuple(coverage["frames"]),
            tuple(coverage["unseen"]),
            following[0]["frame"] if following else None,
            {item["frame"]: item for item in said["key_pictures"] if item["source"] != "model"},
        )
    return None


def open_painted() -> None:
    """Open the pictures of finished jobs with the output "key" as images, and list them as key pictures."""
    for job in current().jobs:
        if job.settings.output == "key" and job.result is not None and job.uid not in _opened:
            _opened.add(job.uid)
            scene = job.scene.find()
            if scene is not None:
                _open(job, scene)


def _open(job: Job, scene: bpy.types.Scene) -> None:
    assert job.result is not None
    settings = scene.trackshade
    for entry in job.result.record["keys"]:
        frame = round(entry["frame"])
        image = bpy.data.images.load(str(job.out / entry["picture"]))
        image.name = f"Key {frame}"
        index = next((n for n, key in enumerate(settings.keys) if key.frame == frame), len(settings.keys))
        key = settings.keys[index] if index < len(settings.keys) else settings.keys.add()
        key.frame, key.enabled = frame, True
        key.set_picture(f"{IMAGE}{image.name}")
        settings.active_key = index
        for area in _image_editors():
            area.spaces.active.image = image
    if not bpy.app.background:
        bpy.ops.ed.undo_push(message="Open Key Picture")


def _image_editors() -> list[bpy.types.Area]:
    windows = bpy.context.window_manager.windows
    return [area for window in windows for area in window.screen.areas if area.type == "IMAGE_EDITOR"]
