# SPDX-License-Identifier: GPL-3.0-or-later
"""What a video model is given of a job: the clip that it follows, pictures, and tracks, at its size and frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.control.clips import depth_clip, drawn_layout_clip, rendered_layout_clip
from trackshade.control.tracks import sample_tracks
from trackshade.core.errors import ShotError, UsageError
from trackshade.ipc import protocol as states
from trackshade.server.propagate import light_of

if TYPE_CHECKING:
    from trackshade.pipelines.families.family import ModelInputs
    from trackshade.server.job import JobRun

_WHAT = {"layout": "Drawing the layout", "depth": "Drawing the depth", "tracks": "Tracking points"}


def check_model(spec: ModelSpec, settings: ShadeSettings, has_first_frame: bool) -> None:
    """Check that a model can make frames with the settings of a job, before it is loaded.

    Raises:
        ShotError: It needs a first frame and there is none.
        UsageError: It does not follow the clip that is set, or has another number of steps.
    """
    spec.control_for(settings.control_clip)
    if "first-frame" in spec.needs and not has_first_frame:
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


def describe_inputs(run: JobRun, has_first_frame: bool) -> dict[str, Any]:
    """Return plain values about what the model of a job is given, for the record."""
    control = run.spec.control_for(run.settings.control_clip)
    is_rendered = control == "layout" and run.inputs.light is not None
    return {
        "control": control,
        "source": "clay renders" if is_rendered else "drawn",
        "pictures": ([0] if has_first_frame else []) + sorted(_picture_frames(run).values()),
        "references": len(run.inputs.references) if "references" in run.spec.inputs else 0,
    }


def collect_inputs(run: JobRun, first_frame: np.ndarray | None) -> ModelInputs:
    """Return what the model of a job is given.

    Args:
        run: The job, or the part of it that is about one camera.
        first_frame: [h, w, 3] uint8 sRGB of the model's size, or None.

    Raises:
        ShotError: A clay render cannot be used, or the first frame shows no surface to track.
    """
    from trackshade.pipelines.families.family import ModelInputs

    control = run.spec.control_for(run.settings.control_clip)
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
