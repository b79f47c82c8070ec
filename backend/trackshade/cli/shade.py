# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade shade`: a shot file, or the tracks kept beside an export, to a result, without Blender."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trackshade import options
from trackshade.client import Client, connect
from trackshade.errors import Cancelled, ShotError, TrackshadeError
from trackshade.fit import SizeFit
from trackshade.outcome import Outcome, check_output, free_folder
from trackshade.pictures import cover, lay
from trackshade.registry import spec
from trackshade.settings import ShadeSettings
from trackshade.shot import Shot
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
        first = _first_frame(values["first_frame"], path / FIRST if tracks.order.picture else None, shot)
    else:
        settings = options.shade_settings(values)
        shot = Shot.load(path)
        out = free_folder(values["out"], path.stem)
        first = _first_frame(values["first_frame"], path.with_suffix(".png"), shot)
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
            raise Cancelled from None
        client.fetch(job, out, values["force"])
    return Outcome.of(job, out, time.monotonic() - began).to_dict()


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


def _first_frame(chosen: str | None, beside: Path | None, shot: Shot) -> np.ndarray | None:
    """[H, W, 3] uint8: the chosen picture, else the one that lies beside the shot; a whole frame is laid by its fit."""
    from PIL import Image, UnidentifiedImageError

    if chosen == "none":
        return None
    path = Path(chosen) if chosen is not None else beside
    if path is None or (chosen is None and not path.exists()):
        return None
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ShotError("bad-picture", f"{path} cannot be read as a picture.", "Give a PNG or JPEG file.") from error
    if chosen is None and path.name == FIRST:
        return lay(picture, SizeFit.from_dict(shot.source["size_fit"]))
    return cover(picture, shot.size)
