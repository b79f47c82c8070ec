# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade export`: a scene to a shot file, or a scene, a shot file or kept tracks to files of another system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.cli.blender import run_addon
from trackshade.cli.shade import add_pictures, picture_beside
from trackshade.config import options, parsing
from trackshade.config.chunks import values_of_chunk
from trackshade.config.export_formats import EXPORT_FORMATS, SHOT_FORMAT
from trackshade.core.errors import ShotError, UsageError
from trackshade.ipc.leftovers import temporary_folder
from trackshade.shot import Shot
from trackshade.shot.joining import join
from trackshade.shot.track_set import FIRST, TrackSet, read_set

OnMessage = Callable[[Mapping[str, Any]], None]
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".exr")


def export(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Export a scene, a shot file, or the tracks that a render has kept in a folder; return what `--json` prints.

    Raises:
        UsageError: An option does not belong to the format.
        TrackshadeError: As raised by `run_addon` and `export_shot`.
    """
    values_of_chunk(values)  # a mistake is reported before anything starts
    name, source = values["format"], Path(values["scene"])
    is_shot = source.suffix.lower() == ".shot" or source.is_dir()
    if name == SHOT_FORMAT:
        _refuse(values, ("points", "images", "fps"), f"--format {SHOT_FORMAT}")
        if is_shot:
            if source.is_dir():
                raise UsageError("usage", f"{source} holds tracks that are captured already.", "Name another --format.")
            raise UsageError("usage", f"{source} is a shot file already.", "Name another --format.")
        return run_addon(parsing.to_arguments("export", values), values["blender"], on_message)
    from trackshade.exports.export import check_export

    form = EXPORT_FORMATS[name]
    _refuse(values, ("model", "light", "chunk"), f"--format {name}")
    check_export(_output(values), form, values["force"])  # before the capture, which takes long
    if form.images == "needed" and not (is_shot or values["images"] or values["input_render"]):
        raise UsageError(
            "no-images",
            f"The format {name} needs images of all frames, and {source.name} is a scene.",
            "Render them by --input-render, name their folder with --images, or export the tracks.shot of a result.",
        )
    if not form.images:
        _refuse(values, ("images", "input_render"), f"--format {name}")
    if is_shot:
        captured = [option.key for option in (*options.CAPTURE, *options.COMMANDS["export"][1])]
        kept = ("scene", "out", "force", "json", "progress", "first_frame", *(option.key for option in options.FITTING))
        _refuse(values, [key for key in captured if key not in kept], f"{source.name}, which is captured already")
        return _write(source, values, on_message)
    with temporary_folder() as folder:
        shot = folder / "scene.shot"
        first_frame = values["first_frame"] if form.uses_picture else "none"
        capture = {**values, "out": str(shot), "first_frame": first_frame, "size": None, "frame_rule": None}
        run_addon(parsing.to_arguments("export", capture), values["blender"], on_message)
        return _write(shot, {**values, "first_frame": "render"}, on_message)


def _refuse(values: Mapping[str, Any], keys: Sequence[str], what: str) -> None:
    """Raise UsageError if one of these options is given."""
    known = {option.key: option for option in (*options.COMMANDS["export"][1], *options.EXPORT)}
    for key in keys:
        if values[key] not in (None, known[key].default):
            raise UsageError("usage", f"{known[key].name} does not go with {what}.", "Leave it out.")


def _output(values: Mapping[str, Any]) -> Path:
    """Return the file or folder that is written."""
    name = values["format"]
    stem = f"{Path(values['scene']).stem}-{name}"
    return Path(values["out"] or f"{stem}{EXPORT_FORMATS[name].file_suffix}").absolute()


def _write(path: Path, values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Export a shot file, or the tracks that a render has kept in a folder."""
    from trackshade.exports import ExportSource, export_shot

    name = values["format"]
    form = EXPORT_FORMATS[name]
    out = _output(values)
    tracks = read_set(path) if path.is_dir() else None
    shot, picture = Shot.load(path) if tracks is None else join(tracks), None
    if form.uses_picture and values["first_frame"] != "none":
        named = None if values["first_frame"] == "render" else values["first_frame"]
        given = {"first_frame": named, "key": None, "blender": values["blender"]}
        if tracks is None:
            captured = add_pictures(shot, picture_beside(shot, path), "any", given, on_message)
        else:
            captured = add_pictures(shot, path / FIRST if tracks.order.picture else None, "frame", given, on_message)
        shot, picture = captured.shot, captured.first_frame
    images, light = _images(shot, path, values["images"], tracks) if form.images else ([], None)
    mode, size = parsing.parse_size(values["size"])

    def report(done: int, total: int) -> None:
        on_message({"state": "exporting", "message": out.name, "step": done, "steps": total})

    record = export_shot(
        ExportSource(shot, picture, images, light),
        name,
        out,
        points=values["points"],
        frame_rule=values["frame_rule"],
        size_mode=mode,
        size=size,
        fps=values["fps"],
        force=values["force"],
        report=report,
    )
    return {"out": str(out), **record}


def _images(
    shot: Shot, path: Path, named: str | None, tracks: TrackSet | None
) -> tuple[list[Path | None], np.ndarray | None]:
    """Return the image of each sample, and clay renders if there are any.

    Images are those of a folder in the order of their names; of a shot with several cameras, those of a folder in it
    for each camera. By default they are those of the renders beside a shot, in its tracks, or of the result that it is
    in. Clay renders of all samples are in `light.npy`.
    """
    if named is None and tracks is not None:
        kept: list[Path | None] = [tracks.picture(frame) for frame in tracks.order.frames().frame_numbers]
        return (kept if all(item is not None and item.is_file() for item in kept) else []), None
    folder = path.with_suffix(".render") if named is None else Path(named)
    if named is None and not folder.is_dir() and (path.parent / "job.json").is_file():
        folder = path.parent if shot.more_cameras else path.parent / "frames"
    if named is None and not folder.is_dir():
        return [], None
    found: list[Path | None] = []
    if shot.more_cameras:
        from trackshade.results.cells.images import cell_files

        found = cell_files(shot, folder)
    else:
        found += [item for item in sorted(folder.glob("*")) if item.suffix.lower() in _IMAGE_SUFFIXES]
    if not found:
        raise ShotError("no-images", f"The folder {folder} has no PNG, JPEG or OpenEXR images.", "Correct --images.")
    return found, _light(folder, len(found))


def _light(folder: Path, count: int) -> np.ndarray | None:
    """Return the clay renders of a folder of images, [count, h, w, 3], or None."""
    path = folder / "light.npy"
    if not path.is_file():
        return None
    try:
        light = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ShotError("bad-light", f"{path} cannot be read.", "Render the clay pass of the shot again.") from error
    if light.ndim != 4 or light.shape[0] != count or light.shape[3] != 3:
        raise ShotError(
            "bad-light",
            f"{path} has the shape {light.shape}, not that of {count} pictures.",
            "Render the clay pass of the shot again.",
        )
    return light
