# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot out of a render that goes on: the render's own evaluation is stepped through the shot's frames."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future

import bpy

from trackshade.client import Client
from trackshade.fit import FrameMap, SizeFit
from trackshade.shot import Shot

from ..capture.gathering import Gathering, seen_or_raise
from ..capture.restore import split_frame
from ..job import Feed, Progress


def gathered(
    frame_set: Callable[[int, float], None],
    depsgraph: bpy.types.Depsgraph,
    frames: FrameMap,
    fit: SizeFit,
    camera: bpy.types.Object | None,
    client: Future[Client],
    glass: str = "opaque",
    hair: str = "none",
) -> Generator[Progress, None, Shot]:
    """The shot of the view layer that is rendered. The render is at its frame again after the last step, an error, or
    `close()` of the generator.

    Args:
        frame_set: the engine's, which steps `depsgraph`.
        camera: seen through in every frame; None for the scene's own, as its markers switch it.
        client: rows go to it as they are gathered.
        glass, hair: as `Gathering` has them.

    Raises:
        ShotError: what the scene shows cannot be part of a shot.
    """
    scene = depsgraph.scene
    before = scene.frame_current, scene.frame_subframe
    gathering = Gathering(depsgraph.view_layer, frames, fit, Feed(client).rows, glass=glass, hair=hair)
    yield Progress("capturing", step=0, steps=gathering.total)
    try:
        for frame in frames.frames:
            if client.done():
                client.result()  # no use in going on without a backend
            frame_set(*split_frame(frame))
            gathering.put(depsgraph, camera or scene.camera)
            yield Progress("capturing", step=gathering.done, steps=gathering.total)
    finally:
        frame_set(*before)
    return seen_or_raise(gathering.shot(scene))
