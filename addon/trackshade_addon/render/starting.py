# SPDX-License-Identifier: GPL-3.0-or-later
"""A complete track set becomes a job: in the panel's list where there is a window, else at once, to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path

import bpy

from trackshade.client import Client, later
from trackshade.client.job_result import check_output
from trackshade.config import registry
from trackshade.core.errors import TrackshadeError
from trackshade.shot import Shot
from trackshade.shot.joining import join
from trackshade.shot.track_set import FIRST, TrackSet, free_result

from ..jobs import session
from ..jobs.composer import CapturedShot, Progress, ShotRequest, drain, shade, wait_until, with_given
from ..jobs.job import Job, Placing
from ..placement import place, save_copy
from ..report import interruptible
from ..ui import jobs_list
from .export import LayerExport
from .hook import tell


def start(tracks: TrackSet, export: LayerExport, scene: bpy.types.Scene) -> None:
    """Has a set shaded if it is complete, and says what is missing where it is not. Main thread only.

    Raises:
        ShotError, ModelError, OutputError: it cannot be shaded, or there is no place for the result.
    """
    chosen = scene.view_layers[export.layer].trackshade
    spec = registry.spec(tracks.order.settings.model)
    missing = tracks.missing(spec)
    command = f"trackshade shade {tracks.folder}"
    if missing:
        what = " and ".join(missing)
        tell(export.layer, f"Tracks are kept in {tracks.folder}. For the shot, {what} are missing. Then: {command}")
        return
    if not chosen.hook_start:
        tell(export.layer, f"All tracks are in {tracks.folder}. To shade them: {command}")
        return
    if not tracks.claim(spec):
        tell(export.layer, f"Another machine shades the tracks in {tracks.folder}.")
        return
    try:
        out = free_result(tracks.folder.parent, tracks.order.result)
        check_output(out, False, spec)
        placing = scene.trackshade.placing() if chosen.hook_place else Placing(way=None)
        (_shade_now if bpy.app.background else _queue)(tracks, export.layer, scene, placing, out)
    except TrackshadeError:
        tracks.release()
        raise


def recorded(tracks: TrackSet, client: Future[Client]) -> Generator[Progress, None, CapturedShot]:
    """A set as the scene's side of a job. Raises ShotError where it is not complete or damaged."""
    spec = registry.spec(tracks.order.settings.model)
    joining: Future[Shot] = later(join, tracks, spec)
    shot = yield from wait_until(joining, "planning", "joining the tracks")
    picture = None
    if tracks.order.picture:
        shot, picture = with_given(shot, str(tracks.folder / FIRST), shows="frame")
    return CapturedShot(shot, picture, None)


def _queue(tracks: TrackSet, layer: str, scene: bpy.types.Scene, placing: Placing, out: Path) -> None:
    order = tracks.order
    what = ShotRequest(
        model=order.settings.model,
        frames=(float(order.start), float(order.end), float(order.step)),
        frame_rule=order.frame_rule,
        size_mode=order.size_mode,
        size=order.size,
        view_layer=layer,
        first_frame=str(tracks.folder / FIRST) if order.picture else "none",
    )
    running = session.current()
    job = Job(
        scene,
        what,
        order.settings,
        placing,
        out,
        recorder=lambda client: recorded(tracks, client),
        failed=lambda: _failed(tracks, out),
    )
    running.add(job)
    jobs_list.keep_listed()
    jobs_list.mirror(choose_newest=True)
    running.follow()
    tell(layer, f"All frames are exported; {job.title} is being shaded to {out}.")


def _shade_now(tracks: TrackSet, layer: str, scene: bpy.types.Scene, placing: Placing, out: Path) -> None:
    latest = ""

    def show(progress: Progress) -> None:
        nonlocal latest
        if str(progress) != latest:
            latest = str(progress)
            print(f"Trackshade, {layer}: {progress}", flush=True)

    def path() -> Generator[Progress, None, None]:
        client = session._connect(tracks.order.settings.needs)
        made = yield from recorded(tracks, client)
        yield from shade(made, tracks.order.settings, client, out)
        if placing.way is not None:
            yield Progress("placing", str(out / "scene.blend"))
            put = place(out, scene, **placing.options())
            save_copy(out / "scene.blend")
            for warning in put.warnings:
                tell(layer, warning)

    try:
        with interruptible():
            drain(path(), show)
    except TrackshadeError:
        _failed(tracks, out)
        raise
    tell(layer, f"Shaded: {out}")


def _failed(tracks: TrackSet, out: Path) -> None:
    tracks.release()
    with contextlib.suppress(OSError):  # it has a result: only placing failed
        out.rmdir()
