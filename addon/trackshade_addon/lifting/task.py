# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the backend tasks that lift photos and track videos, and hands what they make to Blender's main thread."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trackshade.client import later
from trackshade.client.progress import Progress
from trackshade.core.errors import ShotError, UsageError
from trackshade.core.images import write_png
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedScene
from trackshade.shot.track_request import TrackRequest

from ..backend.tasks import CancellableTask, run_backend_task

T = TypeVar("T")
_Request = LiftRequest | TrackRequest


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Images that are stored in the open file, for a task that reads files.

    Attributes:
        photo: contents of the photo's file, which are used if the file is gone; None without.
        masks: masks of objects, [H, W, 3] uint8, by the names of the objects.
    """

    photo: bytes | None = None
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)

    def write(self, folder: Path, source: Path, request: _Request) -> tuple[Path, _Request]:
        """Write what a task needs into a folder; return the source and the request to use."""
        if self.photo is not None and not source.is_file():
            source = folder / source.name
            source.write_bytes(self.photo)
        paths = []
        for number, (name, pixels) in enumerate(self.masks.items()):
            (folder / str(number)).mkdir()
            stem = re.sub(r"[^\w .-]", "_", name) or "Object"
            path = folder / str(number) / f"{stem}.png"
            write_png(path, pixels)
            paths.append(str(path))
        return source, replace(request, masks=(*request.masks, *paths))


def lift(
    source: Path,
    request: LiftRequest | TrackRequest,
    python: str | None,
    build: Callable[[LiftedScene], T],
    stored: StoredImages | None = None,
) -> Generator[Progress, None, T]:
    """Lift a photo, or track a video, in the backend's environment. Closing the generator cancels the task.

    Args:
        source: the photo or the video.
        request: how it is lifted, or tracked.
        stored: images of the open file that are used besides.
        python: interpreter of the backend's environment; None if there is none.
        build: called with the lifted scene, whose arrays are gone afterwards; what it returns is returned.

    Raises:
        UsageError: there is no environment.
        ShotError: the file is missing.
        TrackshadeError: as raised by the task and by `build`.
    """
    if python is None:
        raise UsageError("no-environment", "The backend's environment is not set up.", "Set it up in the preferences.")
    if not source.is_file() and (stored is None or stored.photo is None):
        if source.is_dir():
            raise ShotError("missing-file", f"{source} is a folder.", "Name a file in it.")
        raise ShotError("missing-file", f"The file {source} does not exist.", "Check the path.")
    name, state = ("track", "tracking") if isinstance(request, TrackRequest) else ("lift", "lifting")
    with tempfile.TemporaryDirectory(prefix="trackshade-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "scene.lifted"
        if stored is not None:
            source, request = stored.write(Path(folder), source, request)
        arguments = name, str(source), json.dumps(request.to_dict()), str(path)
        yield from follow_task(python, state, source.name, *arguments)
        yield Progress("building", source.name)
        return build(LiftedScene.load(path))


def follow_task(python: str, state: str, message: str, *arguments: str) -> Generator[Progress, None, dict[str, Any]]:
    """Run a task of the backend's environment in a thread, and yield its progress. Closing the generator cancels it.

    Args:
        python: interpreter of the environment.
        state: state of the progress.
        message: what is shown until the task says what it does.
        arguments: name and arguments of the task.

    Returns:
        The task's result.

    Raises:
        TrackshadeError: as raised by the task.
    """
    task, done = CancellableTask(), [0, 1]
    words = [message]

    def note(step: int, steps: int, text: str) -> None:
        done[:] = step, steps
        words[0] = text or message

    ended = later(partial(run_backend_task, task, python, *arguments, progress=note))
    try:
        while not ended.done():
            yield Progress(state, words[0], round(100 * done[0] / done[1]), 100, waits=True)
    finally:
        if not ended.done():
            task.cancel()
            while not ended.done():
                time.sleep(0.02)
    return ended.result()
