# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a job from chunks to a result folder: shot, tracking video, pipeline, files.

A shot is checked before the model is loaded and torch is imported. A job with the output "tracking" ends with the
tracking video.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from trackshade.config import registry
from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.control.video import TrackingVideo, tracking_video
from trackshade.core.errors import ShotError
from trackshade.ipc import ArrayEntry, Manifest
from trackshade.ipc import protocol as states
from trackshade.results import write_result
from trackshade.server.chunk_store import ChunkStore
from trackshade.shot import Shot
from trackshade.shot.fitting import ShotFit, plan_fit
from trackshade.shot.input_image import fit_image, input_image_from_array

if TYPE_CHECKING:
    from trackshade.pipelines import DiffusionShaderPipeline

PREVIEW_SIZE = 320  # pixels of the longer side, at most
FIRST_FRAME_STAGE = "First frame from the prompt"


class Reporter(Protocol):
    """Reports the progress of a job. Both methods raise CancelledError if the job was cancelled."""

    def report(self, state: str, message: str = "", preview: bytes | None = None, **details: Any) -> None:
        """Reports a state, a detail, a preview (a small encoded image) and further fields."""
        ...

    def check(self) -> None:
        """Checks for a cancel."""
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
        self._background = ThreadPoolExecutor(1, "digest")

    def run_job(
        self, manifest: Manifest, settings: ShadeSettings, *, chunks: Path, folder: Path, reporter: Reporter
    ) -> dict[str, Any]:
        """Writes the result of a job.

        Args:
            manifest: The shot.
            settings: The settings.
            chunks: Folder of the chunks.
            folder: Folder to write to.
            reporter: Receives progress and tells of a cancel.

        Returns:
            The record, as in job.json.

        Raises:
            ShotError: The model does not accept the shot.
            ModelError: The model cannot be loaded.
            OutputError: The result cannot be written.
            JobError: "missing-chunk".
            CancelledError: The job was cancelled.
        """
        timings: dict[str, float] = {}
        with _timed(timings, "read"):
            reporter.report(states.LOADING, "Reading the shot")
            store = ChunkStore(chunks)
            shot = Shot.decode(manifest.shot, store.arrays(manifest))
            first_frame = _image(store, manifest.first_frame)
            input_render = _image(store, manifest.input_render)
            spec = registry.spec(settings.model)
            check_images(shot, first_frame, input_render)
            fit = plan_fit(
                shot,
                spec,
                frame_rule=settings.frame_rule,
                size_mode=settings.size_mode,
                size=settings.model_size,
            )
            shot, first_frame, input_render = _fit(shot, fit, first_frame, input_render)
        with _timed(timings, "control"):
            tracking = _tracking(shot, settings, reporter)
        frames, digests = tracking.frames, {}
        if settings.output == "video":
            with _timed(timings, "load"):
                loaded = self._load(spec, reporter.report)
            with _timed(timings, "shade"):
                frames = _shade(loaded.pipeline, spec, settings, tracking, first_frame, reporter)
            digests[spec.name] = loaded.digest.result()
        reporter.report(states.DECODING, "Writing the result")
        record = write_result(
            folder,
            frames=frames,
            tracking=tracking,
            shot=shot,
            settings=settings,
            spec=spec,
            first_frame=first_frame,
            input_render=input_render,
            timings=timings,
            warnings=list(shot.warnings),
            model_digests=digests,
        )
        reporter.check()
        return record

    def load_model(self, model: str) -> None:
        """Loads a model for the next jobs. Raises ModelError."""
        self._load(registry.spec(model), lambda *_, **__: None)

    def _load(self, spec: ModelSpec, report: Callable[..., None]) -> LoadedModel:
        if self._loaded is not None and self._loaded[0] == spec.name:
            return self._loaded[1]
        self._loaded = None  # two models at once may not fit
        report(states.LOADING, "Loading PyTorch")
        from trackshade.models.checkpoint import digest
        from trackshade.pipelines.loading import load_pipeline

        def progress(share: float, what: str) -> None:
            report(states.LOADING, what[:1].upper() + what[1:], progress=round(share, 3))

        pipeline = load_pipeline(spec, self._device, progress=progress)
        loaded = LoadedModel(pipeline, self._background.submit(digest, registry.model_folder(spec)))
        self._loaded = (spec.name, loaded)
        return loaded


def check_images(shot: Shot, first_frame: np.ndarray | None, input_render: np.ndarray | None) -> None:
    """Raises ShotError unless the images have the shot's size, and the input render its frames."""
    (width, height), count = shot.size, len(shot.frame_numbers)
    for name, image, shape in (
        ("first frame", first_frame, (height, width, 3)),
        ("input render", input_render, (count, height, width, 3)),
    ):
        if image is not None and image.shape != shape:
            raise ShotError("bad-image", f"The {name} is {list(image.shape)}, and the shot needs {list(shape)}.")


def _fit(
    shot: Shot, fit: ShotFit, first_frame: np.ndarray | None, input_render: np.ndarray | None
) -> tuple[Shot, np.ndarray | None, np.ndarray | None]:
    """Returns the shot and the images that the model takes; between two samples, the earlier image is used."""
    render = input_render
    if render is not None:
        render = np.stack([fit_to_model(render[int(t)], fit) for t in fit.positions])
    return fit.apply(shot), None if first_frame is None else fit_to_model(first_frame, fit), render


def fit_to_model(image: np.ndarray, fit: ShotFit) -> np.ndarray:
    """Resamples an image [H, W, 3] uint8 of the shot's size to the model's size, in linear light."""
    if fit.size_fit.is_identity:
        return image
    return fit_image(input_image_from_array(image), fit.size_fit.size, fit.size_fit, "frame").pixels


def _image(store: ChunkStore, entry: ArrayEntry | None) -> np.ndarray | None:
    return None if entry is None else store.array(entry)


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
    tracking: TrackingVideo,
    first_frame: np.ndarray | None,
    reporter: Reporter,
) -> np.ndarray:
    """Run the pipeline, reporting each step; returns the shaded frames, uint8 [T, H, W, 3]."""
    import torch

    steps = spec.steps if settings.steps is None else settings.steps
    stages = pipeline.stages(len(tracking.frames), has_first_frame=first_frame is not None)
    total = steps * len(stages)  # the first frame takes as many as the video

    def on_step_end(pipe: DiffusionShaderPipeline, step: int, _: int, tensors: dict[str, Any]) -> None:
        done = step + 1
        is_due = settings.preview_every and done % settings.preview_every == 0 and done < total
        preview = encode_preview(pipe.preview_frame(tensors["denoised"])) if is_due else None
        message = f"{FIRST_FRAME_STAGE}, step {done} of {steps}" if pipe.stage == "first frame" else ""
        reporter.report(states.RUNNING, message, preview, step=done, steps=total)
        if done == total:
            reporter.report(states.DECODING, "Decoding the frames")

    reporter.report(states.RUNNING, FIRST_FRAME_STAGE if "first frame" in stages else "", step=0, steps=total)
    output: Any = pipeline(
        settings.prompt,
        image=None if first_frame is None else np.array(first_frame),
        tracking_video=tracking.frames,
        negative_prompt=spec.negative_prompt if settings.negative_prompt is None else settings.negative_prompt,
        num_inference_steps=steps,
        guidance_scale=spec.guidance if settings.guidance is None else settings.guidance,
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
    """Encodes an image, [H, W, 3] uint8, as PNG if it is tiny, otherwise as JPEG of at most PREVIEW_SIZE pixels."""
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
