# SPDX-License-Identifier: GPL-3.0-or-later
# pyright: reportPrivateImportUsage=false
"""Skips transformer blocks in steps in which they would do nearly what is known already.

- First-block cache: a step runs the first block; where that does nearly what it did in the last full step, the other
  blocks are taken to do the same. It needs a transformer in which nothing but the blocks changes the tokens.
- TaylorSeer (Liu et al. 2025, arXiv 2503.06923): full steps at an interval; the output of the steps between is
  continued from those before by a Taylor series. It runs no block at all, so anything may happen between the blocks,
  as long as the output projection is all that comes of them.

MagCache of diffusers is not offered: it needs ratios that were measured with the very checkpoint and number of steps,
and there are none for these models.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ...config.settings import ShadeSettings

WARM_UP = 3  # first steps that TaylorSeer runs in full, as by default in diffusers


@dataclass(frozen=True)
class StepCache:
    """How steps are made from earlier ones.

    Attributes:
        method: One of `trackshade.config.settings.CACHES`.
        threshold: Of the first-block cache: relative change of what the first block adds, below which the others are
            skipped; 0 skips none.
        interval: Of TaylorSeer: every which step is run in full; 1 for all.
        order: Of TaylorSeer: order of the series; 0 repeats the last full step.
        warm_up: Of TaylorSeer: number of first steps that are run in full.
    """

    method: str = "first-block"
    threshold: float = 0.0
    interval: int = 1
    order: int = 1
    warm_up: int = WARM_UP

    @staticmethod
    def of(settings: ShadeSettings) -> StepCache:
        """Return the cache of a job."""
        interval = settings.cache_interval if settings.cache_method == "taylorseer" else 1
        return StepCache(settings.cache_method, settings.cache, interval, settings.cache_order)

    @property
    def is_on(self) -> bool:
        """Whether it may skip anything."""
        return self.interval > 1 if self.method == "taylorseer" else self.threshold > 0


def set_hooks(transformers: Collection[Any], cache: StepCache) -> None:
    """Let the hooks of diffusers skip blocks of transformers, each of which counts its own steps.

    They are made anew, since they would compare the first step with the last one of an earlier video otherwise.
    """
    for transformer in transformers:
        if transformer.is_cache_enabled:
            transformer.disable_cache()
    if not cache.is_on:
        return
    import torch  # here, because checking a folder imports this module
    from diffusers.hooks import FirstBlockCacheConfig, TaylorSeerCacheConfig

    if cache.method == "taylorseer":
        config: Any = TaylorSeerCacheConfig(
            cache_interval=cache.interval,
            disable_cache_before_step=cache.warm_up,
            max_order=cache.order,
            taylor_factors_dtype=torch.float32,
            use_lite_mode=True,  # continues what `proj_out` returns; blocks return zeros meanwhile
        )
    else:
        config = FirstBlockCacheConfig(threshold=cache.threshold)
    for transformer in transformers:
        transformer.enable_cache(config)
