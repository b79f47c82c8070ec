# SPDX-License-Identifier: GPL-3.0-or-later
# The classes of accelerate and diffusers are typed too loosely for these rules.
# pyright: reportPrivateImportUsage=false, reportArgumentType=false
"""The training loop, shared by every kind of training: optimizer steps, EMA, checkpoints, validation and logging."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, KwargsHandler, broadcast
from diffusers.training_utils import EMAModel
from torch import nn

from trackshade.core.errors import UsageError

from .attention import PlainAttention
from .checkpoint import Progress, copy_weights, find_checkpoint, load_checkpoint, named_parameters, save_checkpoint
from .config import RunConfig
from .logging import RunLog

# How long processes wait while one of them encodes, generates samples or writes a checkpoint.
_TIMEOUT = timedelta(hours=6)
_SUPPORTED = ("NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU")  # data parallelism
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3)


class TrainingTask(Protocol):
    """What is trained: batches, loss and learning rate.

    Batches depend on the configuration and the step number alone, so that a resumed run sees the same batches, and
    several processes see together what one process would.
    """

    @property
    def config(self) -> RunConfig:
        """Settings of the run."""
        ...

    def get_batch(self, step: int, part: int, num_parts: int) -> Any:
        """Make the samples part, part + num_parts, part + 2 num_parts, ... of a step."""
        ...

    def compute_loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        """Compute the mean loss over the samples of a batch."""
        ...

    def learning_rate_factor(self, step: int, progress: float) -> float:
        """Return the factor of the peak learning rate; `progress` is the used fraction of the budget."""
        ...

    def validate(self, run: TrainingRun) -> dict[str, Any]:
        """Evaluate the model with its EMA weights in place, and return figures for the log."""
        ...


@dataclass
class TrainingRun:
    """The state of a run."""

    stage: str  # name of the stage, for the log
    out: Path  # folder of the run
    checkpoint: Path  # folder of the checkpoint
    accelerator: Accelerator  # of this process
    modules: dict[str, nn.Module]  # the trained modules, by their names in checkpoints
    model: nn.Module  # the module that a task's loss calls; it contains `modules`
    # by their names in checkpoints. Their learning rates are the peak learning rates.
    optimizers: dict[str, torch.optim.Optimizer]
    log: RunLog  # receives log entries
    trainable_only: bool = False  # whether checkpoints hold only parameters that are trained

    def __post_init__(self) -> None:
        self.progress = Progress()
        self.ema: EMAModel | None = None
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def log_start(self, num_clips: int) -> None:
        """Open the log at the current step, and log what is trained and where."""
        parameters = [parameter for module in self.modules.values() for parameter in module.parameters()]
        self.log.start(self.progress.step)
        self.log(
            {
                "stage": self.stage,
                "event": "start",
                "step": self.progress.step,
                "clips": num_clips,
                "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
                "parameters": sum(p.numel() for p in parameters),
                "device": str(self.accelerator.device),
                "processes": self.accelerator.num_processes,
            }
        )

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that checkpoints hold, by name."""
        return named_parameters(self.modules, self.trainable_only)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        """Return the EMA weights by name; empty without an EMA, and in other processes than the main one."""
        return dict(zip(self.parameters(), self.ema.shadow_params, strict=True)) if self.ema else {}

    def resume(self, ema_decay: float) -> None:
        """Load the latest checkpoint, if there is one, and start the EMA if `ema_decay` is not 0."""
        if ema_decay and self.accelerator.is_main_process:
            # With this warm-up the decay of step n is min(n / (n + 9), ema_decay): the initial weights soon fade out.
            self.ema = EMAModel(
                self.parameters().values(),
                decay=ema_decay,
                update_after_step=-1,
                use_ema_warmup=True,
                inv_gamma=9.0,
                power=1.0,
                foreach=True,
            )
        if found := find_checkpoint(self.checkpoint):
            self.progress = load_checkpoint(found, self.parameters(), self.ema_weights(), self.optimizers)
            if self.ema:
                self.ema.optimization_step = self.progress.step

    def save(self) -> None:
        """Write a checkpoint, in the main process."""
        if self.accelerator.is_main_process:
            save_checkpoint(self.checkpoint, self.parameters(), self.ema_weights(), self.optimizers, self.progress)

    @contextlib.contextmanager
    def swap_ema_weights(self) -> Iterator[None]:
        """Use the EMA weights within the block."""
        if self.ema is None:
            yield
            return
        parameters = list(self.parameters().values())
        self.ema.store(parameters)
        try:
            self.ema.copy_to(parameters)
            yield
        finally:
            with defer_signals():
                self.ema.restore(parameters)

    def finish(self) -> None:
        """Replace the trained weights by the EMA weights."""
        if self.ema:
            copy_weights(self.parameters(), self.ema_weights())


def train_loop(run: TrainingRun, task: TrainingTask) -> None:
    """Train until the budget is used. Ctrl-C saves a checkpoint of whole steps first, and is passed on."""
    try:
        with _prefetch(run, task) as get_batches:
            _train_loop(run, task, get_batches)
    except KeyboardInterrupt:
        run.save()
        raise


def _train_loop(run: TrainingRun, task: TrainingTask, get_batches: Callable[[int], list[Any]]) -> None:
    config, progress = task.config, run.progress
    # The optimizers are not prepared: they hold the modules' own parameters, and step in whole steps only.
    run.model = run.accelerator.prepare(run.model)
    parameters = list(run.parameters().values())
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    start, seconds_before, samples_before = time.monotonic(), progress.seconds, progress.samples
    last_save = last_validation = last_log = start
    losses: list[torch.Tensor] = []
    while (fraction := budget_fraction(progress, config)) < 1.0:
        factor = task.learning_rate_factor(progress.step, fraction)
        for optimizer in run.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        losses.append(_backward(run, task, get_batches(progress.step)))
        grad_norm = run.accelerator.clip_grad_norm_(trainable, config.max_grad_norm)
        with defer_signals():  # a checkpoint holds whole steps
            for optimizer in run.optimizers.values():
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if run.ema:
                run.ema.step(parameters)
            now = time.monotonic()
            progress.step += 1
            progress.samples += config.batch_size
            progress.seconds = _synchronize(seconds_before + now - start, run, config)
        if now - last_log > config.log_seconds:
            elapsed, fraction = max(now - start, 1e-9), budget_fraction(progress, config)
            run.log(
                {
                    "stage": run.stage,
                    "step": progress.step,
                    "samples": progress.samples,
                    "loss": torch.stack(losses).mean().item(),
                    "norm": float(grad_norm if grad_norm is not None else 0.0),
                    "rate": factor,
                    "samples_per_second": round((progress.samples - samples_before) / elapsed, 3),
                    "minutes": round(progress.seconds / 60, 2),
                    "minutes_left": max(0.0, round(progress.seconds * (1 - fraction) / max(fraction, 1e-9) / 60, 1)),
                }
            )
            losses, last_log = [], now
        is_due = config.checkpoint_steps and progress.step % config.checkpoint_steps == 0
        if is_due or now - last_save > 60 * config.checkpoint_minutes:
            run.save()
            last_save = now
        if now - last_validation > 60 * config.validation_minutes:
            _validate(run, task)
            last_validation = now
    run.save()
    _validate(run, task)


def _backward(run: TrainingRun, task: TrainingTask, batches: list[Any]) -> torch.Tensor:
    """Accumulate the gradient of a step's mean loss, and return that loss over this process's samples."""
    losses = []
    for number, batch in enumerate(batches, start=1):
        is_last = number == len(batches)  # processes exchange gradients once per step
        with contextlib.nullcontext() if is_last else run.accelerator.no_sync(run.model):
            loss = task.compute_loss(run.model, batch) / len(batches)
            run.accelerator.backward(loss)
        losses.append(loss.detach())
    return torch.stack(losses).sum()


@contextlib.contextmanager
def _prefetch(run: TrainingRun, task: TrainingTask) -> Iterator[Callable[[int], list[Any]]]:
    """Yield a function that returns this process's batches of a step; on an accelerator the next step is prefetched."""
    accelerator, num_batches = run.accelerator, task.config.gradient_accumulation_steps
    num_processes = accelerator.num_processes

    def load(step: int) -> list[Any]:
        parts = (index * num_processes + accelerator.process_index for index in range(num_batches))
        return [task.get_batch(step, part, num_batches * num_processes) for part in parts]

    if accelerator.device.type == "cpu":
        yield load
        return
    with ThreadPoolExecutor(1, "batches") as pool:
        pending: dict[int, Future[list[Any]]] = {}

        def get_batches(step: int) -> list[Any]:
            batches = (pending.pop(step, None) or pool.submit(load, step)).result()
            pending[step + 1] = pool.submit(load, step + 1)
            return batches

        yield get_batches


def _synchronize(seconds: float, run: TrainingRun, config: RunConfig) -> float:
    """Return the main process's seconds if the budget is time, so that all processes end at the same step."""
    if config.steps is not None or run.accelerator.num_processes == 1:
        return seconds
    shared = torch.tensor([seconds], device=run.accelerator.device)
    broadcast(shared)
    return float(shared)


def _validate(run: TrainingRun, task: TrainingTask) -> None:
    if not run.accelerator.is_main_process:
        return
    with run.swap_ema_weights(), torch.no_grad():
        figures = task.validate(run)
    if figures:
        run.log({"stage": run.stage, "event": "sheet", "step": run.progress.step, **figures})


def budget_fraction(progress: Progress, config: RunConfig) -> float:
    """Return the used fraction of the budget, 0..1."""
    if config.steps is not None:
        return progress.step / config.steps
    return progress.seconds / (60 * (config.minutes or 1))


# torch's and diffusers' schedules count steps; with a budget in minutes their number is not known.


def linear_schedule(step: int, progress: float, warmup_steps: int) -> float:
    """Return the learning-rate factor: linear warm-up, times linear decay to zero at progress 1."""
    return min(1.0, (step + 1) / max(1, warmup_steps)) * max(0.0, 1.0 - progress)


def cosine_schedule(step: int, progress: float, warmup_steps: int, num_cycles: int) -> float:
    """Return the learning-rate factor: linear warm-up, times `num_cycles` falling half-cosines over progress 0..1."""
    decay = 0.0 if progress >= 1 else 0.5 * (1 + math.cos(math.pi * (num_cycles * progress % 1.0)))
    return min(1.0, (step + 1) / max(1, warmup_steps)) * decay


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Defer Ctrl-C and SIGTERM to the end of the block. Has no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in handlers.items() if handler is not None}  # set by Python
    for number in handlers:
        signal.signal(number, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def configure_transformer(transformer: Any, config: RunConfig, accelerator: Accelerator) -> None:
    """Choose the attention that suits the device, and turn on gradient checkpointing if configured."""
    if accelerator.device.type == "cpu":
        transformer.set_attn_processor(PlainAttention())
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()


def make_accelerator(config: RunConfig) -> Accelerator:
    """Create the accelerator of this process, alone or in a launch (accelerate launch, torchrun).

    Mixed precision and gradient accumulation are the training loop's, so that a run does not depend on the launcher.

    Raise UsageError if the device does not exist, the launch is not data parallel, or the batch does not divide evenly.
    """
    name = config.device
    if name != "auto":
        try:
            kind = torch.device(name).type
        except RuntimeError as error:
            raise UsageError("unknown-device", f"There is no device '{name}'.", "Use auto, cpu or cuda.") from error
        present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not present.get(kind, False):
            raise UsageError("unknown-device", f"There is no device '{name}' here.", "Use --device auto or cpu.")
    is_single = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if is_single and name.startswith("cuda:"):
        torch.cuda.set_device(name)
    handlers: list[KwargsHandler] = [] if is_single else [InitProcessGroupKwargs(timeout=_TIMEOUT)]
    accelerator = Accelerator(mixed_precision="no", cpu=name == "cpu", kwargs_handlers=handlers)
    if accelerator.distributed_type not in {DistributedType(kind) for kind in _SUPPORTED}:
        fix = "Launch with data parallelism only (accelerate config: multi-GPU, no FSDP, no DeepSpeed)."
        raise UsageError("bad-launch", f"Launches of type {accelerator.distributed_type.value} are not supported.", fix)
    if config.threads:
        torch.set_num_threads(config.threads)
    if accelerator.device.type == "cpu":
        _keep_freed_memory()
    accumulation, processes = config.gradient_accumulation_steps, accelerator.num_processes
    if config.batch_size % (processes * accumulation):
        raise UsageError(
            "bad-setting",
            f"A batch of {config.batch_size} samples does not divide evenly among {processes} processes "
            f"with {accumulation} gradient accumulation steps.",
            f"Choose a --batch-size that is a multiple of {processes * accumulation}.",
        )
    return accelerator


def _keep_freed_memory() -> None:
    """Have the C library keep freed memory (glibc only).

    Each step allocates the same large tensors, and getting their pages from the system anew costs more than computing.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
