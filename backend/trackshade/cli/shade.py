# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade shade`: a shot file, or the tracks kept beside an export, to a result, without Blender."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.cli.blender import run_addon
from trackshade.client import Client
from trackshade.client.job_run import CapturedShot, connect_with_options, run_job, run_to_end
from trackshade.client.output_folder import OutputFolder
from trackshade.client.progress import Progress
from trackshade.config import options
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError
from trackshade.core.image_headers import read_header
from trackshade.shot import Shot
from trackshade.shot.file import LIGHT_SUFFIX
from trackshade.shot.input_image import input_image_from_array, load_input_image
from trackshade.shot.joining import join
from trackshade.shot.track_set import FIRST, TrackSet, read_set

OnMessage = Callable[[Mapping[str, Any]], None]


def shade(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Shade a shot file or a track set, and return what `--json` prints about the result.

    Args:
        values: The command's options; see `trackshade.config.options`.
        on_message: Called with each progress message.

    Raises:
        ShotError: There is no shot, it is damaged, or its first frame cannot be read.
        OutputError: The result cannot be written.
        ProtocolError: The backend cannot be reached.
        ModelError: The backend cannot run the model.
        JobError: The job failed.
    """
    path = Path(values["shot"])
    tracks = read_set(path) if path.is_dir() else None
    shot = Shot.load(path) if tracks is None else None
    settings = options.shade_settings(values) if tracks is None else _settings(tracks.order.settings, values)
    model = spec(settings.model)
    parent, name = (Path(), f"{path.stem}-shaded") if tracks is None else (path.absolute().parent, tracks.order.result)

    def load_shot(client: Future[Client]) -> Generator[Progress, None, CapturedShot]:
        if shot is not None:
            captured = add_first_frame(shot, path.with_suffix(".png"), "any", values, on_message)
            return replace(captured, light=_read_light(path) if settings.light == "clay" else None)
        assert tracks is not None
        yield Progress("planning", "joining the tracks")
        picture = path / FIRST if tracks.order.picture else None
        captured = add_first_frame(join(tracks), picture, "frame", values, on_message)
        return replace(captured, input_render=_read_renders(tracks) if settings.light == "render" else None)

    with (
        OutputFolder.choose(values["out"], parent, name, model, values["force"]) as out,
        connect_with_options(values, None) as client,
    ):
        steps = run_job(load_shot, settings, client, out)
        return run_to_end(steps, lambda progress: on_message(progress.to_dict())).to_dict()


def _read_light(path: Path) -> np.ndarray | None:
    """Return the clay renders beside a shot file, mapped from their file; None if there are none.

    Raises:
        ShotError: They cannot be read.
    """
    light = path.with_suffix(LIGHT_SUFFIX)
    try:
        return np.load(light, mmap_mode="r", allow_pickle=False) if light.exists() else None
    except (OSError, ValueError) as error:
        raise ShotError("bad-light", f"{light} cannot be read: {error}.", "Export it again.") from error


def _read_renders(tracks: TrackSet) -> np.ndarray:  # [T, H, W, 3] uint8 sRGB
    """Return the frames that an export has kept beside its tracks."""
    from trackshade.cli.image_decoder import decode

    paths = [tracks.picture(frame) for frame in tracks.order.frames().frame_numbers]
    return np.stack([decode(path.read_bytes(), read_header(path))[..., :3] for path in paths])


def _settings(kept: ShadeSettings, values: Mapping[str, Any]) -> ShadeSettings:
    """Return the settings that the export was made with, overridden by the options that differ from their defaults."""
    defaults = ShadeSettings()
    given = options.shade_settings(values).to_dict()
    return replace(kept, **{name: value for name, value in given.items() if value != getattr(defaults, name)})


def add_first_frame(
    shot: Shot, beside: Path | None, shows: str, values: Mapping[str, Any], on_message: OnMessage
) -> CapturedShot:
    """Return a shot with the first frame that the options name, else with the picture beside it if there is one.

    Args:
        shot: The shot.
        beside: Picture that is used if the options name none and it exists.
        shows: What `beside` shows; see `attach_first_frame`.
        values: The command's options.
        on_message: Called with each progress message.

    Raises:
        ShotError: The picture cannot be read, is damaged or of an unsupported kind, or the shot's values are invalid.
    """
    named = values["first_frame"]
    if named is not None:
        picture, shows = (None if named == "none" else Path(named)), "any"
    else:
        picture = beside if beside is not None and beside.exists() else None
    captured = CapturedShot(shot)
    if picture is not None and read_header(picture).scene_linear:
        captured = _developed_by_blender(shot, picture, values.get("blender"), on_message)
    elif picture is not None:
        from trackshade.cli.image_decoder import decode

        captured = CapturedShot.with_picture(shot, load_input_image(picture, decode), shows)
    captured.shot.check_values()
    return captured


def _developed_by_blender(shot: Shot, path: Path, blender: str | None, on_message: OnMessage) -> CapturedShot:
    """Have Blender convert a scene-linear picture by the view transform of the shot's scene, and use it."""
    from trackshade.cli.image_decoder import decode

    on_message({"state": "reading", "message": f"{path.name}, in Blender"})
    with tempfile.TemporaryDirectory(prefix="trackshade-") as name:
        sample, out = Path(name) / "sample.shot", Path(name) / "shown.png"
        replace(shot, geometries=(), meshes=(), objects=()).save(sample)
        values = {"picture": str(path.absolute()), "shot": str(sample), "out": str(out)}
        try:
            answer = run_addon(options.to_arguments("picture", values), blender, on_message)
        except ShotError as error:
            if error.code != "no-blender":
                raise
            raise ShotError(
                "no-blender",
                f"{path} holds scene-linear light, and only Blender can show it as the scene does. {error.message}",
                f"Give a PNG instead, or a Blender: {error.fix}",
            ) from error
        picture = decode(out.read_bytes(), read_header(out))[..., :3]
    captured = CapturedShot.with_picture(shot, input_image_from_array(picture))
    source = {**shot.source, "first_frame": answer["first_frame"], "warnings": answer["warnings"]}
    return replace(captured, shot=replace(shot, source=source))
