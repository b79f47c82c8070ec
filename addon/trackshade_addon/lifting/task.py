# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the backend tasks that lift photos and track videos, and hands what they make to Blender's main thread."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TypeVar

from trackshade.client import later
from trackshade.client.progress import Progress
from trackshade.core.errors import ShotError, UsageError
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedScene
from trackshade.shot.track_request import TrackRequest

from ..backend.tasks import CancellableTask, run_backend_task

T = TypeVar("T")


def lift(
    source: Path, request: LiftRequest | TrackRequest, python: str | None, build: Callable[[LiftedScene], T]
) -> Generator[Progress, None, T]:
    """Lift a photo, or track a video, in the backend's environment. Closing the generator cancels the task.

    Args:
        source: the photo or the video.
        request: how it is lifted, or tracked.
        python: interpreter of the backend's environment; None if there is none.
        build: called with the lifted scene, whose arrays are gone afterwards; what it returns is returned.

    Raises:
        UsageError: there is no environment.
        ShotError: the file is missing.
        TrackshadeError: as raised by the task and by `build`.
    """
    if python is None:
        raise UsageError("no-environment", "The backend's environment is not set up.", "Set it up in the preferences.")
    if not source.is_file():
        raise ShotError("missing-file", f"The file {source} does not exist.", "Check the path.")
    name, state = ("track", "tracking") if isinstance(request, TrackRequest) else ("lift", "lifting")
    task, done = CancellableTask(), [0, 1]
    words = [source.name]

    def note(step: int, steps: int, message: str) -> None:
        done[:] = step, steps
        words[0] = message or source.name

    with tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "scene.lifted"
        arguments = name, str(source), json.dumps(request.to_dict()), str(path)
        ended = later(partial(run_backend_task, task, python, *arguments, progress=note))
        try:
            while not ended.done():
                percent = round(100 * done[0] / done[1])
                yield Progress(state, words[0], percent, 100, waits=True)
        finally:
            if not ended.done():
                task.cancel()
                while not ended.done():
                    time.sleep(0.02)
        ended.result()
        yield Progress("building", source.name)
        return build(LiftedScene.load(path))
