# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a worker: loaded on one device, kept between jobs, and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import trackshade
from trackshade.config import registry
from trackshade.config.memory_presets import MemoryPreset, choose_preset, memory_sentence, next_preset
from trackshade.config.registry import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ModelError
from trackshade.ipc import protocol as states
from trackshade.server.job import JobRun, Reporter, encode_preview, timed
from trackshade.server.memory import measure_main_memory
from trackshade.server.stills import load_look

if TYPE_CHECKING:
    from trackshade.pipelines.diffusion_shader import DiffusionShaderPipeline
    from trackshade.pipelines.look_stills import LookPipeline

FIRST_FRAME_STAGE = "First frame from the prompt"


@dataclass(frozen=True)
class LoadedModel:
    """A model on a device, kept between jobs, and the digest of its weights, computed in the background."""

    pipeline: DiffusionShaderPipeline
    digest: Future[str]

    @property
    def preset(self) -> MemoryPreset:
        """How it uses the device's memory."""
        return self.pipeline.memory_preset


class Models:
    """The models of one device, of which the last one is kept."""

    def __init__(self, device: str | None) -> None:
        """Load models on a device later; None for the best one."""
        self._device = device
        self._loaded: tuple[str, LoadedModel] | None = None
        self._look: tuple[tuple[str, tuple[str, ...]], LookPipeline] | None = None
        self._background = ThreadPoolExecutor(1, "digest")

    def load(self, spec: ModelSpec, report: Callable[..., None], memory: str = "auto") -> LoadedModel:
        """Load a video model, unless it is the last one that was loaded. Raise ModelError.

        "auto" keeps a loaded model's memory preset; see `trackshade.config.memory_presets`.
        """
        if self._loaded is not None and self._loaded[0] == spec.name:
            preset = self._loaded[1].preset
            if memory == "auto" or choose_preset(memory, spec.memory_bytes, None) == preset:
                return self._loaded[1]
        self._loaded = self._look = None  # two models at once may not fit
        report(states.LOADING, "Loading PyTorch")
        from trackshade.models.checkpoint import digest
        from trackshade.pipelines.loading import load_pipeline

        def progress(share: float, what: str) -> None:
            report(states.LOADING, what[:1].upper() + what[1:], progress=round(share, 3))

        pipeline = load_pipeline(spec, self._device, progress=progress, memory=memory)
        loaded = LoadedModel(pipeline, self._background.submit(digest, registry.model_folder(spec)))
        self._loaded = (spec.name, loaded)
        return loaded

    def load_look(self, settings: ShadeSettings, report: Callable[..., None]) -> LookPipeline:
        """Load the image model of a job, unless it is the last one that was loaded. Raise ModelError."""
        self._loaded = None  # two models at once may not fit
        wanted = (settings.image_model, settings.loras)
        if self._look is None or self._look[0] != wanted:
            self._look = None
            self._look = wanted, load_look(settings, self._device, report)
        return self._look[1]

    def make_cells(
        self,
        run: JobRun,
        given: Mapping[tuple[int, int], np.ndarray],  # [h, w, 3] uint8 of the model's size
    ) -> dict[int, np.ndarray]:
        """Return the frames of all cameras by a multiview model, [N, h, w, 3] uint8 by camera.

        Args:
            run: The job, whose shot has several cameras.
            given: The pictures of cells (camera, frame of the model's) that are known.

        Raises:
            ModelError: The model cannot be loaded.
            UsageError: There is no such arm.
        """
        self._loaded = self._look = None
        run.reporter.report(states.LOADING, "Loading PyTorch")
        from trackshade.pipelines.multiview.arms import DEFAULT
        from trackshade.pipelines.multiview.cells import batch_for_memory, sample_cells
        from trackshade.pipelines.multiview.matrix import MatrixModel

        settings = run.settings
        name = settings.multiview_model
        shipped = Path(trackshade.__file__).parent / "models" / name
        with timed(run.timings, "load"):
            model = MatrixModel.load(shipped if shipped.is_dir() else name)
        shot = run.fit.apply(run.shot)
        batch = batch_for_memory(settings.memory, shot.size, measure_main_memory().get("free"))

        def progress(done: int, total: int) -> None:
            run.reporter.report(states.RUNNING, "Sampling all cameras", step=done, steps=total)

        def sample() -> np.ndarray:
            return sample_cells(
                model, shot, given, arm=settings.arm or DEFAULT, seed=settings.seed, size=shot.size,
                clips_per_batch=batch, progress=progress,
            )  # fmt: skip

        with timed(run.timings, "shade"):
            return dict(enumerate(run.work.images("cells", sample)))

    def make_images(
        self,
        run: JobRun,
        first_frame: np.ndarray | None,  # [h, w, 3] uint8 of the model's size
        still: bool,
    ) -> tuple[np.ndarray, dict[str, str]]:
        """Return the video model's frames [N, h, w, 3] uint8, only the first one if `still`, and its weights' digest.

        Raises:
            ModelError: The model cannot be loaded.
        """
        with timed(run.timings, "load"):
            loaded = self._load_or_retry(run, run.settings.memory)
        made = [loaded]  # a model that has run out of memory must not be kept alive here
        del loaded

        def make() -> np.ndarray:
            frames = run.tracking.frames
            if still and made[0].pipeline.still_guidance:  # other models make no image alone
                frames = frames[:1]
            try:
                return _shade(made[0].pipeline, run.spec, run.settings, frames, first_frame, run.reporter)
            except ModelError as error:
                following = self._after_error(run, error, made[0].preset)
            made.clear()
            made.append(self._load(run, following.name))
            return _shade(made[0].pipeline, run.spec, run.settings, frames, first_frame, run.reporter)

        with timed(run.timings, "shade"):
            images = run.work.images(f"model-{run.view}" if run.view else "model", make)
        return images[:1] if still else images, {run.spec.name: made[0].digest.result()}

    def _load(self, run: JobRun, memory: str) -> LoadedModel:
        loaded = self.load(run.spec, run.reporter.report, memory)
        run.memory["preset"] = loaded.preset.name
        if loaded.preset.name != "full":
            run.reporter.report(states.LOADING, memory_sentence(loaded.preset))
        return loaded

    def _choose(self, spec: ModelSpec, memory: str) -> MemoryPreset:
        """Return the preset with which a model would be loaded now."""
        import torch

        from trackshade.pipelines.loading import default_device
        from trackshade.pipelines.memory import free_memory

        return choose_preset(memory, spec.memory_bytes, free_memory(torch.device(self._device or default_device())))

    def _load_or_retry(self, run: JobRun, memory: str) -> LoadedModel:
        try:
            return self._load(run, memory)
        except ModelError as error:
            following = self._after_error(run, error, self._choose(run.spec, memory))
        return self._load(run, following.name)

    def _after_error(self, run: JobRun, error: ModelError, preset: MemoryPreset) -> MemoryPreset:
        """Return the preset to try once after the device ran out of memory, and say so. Raise any other error again."""
        following = next_preset(preset, run.spec.memory_bytes)
        if error.code != "out-of-memory" or following is None or "warning" in run.memory:
            raise error
        self._loaded = None
        run.memory["warning"] = (
            f"The device ran out of memory with the memory preset {preset.name}; the model was run with the preset "
            f"{following.name}. {memory_sentence(following)}"
        )
        message = f"Out of memory with the preset {preset.name}, trying again with {following.name}"
        run.reporter.report(states.LOADING, message)
        return following


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
