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
from trackshade.motion.driving_shot import FIGURE, hands_seen
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
        sheet.png           these, the hands that are seen, the skeleton, and the result below each other
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
        ShotError: there are no driving frames, the shot has no figure, or the hands are not those of the frames.
        ModelError: the model cannot be loaded, or takes another size.
        OutputError: the result cannot be written.
        CancelledError: the job was cancelled.
    """
    from trackshade.models.checkpoint import digest

    timings: dict[str, float] = {}
    spec = registry.motion_spec(settings.model)
    driving, reference, hands = _check_inputs(shot, inputs)
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
        tokens = _read_tokens(pipeline, driving, hands)
        motion = motion_of_rotations(pipeline.joint_rotations(tokens), shot.fps)
    reporter.check()
    frames = None
    if reference is not None:
        with timed(timings, "shade"):
            frames = _generate(pipeline, shot, reference, tokens, settings, spec, reporter)
    reporter.report(states.DECODING, "Writing the result")
    files = _write(folder, shot, driving, hands, motion, reference, frames)
    return write_record(
        folder,
        files,
        {
            "motion": {
                "file": MOTION_FILE,
                "has_frames": frames is not None,
                "hands": 0.0 if hands is None else round(float(hands_seen(hands).mean()), 3),
            }
        },
        shot=shot,
        settings=settings,
        spec=spec,
        timings=timings,
        warnings=shot.warnings,
        model_digests={spec.name: digest(registry.model_folder(spec))},
        propagation=None,
    )


def _check_inputs(shot: Shot, inputs: JobInputs) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Return the driving frames [T, H, W, 3], and the reference [H, W, 3] and the hands [T, 2, h, h, 3], or None.

    Raises:
        ShotError: they are not of the shot's number of frames or size.
    """
    count, (width, height) = len(shot.frame_numbers), shot.size
    if inputs.input_render is None or inputs.input_render.shape != (count, height, width, 3):
        raise ShotError(
            "no-driving-frames", f"The job needs {count} driving frames of {width} × {height} pixels.",
            "Send them with it.",
        )  # fmt: skip
    if inputs.first_frame is not None and inputs.first_frame.shape != (height, width, 3):
        raise ShotError("bad-image", f"The reference is not of {width} × {height} pixels.")
    hands, size = None, 0
    if inputs.hands is not None:
        size = inputs.hands.shape[2]
        if inputs.hands.shape != (count, 2 * size, size, 3):
            raise ShotError(
                "bad-image",
                f"The crops of hands are {list(inputs.hands.shape)}, and the job needs [{count}, 2h, h, 3].",
                "Send two square ones for each driving frame.",
            )
        hands = inputs.hands.reshape(count, 2, size, size, 3)
    if not any(item.name == FIGURE for item in shot.objects):
        raise ShotError("no-driving-frames", "The shot of the job has no figure.", "Send one with it.")
    return np.stack([inputs.input_render[t] for t in range(count)]), inputs.first_frame, hands


def _read_tokens(pipeline: MotionPipeline, driving: np.ndarray, hands: np.ndarray | None) -> np.ndarray:
    """Return the motion tokens of driving frames, [T, K, C]."""
    frames = driving.astype(np.float32) / 255
    if hands is None:
        return pipeline.encode_motion(frames)
    return pipeline.encode_motion(frames, hands.astype(np.float32) / 255, hands_seen(hands))


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
    hands: np.ndarray | None,
    motion: JointMotion,
    reference: np.ndarray | None,
    frames: np.ndarray | None,
) -> list[str]:
    """Write the files of a result but its record; return their names."""
    files = [MOTION_FILE, "driving.mp4", "sheet.png"]
    skeleton = np.stack([draw_skeleton(motion, t, shot.size) for t in range(len(driving))])
    rows = [("driving", driving), ("motion", skeleton)]
    if hands is not None:
        rows.insert(1, ("hands", _below_each_other(hands, shot.size)))
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


def _below_each_other(hands: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return crops of hands [T, 2, h, h, 3] in frames of a (width, height): the left one above the right one."""
    pictures = np.zeros((len(hands), size[1], size[0], 3), np.uint8)
    side = min(size[0], size[1] // 2)
    for picture, pair in zip(pictures, hands, strict=True):
        for index, hand in enumerate(pair):
            rows = np.arange(side) * len(hand) // side  # the nearest pixels
            left = (size[0] - side) // 2
            picture[index * side : (index + 1) * side, left : left + side] = hand[rows[:, None], rows]
    return pictures
