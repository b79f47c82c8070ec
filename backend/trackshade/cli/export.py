# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade export`: a scene to a shot file, or a scene or a shot file to the files of another system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trackshade.cli.blender import run_addon
from trackshade.cli.shade import add_pictures
from trackshade.config import options
from trackshade.config.export_formats import EXPORT_FORMATS, SHOT_FORMAT
from trackshade.core.errors import ShotError, UsageError
from trackshade.ipc.leftovers import temporary_folder
from trackshade.shot import Shot

OnMessage = Callable[[Mapping[str, Any]], None]
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def export(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Export a scene or a shot file; return what `--json` prints.

    Raises:
        UsageError: An option does not belong to the format.
        TrackshadeError: As raised by `run_addon` and `export_shot`.
    """
    name, source = values["format"], Path(values["scene"])
    is_shot = source.suffix.lower() == ".shot"
    if name == SHOT_FORMAT:
        _refuse(values, ("points", "images"), f"--format {SHOT_FORMAT}")
        if is_shot:
            raise UsageError("usage", f"{source} is a shot file already.", "Name another --format.")
        return run_addon(options.to_arguments("export", values), values["blender"], on_message)
    _refuse(values, ("model", "light"), f"--format {name}")
    if name != "nerfstudio":
        _refuse(values, ("images", "input_render"), f"--format {name}")
    if is_shot:
        captured = [option.key for option in (*options.CAPTURE, *options.COMMANDS["export"][1])]
        kept = ("scene", "out", "force", "json", "first_frame", *(option.key for option in options.FITTING))
        _refuse(values, [key for key in captured if key not in kept], f"{source.name}, which is captured already")
        return _write(source, values, on_message)
    with temporary_folder() as folder:
        shot = folder / "scene.shot"
        first_frame = values["first_frame"] if EXPORT_FORMATS[name].uses_picture else "none"
        capture = {**values, "out": str(shot), "first_frame": first_frame, "size": None, "frame_rule": None}
        run_addon(options.to_arguments("export", capture), values["blender"], on_message)
        return _write(shot, {**values, "first_frame": "render"}, on_message)


def _refuse(values: Mapping[str, Any], keys: Sequence[str], what: str) -> None:
    """Raise UsageError if one of these options is given."""
    known = {option.key: option for option in (*options.COMMANDS["export"][1], *options.EXPORT)}
    for key in keys:
        if values[key] not in (None, known[key].default):
            raise UsageError("usage", f"{known[key].name} does not go with {what}.", "Leave it out.")


def _write(path: Path, values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Export a shot file."""
    from trackshade.exports import ExportSource, export_shot

    name = values["format"]
    form = EXPORT_FORMATS[name]
    out = Path(values["out"] or f"{Path(values['scene']).stem}-{name}{form.file_suffix}").absolute()
    shot, picture = Shot.load(path), None
    if form.uses_picture and values["first_frame"] != "none":
        named = None if values["first_frame"] == "render" else values["first_frame"]
        given = {"first_frame": named, "key": None, "blender": values["blender"]}
        captured = add_pictures(shot, path.with_suffix(".png"), "any", given, on_message)
        shot, picture = captured.shot, captured.first_frame
    images = _images(path, values["images"]) if name == "nerfstudio" else []
    mode, size = options.parse_size(values["size"])

    def report(done: int, total: int) -> None:
        on_message({"state": "exporting", "message": out.name, "step": done, "steps": total})

    record = export_shot(
        ExportSource(shot, picture, images),
        name,
        out,
        points=values["points"],
        frame_rule=values["frame_rule"],
        size_mode=mode,
        size=size,
        force=values["force"],
        report=report,
    )
    return {"out": str(out), **record}


def _images(path: Path, named: str | None) -> list[Path]:
    """Return the image files of a folder, by default of the renders beside a shot, in the order of their names."""
    folder = path.with_suffix(".render") if named is None else Path(named)
    if named is None and not folder.is_dir():
        return []
    found = sorted(item for item in folder.glob("*") if item.suffix.lower() in _IMAGE_SUFFIXES)
    if not found:
        raise ShotError("no-images", f"The folder {folder} has no PNG or JPEG images.", "Correct --images.")
    return found
