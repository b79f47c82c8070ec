# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's jobs: the whole shot as one when an animation begins, and a control frame where there is no result."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy

from trackshade.client import Client
from trackshade.client.job_result import check_output
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import OutputError, TrackshadeError
from trackshade.shot import Shot

from ..capture import fit_scene
from ..capture.given_image import check_given_image
from ..jobs import composer, session
from ..jobs.composer import CapturedShot, Progress, ShotRequest
from ..properties.chosen import results_folder
from .capture import gathered
from .look import first_frame
from .sequence import RenderedSequence

OnMain = Callable[[Callable[[], Any]], Any]


@dataclass(frozen=True)
class Rendered:
    """What of a render becomes a job.

    Attributes:
        frame_set: the engine's.
        depsgraph: the render's evaluation of one view layer.
        on_main: runs what only Blender's main thread may do.
        cancelled: whether the render was cancelled.
    """

    frame_set: Callable[[int, float], None]
    depsgraph: bpy.types.Depsgraph
    on_main: OnMain
    cancelled: Callable[[], bool]

    @property
    def scene(self) -> bpy.types.Scene:
        return self.depsgraph.scene

    @property
    def what(self) -> ShotRequest:
        layer = self.depsgraph.view_layer.name
        return replace(self.scene.trackshade.what(layer), view_layer=layer)

    @property
    def settings(self) -> ShadeSettings:
        return self.scene.trackshade.settings()


def shade(
    rendered: Rendered, control: bool
) -> Generator[Progress, None, tuple[RenderedSequence, RenderedSequence | None]]:
    """The whole shot, shaded, and where `control` its tracking video with depths and indices.

    Raises: as `job.record` and `job.shade`.
    """
    what, settings = rendered.what, rendered.settings
    client = rendered.on_main(lambda: session._connect(settings.needs))
    given = None if what.first_frame in ("render", "none") else what.first_frame
    if given is not None:
        rendered.on_main(lambda: check_given_image(what.first_frame))  # a damaged one is told before the capture
    shot = yield from _shot(rendered, what, client)
    picture = None
    if what.first_frame == "render":
        picture = yield from first_frame(shot, rendered.on_main)
    elif given is not None:
        captured = shot
        shot, picture = rendered.on_main(lambda: composer.with_given(captured, what.first_frame))
    film = yield from _film(rendered, CapturedShot(shot, picture, None), settings, client)
    if not control:
        return film, None
    return film, (yield from _control(rendered, shot, settings, client))


def control(rendered: Rendered) -> Generator[Progress, None, RenderedSequence]:
    """The tracking video of the whole shot with depths and indices, made without the model.

    Raises: as `job.record` and `job.shade`.
    """
    what = rendered.what
    client = rendered.on_main(lambda: session._connect(None))
    shot = yield from _shot(rendered, what, client)
    return (yield from _control(rendered, shot, rendered.settings, client))


def _shot(rendered: Rendered, what: ShotRequest, client: Future[Client]) -> Generator[Progress, None, Shot]:
    scene = rendered.scene
    spec = composer.sized(registry.spec(what.model), what.size)
    frames, fit = fit_scene(scene, spec, *what.frames, frame_rule=what.frame_rule, size_mode=what.size_mode)
    yield Progress("planning", f"{frames.statement} {fit.statement}")
    camera = None if what.camera is None else scene.objects.get(what.camera)
    return (
        yield from gathered(
            rendered.frame_set,
            rendered.depsgraph,
            frames,
            fit,
            camera,
            client,
            rendered.cancelled,
            glass=what.glass,
            hair=what.hair,
        )
    )


def _control(
    rendered: Rendered, shot: Shot, settings: ShadeSettings, client: Future[Client]
) -> Generator[Progress, None, RenderedSequence]:
    """Its files are gone as soon as nobody shows it any more."""
    keep = tempfile.TemporaryDirectory(prefix="trackshade-")
    settings = replace(settings, output="tracking")
    _, folder = yield from composer.shade(CapturedShot(shot, None, None), settings, client, Path(keep.name) / "control")
    return RenderedSequence.of(folder, rendered.scene, [mesh.pass_index for mesh in shot.meshes], keep)


def _film(
    rendered: Rendered, recorded: CapturedShot, settings: ShadeSettings, client: Future[Client]
) -> Generator[Progress, None, RenderedSequence]:
    """Raises OutputError where there is no room for a result."""
    out = claim(rendered.on_main(results_folder), Path(bpy.data.filepath or "scene").stem)
    try:
        check_output(out, False, registry.spec(settings.model))
        _, folder = yield from composer.shade(recorded, settings, client, out)
    finally:
        with contextlib.suppress(OSError):  # it has a result
            out.rmdir()
    return RenderedSequence.of(folder, rendered.scene)


def claim(folder: Path, stem: str) -> Path:
    """A new empty folder that nobody else who asks at the same time gets. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            out = folder / f"{stem}-{number:03d}"
            with contextlib.suppress(FileExistsError):
                out.mkdir()
                return out
    except OSError as error:
        raise OutputError(
            "output-unwritable",
            f"No result can be written to {folder}: {error.strerror or error}.",
            "Choose another folder for the results in the add-on's preferences.",
        ) from error
    raise TrackshadeError("defect", "Counting has ended.")
