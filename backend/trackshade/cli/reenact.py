# SPDX-License-Identifier: GPL-3.0-or-later
"""`trackshade reenact` and `motion`: driving footage to a figure that moves like that, or to joint rotations."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.client import Client
from trackshade.client.job_run import CapturedShot, connect_with_options, run_job, run_to_end
from trackshade.client.output_folder import OutputFolder
from trackshade.client.progress import Progress
from trackshade.config import parsing, registry
from trackshade.config.settings import ShadeSettings
from trackshade.core.atomic_files import require_suffix, writing
from trackshade.core.errors import OutputError, UsageError
from trackshade.motion.bvh import read_bvh, resample_motion, write_bvh
from trackshade.motion.camera_words import parse_camera_words
from trackshade.motion.driving_shot import driving_shot, repeat_still
from trackshade.motion.request import HANDS, DrivingRequest

OnMessage = Callable[[Mapping[str, Any]], None]
_MOTION_FILE = "motion.bvh"


def reenact(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Let the figure of a picture do the motion of footage; return what `--json` prints.

    Raises:
        TrackshadeError: As raised by `read_driving`, `parse_camera_words` and `run_job`.
    """
    mode = values["mode"]
    if mode == "reenact" and values["reference"] is None:
        raise UsageError(
            "no-reference", "There is no picture of the figure that is to move.", "Name it with --reference PICTURE."
        )
    armature = None if values["armature"] is None else Path(values["armature"]).absolute()
    _check_free(armature, values)
    result = _run(values, on_message, has_result=True)
    if armature is not None:
        _copy_motion(Path(result["out"]) / _MOTION_FILE, armature)
        result["files"]["armature"] = str(armature)
    return result


def motion(values: Mapping[str, Any], on_message: OnMessage) -> dict[str, Any]:
    """Write the joint rotations of footage, or of another motion file, as BVH; return what `--json` prints.

    Raises:
        TrackshadeError: As raised by `read_driving` and `run_job`.
    """
    source = Path(values["driving"])
    path = require_suffix(Path(values["out"] or f"{source.stem}.bvh").absolute(), ".bvh")
    _check_free(path, values)
    if values["fps"] is not None:
        parsing.check_rate(values["fps"])
    with tempfile.TemporaryDirectory(prefix="trackshade-") as folder:
        whole = {**values, "out": str(Path(folder) / "result"), "force": False}
        result = _run({**whole, "mode": "reenact", "reference": None, "camera": "static"}, on_message, has_result=False)
        _copy_motion(Path(folder) / "result" / _MOTION_FILE, path, values["fps"])
    return {**result, "out": str(path), "files": {"motion": str(path)}}


def _run(values: Mapping[str, Any], on_message: OnMessage, has_result: bool) -> dict[str, Any]:
    """Run the job of a command. Raise TrackshadeError."""
    path, spec = Path(values["driving"]).absolute(), registry.motion_spec(values["model"])
    request, words = driving_request(values), values["camera"]
    angles = parse_camera_words(words, 2)  # a mistake is reported before anything is read
    settings = ShadeSettings(
        model=values["model"],
        output="motion",
        seed=values.get("seed", 0),
        steps=values.get("steps"),
        azimuths_from="front" if angles.is_absolute else "reference",
    )

    def capture(client: Future[Client]) -> Generator[Progress, None, CapturedShot]:
        from trackshade.driving.reading import read_driving

        yield Progress("reading", path.name)

        def report(what: str, fraction: float) -> None:
            on_message({"state": "reading", "message": what, "step": 10 * round(10 * fraction), "steps": 100})

        clip = read_driving(path, request, spec.sizes[0], spec.fps, report)
        count = len(clip.frames) if request.mode != "novel-view" else values["frames"]
        source = {
            "file": str(path),
            "driving": {**request.to_dict(), "box": list(clip.box), "start": clip.start, "camera": words},
            "warnings": list(clip.warnings),
        }
        shot = driving_shot(parse_camera_words(words, count), spec.sizes[0], spec.fps, source=source)
        frames = np.ascontiguousarray(repeat_still(clip.frames, count))
        hands = None if clip.hands is None else repeat_still(clip.hands, count)
        return CapturedShot(shot, clip.reference if has_result else None, frames, hands=hands)

    with (
        OutputFolder.choose(values["out"], Path(), f"{path.stem}-motion", spec, values["force"]) as out,
        connect_with_options(values, None) as client,
    ):
        steps = run_job(capture, settings, client, out)
        return run_to_end(steps, lambda progress: on_message(progress.to_dict())).to_dict()


def driving_request(values: Mapping[str, Any]) -> DrivingRequest:
    """Return what the options of a command say about the driving footage. Raise UsageError."""
    boxes = {name: values.get(name) for name in ("box", "reference_box")}
    paths = {name: values.get(name) for name in ("mask", "reference")}
    hands = values["hands"]
    return DrivingRequest.from_dict(
        {
            **{name: values[name] for name in ("mode", "start", "end", "rate", "person")},
            **{name: None if text is None else parsing.parse_box(text) for name, text in boxes.items()},
            **{name: "" if path is None else str(Path(path).absolute()) for name, path in paths.items()},
            "hands": hands if hands in HANDS else str(Path(hands).absolute()),
        }
    )


def _copy_motion(source: Path, path: Path, fps: float | None = None) -> None:
    """Write the motion of a result to another file, at its own or another frame rate. Raise OutputError."""
    if fps is None:
        with writing("The motion", path):
            shutil.copyfile(source, path)
        return
    write_bvh(path, resample_motion(read_bvh(source), fps))


def _check_free(path: Path | None, values: Mapping[str, Any]) -> None:
    if path is not None and path.exists() and not values["force"]:
        raise OutputError("output-exists", f"{path} exists and was kept.", "Use --force to replace it.")
