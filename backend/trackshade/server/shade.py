# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a job from chunks to a result folder: shot, tracking video, key pictures, propagation, files.

A shot is checked before the model is loaded and torch is imported. A job whose key pictures were all given needs no
model. A job with the output "tracking" ends with the tracking video, one with the output "key" with pictures of some
frames.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from trackshade import __version__
from trackshade.config import registry
from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.control.video import TrackingVideo, tracking_video
from trackshade.core.errors import ShotError
from trackshade.ipc import Manifest, digest_of
from trackshade.ipc import protocol as states
from trackshade.ipc.messages import pack
from trackshade.results.frames import check_exr
from trackshade.results.overview import Overview
from trackshade.results.record import Images
from trackshade.results.write import write_key_record, write_result
from trackshade.server.chunk_store import ChunkStore, StoredFrames
from trackshade.server.key_pictures import align_keys, measure_coverage, write_keys
from trackshade.server.propagate import KeptWork, KeyPictures, collect_keys, light_of, propagate
from trackshade.server.stills import load_look, paint_stills, write_stills
from trackshade.shot import Shot
from trackshade.shot.fitting import ShotFit, plan_fit
from trackshade.shot.input_image import black_picture, sample_of_frame

if TYPE_CHECKING:
    from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
    from trackshade.pipelines.look_stills import LookPipeline

PREVIEW_SIZE = 320  # pixels of the longer side, at most
FIRST_FRAME_STAGE = "First frame from the prompt"


class Reporter(Protocol):
    """Report the progress of a job. Both methods raise CancelledError if the job was cancelled."""

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        """Report a state, a detail, a preview (a small encoded image) and further fields."""
        ...

    def check(self) -> None:
        """Check for a cancel."""
        ...


@dataclass(frozen=True)
class LoadedModel:
    """A model on a device, kept between jobs, and the digest of its weights, computed in the background."""

    pipeline: DiffusionShaderPipeline
    digest: Future[str]


class JobRunner:
    """Runs jobs on one device ("auto" for the best one) and keeps the last model."""

    def __init__(self, device: str) -> None:
        self._device = None if device == "auto" else device
        self._loaded: tuple[str, LoadedModel] | None = None
        self._look: tuple[tuple[str, tuple[str, ...]], LookPipeline] | None = None
        self._background = ThreadPoolExecutor(1, "digest")

    def run_job(
        self, manifest: Manifest, settings: ShadeSettings, *, chunks: Path, folder: Path, reporter: Reporter
    ) -> dict[str, Any]:
        """Write the result of a job.

        Args:
            manifest: The shot.
            settings: The settings.
            chunks: Folder of the chunks.
            folder: Folder to write to; it may hold what an earlier attempt at the same job left.
            reporter: Receives progress and tells of a cancel.

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
        with _timed(timings, "read"):
            reporter.report(states.LOADING, "Reading the shot")
            store, spec = ChunkStore(chunks), registry.spec(settings.model)
            shot = Shot.decode(manifest.shot, store.arrays(manifest))
            shot.check_values()
            inputs = read_inputs(store, manifest)
            check_inputs(shot, inputs, settings)
            fit = plan_fit(
                shot,
                spec,
                frame_rule=settings.frame_rule,
                size_mode=settings.size_mode,
                size=settings.model_size,
            )
        if settings.output == "stills":
            return self._write_stills(shot, settings, inputs, folder, reporter)
        with _timed(timings, "control"):
            is_own_size = settings.output == "tracking" and settings.output_size == "full"
            tracking = _tracking(shot if is_own_size else fit.apply(shot), settings, reporter)
        work = KeptWork(folder, _digest(manifest, settings))
        run = _JobRun(shot, spec, settings, inputs, fit, tracking, work, folder, reporter, timings)
        if settings.image_model and settings.output != "tracking":
            run = replace(run, inputs=replace(inputs, first_frame=self._paint_first_frame(run)))
        if settings.output == "key":
            record = self._write_keys(run)
        else:
            record = self._write_model_frames(run) if run.is_at_model_size else self._propagate(run)
        work.finish()
        reporter.check()
        return record

    def _write_model_frames(self, run: _JobRun) -> dict[str, Any]:
        """Write the tracking video, or the model's frames as they are."""
        inputs, fit = run.inputs, run.fit
        frames, digests = run.tracking.frames, {}
        if run.tracking.shot is run.shot and run.settings.output == "tracking":
            run.reporter.report(states.DECODING, "Writing the result")
            return run.write(frames, run.shot, inputs.first_frame, inputs.input_render, digests)
        first = None if inputs.first_frame is None else fit.fit_image(inputs.first_frame)
        if run.settings.output == "video":
            frames, digests = self._model_images(run, first, still=False)
        render = inputs.input_render
        fitted = None if render is None else np.stack([fit.fit_image(render[int(t)]) for t in fit.positions])
        run.reporter.report(states.DECODING, "Writing the result")
        return run.write(frames, run.tracking.shot, first, fitted, digests)

    def _propagate(self, run: _JobRun) -> dict[str, Any]:
        """Write every frame of the shot at its own size."""
        settings, inputs, reporter, report = run.settings, run.inputs, run.reporter, run.report
        keys, warnings, digests = self._keys(run)
        with _timed(run.timings, "propagate"):
            light, reason = _light(inputs, keys, settings)
            overview, propagation = propagate(keys, light, settings, run.folder, run.work, report, encode_preview)
        with _timed(run.timings, "coverage"):
            unseen = propagation.pop("unseen")
            propagation["coverage"] = measure_coverage(keys, run.report_coverage, unseen)
        if light is not None and not propagation["relit"]:
            reason = "The light of the first key picture is not that of the light's render."
        reporter.report(states.DECODING, "Writing the result")
        record = {**propagation, "light": settings.light if propagation["relit"] else "none", "light_reason": reason}
        return run.write(overview, run.shot, inputs.first_frame, inputs.input_render, digests, record, warnings)

    def _write_keys(self, run: _JobRun) -> dict[str, Any]:
        """Write what the key pictures show of the frames that were asked for."""
        settings, shot = run.settings, run.shot
        samples = [sample_of_frame(shot, frame) for frame in settings.key_frames]
        keys, warnings, digests = self._keys(run)
        with _timed(run.timings, "propagate"):
            light, _ = _light(run.inputs, keys, settings)
            frames, propagation = write_keys(
                run.folder, keys, samples, light, settings.seed, run.report, encode_preview
            )
        with _timed(run.timings, "coverage"):
            propagation |= {"key_pictures": keys.record, "coverage": measure_coverage(keys, run.report_coverage)}
        return write_key_record(
            run.folder, frames, propagation, shot, settings, run.spec, run.timings, [*shot.warnings, *warnings], digests
        )

    def _keys(self, run: _JobRun) -> tuple[KeyPictures, list[str], dict[str, str]]:
        """Return the pictures that are propagated, sentences about them, and digests of the model's weights."""
        inputs, images, digests = run.inputs, None, {}
        is_video = run.key_pictures == "video" and run.settings.output != "key"
        if is_video or (inputs.first_frame is None and not inputs.keys):
            first = None if inputs.first_frame is None else run.fit.fit_image(inputs.first_frame)
            images, digests = self._model_images(run, first, still=not is_video)
        with _timed(run.timings, "alignment"):
            keys = collect_keys(run.shot, run.fit, inputs.first_frame, inputs.keys, images)
            is_rendered = 0 not in inputs.keys and "first_frame" not in run.shot.source
            checked = {"key picture"} if is_rendered else {"first frame", "key picture"}
            run.reporter.report(states.RUNNING, "Checking the key pictures")
            keys, warnings = align_keys(keys, [n for n, item in enumerate(keys.record) if item["source"] in checked])
        return keys, warnings, digests

    def _write_stills(
        self, shot: Shot, settings: ShadeSettings, inputs: JobInputs, folder: Path, reporter: Reporter
    ) -> dict[str, Any]:
        """Write stills of the first frame to choose a look from."""
        look = self._load_look(settings, reporter.report)
        return write_stills(folder, look, shot, settings, reporter.report, inputs.first_frame)

    def _paint_first_frame(self, run: _JobRun) -> np.ndarray:
        """Return the first frame by the image model, from the one that was sent if there is one."""

        def make() -> np.ndarray:
            look = self._load_look(run.settings, run.reporter.report)
            painted = paint_stills(
                look, run.shot, 0, run.settings, 1, run.reporter.report, image=run.inputs.first_frame
            )
            return next(painted)

        with _timed(run.timings, "first frame"):
            return run.work.images("first_frame", make)

    def _model_images(
        self,
        run: _JobRun,
        first_frame: np.ndarray | None,  # [h, w, 3] uint8 of the model's size
        still: bool,
    ) -> tuple[np.ndarray, dict[str, str]]:
        """Return the model's frames [N, h, w, 3] uint8, only the first one if `still`, and the weights' digest."""
        with _timed(run.timings, "load"):
            loaded = self._load(run.spec, run.reporter.report)

        def make() -> np.ndarray:
            frames = run.tracking.frames
            if still and loaded.pipeline.still_guidance:  # other models make no image alone
                frames = frames[:1]
            return _shade(loaded.pipeline, run.spec, run.settings, frames, first_frame, run.reporter)

        with _timed(run.timings, "shade"):
            images = run.work.images("model", make)
        return images[:1] if still else images, {run.spec.name: loaded.digest.result()}

    def load_model(self, model: str) -> None:
        """Load a model for the next jobs. Raise ModelError."""
        self._load(registry.spec(model), lambda *_, **__: None)

    def _load(self, spec: ModelSpec, report: Callable[..., None]) -> LoadedModel:
        if self._loaded is not None and self._loaded[0] == spec.name:
            return self._loaded[1]
        self._loaded = self._look = None  # two models at once may not fit
        report(states.LOADING, "Loading PyTorch")
        from trackshade.models.checkpoint import digest
        from trackshade.pipelines.loading import load_pipeline

        def progress(share: float, what: str) -> None:
            report(states.LOADING, what[:1].upper() + what[1:], progress=round(share, 3))

        pipeline = load_pipeline(spec, self._device, progress=progress)
        loaded = LoadedModel(pipeline, self._background.submit(digest, registry.model_folder(spec)))
        self._loaded = (spec.name, loaded)
        return loaded

    def _load_look(self, settings: ShadeSettings, report: Callable[..., None]) -> LookPipeline:
        self._loaded = None  # two models at once may not fit
        wanted = (settings.image_model, settings.loras)
        if self._look is None or self._look[0] != wanted:
            self._look = None
            self._look = wanted, load_look(settings, self._device, report)
        return self._look[1]


@dataclass(frozen=True, eq=False)
class JobInputs:
    """What a job has besides its shot; see `trackshade.ipc.Manifest`. Videos are read frame by frame."""

    first_frame: np.ndarray | None
    input_render: StoredFrames | None
    light: StoredFrames | None
    keys: dict[int, np.ndarray]


@dataclass(frozen=True, eq=False)
class _JobRun:
    """A job while it runs."""

    shot: Shot
    spec: ModelSpec
    settings: ShadeSettings
    inputs: JobInputs
    fit: ShotFit
    tracking: TrackingVideo
    work: KeptWork
    folder: Path
    reporter: Reporter
    timings: dict[str, float]

    @cached_property
    def report(self) -> Callable[..., None]:
        """Reports a message, a preview or None, and details; leaves out steps that are too small to see."""

        def report(message: str, preview: bytes | None, **details: Any) -> None:
            self.reporter.report(states.RUNNING, message, preview, **details)

        return _throttled(report, self.reporter.check)

    def report_coverage(self, fraction: float) -> None:
        """Report how much of the coverage is measured."""
        self.report("Measuring what the key pictures show", None, progress=fraction)

    @property
    def key_pictures(self) -> str:
        """Which pictures are propagated: "first-frame" or "video"."""
        return self.spec.key_pictures if self.settings.key_pictures == "auto" else self.settings.key_pictures

    @property
    def is_at_model_size(self) -> bool:
        """Whether the frames are those of the model as they are."""
        if self.settings.output == "tracking" or self.settings.output_size == "model":
            return True
        is_same = self.tracking.shot is self.shot
        return is_same and self.key_pictures == "video" and not self.inputs.keys and self.inputs.light is None

    def write(
        self,
        frames: np.ndarray | Overview,
        shot: Shot,
        first_frame: np.ndarray | None,
        input_render: Images | None,
        digests: dict[str, str],
        propagation: dict[str, Any] | None = None,
        warnings: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Write the result; see `write_result`."""
        fit = {"frame_map": self.fit.frame_map.to_dict(), "size_fit": self.fit.size_fit.to_dict()}
        return write_result(
            self.folder,
            frames=frames,
            tracking=self.tracking,
            shot=shot,
            settings=self.settings,
            spec=self.spec,
            first_frame=first_frame,
            input_render=input_render,
            timings=self.timings,
            warnings=[*shot.warnings, *warnings],
            model_digests=digests,
            model_fit=fit,
            propagation=propagation,
        )


def read_inputs(store: ChunkStore, manifest: Manifest) -> JobInputs:
    """Return the images of a job. Raise JobError("missing-chunk")."""
    render, light = manifest.input_render, manifest.light
    return JobInputs(
        None if manifest.first_frame is None else store.array(manifest.first_frame),
        None if render is None else StoredFrames(store, render),
        None if light is None else StoredFrames(store, light),
        {sample: store.array(entry) for sample, entry in manifest.keys.items()},
    )


def check_inputs(shot: Shot, inputs: JobInputs, settings: ShadeSettings) -> None:
    """Raise ShotError unless the images are those of the shot, and OutputError unless the frames can be written."""
    (width, height), count = shot.size, len(shot.frame_numbers)
    for name, image, shape in (
        ("first frame", inputs.first_frame, (height, width, 3)),
        ("input render", inputs.input_render, (count, height, width, 3)),
    ):
        if image is not None and image.shape != shape:
            raise ShotError("bad-image", f"The {name} is {list(image.shape)}, and the shot needs {list(shape)}.")
    if inputs.light is not None and len(inputs.light) != count:
        raise ShotError(
            "bad-light", f"There are clay renders of {len(inputs.light)} frames, and the shot has {count} frames."
        )
    for sample in inputs.keys:
        if not 0 <= sample < count:
            raise ShotError(
                "bad-key-picture",
                f"A key picture shows sample {sample}, and the shot has {count} samples.",
                "Give pictures of its frames.",
            )
    shapes = {f"key picture of frame {shot.frame_numbers[t]:g}": image.shape for t, image in inputs.keys.items()}
    if inputs.light is not None:
        shapes["clay render"] = inputs.light.shape[1:]
    for name, shape in shapes.items():
        if abs(shape[1] * height - shape[0] * width) > max(width, height):  # a pixel of rounding
            raise ShotError(
                "other-aspect",
                f"The {name} has {shape[1]} × {shape[0]} pixels, another shape than the shot's {width} × {height}.",
                "Render or crop it with the aspect of the camera.",
            )
    for t, image in inputs.keys.items():
        if (t or inputs.first_frame is None) and not image.any():
            raise black_picture(shot.frame_numbers[t])
    if settings.light == "render" and inputs.input_render is None and settings.output != "tracking":
        raise ShotError(
            "no-input-render",
            "The light is to be that of the input render, and none was sent.",
            "Render the input, too, or choose clay or none as the light.",
        )
    if settings.image_format == "exr":
        check_exr()


def _light(
    inputs: JobInputs, keys: KeyPictures, settings: ShadeSettings
) -> tuple[Callable[[int], np.ndarray] | None, str | None]:
    """Return the light of samples, or None and the reason."""
    if settings.light == "render" and inputs.input_render is not None:
        return light_of(inputs.input_render, keys.positions, is_linear=False), None
    if settings.light == "clay" and inputs.light is not None:
        return light_of(inputs.light, keys.positions, is_linear=True), None
    return None, "It was switched off." if settings.light == "none" else "No clay renders were sent."


def _digest(manifest: Manifest, settings: ShadeSettings) -> bytes:
    """Return the digest of everything that the frames of a job depend on."""
    return digest_of(__version__.encode() + pack(settings.to_dict()) + pack(manifest.to_dict()))


def _throttled(report: Callable[..., None], check: Callable[[], None]) -> Callable[..., None]:
    """Return a report that leaves out steps of less than a twentieth of a stage, and checks for a cancel instead."""
    latest: tuple[str, int] | None = None

    def throttled(message: str, preview: bytes | None = None, **details: Any) -> None:
        nonlocal latest
        now = message, int(20 * details.get("progress", 0))
        if now == latest and preview is None:
            check()
        else:
            latest = now
            report(message, preview, **details)

    return throttled


def _tracking(shot: Shot, settings: ShadeSettings, reporter: Reporter) -> TrackingVideo:
    count = len(shot.frame_numbers)
    reporter.report(states.LOADING, "Drawing the tracks")

    def progress(done: int, total: int) -> None:
        reporter.check()
        if done == total or done % 10 == 0:
            reporter.report(states.LOADING, f"Drawing the tracks, frame {done} of {count}")

    mode = "points" if settings.control == "points" else "mesh"
    return tracking_video(shot, mode, settings.points, settings.seed, progress)


def _shade(
    pipeline: DiffusionShaderPipeline,
    spec: ModelSpec,
    settings: ShadeSettings,
    tracking_frames: np.ndarray,  # [N, h, w, 3] uint8; a single one for a first frame alone
    first_frame: np.ndarray | None,
    reporter: Reporter,
) -> np.ndarray:
    """Run the pipeline, reporting each step; return the shaded frames, uint8 [N, h, w, 3]."""
    import torch

    steps = spec.steps if settings.steps is None else settings.steps
    guidance = spec.guidance if settings.guidance is None else settings.guidance
    stages = pipeline.stages(len(tracking_frames), has_first_frame=first_frame is not None)
    is_still = len(tracking_frames) == 1
    if is_still:
        guidance = max(guidance, pipeline.still_guidance)
    total = steps * len(stages)  # the first frame takes as many as the video

    def on_step_end(pipe: DiffusionShaderPipeline, step: int, _: int, tensors: dict[str, Any]) -> None:
        done = step + 1
        is_due = settings.preview_every and done % settings.preview_every == 0 and done < total
        preview = encode_preview(pipe.preview_frame(tensors["denoised"])) if is_due else None
        is_first_frame = is_still or pipe.stage == "first frame"
        message = f"{FIRST_FRAME_STAGE}, step {done} of {steps}" if is_first_frame else ""
        reporter.report(states.RUNNING, message, preview, step=done, steps=total)
        if done == total:
            reporter.report(states.DECODING, "Decoding the frames")

    begins_with_still = is_still or "first frame" in stages
    reporter.report(states.RUNNING, FIRST_FRAME_STAGE if begins_with_still else "", step=0, steps=total)
    output: Any = pipeline(
        settings.prompt,
        image=None if first_frame is None else np.array(first_frame),
        tracking_video=tracking_frames,
        negative_prompt=spec.negative_prompt if settings.negative_prompt is None else settings.negative_prompt,
        num_inference_steps=steps,
        guidance_scale=guidance,
        use_dynamic_cfg=spec.dynamic_guidance and settings.guidance is None,
        generator=torch.Generator("cpu").manual_seed(settings.seed),
        tracking_range=settings.tracking_range,
        control_scale=settings.control_scale,
        control_start=settings.control_start,
        control_end=settings.control_end,
        output_type="uint8",
        callback_on_step_end=on_step_end,
        callback_on_step_end_tensor_inputs=("denoised",),
    )
    return output[0][0]


def encode_preview(frame: np.ndarray) -> bytes:
    """Encode an image, [H, W, 3] uint8, as PNG if it is tiny, otherwise as JPEG of at most PREVIEW_SIZE pixels."""
    image, data = Image.fromarray(frame), io.BytesIO()
    if max(image.size) <= PREVIEW_SIZE // 2:
        image.save(data, "PNG")
    else:
        image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
        image.save(data, "JPEG", quality=80)
    return data.getvalue()


@contextmanager
def _timed(timings: dict[str, float], name: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    timings[name] = time.perf_counter() - begun
