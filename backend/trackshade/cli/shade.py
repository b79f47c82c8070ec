# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade shade`: a shot file, or the tracks kept beside an export, to a result, without Blender."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.cli.blender import run_addon
from trackshade.client import Client, connect
from trackshade.client.job_result import JobResult, check_output, free_folder
from trackshade.config import options
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, ShotError, TrackshadeError
from trackshade.core.image_headers import read_header
from trackshade.shot import Shot
from trackshade.shot.input_image import attach_first_frame, load_input_image
from trackshade.shot.joining import join
from trackshade.shot.track_set import FIRST, read_set

OnMessage = Callable[[Mapping[str, Any]], None]


def shade(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Shades a shot as the options say; what was made.

    Raises:
        ShotError: no shot, or a picture that is none. OutputError: no place for the result.
        ProtocolError, ModelError, JobError: from the backend.
    """
    began = time.monotonic()
    path = Path(values["shot"])
    if path.is_dir():
        tracks = read_set(path)
        settings = _settings(tracks.order.settings, values)
        on_message({"state": "planning", "message": "joining the tracks"})
        shot = join(tracks, spec(settings.model))
        out = Path(values["out"]).absolute() if values["out"] is not None else None
        out = out or _beside(path.absolute().parent, tracks.order.result)
        beside, shows = path / FIRST if tracks.order.picture else None, "frame"
    else:
        settings = options.shade_settings(values)
        shot = Shot.load(path)
        out = free_folder(values["out"], path.stem)
        beside, shows = path.with_suffix(".png"), "any"
    shot, first = _first_frame(shot, values["first_frame"], beside, shows, values.get("blender"), on_message)
    shot.check_values()
    check_output(out, values["force"], spec(settings.model))
    on_message({"state": "starting", "message": "the backend"})
    curve = None if values["curve"] is None else Path(values["curve"])
    with connect(values["endpoint"], curve=curve, python=values["backend_python"], patience=10) as client:
        client.set_patience(30)
        on_message({"state": "sending", "message": "the shot"})
        job = client.submit(shot, settings, first)
        try:
            client.wait(job, lambda event: on_message(
                {"state": event.state, "message": event.message, "step": event.step, "steps": event.steps}
            ))  # fmt: skip
        except KeyboardInterrupt:
            _withdraw(client, job)
            raise CancelledError from None
        client.fetch(job, out, values["force"])
    return JobResult.of(job, out, time.monotonic() - began).to_dict()


def _withdraw(client: Client, job: str) -> None:
    try:
        client.set_patience(2.0)
        client.cancel(job)
    except TrackshadeError:
        return  # it is away, or the job is over: there is nothing to cancel


def _settings(kept: ShadeSettings, values: Mapping[str, Any]) -> ShadeSettings:
    """Those that the export was made with, but for what the options say otherwise."""
    plain, said = ShadeSettings(), options.shade_settings(values)
    changed = {name: value for name, value in said.to_dict().items() if value != getattr(plain, name)}
    return replace(kept, **changed)


def _beside(folder: Path, name: str) -> Path:
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder / item for item in names if not (folder / item).exists())


def _first_frame(
    shot: Shot, chosen: str | None, beside: Path | None, shows: str, blender: str | None, on_message: OnMessage
) -> tuple[Shot, np.ndarray | None]:
    """The shot with the chosen picture, else the one that lies beside it, fitted to its image: [H, W, 3] uint8.

    Args:
        beside: the picture that is taken where none is chosen and it is there.
        shows: what `beside` shows; see `input_image.place_image`.

    Raises:
        ShotError: it cannot be read, is damaged or of a kind that is not taken.
    """
    if chosen is not None:
        beside, shows = (None if chosen == "none" else Path(chosen)), "any"
    elif beside is not None and not beside.exists():
        beside = None
    if beside is None:
        return shot, None
    if read_header(beside).scene_linear:
        return _shown_by_blender(shot, beside, blender, on_message)
    from trackshade.cli.image_decoder import decode

    return attach_first_frame(shot, load_input_image(beside, decode), shows)


def _shown_by_blender(shot: Shot, path: Path, blender: str | None, on_message: OnMessage) -> tuple[Shot, np.ndarray]:
    """The same for a scene-linear picture: Blender shows it through the view transform of the shot's scene."""
    from trackshade.cli.image_decoder import decode

    on_message({"state": "reading", "message": f"{path.name}, in Blender"})
    with tempfile.TemporaryDirectory(prefix="trackshade-") as name:
        sample, out = Path(name) / "sample.shot", Path(name) / "shown.png"
        replace(shot, geometries=(), meshes=(), objects=()).save(sample)
        values = {"picture": str(path.absolute()), "shot": str(sample), "out": str(out)}
        try:
            made = run_addon(options.to_arguments("picture", values), blender, on_message)
        except ShotError as error:
            if error.code != "no-blender":
                raise
            raise ShotError(
                "no-blender",
                f"{path} holds scene-linear light, and only Blender can show it as the scene does. {error.message}",
                f"Give a PNG instead, or a Blender: {error.fix}",
            ) from error
        picture = decode(out.read_bytes(), read_header(out))[..., :3]
    source = {**shot.source, "first_frame": made["first_frame"], "warnings": made["warnings"]}
    return replace(shot, source=source), np.ascontiguousarray(picture)
