# SPDX-License-Identifier: GPL-3.0-or-later
# accelerate's names are not marked as exported.
# pyright: reportPrivateImportUsage=false
"""Where a training runs: one process or many, by accelerate."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, InitProcessGroupKwargs, KwargsHandler

from trackshade.core.errors import UsageError

from .config import RunConfig

# What the others wait for while one process encodes, draws a sheet or writes a checkpoint.
_PATIENCE = timedelta(hours=6)
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)
_PLAIN = {
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_XPU,
    DistributedType.MULTI_NPU,
}


def make_accelerator(config: RunConfig) -> Accelerator:
    """Of this process, alone or one of a launch (accelerate launch, torchrun).

    Precision is the trainer's own business (`RunConfig.bf16`), and so is accumulation, so that a run is the same
    whoever launched it. Raises UsageError: no such device, a way of sharing the model out that is not known here, or a
    batch that cannot be shared out evenly.
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
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if alone and name.startswith("cuda:"):
        torch.cuda.set_device(name)
    handlers: list[KwargsHandler] = [] if alone else [InitProcessGroupKwargs(timeout=_PATIENCE)]
    accelerator = Accelerator(mixed_precision="no", cpu=name == "cpu", kwargs_handlers=handlers)
    if accelerator.distributed_type not in _PLAIN:
        raise UsageError(
            "bad-launch",
            f"The model cannot be shared out by {accelerator.distributed_type.value}.",
            "Launch with data parallelism only (accelerate config: multi-GPU, no FSDP, no DeepSpeed).",
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    if accelerator.device.type == "cpu":
        keep_memory()
    check_shares(config, accelerator.num_processes)
    return accelerator


@contextlib.contextmanager
def on_the_first(accelerator: Accelerator) -> Iterator[bool]:
    """Whether this is the first process; the others go on once it is done."""
    yield accelerator.is_main_process
    accelerator.wait_for_everyone()


def keep_memory() -> None:
    """Have the C library keep what was freed instead of giving it back: a step allocates the same large tensors as the
    one before, and pages that come new from the system cost more than the products (glibc; elsewhere nothing).
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def check_shares(config: RunConfig, processes: int) -> None:
    """Raises UsageError unless a step's samples divide evenly among processes and pieces."""
    parts = processes * config.accumulate
    if config.batch % parts:
        raise UsageError(
            "bad-setting",
            f"A batch of {config.batch} cannot be shared out evenly among {processes} processes "
            f"in {config.accumulate} pieces each.",
            f"Choose a --batch that is a multiple of {parts}.",
        )
