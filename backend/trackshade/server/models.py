# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of a worker: loaded on one device, kept between jobs, and run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import trackshade
from trackshade.config import registry
from trackshade.config.memory_presets import MemoryPreset, choose_preset, memory_sentence, next_preset
from trackshade.config.model_spec import ModelSpec
from trackshade.config.settings import ShadeSettings
from trackshade.core.errors import ModelError
from trackshade.core.text import join_and
from trackshade.ipc import protocol as states
from trackshade.server.job import JobRun, Reporter, encode_preview, timed
from trackshade.server.memory import measure_main_memory
from trackshade.server.model_inputs import check_model, collect_inputs, describe_inputs
from trackshade.server.stills import load_look, parse_lora

if TYPE_CHECKING:
    from trackshade.pipelines.families.family import ModelFamily, ModelInputs
    from trackshade.pipelines.look_stills import LookPipeline
    from trackshade.pipelines.motion import MotionPipeline
    from trackshade.pipelines.parallel.ranks import Ranks


Keep = Callable[[str, Callable[[], np.ndarray]], np.ndarray]


class ModelRun(Protocol):
    """What a run of a video model needs of a job, such as `JobRun`."""

    @property
    def spec(self) -> ModelSpec:
        """The model."""
        ...

    @property
    def settings(self) -> ShadeSettings:
        """The settings of the job."""
        ...

    @property
    def reporter(self) -> Reporter:
        """Receives progress and tells of a cancel."""
        ...

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of each stage, to which are added."""
        ...

    @property
    def memory(self) -> dict[str, Any]:
        """Memory preset of the model, which is written."""
        ...


_DEFAULTS = ShadeSettings()


@dataclass(frozen=True)
class LoadedModel:
    """A model on a device, kept between jobs, and the digest of its weights, computed in the background."""

    model: ModelFamily
    digest: Future[str]

    @property
    def preset(self) -> MemoryPreset:
        """How it uses the device's memory."""
        return self.model.memory_preset


class Models:
    """The models of one device, of which the last one is kept."""

    def __init__(self, device: str | None) -> None:
        """Load models on a device later.

        Args:
            device: Name of the device, None for the best one. Several names joined by "+" share video models that can
                be split; everything else runs on the first one.
        """
        self._device, *others = [None] if device is None else device.split("+")
        self._shared = [str(self._device), *others] if others else []
        self._ranks: Ranks | None = None
        self._loaded: tuple[tuple[Any, ...], LoadedModel] | None = None
        self._look: tuple[tuple[str, tuple[str, ...]], LookPipeline] | None = None
        self._motion: tuple[str, MotionPipeline] | None = None
        self._background = ThreadPoolExecutor(1, "digest")

    def load(
        self,
        spec: ModelSpec,
        report: Callable[..., None],
        memory: str = "auto",
        settings: ShadeSettings = _DEFAULTS,
    ) -> LoadedModel:
        """Load a video model as a job wants it, unless it is the last one that was loaded. Raise ModelError.

        "auto" keeps a loaded model's memory preset; see `trackshade.config.memory_presets`.
        """
        wanted = (spec.name, settings.video_loras, settings.quantize, settings.compile)
        if self._loaded is not None and self._loaded[0] == wanted:
            preset = self._loaded[1].preset
            if memory == "auto" or choose_preset(memory, spec.memory_bytes, None, spec.preset_bytes) == preset:
                return self._loaded[1]
        self._drop()  # two models at once may not fit
        report(states.LOADING, "Loading PyTorch")
        from trackshade.models.checkpoint import digest
        from trackshade.pipelines.families.loading import load_model

        def progress(share: float, what: str) -> None:
            report(states.LOADING, what[:1].upper() + what[1:], progress=round(share, 3))

        options: dict[str, Any] = {}  # those that a model may not know are left out unless they are asked for
        if settings.video_loras:
            options["loras"] = [parse_lora(text) for text in settings.video_loras]
        if settings.quantize != "none":
            options["quantize"] = settings.quantize
        model = load_model(spec, self._device, compiles=settings.compile, progress=progress, memory=memory, **options)
        if self._shared:
            self._split(model, settings, report, options)
        loaded = LoadedModel(model, self._background.submit(digest, registry.model_folder(spec)))
        self._loaded = (wanted, loaded)
        return loaded

    def _split(
        self, model: ModelFamily, settings: ShadeSettings, report: Callable[..., None], options: Mapping[str, Any]
    ) -> None:
        """Have all devices run the transformers of a model together, if they can be split. Raise ModelError."""
        import torch.distributed

        from trackshade.pipelines.memory import transformers_of
        from trackshade.pipelines.parallel.ranks import Ranks
        from trackshade.pipelines.parallel.sequence import can_split

        name = model.spec.name
        if not all(map(can_split, transformers_of(model.pipeline).values())):
            report(states.LOADING, f"{name} cannot be split between devices and runs on {self._shared[0]} alone")
            return
        if settings.compile:
            raise ModelError(
                "not-compiled",
                f"The model {name} is shared by several devices, and cannot be compiled.",
                "Do not compile it, or run the backend with one device for each worker.",
            )
        if self._shared[0] != "cpu" and not torch.distributed.is_nccl_available():
            raise ModelError(
                "not-parallel",
                f"The backend's PyTorch has no NCCL, by which {join_and(self._shared)} would share {name}.",
                "Run the backend with one device for each worker; PyTorch has NCCL on Linux.",
            )
        report(states.LOADING, f"Splitting {name} between {join_and(self._shared)}")
        self._ranks = Ranks(self._shared)
        self._ranks.share(model.pipeline, name, options.get("loras", ()), settings.quantize)
        model.ranks = self._ranks

    def _drop(self) -> None:
        """Forget the video model and the image model, and end what other devices have of them."""
        had_models = self._loaded is not None or self._look is not None
        self._loaded = self._look = None
        if had_models:
            gc.collect()  # pipelines hold reference cycles, which nothing else frees before the next one is read
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None

    def load_look(self, settings: ShadeSettings, report: Callable[..., None]) -> LookPipeline:
        """Load the image model of a job, unless it is the last one that was loaded. Raise ModelError."""
        wanted = (settings.image_model, settings.loras)
        if self._look is None or self._look[0] != wanted:
            self._drop()  # two models at once may not fit
            self._look = wanted, load_look(settings, self._device, report)
        return self._look[1]

    def load_motion(self, spec: ModelSpec, report: Callable[..., None]) -> MotionPipeline:
        """Load a motion model, unless it is the last one that was loaded. Raise ModelError."""
        if self._motion is None or self._motion[0] != spec.name:
            report(states.LOADING, "Loading PyTorch")
            from trackshade.pipelines.loading import default_device
            from trackshade.pipelines.motion import MotionPipeline

            folder = registry.model_folder(spec)
            self._motion = spec.name, MotionPipeline.from_pretrained(folder, self._device or default_device())
        return self._motion[1]

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
        self._drop()
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
                light=run.model_light(), clips_per_batch=batch, progress=progress,
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
            ShotError: It needs a first frame and there is none, or a clay render cannot be used.
            UsageError: It cannot be run with these settings.
        """
        check_model(run.spec, run.settings, run.inputs, first_frame is not None)
        run.used.update(describe_inputs(run, first_frame is not None))
        name = f"model-{run.view}" if run.view else "model"

        def keep(part: str, make: Callable[[], np.ndarray]) -> np.ndarray:
            return run.work.images(f"{name}{part}", make)

        return self.sample(run, lambda: collect_inputs(run, first_frame), still, keep)

    def sample(
        self, run: ModelRun, get_inputs: Callable[[], ModelInputs], still: bool, keep: Keep
    ) -> tuple[np.ndarray, dict[str, str]]:
        """Return a video model's frames and the digest of its weights, as `make_images`.

        Args:
            run: The job.
            get_inputs: Returns what the model is given.
            still: Whether only the first frame is used.
            keep: Returns the images of a name, made before or by the given function.
        """
        with timed(run.timings, "load"):
            loaded = self._load_or_retry(run, run.settings.memory)
        made = [loaded]  # a model that has run out of memory must not be kept alive here
        del loaded

        def make() -> np.ndarray:
            inputs = get_inputs()
            try:
                return _sample(made[0].model, run, inputs, still, keep)
            except ModelError as error:
                following = self._after_error(run, error, made[0].preset)
            made.clear()
            gc.collect()
            made.append(self._load(run, following.name))
            return _sample(made[0].model, run, inputs, still, keep)

        with timed(run.timings, "shade"):
            images = keep("", make)
        return images[:1] if still else images, {run.spec.name: made[0].digest.result()}

    def _load(self, run: ModelRun, memory: str) -> LoadedModel:
        loaded = self.load(run.spec, run.reporter.report, memory, run.settings)
        run.memory["preset"] = loaded.preset.name
        if loaded.model.ranks is not None:
            run.memory["devices"] = self._shared
        if loaded.preset.name != "full":
            run.reporter.report(states.LOADING, memory_sentence(loaded.preset))
        return loaded

    def _choose(self, spec: ModelSpec, memory: str) -> MemoryPreset:
        """Return the preset with which a model would be loaded now."""
        import torch

        from trackshade.pipelines.loading import default_device
        from trackshade.pipelines.memory import free_memory

        free = free_memory(torch.device(self._device or default_device()))
        return choose_preset(memory, spec.memory_bytes, free, spec.preset_bytes)

    def _load_or_retry(self, run: ModelRun, memory: str) -> LoadedModel:
        try:
            return self._load(run, memory)
        except ModelError as error:
            following = self._after_error(run, error, self._choose(run.spec, memory))
        return self._load(run, following.name)

    def _after_error(self, run: ModelRun, error: ModelError, preset: MemoryPreset) -> MemoryPreset:
        """Return the preset to try once after the device ran out of memory, and say so. Raise any other error again."""
        following = next_preset(preset, run.spec.memory_bytes, run.spec.preset_bytes)
        if error.code != "out-of-memory" or following is None or "warning" in run.memory:
            raise error
        self._drop()
        run.memory["warning"] = (
            f"The device ran out of memory with the memory preset {preset.name}; the model was run with the preset "
            f"{following.name}. {memory_sentence(following)}"
        )
        message = f"Out of memory with the preset {preset.name}, trying again with {following.name}"
        run.reporter.report(states.LOADING, message)
        return following


def _sample(model: ModelFamily, run: ModelRun, inputs: ModelInputs, still: bool, keep: Keep) -> np.ndarray:
    """Run a model, reporting each step; return its frames, uint8 [N, h, w, 3]."""
    from trackshade.pipelines.families.caches import StepCache
    from trackshade.pipelines.families.family import SamplingOptions

    settings, reporter = run.settings, run.reporter

    def on_step(done: int, total: int, message: str = "", preview: Callable[[], np.ndarray] | None = None) -> None:
        is_due = settings.preview_every and 0 < done < total and done % settings.preview_every == 0
        image = encode_preview(preview()) if is_due and preview is not None else None
        reporter.report(states.RUNNING, message, image, step=done, steps=total)
        if done == total:
            reporter.report(states.DECODING, "Decoding the frames")

    def keep_part(part: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        return keep(f"-{part}", make)

    model.set_cache(StepCache.of(settings))
    return model.sample(inputs, SamplingOptions.of(run.spec, settings, still), on_step, keep_part)
