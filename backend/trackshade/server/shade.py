# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a job from chunks to a result folder: shot, tracking video, key pictures, propagation, files.

A shot is checked before the model is loaded and torch is imported. A job whose key pictures were all given needs no
model. A job with the output "tracking" ends with the tracking video, one with the output "key" with pictures of some
frames, and one with the output "motion" has a motion model read driving footage.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trackshade import __version__
from trackshade.config import registry
from trackshade.config.settings import ShadeSettings
from trackshade.control.video import TrackingVideo, tracking_video
from trackshade.ipc import Manifest, digest_of
from trackshade.ipc import protocol as states
from trackshade.ipc.messages import pack
from trackshade.server.chunk_store import ChunkStore
from trackshade.server.job import JobHost, JobRun, Reporter, encode_preview, timed
from trackshade.server.job_inputs import check_inputs, read_inputs
from trackshade.server.key_pictures import check_keys, measure_coverage, write_key_job
from trackshade.server.model_inputs import unused_settings
from trackshade.server.model_parts import CameraParts, make_camera_doer
from trackshade.server.models import Models
from trackshade.server.motion import run_motion
from trackshade.server.parts import Packed, PartDoer
from trackshade.server.propagate import (
    FrameParts,
    KeptWork,
    KeyPictures,
    collect_keys,
    make_frame_doer,
    propagate,
)
from trackshade.server.splats import check_splats, write_splats
from trackshade.server.stills import StillParts, make_still_doer, paint_first_frame, write_stills
from trackshade.server.views import check_cameras, write_views
from trackshade.shot import Shot
from trackshade.shot.fitting import plan_fit
from trackshade.shot.input_image import sample_of_frame


class JobRunner:
    """Runs jobs on one device ("auto" for the best one) and keeps the last model.

    Video models run on several devices if their names are joined by "+".
    """

    def __init__(self, device: str) -> None:
        self._device = device.partition("+")[0]
        self._models = Models(None if device == "auto" else device)

    def run_job(
        self, manifest: Manifest, settings: ShadeSettings, *, chunks: Path, folder: Path, reporter: JobHost
    ) -> dict[str, Any]:
        """Write the result of a job.

        Args:
            manifest: The shot.
            settings: The settings.
            chunks: Folder of the chunks.
            folder: Folder to write to; it may hold what an earlier attempt at the same job left.
            reporter: Receives progress, tells of a cancel, and does work that consists of parts.

        Returns:
            The record, as in job.json.

        Raises:
            ShotError: The shot, its images or its light cannot be used.
            ModelError: The model cannot be loaded.
            OutputError: The result cannot be written.
            JobError: "missing-chunk".
            CancelledError: The job was cancelled.
        """
        timings: dict[str, float] = {}
        with timed(timings, "read"):
            reporter.report(states.LOADING, "Reading the shot")
            store = ChunkStore(chunks)
            shot = Shot.decode(manifest.shot, store.arrays(manifest))
            shot.check_values()
            inputs = read_inputs(store, manifest)
            if settings.output == "motion":
                return run_motion(shot, inputs, settings, self._models, folder, reporter)
            spec = registry.spec(settings.model)
            check_cameras(shot, settings)
            check_inputs(shot, inputs, settings)
            check_splats(settings.splats)
            fit = plan_fit(
                shot,
                spec,
                frame_rule=settings.frame_rule,
                size_mode=settings.size_mode,
                size=settings.model_size,
                frame_counts=spec.frame_counts_for(len(shot.frame_numbers), float(shot.fps), settings.frame_rule),
            )
        if settings.output == "stills":
            look = self._models.load_look(settings, reporter.report)
            parts = StillParts(look, shot, settings, reporter.report, inputs.first_frame)
            return write_stills(folder, parts, reporter.spread)
        with timed(timings, "control"):
            is_own_size = settings.output == "tracking" and settings.output_size == "full"
            tracking = _tracking(shot if is_own_size else fit.apply(shot), settings, reporter)
        work = KeptWork(folder, _digest(manifest, settings))
        run = JobRun(
            shot, spec, settings, inputs, fit, tracking, work, folder, reporter, timings, device=self._device,
            spread=reporter.spread,
        )  # fmt: skip
        if shot.more_cameras:
            record = write_views(run, self._models)
            work.finish()
            reporter.check()
            return record
        completes_keys = settings.output == "key" and (inputs.first_frame is not None or bool(inputs.keys))
        if settings.image_model and settings.output != "tracking" and not completes_keys:
            run = replace(run, inputs=replace(inputs, first_frame=self._paint_first_frame(run)))
        if settings.output == "key":
            samples = [sample_of_frame(shot, frame) for frame in settings.key_frames]
            keys, warnings, digests = self._keys(run)
            is_painted = bool(settings.image_model) and completes_keys
            look = self._models.load_look(settings, reporter.report) if is_painted else None
            record = write_key_job(run, samples, keys, warnings, digests, look)
        else:
            record = self._write_model_frames(run) if run.is_at_model_size else self._propagate(run)
        work.finish()
        reporter.check()
        return record

    def _paint_first_frame(self, run: JobRun) -> np.ndarray:
        """Return the first frame by the image model, unless an earlier attempt at the job has painted it."""

        def paint() -> np.ndarray:
            return paint_first_frame(self._models.load_look(run.settings, run.reporter.report), run)

        with timed(run.timings, "first frame"):
            return run.work.images("first_frame", paint)

    def _write_model_frames(self, run: JobRun) -> dict[str, Any]:
        """Write the tracking video, or the model's frames as they are."""
        inputs, fit = run.inputs, run.fit
        frames, digests = run.tracking.frames, {}
        if run.tracking.shot is run.shot and run.settings.output == "tracking":
            run.reporter.report(states.DECODING, "Writing the result")
            return run.write(frames, run.shot, inputs.first_frame, inputs.input_render, digests)
        first = None if inputs.first_frame is None else fit.fit_image(inputs.first_frame)
        if run.settings.output == "video":
            frames, digests = self._models.make_images(run, first, still=False)
        render = inputs.input_render
        fitted = None if render is None else np.stack([fit.fit_image(render[int(t)]) for t in fit.positions])
        run.reporter.report(states.DECODING, "Writing the result")
        return run.write(frames, run.tracking.shot, first, fitted, digests)

    def _propagate(self, run: JobRun) -> dict[str, Any]:
        """Write every frame of the shot at its own size."""
        settings, inputs, reporter, report = run.settings, run.inputs, run.reporter, run.report
        keys, warnings, digests = self._keys(run)
        with timed(run.timings, "propagate"):
            light, reason = run.light(keys)
            (overview,), propagation = propagate(
                run.shot, keys, light, settings, [run.folder], run.work, report, encode_preview, run.device, run.spread
            )
        with timed(run.timings, "coverage"):
            unseen = propagation.pop("unseen")
            propagation["coverage"] = measure_coverage(keys, run.report_coverage, unseen)
        if light is not None and not propagation["relit"]:
            reason = "The light of the first key picture is not that of the light's render."
        reporter.report(states.DECODING, "Writing the result")
        propagation["splats"] = write_splats(run, [run.folder])
        record = {**propagation, "light": settings.light if propagation["relit"] else "none", "light_reason": reason}
        return run.write(overview, run.shot, inputs.first_frame, inputs.input_render, digests, record, warnings)

    def _keys(self, run: JobRun) -> tuple[KeyPictures, list[str], dict[str, str]]:
        """Return the pictures that are propagated, sentences about them, and digests of the model's weights."""
        inputs, images, digests = run.inputs, {}, {}
        is_video = run.key_pictures == "video" and run.settings.output != "key"
        has_images = is_video or (inputs.first_frame is None and not inputs.keys)
        if has_images:
            first = None if inputs.first_frame is None else run.fit.fit_image(inputs.first_frame)
            images[0], digests = self._models.make_images(run, first, still=not is_video)
        keys = collect_keys(
            run.shot, run.fit, inputs.first_frame, inputs.keys, images, is_filling=run.spec.shows_surfaces
        )
        keys, warnings = check_keys(run, keys)
        return keys, [*warnings, *unused_settings(run, has_images)], digests

    def make_part_doer(self, kind: str, shared: Packed, reporter: Reporter) -> PartDoer:
        """Return what does parts of another worker's job. Raise ModelError.

        Args:
            kind: The kind of the parts.
            shared: What `Parts.pack` has returned.
            reporter: Receives progress and tells of a cancel.
        """
        if kind == FrameParts.kind:
            return make_frame_doer(shared)
        if kind == CameraParts.kind:
            return make_camera_doer(shared, self._models, reporter)
        assert kind == StillParts.kind, kind
        return make_still_doer(shared, self._models.load_look, reporter.report)

    def load_model(self, model: str) -> None:
        """Load a model for the next jobs. Raise ModelError."""
        self._models.load(registry.spec(model), lambda *_, **__: None)


def _digest(manifest: Manifest, settings: ShadeSettings) -> bytes:
    """Return the digest of everything that the frames of a job depend on."""
    return digest_of(__version__.encode() + pack(settings.to_dict()) + pack(manifest.to_dict()))


def _tracking(shot: Shot, settings: ShadeSettings, reporter: Reporter) -> TrackingVideo:
    count = len(shot.frame_numbers)
    reporter.report(states.LOADING, "Drawing the tracks")

    def progress(done: int, total: int) -> None:
        reporter.check()
        if done == total or done % 10 == 0:
            reporter.report(states.LOADING, f"Drawing the tracks, frame {done} of {count}")

    mode = "points" if settings.control == "points" else "mesh"
    return tracking_video(shot, mode, settings.points, settings.seed, progress)
