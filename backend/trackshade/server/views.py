# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs whose shot has several cameras: one propagation for all of them, and a result for each.

    job.json             the record of the whole job; "cameras" names each camera's folder
    sheet.png            cameras down, frames across
    tracks.shot          the shot with all cameras
    CAMERA/              the result of one camera, as of a job of its own

All cameras share the key pictures, the fills of what none of them shows, and the light, so a surface point has the same
color in all of their frames, but for what a key picture of a camera shows from its own side.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trackshade.config.settings import ShadeSettings
from trackshade.control.video import tracking_video
from trackshade.core.errors import UsageError
from trackshade.ipc import protocol as states
from trackshade.propagation.measures import agreement, mesh_around
from trackshade.results.frames import unwritable
from trackshade.results.overview import Overview
from trackshade.results.record import Images
from trackshade.results.sheets import contact_sheet
from trackshade.results.write import write_record
from trackshade.server.job import JobRun, encode_preview, timed
from trackshade.server.key_pictures import check_keys, measure_coverage
from trackshade.server.model_inputs import unused_settings
from trackshade.server.model_parts import CameraParts
from trackshade.server.models import Models
from trackshade.server.propagate import KeyPictures, collect_keys, propagate
from trackshade.server.splats import FILE, write_splats
from trackshade.shot import Shot
from trackshade.shot.cameras import camera_file_names, through_camera, unroll_cameras

DISAGREES = 12.0  # levels (of 255) of median difference from which two key pictures do not show the same colors


@dataclass(frozen=True, eq=False)
class _CameraFrames:
    """The images of one camera among those of all cells."""

    images: Images
    views: int
    view: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape[0] // self.views, *self.images.shape[1:]

    def __getitem__(self, t: int, /) -> np.ndarray:
        return self.images[t * self.views + self.view]


def check_cameras(shot: Shot, settings: ShadeSettings) -> None:
    """Raise UsageError if a job cannot be done for several cameras."""
    if shot.more_cameras and settings.output not in ("video", "tracking"):
        raise UsageError(
            "one-camera-at-a-time",
            f"The output '{settings.output}' is made for one camera, and the shot has {len(shot.cameras)}.",
            "Name one camera.",
        )
    if not shot.more_cameras and settings.multiview_model:
        raise UsageError(
            "one-camera",
            "A multiview model samples several cameras, and the shot has one.",
            "Name more with --cameras.",
        )
    if shot.more_cameras and (settings.output_size == "model" and settings.output == "video"):
        raise UsageError(
            "cameras-at-full-size",
            "The frames of several cameras are made at the shot's own size, not at the model's.",
            "Use the output size 'full'.",
        )


def write_views(run: JobRun, models: Models) -> dict[str, Any]:
    """Write the results of all cameras of a job.

    Args:
        run: the job; its fit is that of all cameras.
        models: makes the key pictures of a video model.

    Returns:
        The record of the whole job.

    Raises:
        ModelError: the model cannot be loaded.
        OutputError: the result cannot be written.
        ShotError: the light cannot be used.
        UsageError: a picture has another aspect than the shot.
    """
    folders = [run.folder / name for name in camera_file_names(run.shot.cameras)]
    views = [_view_of(run, view, folder) for view, folder in enumerate(folders)]
    if run.settings.output == "tracking":
        records = [view.write(view.tracking.frames, view.tracking.shot, None, None, {}) for view in views]
        return _write_record(run, folders, records, None, [], {})
    warnings = compare_cameras(run.shot)
    keys, more, digests = _collect(run, views, models)
    warnings += [*more, *_compare_keys(keys, run.shot)]
    with timed(run.timings, "propagate"):
        light, reason = run.light(keys)
        overviews, propagation = propagate(
            run.shot, keys, light, run.settings, folders, run.work, run.report, encode_preview, run.device, run.spread
        )
    unseen = propagation.pop("unseen")
    with timed(run.timings, "coverage"):
        propagation["coverage"] = measure_coverage(keys, run.report_coverage, unseen)
    if light is not None and not propagation["relit"]:
        reason = "The light of the first key picture is not that of the light's render."
    propagation |= {"light": run.settings.light if propagation["relit"] else "none", "light_reason": reason}
    run.reporter.report(states.DECODING, "Writing the results")
    count = len(run.shot.frame_numbers)
    records = []
    for number, view in enumerate(views):
        first, render = _first_frame(run, number), run.inputs.input_render
        own_render = None if render is None else _CameraFrames(render, len(folders), number)
        own = {**propagation, "unseen": unseen[number * count : (number + 1) * count]}
        records.append(view.write(overviews[number], view.shot, first, own_render, digests, own))
    propagation["splats"] = write_splats(run, folders)
    return _write_record(run, folders, records, overviews, warnings, digests, propagation)


def compare_cameras(shot: Shot) -> list[str]:
    """Return sentences about cameras inside of meshes, and those that see nothing of what the first one sees."""
    cells, frame, first = unroll_cameras(shot), f"{shot.frame_numbers[0]:g}", shot.camera.name
    warnings = []
    for view, camera in enumerate(shot.cameras):
        mesh = mesh_around(cells, view)
        if mesh is not None:
            name = shot.meshes[mesh].name
            warnings.append(f"Camera '{camera.name}' sees only the inside of '{name}' at frame {frame}.")
    for view, camera in enumerate(shot.more_cameras, start=1):
        if agreement(cells, (view, None), (view, None)).share == 0:
            warnings.append(f"Camera '{camera.name}' sees no mesh at frame {frame}.")
        elif agreement(cells, (0, None), (view, None)).share == 0:
            warnings.append(
                f"Cameras '{first}' and '{camera.name}' see no surface in common at frame {frame}: nothing ties their "
                "pictures together."
            )
    return warnings


def _view_of(run: JobRun, view: int, folder: Path) -> JobRun:
    """Return the part of a job that is about one camera, with the tracking video of that camera."""
    shot = through_camera(run.shot, view)
    tracking = run.tracking
    if view:
        of_model = tracking.shot is not run.shot
        tracking = tracking_video(run.fit.apply(shot) if of_model else shot, needs_surface=False)
    return replace(run, shot=shot, tracking=tracking, folder=folder, view=view, views=len(run.shot.cameras))


def _collect(run: JobRun, views: Sequence[JobRun], models: Models) -> tuple[KeyPictures, list[str], dict[str, str]]:
    """Return the pictures that are propagated, sentences about them, and digests of the model's weights."""
    images: dict[int, np.ndarray] = {}
    digests: dict[str, str] = {}
    is_video = run.key_pictures == "video"
    if run.settings.multiview_model:
        firsts = {(view, 0): _first_frame(run, view) for view in range(len(views))}
        given = {cell: run.fit.fit_image(image) for cell, image in firsts.items() if image is not None}
        images = models.make_cells(run, given)
        keys = collect_keys(run.shot, run.fit, run.inputs.first_frame, run.inputs.keys, images, is_filling=False)
        return *check_keys(run, keys), digests
    if is_video or (run.inputs.first_frame is None and not run.inputs.keys):
        # A video model's frames share no latents with those of another camera: each camera has a run of its own, which
        # begins with the camera's picture of the first frame. Without one, only the first camera has pictures.
        firsts = {number: _first_frame(run, number) for number in range(len(views))}
        firsts = {number: first for number, first in firsts.items() if not number or first is not None}
        fitted = [None if first is None else run.fit.fit_image(first) for first in firsts.values()]
        runs = [views[number] for number in firsts]
        parts = CameraParts(models, list(zip(runs, fitted, strict=True)), still=not is_video)
        with closing(run.spread(parts)) as results:
            for index, (number, result) in enumerate(zip(firsts, results, strict=True)):
                images[number], digests = parts.take(index, result)
    keys = collect_keys(
        run.shot, run.fit, run.inputs.first_frame, run.inputs.keys, images, is_filling=run.spec.shows_surfaces
    )
    keys, warnings = check_keys(run, keys)
    return keys, [*warnings, *unused_settings(run, bool(images))], digests


def _first_frame(run: JobRun, view: int) -> np.ndarray | None:
    """Return the given picture of a camera's first sample at the shot's size, or None."""
    if view == 0:
        return run.inputs.first_frame
    image = run.inputs.keys.get(view)
    return image if image is not None and image.shape[1::-1] == run.shot.size else None


def _compare_keys(keys: KeyPictures, shot: Shot) -> list[str]:
    """Return sentences about pictures of one sample whose colors disagree where both show a surface."""
    warnings = []
    views = len(shot.cameras)
    detailed = [(index, key) for index, key in enumerate(keys.pictures) if key.detail]
    for place, (index, one) in enumerate(detailed):
        for other_index, other in detailed[place + 1 :]:
            if one.t // views != other.t // views:
                continue
            found = agreement(keys.shot, (one.t, one.image), (other.t, other.image)).difference
            if found > DISAGREES:
                names = [keys.record[n]["camera"] for n in (index, other_index)]
                warnings.append(
                    f"The pictures of cameras '{names[0]}' and '{names[1]}' at frame {keys.record[index]['frame']:g} "
                    f"differ by {found:.0f} levels of 255 where both show the same surface."
                )
    return warnings


def _write_record(
    run: JobRun,
    folders: Sequence[Path],
    records: Sequence[dict[str, Any]],
    overviews: Sequence[Overview] | None,
    warnings: Sequence[str],
    digests: dict[str, str],
    propagation: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the shot, the contact sheet and the record of the whole job; return the record."""
    files = [folder.name for folder in folders]
    files += [FILE] if propagation is not None and propagation.get("splats") else []
    try:
        if overviews is not None:
            rows = [(folder.name, overview.frames) for folder, overview in zip(folders, overviews, strict=True)]
            sheet = contact_sheet(rows, overviews[0].shot.frame_numbers.tolist())
            sheet.save(run.folder / "sheet.png")
            files.append("sheet.png")
        run.shot.save(run.folder / "tracks.shot", force=True)
    except OSError as error:
        raise unwritable(run.folder, error) from error
    cameras = [
        {"name": camera.name, "folder": folder.name, "consistency": record["consistency"]}
        for camera, folder, record in zip(run.shot.cameras, folders, records, strict=True)
    ]
    return write_record(
        run.folder,
        [*files, "tracks.shot"],
        {"cameras": cameras},
        shot=run.shot,
        settings=run.settings,
        spec=run.spec,
        timings=run.timings,
        warnings=[*run.shot.warnings, *warnings],
        model_digests=digests,
        propagation=propagation,
    )
