# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that the add-on runs in the backend's environment without a running backend.

    python -m trackshade.cli.backend_tasks TASK ...

    probe               print versions, missing packages and devices
    fetch MODEL         download a model; an interrupted download is continued
    verify MODEL        compare a downloaded model with its digests
    check FOLDER        check that a folder is a checkpoint that can be loaded, and find its base model
    bake FOLDER OPTIONS  bake a result into textures; OPTIONS is JSON, see `trackshade.results.baking.BakeOptions`
    lift IMAGE OPTIONS OUT  lift a photo to a scene; OPTIONS is JSON, see `trackshade.shot.lift_request.LiftRequest`
    track VIDEO OPTIONS OUT  turn footage into a lifted scene of tracked points, written to the file OUT and replacing
                        it; OPTIONS is JSON, see `trackshade.shot.track_request.TrackRequest`
    drive FOOTAGE OPTIONS OUT  read driving footage and the reference as crops around a figure, written to the file OUT
                        (.npz: "frames", "reference"); OPTIONS is JSON, see `trackshade.motion.request.DrivingRequest`,
                        and "model", the name of the motion model
    export SHOT OPTIONS OUT  write the files of another system; OPTIONS is JSON, see `export`

A task prints lines (`trackshade.ipc.json_lines`): {"event": "progress", "done", "total"}, and at its end
{"event": "result", ...} or {"event": "error", ...}. The caller holds standard input open; the task is cancelled when
it closes. It is part of the command line because it is a program of its own that uses all packages below.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trackshade import __version__
from trackshade.config import registry
from trackshade.core.atomic_files import writing
from trackshade.core.errors import CancelledError, ModelError, TrackshadeError, UsageError
from trackshade.core.images import write_png
from trackshade.core.processes import call_when_input_closes
from trackshade.ipc import PROTOCOL, json_lines
from trackshade.ipc.locks import locked_environment
from trackshade.shot.track_request import TrackRequest

NEEDED = (
    "torch diffusers transformers accelerate safetensors huggingface_hub "
    "numba scipy xatlas peft gguf av cv2 PIL sentencepiece zmq msgpack numpy"
)
REPORT_EVERY = 0.1  # seconds
GRACE = 2.0  # seconds that a cancelled task has to end in an orderly way; the caller waits a little longer

_cancelled = threading.Event()


def probe() -> dict[str, Any]:
    """Return versions, missing packages, and the devices that torch can use, the best first."""
    missing = [name for name in NEEDED.split() if importlib.util.find_spec(name) is None]
    facts: dict[str, Any] = {"version": __version__, "protocol": PROTOCOL, "python": platform.python_version()}
    facts |= {"missing": missing, "devices": []}
    if "torch" not in missing:
        try:
            facts |= _torch_facts()
        except (ImportError, OSError) as error:  # a library of the driver or the system is missing
            facts["broken"] = f"torch cannot be loaded: {error}"
    return facts


def _torch_facts() -> dict[str, Any]:
    import torch

    devices = []
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        devices.append({"device": f"cuda:{index}", "name": found.name, "total": found.total_memory})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": "Apple GPU", "total": None})
    devices.append({"device": "cpu", "name": f"the processor ({platform.machine()})", "total": None})
    return {"torch": torch.__version__, "devices": devices}


def fetch(name: str) -> dict[str, Any]:
    """Download a model. Raise ModelError or CancelledError."""
    from trackshade.models.download import fetch as fetch_weights

    return {"folder": str(fetch_weights(registry.spec(name), _Progress(), _cancelled.is_set))}


def verify(name: str) -> dict[str, Any]:
    """Compare all files of a downloaded model with their digests. Raise ModelError."""
    from trackshade.models.download import verify as verify_files

    model = registry.spec(name)
    if not registry.is_present(model):
        raise ModelError("missing-weights", f"The model {name} is not on this machine.", "Fetch it first.")
    folder = registry.model_folder(model)
    if model.revision:
        verify_files(folder)
        return {"folder": str(folder)}
    return {**check(str(folder)), "folder": str(folder)}


def check(folder: str) -> dict[str, Any]:
    """Check every component of a checkpoint without loading it. Raise ModelError."""
    from trackshade.pipelines.families.recognize import check_checkpoint

    return check_checkpoint(Path(folder))


def bake(folder: str, wanted: str = "{}") -> dict[str, Any]:
    """Bake a result into textures. Raise as `trackshade.results.baking.bake_result`."""
    from trackshade.results.baking import BakeOptions, bake_result

    progress = _Progress()

    def report(_: str, fraction: float) -> None:
        progress(round(1000 * fraction), 1000)

    return {"record": bake_result(Path(folder), BakeOptions.from_dict(json.loads(wanted)), report, _cancelled.is_set)}


def lift(image: str, wanted: str, out: str) -> dict[str, Any]:
    """Lift a photo to a scene, and write it to a file, replacing an earlier one. Raise as `lift_image`, or OutputError.

    Returns:
        "out", the file; "meshes", the names of its meshes; "triangles"; "perspective", or None; "warnings"; "notes".
    """
    from trackshade.cli.image_decoder import decode
    from trackshade.lifting import lift_image
    from trackshade.shot.lift_request import LiftRequest

    try:
        values = json.loads(wanted)
        if not isinstance(values, dict):
            raise ValueError("they are not a JSON object")
    except ValueError as error:
        raise UsageError("bad-setting", f"The settings of lifting are not valid: {error}.") from error
    progress = _Progress()

    def report(message: str, fraction: float) -> None:
        progress(round(1000 * fraction), 1000, message)

    scene = lift_image(image, LiftRequest.from_dict(values), report, _cancelled.is_set, decode=decode)
    path = scene.save(out, force=True)
    return {
        "out": str(path),
        "meshes": [mesh.name for mesh in scene.meshes],
        "triangles": sum(len(mesh.triangles) for mesh in scene.meshes),
        "perspective": None if scene.perspective is None else scene.perspective.to_dict(),
        "warnings": list(scene.warnings),
        "notes": dict(scene.notes),
    }


def track(video: str, wanted: str, out: str) -> dict[str, Any]:
    """Track a video. Raise as `trackshade.tracking.track_video`, and OutputError.

    What the video shows in the frame whose points the scene has is written beside the scene, as a PNG file that the
    scene's notes name as "picture".
    """
    from trackshade.tracking import track_video
    from trackshade.tracking.footage import read_picture

    try:
        values = json.loads(wanted)
    except ValueError as error:
        raise UsageError("bad-setting", f"The tracking settings are not JSON: {error}.") from error
    progress = _Progress()

    def report(message: str, fraction: float) -> None:
        progress(round(1000 * fraction), 1000, message)

    scene = track_video(Path(video), TrackRequest.from_dict(values), report, _cancelled.is_set)
    picture = Path(out).absolute().with_suffix(".png")
    write_png(picture, read_picture(Path(video), scene.notes["times"][scene.picture_frame]))
    scene = dataclasses.replace(scene, notes={**scene.notes, "picture": str(picture)})
    path = scene.save(out, force=True)
    return {"out": str(path), "frames": len(scene.world_to_camera), "warnings": list(scene.warnings),
            "notes": dict(scene.notes)}  # fmt: skip


def drive(footage: str, wanted: str, out: str) -> dict[str, Any]:
    """Read driving footage. Raise as `trackshade.driving.reading.read_driving`, and OutputError.

    Returns:
        "fps", "start" and "box" of the clip, and "warnings".
    """
    from trackshade.driving.reading import read_driving
    from trackshade.motion.request import DrivingRequest

    try:
        values = json.loads(wanted)
        spec = registry.motion_spec(str(values.pop("model", registry.MINI_MOTION)))
    except (ValueError, AttributeError) as error:
        raise UsageError("bad-setting", f"The settings of the footage are not valid: {error}.") from error
    progress = _Progress()

    def report(message: str, fraction: float) -> None:
        progress(round(1000 * fraction), 1000, message)

    request = DrivingRequest.from_dict(values)
    clip = read_driving(Path(footage), request, spec.sizes[0], spec.fps, report, _cancelled.is_set)
    with writing("The footage", Path(out)), open(out, "wb") as file:
        hands = {} if clip.hands is None else {"hands": clip.hands}
        np.savez(file, frames=clip.frames, reference=clip.reference, **hands)
    return {"fps": clip.fps, "start": clip.start, "box": list(clip.box), "warnings": list(clip.warnings)}


def export(shot: str, wanted: str, out: str) -> dict[str, Any]:
    """Export a shot file for another system, with the picture beside it, if there is one.

    Args:
        shot: the shot file.
        wanted: JSON with "format", and optionally "points", "fps" and "force"; see `trackshade.exports.export_shot`.
        out: file or folder to write.

    Returns:
        The record of the export.

    Raises:
        TrackshadeError: as raised by `export_shot`.
    """
    from trackshade.control.picture_files import read_rgb
    from trackshade.exports import ExportSource, export_shot
    from trackshade.shot import Shot

    try:
        values = json.loads(wanted)
        name = values.pop("format")
        options = {key: values.pop(key) for key in ("points", "fps", "force") if key in values}
        if values:
            raise ValueError(f"{next(iter(values))!r} is unknown")
    except (ValueError, KeyError, AttributeError) as error:
        raise UsageError("bad-setting", f"The settings of the export are not valid: {error}.") from error
    path, picture, progress = Path(shot), None, _Progress()
    if path.with_suffix(".png").is_file():
        picture = read_rgb(path.with_suffix(".png"))

    def report(done: int, total: int) -> None:
        if _cancelled.is_set():
            raise CancelledError
        progress(done, total, Path(out).name)

    return {
        "out": out,
        **export_shot(ExportSource(Shot.load(path), picture), name, Path(out), report=report, **options),
    }


class _Progress:
    """Prints progress, not too often."""

    _printed = 0.0
    _message: str | None = None

    def __call__(self, done: int, total: int, message: str | None = None) -> None:
        now = time.monotonic()
        if now - self._printed >= REPORT_EVERY or done >= total or message != self._message:
            self._printed, self._message = now, message
            more = {} if message is None else {"message": message}
            _print_line({"event": "progress", "done": done, "total": total, **more})


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    task.__name__: task for task in (probe, fetch, verify, check, bake, lift, track, drive, export)
}


def main(arguments: list[str]) -> int:
    """Run a task, print its end and return the exit code."""
    call_when_input_closes(_cancel)
    try:
        with locked_environment():
            _print_line({"event": "result", **_parse_task(arguments)()})
    except TrackshadeError as error:
        _print_line({"event": "error", **error.to_dict()})
        return error.exit_code
    except KeyboardInterrupt:
        _print_line({"event": "error", **CancelledError().to_dict()})
        return 130
    return 0


def _parse_task(arguments: list[str]) -> Callable[[], dict[str, Any]]:
    """Return the task with its arguments. Raise UsageError."""
    if not arguments or arguments[0] not in TASKS:
        raise UsageError("usage", f"Name a task: {', '.join(TASKS)}.")
    name, *rest = arguments
    takes = list(inspect.signature(TASKS[name]).parameters)
    if len(rest) != len(takes):
        raise UsageError("usage", f"The task {name} takes {' and '.join(takes) or 'nothing more'}.")
    return functools.partial(TASKS[name], *rest)


def _print_line(message: dict[str, Any]) -> None:
    try:
        print(json_lines.format_line(message), flush=True)
    except OSError:  # the caller is gone
        os._exit(130)


def _cancel() -> None:
    _cancelled.set()
    time.sleep(GRACE)
    os._exit(130)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads of libraries may take long to end, or never end
