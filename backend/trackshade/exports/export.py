# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a shot in one of `EXPORT_FORMATS`: fits it to what the system accepts, and writes the output in one step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.config.export_formats import EXPORT_FORMATS, ExportFormat
from trackshade.config.parsing import check_rate
from trackshade.control.tracks import sample_tracks
from trackshade.core.atomic_files import atomic_file, atomic_folder, is_occupied, require_suffix, writing
from trackshade.core.errors import OutputError, UsageError
from trackshade.core.images import write_png
from trackshade.exports import cameras, clips, exr, tracks
from trackshade.results.frames import read_frame
from trackshade.shot import Shot
from trackshade.shot.fitting import ShotFit, plan_fit, sample_shot

RECORD = "export.json"


@dataclass(frozen=True, eq=False)
class ExportSource:
    """What is exported.

    Attributes:
        shot: the shot, of any length and size.
        picture: [H, W, 3] uint8 sRGB picture of the first frame at the shot's size, or None.
        images: files of all frames' images, or none. With several cameras one for each sample of the unrolled shot,
            None for cells without one.
        light: [samples of the unrolled shot, h, w, 3] clay renders of all cells, linear, or None.
    """

    shot: Shot
    picture: np.ndarray | None = None
    images: Sequence[Path | None] = field(default=())
    light: np.ndarray | None = None


@dataclass(frozen=True)
class _Accepted:
    """What `plan_fit` needs to know of a system."""

    name: str
    allowed_frame_counts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]


def export_shot(
    source: ExportSource,
    name: str,
    out: Path,
    *,
    points: int | None = None,
    frame_rule: str = "auto",
    size_mode: str = "pad",
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    force: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write a shot for another system.

    Args:
        source: the shot and its pictures.
        name: one of `EXPORT_FORMATS`.
        out: file or folder to write; it appears when it is complete.
        points: number of points that are tracked; the format's default if None.
        frame_rule: one of `FRAME_RULES`.
        size_mode: "pad" or "crop".
        size: (width, height) of the output, pixels; None for the nearest that the format has.
        fps: frame rate to which the shot is resampled first, such as that of a model; None to keep its own.
        force: whether an earlier export at `out` is replaced.
        report: called as report(done, total) after every frame; what it raises ends the export.

    Returns:
        The record: format, files, frames, size, rate, and how the shot was fitted.

    Raises:
        UsageError: there is no such format, size or number of points.
        ShotError: the shot cannot be fitted, shows nothing to track, or has a camera that the format cannot express.
        OutputError: the output exists or cannot be written.
    """
    if name not in EXPORT_FORMATS:
        raise UsageError("bad-format", f"There is no export format '{name}'.", f"Use {', '.join(EXPORT_FORMATS)}.")
    form = EXPORT_FORMATS[name]
    if points is not None and points < 1:
        raise UsageError("no-points", f"{points} tracking points were asked for.", "Ask for one or more.")
    if points is not None and not form.points:
        raise UsageError("usage", f"The format {name} has no tracked points.", "Leave --points out.")
    check_export(out, form, force)
    source.shot.check_values()
    timed = source.shot if fps is None else retime(source.shot, fps)
    fit = fit_to_format(timed, name, frame_rule=frame_rule, size_mode=size_mode, size=size)
    shot = fit.apply(timed)
    if form.images == "needed" and not source.images:
        raise UsageError(
            "no-images", f"The format {name} needs images of all frames.", "Name their folder with --images."
        )
    if source.images and not np.array_equal(shot.frame_numbers, source.shot.frame_numbers):
        raise UsageError("usage", "Images of all frames belong to formats that keep all frames.")
    picture = None if source.picture is None or not form.uses_picture else fit.fit_image(source.picture)
    total = len(shot.frame_numbers)
    record = {
        "format": name,
        "frame_numbers": shot.frame_numbers.tolist(),
        "fps": float(shot.fps),
        "size": list(shot.size),
        "fit": {"frame_map": fit.frame_map.statement, "size_fit": fit.size_fit.statement},
        "source": {key: value for key, value in shot.source.items() if key in ("file", "scene")},
        "warnings": _warnings(name, source),
    }

    def step(done: int) -> None:
        report(done, total)

    with writing("The export", out):
        if form.file_suffix:
            with atomic_file(out) as file:
                if form.images == "needed":
                    _write_surfaces(shot, name, file, source, points or form.points, step)
                else:
                    arrays = _arrays(shot, name, points or form.points, step)
                    np.savez_compressed(file, allow_pickle=False, **arrays)
            return {**record, "files": {name: str(out)}}
        with atomic_folder(out) as folder:
            _write_folder(shot, name, folder, picture, source, points or form.points, step)
            if picture is not None:
                write_png(folder / "first_frame.png", picture)
            files = sorted(path.name for path in folder.iterdir())
            (folder / RECORD).write_text(json.dumps({**record, "files": files}, indent=1), encoding="utf-8")
    return {**record, "files": {Path(file).stem: str(out / file) for file in files}}


def retime(shot: Shot, fps: float) -> Shot:
    """Return a shot of the same duration at another frame rate; states between two frames are interpolated.

    Raises:
        UsageError: the rate is not above 0, or too high.
    """
    check_rate(fps)
    count = len(shot.frame_numbers)
    wanted = 1 + round((count - 1) * fps / shot.fps)
    if wanted == count and math.isclose(fps, shot.fps):
        return shot
    places = np.minimum(np.arange(wanted) * (shot.fps / fps), count - 1)
    near = np.rint(places)
    return sample_shot(shot, np.where(np.abs(places - near) < 1e-6, near, places), fps=fps)


def fit_to_format(
    shot: Shot, name: str, *, frame_rule: str = "auto", size_mode: str = "pad", size: tuple[int, int] | None = None
) -> ShotFit:
    """Decide which frames of a shot a format has, and at what size; see `plan_fit`.

    Raises:
        UsageError: the format does not have the size.
        ShotError: as raised by `plan_fit`.
    """
    form = EXPORT_FORMATS[name]
    sizes = form.sizes or ((size or _own_size(shot, form)),)
    if size is not None and not form.sizes:
        step, (longer, shorter) = form.size_step, form.largest
        if min(size) < 1 or any(side % step for side in size) or max(size) > longer or min(size) > shorter:
            raise UsageError(
                "bad-size",
                f"The format {name} has no size {size[0]}×{size[1]}.",
                f"Use multiples of {step}, up to {longer}×{shorter}.",
            )
    counts = form.allowed_frame_counts or (len(shot.frame_numbers),)
    accepted = _Accepted(name, counts, sizes)
    return plan_fit(shot, accepted, frame_rule=frame_rule, size_mode=size_mode, size=size)


def check_export(out: Path, form: ExportFormat, force: bool) -> None:
    """Check where an export is written.

    Raises:
        UsageError: the file has another suffix than the format.
        OutputError: it is taken; with `force`, only if it is no earlier export.
    """
    if form.file_suffix:
        require_suffix(out, form.file_suffix)
    with writing("The export", out):
        taken = out.exists() if form.file_suffix else is_occupied(out)
    if taken and not force:
        raise OutputError("output-exists", f"{out} exists and was kept.", "Choose another --out, or use --force.")
    if taken and (out.is_dir() if form.file_suffix else not (out / RECORD).is_file()):
        raise OutputError(
            "output-not-ours",
            f"{out} holds something else than an export, and was kept in spite of --force.",
            "Choose another --out.",
        )


def _own_size(shot: Shot, form: ExportFormat) -> tuple[int, int]:
    """Return the shot's size, made smaller if it is too large, in steps that the format has."""
    longer, shorter = form.largest
    scale = min(1.0, longer / max(shot.size), shorter / min(shot.size))
    step = form.size_step
    width, height = (max(step, round(side * scale / step) * step) for side in shot.size)
    return min(width, longer), min(height, longer)


def _write_folder(
    shot: Shot,
    name: str,
    folder: Path,
    picture: np.ndarray | None,
    source: ExportSource,
    points: int,
    step: Callable[[int], None],
) -> None:
    if name == "wan-move":
        tracks.write_wan_move(sample_tracks(shot, points, step), folder)
    elif name == "ati":
        tracks.write_ati(sample_tracks(shot, points, step), folder)
    elif name == "vace":
        clips.write_vace(shot, folder, picture, step)
    elif name == "ltx":
        clips.write_ltx(shot, folder, points, step)
    elif name == "exr":
        exr.write_exr_passes(shot, folder, step)
        names = {number: mesh.name for number, mesh in enumerate(shot.meshes, 1)}
        (folder / "meshes.json").write_text(json.dumps(names, indent=1), encoding="utf-8")
    elif name == "mp4":
        clips.write_pass_videos(shot, folder, step)
    elif name == "nerfstudio":
        cameras.write_nerfstudio(shot, folder, source.images, points, read_frame, step)
    else:
        _write_surfaces(shot, name, folder, source, points, step)


def _write_surfaces(
    shot: Shot, name: str, out: Path, source: ExportSource, points: int, step: Callable[[int], None]
) -> None:
    from trackshade.exports.surfaces import write_surfaces  # not needed by the others, which are quicker to load

    write_surfaces(shot, name, out, source.images, source.light, points, step)


def _arrays(shot: Shot, name: str, points: int, step: Callable[[int], None]) -> dict[str, np.ndarray]:
    if name == "camera":
        return cameras.camera_arrays(shot)
    found = sample_tracks(shot, points, step)
    return {
        "frame_numbers": shot.frame_numbers,
        "fps": np.array(shot.fps),
        "size": np.array(shot.size),
        "world_to_camera": shot.camera.world_to_camera,
        "intrinsics": shot.camera.intrinsics,
        "orthographic": shot.camera.orthographic,
        "tracks": found.pixels.astype(np.float32),
        "visible": found.visible,
        "depth": found.depth.astype(np.float32),
        "world": found.world.astype(np.float32),
        "mesh": found.mesh,
        "mesh_names": np.array([mesh.name for mesh in shot.meshes]),
        "matrix_world": np.stack([mesh.matrix_world for mesh in shot.meshes]),
        "object_names": np.array([item.name for item in shot.objects]),
        "object_matrix_world": np.array([item.matrix_world for item in shot.objects]),
    }


def _warnings(name: str, source: ExportSource) -> list[str]:
    form, warnings = EXPORT_FORMATS[name], list(source.shot.warnings)
    if source.shot.more_cameras and not form.images:
        warnings.append(f"The format {name} has one camera: '{source.shot.camera.name}'.")
    if name == "nerfstudio":
        if not source.images:
            warnings.append("No images were given: render the frames to images/0001.png and so on.")
        if not source.shot.more_cameras and any(_moves(source.shot, index) for index in range(len(source.shot.meshes))):
            warnings.append("Meshes move during the shot, and nerfstudio's methods expect a scene that stands still.")
    if form.uses_picture and source.picture is None:
        warnings.append("There is no picture of the first frame; the model needs one that shows what it shows.")
    return warnings


def _moves(shot: Shot, mesh: int) -> bool:
    track = shot.meshes[mesh]
    deforms = bool(track.changes) or shot.geometries[track.geometry].deforms
    return deforms or not np.allclose(track.matrix_world, track.matrix_world[0], rtol=0, atol=1e-6)
