# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a job's result into a new folder, which the caller renames when it is complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np
from PIL import Image

from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import OutputError
from trackshade.results.consistency import measure
from trackshade.results.record import format_json, job_record
from trackshade.results.sheets import consistency_figure, contact_sheet
from trackshade.results.texture.views import views_from_buffers
from trackshade.results.video import write_video
from trackshade.shot import Shot

if TYPE_CHECKING:
    from trackshade.control.video import TrackingVideo


def write_result(
    folder: Path,
    *,
    frames: np.ndarray,  # [T, H, W, 3] uint8 sRGB
    tracking: TrackingVideo,
    shot: Shot,
    settings: ShadeSettings,
    spec: ModelSpec,
    first_frame: np.ndarray | None,  # [H, W, 3] uint8 sRGB
    input_render: np.ndarray | None,  # [T, H, W, 3] uint8 sRGB
    timings: Mapping[str, float],
    warnings: Sequence[str],
    model_digests: Mapping[str, str],
) -> dict[str, Any]:
    """Write all files of a result.

        frames/0001.png …   the shaded video, exact            video.mp4      the same, for viewing
        tracking/0001.png … the tracking video, exact          tracking.mp4   the same, for viewing
        first_frame.png     the given first frame              sheet.png      both, side by side
        input/0001.png …    the input render, if one was given
        depth.npy, object_index.npy   as in `TrackingVideo`, for a job that asked for the tracking video only
        tracks.shot         the shot, with which the frames are projected onto its surfaces
        consistency.png     how much the colors of surfaces vary through time, for a shaded job
        job.json            the record, written last

    Equal input makes equal files, except for timings and versions.

    Args:
        folder: exists, or its parent does; the caller renames it afterwards, or removes it if this raises.
        frames: the shaded video, a frame for each sample of the shot.
        tracking: the tracking video, of the same size.
        shot: the shot.
        settings: the job's settings.
        spec: the model.
        first_frame: the first frame that was given.
        input_render: the scene's own render.
        timings: seconds by name.
        warnings: sentences for the record.
        model_digests: digests of the model's weights, by component.

    Returns:
        The record, the content of `job.json`.

    Raises:
        OutputError: the folder cannot be written, or its disk is full.
        ValueError: images have another shape or type than the shot's.
    """
    shape = (len(shot.frame_numbers), shot.size[1], shot.size[0], 3)
    _check("frames", frames, shape)
    _check("tracking", tracking.frames, shape)
    _check("first_frame", first_frame, shape[1:])
    _check("input_render", input_render, shape)
    rows = [("tracking", tracking.frames), ("result", frames)]
    if input_render is not None:
        rows.append(("input", input_render))
    files = ["frames", "tracking", "video.mp4", "tracking.mp4", "sheet.png"]
    files += [] if input_render is None else ["input"]
    files += [] if first_frame is None else ["first_frame.png"]
    passes = {} if settings.output == "video" else {"depth": tracking.depth, "object_index": tracking.object_index}
    files += [f"{name}.npy" for name in passes]
    files += ["consistency.png"] if settings.output == "video" else []
    files += ["tracks.shot"]
    record = job_record(
        shot,
        settings,
        spec,
        first_frame=first_frame,
        input_render=input_render,
        nearest=_least_depth(tracking.depth),
        consistency=measure(shot, tracking, frames, input_render),
        files=[*files, "job.json"],
        timings=timings,
        warnings=warnings,
        model_digests=model_digests,
    )
    try:
        folder.mkdir(exist_ok=True)
        _write_sequence(folder / "frames", frames)
        _write_sequence(folder / "tracking", tracking.frames)
        if input_render is not None:
            _write_sequence(folder / "input", input_render)
        write_video(folder / "video.mp4", frames, shot.fps)
        write_video(folder / "tracking.mp4", tracking.frames, shot.fps)
        contact_sheet(rows, shot.frame_numbers.tolist()).save(folder / "sheet.png")
        if first_frame is not None:
            _save(folder / "first_frame.png", first_frame)
        if settings.output == "video":
            views = views_from_buffers(shot, tracking.depth, tracking.object_index)
            consistency_figure(views, frames, os.cpu_count() or 1).save(folder / "consistency.png")
        shot.save(folder / "tracks.shot")
        for name, values in passes.items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)
        (folder / "job.json").write_text(format_json(record) + "\n", encoding="utf-8")
    except (OSError, av.error.FFmpegError) as error:
        raise _unwritable(folder, error) from error
    return record


def _least_depth(depth: np.ndarray) -> float | None:
    """Return the least depth of [T, H, W], metres, or None if nothing is visible."""
    least = float(depth.min())
    return least if np.isfinite(least) else None


def _write_sequence(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(frames, start=1):
        _save(folder / f"{number:04d}.png", frame)


def _save(path: Path, picture: np.ndarray) -> None:
    Image.fromarray(np.ascontiguousarray(picture)).save(path)


def _check(name: str, array: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if array is not None and (array.dtype != np.uint8 or array.shape != shape):
        raise ValueError(f"{name} must be uint8 {list(shape)}, not {array.dtype} {list(array.shape)}")


def _unwritable(folder: Path, error: Exception) -> OutputError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            "output-full", f"The disk of {folder} is full.", "Free some space, or choose another folder."
        )
    reason = getattr(error, "strerror", None) or error
    return OutputError(
        "output-unwritable",
        f"The result cannot be written to {folder}: {reason}.",
        "Choose a folder that can be written.",
    )
