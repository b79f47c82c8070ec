# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs of motion models: the motion of driving footage as joint rotations, and a figure that moves like that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trackshade.config import registry
from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.atomic_files import writing
from trackshade.core.errors import ModelError, ShotError
from trackshade.ipc import protocol as states
from trackshade.motion.bvh import JointMotion, write_bvh
from trackshade.motion.camera_words import angles_of_path
from trackshade.motion.driving_shot import FIGURE
from trackshade.motion.retargeting import motion_of_rotations
from trackshade.results.frames import FrameWriter, write_png
from trackshade.results.motion_sheet import draw_skeleton
from trackshade.results.sheets import contact_sheet
from trackshade.results.video import write_video
from trackshade.results.write import write_record
from trackshade.server.job import Reporter, encode_preview, timed
from trackshade.server.job_inputs import JobInputs
from trackshade.shot import Shot

if TYPE_CHECKING:
    from trackshade.pipelines.motion import MotionPipeline
    from trackshade.server.models import Models

MOTION_FILE = "motion.bvh"


def run_motion(
    shot: Shot, inputs: JobInputs, settings: ShadeSettings, models: Models, folder: Path, reporter: Reporter
) -> dict[str, Any]:
    """Write the result of a motion job.

        motion.bvh          the joint rotations of the driving footage
        driving.mp4         the crops around the figure that the model has seen
        sheet.png           these, the skeleton, and the result below each other
        frames/, video.mp4  the figure of the reference in that motion, if there is a reference
        first_frame.png     the reference
        job.json            the record

    Args:
        shot: the camera around the figure; see `trackshade.motion.driving_shot`.
        inputs: the driving frames as the input render, and the reference as the first frame, or None.
        settings: the settings.
        models: the models of the worker.
        folder: folder to write to.
        reporter: receives progress and tells of a cancel.

    Returns:
        The record.

    Raises:
        ShotError: there are no driving frames, or the shot has no figure.
        ModelError: the model cannot be loaded, or takes another size.
        OutputError: the result cannot be written.
        CancelledError: the job was cancelled.
    """
    from trackshade.models.checkpoint import digest

    timings: dict[str, float] = {}
    spec = registry.motion_spec(settings.model)
    driving, reference = _check_inputs(shot, inputs)
    with timed(timings, "load"):
        pipeline = models.load_motion(spec, reporter.report)
    if pipeline.frame_size != shot.size:
        raise ModelError(
            "other-size",
            f"{spec.name} takes pictures of {pipeline.frame_size[0]} × {pipeline.frame_size[1]} pixels, not of "
            f"{shot.size[0]} × {shot.size[1]}.",
            "Use the same version of Trackshade on both machines.",
        )
    reporter.report(states.RUNNING, "Reading the motion")
    with timed(timings, "motion"):
        tokens = pipeline.encode_motion(driving.astype(np.float32) / 255)
        motion = motion_of_rotations(pipeline.joint_rotations(tokens), shot.fps)
    reporter.check()
    frames = None
    if reference is not None:
        with timed(timings, "shade"):
            frames = _generate(pipeline, shot, reference, tokens, settings, spec, reporter)
    reporter.report(states.DECODING, "Writing the result")
    files = _write(folder, shot, driving, motion, reference, frames)
    return write_record(
        folder,
        files,
        {"motion": {"file": MOTION_FILE, "has_frames": frames is not None}},
        shot=shot,
        settings=settings,
        spec=spec,
        timings=timings,
        warnings=shot.warnings,
        model_digests={spec.name: digest(registry.model_folder(spec))},
        propagation=None,
    )


def _check_inputs(shot: Shot, inputs: JobInputs) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the driving frames [T, H, W, 3] and the reference [H, W, 3] or None. Raise ShotError."""
    count, (width, height) = len(shot.frame_numbers), shot.size
    if inputs.input_render is None or inputs.input_render.shape != (count, height, width, 3):
        raise ShotError(
            "no-driving-frames", f"The job needs {count} driving frames of {width} × {height} pixels.",
            "Send them with it.",
        )  # fmt: skip
    if inputs.first_frame is not None and inputs.first_frame.shape != (height, width, 3):
        raise ShotError("bad-image", f"The reference is not of {width} × {height} pixels.")
    if not any(item.name == FIGURE for item in shot.objects):
        raise ShotError("no-driving-frames", "The shot of the job has no figure.", "Send one with it.")
    return np.stack([inputs.input_render[t] for t in range(count)]), inputs.first_frame


def _generate(
    pipeline: MotionPipeline,
    shot: Shot,
    reference: np.ndarray,
    tokens: np.ndarray,
    settings: ShadeSettings,
    spec: ModelSpec,
    reporter: Reporter,
) -> np.ndarray:
    """Return the frames of the figure in the motion of tokens, [T, H, W, 3] uint8."""
    figure = next(item.matrix_world for item in shot.objects if item.name == FIGURE)
    angles = angles_of_path(shot.camera.world_to_camera, figure[:, :3, 3], figure[:, :3, :3])
    azimuths = angles.azimuths
    if settings.azimuths_from == "front":
        azimuths = azimuths - pipeline.facing(reference)

    def on_progress(done: int, total: int) -> None:
        reporter.report(states.RUNNING, "Moving the figure", step=done, steps=total)

    steps = spec.steps if settings.steps is None else settings.steps
    frames = pipeline(reference, tokens, azimuths, angles.elevations, settings.seed, steps, on_progress)
    reporter.report(states.RUNNING, "Moving the figure", encode_preview(frames[0]))
    return frames


def _write(
    folder: Path,
    shot: Shot,
    driving: np.ndarray,
    motion: JointMotion,
    reference: np.ndarray | None,
    frames: np.ndarray | None,
) -> list[str]:
    """Write the files of a result but its record; return their names."""
    files = [MOTION_FILE, "driving.mp4", "sheet.png"]
    skeleton = np.stack([draw_skeleton(motion, t, shot.size) for t in range(len(driving))])
    rows = [("driving", driving), ("motion", skeleton)]
    with writing("The result", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_bvh(folder / MOTION_FILE, motion)
        write_video(folder / "driving.mp4", driving, shot.fps)
        if reference is not None and frames is not None:
            write_png(folder / "first_frame.png", reference)
            with FrameWriter(folder, shot.size, shot.fps) as writer:
                for frame in frames:
                    writer.add(frame)
            rows.append(("result", frames))
            files += ["frames", "video.mp4", "first_frame.png"]
        contact_sheet(rows, shot.frame_numbers.tolist()).save(folder / "sheet.png")
    return files
