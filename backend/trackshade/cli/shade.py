# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade shade` and `key`: a shot file, or the tracks kept beside an export, to a result, without Blender."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
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
from trackshade.config import options, parsing
from trackshade.config.image_models import image_model
from trackshade.config.registry import spec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ShotError
from trackshade.core.image_headers import read_header
from trackshade.ipc.leftovers import temporary_folder
from trackshade.shot import Shot
from trackshade.shot.cameras import picture_names, stored_camera_names
from trackshade.shot.input_image import (
    InputImage,
    attach_key_pictures,
    fit_image,
    input_image_from_array,
    load_input_image,
    sample_of_frame,
)
from trackshade.shot.joining import join
from trackshade.shot.range_parts import find_parts, join_parts, read_light
from trackshade.shot.track_set import FILE, FIRST, TrackSet, read_set

OnMessage = Callable[[Mapping[str, Any]], None]
_TRACKS, _RESULT_PICTURE = "tracks.shot", "first_frame.png"  # in the folder of a result


def shade(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Shade a shot file or a track set, show some of its frames or paint stills; return what `--json` prints.

    Raises:
        ShotError: There is no shot, it is damaged, or its first frame cannot be read.
        TrackshadeError: As raised by `run_job`.
    """
    path = Path(values["shot"])
    is_set = path.is_dir() and (path / FILE).exists()
    tracks = read_set(path) if is_set else None
    parts = [] if is_set else find_parts(path) if path.is_dir() else [path]
    shot = join_parts(parts) if parts else None
    settings = parsing.shade_settings(values) if tracks is None else _settings(tracks.order.settings, values)
    model = spec(settings.model)
    if settings.image_model:
        image_model(settings.image_model)  # a mistake is reported before anything is sent
    kind = "keys" if settings.output == "key" else "shaded"
    parent, name = (Path(), f"{path.stem}-{kind}") if tracks is None else (path.absolute().parent, tracks.order.result)

    def load_shot(client: Future[Client]) -> Generator[Progress, None, CapturedShot]:
        if shot is not None:
            captured = add_pictures(shot, picture_beside(shot, parts[0]), "any", values, on_message)
            needs_light = settings.light == "clay" or settings.follows == "layout"
            return replace(captured, light=read_light(parts) if needs_light else None)
        assert tracks is not None
        yield Progress("planning", "joining the tracks")
        picture = path / FIRST if tracks.order.picture else None
        given = {frame for _, frame, _ in parsing.parse_keys(values["key"])}
        kept = [f"{frame}={tracks.key_picture(frame)}" for frame in tracks.order.keys if frame not in given]
        keys = {"key": [*(values["key"] or ()), *kept]}
        captured = add_pictures(join(tracks), picture, "frame", {**values, **keys}, on_message)
        needs_renders = "render" in (settings.light, settings.follows)
        return replace(captured, input_render=_read_renders(tracks) if needs_renders else None)

    with (
        OutputFolder.choose(values["out"], parent, name, model, values["force"]) as out,
        connect_with_options(values, None) as client,
    ):
        steps = run_job(load_shot, settings, client, out)
        return run_to_end(steps, lambda progress: on_message(progress.to_dict())).to_dict()


def picture_beside(shot: Shot, path: Path) -> Path:
    """Return where the first frame of a shot file is: beside it, or in the result whose tracks it holds."""
    own = path.with_suffix(".png")
    if own.exists() or path.name != _TRACKS or not (path.parent / "job.json").is_file():
        return own
    if not shot.more_cameras:
        return path.parent / _RESULT_PICTURE
    first, *_ = stored_camera_names(shot.cameras, lambda name: (path.parent / name).is_dir())
    return path.parent / first / _RESULT_PICTURE


def _read_renders(tracks: TrackSet) -> np.ndarray:  # [T, H, W, 3] uint8 sRGB
    """Return the frames that an export has kept beside its tracks."""
    from trackshade.cli.image_decoder import decode

    paths = [tracks.picture(frame) for frame in tracks.order.frames().frame_numbers]
    return np.stack([decode(path.read_bytes(), read_header(path))[..., :3] for path in paths])


def _settings(kept: ShadeSettings, values: Mapping[str, Any]) -> ShadeSettings:
    """Return the settings that the export was made with, overridden by the options that differ from their defaults."""
    defaults = ShadeSettings()
    given = parsing.shade_settings(values).to_dict()
    return replace(kept, **{name: value for name, value in given.items() if value != getattr(defaults, name)})


def add_pictures(
    shot: Shot, beside: Path | None, shows: str, values: Mapping[str, Any], on_message: OnMessage
) -> CapturedShot:
    """Return a shot with the pictures that the options name; as its first frame, else with the one beside it, if any.

    Args:
        shot: The shot.
        beside: Picture that is used if the options name no first frame and it exists.
        shows: What `beside` shows; see `attach_first_frame`.
        values: The command's options.
        on_message: Called with each progress message.

    Raises:
        ShotError: A picture cannot be read, is damaged or of an unsupported kind, or of no frame of the shot; or the
            shot's values are invalid.
    """
    keys = [
        (None if camera == shot.camera.name else camera, frame, Path(path))
        for camera, frame, path in parsing.parse_keys(values["key"])
    ]

    def is_first(camera: str | None, frame: float) -> bool:
        return camera is None and sample_of_frame(shot, frame) == 0

    of_first = [path for camera, frame, path in keys if is_first(camera, frame)]
    named = values["first_frame"]
    given = [Path(named), *of_first] if named not in (None, "none", options.GENERATE) else of_first
    if len(given) > 1:
        raise ShotError(
            "two-key-pictures",
            f"Two pictures show frame {shot.frame_numbers[0]:g}: {given[0]} and {given[1]}.",
            "Give one picture for each frame.",
        )
    if named is not None or given:
        picture, shows = (given[0] if given else None), "any"
    else:
        picture = beside if beside is not None and beside.exists() else None
    captured = CapturedShot(shot)
    if picture is not None and read_header(picture).scene_linear:
        captured = _developed_by_blender(shot, picture, values.get("blender"), on_message)
    elif picture is not None:
        captured = CapturedShot.with_picture(shot, _load(picture), shows)
    if named is None and picture is beside:  # those of the other cameras, and of frames after cuts, as well
        keys += _pictures_beside(shot, beside, keys)
    others = ((camera, frame, _load_key(path)) for camera, frame, path in keys if not is_first(camera, frame))
    shot, pictures = attach_key_pictures(captured.shot, others)
    shot.check_values()
    references = tuple(_load_reference(Path(path)) for path in values.get("reference") or ())
    return replace(captured, shot=shot, keys={**captured.keys, **pictures}, references=references)


def _pictures_beside(
    shot: Shot, beside: Path | None, keys: Sequence[tuple[str | None, float, Path]]
) -> list[tuple[str | None, float, Path]]:
    """Return the further pictures that an export has written, unless the options name others."""
    if beside is None:
        return []
    given = {(camera, sample_of_frame(shot, frame)) for camera, frame, _ in keys}
    views, found = len(shot.cameras), []

    def path_of(name: str) -> Path:
        if beside.name == _RESULT_PICTURE:
            return beside.parents[1] / name / _RESULT_PICTURE
        return beside.with_suffix(f".{name}{beside.suffix}")

    for cell, name in picture_names(shot, lambda name: path_of(name).exists()).items():
        camera, path = shot.cameras[cell % views].name if views > 1 else None, path_of(name)
        if (camera, cell // views) not in given and path.exists():
            found.append((camera, float(shot.frame_numbers[cell // views]), path))
    return found


def _load(path: Path) -> InputImage:
    from trackshade.cli.image_decoder import decode

    return load_input_image(path, decode)


def _load_reference(path: Path) -> np.ndarray:  # [h, w, 3] uint8 sRGB
    image = _load(path)
    return fit_image(image, image.size, None).pixels


def _load_key(path: Path) -> InputImage:
    if read_header(path).scene_linear:
        raise ShotError(
            "scene-linear-key",
            f"{path} holds scene-linear light, which only a first frame may.",
            "Give the picture as PNG, as the scene's view transform shows it.",
        )
    return _load(path)


def _developed_by_blender(shot: Shot, path: Path, blender: str | None, on_message: OnMessage) -> CapturedShot:
    """Have Blender convert a scene-linear picture by the view transform of the shot's scene, and use it."""
    from trackshade.cli.image_decoder import decode

    on_message({"state": "reading", "message": f"{path.name}, in Blender"})
    with temporary_folder() as folder:
        sample, out = folder / "sample.shot", folder / "shown.png"
        replace(shot, geometries=(), meshes=(), objects=()).save(sample)
        values = {"picture": str(path.absolute()), "shot": str(sample), "out": str(out)}
        try:
            answer = run_addon(parsing.to_arguments("picture", values), blender, on_message)
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
