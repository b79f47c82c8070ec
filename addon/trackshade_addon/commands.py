# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of `blender -b FILE --command trackshade ...` and of `python -m trackshade_addon ...`.

Exit codes: 0 done, 2 usage, 3 bad input, 4 backend failed or unreachable, 130 canceled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from trackshade.client.job_result import JobResult
from trackshade.client.job_run import connect_with_options, run_job, run_to_end
from trackshade.client.output_folder import OutputFolder
from trackshade.client.progress import Progress
from trackshade.config import options, parsing, registry
from trackshade.config.chunks import values_of_chunk
from trackshade.config.image_models import image_model
from trackshade.config.settings import ShadeSettings
from trackshade.core.atomic_files import require_suffix, writing
from trackshade.core.camera_files import CameraPath, read_camera_path
from trackshade.core.camera_motion import parse_camera_moves, parse_object_moves
from trackshade.core.errors import CancelledError, OutputError, TrackshadeError, UsageError
from trackshade.core.file_names import file_name
from trackshade.core.images import write_png
from trackshade.motion.bone_names import match_bones, read_bone_table
from trackshade.motion.bvh import read_bvh, write_bvh
from trackshade.motion.hand_places import SIDES, write_hands
from trackshade.shot import Shot
from trackshade.shot.cameras import picture_names
from trackshade.shot.file import LIGHT_SUFFIX
from trackshade.shot.lift_request import LiftRequest
from trackshade.shot.lifted import LiftedScene, Perspective
from trackshade.shot.track_request import TrackRequest

from .backend.prefs import current_prefs
from .capture.orbit import Orbit, add_orbit
from .capture.request import ModelFit, ShotRequest
from .demo_scene import build_demo_scene
from .importers import OpenedScene, choose_scene, read_scene
from .jobs.composer import capture_scene, place_and_save, with_picture
from .lifting import build_scene
from .lifting.motion import camera_path, follow_path, move_object, move_scene_camera, parse_object_option
from .lifting.task import lift
from .motion.actions import read_actions
from .motion.armature import animate_armature, find_armature
from .motion.character import match_deforming_bones, read_character
from .motion.hands import project_hands
from .placement import place, save_copy
from .placement.motion import read_motion
from .properties.placement_options import PlacementOptions
from .properties.temporary import scene_properties
from .report import Report, interruptible
from .synthetic import build_held_out, render_descriptions, render_reference

PROGRAM = "blender -b FILE --command trackshade"
ReportProgress = Callable[[Progress], None]


def execute(arguments: list[str]) -> int:
    """Run `blender --command trackshade ...` and return the exit code."""
    return main(PROGRAM, arguments)


def main(program: str, arguments: Sequence[str]) -> int:
    """Run a command, by its name and options, and return the exit code; errors are reported in a sentence.

    The usage text names the program as it was called.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(program))
        return 0 if arguments else 2
    with Report("--json" in arguments) as report, interruptible():
        try:
            command, *rest = arguments
            if command not in _COMMANDS:
                raise UsageError("usage", f"There is no command '{command}'.", _usage(program))
            with report.help_to_output():
                values = vars(parsing.build_parser(command, program).parse_args(rest))
            report.use_farm(values.get("progress", "none"))
            report.result(_COMMANDS[command](values, report.progress))
        except SystemExit as end:  # argparse after --help
            return int(end.code or 0)
        except TrackshadeError as error:
            return report.error(error)
        except KeyboardInterrupt:
            return report.error(CancelledError())
    return 0


def _run(values: Mapping[str, Any], settings: ShadeSettings, kind: str, report: ReportProgress) -> dict[str, Any]:
    request, spec = _request(values), registry.spec(settings.model)
    if settings.image_model:
        image_model(settings.image_model)  # a mistake is reported before the capture
    if settings.multiview_model and not (values.get("cameras") or values.get("orbit")):
        raise UsageError(
            "one-camera",
            "A multiview model samples several cameras, and the shot has one.",
            "Name more with --cameras.",
        )
    with (
        OutputFolder.choose(values["out"], Path(), f"{_stem(values)}-{kind}", spec, values["force"]) as out,
        connect_with_options(_with_python(values), settings.needs) as client,  # starts while the scene is read
    ):
        path = _read_camera_path(values, report)
        opened = _open_scene(values, report)
        _move(opened.scene, values, path)  # in memory; the file is never written
        request = _with_orbit(request, opened.scene, values)

        def place_result(result: JobResult) -> Generator[Progress, None, JobResult]:
            return place_and_save(result, opened.scene, PlacementOptions("both"))

        steps = run_job(
            lambda client: capture_scene(replace(request, remarks=opened.warnings), opened.scene, client),
            settings,
            client,
            out,
            None if settings.output == "stills" else place_result,
        )
        return run_to_end(steps, report).to_dict()


def _export(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    whole, values = values, values_of_chunk(values)
    path = _output_file(values, f"{_stem(values)}.shot")
    picture = path.with_suffix(".png")
    renders = path.with_suffix(".render")
    light = path.with_suffix(LIGHT_SUFFIX)
    kept = [light] if values["light"] == "clay" else []
    _check_not_taken(values, path, picture, *([renders] if values["input_render"] else []), *kept)
    request = _request(values)
    if whole["chunk"] is not None:
        request = replace(request, whole_first_frame=whole["first_frame"])
    if values["model"] is not None:
        mode, size = parsing.parse_size(values["size"])
        request = replace(request, fit=ModelFit(values["model"], values["frame_rule"], mode, size))
    followed = _read_camera_path(values, report)
    opened = _open_scene(values, report)
    _move(opened.scene, values, followed)  # in memory; the file is never written
    request = _with_orbit(request, opened.scene, values)
    captured = run_to_end(capture_scene(replace(request, remarks=opened.warnings), opened.scene), report)
    captured.shot.save(path, force=values["force"])
    files = {"shot": str(path)}
    if captured.first_frame is not None:
        write_png(picture, captured.keys.get(0, captured.first_frame))
        files["first_frame"] = str(picture)
    for cell, name in picture_names(captured.shot).items():
        if cell in captured.keys:
            other = picture.with_suffix(f".{name}.png")
            write_png(other, captured.keys[cell])
            files[f"first_frame.{name}"] = str(other)
    if captured.input_render is not None:
        _write_frames(renders, captured.input_render)
        files["input_render"] = str(renders)
    if captured.light is not None:
        _write_array(light, captured.light)
        files["light"] = str(light)
    fitted = {key: captured.shot.source.get(key) or {} for key in ("frame_map", "size_fit", "first_frame", "light")}
    return {
        "out": str(path),
        "files": files,
        "fit": {key: part["statement"] for key, part in fitted.items() if "statement" in part},
        "warnings": list(captured.shot.warnings),
    }


def _output_file(values: Mapping[str, Any], default: str | Path) -> Path:
    """Return the file that --out names, or the default one. Raise UsageError unless both have the same suffix."""
    path = Path(default)
    return require_suffix(Path(values["out"] or path).absolute(), path.suffix)


def _check_not_taken(values: Mapping[str, Any], *paths: Path) -> None:
    for path in paths:
        if path.exists() and not values["force"]:
            raise OutputError("output-exists", f"{path} exists and was kept.", "Use --force to replace it.")


def _write_frames(
    folder: Path,
    frames: np.ndarray,  # [T, H, W, 3] uint8 sRGB
) -> None:
    """Write images as 0001.png and so on, replacing those that are there."""
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("[0-9]*.png"):
            old.unlink()
    except OSError as error:
        raise OutputError("output-unwritable", f"{folder} cannot be written: {error.strerror or error}.") from error
    for number, frame in enumerate(frames, start=1):
        write_png(folder / f"{number:04d}.png", frame)


def _write_array(path: Path, array: np.ndarray) -> None:
    try:
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    except OSError as error:
        raise OutputError("output-unwritable", f"{path} cannot be written: {error.strerror or error}.") from error


def _place(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    folder = Path(values["result"]).absolute()
    path = _output_file(values, folder / "scene.blend")
    _check_not_taken(values, path)
    opened = _open_scene(values, report)
    report(Progress("placing", str(path)))
    placed = place(folder, opened.scene, mode=values["way"])
    save_copy(path)
    return {"out": str(path), "files": {"scene": str(path)}, "warnings": [*opened.warnings, *placed.warnings]}


def _picture(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    out = _output_file(values, "first_frame.png")
    _check_not_taken(values, out)
    if values["shot"] is None:
        raise UsageError("usage", "The picture's shot is not given.", "Name it with --shot FILE.")
    report(Progress("reading", values["picture"]))
    fitted = with_picture(Shot.load(values["shot"]), values["picture"])
    assert fitted.first_frame is not None
    write_png(out, fitted.keys.get(0, fitted.first_frame))
    return {
        "out": str(out),
        "files": {"first_frame": str(out)},
        "first_frame": fitted.shot.source["first_frame"],
        "warnings": list(fitted.shot.warnings),
    }


def _lift(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    source = Path(values["image"]).absolute()
    request = LiftRequest.from_dict(
        {
            **{key: values[key] for key in ("depth_unit", "depth_kind", "fov", "behind")},
            **{key: _network(values[key]) for key in ("depth_model", "mask_model")},
            "camera_height": values["camera_height"],
            "depth": None if values["depth"] is None else str(Path(values["depth"]).absolute()),
            "masks": [str(Path(mask).absolute()) for mask in values["masks"] or ()],
            "boxes": [{"rectangle": parsing.parse_box(box)} for box in values["box"] or ()],
            "indoors": None if values["place"] == "auto" else values["place"] == "indoors",
            "perspective": None if values["handles"] is None else _read_handles(Path(values["handles"])),
        }
    )
    if values["length"] < 1:
        raise UsageError("usage", f"A scene cannot have {values['length']} frames.", "Give a --length of 1 or more.")
    return _make_scene(source, request, values, report, values["length"])


def _read_handles(path: Path) -> Any:
    """Read plain values of a perspective, which may be the whole result of `lift --json`. Raise UsageError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            "bad-perspective",
            f"The handles in {path} cannot be read: {error}.",
            "Give a JSON file with the perspective that 'trackshade lift --json' prints.",
        ) from error
    return data.get("perspective", data) if isinstance(data, dict) else data


def _track(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    source = Path(values["video"]).absolute()
    request = TrackRequest.from_dict(
        {
            **{key: values[key] for key in ("start", "duration", "max_frames", "spacing", "tracker", "fov")},
            **{key: _network(values[key]) for key in ("mask_model", "tracker_weights")},
            "masks": [str(Path(mask).absolute()) for mask in values["masks"] or ()],
            "boxes": [parsing.parse_box(box) for box in values["box"] or ()],
        }
    )
    return _make_scene(source, request, values, report)


def _network(name: str | None) -> str | None:
    """Return the absolute path of a network's folder or file, since the backend has another current folder.

    What is not there stays as it is: it is an identifier.
    """
    path = None if name is None else Path(name).expanduser()
    return str(path.absolute()) if path is not None and path.exists() else name


def _make_scene(
    source: Path,
    request: LiftRequest | TrackRequest,
    values: Mapping[str, Any],
    report: ReportProgress,
    frames: int = 0,
) -> dict[str, Any]:
    """Replace what is open by the scene of a photo or a video, and save it."""
    path = _output_file(values, f"{source.stem}.blend")
    _check_not_taken(values, path)
    parse_camera_moves(values["camera_motion"] or "")  # a mistake is reported before anything is done
    for motion in values.get("object_motion") or ():
        parse_object_moves(parse_object_option(motion)[1])
    followed = _read_camera_path(values, report)
    python = values["backend_python"] or current_prefs().python()
    with scene_properties():
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True, load_ui=False)
        scene = bpy.context.scene
        scene.name = source.stem

        def build(lifted: LiftedScene) -> tuple[tuple[str, ...], Perspective | None]:
            return build_scene(lifted, scene, frames, request), lifted.perspective

        warnings, perspective = run_to_end(lift(source, request, python, build), report)
        _move(scene, values, followed)
        report(Progress("saving", str(path)))
        save_copy(path)
    found = {} if perspective is None else {"perspective": perspective.to_dict()}
    return {"out": str(path), "files": {"scene": str(path)}, "warnings": list(warnings), **found}


def _read_camera_path(values: Mapping[str, Any], report: ReportProgress) -> CameraPath | None:
    """Read the camera of another file, which replaces what is open if it is a scene file; None if there is none."""
    if values.get("camera_path") is None:
        return None
    path = Path(values["camera_path"])
    if path.suffix.lower() in (".npz", ".json"):
        return read_camera_path(path)
    if "scene" in values and values["scene"] is None:
        raise UsageError(
            "already-open",
            f"{path.name} cannot be read beside the file that Blender has opened.",
            "Name the scene after the command: ... render SCENE --camera-path FILE.",
        )
    report(Progress("opening", str(path)))
    return camera_path(read_scene(path).scene)


def _move(scene: bpy.types.Scene, values: Mapping[str, Any], path: CameraPath | None) -> None:
    """Keyframe the camera and the objects of a scene as the options say, and by a camera path."""
    if path is not None:
        follow_path(scene, path, values["camera_mode"])
    if values.get("camera_motion") is not None:
        move_scene_camera(scene, values["camera_motion"], values["camera_mode"])
    for motion in values.get("object_motion") or ():
        move_object(scene, *parse_object_option(motion))


def _animate(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    source = Path(values["motion"]).absolute()
    path = _output_file(values, f"{_stem(values)}-{source.stem}.blend")
    _check_not_taken(values, path)
    table = None if values["bones"] is None else read_bone_table(Path(values["bones"]))
    motion = read_motion(source).motion if source.is_dir() else read_bvh(source)
    opened = _open_scene(values, report)
    report(Progress("placing", str(path)))
    armature = find_armature(opened.scene, values["armature"])
    if table is not None:  # what the file does not name is found by its name
        table = {**match_bones(bone.name for bone in armature.data.bones), **table}
    warnings = animate_armature(armature, motion, opened.scene, start=values["at"], table=table, name=source.stem)
    save_copy(path)
    return {"out": str(path), "files": {"scene": str(path)}, "warnings": [*opened.warnings, *warnings]}


def _open_rig(
    values: Mapping[str, Any], report: ReportProgress
) -> tuple[OpenedScene, bpy.types.Object, dict[str, str]]:
    """Open a scene, and return it with its armature and the bone of each joint."""
    named = {} if values["bones"] is None else read_bone_table(Path(values["bones"]))
    opened = _open_scene(values, report)
    armature = find_armature(opened.scene, values["armature"])
    return opened, armature, {**match_deforming_bones(armature), **named}  # what the file does not name is found


def _character(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    path = _output_file(values, f"{_stem(values)}.npz")
    _check_not_taken(values, path)
    opened, armature, table = _open_rig(values, report)
    report(Progress("reading", armature.name))
    character, warnings = read_character(armature, opened.scene, table)
    character.save(path)
    return {
        "out": str(path),
        "files": {"character": str(path)},
        "triangles": len(character.triangles),
        "bones": table,
        "warnings": [*opened.warnings, *warnings],
    }


def _hands(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    path = _output_file(values, f"{_stem(values)}-hands.json")
    _check_not_taken(values, path)
    opened, armature, table = _open_rig(values, report)
    steps = project_hands(armature, opened.scene, table)
    hands = None
    while hands is None:
        try:
            done, count = next(steps)
            report(Progress("reading", armature.name, done, count))
        except StopIteration as stop:
            hands = stop.value
    write_hands(path, hands)
    shown = np.isfinite(hands.places[..., 0]).mean(axis=0)
    return {
        "out": str(path),
        "files": {"hands": str(path)},
        "shown": {side: round(float(share), 3) for side, share in zip(SIDES, shown, strict=True)},
        "warnings": opened.warnings,
    }


def _actions(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    folder = Path(values["out"] or f"{_stem(values)}-actions").absolute()
    _check_not_taken(values, folder)
    opened, armature, table = _open_rig(values, report)
    names: list[str] = []
    for name, motion in read_actions(armature, opened.scene, table):
        report(Progress("reading", name))
        if not names:
            with writing("The motions", folder):
                folder.mkdir(parents=True, exist_ok=True)
        stem = file_name(name, "action")
        names.append(stem if stem.casefold() not in map(str.casefold, names) else f"{stem}-{len(names) + 1}")
        write_bvh(folder / f"{names[-1]}.bvh", motion)
    if not names:
        raise UsageError(
            "no-actions", f"No action of the file poses armature '{armature.name}'.", "Choose a rig that is animated."
        )
    return {"out": str(folder), "files": {"motions": str(folder)}, "actions": names, "warnings": opened.warnings}


def _demo_scene(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    path = _output_file(values, "demo.blend")
    _check_not_taken(values, path)
    report(Progress("building", str(path)))
    return {"out": str(path), "files": {"scene": str(build_demo_scene(path))}, "warnings": []}


def _synthesize(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    source, out = Path(values["descriptions"]).absolute(), Path(values["out"] or "synthetic").absolute()
    paths = sorted(source.glob("*.npz")) if source.is_dir() else [source]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("output-unwritable", f"{out} cannot be created: {error.strerror or error}.") from error

    def begin(number: int) -> None:
        report(Progress("rendering", f"scene {paths[number].stem}", number, len(paths)))

    render_descriptions(paths, out, _write_frames, begin)
    return {"out": str(out), "files": {"scenes": str(out)}, "warnings": []}


def _reference(values: Mapping[str, Any], report: ReportProgress) -> dict[str, Any]:
    kind, size = values["kind"], parsing.parse_size(values["size"])[1]
    if (kind is None) == (values["scene"] is None) or size is None:
        raise UsageError("usage", "Give a scene file or --kind NAME, and --size as WxH.")
    name = f"{kind}-{values['seed']}" if kind else _stem(values)
    folder = Path(values["out"] or name).absolute()
    if kind is not None:
        report(Progress("building", name))
        build_held_out(kind, values["seed"], values["length"], values["look"])
        more = {key: values[key] for key in ("length", "look") if values[key]}
        description = {"kind": kind, "seed": values["seed"], **more}
    else:
        _open_scene(values, report)
        status = Path(values["scene"]).stat()
        description = {"file": Path(values["scene"]).name, "bytes": status.st_size, "modified": status.st_mtime}
    return render_reference(
        folder,
        description,
        size=size,
        every=values["every"],
        samples=values["samples"],
        all_frames=values["all_frames"],
        report=lambda file, number, total: report(Progress("rendering", f"{name}/{file}", number, total)),
        force=values["force"],
    )


_COMMANDS: dict[str, Callable[[Mapping[str, Any], ReportProgress], dict[str, Any]]] = {
    "render": lambda values, report: _run(values, parsing.shade_settings(values), "shaded", report),
    "control": lambda values, report: _run(values, parsing.control_settings(values), "control", report),
    "export": _export,
    "place": _place,
    "picture": _picture,
    "lift": _lift,
    "track": _track,
    "animate": _animate,
    "character": _character,
    "hands": _hands,
    "actions": _actions,
    "scene": _demo_scene,
    "synthesise": _synthesize,
    "reference": _reference,
}


def _request(values: Mapping[str, Any]) -> ShotRequest:
    first = values.get("first_frame", "none")
    follows = ""
    if "control_clip" in values:
        named = {name: values[name] for name in ("model", "control_clip", "footage")}
        follows = ShadeSettings(**named).follows
    camera, *more = parsing.parse_cameras(values.get("cameras")) or [values["camera"]]
    keys = [
        (None if name == camera else name, frame, picture)
        for name, frame, picture in parsing.parse_keys(values.get("key"))
    ]
    return ShotRequest(
        camera=camera,
        more_cameras=tuple(more),
        camera_keys=tuple((name, frame, picture) for name, frame, picture in keys if name is not None),
        frames=parsing.parse_frame_range(values["frames"]),
        view_layer=values["view_layer"],
        first_frame="none" if first == options.GENERATE else first,
        keys=tuple((frame, picture) for name, frame, picture in keys if name is None),
        input_render=values.get("input_render", False) or follows == "render",
        light=values.get("light", "none"),
        references=tuple(values.get("reference") or ()),
        has_layout=follows == "layout",
        strict=values["strict"],
        keep_played=False,  # the file was only just opened: nothing was played
        glass=values["glass"],
        hair=values["hair"],
    )


def _with_python(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the backend's Python, if they name none: the environment of Set Up needs no preference."""
    python = values["backend_python"] or os.environ.get("TRACKSHADE_PYTHON") or current_prefs().python()
    return {**values, "backend_python": python}


def _with_orbit(request: ShotRequest, scene: bpy.types.Scene, values: Mapping[str, Any]) -> ShotRequest:
    """Return a request with the cameras of an orbit, which are added to the scene, if one is asked for."""
    if values.get("orbit") is None:
        return request
    if request.more_cameras:
        raise UsageError("usage", "Give --cameras or --orbit, not both.")
    camera = scene.camera if request.camera is None else scene.objects.get(request.camera)
    if camera is None or not isinstance(camera.data, bpy.types.Camera):
        raise UsageError("no-orbit", "An orbit needs a camera that the scene has.", "Name one with --camera.")
    frame = request.frames[0]
    if frame is not None:
        scene.frame_set(int(frame))
    others = add_orbit(scene, camera, Orbit(*parsing.parse_orbit(values["orbit"])))
    bpy.context.view_layer.update()
    return replace(request, camera=camera.name, more_cameras=tuple(other.name for other in others))


def _open_scene(values: Mapping[str, Any], report: ReportProgress) -> OpenedScene:
    """Open the scene of the given file, or take the one that is open."""
    path, name = values["scene"], values["scene_name"]
    if path is not None:
        report(Progress("opening", path))
        return read_scene(
            path,
            scene=name,
            trust_scripts=values["trust_scripts"],
            animation=values["animation"],
            camera=(parsing.parse_cameras(values.get("cameras")) or [values.get("camera")])[0],
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
    return OpenedScene(choose_scene(name))


def _stem(values: Mapping[str, Any]) -> str:
    return Path(values["scene"] or bpy.data.filepath or "scene").stem


def _usage(program: str) -> str:
    lines = [f"  {name:12}{options.COMMANDS[name][0]}" for name in _COMMANDS]
    return "\n".join([f"Usage: {program} COMMAND ...", *lines, f"See: {program} COMMAND --help"])
