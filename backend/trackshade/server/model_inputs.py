# SPDX-License-Identifier: GPL-3.0-or-later
"""What a video model is given of a job: the clip that it follows, pictures, and tracks, at its size and frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.control.clips import depth_clip, drawn_layout_clip, rendered_layout_clip
from trackshade.control.tracks import sample_tracks
from trackshade.core.errors import ShotError, UsageError
from trackshade.ipc import protocol as states
from trackshade.server.propagate import light_of

if TYPE_CHECKING:
    from trackshade.pipelines.families.family import ModelInputs
    from trackshade.server.job import JobRun
    from trackshade.server.job_inputs import JobInputs

_WHAT = {
    "layout": "Drawing the layout",
    "depth": "Drawing the depth",
    "tracks": "Tracking points",
    "render": "Reading the renders",
    "footage": "Reading the footage",
}


def check_model(spec: ModelSpec, settings: ShadeSettings, inputs: JobInputs, has_first_frame: bool) -> None:
    """Check that a model can make frames with the settings of a job, before it is loaded.

    Raises:
        ShotError: It needs a first frame, renders or footage, and there are none.
        UsageError: It does not follow the clip that is set, or has another number of steps; or its frames are to be
            carried along the tracks of the scene and it follows footage.
    """
    control = settings.control_of(spec)
    if control == "render" and inputs.input_render is None:
        raise ShotError(
            "no-input-render",
            f"The model {spec.name} is to follow the scene's own render, and none was sent.",
            "Render the input, too, or have it follow the layout.",
        )
    if control == "footage" and not settings.footage:
        raise ShotError("no-footage", "There is no driving footage.", "Choose a video of a moving figure.")
    if control == "footage" and settings.output_size != "model":
        raise UsageError(
            "footage-not-carried",
            "What moves in footage is not where the scene's surfaces are, so its frames cannot be carried along them.",
            "Set the output size to the model's (--output-size model).",
        )
    has_character = has_first_frame or ("references" in spec.inputs and bool(inputs.references))
    if "first-frame" in spec.needs and not has_character:
        raise ShotError(
            "no-first-frame",
            f"The model {spec.name} needs a picture of the first frame.",
            "Render it, give one, or have an image model paint it.",
        )
    if spec.has_fixed_steps and settings.steps not in (None, spec.steps):
        raise UsageError(
            "bad-setting",
            f"The model {spec.name} has a noise schedule of {spec.steps} steps, and {settings.steps} were asked for.",
            "Leave out the number of steps.",
        )


def unused_settings(run: JobRun, has_video: bool) -> list[str]:
    """Return sentences about settings of the video model that were given and had no effect.

    Args:
        run: The job.
        has_video: Whether the video model has made pictures.
    """
    settings, references = run.settings, run.inputs.references
    if has_video:
        is_unused = references and "references" not in run.spec.inputs
        return [f"The reference pictures had no effect: {run.spec.title} uses none."] if is_unused else []
    given = {
        "reference pictures": bool(references),
        "footage": bool(settings.footage),
        "LoRA files of the video model": bool(settings.video_loras),
        "what the video model follows": settings.control_clip != "auto",
        "cache": settings.cache > 0 or settings.cache_method != "first-block",
        "quantization": settings.quantize != "none",
        "compilation": settings.compile,
    }
    names = [name for name, is_given in given.items() if is_given]
    if not names:
        return []
    return [f"No video model was run: the given pictures alone were carried. Without effect were: {', '.join(names)}."]


def describe_inputs(run: JobRun, has_first_frame: bool) -> dict[str, Any]:
    """Return plain values about what the model of a job is given, for the record."""
    control = run.settings.control_of(run.spec)
    is_rendered = control == "layout" and run.inputs.light is not None
    return {
        "control": control,
        "source": {"render": "renders", "footage": Path(run.settings.footage).name}.get(
            control, "clay renders" if is_rendered else "drawn"
        ),
        "pictures": ([0] if has_first_frame else []) + sorted(_picture_frames(run).values()),
        "references": len(run.inputs.references) if "references" in run.spec.inputs else 0,
    }


def collect_inputs(run: JobRun, first_frame: np.ndarray | None) -> ModelInputs:
    """Return what the model of a job is given.

    Args:
        run: The job, or the part of it that is about one camera.
        first_frame: [h, w, 3] uint8 sRGB of the model's size, or None.

    Raises:
        ShotError: A clay render or the footage cannot be used, or the first frame shows no surface to track.
    """
    from trackshade.pipelines.families.family import ModelInputs

    control = run.settings.control_of(run.spec)
    shot, report = run.tracking.shot, run.reporter
    pictures = {} if first_frame is None else {0: first_frame}
    pictures |= {frame: run.fit.fit_image(run.inputs.keys[cell]) for cell, frame in _picture_frames(run).items()}
    clip, tracks = None, None
    if control != "tracking":
        report.report(states.LOADING, _WHAT[control])
    progress = _progress(run, control)
    if control == "tracking":
        clip = run.tracking.frames
    elif control == "depth":
        clip = depth_clip(shot, progress)
    elif control == "tracks":
        tracks = sample_tracks(shot, run.settings.points, progress)
    elif control == "render":
        clip = _renders(run)
    elif control == "footage":
        clip = _footage(run)
    elif run.inputs.light is None:
        clip = drawn_layout_clip(shot, progress)
    else:
        light = light_of(run.inputs.light, run.fit.positions, True, run.views)
        clip = rendered_layout_clip(shot, lambda t: light(t * run.views + run.view), run.fit.size_fit, progress)
    return ModelInputs(
        size=shot.size,
        num_frames=len(shot.frame_numbers),
        fps=float(shot.fps),
        clip=clip,
        control=control,
        tracks=tracks,
        pictures=pictures,
        references=run.inputs.references if "references" in run.spec.inputs else (),
    )


def _renders(run: JobRun) -> np.ndarray:
    """Return the scene's own renders nearest to the model's frames, at its size."""
    renders = run.inputs.input_render
    assert renders is not None
    nearest = np.rint(run.fit.positions).astype(int)
    return np.stack([run.fit.fit_image(renders[t * run.views + run.view]) for t in nearest])


def _footage(run: JobRun) -> np.ndarray:
    """Return the frames of the footage at the model's frame rate, [T, h, w, 3] uint8, not larger than its size.

    Raises:
        ShotError: There is no such video, it is damaged, or shorter than the shot.
        CancelledError: The job was cancelled.
    """
    from trackshade.tracking.footage import scan_video, take_frames

    path, shot = Path(run.settings.footage), run.tracking.shot
    if not path.is_file():  # and no address, which the decoder would open
        raise ShotError("missing-file", f"There is no file {path} on the backend's machine.", "Check the path.")

    def is_cancelled() -> bool:
        run.reporter.check()
        return False

    wanted = np.arange(len(shot.frame_numbers)) / float(shot.fps)
    scan = scan_video(path, 0.0, float(wanted[-1]) + 1.0, lambda share: None, is_cancelled)
    frame = float(np.median(np.diff(scan.times))) if len(scan.times) > 1 else 0.0
    if scan.times[-1] + frame < wanted[-1]:
        raise ShotError(
            "too-few-frames",
            f"{path.name} lasts {scan.times[-1] + frame:.2f} s, and the shot {wanted[-1]:.2f} s.",
            "Choose longer footage, or fewer frames of the scene.",
        )
    nearest = np.abs(scan.times[None] - wanted[:, None]).argmin(axis=1)
    return np.stack(list(take_frames(path, scan.times[nearest], shot.size, is_cancelled)))


def _picture_frames(run: JobRun) -> dict[int, int]:
    """Return the model's frame of each given picture that shows one after the first, by its cell.

    Models that take no key pictures keep none but the first.
    """
    if "key-pictures" not in run.spec.inputs:
        return {}
    frames = {float(position): t for t, position in enumerate(run.fit.positions) if position}
    cells = [cell for cell in run.inputs.keys if cell % run.views == run.view]
    return {cell: frames[cell // run.views] for cell in cells if float(cell // run.views) in frames}


def _progress(run: JobRun, control: str) -> Callable[[int], None]:
    count = run.fit.positions.size

    def progress(done: int) -> None:
        run.reporter.check()
        if done == count or done % 10 == 0:
            run.reporter.report(states.LOADING, f"{_WHAT[control]}, frame {done} of {count}")

    return progress
