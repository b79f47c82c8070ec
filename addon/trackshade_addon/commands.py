# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `blender -b FILE --command trackshade ...` and of `python -m trackshade_addon ...`.

Exit codes: 0 done, 2 usage, 3 bad input, 4 backend failed or unreachable, 130 cancelled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client import Client, connect, later
from trackshade.client.job_result import check_output, free_folder
from trackshade.config import options
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import CancelledError, OutputError, TrackshadeError, UsageError
from trackshade.core.images import write_png
from trackshade.shot import Shot

from .demo_scene import build_demo_scene
from .importers import Opened, choose_scene, read_scene
from .jobs import composer
from .placement import place, save_copy
from .report import Report, interruptible
from .synthetic import render_descriptions

FIRST_PATIENCE, PATIENCE = 10.0, 30.0  # seconds to wait for a backend that was named, and for one that was lost
PROGRAM = "blender -b FILE --command trackshade"


def execute(arguments: list[str]) -> int:
    """What `blender --command trackshade` calls: the exit code."""
    return main(PROGRAM, arguments)


def main(program: str, arguments: Sequence[str]) -> int:
    """Runs a command; whatever goes wrong on purpose becomes a sentence and an exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(program))
        return 0 if arguments else 2
    with Report("--json" in arguments) as report, interruptible():
        try:
            command, *rest = arguments
            if command not in _COMMANDS:
                raise UsageError("usage", f"There is no command '{command}'.", _usage(program))
            values = vars(options.parser(command, program).parse_args(rest))
            report.result(_COMMANDS[command](values, report.progress))
        except SystemExit as end:  # argparse after --help
            return int(end.code or 0)
        except TrackshadeError as error:
            return report.error(error)
        except KeyboardInterrupt:
            return report.error(CancelledError())
    return 0


def _render(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> dict[str, Any]:
    return _run(values, options.shade_settings(values), "shaded", report)


def _control(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> dict[str, Any]:
    return _run(values, options.control_settings(values), "control", report)


def _run(
    values: Mapping[str, Any], settings: ShadeSettings, kind: str, report: Callable[[composer.Progress], None]
) -> dict[str, Any]:
    what = _what(values)
    out = free_folder(values["out"], _stem(values), kind)
    check_output(out, values["force"])
    connecting = _connect(values, settings)  # starts while the scene is read
    try:
        opened = _opened(values, report)
        what = replace(what, remarks=opened.warnings)
        found = composer.drain(composer.run(opened.scene, what, settings, connecting, out, values["force"]), report)
    finally:
        _close(connecting)
    return found.to_dict()


def _export(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> dict[str, Any]:
    path = Path(values["out"] or f"{_stem(values)}.shot").absolute()
    picture = path.with_suffix(".png")
    renders = path.with_suffix(".render")
    for place_taken in (path, picture, *([renders] if values["input_render"] else [])):
        if place_taken.exists() and not values["force"]:
            raise OutputError("output-exists", f"{place_taken} exists and was kept.", "Use --force to replace it.")
    what = _what(values)
    opened = _opened(values, report)
    recorded = composer.drain(composer.record(replace(what, remarks=opened.warnings), opened.scene), report)
    recorded.shot.save(path, force=values["force"])
    files = {"shot": str(path)}
    if recorded.first_frame is not None:
        write_png(picture, recorded.first_frame)
        files["first_frame"] = str(picture)
    if recorded.input_render is not None:
        _write_frames(renders, recorded.input_render)
        files["input_render"] = str(renders)
    source = recorded.shot.source
    return {
        "out": str(path),
        "files": files,
        "fit": {key: source[key]["statement"] for key in ("frame_map", "size_fit", "first_frame") if key in source},
        "warnings": list(recorded.shot.warnings),
    }


def _write_frames(folder: Path, frames: np.ndarray) -> None:
    """[T, H, W, 3] as 0001.png and so on, in the place of those that are there."""
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("[0-9]*.png"):
            old.unlink()
    except OSError as error:
        raise OutputError("output-unwritable", f"{folder} cannot be written: {error.strerror or error}.") from error
    for number, frame in enumerate(frames, start=1):
        write_png(folder / f"{number:04d}.png", frame)


def _place(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> dict[str, Any]:
    folder = Path(values["result"]).absolute()
    path = Path(values["out"] or folder / "scene.blend").absolute()
    if path.exists() and not values["force"]:
        raise OutputError("output-exists", f"{path} exists and was kept.", "Use --force to replace it.")
    opened = _opened(values, report)
    report(composer.Progress("placing", str(path)))
    placed = place(folder, opened.scene, as_=values["way"])
    save_copy(path)
    return {"out": str(path), "files": {"scene": str(path)}, "warnings": [*opened.warnings, *placed.warnings]}


def _picture(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> dict[str, Any]:
    out = Path(values["out"] or "first_frame.png").absolute()
    if out.exists() and not values["force"]:
        raise OutputError("output-exists", f"{out} exists and was kept.", "Use --force to replace it.")
    if values["shot"] is None:
        raise UsageError("usage", "The picture's shot is not given.", "Name it with --shot FILE.")
    report(composer.Progress("reading", values["picture"]))
    shot, picture = composer.with_given(Shot.load(values["shot"]), values["picture"])
    write_png(out, picture)
    source = shot.source
    return {"out": str(out), "files": {"first_frame": str(out)}, "first_frame": source["first_frame"],
            "warnings": list(shot.warnings)}  # fmt: skip


def _demo_scene(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> dict[str, Any]:
    path = Path(values["out"] or "demo.blend").absolute()
    if path.exists() and not values["force"]:
        raise OutputError("output-exists", f"{path} exists and was kept.", "Use --force to replace it.")
    report(composer.Progress("building", str(path)))
    return {"out": str(path), "files": {"scene": str(build_demo_scene(path))}, "warnings": []}


def _synthesise(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> dict[str, Any]:
    source, out = Path(values["descriptions"]).absolute(), Path(values["out"] or "synthetic").absolute()
    paths = sorted(source.glob("*.npz")) if source.is_dir() else [source]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("output-unwritable", f"{out} cannot be made: {error.strerror or error}.") from error

    def begin(number: int) -> None:
        report(composer.Progress("rendering", f"scene {paths[number].stem}", number, len(paths)))

    render_descriptions(paths, out, _write_frames, begin)
    return {"out": str(out), "files": {"scenes": str(out)}, "warnings": []}


_COMMANDS: dict[str, Callable[[Mapping[str, Any], Callable[[composer.Progress], None]], dict[str, Any]]] = {
    "render": _render,
    "control": _control,
    "export": _export,
    "place": _place,
    "picture": _picture,
    "scene": _demo_scene,
    "synthesise": _synthesise,
}


def _what(values: Mapping[str, Any]) -> composer.ShotRequest:
    mode, size = options.size_rule(values["size"])
    return composer.ShotRequest(
        model=values["model"],
        camera=values["camera"],
        frames=options.frame_range(values["frames"]),
        frame_rule=values["frame_rule"],
        size_mode=mode,
        size=size,
        view_layer=values["view_layer"],
        first_frame=values.get("first_frame", "none"),
        input_render=values.get("input_render", False),
        strict=values["strict"],
        keep_played=False,  # the file was only just opened: nothing was played
        glass=values["glass"],
        hair=values["hair"],
    )


def _opened(values: Mapping[str, Any], report: Callable[[composer.Progress], None]) -> Opened:
    """The scene of a file, or the one that is open."""
    path, name = values["scene"], values["scene_name"]
    if path is not None:
        report(composer.Progress("opening", path))
        return read_scene(
            path,
            scene=name,
            trust_scripts=values["trust_scripts"],
            animation=values["animation"],
            camera=values.get("camera"),
        )
    if not bpy.data.filepath:
        raise UsageError("no-scene", "No scene was given.", f"Name a file: {PROGRAM} render, or ... render SCENE.")
    file = Path(bpy.data.filepath).name
    if values["trust_scripts"]:
        raise UsageError(
            "already-open",
            f"--trust-scripts comes too late for {file}: Blender has opened it already.",
            f"Start Blender with --enable-autoexec, or name the file after the command: ... render {file}.",
        )
    if values["animation"] is not None:
        raise UsageError(
            "no-animations", f"{file} holds no animations to choose from by name.", "Leave out --animation."
        )
    return Opened(choose_scene(name))


def _stem(values: Mapping[str, Any]) -> str:
    return Path(values["scene"] or bpy.data.filepath or "scene").stem


def _connect(values: Mapping[str, Any], settings: ShadeSettings) -> Future[Client]:
    python = values["backend_python"] or os.environ.get("TRACKSHADE_PYTHON")
    curve = None if values["curve"] is None else Path(values["curve"])
    return later(_connected, values["endpoint"], curve, python, settings.needs)


def _connected(endpoint: str | None, curve: Path | None, python: str | None, model: str | None) -> Client:
    """A backend that loads what is needed already. One that is not there at first is hardly on its way."""
    client = connect(endpoint, curve=curve, python=python, patience=FIRST_PATIENCE)
    client.set_patience(PATIENCE)
    if model is not None:
        client.warm(model)
    return client


def _close(connecting: Future[Client]) -> None:
    """Ends the connection and a backend of our own, as soon as there is one."""

    def close(done: Future[Client]) -> None:
        if done.exception() is None:
            done.result().close()

    connecting.add_done_callback(close)


def _usage(program: str) -> str:
    lines = [f"  {name:12}{options.COMMANDS[name][0]}" for name in _COMMANDS]
    return "\n".join([f"Usage: {program} COMMAND ...", *lines, f"See: {program} COMMAND --help"])
