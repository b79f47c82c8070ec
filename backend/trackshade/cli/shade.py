# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade shade`: a shot file to a result, without Blender."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trackshade import options
from trackshade.client import Client, connect
from trackshade.errors import Cancelled, ShotError, TrackshadeError
from trackshade.outcome import Outcome, check_output, free_folder
from trackshade.pictures import cover
from trackshade.registry import spec
from trackshade.shot import Shot

OnMessage = Callable[[Mapping[str, Any]], None]


def shade(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Shades a shot as the options say; what was made.

    Raises:
        ShotError: no shot, or a picture that is none. OutputError: no place for the result.
        ProtocolError, ModelError, JobError: from the backend.
    """
    began = time.monotonic()
    settings = options.shade_settings(values)
    path = Path(values["shot"])
    shot = Shot.load(path)
    shot.check_values()
    first = _first_frame(values["first_frame"], path, shot.size)
    out = free_folder(values["out"], path.stem)
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


def _first_frame(chosen: str | None, shot: Path, size: tuple[int, int]) -> np.ndarray | None:
    """[H, W, 3] uint8: the chosen picture, else the one that lies beside the shot."""
    from PIL import Image, UnidentifiedImageError

    if chosen == "none":
        return None
    path = Path(chosen) if chosen is not None else shot.with_suffix(".png")
    if chosen is None and not path.exists():
        return None
    try:
        with Image.open(path) as image:
            return cover(np.asarray(image.convert("RGB")), size)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ShotError("bad-picture", f"{path} cannot be read as a picture.", "Give a PNG or JPEG file.") from error
