# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of the interface, in Blender's language.

Sentences that are put together here go through `tr`, so that the pattern is translated before it is filled. Errors are
also shown at the command line; if the fix of one is an option of a command, `error_text` names the setting of the panel
instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import bpy

from trackshade.client.progress import Progress
from trackshade.config.memory_presets import MemoryPreset
from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import TrackshadeError, with_fix
from trackshade.core.fitting import FrameMap, SizeFit

from .translations import CONTEXT

if TYPE_CHECKING:
    from ..capture.request import ShotRequest
    from ..jobs.durations import Estimate

_STATES = {
    "planning": "Planning",
    "capturing": "Capturing the scene",
    "stepping": "Stepping the simulation",
    "rendering": "Rendering",
    "starting": "Starting the backend",
    "sending": "Sending the shot",
    "queued": "Waiting for other jobs",
    "loading": "Loading",
    "running": "Shading",
    "decoding": "Decoding the frames",
    "fetching": "Receiving the result",
    "baking": "Baking the textures",
    "placing": "Placing the result",
    "lifting": "Lifting the photo",
    "tracking": "Tracking the footage",
    "reading": "Reading the footage",
    "exporting": "Exporting",
    "building": "Building the scene",
    "done": "Done",
    "failed": "Failed",
    "cancelled": "Canceled",
}
_WITHOUT_DETAIL = ("starting", "decoding", "fetching", "planning")  # states whose message says no more than their name

# What to do in Blender about an error whose own fix mentions options or commands, by the code of the error.
FIXES = {
    "no-camera": "Press Add Framing Camera, or select a camera under Shot.",
    "nothing-visible": "Point the camera at the scene and check its clip distances, or press Add Framing Camera.",
    "render-failed": "Select another render engine, or set First Frame to Image File under Look.",
    "output-exists": "Select another folder for results in the add-on's preferences.",
    "output-unwritable": "Free some space, or select another folder for results in the add-on's preferences.",
    "output-not-ours": "Select another folder for results in the add-on's preferences.",
    "incomplete-scene": "Use File > External Data > Find Missing Files, or open the file with Trust Source.",
    "no-first-frame": "Set First Frame to Render or Image File under Look, or choose an image model.",
    "control-not-taken": "Set Follow to Automatic under Model.",
    "footage-not-carried": "Set Output to Model under Shot.",
    "light-failed": "Set Light to None under Shot.",
    "no-tracker-package": "Install the package in the backend's Python as the guide says, or track by optical flow.",
    "no-splats": "Shade the shot again with Splats above 0 under Shot.",
    "one-camera": "Add further cameras under Cameras.",
    "too-few-files": "Allow programs to open more files, in the settings of the system.",
    "wrong-weights": "Choose a folder or file of the right kind of model.",
    "no-animations": "Open the file without selecting an animation.",
    "nothing-to-fetch": "Download it from its page, then press Use Checkpoint Folder under Models.",
    "missing-weights": "Download the model under Models.",
    "unknown-device": "Select another device in the add-on's preferences.",
    "backend-incomplete": "Press Set Up under Backend, or select another Python in the add-on's preferences.",
    "no-token": "Enter the token that trackshade serve printed in the add-on's preferences.",
    "network-store": "Set TRACKSHADE_HOME to a folder on a local disk, and start Blender again.",
    "backend-unreachable": "Start it again, or correct its address in the add-on's preferences.",
}


def tr(text: str, **values: object) -> str:
    """Translate a pattern to Blender's language and fill in the values."""
    return bpy.app.translations.pgettext_iface(text, CONTEXT).format(**values)


def fix_text(error: TrackshadeError) -> str | None:
    """Return what to do about an error in the interface, or None."""
    if error.fix is None or not mentions_commands(error.fix):
        return error.fix
    fix = FIXES.get(error.code)
    return None if fix is None else tr(fix)


def mentions_commands(text: str) -> bool:
    """Return whether a text mentions commands or their options."""
    return "--" in text or "`" in text


def error_text(error: TrackshadeError) -> str:
    """Return the message of an error and what to do about it in the interface."""
    fix = fix_text(error)
    return with_fix(error.message, fix)


def state_text(state: str) -> str:
    """Return the name of a job's state."""
    return tr(_STATES.get(state, state.capitalize()))


def progress_text(progress: Progress, seconds_left: float | None = None) -> str:
    """Return the progress of a job in one line."""
    text = state_text(progress.state)
    blocks = progress.state == "rendering" and not progress.waits  # this Blender renders
    if blocks:
        text = tr("Blender is waiting: rendering {what}", what=progress.message)
    if progress.state == "stepping":
        text = tr("{state}, frame {step} of {steps}", state=text, step=progress.step, steps=progress.steps)
    elif progress.step is not None and progress.steps is not None:
        text = tr("{state}, {step} of {steps}", state=text, step=progress.step, steps=progress.steps)
    elif progress.message and progress.state not in _WITHOUT_DETAIL and not blocks:
        text = tr("{state}: {detail}", state=text, detail=progress.message.partition("\n")[0])
    if seconds_left is not None:
        text = tr("{state}, {time} left", state=text, time=duration_text(seconds_left))
    return text


def duration_text(seconds: float) -> str:
    """Return a duration, rounded."""
    if seconds < 55:
        return tr("{count} s", count=max(1, round(seconds)))
    if seconds < 3570:
        return tr("{count} min", count=max(1, round(seconds / 60)))
    return tr("{hours} h {minutes} min", hours=int(seconds // 3600), minutes=int(seconds % 3600 // 60))


def plan_text(
    frames: FrameMap,
    size: SizeFit,
    spec: ModelSpec,
    seen: FrameMap | None,
    request: ShotRequest,
    settings: ShadeSettings,
) -> str:
    """Returns sentences about what a job will make: how many images of which size, what from, and with which prompt.

    Args:
        frames: Frames of the shot.
        size: Size of the shot.
        spec: The model.
        seen: Frames that the model sees; None if it makes no video of several frames.
        request: What is captured, after `ShotRequest.with_first_key`.
        settings: Settings of the job.
    """
    is_model_size = settings.output_size == "model"
    shown = frames if seen is None or not is_model_size else seen
    model_size = settings.model_size or min(spec.sizes, key=lambda item: abs(item[0] / item[1] - _aspect(size)))
    width, height = model_size if is_model_size else size.size
    made = tr(
        "{count} images of {width} × {height} at {fps} fps.",
        count=len(shown.frame_numbers),
        width=width,
        height=height,
        fps=f"{round(shown.fps, 3):g}",
    )
    if request.more_cameras:
        made = f"{made} {tr('Through {count} cameras.', count=len(request.more_cameras) + 1)}"
    if settings.needs is not None:  # for a video
        count = len(frames.frame_numbers if seen is None else seen.frame_numbers)
        values = {"model": spec.title, "count": count, "size": f"{model_size[0]} × {model_size[1]}"}
        if is_model_size:
            return f"{made} {tr('{model} paints them and reads the prompt.', **values)}"
        return f"{made} {tr('{model} paints {count} frames of {size} and reads the prompt.', **values)}"
    if settings.image_model:
        name = settings.image_model
        return f"{made} {tr('{model} paints the first frame from the prompt, the others follow it.', model=name)}"
    if request.needs_first_frame:
        return f"{made} {tr('{model} paints the first frame from the prompt, the others follow it.', model=spec.title)}"
    if request.keys:
        count = len(request.keys) + (request.first_frame != "none")
        if count == 1:
            frame = f"{request.keys[0][0]:g}"
            text = tr(
                "All follow the picture of frame {frame}. No model is used, and the prompt is not read.", frame=frame
            )
            return f"{made} {text}"
        return f"{made} {tr('All follow {count} pictures. No model is used, and the prompt is not read.', count=count)}"
    return f"{made} {tr('All follow the first frame. No model is used, and the prompt is not read.')}"


def estimate_text(estimate: Estimate | None) -> str:
    """Return a sentence about how long a job takes, by earlier jobs."""
    if estimate is None:
        return tr("Duration unknown: no job of this kind was done on this computer yet.")
    time = duration_text(estimate.seconds)
    if estimate.is_of_scene:
        return tr("Takes about {time}, as earlier jobs of this scene did.", time=time)
    return tr("Takes about {time}, as jobs of other scenes did.", time=time)


_INPUTS = {
    "tracking": "tracking video",
    "layout": "gray clay renders",
    "depth": "depth",
    "tracks": "tracks of points",
    "render": "render",
    "footage": "footage",
    "first-frame": "first frame",
    "key-pictures": "key pictures",
    "references": "reference",
    "masks": "masks",
    "prompt": "prompt",
}


def model_text(spec: ModelSpec) -> str:
    """Return sentences about what a video model follows, uses and needs, and what it may be used for."""

    def names(inputs: Iterable[str]) -> str:
        return ", ".join(tr(_INPUTS[name]) for name in inputs)

    text = tr("Follows: {controls}. Uses: {inputs}.", controls=names(spec.controls), inputs=names(spec.inputs))
    if spec.needs:
        text += " " + tr("Needs: {inputs}.", inputs=names(spec.needs))
    if not spec.reads_prompt:
        text += " " + tr("The prompt is not read.")
    return f"{text} {spec.use}" if spec.use else text


def memory_text(preset: MemoryPreset) -> str:
    """Return a sentence about how a model is run in less memory, and what that costs."""
    pattern = "{effect}: a job takes about {factor} times as long, and pictures differ slightly."
    return tr(pattern, effect=tr(preset.effect), factor=f"{preset.duration:g}")


def _aspect(size: SizeFit) -> float:
    return size.size[0] * size.pixel_aspect[0] / (size.size[1] * size.pixel_aspect[1])


def frame_map_text(frame_map: FrameMap) -> str:
    """Return a sentence about which scene frames a model's frames show."""
    patterns = {
        "exact": "All {requested} frames from {start} to {end}.",
        "choose": "The first {count} of {requested} frames, up to frame {last}.",
        "step": "{count} of {requested} frames with a step of {step}, up to frame {last}.",
        "resample": "{count} frames, spread evenly over frames {start} to {end} with a step of about {step}.",
    }
    numbers = frame_map.frame_numbers
    first, last = numbers[0], numbers[len(numbers) - 1]
    step = (last - first) / (len(numbers) - 1) if len(numbers) > 1 else frame_map.step
    return tr(
        patterns[frame_map.rule],
        count=len(numbers),
        requested=frame_map.requested,
        start=f"{frame_map.start:g}",
        end=f"{frame_map.end:g}",
        last=f"{last:g}",
        step=f"{round(step, 2):g}",
    )
