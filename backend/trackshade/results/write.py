# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a job's result into a new folder, which the caller renames when it is complete."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np

from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import SHOWN_FRAMES, ShadeSettings
from trackshade.results.cells.views import views_from_buffers
from trackshade.results.consistency import measure
from trackshade.results.frames import FrameWriter, unwritable, write_png
from trackshade.results.overview import Overview
from trackshade.results.record import Images, format_json, job_record
from trackshade.results.sheets import consistency_figure, contact_sheet
from trackshade.results.video import write_video
from trackshade.shot import Shot

if TYPE_CHECKING:
    from trackshade.control.video import TrackingVideo

_PASSES = ("depth", "object_index")  # of the tracking video, written for a job that asked for it only


def write_result(
    folder: Path,
    *,
    frames: np.ndarray | Overview,  # [T, H, W, 3] uint8 sRGB
    tracking: TrackingVideo,
    shot: Shot,
    settings: ShadeSettings,
    spec: ModelSpec,
    first_frame: np.ndarray | None,  # [H, W, 3] uint8 sRGB
    input_render: Images | None,  # [T, H, W, 3] uint8 sRGB
    timings: Mapping[str, float],
    warnings: Sequence[str],
    model_digests: Mapping[str, str],
    model_fit: Mapping[str, Any] | None = None,
    propagation: Mapping[str, Any] | None = None,
    more_files: Sequence[str] = (),
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
        frames: the shaded video, a frame for each sample of the shot; or the overview of frames that a `FrameWriter`
            has written to the folder.
        tracking: the tracking video, at the model's frames and size.
        shot: the shot of the frames.
        settings: the job's settings.
        spec: the model.
        first_frame: the first frame that was given.
        input_render: the scene's own render.
        timings: seconds by name.
        warnings: sentences for the record.
        model_digests: digests of the model's weights, by component.
        model_fit: how the shot was fitted to the model, for the record.
        propagation: what was propagated to all frames, for the record.
        more_files: files of the folder that were written before, for the record.

    Returns:
        The record, the content of `job.json`.

    Raises:
        OutputError: the folder cannot be written, or its disk is full.
        ValueError: images have another shape or type than the shot's.
    """
    shape = (len(shot.frame_numbers), shot.size[1], shot.size[0], 3)
    if isinstance(frames, np.ndarray):
        _check("frames", frames, shape)
    _check("tracking", tracking.frames, (len(tracking.shot.frame_numbers), *tracking.shot.size[::-1], 3))
    _check("first_frame", first_frame, shape[1:])
    if input_render is not None and tuple(input_render.shape) != shape:
        raise ValueError(f"input_render must be {list(shape)}, not {list(input_render.shape)}")
    try:
        folder.mkdir(exist_ok=True)
        if isinstance(frames, Overview):
            overview = frames
        else:
            overview = _write_frames(folder, shot, settings, tracking, frames)
        render = None
        if input_render is not None:
            render = overview.empty()
            for t in range(shape[0]):
                write_png(_numbered(folder / "input", t), image := input_render[t])
                overview.add(t, image, render)
        _write_tracking(folder, tracking, settings)
        if first_frame is not None:
            write_png(folder / "first_frame.png", first_frame)
        shown = overview.tracking(tracking)
        rows = [("tracking", shown.frames), ("result", overview.frames)]
        rows += [] if render is None else [("input", render)]
        contact_sheet(rows, overview.shot.frame_numbers.tolist()).save(folder / "sheet.png")
        if settings.output == "video":
            views = views_from_buffers(overview.shot, shown.depth, shown.object_index)
            figure = consistency_figure(views, overview.frames, os.cpu_count() or 1)
            figure.save(folder / "consistency.png")
        shot.save(folder / "tracks.shot", force=True)
        record = job_record(
            shot,
            settings,
            spec,
            first_frame=first_frame,
            input_render=input_render,
            nearest=_least_depth(tracking.depth),
            consistency=measure(overview.shot, shown, overview.frames, render),
            files=[*_files(settings, first_frame is not None, input_render is not None), *more_files, "job.json"],
            timings=timings,
            warnings=warnings,
            model_digests=model_digests,
            model_fit=model_fit,
            propagation=propagation,
        )
        (folder / "job.json").write_text(format_json(record) + "\n", encoding="utf-8")
    except (OSError, av.error.FFmpegError) as error:
        raise unwritable(folder, error) from error
    return record


def write_record(
    folder: Path,
    files: Sequence[str],
    more: Mapping[str, Any],
    *,
    shot: Shot,
    settings: ShadeSettings,
    spec: ModelSpec,
    timings: Mapping[str, float],
    warnings: Sequence[str],
    model_digests: Mapping[str, str],
    propagation: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write the record of a result that is not one video: pictures of single frames, or results of several cameras.

    Args:
        folder: the result.
        files: files and folders of the result beside `job.json`.
        more: plain values that the record has besides.
        shot: the whole shot.
        settings: as in `write_result`.
        spec: as in `write_result`.
        timings: as in `write_result`.
        warnings: as in `write_result`.
        model_digests: as in `write_result`.
        propagation: as in `write_result`.

    Returns:
        The record.

    Raises:
        OutputError: the record cannot be written.
    """
    record = job_record(
        shot,
        settings,
        spec,
        first_frame=None,
        input_render=None,
        nearest=None,
        consistency=None,
        files=[*files, "job.json"],
        timings=timings,
        warnings=warnings,
        model_digests=model_digests,
        model_fit=None,
        propagation=propagation,
    )
    record |= more
    try:
        (folder / "job.json").write_text(format_json(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise unwritable(folder, error) from error
    return record


def _files(settings: ShadeSettings, has_first_frame: bool, has_input_render: bool) -> list[str]:
    is_video = settings.output == "video"
    files = ["frames", "tracking", "video.mp4", "tracking.mp4", "sheet.png"]
    files += [SHOWN_FRAMES] if is_video and settings.image_format == "exr" else []
    files += ["input"] if has_input_render else []
    files += ["first_frame.png"] if has_first_frame else []
    files += ["consistency.png"] if is_video else [f"{name}.npy" for name in _PASSES]
    return [*files, "tracks.shot"]


def _write_frames(
    folder: Path, shot: Shot, settings: ShadeSettings, tracking: TrackingVideo, frames: np.ndarray
) -> Overview:
    overview, is_video = Overview(shot), settings.output == "video"
    holdout = np.array([mesh.holdout for mesh in shot.meshes] + [True])  # the last entry is label -1, nothing
    image_format, alpha = (settings.image_format, settings.alpha) if is_video else ("png", False)
    with FrameWriter(
        folder, shot.size, shot.fps, image_format=image_format, alpha=alpha, on_frame=overview.add
    ) as writer:
        for t, frame in enumerate(frames):
            writer.add(frame, (~holdout[tracking.object_index[t]]).astype(np.float32) if alpha else None)
    return overview


def _write_tracking(folder: Path, tracking: TrackingVideo, settings: ShadeSettings) -> None:
    for t, frame in enumerate(tracking.frames):
        write_png(_numbered(folder / "tracking", t), frame)
    write_video(folder / "tracking.mp4", tracking.frames, tracking.shot.fps)
    for name in _PASSES if settings.output == "tracking" else ():
        np.save(folder / f"{name}.npy", getattr(tracking, name), allow_pickle=False)


def _numbered(folder: Path, t: int) -> Path:
    return folder / f"{t + 1:04d}.png"


def _least_depth(depth: np.ndarray) -> float | None:
    """Return the least depth of [T, H, W], metres, or None if nothing is visible."""
    least = float(depth.min())
    return least if np.isfinite(least) else None


def _check(name: str, array: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if array is not None and (array.dtype != np.uint8 or array.shape != shape):
        raise ValueError(f"{name} must be uint8 {list(shape)}, not {array.dtype} {list(array.shape)}")
