# SPDX-License-Identifier: GPL-3.0-or-later
"""What placing has put into a scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Placed:
    """What was put into a scene. Names, not references, so that it outlives an undo.

    Attributes:
        folder: of the result; `remove` finds by it what belongs to this.
        scene, collection: names; the collection holds the planes, and the warnings as a custom property. "" where
            there is none.
        planes: names of the plane objects, one for each camera.
        cameras: names of the camera objects.
        frames: first and last scene frame that it shows in.
        color_space: by which the plate's images are read.
        warnings: sentences about what will not look as it was made.
    """

    folder: Path
    scene: str
    collection: str
    planes: tuple[str, ...]
    cameras: tuple[str, ...]
    frames: tuple[int, int]
    color_space: str
    warnings: tuple[str, ...]
