# SPDX-License-Identifier: GPL-3.0-or-later
# accelerate's names are not marked as exported.
# pyright: reportPrivateImportUsage=false
"""The descent itself, the same for every kind of training: steps, averaged weights, checkpoints, sheets, reports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from .config import RunConfig
from .defer_signals import uninterrupted
from .logging import Log
from .optimizers import set_rate
from .state import Progress, find_checkpoint, load_checkpoint, put_weights, save_checkpoint, weights


class Task(Protocol):
    """What a training learns. `batch` follows from the configuration and the step alone, so that a resumed run sees
    what it would have seen, and several processes see together what one would.
    """

    @property
    def config(self) -> RunConfig: ...

    def batch(self, step: int, part: int, parts: int) -> Any:
        """The samples part, part + parts, part + 2 parts, … of a step."""
        ...

    def loss(self, predictor: nn.Module, batch: Any) -> torch.Tensor:
        """Mean over the batch's samples."""
        ...

    def rate(self, step: int, share: float) -> float:
        """Factor of the learning rate, at a share 0..1 of the budget."""
        ...

    def sheet(self, run: Run) -> dict[str, Any]:
        """Look at the averaged weights, which are in place; what is to be logged."""
        ...


@dataclass
class Run:
    """A training under way.

    Attributes:
        name: of the stage, in the log.
        checkpoint: folder.
        modules: as they are named in checkpoints.
        predictor: what a task's loss calls; holds the modules.
        trained_only: only parameters that are trained are in checkpoints.
        average: the averaged weights, as `weights` names them; empty where none are kept.
    """

    name: str
    out: Path
    checkpoint: Path
    accelerator: Accelerator
    modules: dict[str, nn.Module]
    predictor: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    log: Log
    progress: Progress
    trained_only: bool = False
    average: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    def weights(self) -> dict[str, torch.Tensor]:
        return weights(self.modules, self.trained_only)

    def resume(self, average: bool) -> None:
        """Take the averages' start values, then the newest checkpoint, if there is one."""
        if average and self.accelerator.is_main_process:
            self.average = {key: value.clone() for key, value in self.weights().items()}
        if found := find_checkpoint(self.checkpoint):
            config = self.progress.config
            self.progress = load_checkpoint(found, self.weights(), self.average, self.optimizers)
            self.progress.config = config

    def save(self) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(self.checkpoint, self.weights(), self.average, self.optimizers, self.progress)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in place of the trained ones, for a while."""
        if not self.average:
            yield
            return
        mine = self.weights()
        kept = {key: value.clone() for key, value in mine.items()}
        try:
            put_weights(mine, self.average)
            yield
        finally:
            with uninterrupted():
                put_weights(mine, kept)

    def finish(self) -> None:
        """Keep the averaged weights for good."""
        if self.average:
            put_weights(self.weights(), self.average)


def descend(run: Run, task: Task) -> None:
    """Train until the budget is used. Ctrl-C saves a checkpoint of whole steps first, and is passed on."""
    try:
        with _feeding(run, task) as feed:
            _descend(run, task, feed)
    except KeyboardInterrupt:
        run.save()
        raise


def _descend(run: Run, task: Task, feed: Callable[[int], list[Any]]) -> None:
    config, progress, accelerator = task.config, run.progress, run.accelerator
    trainable = [p for module in run.modules.values() for p in module.parameters() if p.requires_grad]
    run.predictor = accelerator.prepare(run.predictor)  # not the optimizers: their parameters are the modules' own
    current = run.weights()  # only now, as preparing may move the parameters to other memory
    averaged, followed = list(run.average.values()), [current[key] for key in run.average]
    began, before, first = time.monotonic(), progress.seconds, progress.samples
    saved = sheeted = logged = began
    losses: list[torch.Tensor] = []
    while (share := budget_share(progress, config)) < 1.0:
        factor = task.rate(progress.step, share)
        set_rate(run.optimizers, factor)
        losses.append(_gradients(run, task, feed(progress.step)))
        norm = accelerator.clip_grad_norm_(trainable, config.clip_norm)
        with uninterrupted():
            for optimizer in run.optimizers.values():
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            if averaged:
                # The average follows quickly at first: it must not remember the start values.
                keep = min(config.average, (1 + progress.step) / (10 + progress.step))
                torch._foreach_lerp_(averaged, followed, 1 - keep)
            now = time.monotonic()
            progress.step += 1
            progress.samples += config.batch
            progress.seconds = _agreed(before + now - began, run, config)
        if now - logged > config.log_seconds:
            spent, share = max(now - began, 1e-9), budget_share(progress, config)
            run.log(
                {
                    "stage": run.name,
                    "step": progress.step,
                    "samples": progress.samples,
                    "loss": torch.stack(losses).mean().item(),
                    "norm": float(norm if norm is not None else 0.0),
                    "rate": factor,
                    "samples_per_second": round((progress.samples - first) / spent, 3),
                    "minutes": round(progress.seconds / 60, 2),
                    "minutes_left": max(0.0, round(progress.seconds * (1 - share) / max(share, 1e-9) / 60, 1)),
                }
            )
            losses, logged = [], now
        due = config.checkpoint_steps and progress.step % config.checkpoint_steps == 0
        if due or now - saved > 60 * config.checkpoint_minutes:
            run.save()
            saved = now
        if now - sheeted > 60 * config.sheet_minutes:
            _sheet(run, task)
            sheeted = now
    run.save()
    _sheet(run, task)


def _gradients(run: Run, task: Task, batches: list[Any]) -> torch.Tensor:
    """Leaves the gradient of a step's mean loss in the parameters; that loss, of this process's samples."""
    losses = []
    for number, batch in enumerate(batches, start=1):
        last = number == len(batches)  # processes exchange gradients once a step
        with contextlib.nullcontext() if last else run.accelerator.no_sync(run.predictor):
            loss = task.loss(run.predictor, batch) / len(batches)
            run.accelerator.backward(loss)
        losses.append(loss.detach())
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


@contextlib.contextmanager
def _feeding(run: Run, task: Task) -> Iterator[Callable[[int], list[Any]]]:
    """A function from a step to this process's pieces of it. Beside an accelerator the next step is made ahead."""
    accelerator, pieces = run.accelerator, task.config.accumulate
    parts = accelerator.num_processes * pieces

    def make(step: int) -> list[Any]:
        return [
            task.batch(step, piece * accelerator.num_processes + accelerator.process_index, parts)
            for piece in range(pieces)
        ]

    if accelerator.device.type == "cpu":
        yield make
        return
    with ThreadPoolExecutor(1, "batches") as pool:
        ahead: dict[int, Future[list[Any]]] = {}

        def feed(step: int) -> list[Any]:
            made = ahead.pop(step, None) or pool.submit(make, step)
            found = made.result()
            ahead[step + 1] = pool.submit(make, step + 1)
            return found

        yield feed


def budget_share(progress: Progress, config: RunConfig) -> float:
    """How much of the budget is used, 0..1."""
    if config.steps is not None:
        return progress.step / config.steps
    return progress.seconds / (60 * (config.minutes or 1))


def _agreed(seconds: float, run: Run, config: RunConfig) -> float:
    """The first process's time where the budget is time: all must end at the same step."""
    if config.steps is not None or run.accelerator.num_processes == 1:
        return seconds
    told = torch.tensor([seconds], device=run.accelerator.device)
    broadcast(told)
    return float(told)


def _sheet(run: Run, task: Task) -> None:
    if not run.accelerator.is_main_process:
        return
    with run.averaged(), torch.no_grad():
        found = task.sheet(run)
    if found:
        run.log({"stage": run.name, "event": "sheet", "step": run.progress.step, **found})
